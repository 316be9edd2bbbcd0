"""The acrobot."""

import numpy as np
import tensorflow as tf

from tfzoo import random
from tfzoo.environments import Acrobot

NO_TORQUE = tf.constant([1])


def energy(physics):
    """Kinetic and potential energy of two links, 1 m, 1 kg and 1 kg m^2 each."""
    angle_1, angle_2, velocity_1, velocity_2 = np.asarray(physics, np.float64).T
    both = velocity_1 + velocity_2
    # The centre of the second link moves with the first link's end and around it.
    speed_squared = velocity_1**2 + 0.25 * both**2 + velocity_1 * both * np.cos(angle_2)
    kinetic = 0.5 * (1.25 * velocity_1**2 + speed_squared + both**2)
    height_1 = -0.5 * np.cos(angle_1)
    height_2 = -np.cos(angle_1) - 0.5 * np.cos(angle_1 + angle_2)
    return kinetic + 9.8 * (height_1 + height_2)


def test_energy_is_kept_without_torque():
    # The equations come from this very energy. At moderate speed the integrator errs
    # by a few mJ in its step of 0.2 s, of the 39.2 J between hanging and standing.
    environment = Acrobot(200)
    physics = random.uniform([200, 4], random.make_seed(1), -1.0, 1.0)
    later, *_ = environment.transition(physics, tf.ones([200], tf.int32))
    assert np.abs(energy(later) - energy(physics)).max() < 0.01
    assert np.std(energy(physics)) > 2.0


def test_hanging_is_an_equilibrium():
    physics, reward, terminated = Acrobot().transition(tf.zeros([1, 4]), NO_TORQUE)
    np.testing.assert_array_equal(physics, np.zeros([1, 4]))
    assert float(reward[0]) == -1.0
    assert not bool(terminated[0])


def test_height_terminates_without_cost():
    # The first link level, the second upright: the end is one metre up. A little more
    # or less decides, also after 0.2 s of falling from a throw.
    for velocity, reached in ((2.0, True), (-2.0, False)):
        physics = tf.constant([[np.pi / 2, np.pi / 2, velocity, 0.0]], tf.float32)
        _, reward, terminated = Acrobot().transition(physics, NO_TORQUE)
        assert bool(terminated[0]) == reached
        assert float(reward[0]) == (0.0 if reached else -1.0)


def test_speeds_are_bounded_and_angles_wrapped():
    physics = tf.constant([[3.0, 3.0, 12.0, 28.0]])
    later, *_ = Acrobot().transition(physics, tf.constant([2]))
    assert np.all(np.abs(later[0, :2]) <= np.float32(np.pi))
    bounds = Acrobot.observation_space.high[4:]
    assert np.all(np.abs(later[0, 2:]) <= bounds)
