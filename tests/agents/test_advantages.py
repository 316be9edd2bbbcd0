"""Generalised advantage estimation against the explicit sum."""

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.agents.advantages import generalized_advantage_estimation


def explicit_sum(
    rewards, values, final_values, terminated, truncated, discount, gae_lambda
):
    """A_t = sum_k (discount lambda)^k delta_{t+k} up to the end of the episode."""
    num_steps, batch = rewards.shape
    advantages = np.zeros((num_steps, batch))
    for b in range(batch):
        for t in range(num_steps):
            weight = 1.0
            for k in range(t, num_steps):
                following = 0.0 if terminated[k, b] else final_values[k, b]
                delta = rewards[k, b] + discount * following - values[k, b]
                advantages[t, b] += weight * delta
                weight *= discount * gae_lambda
                if terminated[k, b] or truncated[k, b]:
                    break
    return advantages


def random_trajectories(seed, num_steps=40, batch=6):
    rng = np.random.default_rng(seed)
    return {
        "rewards": rng.normal(size=(num_steps, batch)).astype("float32"),
        "values": rng.normal(size=(num_steps, batch)).astype("float32"),
        "final_values": rng.normal(size=(num_steps, batch)).astype("float32"),
        "terminated": rng.random((num_steps, batch)) < 0.1,
        "truncated": rng.random((num_steps, batch)) < 0.1,
    }


@pytest.mark.parametrize("gae_lambda", [0.0, 0.95, 1.0])
@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_equals_the_explicit_sum(gae_lambda, jit_compile):
    data = random_trajectories(0)

    def estimate(data):
        return generalized_advantage_estimation(
            **data, discount=0.97, gae_lambda=gae_lambda
        )

    if jit_compile is not None:
        estimate = tf.function(estimate, autograph=False, jit_compile=jit_compile)
    advantages, targets = estimate({k: tf.constant(v) for k, v in data.items()})
    expected = explicit_sum(**data, discount=0.97, gae_lambda=gae_lambda)
    np.testing.assert_allclose(advantages, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(targets, expected + data["values"], rtol=1e-4, atol=1e-5)


def one_step(terminated, truncated):
    advantages, _ = generalized_advantage_estimation(
        rewards=tf.constant([[1.0]]),
        values=tf.constant([[0.0]]),
        final_values=tf.constant([[10.0]]),
        terminated=tf.constant([[terminated]]),
        truncated=tf.constant([[truncated]]),
        discount=0.5,
        gae_lambda=0.9,
    )
    return float(advantages[0, 0])


def test_termination_ends_the_bootstrap_and_truncation_does_not():
    assert one_step(terminated=True, truncated=False) == 1.0
    assert one_step(terminated=True, truncated=True) == 1.0
    assert one_step(terminated=False, truncated=True) == 6.0
    assert one_step(terminated=False, truncated=False) == 6.0


def test_lambda_one_gives_discounted_returns_of_whole_episodes():
    num_steps, discount = 20, 0.9
    terminated = np.zeros((num_steps, 1), bool)
    terminated[-1] = True
    rewards = np.random.default_rng(1).normal(size=(num_steps, 1)).astype("float32")
    values = tf.random.stateless_normal([num_steps + 1, 1], [1, 2])
    _, targets = generalized_advantage_estimation(
        rewards=tf.constant(rewards),
        values=values[:-1],
        final_values=values[1:],
        terminated=tf.constant(terminated),
        truncated=tf.zeros([num_steps, 1], tf.bool),
        discount=discount,
        gae_lambda=1.0,
    )
    returns = [
        sum(discount**k * r for k, r in enumerate(rewards[t:, 0]))
        for t in range(num_steps)
    ]
    np.testing.assert_allclose(targets[:, 0], returns, rtol=1e-4, atol=1e-5)
