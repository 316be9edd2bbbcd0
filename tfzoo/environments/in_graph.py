"""Environments as pure functions over batches of tensors.

The whole interaction of an agent with such an environment can be one XLA program, with
many copies stepped at once (the Anakin design, Hessel et al. 2021, arXiv:2104.06272).
"""

import copy
import math
from typing import Any, NamedTuple

import tensorflow as tf

from tfzoo.environments.environment import Environment, TimeStep
from tfzoo.environments.errors import check_positive_integer


class State(NamedTuple):
    """The whole state of N copies.

    Attributes:
      physics: what the equations of the environment act on: a tensor [N, ...] or a
        nested tuple of them.
      num_steps: int32 [N], steps taken in the current episode.
    """

    physics: Any
    num_steps: tf.Tensor


class InGraphEnvironment(Environment):
    """Resets itself, keeps the time limit, and leaves the equations to subclasses.

      environment = CartPole(num_envs=8)
      state, observation = environment.reset(seed)
      state, time_step = environment.step(state, action, another_seed)

    Both functions are pure, have fixed shapes, and give the same eagerly, in a graph
    and through XLA, up to the rounding of float32. A subclass gives four class
    attributes and up to three functions: `initial`, `transition` and `observe`.

    Args:
      num_envs: N, the number of copies.
      max_episode_steps: the time limit, where it is not the class's own.
      action_bounds, reward_transform: see `Environment`.

    Raises:
      ValueError: as `Environment` does.
    """

    id: str
    max_episode_steps: int
    observation_space: Any
    action_space: Any

    def __init__(
        self,
        num_envs=1,
        *,
        max_episode_steps=None,
        action_bounds="clip",
        reward_transform=None,
    ):
        super().__init__(
            id=self.id,
            num_envs=num_envs,
            max_episode_steps=(
                self.max_episode_steps
                if max_episode_steps is None
                else max_episode_steps
            ),
            action_bounds=action_bounds,
            reward_transform=reward_transform,
        )
        self._set_spaces(self.observation_space, self.action_space, arrays=tf)

    # What a subclass gives.

    def initial(self, seed):
        """Draws the physics [N, ...] of the first state of an episode.

        Args:
          seed: int32 [2].
        """
        raise NotImplementedError

    def transition(self, physics, action):
        """Applies the equations once.

        Args:
          physics: [N, ...].
          action: int32 [N] for Discrete, float32 [N, D] for Box.

        Returns:
          (physics, reward float32 [N], terminated bool [N])
        """
        raise NotImplementedError

    def observe(self, physics):
        """Returns the observation [N, ...] of the physics; by default they are it."""
        return physics

    # What follows from it.

    def reset(self, seed):
        """Starts all copies.

        Args:
          seed: int32 [2].

        Returns:
          (state, observation [N, ...])
        """
        physics = self.initial(seed)
        state = State(physics, tf.zeros([self.num_envs], tf.int32))
        return state, self.observe(physics)

    def step(self, state, action, seed):
        """Steps all copies; those whose episode ends start a new one.

        Args:
          state: as `reset` or `step` returned it.
          action: int32 [N] for Discrete, float32 [N, D] for Box.
          seed: int32 [2], for the first states of new episodes.

        Returns:
          (state, TimeStep of tensors)
        """
        physics, reward, terminated = self.transition(
            state.physics, self._map_action(tf.convert_to_tensor(action))
        )
        num_steps = state.num_steps + 1
        truncated = num_steps >= self.max_episode_steps
        done = terminated | truncated
        next_state = State(
            tf.nest.map_structure(
                lambda new, old: _select(done, new, old), self.initial(seed), physics
            ),
            tf.where(done, 0, num_steps),
        )
        return next_state, TimeStep(
            observation=self.observe(next_state.physics),
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            final_observation=self.observe(physics),
        )

    def with_num_envs(self, num_envs):
        """Returns the same environment with another number of copies."""
        check_positive_integer("num_envs", num_envs)
        other = copy.copy(self)
        other.num_envs = num_envs
        return other


def wrap_angle(angle):
    """Returns the same angle in [-pi, pi]; what lies there already is unchanged."""
    return angle - 2 * math.pi * tf.round(angle / (2 * math.pi))


def _select(mask, new, old):
    """Takes `new` [N, ...] where `mask` [N] is true and `old` elsewhere."""
    return tf.where(tf.reshape(mask, [-1] + [1] * (old.shape.rank - 1)), new, old)
