"""Trains DRQN, DQN with a memory, on an environment that shows a part of its state.

python experiments/drqn.py --flagfile=experiments/configs/drqn_cartpole_positions.flags
"""

import keras
from absl import flags

from tfzoo.agents import DRQN
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
    env="CartPolePositions-v1",
    num_envs=1,
    num_steps=10,
    gradient_steps=1,
    steps=400_000,
    learning_rate=5e-4,
    batch_size=32,
    learning_starts=5_000,
    replay_capacity=10_000,
    max_gradient_norm=10.0,
    anneal=True,
)
define_value_flags(
    double=True,
    target_period=50,
    target_rate=1.0,
    epsilon_end=0.05,
    epsilon_fraction=0.125,
    huber_delta=0.0,
)
flags.DEFINE_integer("sequence_length", 16, "Steps of a sequence to learn from.", 1)
flags.DEFINE_integer("burn_in", 0, "Steps before them that only set the state.", 0)
flags.DEFINE_boolean(
    "stored_state", True, "Begin sequences with the state of then, not with zeros."
)
flags.DEFINE_boolean(
    "previous_action", False, "The LSTM sees the action before each observation, too."
)
flags.DEFINE_integer("lstm_units", 64, "Units of the LSTM.", lower_bound=1)


def main():
    """Trains, evaluates, exports."""
    environment = make_environment()
    if FLAGS.torso == "atari_cnn":
        raise UserError("--torso=atari_cnn: the layers of DRQN are dense ones")
    options = {
        name: x
        for name, x in network_options().items()
        if x is not None and name != "torso"
    }
    agent = DRQN(
        environment.observation_space,
        environment.action_space,
        network_options={"lstm_units": FLAGS.lstm_units, **options},
        sequence_length=FLAGS.sequence_length,
        burn_in=FLAGS.burn_in,
        stored_state=FLAGS.stored_state,
        previous_action=FLAGS.previous_action,
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
