"""The plane of jumps against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from tfzoo import random
from tfzoo.environments import ManyJumps, State


@pytest.mark.parametrize(
    "jit_compile", [None, False, True], ids=["eager", "graph", "xla"]
)
def test_a_step_by_hand(jit_compile):
    environment = ManyJumps(400)
    step = environment.step
    if jit_compile is not None:
        step = tf.function(step, autograph=False, jit_compile=jit_compile)
    rng = np.random.default_rng(0)
    physics = rng.uniform(-1, 1, (400, 4)).astype(np.float32)
    action = rng.integers(0, 2908, 400).astype(np.int32)
    # Half of them have a goal that the jump leads to.
    embedding = environment.action_embedding
    physics[::2, 2:] = np.clip(physics[::2, :2] + embedding[action[::2], :2], -1, 1)
    state = State(tf.constant(physics), tf.zeros([400], tf.int32))
    _, now = step(state, tf.constant(action), random.make_seed(1))
    fails = embedding[action, 2] > 0
    position = np.where(
        fails[:, None],
        physics[:, :2],
        np.clip(physics[:, :2] + embedding[action, :2], -1, 1),
    )
    distance = np.linalg.norm(position - physics[:, 2:], axis=1)
    reached = distance < 0.03
    assert reached.sum() > 50
    np.testing.assert_array_equal(now.terminated, reached)
    np.testing.assert_allclose(
        now.reward, -distance - 0.5 * fails + reached, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        now.final_observation,
        np.concatenate([position, physics[:, 2:]], 1),
        rtol=1e-6,
        atol=1e-7,
    )


def test_jumps_fill_a_disc_and_some_fail():
    embedding = ManyJumps.action_embedding
    assert embedding.shape == (2908, 3)
    length = np.linalg.norm(embedding[:, :2], axis=1)
    # Of a uniform disc, a quarter lies within half of its radius.
    np.testing.assert_allclose(length.max(), 0.3, atol=1e-3)
    np.testing.assert_allclose(np.mean(length < 0.15), 0.25, atol=0.01)
    np.testing.assert_allclose(np.mean(embedding[:, 2] > 0), 0.3, atol=0.03)


def test_first_states_are_uniform_and_the_time_limit_truncates():
    environment = ManyJumps(5000, max_episode_steps=1)
    state, observation = environment.reset(random.make_seed(0))
    np.testing.assert_allclose(observation.numpy().mean(0), 0.0, atol=0.03)
    np.testing.assert_allclose(observation.numpy().std(0), 1 / np.sqrt(3), atol=0.02)
    _, now = environment.step(state, tf.zeros([5000], tf.int32), random.make_seed(1))
    assert now.truncated.numpy().all()
    assert not now.terminated.numpy().all()
