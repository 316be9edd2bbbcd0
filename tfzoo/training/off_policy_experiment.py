"""What the experiments with a replay buffer share: their flags."""

import keras
from absl import flags

from tfzoo.training.agent_experiment import (
    define_agent_flags,
    define_at_least_zero,
    define_fraction,
)

# The flags below belong to the module that calls `define_off_policy_flags`.
flags.disclaim_key_flags()

FLAGS = flags.FLAGS
# The frames that Gymnasium's wrapper stacks for Atari.
_ATARI_FRAMES = 4


def define_off_policy_flags(
    *,
    replay_capacity,
    batch_size,
    learning_starts,
    num_steps,
    gradient_steps,
    **agent_defaults,
):
    """Defines the flags of an agent that learns from a replay buffer.

    Args:
      replay_capacity, batch_size, learning_starts, num_steps, gradient_steps: the
        defaults of the flags of these names.
      **agent_defaults: see `define_agent_flags`.
    """
    define_agent_flags(
        distribute=None,
        steps_help="Environment steps to train for, over all copies; a multiple of "
        "--num_envs x --num_steps.",
        **agent_defaults,
    )
    flags.DEFINE_integer(
        "replay_capacity", replay_capacity, "Rows of the replay buffer.", 1
    )
    flags.DEFINE_boolean(
        "replay_checkpoint",
        True,
        "Whether checkpoints hold the replay buffer. Without it they are small, and a "
        "resumed run fills it anew before it learns on.",
    )
    flags.DEFINE_integer(
        "batch_size", batch_size, "Samples of one gradient step.", lower_bound=1
    )
    flags.DEFINE_integer(
        "learning_starts",
        learning_starts,
        "Environment steps, with actions drawn uniformly, before learning starts.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "num_steps", num_steps, "Steps of each copy in an iteration.", lower_bound=1
    )
    flags.DEFINE_integer(
        "gradient_steps",
        gradient_steps,
        "Gradient steps after the steps of an iteration.",
        lower_bound=1,
    )
    define_at_least_zero(
        "priority_exponent",
        None,
        "Alpha of prioritised replay, as 0.6; replay is uniform without it.",
    )
    define_fraction(
        "importance_exponent",
        0.4,
        "First beta of prioritised replay, which rises to 1 over --steps.",
    )


def off_policy_options():
    """Returns the agent's arguments that `define_off_policy_flags` has flags for."""
    beta = FLAGS.importance_exponent
    return {
        **{
            name: FLAGS[name].value
            for name in (
                "replay_capacity",
                "replay_checkpoint",
                "batch_size",
                "learning_starts",
                "num_steps",
                "gradient_steps",
                "priority_exponent",
                "discount",
                "normalize_observations",
                "seed",
            )
        },
        "importance_exponent": keras.optimizers.schedules.PolynomialDecay(
            beta, FLAGS.steps, 1.0
        ),
        "frame_stack": _ATARI_FRAMES if FLAGS.env.startswith("ALE/") else 1,
    }
