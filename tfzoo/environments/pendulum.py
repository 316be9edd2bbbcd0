"""The pendulum that swings up, with the equations of Gymnasium's Pendulum-v1."""

import math

import numpy as np
import tensorflow as tf
from gymnasium import spaces

from tfzoo import random
from tfzoo.environments.in_graph import InGraphEnvironment, wrap_angle

_GRAVITY = 10.0  # m/s^2
_MASS = 1.0  # kg
_LENGTH = 1.0  # m
_TIME_STEP = 0.05  # s
_MAX_SPEED = 8.0  # rad/s
_MAX_TORQUE = 2.0  # N m

_BOUNDS = np.array([1.0, 1.0, _MAX_SPEED], np.float32)


class Pendulum(InGraphEnvironment):
    """Swing a pendulum up and hold it there with a torque in [-2, 2].

    The physics are float32 [N, 2]: the angle from upright in [-pi, pi] and the angular
    velocity; the observation is float32 [N, 3]: cosine, sine, angular velocity. The
    reward is -(angle^2 + 0.1 velocity^2 + 0.001 torque^2); no state terminates.
    """

    id = "Pendulum-v1"
    max_episode_steps = 200
    observation_space = spaces.Box(-_BOUNDS, _BOUNDS, dtype=np.float32)
    action_space = spaces.Box(-_MAX_TORQUE, _MAX_TORQUE, (1,), np.float32)

    def initial(self, seed):
        """Draws the angle from [-pi, pi) and the velocity from [-1, 1)."""
        high = tf.constant([math.pi, 1.0])
        return random.uniform([self.num_envs, 2], seed, -high, high)

    def transition(self, physics, action):
        """Takes one semi-implicit Euler step."""
        angle, velocity = tf.unstack(physics, axis=1)
        # The environment itself clips, whatever `action_bounds` lets through.
        torque = tf.clip_by_value(action[:, 0], -_MAX_TORQUE, _MAX_TORQUE)
        reward = -(
            tf.square(angle) + 0.1 * tf.square(velocity) + 0.001 * tf.square(torque)
        )
        acceleration = (
            3 * _GRAVITY / (2 * _LENGTH) * tf.sin(angle)
            + 3 / (_MASS * _LENGTH**2) * torque
        )
        velocity = tf.clip_by_value(
            velocity + acceleration * _TIME_STEP, -_MAX_SPEED, _MAX_SPEED
        )
        # Gymnasium wraps only in the reward; here an angle that grows loses digits.
        angle = wrap_angle(angle + velocity * _TIME_STEP)
        terminated = tf.zeros([self.num_envs], tf.bool)
        return tf.stack([angle, velocity], axis=1), reward, terminated

    def observe(self, physics):
        """Shows the angle as a point on the circle."""
        angle, velocity = tf.unstack(physics, axis=1)
        return tf.stack([tf.cos(angle), tf.sin(angle), velocity], axis=1)
