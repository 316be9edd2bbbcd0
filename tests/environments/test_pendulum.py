"""The pendulum."""

import numpy as np
import tensorflow as tf

from tfzoo import random
from tfzoo.environments import Pendulum

SEED = random.make_seed(3)


def test_rest_upright_is_an_equilibrium_and_costs_nothing():
    physics, reward, terminated = Pendulum().transition(
        tf.zeros([1, 2]), tf.zeros([1, 1])
    )
    np.testing.assert_array_equal(physics, [[0.0, 0.0]])
    assert float(reward[0]) == 0.0
    assert not bool(terminated[0])


def test_reward_is_the_formula():
    angle, velocity, torque = -2.0, 5.0, 1.5
    _, reward, _ = Pendulum().transition(
        tf.constant([[angle, velocity]]), tf.constant([[torque]])
    )
    expected = -(angle**2 + 0.1 * velocity**2 + 0.001 * torque**2)
    np.testing.assert_allclose(reward, [expected], rtol=1e-6)


def test_the_engine_has_no_more_than_its_torque():
    environment = Pendulum(action_bounds="none")
    state, _ = environment.reset(SEED)
    _, more = environment.step(state, tf.constant([[50.0]]), SEED)
    _, most = environment.step(state, tf.constant([[2.0]]), SEED)
    np.testing.assert_array_equal(more.observation, most.observation)
    np.testing.assert_array_equal(more.reward, most.reward)


def test_the_angle_never_grows_however_long_it_turns():
    physics = tf.constant([[0.0, 8.0]])
    for _ in range(100):
        physics, *_ = Pendulum().transition(physics, tf.constant([[2.0]]))
        assert abs(float(physics[0, 0])) <= np.float32(np.pi)
