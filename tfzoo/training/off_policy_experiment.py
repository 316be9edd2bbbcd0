"""What the experiments with a replay buffer share: their flags."""

import math

import keras
from absl import flags

from tfzoo.training.agent_experiment import (
    define_agent_flags,
    network_options,
    optimizer_options,
)
from tfzoo.training.errors import UserError
from tfzoo.training.flags import define_at_least_zero, define_fraction

# The flags below belong to the module that calls `define_off_policy_flags`.
flags.disclaim_key_flags()

FLAGS = flags.FLAGS
# The frames that Gymnasium's wrapper stacks for Atari.


def define_off_policy_flags(
    *,
    replay_capacity,
    batch_size,
    learning_starts,
    num_steps,
    gradient_steps,
    anneal=False,
    **agent_defaults,
):
    """Defines the flags of an agent that learns from a replay buffer.

    Args:
      replay_capacity, batch_size, learning_starts, num_steps, gradient_steps: the
        defaults of the flags of these names.
      anneal: see --anneal.
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
    flags.DEFINE_boolean(
        "anneal",
        anneal,
        "Let the learning rate fall to 0 linearly over --steps; more --steps on resume "
        "raise it again.",
    )
    flags.DEFINE_float(
        "adam_epsilon",
        1e-7,
        "What Adam adds to the root of a squared gradient. Where this is smaller than "
        "they are, errors that are nearly 0 still move a good policy.",
    )
    flags.register_validator(
        "adam_epsilon",
        lambda epsilon: 0 < epsilon < math.inf,
        message="must be a positive number",
    )
    define_at_least_zero(
        "priority_exponent",
        None,
        "Alpha of prioritised replay, as 0.6; replay is uniform without it.",
    )
    define_fraction(
        "importance_exponent",
        0.4,
        "First beta of prioritised replay, which rises to 1 over --steps, those of a "
        "resumed run, too.",
    )


def off_policy_options(environment):
    """Returns the agent's arguments that `define_off_policy_flags` has flags for.

    Args:
      environment: what the agent is for.
    """
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
        "frame_stack": environment.frame_stack,
    }


def gradient_steps_of_run():
    """Returns the gradient steps of the whole run.

    Raises:
      UserError: if there are none.
    """
    batch = FLAGS.num_envs * FLAGS.num_steps
    # Learning starts in the iteration that fills what it needs.
    before = -(-FLAGS.learning_starts // batch) - 1
    iterations = FLAGS.steps // batch - before
    if iterations < 1:
        raise UserError(
            f"--learning_starts={FLAGS.learning_starts}: nothing would be learned in "
            f"--steps={FLAGS.steps}; give fewer, or more steps"
        )
    return iterations * FLAGS.gradient_steps


def define_continuous_control_flags(**defaults):
    """Defines the flags of an agent with an actor and critics.

    Args:
      **defaults: of `define_off_policy_flags`, those that are not the usual ones.
    """
    define_off_policy_flags(
        **{
            "num_envs": 1,
            "num_steps": 1,
            "gradient_steps": 1,
            "replay_capacity": 200_000,
            "batch_size": 256,
            "learning_starts": 1_000,
            "checkpoint_every": 50_000,
            "max_gradient_norm": 0.0,
            **defaults,
        }
    )
    flags.DEFINE_float(
        "actor_learning_rate", None, "Of the actor, where it is not --learning_rate."
    )
    flags.register_validator(
        "actor_learning_rate",
        lambda rate: rate is None or 0 < rate < math.inf,
        message="must be a positive number",
    )
    define_fraction(
        "target_rate", 0.005, "How far the slow copies move in a gradient step."
    )


def continuous_control_options(environment):
    """Returns the agent's arguments that `define_continuous_control_flags` has.

    Args:
      environment: see `off_policy_options`.
    """
    network = {
        name: value
        for name, value in network_options().items()
        if value is not None and name != "torso"
    }
    return {
        **off_policy_options(environment),
        "target_rate": FLAGS.target_rate,
        "actor_options": network,
        "critic_options": network,
    }


def compile_continuous_control(agent, **optimizers):
    """Compiles an agent with an actor and critics as the flags say.

    Args:
      agent: a `ContinuousControlAgent`.
      **optimizers: more of them, by the names that its `compile` has.
    """
    if FLAGS.torso == "atari_cnn":
        raise UserError(
            "--torso=atari_cnn: actors and critics here are made of dense layers"
        )
    updates = gradient_steps_of_run()
    of_actor = updates // getattr(agent, "policy_delay", 1)
    agent.compile(
        keras.optimizers.Adam(**optimizer_options(updates)),
        actor_optimizer=keras.optimizers.Adam(
            **optimizer_options(of_actor, FLAGS.actor_learning_rate)
        ),
        jit_compile=FLAGS.jit_compile,
        **optimizers,
    )


def define_value_flags(
    *, double, target_period, target_rate, epsilon_end, epsilon_fraction, huber_delta
):
    """Defines the flags of DQN and DRQN; the arguments are the defaults.

    Args:
      double, target_period, target_rate, epsilon_end, epsilon_fraction, huber_delta:
        see the flags of these names.
    """
    flags.DEFINE_boolean(
        "double", double, "Choose the next action by the online network."
    )
    flags.DEFINE_boolean("dueling", False, "Separate streams for value and advantages.")
    define_at_least_zero(
        "huber_delta",
        huber_delta,
        "Error from which on the loss is linear; 0 squares all. With values of 100, a "
        "loss that is linear from 1 on lets them diverge. Quantiles have their own, 1.",
    )
    define_fraction("epsilon_start", 1.0, "First share of actions drawn uniformly.")
    define_fraction(
        "epsilon_end", epsilon_end, "Last share of actions drawn uniformly."
    )
    define_fraction(
        "epsilon_fraction",
        epsilon_fraction,
        "Share of --steps between the two; more --steps on resume stretch it.",
    )
    flags.DEFINE_enum(
        "epsilon_schedule",
        "linear",
        ["linear", "exponential"],
        "How one goes over into the other.",
    )
    flags.DEFINE_integer(
        "target_period",
        target_period,
        "Gradient steps between two moves of the target network.",
        lower_bound=1,
    )
    define_fraction("target_rate", target_rate, "How far it moves: 1 makes it a copy.")


def value_options():
    """Returns the agent's arguments that `define_value_flags` has flags for."""
    return {
        "double": FLAGS.double,
        "dueling": FLAGS.dueling,
        "huber_delta": FLAGS.huber_delta or None,
        "epsilon": _epsilon(),
        "target_period": FLAGS.target_period,
        "target_rate": FLAGS.target_rate,
    }


class ExponentialEpsilon(keras.optimizers.schedules.LearningRateSchedule):
    """Falls from `start` to `end` by the same factor in each of `steps` steps."""

    def __init__(self, start, end, steps):
        self.start, self.end, self.steps = start, end, steps

    def __call__(self, step):
        """Returns the value at a step."""
        share = keras.ops.minimum(keras.ops.cast(step, "float32") / self.steps, 1.0)
        return self.start * (self.end / self.start) ** share


def _epsilon():
    start, end = FLAGS.epsilon_start, FLAGS.epsilon_end
    steps = max(1, int(FLAGS.epsilon_fraction * FLAGS.steps))
    if FLAGS.epsilon_schedule == "exponential":
        if not start or not end:
            raise UserError(
                f"--epsilon_schedule=exponential: --epsilon_start={start} and "
                f"--epsilon_end={end} must not be 0"
            )
        return ExponentialEpsilon(start, end, steps)
    return keras.optimizers.schedules.PolynomialDecay(start, steps, end)
