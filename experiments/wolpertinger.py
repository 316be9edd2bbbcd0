"""Trains the Wolpertinger policy on an environment of very many actions.

python experiments/wolpertinger.py --num_neighbors=29
"""

import numpy as np
from absl import flags

from tfzoo.agents import Wolpertinger
from tfzoo.training import UserError, run_experiment
from tfzoo.training.agent_experiment import make_environment, train_and_finish
from tfzoo.training.flags import define_at_least_zero, define_fraction
from tfzoo.training.off_policy_experiment import (
    compile_continuous_control,
    continuous_control_options,
    define_continuous_control_flags,
)

FLAGS = flags.FLAGS

define_continuous_control_flags(
    env="ManyJumps-v0",
    num_envs=8,
    gradient_steps=2,
    steps=40_000,
    learning_rate=1e-3,
    batch_size=64,
    replay_capacity=100_000,
    discount=0.95,
)
flags.DEFINE_string(
    "action_embedding",
    None,
    "A .npy file of a point for each action, [A, E]; by default the environment's own.",
)
flags.DEFINE_integer(
    "num_neighbors", 29, "Nearest actions that the critic picks from.", lower_bound=1
)
define_at_least_zero(
    "noise_stddev", 0.2, "Noise on points, in units of half the range of each column."
)
define_fraction("epsilon", 0.05, "Share of actions drawn uniformly.")


def read_embedding(environment):
    """Returns the embedding that the flags name, or the environment's.

    Raises:
      UserError: if there is none.
    """
    if FLAGS.action_embedding is None:
        if not hasattr(environment, "action_embedding"):
            raise UserError(
                f"--env={FLAGS.env}: it has no embedding of its actions; give one as "
                "--action_embedding=FILE.npy"
            )
        return environment.action_embedding
    try:
        return np.asarray(np.load(FLAGS.action_embedding), np.float32)
    except (EOFError, OSError, TypeError, ValueError) as error:
        raise UserError(
            f"--action_embedding={FLAGS.action_embedding}: it cannot be read: {error}"
        ) from error


def main():
    """Trains, evaluates, exports."""
    environment = make_environment()
    agent = Wolpertinger(
        environment.observation_space,
        environment.action_space,
        action_embedding=read_embedding(environment),
        num_neighbors=FLAGS.num_neighbors,
        noise="gaussian",
        noise_stddev=FLAGS.noise_stddev,
        epsilon=FLAGS.epsilon,
        **continuous_control_options(environment),
    )
    compile_continuous_control(agent)
    train_and_finish(agent, environment)


if __name__ == "__main__":
    run_experiment(main)
