"""Trains REINFORCE with a learned baseline on an environment.

python experiments/reinforce.py --env=CartPole-v1
"""

import keras
from absl import flags

from tfzoo.agents import REINFORCE
from tfzoo.training import run_experiment
from tfzoo.training.agent_experiment import (
    make_environment,
    optimizer_options,
    train_and_finish,
)
from tfzoo.training.policy_gradient_experiment import (
    agent_options,
    define_policy_gradient_flags,
)

FLAGS = flags.FLAGS

define_policy_gradient_flags(
    env="CartPole-v1",
    num_envs=16,
    num_steps=500,
    steps=1_000_000,
    learning_rate=3e-3,
    # The updates of whole episodes cannot be counted before, nor can they be spread
    # over several devices.
    anneal=None,
    distribute=None,
    steps_help="Environment steps to train for, over all copies; some more are taken, "
    "as episodes are whole.",
)
flags.DEFINE_boolean("normalize_advantages", True, "In each update.")


def main():
    """Trains, evaluates, exports."""
    environment = make_environment()
    agent = REINFORCE(
        environment.observation_space,
        environment.action_space,
        normalize_advantages=FLAGS.normalize_advantages,
        **agent_options(),
    )
    agent.compile(
        keras.optimizers.Adam(**optimizer_options()),
        jit_compile=FLAGS.jit_compile,
    )
    train_and_finish(agent, environment)


if __name__ == "__main__":
    run_experiment(main)
