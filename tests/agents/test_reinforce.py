"""REINFORCE's step against the sum over whole episodes, worked out by hand."""

import keras
import numpy as np
import pytest

from tests.agents.linear_actor_critic import (
    DONE,
    SPACES,
    LinearActorCritic,
    as_tensors,
    assert_same_weights,
    entropy,
    entropy_by_logits,
    lambda_returns,
    linear_network,
    make_trajectory,
    one_hot,
    standardized,
)
from tfzoo import random
from tfzoo.agents import REINFORCE

SEED = random.make_seed(1)
# The copies' first episodes take two, two and three steps.
PLAYED = np.array([[1, 1, 1], [1, 1, 1], [0, 0, 1]] + [[0, 0, 0]] * 3, bool)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalize_advantages": False},
        {"entropy_coefficient": 0.5, "value_coefficient": 0.25, "discount": 0.8},
    ],
    ids=["defaults", "as they are", "coefficients"],
)
def test_takes_one_step_down_the_gradient_of_the_first_episodes(options):
    trajectory = make_trajectory()
    network = linear_network()
    expected = LinearActorCritic(network)
    agent = REINFORCE(*SPACES, network=network, num_steps=6, **options)
    agent.compile(keras.optimizers.SGD(0.3), run_eagerly=True)
    metrics = agent.learn(as_tensors(trajectory), SEED)

    observation, action = trajectory.observation[PLAYED], trajectory.action[PLAYED]
    value = expected.values(observation)
    # Monte-Carlo returns: where the second copy was cut off, V stands for the rest.
    value_target = lambda_returns(
        trajectory.reward,
        expected.values(trajectory.final_observation),
        options.get("discount", 0.99),
        1.0,
    )[PLAYED]
    advantage = value_target - value
    if options.get("normalize_advantages", True):
        advantage = standardized(advantage)
    log_probs = expected.log_probs(observation)
    log_prob = np.sum(one_hot(action) * log_probs, axis=1)
    bonus = options.get("entropy_coefficient", 0.0)
    np.testing.assert_allclose(
        metrics["policy_loss"],
        np.mean(-advantage * log_prob - bonus * entropy(log_probs)),
        rtol=1e-4,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        metrics["value_loss"], np.mean((value - value_target) ** 2) / 2, rtol=1e-4
    )
    np.testing.assert_allclose(metrics["entropy"], entropy(log_probs).mean(), rtol=1e-4)
    by_logits = advantage[:, None] * (np.exp(log_probs) - one_hot(action))
    by_logits -= bonus * entropy_by_logits(log_probs)
    by_values = options.get("value_coefficient", 1.0) * (value - value_target)
    size = PLAYED.sum()
    expected.descend(0.3, observation, by_logits / size, by_values / size)
    assert_same_weights(network, expected.weights)
    assert agent.optimizer.iterations == 1


def test_what_follows_the_first_episodes_does_not_matter():
    assert DONE[PLAYED].sum() == 3
    trajectory, other = make_trajectory(), make_trajectory(seed=1)
    later = ~PLAYED
    for field in ("observation", "action", "reward", "final_observation"):
        getattr(trajectory, field)[PLAYED] = getattr(other, field)[PLAYED]
        assert (getattr(trajectory, field)[later] != getattr(other, field)[later]).any()
    networks = [linear_network(), linear_network()]
    for network, data in zip(networks, (trajectory, other), strict=True):
        agent = REINFORCE(*SPACES, network=network, num_steps=6)
        agent.compile(keras.optimizers.SGD(0.3), run_eagerly=True)
        agent.learn(as_tensors(data), SEED)
    assert_same_weights(networks[0], networks[1].get_weights())
