"""Which Gymnasium spaces agents can handle, and how actions enter them."""

import numpy as np
from gymnasium import spaces

from tfzoo.environments.errors import UnsupportedSpaceError

ACTION_BOUNDS = ("clip", "rescale", "none")


def check_action_space(space, id):
    """Raises UnsupportedSpaceError if agents cannot act in `space` of `id`."""
    if isinstance(space, spaces.Box):
        supported_kind = np.issubdtype(space.dtype, np.floating)
    else:
        supported_kind = isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary))
    one_dimension = space.shape is not None and len(space.shape) == 1
    if not isinstance(space, spaces.Discrete) and not (
        supported_kind and one_dimension
    ):
        raise UnsupportedSpaceError(
            f"the action space of {id} is {_in_one_line(space)}; supported are "
            "Discrete, and Box of floats, MultiDiscrete and MultiBinary of one "
            "dimension"
        )


def check_observation_space(space, id):
    """Raises UnsupportedSpaceError if agents cannot observe `space` of `id`."""
    if isinstance(space, spaces.Discrete):
        return
    if not isinstance(space, spaces.Box) or 0 in (space.shape or (0,)):
        raise UnsupportedSpaceError(
            f"the observation space of {id} is {_in_one_line(space)}; supported are "
            "Discrete, and Box of at least one dimension"
        )


def delivered_observation_space(space):
    """Returns the space of the observations that agents get from a `space`.

    In a Box, bytes remain bytes and all other numbers become float32.
    """
    if not isinstance(space, spaces.Box) or space.dtype in (np.uint8, np.float32):
        return space
    return spaces.Box(
        space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32
    )


def delivered_dtype(space):
    """Returns the NumPy dtype of the observations that agents get from a `space`."""
    if isinstance(space, spaces.Discrete):
        return np.int32
    return np.uint8 if space.dtype == np.uint8 else np.float32


def action_map(space, action_bounds, arrays):
    """Returns the function from an agent's actions [N, ...] to the environment's.

    Agents count discrete actions from 0, whatever the start of the space.

    Args:
      space: the action space of one copy.
      action_bounds: one of ACTION_BOUNDS, for a Box; see `Environment`.
      arrays: the module whose arrays the actions are, `numpy` or `tensorflow`.

    Raises:
      ValueError: if `action_bounds` is none of ACTION_BOUNDS.
      UnsupportedSpaceError: if a Box without bounds is to be rescaled to.
    """
    if action_bounds not in ACTION_BOUNDS:
        raise ValueError(
            f"action_bounds must be one of {', '.join(map(repr, ACTION_BOUNDS))}, got "
            f"{action_bounds!r}"
        )
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        start = np.asarray(space.start, np.int32)
        return (lambda action: action + start) if start.any() else lambda action: action
    if not isinstance(space, spaces.Box) or action_bounds == "none":
        return lambda action: action

    low, high = space.low.astype(np.float32), space.high.astype(np.float32)

    def clip(action):
        return arrays.minimum(arrays.maximum(action, low), high)

    if action_bounds == "clip":
        return clip
    if not space.is_bounded("both"):
        raise UnsupportedSpaceError(
            f"actions cannot be rescaled to {_in_one_line(space)}, which is not "
            'bounded; action_bounds can be "clip" or "none"'
        )
    middle, half = (low + high) / 2, (high - low) / 2
    # Clipped last, so that rounding does not carry an action over the bounds.
    return lambda action: clip(middle + half * action)


def _in_one_line(space):
    return " ".join(str(space).split())
