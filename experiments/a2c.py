"""Trains A2C on an environment.

python experiments/a2c.py --flagfile=experiments/configs/a2c_cartpole.flags
"""

import keras
from absl import flags

from tfzoo.agents import A2C
from tfzoo.training import distribution_scope, run_experiment
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
    num_envs=8,
    num_steps=5,
    steps=500_000,
    learning_rate=7e-4,
    gae_lambda=1.0,
    anneal=True,
)
flags.DEFINE_boolean("normalize_advantages", False, "In each update.")


def main():
    """Trains, evaluates, exports."""
    environment = make_environment()
    with distribution_scope(FLAGS.distribute, "the copies"):
        agent = A2C(
            environment.observation_space,
            environment.action_space,
            normalize_advantages=FLAGS.normalize_advantages,
            **agent_options(),
        )
        updates = FLAGS.steps // (FLAGS.num_envs * FLAGS.num_steps)
        agent.compile(
            keras.optimizers.RMSprop(
                rho=0.99, epsilon=1e-5, **optimizer_options(updates)
            ),
            jit_compile=FLAGS.jit_compile,
        )
    train_and_finish(agent, environment)


if __name__ == "__main__":
    run_experiment(main)
