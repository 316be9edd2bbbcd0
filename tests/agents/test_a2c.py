"""A2C's step against the paper's gradient, worked out by hand."""

import keras
import numpy as np
import pytest

from tests.agents.linear_actor_critic import (
    SPACES,
    LinearActorCritic,
    as_tensors,
    assert_same_weights,
    entropy,
    entropy_by_logits,
    flat,
    lambda_returns,
    linear_network,
    make_trajectory,
    one_hot,
    standardized,
)
from tests.devices import two_devices
from tfzoo import environments, random
from tfzoo.agents import A2C
from tfzoo.agents.mirrored import MirroredTraining

SEED = random.make_seed(1)
OPTIMIZERS = {
    "plain": lambda: keras.optimizers.SGD(0.1),
    "a fixed scale": lambda: keras.optimizers.SGD(0.1, loss_scale_factor=1024.0),
    "a dynamic scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1)
    ),
}


def build(optimizer, network=None, **options):
    agent = A2C(*SPACES, network=network or linear_network(), num_steps=6, **options)
    agent.compile(optimizer, run_eagerly=True)
    return agent


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalize_advantages": True},
        {"gae_lambda": 0.7, "discount": 0.8, "value_coefficient": 0.25},
        {"entropy_coefficient": 0.5},
    ],
    ids=["defaults", "normalised", "discounts", "entropy"],
)
def test_takes_one_step_down_the_gradient_of_the_paper(options):
    trajectory = make_trajectory()
    network = linear_network()
    expected = LinearActorCritic(network)
    agent = build(keras.optimizers.SGD(0.3), network, **options)
    metrics = agent.learn(as_tensors(trajectory), SEED)

    observation, action = flat(trajectory.observation), flat(trajectory.action)
    value = expected.values(observation)
    value_target = flat(
        lambda_returns(
            trajectory.reward,
            expected.values(trajectory.final_observation),
            options.get("discount", 0.99),
            options.get("gae_lambda", 1.0),
        )
    )
    advantage = value_target - value
    if "normalize_advantages" in options:
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
    size = len(action)
    expected.descend(0.3, observation, by_logits / size, by_values / size)
    assert_same_weights(network, expected.weights)
    assert agent.optimizer.iterations == 1


def test_a_regulariser_of_the_network_pulls_its_kernels_to_zero():
    networks = [
        linear_network(kernel_regularizer=regularizer)
        for regularizer in (None, keras.regularizers.L2(0.25))
    ]
    start = networks[0].get_weights()
    for network in networks:
        agent = build(keras.optimizers.SGD(0.1), network)
        agent.learn(as_tensors(make_trajectory()), SEED)
    for w, without, regularised in zip(
        start, *(n.get_weights() for n in networks), strict=True
    ):
        # The gradient of 0.25 w^2, for kernels only.
        pull = 0.1 * 2 * 0.25 * w if w.ndim == 2 else 0.0
        np.testing.assert_allclose(regularised, without - pull, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["a fixed scale", "a dynamic scale"])
def test_a_scaled_loss_gives_the_same_step(name):
    plain, scaled = (build(OPTIMIZERS[n]()) for n in ("plain", name))
    start = plain.network.get_weights()
    for agent in (plain, scaled):
        agent.learn(as_tensors(make_trajectory()), SEED)
    after = plain.network.get_weights()
    assert min(np.abs(a - b).max() for a, b in zip(start, after, strict=True)) > 1e-2
    assert_same_weights(scaled.network, after)


@pytest.mark.parametrize("name", ["a fixed scale", "a dynamic scale"])
def test_a_scaled_loss_is_refused_on_two_devices(name):
    environment = environments.make("CartPole-v1", 4)
    strategy = two_devices()
    with strategy.scope():
        agent = A2C(environment.observation_space, environment.action_space)
        agent.compile(OPTIMIZERS[name]())
    with pytest.raises(ValueError, match="scales the loss, which cannot be done on"):
        MirroredTraining(agent, environment, strategy)
