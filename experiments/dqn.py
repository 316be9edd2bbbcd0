"""Trains DQN, or any of its variants up to Rainbow, on an environment.

python experiments/dqn.py --flagfile=experiments/configs/dqn_cartpole.flags
python experiments/dqn.py --double --dueling --priority_exponent=0.6 --n_step=3
"""

import keras
from absl import flags

from tfzoo.agents import DQN
from tfzoo.training import run_experiment
from tfzoo.training.agent_experiment import (
    define_at_least_zero,
    define_fraction,
    make_environment,
    network_options,
    optimizer_options,
    train_and_finish,
)
from tfzoo.training.off_policy_experiment import (
    define_off_policy_flags,
    off_policy_options,
)

FLAGS = flags.FLAGS

define_off_policy_flags(
    env="CartPole-v1",
    num_envs=1,
    num_steps=256,
    gradient_steps=128,
    steps=51_200,
    learning_rate=2.3e-3,
    batch_size=64,
    learning_starts=1_000,
    replay_capacity=100_000,
    max_gradient_norm=10.0,
)
flags.DEFINE_boolean("double", False, "Choose the next action by the online network.")
flags.DEFINE_boolean("dueling", False, "Separate streams for value and advantages.")
flags.DEFINE_boolean("noisy", False, "Noise on the weights; give --epsilon_start=0.")
flags.DEFINE_integer("n_step", 1, "Steps of the return.", lower_bound=1)
flags.DEFINE_enum(
    "distribution",
    None,
    ["categorical", "quantile"],
    "Learn the distribution of returns: categorical is C51, quantile QR-DQN.",
)
flags.DEFINE_integer(
    "num_atoms", None, "Atoms (51 by default) or quantiles (200).", lower_bound=2
)
flags.DEFINE_float("value_min", -10.0, "First atom of --distribution=categorical.")
flags.DEFINE_float("value_max", 10.0, "Last atom of --distribution=categorical.")
define_at_least_zero(
    "huber_delta", 1.0, "Error from which on the loss is linear; 0 squares all."
)
define_fraction("epsilon_start", 1.0, "First share of actions drawn uniformly.")
define_fraction("epsilon_end", 0.04, "Last share of actions drawn uniformly.")
define_fraction("epsilon_fraction", 0.16, "Share of --steps to get from one to other.")
flags.DEFINE_enum(
    "epsilon_schedule", "linear", ["linear", "exponential"], "How to get there."
)
flags.DEFINE_integer(
    "target_period", 128, "Gradient steps between two moves of the target network.", 1
)
define_fraction("target_rate", 1.0, "How far it moves: 1 makes it a copy.")


class ExponentialEpsilon(keras.optimizers.schedules.LearningRateSchedule):
    """Falls from `start` to `end` by the same factor in each of `steps` steps."""

    def __init__(self, start, end, steps):
        self.start, self.end, self.steps = start, end, steps

    def __call__(self, step):
        """Returns the value at a step."""
        share = keras.ops.minimum(keras.ops.cast(step, "float32") / self.steps, 1.0)
        return self.start * (self.end / self.start) ** share


def make_epsilon():
    """Returns the schedule that the flags describe."""
    start, end = FLAGS.epsilon_start, FLAGS.epsilon_end
    steps = max(1, int(FLAGS.epsilon_fraction * FLAGS.steps))
    if start == end or start == 0:
        return end if start else 0.0
    if FLAGS.epsilon_schedule == "exponential":
        return ExponentialEpsilon(start, end, steps)
    return keras.optimizers.schedules.PolynomialDecay(start, steps, end)


def main():
    """Trains, evaluates, exports."""
    environment = make_environment()
    options = {name: x for name, x in network_options().items() if x is not None}
    agent = DQN(
        environment.observation_space,
        environment.action_space,
        network_options=options,
        double=FLAGS.double,
        dueling=FLAGS.dueling,
        noisy=FLAGS.noisy,
        n_step=FLAGS.n_step,
        distribution=FLAGS.distribution,
        num_atoms=FLAGS.num_atoms,
        value_range=(FLAGS.value_min, FLAGS.value_max),
        huber_delta=FLAGS.huber_delta or None,
        epsilon=make_epsilon(),
        target_period=FLAGS.target_period,
        target_rate=FLAGS.target_rate,
        **off_policy_options(),
    )
    agent.compile(
        keras.optimizers.Adam(**optimizer_options()), jit_compile=FLAGS.jit_compile
    )
    train_and_finish(agent, environment)


if __name__ == "__main__":
    run_experiment(main)
