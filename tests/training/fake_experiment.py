"""An experiment of the form of the real ones, about the fake agent."""

import time

from absl import flags

from tests.training.fake_agent import FakeAgent
from tfzoo import training
from tfzoo.environments import make

training.define_training_flags(
    env="CartPole-v1",
    num_envs=1,
    steps=100,
    learning_rate=0.01,
    checkpoint_every=20,
)
flags.DEFINE_integer("width", 4, "Width of the network.", lower_bound=1)
flags.DEFINE_integer("nan_at", None, "The step at which the loss is NaN.")
flags.DEFINE_float("seconds_per_epoch", 0.0, "How slow it is.", lower_bound=0.0)
flags.DEFINE_boolean("bug", False, "Whether to fail.")
FLAGS = flags.FLAGS


def main():
    run_directory = training.open_run_directory(FLAGS.env)
    environment = make(
        FLAGS.env,
        FLAGS.num_envs,
        vectorization=FLAGS.vectorization,
        **training.environment_options(),
    )
    agent = FakeAgent(
        FLAGS.width,
        nan_at=FLAGS.nan_at,
        on_epoch=lambda steps: time.sleep(FLAGS.seconds_per_epoch),
    )
    if FLAGS.bug:
        int("a bug")
    training.train(
        agent,
        environment,
        run_directory,
        FLAGS.steps,
        checkpoint_every=FLAGS.checkpoint_every,
    )
    training.learning_curve(run_directory.metrics, run_directory.learning_curve)
    print(run_directory.next_commands(f"--steps={2 * FLAGS.steps}"))


if __name__ == "__main__":
    training.run_experiment(main)
