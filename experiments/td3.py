"""Trains TD3 on an environment with real-valued actions.

python experiments/td3.py --flagfile=experiments/configs/td3_pendulum.flags
"""

from absl import flags

from tfzoo.agents import TD3
from tfzoo.training import run_experiment
from tfzoo.training.agent_experiment import make_environment, train_and_finish
from tfzoo.training.flags import define_at_least_zero, define_fraction
from tfzoo.training.off_policy_experiment import (
    compile_continuous_control,
    continuous_control_options,
    define_continuous_control_flags,
)

FLAGS = flags.FLAGS

define_continuous_control_flags(env="Pendulum-v1", steps=20_000, learning_rate=1e-3)
flags.DEFINE_enum(
    "noise",
    "gaussian",
    ["gaussian", "ornstein_uhlenbeck"],
    "Noise on actions; the latter remembers, and drifts back to 0.",
)
define_at_least_zero(
    "noise_stddev", 0.1, "Its sigma, in units of half the range of an action."
)
define_fraction("noise_theta", 0.15, "How fast noise that remembers drifts back.")
flags.DEFINE_integer(
    "policy_delay", 2, "Gradient steps of the critics to one of the actor.", 1
)
define_at_least_zero(
    "target_noise", 0.2, "Noise on the actions that critics bootstrap from."
)
define_at_least_zero("target_noise_clip", 0.5, "Where that noise is clipped.")


def main():
    """Trains, evaluates, exports."""
    environment = make_environment()
    agent = TD3(
        environment.observation_space,
        environment.action_space,
        noise=FLAGS.noise,
        noise_stddev=FLAGS.noise_stddev,
        noise_theta=FLAGS.noise_theta,
        policy_delay=FLAGS.policy_delay,
        target_noise=FLAGS.target_noise,
        target_noise_clip=FLAGS.target_noise_clip,
        **continuous_control_options(environment),
    )
    compile_continuous_control(agent)
    train_and_finish(agent, environment)


if __name__ == "__main__":
    run_experiment(main)
