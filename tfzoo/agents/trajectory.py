"""What an agent remembers of its steps: named fields, time-major."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

# What is summed over the episodes that ended: their number, returns and lengths.
EPISODE_SUMS = ("episodes", "episode_return", "episode_length")


class Trajectory(NamedTuple):
    """T steps of N environment copies; every field is [T, N, ...].

    Attributes:
      observation: what the policy saw at step t.
      action: what it did, int32 [T, N] or [T, N, K], or float32 [T, N, D].
      reward: float32, the environment's own reward.
      terminated: bool, the episode ended in a terminal state.
      truncated: bool, the episode was cut by a time limit.
      final_observation: what followed the action, before any reset.
    """

    observation: tf.Tensor
    action: tf.Tensor
    reward: tf.Tensor
    terminated: tf.Tensor
    truncated: tf.Tensor
    final_observation: tf.Tensor

    @property
    def done(self):
        """Whether the episode ended at step t in either way, bool [T, N]."""
        return self.terminated | self.truncated


def transform_rewards(environment, trajectory):
    """Returns the trajectory with the rewards that the environment's user wants."""
    if environment.reward_transform is None:
        return trajectory
    rewards = environment.reward_transform(trajectory.reward)
    return trajectory._replace(reward=rewards)


class TrajectoryBuffer:
    """Preallocated arrays that a host environment's steps are written into.

    A field's array is made when its first value arrives, and used again afterwards.

    Args:
      num_steps: T, how many steps it holds.

    Example:
      buffer = TrajectoryBuffer(128)
      buffer.add(observation=..., action=..., reward=..., ...)   # 128 times
      trajectory = buffer.trajectory()
    """

    def __init__(self, num_steps):
        self.num_steps = num_steps
        self.size = 0
        self._fields = {}

    def add(self, **fields):
        """Writes one step; each value is an array [N, ...].

        Raises:
          IndexError: if the buffer is full.
        """
        if self.size == self.num_steps:
            raise IndexError(
                f"the trajectory buffer is full: it holds {self.num_steps} steps; "
                "call clear() first"
            )
        for name, value in fields.items():
            if name not in self._fields:
                value = np.asarray(value)
                self._fields[name] = np.zeros(
                    (self.num_steps, *value.shape), value.dtype
                )
            self._fields[name][self.size] = value
        self.size += 1

    def clear(self):
        """Forgets the steps and keeps the memory."""
        self.size = 0

    def trajectory(self):
        """Returns the steps as a `Trajectory` of arrays; unwritten ones are stale.

        The arrays are the buffer's own: use them before the next `add`.
        """
        return Trajectory(**self._fields)


class HostCollector:
    """Steps a host environment and remembers where it stands between iterations."""

    def __init__(self, environment, num_steps, whole_episodes):
        self.environment = environment
        self.whole_episodes = whole_episodes
        self.buffer = TrajectoryBuffer(num_steps)
        self.observation = None
        self.returns = np.zeros(environment.num_envs)
        self.lengths = np.zeros(environment.num_envs, int)

    def collect(self, act, seed):
        """Returns a Trajectory of arrays and the sums over the ended episodes."""
        if self.observation is None or self.whole_episodes:
            first = self.observation is None
            self.observation = self.environment.reset(seed if first else None)
            self.returns[:] = self.lengths[:] = 0
        sums = dict.fromkeys(EPISODE_SUMS, 0.0)
        playing = np.ones(self.environment.num_envs, bool)
        self.buffer.clear()
        while self.buffer.size < self.buffer.num_steps and playing.any():
            action = np.asarray(act(self.observation, np.int32(self.buffer.size)))
            step = self.environment.step(action)
            self.buffer.add(
                observation=self.observation,
                action=action,
                reward=step.reward,
                terminated=step.terminated,
                truncated=step.truncated,
                final_observation=step.final_observation,
            )
            self.observation = step.observation
            self.returns += step.reward
            self.lengths += 1
            done = step.terminated | step.truncated
            if done.any():
                ended = done & playing
                sums["episodes"] += ended.sum()
                sums["episode_return"] += self.returns[ended].sum()
                sums["episode_length"] += self.lengths[ended].sum()
                self.returns[done] = self.lengths[done] = 0
                if self.whole_episodes:
                    playing &= ~done
        return self.buffer.trajectory(), sums
