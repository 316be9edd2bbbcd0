"""Plays episodes with an exported policy and reports their returns.

  python experiments/evaluate.py --model=runs/ppo-CartPole-v1-20260101-120000
  python experiments/evaluate.py --model=saved_model --env=CartPole-v1 --video=play.gif

The model is a SavedModel, or a run directory that holds one, whose flags then say which
environment. No agent class is needed: the signature "serving_default" takes
`observation` [B, ...] and gives `action` [B, ...]. What else it takes it also returns;
so agents with a memory pass it on.
"""

import pathlib
import sys

import gymnasium as gym
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from absl import flags

from tfzoo import random, training
from tfzoo.environments import InGraphEnvironment, make, record_episode

# Host environments share few cores; in the graph all episodes are played at once.
_HOST_COPIES = 16

training.define_environment_flags(env=None)
flags.DEFINE_string("model", None, "A SavedModel directory or a run directory.")
flags.DEFINE_integer("episodes", 100, "Episodes to play.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the first states.", lower_bound=0)
flags.DEFINE_string("video", None, "Where to write a .gif or .mp4 of one more episode.")
FLAGS = flags.FLAGS


def main():
    """Loads, plays, reports."""
    if FLAGS.video is not None:
        training.check_video_path(FLAGS.video)
    saved_model, values, of_run = find_model()
    options = training.environment_options(values)
    # It makes episodes for learning, of which a game has several.
    options.pop("life_loss", None)
    environment = make(
        values.env,
        min(FLAGS.episodes, _HOST_COPIES),
        # Workers act with an agent's policy; here it is a SavedModel.
        vectorization=(
            "sync" if values.vectorization == "workers" else values.vectorization
        ),
        **options,
    )
    if isinstance(environment, InGraphEnvironment):
        environment = environment.with_num_envs(FLAGS.episodes)
    if of_run is not None:
        check_spaces(environment, values, of_run)
    policy = Policy(saved_model, environment)
    returns, lengths = play(policy, environment, FLAGS.episodes, FLAGS.seed)
    print(f"{values.env}: {FLAGS.episodes} episodes of {np.mean(lengths):.1f} steps")
    print(report(returns))
    if FLAGS.video is not None:
        policy.begin()
        frames, episode_return = record_episode(
            values.env, policy, seed=FLAGS.seed, **options
        )
        training.write_video(FLAGS.video, frames)
        print(f"{FLAGS.video}: an episode with a return of {episode_return:.2f}")


def find_model():
    """Returns the path of the SavedModel and the flags of two environments.

    These are the one to play in, and the one of the run that the model is of or None.
    """
    if FLAGS.model is None:
        raise training.UserError(
            "--model: give a SavedModel directory or a run directory"
        )
    path = pathlib.Path(FLAGS.model)
    values = of_run = None
    if tf.saved_model.contains_saved_model(str(path)):
        values = FLAGS
        if path.name == "saved_model" and (path.parent / "flags.txt").exists():
            of_run = environment_flags(path.parent, sys.argv[:1])
    elif tf.saved_model.contains_saved_model(str(path / "saved_model")):
        values = environment_flags(path, sys.argv)
        of_run = environment_flags(path, sys.argv[:1])
        path = path / "saved_model"
    else:
        raise training.UserError(
            f"--model={path}: no SavedModel is there, nor in its folder saved_model"
        )
    if values.env is None:
        raise training.UserError(
            f"--env: give an environment, as --model={path} does not name one"
        )
    return path, values, of_run


def environment_flags(run, argv):
    """Returns the environment flags of a run directory, save for those in `argv`.

    Raises:
      UserError: if the run directory has none, or wrong ones.
    """
    file = run / "flags.txt"
    if not file.exists():
        raise training.UserError(
            f"--model={FLAGS.model}: {file}, which names the environment, is missing; "
            f"give --model={run / 'saved_model'} and --env"
        )
    try:
        return training.environment_flags_of_run(file, argv)
    except (flags.Error, UnicodeDecodeError) as error:
        raise training.UserError(f"--model={FLAGS.model}: {file}: {error}") from error


def check_spaces(environment, values, of_run):
    """Refuses an environment of other spaces than that of the run.

    Args:
      environment: to play in.
      values: its flags.
      of_run: those of the run's environment.

    Raises:
      UserError: if its observations or actions are of another kind, number or shape.
    """
    same = all(
        getattr(values, name) == getattr(of_run, name)
        for name in ("env", "env_arguments")
    )
    if same or of_run.env is None:
        return
    trained_in = make(of_run.env, **training.environment_options(of_run))
    for name in ("observation", "action"):
        here, there = (
            described(getattr(each, f"{name}_space"))
            for each in (environment, trained_in)
        )
        if here != there:
            raise training.UserError(
                f"--env={values.env}: its {name}s are {here}, those of {of_run.env}, "
                f"in which --model={FLAGS.model} was trained, are {there}"
            )


def described(space):
    """Returns what a policy depends on as text: of a Box its shape, of others all."""
    return f"Box{space.shape}" if isinstance(space, gym.spaces.Box) else str(space)


class Policy:
    """A SavedModel as a function from observations to actions, as arrays.

    What its signature takes beside the observation it remembers: it is zero when an
    episode begins, and then what the last call returned under that name.

    Raises:
      UserError: if it cannot be loaded, or if it does not fit the environment.
    """

    def __init__(self, path, environment):
        try:
            # It owns the variables and must live as long as its signature is used.
            self.model = tf.saved_model.load(str(path))
        except Exception as error:
            # What is missing or damaged makes it fail in many ways.
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise training.UserError(
                f"--model={FLAGS.model}: it cannot be loaded: {reason}"
            ) from error
        self.signature = self.model.signatures.get("serving_default")
        inputs = outputs = {}
        if self.signature:
            inputs = self.signature.structured_input_signature[1]
            outputs = self.signature.structured_outputs
        remembered = set(inputs) - {"observation"}
        if "observation" not in inputs or not remembered | {"action"} <= set(outputs):
            raise training.UserError(
                f"--model={FLAGS.model}: it has no signature serving_default from "
                "`observation`, and what else it returns itself, to `action`"
            )
        for name, spec, space in (
            ("observation", inputs["observation"], environment.observation_space),
            ("action", outputs["action"], environment.action_space),
        ):
            if not spec.shape.is_compatible_with([None, *space.shape]):
                raise training.UserError(
                    f"--model={FLAGS.model}: it has {name}s of shape {spec.shape}, "
                    f"those of {environment.id} are {space}"
                )
        self.dtype = inputs["observation"].dtype
        self.memory_specs = {name: inputs[name] for name in remembered}
        self.memory = None
        check_numbers(self, environment)

    def begin(self):
        """Begins new episodes, of any number of copies."""
        self.memory = None

    def __call__(self, observation):
        """Returns the actions [B, ...] for observations [B, ...]."""
        observation = tf.constant(observation, self.dtype)
        if self.memory is None:
            self.memory = {
                name: np.zeros(
                    [len(observation), *spec.shape[1:]], spec.dtype.as_numpy_dtype
                )
                for name, spec in self.memory_specs.items()
            }
        outputs = self.signature(
            observation=observation,
            **{name: tf.constant(array) for name, array in self.memory.items()},
        )
        self.memory = {name: outputs[name].numpy().copy() for name in self.memory}
        return outputs["action"].numpy()

    def forget(self, done):
        """Begins a new episode of the copies where `done` [B] is true."""
        for array in self.memory.values():
            array[done] = 0


def check_numbers(policy, environment):
    """Refuses a policy of fewer observations, or of another number of actions.

    Spaces are no part of a SavedModel. But one that an agent exported refuses an
    observation beyond its last, and gives a probability for each action.

    Raises:
      UserError: if the environment has others.
    """
    space = environment.observation_space
    if isinstance(space, gym.spaces.Discrete):
        try:
            policy([space.start + space.n - 1])
            policy.begin()
        except tf.errors.InvalidArgumentError as error:
            raise training.UserError(
                f"--model={FLAGS.model}: it does not take the last observation of "
                f"{environment.id}, whose observations are {space}"
            ) from error
    space = environment.action_space
    outputs = policy.signature.structured_outputs
    by_action = outputs.get("action_probabilities", outputs.get("q_values"))
    if isinstance(space, gym.spaces.Discrete) and by_action is not None:
        number = by_action.shape[-1]
        if number is not None and number != space.n:
            raise training.UserError(
                f"--model={FLAGS.model}: it has {number} actions, those of "
                f"{environment.id} are {space}"
            )


def play(policy, environment, episodes, seed):
    """Plays whole episodes.

    Copy i of N plays the episodes i, i + N, i + 2 N and so on. Which episodes count is
    thus settled before they are played, and none is preferred for being short.

    Returns:
      Their undiscounted returns and their lengths, arrays of length `episodes`.
    """
    observation, step = start(environment, seed)
    current = np.arange(environment.num_envs)
    returns, lengths = np.zeros(episodes), np.zeros(episodes, int)
    while (playing := current < episodes).any():
        now = step(policy(observation))
        observation = now.observation
        returns[current[playing]] += now.reward[playing]
        lengths[current[playing]] += 1
        done = now.terminated | now.truncated
        policy.forget(done)
        current += np.where(done, environment.num_envs, 0)
    return returns, lengths


def start(environment, seed):
    """Returns the first observation and a function from actions to a `TimeStep`."""
    if not isinstance(environment, InGraphEnvironment):
        return environment.reset(seed), environment.step
    state, observation = environment.reset(random.make_seed(seed))
    compiled = tf.function(environment.step, autograph=False, jit_compile=True)
    count = 0

    def step(action):
        nonlocal state, count
        count += 1
        step_seed = random.fold_in(random.make_seed(seed), count)
        state, now = compiled(state, tf.constant(action), step_seed)
        return tf.nest.map_structure(lambda x: x.numpy(), now)

    return observation.numpy(), step


def report(returns):
    """Returns mean, deviation and 95 % confidence interval (Student) as text."""
    mean, count = np.mean(returns), len(returns)
    if count == 1:
        return f"return {mean:.2f}"
    deviation = np.std(returns, ddof=1)
    student = tfp.distributions.StudentT(np.float64(count - 1), 0.0, 1.0)
    half_width = student.quantile(0.975).numpy() * deviation / np.sqrt(count)
    return (
        f"mean return {mean:.2f}, standard deviation {deviation:.2f}, "
        f"95 % confidence interval of the mean [{mean - half_width:.2f}, "
        f"{mean + half_width:.2f}]"
    )


if __name__ == "__main__":
    training.run_experiment(main)
