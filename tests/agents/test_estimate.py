"""What the on-policy agents share, number by number: collecting and estimating."""

import functools

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.agents.linear_actor_critic import (
    DONE,
    LinearActorCritic,
    as_tensors,
    assert_same_weights,
    flat,
    lambda_returns,
    linear_network,
    log_softmax,
    make_trajectory,
)
from tests.devices import two_devices
from tfzoo import environments, random
from tfzoo.agents import A2C, PPO, REINFORCE
from tfzoo.agents.mirrored import MirroredTraining
from tfzoo.agents.on_policy import standardize
from tfzoo.environments import InGraphEnvironment

SEED = random.make_seed(1)


class Dice(InGraphEnvironment):
    """Shows a number that is drawn anew for every episode, which is one step long."""

    id = "Dice"
    max_episode_steps = 1
    observation_space = gym.spaces.Box(0.0, 1.0, (1,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def initial(self, seed):
        return random.uniform([self.num_envs, 1], seed)

    def transition(self, physics, action):
        still = tf.zeros([self.num_envs])
        return physics, still, tf.cast(still, tf.bool)


def build(environment, make=A2C, *, optimizer=None, run_eagerly=True, **options):
    """An agent with a linear network."""
    options.setdefault("network_options", {"hidden_units": ()})
    agent = make(environment.observation_space, environment.action_space, **options)
    agent.compile(optimizer or keras.optimizers.SGD(0.1), run_eagerly=run_eagerly)
    return agent


def fit_once(kind, *, reward_transform=None, **options):
    """An agent after one iteration of four copies of CartPole, and its history."""
    environment = environments.make(
        "CartPole-v1",
        4,
        vectorization="sync" if kind == "sync" else "in_graph",
        max_episode_steps=8,
        reward_transform=reward_transform,
    )
    if kind == "two devices":
        with two_devices().scope():
            agent = build(environment, run_eagerly=False, **options)
    else:
        agent = build(environment, **options)
    history = agent.fit(environment, 4 * agent.num_steps, verbose=0).history
    return agent, history


KINDS = pytest.mark.parametrize("kind", ["in_graph", "sync", "two devices"])


@pytest.mark.parametrize(
    "make",
    [functools.partial(PPO, minibatches=1), A2C, REINFORCE],
    ids=["ppo", "a2c", "reinforce"],
)
def test_estimates_equal_a_plain_loop(make):
    """Over two iterations: discounted returns go on from one to the next."""
    environment = environments.make("CartPole-v1", 3, max_episode_steps=6)
    network = linear_network(num_features=4, num_actions=2)
    agent = build(
        environment,
        make,
        network=network,
        num_steps=6,
        discount=0.9,
        normalize_rewards=True,
    )
    agent.prepare(environment)
    model = LinearActorCritic(network)
    every_return, discounted = np.zeros(0), np.zeros(3)
    for iteration in range(2):
        trajectory = make_trajectory(iteration, num_features=4, num_actions=2)
        batch = agent.estimate(as_tensors(trajectory))

        history = np.zeros(DONE.shape)
        counts = np.ones(DONE.shape, bool)
        if agent.whole_episodes:
            discounted = np.zeros(3)
        for t in range(len(DONE)):
            discounted = trajectory.reward[t] + 0.9 * discounted
            history[t] = discounted
            discounted = np.where(DONE[t], 0.0, discounted)
            if agent.whole_episodes and t + 1 < len(DONE):
                counts[t + 1] = counts[t] & ~DONE[t]
        every_return = np.append(every_return, history[counts])
        rewards = trajectory.reward / every_return.std()
        np.testing.assert_allclose(agent.discounted_return, discounted, rtol=1e-4)
        # Two copies have just ended.
        np.testing.assert_array_equal(discounted == 0, [True, True, False])

        observation = flat(trajectory.observation)
        values = model.values(observation)
        value_targets = flat(
            lambda_returns(
                rewards,
                model.values(trajectory.final_observation),
                0.9,
                agent.gae_lambda,
            )
        )
        log_probs = model.log_probs(observation)
        action = flat(trajectory.action)
        for got, expected in (
            (batch.observation, observation),
            (batch.action, action),
            (batch.old_value, values),
            (batch.value_target, value_targets),
            (batch.advantage, value_targets - values),
            (
                batch.old_log_prob,
                np.take_along_axis(log_probs, action[:, None], 1)[:, 0],
            ),
            (log_softmax(batch.old_outputs), log_probs),
        ):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_standardize():
    values = np.random.default_rng(0).normal(3.0, 2.0, 50).astype("float32")
    result = standardize(tf.constant(values))
    np.testing.assert_allclose(result, (values - values.mean()) / values.std(), 1e-4)
    # A weight of nought leaves a value out.
    weight = np.repeat([0.0, 1.0], 25).astype("float32") / 25
    result = standardize(tf.constant(values), tf.constant(weight))[25:]
    values = values[25:]
    np.testing.assert_allclose(result, (values - values.mean()) / values.std(), 1e-4)


@KINDS
def test_learns_from_the_transformed_reward_and_reports_the_other(kind):
    # Without a discount, the statistics of the discounted return are of the rewards.
    agent, history = fit_once(
        kind,
        reward_transform=lambda reward: -2.5 * reward,
        normalize_rewards=True,
        discount=0.0,
        num_steps=16,
    )
    assert float(agent.reward_normalization.mean.numpy()) == -2.5
    assert history["episodes"][0] >= 2 * 4
    assert history["episode_return"] == history["episode_length"]


@KINDS
def test_learns_with_the_statistics_that_acted(kind):
    """The first iteration is the one without normalisation: mean 0 and variance 1."""
    normalised, plain = (
        fit_once(kind, num_steps=4, normalize_observations=normalize)[0]
        for normalize in (True, False)
    )
    assert_same_weights(normalised.network, plain.network.get_weights())
    assert float(normalised.observation_normalization.count.numpy()) == 16
    assert np.abs(normalised.observation_normalization.mean.numpy()).min() > 0


def test_every_step_in_the_graph_has_random_numbers_of_its_own():
    environment = Dice(3)
    agent = build(environment, num_steps=8)
    agent.prepare(environment)
    agent.network.set_weights([0 * w for w in agent.network.get_weights()])
    carried, trajectories = agent.read_carried(), []
    for seed in (0, 1):
        trajectory, carried, _ = agent.collect(
            environment, carried, random.make_seed(seed)
        )
        trajectories.append(trajectory)
    for field in ("observation", "action"):
        drawn = np.array([getattr(t, field) for t in trajectories])
        assert len(np.unique(drawn)) == drawn.size == 2 * 8 * 3


def test_every_device_has_random_numbers_of_its_own():
    environment = Dice(2)
    strategy = two_devices()
    with strategy.scope():
        agent = build(environment, num_steps=8, run_eagerly=False)
    agent.network.set_weights([0 * w for w in agent.network.get_weights()])
    agent.prepare(environment)
    training = MirroredTraining(agent, environment, strategy)
    trajectory, _, _ = training.collect(agent.read_carried(), SEED)
    for field in ("observation", "action"):
        drawn = np.array(getattr(trajectory, field))
        assert len(np.unique(drawn)) == drawn.size == 8 * 2


def test_every_step_on_the_host_has_noise_of_its_own(monkeypatch):
    environment = environments.make("Pendulum-v1", 2, vectorization="sync")
    agent = build(environment, num_steps=4, optimizer=keras.optimizers.SGD(0.0))
    # Mean 0 and deviation 1: an action is its noise.
    agent.network.set_weights([0 * w for w in agent.network.get_weights()])
    actions, step = [], environment.step
    monkeypatch.setattr(
        environment, "step", lambda action: actions.append(action) or step(action)
    )
    agent.fit(environment, 24, verbose=0)
    assert len(np.unique(actions)) == np.size(actions) == 24


def test_neighbouring_seeds_share_no_first_observations_on_the_host():
    environment = environments.make("Pendulum-v1", 8, vectorization="sync")
    first = np.concatenate([environment.reset(seed) for seed in range(3)])
    assert len(np.unique(first, axis=0)) == 3 * 8
    np.testing.assert_array_equal(environment.reset(0), first[:8])


def test_a_run_resumed_on_the_host_begins_its_discounted_returns_anew(tmp_path):
    def make():
        # No pole falls within the four steps.
        environment = environments.make("CartPole-v1", 2, vectorization="sync")
        options = {"num_steps": 2, "discount": 0.5, "normalize_rewards": True}
        agent = build(environment, **options)
        agent.prepare(environment)
        return agent, environment

    agent, environment = make()
    agent.fit(environment, 4, verbose=0)
    np.testing.assert_allclose(agent.discounted_return, [1.5, 1.5])
    path = tf.train.Checkpoint(agent=agent).write(str(tmp_path / "checkpoint"))
    resumed, another = make()
    tf.train.Checkpoint(agent=resumed).read(path)
    np.testing.assert_allclose(resumed.discounted_return, [1.5, 1.5])
    resumed.fit(another, 8, initial_step=4, verbose=0)
    np.testing.assert_allclose(resumed.discounted_return, [1.5, 1.5])
    # A run that goes on in the same process goes on with its episodes.
    agent.fit(environment, 8, initial_step=4, verbose=0)
    np.testing.assert_allclose(agent.discounted_return, [1.875, 1.875])


def test_steps_may_be_floats_without_a_fraction():
    environment = Dice(25)
    agent = build(environment, num_steps=2)
    history = agent.fit(environment, 1e2, steps_per_epoch=5e1, verbose=0).history
    assert history["steps"] == [50, 100]
    agent.fit(environment, 2e2, initial_step=1e2, verbose=0)
    assert agent.env_steps == 200


@pytest.mark.parametrize("value", [12.5, -50, float("nan")])
@pytest.mark.parametrize("name", ["steps", "initial_step", "steps_per_epoch"])
def test_steps_with_a_fraction_are_refused(name, value):
    environment = Dice(25)
    agent = build(environment, num_steps=2)
    with pytest.raises(ValueError, match=f"^{name} must be a whole number, got"):
        agent.fit(environment, **{"steps": 100, name: value})
    assert agent.env_steps == 0
