"""What an agent remembers of its steps: named fields, time-major."""

from typing import Any, NamedTuple

import gymnasium as gym
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
      memory: what the agent remembered before step t, nested; () for most.
    """

    observation: tf.Tensor
    action: tf.Tensor
    reward: tf.Tensor
    terminated: tf.Tensor
    truncated: tf.Tensor
    final_observation: tf.Tensor
    memory: Any = ()

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


def collect_in_graph(
    environment, act, carried, num_steps, seed, *, whole_episodes=False
):
    """Acts in an in-graph environment.

    Args:
      environment: an `InGraphEnvironment` of N copies.
      act: a function of (t, observation [N, ...], memory) to (action, memory).
      carried: (state, observation, memory, returns [N], lengths [N]): where the
        environment stands, what the agent remembers, and how far the episodes under
        way are; as it was last returned. A memory is zero at the start of an episode.
      num_steps: T.
      seed: int32 [2], for the environment.
      whole_episodes: whether only the first episode of each copy counts, and steps
        end with the last of these.

    Returns:
      (a `Trajectory` of tensors [T, N, ...], what to carry on, a dict of
      `EPISODE_SUMS` over the episodes that ended)
    """

    def step(t, playing, carried, sums, arrays):
        state, observation, memory, returns, lengths = carried
        action, next_memory = act(t, observation, memory)
        state, now = environment.step(state, action, seed + tf.stack([0, t]))
        done = now.terminated | now.truncated
        ended = done & playing
        returns, lengths = returns + now.reward, lengths + 1
        sums = (
            sums[0] + tf.reduce_sum(tf.cast(ended, tf.float32)),
            sums[1] + tf.reduce_sum(tf.where(ended, returns, 0.0)),
            sums[2] + tf.reduce_sum(tf.where(ended, lengths, 0)),
        )
        row = Trajectory(
            observation,
            action,
            now.reward,
            now.terminated,
            now.truncated,
            now.final_observation,
            memory,
        )
        arrays = [
            array.write(t, value)
            for array, value in zip(arrays, tf.nest.flatten(row), strict=True)
        ]
        carried = (
            state,
            now.observation,
            tf.nest.map_structure(lambda m: forget(m, done), next_memory),
            tf.where(done, 0.0, returns),
            tf.where(done, 0, lengths),
        )
        if whole_episodes:
            playing &= ~done
        return t + 1, playing, carried, sums, arrays

    num_envs, action_space = environment.num_envs, environment.action_space
    is_box = isinstance(action_space, gym.spaces.Box)
    flags = tf.TensorSpec([num_envs], tf.bool)
    _, observation, memory, _, _ = carried
    specs = Trajectory(
        observation,
        tf.TensorSpec(
            [num_envs, *action_space.shape], tf.float32 if is_box else tf.int32
        ),
        tf.TensorSpec([num_envs], tf.float32),
        flags,
        flags,
        observation,
        memory,
    )
    arrays = [
        tf.TensorArray(spec.dtype, num_steps, element_shape=spec.shape)
        for spec in tf.nest.flatten(specs)
    ]
    _, _, carried, sums, arrays = tf.while_loop(
        lambda t, playing, *_: (t < num_steps) & tf.reduce_any(playing),
        step,
        (0, tf.ones([num_envs], tf.bool), carried, (0.0, 0.0, 0), arrays),
        maximum_iterations=num_steps,
    )
    trajectory = tf.nest.pack_sequence_as(specs, [array.stack() for array in arrays])
    sums = (sums[0], sums[1], tf.cast(sums[2], tf.float32))
    return trajectory, carried, dict(zip(EPISODE_SUMS, sums, strict=True))


def forget(memory, done):
    """Returns memory [N, ...] with zeros where `done` [N] is true."""
    done = tf.reshape(done, [-1] + [1] * (memory.shape.rank - 1))
    return tf.where(done, tf.zeros_like(memory), memory)


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
    """Steps a host environment and remembers where it stands between iterations.

    Args:
      environment: a host environment of N copies.
      num_steps: T, the steps of each in an iteration.
      whole_episodes: whether only the first episode of each copy counts, and each
        iteration begins with new ones.
      memory: what the agent remembers when an episode begins, zeros [N, ...], nested.
    """

    def __init__(self, environment, num_steps, *, whole_episodes=False, memory=()):
        self.environment = environment
        self.whole_episodes = whole_episodes
        self.buffer = TrajectoryBuffer(num_steps)
        self.observation = None
        self.memory = tf.nest.map_structure(np.array, memory)
        self.returns = np.zeros(environment.num_envs)
        self.lengths = np.zeros(environment.num_envs, int)

    def collect(self, act, seed):
        """Returns a `Trajectory` of arrays and the sums over the ended episodes.

        Args:
          act: a function of (observation [N, ...], memory, t) to (action, memory).
          seed: an integer, for the first reset.
        """
        if self.observation is None or self.whole_episodes:
            first = self.observation is None
            self.observation = self.environment.reset(seed if first else None)
            self.returns[:] = self.lengths[:] = 0
        sums = dict.fromkeys(EPISODE_SUMS, 0.0)
        playing = np.ones(self.environment.num_envs, bool)
        memories = []
        self.buffer.clear()
        while self.buffer.size < self.buffer.num_steps and playing.any():
            memories.append(self.memory)
            t = np.int32(self.buffer.size)
            action, memory = act(self.observation, self.memory, t)
            action = np.asarray(action)
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
            # Copies, as some are set to zero below.
            self.memory = tf.nest.map_structure(np.array, memory)
            self.returns += step.reward
            self.lengths += 1
            done = step.terminated | step.truncated
            if done.any():
                ended = done & playing
                sums["episodes"] += ended.sum()
                sums["episode_return"] += self.returns[ended].sum()
                sums["episode_length"] += self.lengths[ended].sum()
                self.returns[done] = self.lengths[done] = 0
                for array in tf.nest.flatten(self.memory):
                    array[done] = 0
                if self.whole_episodes:
                    playing &= ~done
        memory = tf.nest.map_structure(lambda *steps: np.stack(steps), *memories)
        return self.buffer.trajectory()._replace(memory=memory), sums
