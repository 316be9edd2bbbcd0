"""Trains PPO on an environment.

python experiments/ppo.py --flagfile=experiments/configs/ppo_cartpole.flags
"""

import keras
from absl import flags

from tfzoo.agents import PPO
from tfzoo.training import UserError, distribution_scope, run_experiment
from tfzoo.training.agent_experiment import (
    make_environment,
    optimizer_options,
    train_and_finish,
)
from tfzoo.training.flags import define_at_least_zero
from tfzoo.training.policy_gradient_experiment import (
    agent_options,
    define_policy_gradient_flags,
)

FLAGS = flags.FLAGS

define_policy_gradient_flags(
    env="CartPole-v1",
    num_envs=8,
    num_steps=128,
    steps=307_200,
    learning_rate=2.5e-3,
    gae_lambda=0.95,
    anneal=True,
)
flags.DEFINE_integer("epochs", 4, "Passes over what was collected.", 1)
flags.DEFINE_integer("minibatches", 4, "Gradient steps in each pass.", 1)
flags.DEFINE_enum(
    "objective",
    "clip",
    ["clip", "kl_penalty"],
    "What keeps the policy near the old one.",
)
define_at_least_zero("clip_ratio", 0.2, "Epsilon of the clipped objective.")
flags.DEFINE_boolean(
    "anneal_clip_ratio", False, "Let --clip_ratio fall to 0 linearly over --steps."
)
define_at_least_zero(
    "kl_coefficient", 1.0, "First weight of the KL penalty, which then adapts."
)
define_at_least_zero(
    "kl_target", 0.01, "Divergence, in nats, that the KL penalty steers to."
)
define_at_least_zero(
    "kl_stop", None, "Ends an iteration's learning beyond 1.5 times this KL."
)
define_at_least_zero("value_clip", None, "Clips the move of the value.")
flags.DEFINE_boolean("normalize_advantages", True, "In each minibatch.")


def main():
    """Trains, evaluates, exports."""
    environment = make_environment()
    batch = FLAGS.num_envs * FLAGS.num_steps
    updates = FLAGS.steps // batch * FLAGS.epochs * FLAGS.minibatches
    if FLAGS.anneal and FLAGS.kl_stop is not None:
        raise UserError(
            f"--kl_stop={FLAGS.kl_stop}: learning may end early, so that the updates "
            "that --anneal counts are not known; give --noanneal as well"
        )
    clip_ratio = FLAGS.clip_ratio
    if FLAGS.anneal_clip_ratio:
        if FLAGS.objective != "clip" or not clip_ratio > 0:
            raise UserError(
                "--anneal_clip_ratio: it needs --objective=clip and a --clip_ratio "
                f"greater than 0, got {FLAGS.objective} and {clip_ratio}"
            )
        clip_ratio = keras.optimizers.schedules.PolynomialDecay(
            clip_ratio, FLAGS.steps, 0.0
        )
    with distribution_scope(FLAGS.distribute, "the copies"):
        agent = PPO(
            environment.observation_space,
            environment.action_space,
            epochs=FLAGS.epochs,
            minibatches=FLAGS.minibatches,
            objective=FLAGS.objective,
            clip_ratio=clip_ratio,
            kl_coefficient=FLAGS.kl_coefficient,
            kl_target=FLAGS.kl_target,
            kl_stop=FLAGS.kl_stop,
            value_clip=FLAGS.value_clip,
            normalize_advantages=FLAGS.normalize_advantages,
            **agent_options(),
        )
        agent.compile(
            keras.optimizers.Adam(epsilon=1e-5, **optimizer_options(updates)),
            jit_compile=FLAGS.jit_compile,
        )
    train_and_finish(agent, environment)


if __name__ == "__main__":
    run_experiment(main)
