"""The two mountain cars."""

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.environments import MountainCar, MountainCarContinuous

PUSH_RIGHT = {
    MountainCar: tf.constant([2]),
    MountainCarContinuous: tf.constant([[1.0]]),
}


@pytest.mark.parametrize("environment", PUSH_RIGHT)
def test_the_left_wall_takes_all_speed(environment):
    physics, _, terminated = environment().transition(
        tf.constant([[-1.19, -0.05]]), PUSH_RIGHT[environment]
    )
    np.testing.assert_array_equal(physics, np.float32([[-1.2, 0.0]]))
    assert not bool(terminated[0])


@pytest.mark.parametrize(
    ("environment", "goal"), [(MountainCar, 0.5), (MountainCarContinuous, 0.45)]
)
def test_the_goal_terminates(environment, goal):
    for position, reached in ((goal - 0.04, False), (goal - 0.02, True)):
        *_, terminated = environment().transition(
            tf.constant([[position, 0.03]]), PUSH_RIGHT[environment]
        )
        assert bool(terminated[0]) == reached


def test_the_goal_is_worth_100_and_a_step_costs_the_squared_force():
    environment = MountainCarContinuous()
    for position, bonus in ((0.44, 100.0), (-0.5, 0.0)):
        _, reward, _ = environment.transition(
            tf.constant([[position, 0.05]]), tf.constant([[0.5]])
        )
        np.testing.assert_allclose(reward, [bonus - 0.025], rtol=1e-6)


def test_force_beyond_the_engine_s_is_charged_but_has_no_effect():
    environment = MountainCarContinuous()
    state = tf.constant([[-0.5, 0.0]])
    most, *_ = environment.transition(state, tf.constant([[1.0]]))
    more, reward, _ = environment.transition(state, tf.constant([[3.0]]))
    np.testing.assert_array_equal(more, most)
    np.testing.assert_allclose(reward, [-0.9], rtol=1e-6)
