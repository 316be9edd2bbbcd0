"""What the policy-gradient experiments share: their flags."""

from absl import flags

from tfzoo.training.agent_experiment import define_agent_flags, network_options
from tfzoo.training.flags import define_at_least_zero, define_fraction

# The flags below belong to the module that calls `define_policy_gradient_flags`.
flags.disclaim_key_flags()

FLAGS = flags.FLAGS


def define_policy_gradient_flags(
    *,
    num_steps,
    gae_lambda=None,
    anneal=False,
    max_gradient_norm=0.5,
    value_coefficient=1.0,
    steps_help="Environment steps to train for, over all copies; a multiple of "
    "--num_envs x --num_steps.",
    **training_defaults,
):
    """Defines the flags of an actor-critic agent; the arguments are the defaults.

    Args:
      num_steps: see --num_steps.
      gae_lambda: see --gae_lambda; None defines no such flag.
      anneal: see --anneal; None defines no such flag.
      max_gradient_norm: see --max_gradient_norm.
      value_coefficient: see --value_coefficient; None defines no such flag.
      steps_help: what --helpshort says about --steps.
      **training_defaults: see `define_agent_flags`.
    """
    define_agent_flags(
        max_gradient_norm=max_gradient_norm, steps_help=steps_help, **training_defaults
    )
    flags.DEFINE_integer(
        "num_steps", num_steps, "Steps of each copy in an iteration.", lower_bound=1
    )
    if gae_lambda is not None:
        define_fraction(
            "gae_lambda",
            gae_lambda,
            "Lambda of generalised advantage estimation; 1 gives whole returns.",
        )
    define_at_least_zero("entropy_coefficient", 0.0, "Weight of the entropy bonus.")
    if value_coefficient is not None:
        define_at_least_zero(
            "value_coefficient", value_coefficient, "Weight of the value loss."
        )
    if anneal is not None:
        flags.DEFINE_boolean(
            "anneal",
            anneal,
            "Let the learning rate fall to 0 linearly over --steps; more --steps on "
            "resume raise it again.",
        )
    flags.DEFINE_boolean(
        "shared_torso",
        None,
        "Whether actor and critic share their layers below the heads; by default a "
        "CNN is shared.",
    )
    flags.DEFINE_float(
        "initial_log_stddev",
        0.0,
        "Where the log standard deviation of a Gaussian policy starts.",
    )
    flags.register_validator(
        "initial_log_stddev",
        lambda value: -20 <= value <= 20,
        message="must be between -20 and 20",
    )
    flags.DEFINE_boolean(
        "normalize_rewards",
        False,
        "Divide rewards by the running deviation of the discounted return.",
    )


def agent_options():
    """Returns the agent's arguments that all experiments have flags for."""
    options = {
        "num_steps": FLAGS.num_steps,
        "discount": FLAGS.discount,
        "entropy_coefficient": FLAGS.entropy_coefficient,
        "normalize_observations": FLAGS.normalize_observations,
        "normalize_rewards": FLAGS.normalize_rewards,
        "network_options": {
            **network_options(),
            "shared": FLAGS.shared_torso,
            "initial_log_stddev": FLAGS.initial_log_stddev,
        },
        "seed": FLAGS.seed,
    }
    for name in ("gae_lambda", "value_coefficient"):
        if name in FLAGS:
            options[name] = FLAGS[name].value
    return options
