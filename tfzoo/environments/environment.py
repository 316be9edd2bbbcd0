"""What in-graph and host environments share: their description and the time step."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfzoo.environments.errors import check_positive_integer
from tfzoo.environments.spaces import (
    action_map,
    check_action_space,
    check_observation_space,
)


class TimeStep(NamedTuple):
    """What one step of N copies gives; tensors or arrays.

    Attributes:
      observation: [N, ...], what to act on next: the first observation of a new
        episode where the old one ended.
      reward: float32 [N], the environment's own, before any `reward_transform`.
      terminated: bool [N], the episode ended in a state of the world; its value is 0.
      truncated: bool [N], the episode was cut off, by a time limit as a rule. Both
        flags may be set in the same step; `terminated` then decides on the value.
      final_observation: [N, ...], the observation that this step led to, to estimate
        the value of a truncated episode's last state from; equal to `observation`
        where no episode ended.
    """

    observation: tf.Tensor | np.ndarray
    reward: tf.Tensor | np.ndarray
    terminated: tf.Tensor | np.ndarray
    truncated: tf.Tensor | np.ndarray
    final_observation: tf.Tensor | np.ndarray


class Environment:
    """Copies of one environment that are stepped together.

    Args:
      id: the name of the environment, as Gymnasium has it.
      num_envs: N, the number of copies.
      max_episode_steps: the time limit of an episode, or None where there is none.
      action_bounds: how float actions meet the bounds of the action space. "clip"
        clips them; "rescale" maps [-1, 1] onto the bounds, then clips; "none" passes
        them as they are (some environments charge for unclipped actions, others
        clip by themselves).
      reward_transform: a function of a reward tensor or array, [...] to [...], or
        None. `step` returns the environment's own reward; agents learn from the
        transformed one and report the other.

    Attributes:
      observation_space, action_space: the Gymnasium spaces of one copy.
      frame_stack: how many frames the last axis of an observation holds, 4 for Atari
        games and 1 for others.

    Raises:
      ValueError: if a number is not a positive integer or `reward_transform` is not a
        function.
    """

    frame_stack = 1

    def __init__(
        self,
        *,
        id,
        num_envs,
        max_episode_steps,
        action_bounds,
        reward_transform,
    ):
        check_positive_integer("num_envs", num_envs)
        if max_episode_steps is not None:
            check_positive_integer("max_episode_steps", max_episode_steps)
        if reward_transform is not None and not callable(reward_transform):
            raise ValueError(
                f"reward_transform must be a function or None, got {reward_transform!r}"
            )
        self.id = id
        self.num_envs = num_envs
        self.max_episode_steps = max_episode_steps
        self.action_bounds = action_bounds
        self.reward_transform = reward_transform

    def _set_spaces(self, observation_space, action_space, arrays):
        """Takes the spaces of one copy.

        Args:
          observation_space, action_space: Gymnasium spaces.
          arrays: the module whose arrays the actions are, `numpy` or `tensorflow`.

        Raises:
          ValueError: if `action_bounds` is not one of the three.
          UnsupportedSpaceError: if agents cannot handle a space.
        """
        check_observation_space(observation_space, self.id)
        check_action_space(action_space, self.id)
        self.observation_space = observation_space
        self.action_space = action_space
        self._map_action = action_map(action_space, self.action_bounds, arrays)

    def close(self):
        """Ends what runs elsewhere; a second call does nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return f"{type(self).__name__}({self.id!r}, num_envs={self.num_envs})"
