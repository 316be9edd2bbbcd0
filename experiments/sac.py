"""Trains SAC on an environment with real-valued actions.

python experiments/sac.py --flagfile=experiments/configs/sac_pendulum.flags
"""

import math

import keras
from absl import flags

from tfzoo.agents import SAC
from tfzoo.training import run_experiment
from tfzoo.training.agent_experiment import (
    make_environment,
    optimizer_options,
    train_and_finish,
)
from tfzoo.training.off_policy_experiment import (
    compile_continuous_control,
    continuous_control_options,
    define_continuous_control_flags,
    gradient_steps_of_run,
)

FLAGS = flags.FLAGS

define_continuous_control_flags(env="Pendulum-v1", steps=20_000, learning_rate=1e-3)
flags.DEFINE_float("temperature", 1.0, "Weight of the entropy, or its first value.")
flags.register_validator(
    "temperature", lambda x: 0 < x < math.inf, message="must be a positive number"
)
flags.DEFINE_boolean("adapt_temperature", True, "Steer the entropy to the target.")
flags.DEFINE_float(
    "target_entropy", None, "In nats; by default minus the numbers of an action."
)
flags.register_validator(
    "target_entropy",
    lambda x: x is None or math.isfinite(x),
    message="must be finite",
)


def main():
    """Trains, evaluates, exports."""
    environment = make_environment()
    agent = SAC(
        environment.observation_space,
        environment.action_space,
        temperature=FLAGS.temperature,
        target_entropy=FLAGS.target_entropy if FLAGS.adapt_temperature else "fixed",
        **continuous_control_options(environment),
    )
    options = {**optimizer_options(gradient_steps_of_run()), "global_clipnorm": None}
    compile_continuous_control(
        agent, temperature_optimizer=keras.optimizers.Adam(**options)
    )
    train_and_finish(agent, environment)


if __name__ == "__main__":
    run_experiment(main)
