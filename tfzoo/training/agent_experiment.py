"""What all experiments with agents share: their flags, and how a run ends.

An experiment is: define the flags; make environment, agent and optimizer from them;
`train_and_finish`.
"""

import json
import math

import keras
import tensorflow as tf
from absl import flags

from tfzoo.environments import make, record_episode
from tfzoo.training.atomic_files import replacing
from tfzoo.training.figures import learning_curve
from tfzoo.training.flags import (
    define_at_least_zero,
    define_fraction,
    define_training_flags,
    define_widths,
    environment_options,
    open_run_directory,
    widths,
)
from tfzoo.training.resumable_run import train
from tfzoo.training.video import write_video

# The flags below belong to the module that calls the functions below.
flags.disclaim_key_flags()

FLAGS = flags.FLAGS
_ACTIVATIONS = ("elu", "gelu", "leaky_relu", "relu", "silu", "tanh")


def define_agent_flags(*, max_gradient_norm, discount=0.99, **training_defaults):
    """Defines the flags of all agents; the arguments are the defaults.

    Args:
      max_gradient_norm: see --max_gradient_norm.
      discount: see --discount.
      **training_defaults: see `define_training_flags`.
    """
    define_training_flags(**training_defaults)
    define_fraction("discount", discount, "Discount of rewards, gamma.")
    define_at_least_zero(
        "max_gradient_norm",
        max_gradient_norm,
        "The gradient of all weights is scaled down to this norm; 0 leaves it.",
    )
    define_widths(
        "hidden_units",
        "Widths of the dense layers, as 64,64; the default depends on --torso.",
    )
    flags.DEFINE_enum(
        "activation",
        None,
        _ACTIVATIONS,
        "Activation of the layers; the default depends on --torso.",
    )
    flags.DEFINE_enum(
        "torso",
        None,
        ["mlp", "atari_cnn"],
        "Network; by default a CNN for images and an MLP for others.",
    )
    flags.DEFINE_boolean(
        "normalize_observations",
        False,
        "Shift and scale observations by their running statistics.",
    )
    flags.DEFINE_float("reward_scale", 1.0, "Agents learn from rewards times this.")
    flags.register_validator(
        "reward_scale",
        lambda scale: 0 < scale < math.inf,
        message="must be a positive number",
    )
    flags.DEFINE_boolean(
        "clip_rewards", False, "Agents learn from the signs of rewards, as for Atari."
    )
    flags.DEFINE_integer(
        "evaluation_episodes", 100, "Episodes to evaluate the end of training on.", 1
    )
    flags.DEFINE_boolean("animation", True, "Leave an animation of an episode.")


def make_environment():
    """Makes the environment that the flags name."""
    scale, clip = FLAGS.reward_scale, FLAGS.clip_rewards

    def transform(reward):
        return scale * (tf.sign(reward) if clip else reward)

    return make(
        FLAGS.env,
        FLAGS.num_envs,
        vectorization=FLAGS.vectorization,
        num_workers=FLAGS.num_workers,
        reward_transform=transform if clip or scale != 1.0 else None,
        **environment_options(),
    )


def network_options():
    """Returns the arguments of a network that all experiments have flags for."""
    return {
        "hidden_units": widths("hidden_units"),
        "activation": FLAGS.activation,
        "torso": FLAGS.torso,
    }


def optimizer_options(updates=None, learning_rate=None):
    """Returns the arguments of an optimizer that the flags have.

    Args:
      updates: the gradient steps of the whole run; needed where there is --anneal.
      learning_rate: where it is not --learning_rate.
    """
    learning_rate = learning_rate or FLAGS.learning_rate
    if "anneal" in FLAGS and FLAGS.anneal:
        learning_rate = keras.optimizers.schedules.PolynomialDecay(
            learning_rate, max(1, updates), end_learning_rate=0.0
        )
    options = {
        "learning_rate": learning_rate,
        "global_clipnorm": FLAGS.max_gradient_norm or None,
    }
    if "adam_epsilon" in FLAGS:
        options["epsilon"] = FLAGS.adam_epsilon
    return options


def train_and_finish(agent, environment):
    """Trains in the run directory that the flags name, then does what `finish` does.

    Args:
      agent: compiled.
      environment: what to train it on.
    """
    run_directory = open_run_directory(FLAGS.env)
    train(
        agent,
        environment,
        run_directory,
        FLAGS.steps,
        checkpoint_every=FLAGS.checkpoint_every,
    )
    finish(agent, environment, run_directory)


def finish(agent, environment, run_directory):
    """Evaluates and exports what was trained, draws it, and says what can be done next.

    Args:
      agent: trained.
      environment: what it was trained on.
      run_directory: a `RunDirectory`.

    Returns:
      What `agent.evaluate` returned.
    """
    agent.export(run_directory.saved_model)
    result = agent.evaluate(
        environment, FLAGS.evaluation_episodes, seed=FLAGS.seed + 1_000_000
    )
    summary = {
        "env": FLAGS.env,
        "steps": agent.env_steps,
        "episodes": FLAGS.evaluation_episodes,
        "mean": result["mean"],
        "std": result["std"],
    }
    with replacing(run_directory.evaluation) as unfinished:
        unfinished.write_text(json.dumps(summary, indent=1) + "\n", "utf8")
    title = f"{type(agent).__name__} on {FLAGS.env}"
    learning_curve(run_directory.metrics, run_directory.learning_curve, title=title)
    if FLAGS.animation:
        _animate(agent, run_directory)
    print(
        f"mean return {result['mean']:.1f}, standard deviation {result['std']:.1f}, "
        f"over {FLAGS.evaluation_episodes} episodes with the greedy policy"
    )
    print(run_directory.next_commands(f"--steps={2 * FLAGS.steps}"))
    return result


def _animate(agent, run_directory):
    memory = agent.initial_memory(1)
    options = environment_options()
    options.pop("life_loss", None)

    def policy(observation):
        nonlocal memory
        observation = tf.convert_to_tensor(observation)
        action, memory = agent.act_from_memory(observation, memory, None, greedy=True)
        return action

    try:
        frames, _ = record_episode(
            FLAGS.env,
            policy,
            seed=FLAGS.seed,
            **options,
        )
    except Exception as error:
        # Renderers fail in many ways where there is no display; the run is done.
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"no animation: {FLAGS.env} cannot be rendered here: {reason}")
        return
    write_video(run_directory.animation, frames)
