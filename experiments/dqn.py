"""Trains DQN, or any of its variants up to Rainbow, on an environment.

python experiments/dqn.py --flagfile=experiments/configs/dqn_cartpole.flags
python experiments/dqn.py --double --dueling --priority_exponent=0.6 --n_step=3
"""

import keras
from absl import flags

from tfzoo.agents import DQN
from tfzoo.training import UserError, run_experiment
from tfzoo.training.agent_experiment import (
    make_environment,
    network_options,
    optimizer_options,
    train_and_finish,
)
from tfzoo.training.off_policy_experiment import (
    define_off_policy_flags,
    define_value_flags,
    gradient_steps_of_run,
    off_policy_options,
    value_options,
)

FLAGS = flags.FLAGS

define_off_policy_flags(
    env="CartPole-v1",
    num_envs=1,
    num_steps=10,
    gradient_steps=1,
    steps=300_000,
    learning_rate=2.5e-4,
    batch_size=128,
    learning_starts=5_000,
    replay_capacity=10_000,
    max_gradient_norm=0.0,
    anneal=True,
)
define_value_flags(
    double=False,
    target_period=50,
    target_rate=1.0,
    epsilon_end=0.05,
    epsilon_fraction=0.17,
    huber_delta=0.0,
)
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
flags.DEFINE_float(
    "value_min",
    -10.0,
    "First atom of --distribution=categorical; values of CartPole are 0 to 100.",
)
flags.DEFINE_float("value_max", 10.0, "Last atom of --distribution=categorical.")


def main():
    """Trains, evaluates, exports."""
    environment = make_environment()
    for name in ("value_min", "value_max"):
        is_given = FLAGS[name].value != FLAGS[name].default
        if is_given and FLAGS.distribution != "categorical":
            raise UserError(
                f"--{name}={FLAGS[name].value}: it is of --distribution=categorical"
            )
    options = {name: x for name, x in network_options().items() if x is not None}
    agent = DQN(
        environment.observation_space,
        environment.action_space,
        network_options=options,
        noisy=FLAGS.noisy,
        n_step=FLAGS.n_step,
        distribution=FLAGS.distribution,
        num_atoms=FLAGS.num_atoms,
        value_range=(FLAGS.value_min, FLAGS.value_max),
        **value_options(),
        **off_policy_options(environment),
    )
    agent.compile(
        keras.optimizers.Adam(**optimizer_options(gradient_steps_of_run())),
        jit_compile=FLAGS.jit_compile,
    )
    train_and_finish(agent, environment)


if __name__ == "__main__":
    run_experiment(main)
