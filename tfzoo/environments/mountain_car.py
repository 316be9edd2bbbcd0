"""The car in the valley (Moore 1990, "Efficient memory-based learning for robot
control", Cambridge technical report 209).

The equations are those of Gymnasium's MountainCar-v0 and MountainCarContinuous-v0. They
differ between the two: the force, where the goal is, and the reward.
"""

import numpy as np
import tensorflow as tf
from gymnasium import spaces

from tfzoo import random
from tfzoo.environments.in_graph import InGraphEnvironment

_MIN_POSITION, _MAX_POSITION = -1.2, 0.6
_MAX_SPEED = 0.07
_GRAVITY = 0.0025
_LOW = np.array([_MIN_POSITION, -_MAX_SPEED], np.float32)
_HIGH = np.array([_MAX_POSITION, _MAX_SPEED], np.float32)


class _Valley(InGraphEnvironment):
    """The track that both share: physics and observation are position and velocity."""

    observation_space = spaces.Box(_LOW, _HIGH, dtype=np.float32)

    def initial(self, seed):
        """Draws the position uniformly from [-0.6, -0.4); the car stands still."""
        position = random.uniform([self.num_envs], seed, -0.6, -0.4)
        return tf.stack([position, tf.zeros_like(position)], axis=1)

    def _drive(self, physics, force, goal):
        """Returns the physics after one step and whether the car is at the goal."""
        position, velocity = tf.unstack(physics, axis=1)
        velocity += force - _GRAVITY * tf.cos(3 * position)
        velocity = tf.clip_by_value(velocity, -_MAX_SPEED, _MAX_SPEED)
        position = tf.clip_by_value(position + velocity, _MIN_POSITION, _MAX_POSITION)
        # The left wall takes all speed.
        at_wall = (position == _MIN_POSITION) & (velocity < 0)
        velocity = tf.where(at_wall, 0.0, velocity)
        terminated = (position >= goal) & (velocity >= 0)
        return tf.stack([position, velocity], axis=1), terminated


class MountainCar(_Valley):
    """Drive out of a valley: push left (0), not (1) or right (2).

    The physics and the observation are float32 [N, 2]: position and velocity. Every
    step is rewarded with -1; the episode terminates at position 0.5.
    """

    id = "MountainCar-v0"
    max_episode_steps = 200
    action_space = spaces.Discrete(3)

    def transition(self, physics, action):
        """Takes one step of the track."""
        force = 0.001 * tf.cast(action - 1, tf.float32)
        physics, terminated = self._drive(physics, force, goal=0.5)
        return physics, -tf.ones([self.num_envs]), terminated


class MountainCarContinuous(_Valley):
    """Drive out of a valley with a force in [-1, 1], and save energy.

    The physics and the observation are float32 [N, 2]: position and velocity. A step
    costs 0.1 force^2 of the force asked for, even where it is more than the engine
    has; reaching position 0.45 terminates the episode and is worth 100.
    """

    id = "MountainCarContinuous-v0"
    max_episode_steps = 999
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def transition(self, physics, action):
        """Takes one step of the track."""
        asked = action[:, 0]
        force = 0.0015 * tf.clip_by_value(asked, -1.0, 1.0)
        physics, terminated = self._drive(physics, force, goal=0.45)
        reward = tf.where(terminated, 100.0, 0.0) - 0.1 * tf.square(asked)
        return physics, reward, terminated
