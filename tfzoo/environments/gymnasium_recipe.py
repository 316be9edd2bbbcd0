"""How a Gymnasium environment is made from its id: its spec, arguments and wrappers.

Worker processes make their copies from a recipe too, and must not import TensorFlow:
they unpickle what stands here and would import the package of any function that is
pickled by its name. So a recipe holds only Gymnasium's classes and lambdas, which are
pickled by value.
"""

import contextlib
import difflib
import functools
import importlib
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from tfzoo.environments.errors import (
    MissingPackageError,
    UnknownEnvironmentError,
    check_positive_integer,
)
from tfzoo.environments.gymnasium_wrappers import (
    ending_with_a_life,
    flickering,
    positions,
)

# The extra of tfzoo to install for environments whose entry point starts so.
_EXTRAS = {
    "gymnasium.envs.mujoco": "mujoco",
    "gymnasium.envs.box2d": "box2d",
    "ale_py": "atari",
}
_ATARI_FRAME_SKIP = 4
_ATARI_FRAME_STACK = 4


# Environments that show a part of another: its id, and the wrapper that hides the rest.
# The in-graph forms are in `cartpole.py`.
_PARTIAL = {
    "CartPoleFlickering-v1": ("CartPole-v1", flickering()),
    "CartPolePositions-v1": ("CartPole-v1", positions()),
}


class Recipe(NamedTuple):
    """What makes one copy.

    Attributes:
      spec: the `gymnasium.envs.registration.EnvSpec`.
      arguments: keyword arguments for `gymnasium.make`.
      wrappers: functions from environment to environment, applied in this order.
      frame_stack: how many frames the last axis of an observation holds.
    """

    spec: Any
    arguments: dict
    wrappers: list
    frame_stack: int = 1

    def make(self):
        """Returns one copy, a `gymnasium.Env`."""
        environment = gym.make(self.spec, **self.arguments)
        for wrapper in self.wrappers:
            environment = wrapper(environment)
        return environment


def recipe_for(id, max_episode_steps=None, **environment_kwargs):
    """Returns the recipe for an environment.

    Atari games get the preprocessing of Mnih et al. 2015 (doi:10.1038/nature14236) in
    the form of Machado et al. 2018 (arXiv:1709.06009): 84x84 grey images, a frame skip
    of 4, and the last 4 images as channels, so that observations are uint8 [84, 84, 4].
    Sticky actions are the environment's own `repeat_action_probability`. With
    `life_loss=True`, which is for learning only, an episode terminates with a life, and
    the next one goes on with the game.

    Args:
      id: a registered id; "module:id" imports the module first.
      max_episode_steps: the time limit, or None for the registered one.
      **environment_kwargs: arguments of the environment itself.

    Raises:
      UnknownEnvironmentError: if no such environment is registered.
      MissingPackageError: if a module that would register it cannot be imported.
      ValueError: if the time limit is not a positive integer.
    """
    spec = find_spec(_PARTIAL[id][0] if id in _PARTIAL else id)
    # The checker costs more than a step of a small environment.
    arguments = {"disable_env_checker": True, **environment_kwargs}
    time_limit = {}
    if max_episode_steps is not None:
        check_positive_integer("max_episode_steps", max_episode_steps)
        time_limit = {"max_episode_steps": int(max_episode_steps)}
    if not _is_atari(spec) or "ram" in (
        spec.kwargs.get("obs_type"),
        environment_kwargs.get("obs_type"),
    ):
        wrappers = [_PARTIAL[id][1]] if id in _PARTIAL else []
        return Recipe(spec, {**arguments, **time_limit}, wrappers)
    life_loss = arguments.pop("life_loss", False)
    wrappers = [
        functools.partial(
            gym.wrappers.AtariPreprocessing, frame_skip=_ATARI_FRAME_SKIP
        ),
        # Outside the preprocessing, so that it counts the agent's steps, not frames;
        # inside of lives, so that a game begins anew after it.
        *([functools.partial(gym.wrappers.TimeLimit, **time_limit)] * bool(time_limit)),
        *([ending_with_a_life()] if life_loss else []),
        functools.partial(
            gym.wrappers.FrameStackObservation, stack_size=_ATARI_FRAME_STACK
        ),
        functools.partial(
            gym.wrappers.TransformObservation,
            func=lambda images: np.moveaxis(images, 0, -1),
            observation_space=gym.spaces.Box(
                0, 255, (84, 84, _ATARI_FRAME_STACK), np.uint8
            ),
        ),
    ]
    return Recipe(
        spec, {"frameskip": 1, **arguments}, wrappers, frame_stack=_ATARI_FRAME_STACK
    )


@contextlib.contextmanager
def missing_packages_named(id, spec):
    """Turns a failed import of an optional package into a MissingPackageError."""
    try:
        yield
    except (gym.error.DependencyNotInstalled, ImportError) as error:
        reason = str(error).splitlines()[0]
        extra = next(
            (
                extra
                for start, extra in _EXTRAS.items()
                if str(spec.entry_point).startswith(start)
            ),
            None,
        )
        # An environment that has moved elsewhere raises a plain ImportError.
        if extra and type(error) is not ImportError:
            raise _missing_extra(id, extra) from error
        raise MissingPackageError(f"{id} cannot be made: {reason}") from error


def _missing_extra(id, extra):
    return MissingPackageError(
        f"{id} needs a package that is not installed; run: pip install 'tfzoo[{extra}]'"
    )


def _is_atari(spec):
    return str(spec.entry_point).startswith("ale_py")


def find_spec(id):
    """Returns the registered spec of `id`."""
    if str(id).startswith("ALE/"):
        try:
            gym.register_envs(importlib.import_module("ale_py"))
        except ImportError as error:
            raise _missing_extra(id, "atari") from error
    module, _, name = str(id).rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise MissingPackageError(f"{id} cannot be imported: {error}") from error
    if name in gym.registry:
        return gym.registry[name]
    names = {known.lower(): known for known in (*gym.registry, *_PARTIAL)}
    near = difflib.get_close_matches(name.lower(), names, n=3)
    advice = (
        f"the nearest are {', '.join(names[match] for match in near)}"
        if near
        else "gymnasium.pprint_registry() lists those that are registered"
    )
    raise UnknownEnvironmentError(f"unknown environment {id!r}; {advice}")
