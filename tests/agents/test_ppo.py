"""PPO's minibatch steps against the objectives of the paper, worked out by hand."""

from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

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
from tfzoo.agents import PPO
from tfzoo.agents.mirrored import MirroredTraining
from tfzoo.agents.on_policy import Batch

SEED = random.make_seed(1)
LEARNING_RATE = 1.0
EPOCHS, MINIBATCHES = 3, 2


def build(network=None, **options):
    agent = PPO(
        *SPACES,
        network=network or linear_network(),
        num_steps=6,
        **{"epochs": EPOCHS, "minibatches": MINIBATCHES, **options},
    )
    agent.compile(keras.optimizers.SGD(LEARNING_RATE), run_eagerly=True)
    return agent


def minibatches(agent, size):
    """The indices of every minibatch of an iteration with `SEED`, in order."""
    samples = Batch(*[tf.range(size)] * len(Batch._fields))
    for epoch in range(agent.epochs):
        order = agent.shuffle(samples, random.fold_in(SEED, epoch)).action.numpy()
        assert order.shape == (agent.minibatches, size // agent.minibatches)
        yield from order


def clipped_objective(ratio, advantage, clip_ratio):
    """The loss of equation 7, [B], and its derivative by log r."""
    clipped = np.clip(ratio, 1 - clip_ratio, 1 + clip_ratio)
    loss = -np.minimum(ratio * advantage, clipped * advantage)
    # Where the clipped one is the smaller, it does not change with r.
    return loss, np.where(ratio * advantage > clipped * advantage, 0.0, loss)


def value_objective(value, value_target, old_value, value_clip):
    """The loss of the value, [B], and its derivative."""
    error = value - value_target
    if value_clip is None:
        return error**2 / 2, error
    clipped = old_value + np.clip(value - old_value, -value_clip, value_clip)
    clipped_error = clipped - value_target
    return (
        np.maximum(error**2, clipped_error**2) / 2,
        np.where(clipped_error**2 > error**2, 0.0, error),
    )


def kl_divergence(old_log_probs, log_probs):
    """KL(pi_old || pi), [B]."""
    return np.sum(np.exp(old_log_probs) * (old_log_probs - log_probs), axis=1)


class Learned(NamedTuple):
    """What an iteration is to end with.

    Attributes:
      weights: of the network.
      metrics: their means over the minibatches that were learned from.
      kls: the divergence that each of these minibatches estimated.
      kl: the mean of KL(pi_old || pi) over the trajectory.
    """

    weights: list
    metrics: dict
    kls: list
    kl: float


def learn_by_hand(
    agent,
    trajectory,
    *,
    clip_ratio=0.2,
    kl_coefficient=None,
    value_clip=None,
    entropy_coefficient=0.0,
    value_coefficient=1.0,
    normalize_advantages=True,
    kl_stop=np.inf,
):
    """What `agent` is to make of a trajectory; the formulas are in `tfzoo.agents.ppo`.

    Each minibatch is a step of gradient descent.
    """
    model = LinearActorCritic(agent.network)
    everything = {
        "observation": flat(trajectory.observation),
        "action": one_hot(flat(trajectory.action)),
        "value_target": flat(
            lambda_returns(
                trajectory.reward,
                model.values(trajectory.final_observation),
                discount=0.99,
                gae_lambda=0.95,
            )
        ),
    }
    everything["old_log_probs"] = model.log_probs(everything["observation"])
    everything["old_value"] = model.values(everything["observation"])

    def update(observation, action, value_target, old_log_probs, old_value):
        advantage = value_target - old_value
        if normalize_advantages:
            advantage = standardized(advantage)
        log_probs = model.log_probs(observation)
        log_ratio = np.sum(action * (log_probs - old_log_probs), axis=1)
        ratio = np.exp(log_ratio)
        if kl_coefficient is None:
            policy_loss, by_log_ratio = clipped_objective(ratio, advantage, clip_ratio)
            by_logits = np.zeros_like(log_probs)
        else:
            policy_loss = by_log_ratio = -ratio * advantage
            policy_loss = policy_loss + kl_coefficient * kl_divergence(
                old_log_probs, log_probs
            )
            by_logits = kl_coefficient * (np.exp(log_probs) - np.exp(old_log_probs))
        by_logits = by_logits + by_log_ratio[:, None] * (action - np.exp(log_probs))
        policy_loss = policy_loss - entropy_coefficient * entropy(log_probs)
        by_logits = by_logits - entropy_coefficient * entropy_by_logits(log_probs)
        value_loss, by_value = value_objective(
            model.values(observation), value_target, old_value, value_clip
        )
        by_value = value_coefficient * by_value
        size = len(observation)
        model.descend(LEARNING_RATE, observation, by_logits / size, by_value / size)
        return {
            "policy_loss": policy_loss.mean(),
            "value_loss": value_loss.mean(),
            "entropy": entropy(log_probs).mean(),
            "kl": np.mean(ratio - 1 - log_ratio),
            "clip_fraction": np.mean(np.abs(ratio - 1) > clip_ratio),
        }

    metrics = []
    for chosen in minibatches(agent, len(everything["observation"])):
        metrics.append(update(**{name: x[chosen] for name, x in everything.items()}))
        if metrics[-1]["kl"] > 1.5 * kl_stop:
            break
    kl = kl_divergence(
        everything["old_log_probs"], model.log_probs(everything["observation"])
    )
    return Learned(
        model.weights,
        {name: np.mean([m[name] for m in metrics]) for name in agent.metric_names},
        [m["kl"] for m in metrics],
        kl.mean(),
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip_ratio": 0.05},
        {"normalize_advantages": False, "entropy_coefficient": 0.1},
        {"value_clip": 0.2, "value_coefficient": 0.5},
        {"kl_coefficient": 2.0},
    ],
    ids=["clip", "clip soon", "entropy", "value clip", "kl penalty"],
)
def test_takes_the_steps_of_the_paper(options):
    agent = build(
        objective="kl_penalty" if "kl_coefficient" in options else "clip", **options
    )
    trajectory = make_trajectory()
    expected = learn_by_hand(agent, trajectory, **options)
    # Every case is met: of a clipped objective, and of an unclipped one.
    assert 0.1 < expected.metrics["clip_fraction"] < 0.9
    metrics = agent.learn(as_tensors(trajectory), SEED)
    for name, value in expected.metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-3, atol=1e-5)
    assert_same_weights(agent.network, expected.weights, rtol=1e-3, atol=1e-5)
    assert agent.optimizer.iterations == EPOCHS * MINIBATCHES


def test_the_clip_ratio_may_follow_a_schedule():
    """Half of the steps of a fall from 0.1 to 0 done, it is 0.05."""
    schedule = keras.optimizers.schedules.PolynomialDecay(0.1, 1000, 0.0)
    agent = build(objective="clip", clip_ratio=schedule)
    agent.step_counter.assign(500)
    trajectory = make_trajectory()
    expected = learn_by_hand(agent, trajectory, clip_ratio=0.05)
    metrics = agent.learn(as_tensors(trajectory), SEED)
    for name, value in expected.metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-3, atol=1e-5)
    assert_same_weights(agent.network, expected.weights, rtol=1e-3, atol=1e-5)


def test_every_epoch_goes_over_every_sample_once_in_another_order():
    size = 18
    order = np.array(list(minibatches(build(), size))).reshape(EPOCHS, size)
    np.testing.assert_array_equal(np.sort(order), [np.arange(size)] * EPOCHS)
    assert len(np.unique(order, axis=0)) == EPOCHS
    # All fields of a sample stay together.
    samples = Batch(*[tf.range(size)] * len(Batch._fields))
    for field in build().shuffle(samples, random.fold_in(SEED, 0)):
        np.testing.assert_array_equal(np.ravel(field), order[0])


def test_learning_stops_once_the_policy_has_moved_too_far():
    trajectory = make_trajectory()
    kls = np.array(learn_by_hand(build(), trajectory).kls)
    # The first minibatch finds the old policy, and every other one has moved.
    assert abs(kls[0]) < 1e-12
    assert kls[1:].min() > 0.01
    # The third one, the first of the second epoch, is over what the second is at.
    assert kls[2] > 1.1 * kls[1]
    for kl_stop, updates in (
        (None, len(kls)),
        (kls.max(), len(kls)),
        (1e-9, 2),
        (0.99 * kls[1] / 1.5, 2),
        (1.01 * kls[1] / 1.5, 3),
    ):
        agent = build(kl_stop=kl_stop)
        agent.learn(as_tensors(trajectory), SEED)
        assert agent.optimizer.iterations == updates
        expected = learn_by_hand(build(), trajectory, kl_stop=kl_stop or np.inf)
        assert len(expected.kls) == updates
        assert_same_weights(agent.network, expected.weights, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("kl_target", "factor"), [(1e-6, 2.0), (1.0, 1.0), (1e6, 0.5)])
def test_the_coefficient_of_the_penalty_follows_the_divergence(kl_target, factor):
    trajectory = make_trajectory()
    expected = learn_by_hand(build(), trajectory, kl_coefficient=2.0)
    agent = build(
        objective="kl_penalty", kl_coefficient=2.0, kl_target=kl_target * expected.kl
    )
    agent.learn(as_tensors(trajectory), SEED)
    assert float(agent.kl_coefficient) == factor * 2.0


@pytest.mark.parametrize(
    ("options", "updates", "factor"),
    [
        ({"objective": "kl_penalty", "kl_target": 1e-9}, 6, 2.0),
        ({"objective": "kl_penalty", "kl_target": 1e3}, 6, 0.5),
        ({"kl_stop": 1e-9}, 2, None),
    ],
    ids=["penalty up", "penalty down", "stop"],
)
def test_two_devices_mind_the_divergence_as_one_does(options, updates, factor):
    environment = environments.make("CartPole-v1", 4)
    spaces = environment.observation_space, environment.action_space
    strategy = two_devices()

    def build():
        network = linear_network(num_features=4, num_actions=2)
        agent = PPO(
            *spaces, network=network, num_steps=4, epochs=3, minibatches=2, **options
        )
        agent.compile(keras.optimizers.SGD(LEARNING_RATE))
        return agent

    one = build()
    one.prepare(environment)
    trajectory, _, _ = one.collect(environment, one.read_carried(), SEED)
    metrics = one.learn(trajectory, SEED)
    with strategy.scope():
        two = build()
    two.prepare(environment)
    training = MirroredTraining(two, environment, strategy)
    both = training.learn(trajectory, SEED)

    for name in metrics:
        np.testing.assert_allclose(both[name], metrics[name], rtol=1e-3, atol=1e-5)
    assert_same_weights(two.network, one.network.get_weights(), rtol=1e-3, atol=1e-5)
    for agent in (one, two):
        assert int(agent.optimizer.iterations.numpy()) == updates
        if factor is not None:
            assert float(agent.kl_coefficient.numpy()) == factor
