"""The cart-pole."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfzoo import random
from tfzoo.environments import CartPole, State

SEED = random.make_seed(3)


@pytest.mark.parametrize(
    ("physics", "terminated"),
    [
        ([2.39, 0.0, 0.0, 0.0], False),
        ([2.41, 0.0, 0.0, 0.0], True),
        ([-2.41, 0.0, 0.0, 0.0], True),
        ([0.0, 0.0, math.radians(11.9), 0.0], False),
        ([0.0, 0.0, math.radians(-12.1), 0.0], True),
        # Position and angle move by the velocities before the step.
        ([2.39, 1.0, 0.0, 0.0], True),
        ([2.41, -1.0, 0.0, 0.0], False),
    ],
)
def test_termination(physics, terminated):
    environment = CartPole()
    _, step = environment.step(
        State(tf.constant([physics]), tf.constant([0])), [1], SEED
    )
    assert bool(step.terminated[0]) == terminated
    assert float(step.reward[0]) == 1.0


def test_mirrored_states_and_actions_give_mirrored_steps():
    environment = CartPole(64)
    physics = random.uniform([64, 4], SEED, -0.2, 0.2)
    action = tf.cast(random.bits([64], SEED) % 2, tf.int32)
    ours, *_ = environment.transition(physics, action)
    mirrored, *_ = environment.transition(-physics, 1 - action)
    np.testing.assert_array_equal(ours, -mirrored)
