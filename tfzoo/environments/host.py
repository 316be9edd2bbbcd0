"""The bridge to Gymnasium: copies in this process or in worker processes."""

import contextlib
import signal
import sys
import threading
import types

import gymnasium as gym
import numpy as np

from tfzoo.environments.environment import Environment, TimeStep
from tfzoo.environments.gymnasium_recipe import missing_packages_named, recipe_for
from tfzoo.environments.spaces import delivered_dtype, delivered_observation_space

VECTORIZATIONS = ("sync", "async")


class HostEnvironment(Environment):
    """Steps a `gymnasium.vector` environment and gives NumPy arrays.

      with HostEnvironment("HalfCheetah-v5", num_envs=8) as environment:
          observation = environment.reset(seed=0)
          time_step = environment.step(action)

    Observations are float32 [N, ...], uint8 [N, ...] where they are bytes, or int32
    [N] where they are Discrete. Actions are float32 [N, D], int32 [N] or int32 [N, K],
    and count from 0 where they are discrete.

    Args:
      id: a registered Gymnasium id; "ALE/..." ids get the usual preprocessing, see
        `gymnasium_recipe.recipe_for`.
      num_envs: N, the number of copies.
      vectorization: "sync" steps the copies one after the other in this process,
        "async" each in a worker process, which never imports TensorFlow.
      max_episode_steps: the time limit, or None for the registered one.
      action_bounds, reward_transform: see `Environment`.
      **environment_kwargs: arguments of the environment itself.

    Raises:
      UnknownEnvironmentError: if no such environment is registered.
      UnsupportedSpaceError: if agents cannot handle one of its spaces.
      MissingPackageError: if a package that it needs is missing.
      ValueError: if another argument is not one of the above.
    """

    def __init__(
        self,
        id,
        num_envs=1,
        *,
        vectorization="sync",
        max_episode_steps=None,
        action_bounds="clip",
        reward_transform=None,
        **environment_kwargs,
    ):
        if vectorization not in VECTORIZATIONS:
            raise ValueError(
                f'vectorization must be "sync" or "async", got {vectorization!r}'
            )
        super().__init__(
            id=id,
            num_envs=num_envs,
            max_episode_steps=max_episode_steps,
            action_bounds=action_bounds,
            reward_transform=reward_transform,
        )
        self.vectorization = vectorization
        self.environment_kwargs = environment_kwargs
        recipe = recipe_for(id, max_episode_steps, **environment_kwargs)
        self.frame_stack = recipe.frame_stack
        if max_episode_steps is None:
            self.max_episode_steps = recipe.spec.max_episode_steps
        # One copy tells the spaces, so that nothing is started that is refused.
        with missing_packages_named(id, recipe.spec):
            try:
                sample = recipe.make()
            except TypeError as error:
                # As Python words it where a keyword argument is not known.
                if "unexpected keyword argument" not in str(error):
                    raise
                raise ValueError(
                    f"{id} does not take the arguments {environment_kwargs}: {error}"
                ) from error
        sample.close()
        self._set_spaces(
            delivered_observation_space(sample.observation_space),
            sample.action_space,
            arrays=np,
        )
        self._dtype = delivered_dtype(self.observation_space)
        self._vector = _vectorize(recipe, num_envs, vectorization)

    def reset(self, seed=None):
        """Starts all copies and returns the observation [N, ...].

        Args:
          seed: an integer, from which each copy gets a seed of its own, or None, which
            lets the random numbers of the copies go on. Copies share no seeds, nor do
            neighbouring values of `seed`.
        """
        if seed is not None:
            seeds = np.random.SeedSequence(int(seed)).generate_state(self.num_envs)
            seed = [int(s) for s in seeds]
        observation, _ = self._vector.reset(seed=seed)
        return observation.astype(self._dtype)

    def step(self, action):
        """Steps all copies; those whose episode ends start a new one.

        Args:
          action: int32 [N] or [N, K], or float32 [N, D].

        Returns:
          A TimeStep of arrays; where no episode ended, `final_observation` is the very
          array `observation`.
        """
        observation, reward, terminated, truncated, info = self._vector.step(
            self._map_action(np.asarray(action))
        )
        # The vector environment will overwrite its array; this is the copy.
        observation = observation.astype(self._dtype)
        final_observation = observation
        if "final_obs" in info:
            final_observation = observation.copy()
            for i in np.flatnonzero(info["_final_obs"]):
                final_observation[i] = info["final_obs"][i]
        return TimeStep(
            observation,
            reward.astype(np.float32),
            terminated,
            truncated,
            final_observation,
        )

    def with_num_envs(self, num_envs):
        """Returns the same environment anew, with another number of copies.

        Agents are evaluated on these: whole games, where `life_loss` ends episodes
        before.
        """
        environment_kwargs = dict(self.environment_kwargs)
        environment_kwargs.pop("life_loss", None)
        return HostEnvironment(
            self.id,
            num_envs,
            vectorization=self.vectorization,
            max_episode_steps=self.max_episode_steps,
            action_bounds=self.action_bounds,
            reward_transform=self.reward_transform,
            **environment_kwargs,
        )

    def close(self):
        """Ends the copies and their worker processes; a second call does nothing."""
        self._vector.close()


def _vectorize(recipe, num_envs, vectorization):
    options = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP, "copy": False}
    starting = contextlib.nullcontext()
    if vectorization == "async":
        # A forked worker would inherit TensorFlow and break its threads.
        options["context"] = "spawn"
        starting = contextlib.ExitStack()
        starting.enter_context(_without_main_module())
        starting.enter_context(_interrupts_ignored())
    with starting:
        return gym.make_vec(
            recipe.spec,
            num_envs,
            vectorization_mode=vectorization,
            vector_kwargs=options,
            wrappers=recipe.wrappers,
            **recipe.arguments,
        )


@contextlib.contextmanager
def _interrupts_ignored():
    """Lets processes that start meanwhile ignore Ctrl-C, which reaches them as well.

    The process that owns them ends them in good order.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def _without_main_module():
    """Hides the running script, which spawned processes would import, and all it does.

    Classes of the script itself are still found: they are pickled by value.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
