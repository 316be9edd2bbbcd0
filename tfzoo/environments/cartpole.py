"""Cart-pole (Barto, Sutton and Anderson 1983, doi:10.1109/TSMC.1983.6313077).

The equations are those of Gymnasium's CartPole-v1 and -v0, in float32.
"""

import math

import numpy as np
import tensorflow as tf
from gymnasium import spaces

from tfzoo import random
from tfzoo.environments.in_graph import InGraphEnvironment

_GRAVITY = 9.8  # m/s^2
_POLE_MASS = 0.1  # kg
_TOTAL_MASS = 1.0 + _POLE_MASS  # kg
_HALF_LENGTH = 0.5  # m, from the joint to the centre of the pole
_POLE_MASS_LENGTH = _POLE_MASS * _HALF_LENGTH
_FORCE = 10.0  # N
_TIME_STEP = 0.02  # s
_MAX_POSITION = 2.4  # m
_MAX_ANGLE = math.radians(12)

_BOUNDS = np.array([2 * _MAX_POSITION, np.inf, 2 * _MAX_ANGLE, np.inf], np.float32)


class CartPole(InGraphEnvironment):
    """Keep a pole upright by pushing its cart left (0) or right (1).

    The physics and the observation are float32 [N, 4]: position, velocity, angle,
    angular velocity. Every step is rewarded with 1; the episode terminates when the
    cart leaves +-2.4 m or the pole leaves +-12 degrees.
    """

    id = "CartPole-v1"
    max_episode_steps = 500
    observation_space = spaces.Box(-_BOUNDS, _BOUNDS, dtype=np.float32)
    action_space = spaces.Discrete(2)

    def initial(self, seed):
        """Draws all four uniformly from [-0.05, 0.05)."""
        return random.uniform([self.num_envs, 4], seed, -0.05, 0.05)

    def transition(self, physics, action):
        """Takes one explicit Euler step."""
        _, x_velocity, angle, angle_velocity = tf.unstack(physics, axis=1)
        force = tf.where(action == 1, _FORCE, -_FORCE)
        cosine, sine = tf.cos(angle), tf.sin(angle)
        # Florian 2007, "Correct equations for the dynamics of the cart-pole system",
        # without friction.
        push = force + _POLE_MASS_LENGTH * tf.square(angle_velocity) * sine
        push /= _TOTAL_MASS
        angle_acceleration = (_GRAVITY * sine - cosine * push) / (
            _HALF_LENGTH * (4 / 3 - _POLE_MASS * tf.square(cosine) / _TOTAL_MASS)
        )
        x_acceleration = (
            push - _POLE_MASS_LENGTH * angle_acceleration * cosine / _TOTAL_MASS
        )
        physics += _TIME_STEP * tf.stack(
            [x_velocity, x_acceleration, angle_velocity, angle_acceleration], axis=1
        )
        terminated = (tf.abs(physics[:, 0]) > _MAX_POSITION) | (
            tf.abs(physics[:, 2]) > _MAX_ANGLE
        )
        return physics, tf.ones([self.num_envs]), terminated


class CartPoleV0(CartPole):
    """The same with the time limit of the older experiments."""

    id = "CartPole-v0"
    max_episode_steps = 200


class CartPolePositions(CartPole):
    """The same without velocities: what is observed now does not tell what to do.

    The observation is float32 [N, 2]: position and angle.
    """

    id = "CartPolePositions-v1"
    observation_space = spaces.Box(-_BOUNDS[[0, 2]], _BOUNDS[[0, 2]], dtype=np.float32)

    def observe(self, physics):
        """Returns position and angle."""
        return tf.gather(physics, [0, 2], axis=1)


class CartPoleFlickering(CartPole):
    """The same with every second observation, at random, replaced by zeros.

    As the flickering games of Hausknecht and Stone 2015 (arXiv:1507.06527). The physics
    are those of `CartPole` and a hash, uint32 [N], which the next state follows from
    and whose highest bit says whether this one is shown.
    """

    id = "CartPoleFlickering-v1"

    def initial(self, seed):
        """Draws the state as `CartPole` does, and the hash uniformly."""
        hash_seed = random.fold_in(seed, 1)
        return super().initial(seed), random.bits([self.num_envs], hash_seed)

    def transition(self, physics, action):
        """Takes one step, and hashes the hash."""
        state, hashed = physics
        state, reward, terminated = super().transition(state, action)
        return (state, _next_hash(hashed)), reward, terminated

    def observe(self, physics):
        """Returns the state, or zeros."""
        state, hashed = physics
        is_shown = tf.bitwise.right_shift(hashed, tf.constant(31, tf.uint32)) == 1
        return tf.where(is_shown[:, tf.newaxis], state, 0.0)


def _next_hash(x):
    """Returns the next uint32 [N] of a stream that looks random.

    A step of a Weyl sequence, then the finaliser of MurmurHash3 (Appleby 2011), both of
    which are one-to-one.
    """
    x += tf.constant(0x9E3779B9, tf.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        x = tf.bitwise.bitwise_xor(
            x, tf.bitwise.right_shift(x, tf.constant(shift, tf.uint32))
        )
        x *= tf.constant(factor, tf.uint32)
    return x
