"""The two-link robot that swings up (Sutton 1996, "Generalization in reinforcement
learning"), with the equations of Gymnasium's Acrobot-v1, in float32.
"""

import math

import numpy as np
import tensorflow as tf
from gymnasium import spaces

from tfzoo import random
from tfzoo.environments.in_graph import InGraphEnvironment, wrap_angle

_GRAVITY = 9.8  # m/s^2
_MASS = 1.0  # kg, of each link
_LENGTH = 1.0  # m, of the first link
_CENTER = 0.5  # m, from a link's joint to its centre of mass
_INERTIA = 1.0  # kg m^2, of each link
_TIME_STEP = 0.2  # s
_MAX_SPEED = np.array([4 * math.pi, 9 * math.pi], np.float32)  # rad/s

_BOUNDS = np.array([1.0, 1.0, 1.0, 1.0, *_MAX_SPEED], np.float32)


class Acrobot(InGraphEnvironment):
    """Swing the free end of a two-link pendulum up by a torque at its elbow.

    The actions 0, 1 and 2 are the torques -1, 0 and 1 N m. The physics are float32
    [N, 4]: the angle of the first link from hanging down, that of the second link
    relative to the first, both in [-pi, pi], and their velocities; the observation is
    float32 [N, 6]: cosine and sine of each angle, both velocities. A step costs 1; the
    episode terminates, without cost, when the free end is one link above the joint.
    """

    id = "Acrobot-v1"
    max_episode_steps = 500
    observation_space = spaces.Box(-_BOUNDS, _BOUNDS, dtype=np.float32)
    action_space = spaces.Discrete(3)

    def initial(self, seed):
        """Draws all four uniformly from [-0.1, 0.1)."""
        return random.uniform([self.num_envs, 4], seed, -0.1, 0.1)

    def transition(self, physics, action):
        """Takes one step of the classical Runge-Kutta method of fourth order."""
        torque = tf.cast(action - 1, tf.float32)
        k1 = _derivative(physics, torque)
        k2 = _derivative(physics + _TIME_STEP / 2 * k1, torque)
        k3 = _derivative(physics + _TIME_STEP / 2 * k2, torque)
        k4 = _derivative(physics + _TIME_STEP * k3, torque)
        physics += _TIME_STEP / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        angles = wrap_angle(physics[:, :2])
        velocities = tf.clip_by_value(physics[:, 2:], -_MAX_SPEED, _MAX_SPEED)
        height = -tf.cos(angles[:, 0]) - tf.cos(angles[:, 0] + angles[:, 1])
        terminated = height > 1.0
        reward = tf.where(terminated, 0.0, -1.0)
        return tf.concat([angles, velocities], axis=1), reward, terminated

    def observe(self, physics):
        """Shows the angles as points on the circle."""
        angle_1, angle_2, velocity_1, velocity_2 = tf.unstack(physics, axis=1)
        return tf.stack(
            [
                tf.cos(angle_1),
                tf.sin(angle_1),
                tf.cos(angle_2),
                tf.sin(angle_2),
                velocity_1,
                velocity_2,
            ],
            axis=1,
        )


def _derivative(physics, torque):
    """The equations of motion of Sutton and Barto's book, d physics / dt."""
    angle_1, angle_2, velocity_1, velocity_2 = tf.unstack(physics, axis=1)
    cosine_2, sine_2 = tf.cos(angle_2), tf.sin(angle_2)
    # Entries of the mass matrix; the lower right one is `inertia_22`.
    coupling = _MASS * _LENGTH * _CENTER
    inertia_22 = _MASS * _CENTER**2 + _INERTIA
    inertia_12 = inertia_22 + coupling * cosine_2
    inertia_11 = 2 * inertia_22 + _MASS * _LENGTH**2 + 2 * coupling * cosine_2
    # Moments of gravity and of the centrifugal and Coriolis forces. Where Gymnasium
    # has cos(angle - pi/2), here stands the sine.
    moment_2 = _MASS * _CENTER * _GRAVITY * tf.sin(angle_1 + angle_2)
    moment_1 = (
        -coupling * velocity_2 * (velocity_2 + 2 * velocity_1) * sine_2
        + _MASS * (_CENTER + _LENGTH) * _GRAVITY * tf.sin(angle_1)
        + moment_2
    )
    ratio = inertia_12 / inertia_11
    acceleration_2 = (
        torque + ratio * moment_1 - coupling * tf.square(velocity_1) * sine_2 - moment_2
    ) / (inertia_22 - inertia_12 * ratio)
    acceleration_1 = -ratio * acceleration_2 - moment_1 / inertia_11
    return tf.stack([velocity_1, velocity_2, acceleration_1, acceleration_2], axis=1)
