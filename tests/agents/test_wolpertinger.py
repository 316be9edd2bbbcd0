"""The Wolpertinger policy against a search through all actions."""

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.agents.test_continuous_control import critic_by_numpy, dense_by_numpy
from tfzoo import random
from tfzoo.agents import Transitions, Wolpertinger
from tfzoo.environments import ManyJumps, UnsupportedSpaceError

RNG = np.random.default_rng(0)
# Columns of very different ranges, as distances are those of the points as they are.
EMBEDDING = (RNG.uniform(-1, 1, (40, 2)) * [10.0, 0.5] + [3.0, 0.0]).astype(np.float32)
SPACES = (gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(40))
OBSERVATION = RNG.normal(size=(6, 3)).astype(np.float32)


def make_agent(num_neighbors=5, **options):
    agent = Wolpertinger(
        *SPACES,
        **{
            "action_embedding": EMBEDDING,
            "num_neighbors": num_neighbors,
            "noise": "gaussian",
            "actor_options": {"hidden_units": (7,)},
            "critic_options": {"hidden_units": (6,)},
            **options,
        },
    )
    rng = np.random.default_rng(1)
    for network in (agent.actor, agent.target_actor, agent.target_critic):
        for weight in network.weights:
            weight.assign(weight + 0.5 * rng.normal(size=weight.shape))
    agent.compile(run_eagerly=True)
    return agent


def unit_points():
    low, high = EMBEDDING.min(0), EMBEDDING.max(0)
    return 2 * (EMBEDDING - low) / (high - low) - 1


def pick_by_numpy(actor, critic, observation, k):
    low, high = EMBEDDING.min(0), EMBEDDING.max(0)
    proto = dense_by_numpy(actor.get_weights(), observation, np.tanh)
    proto = low + (proto + 1) / 2 * (high - low)
    picked, values = [], []
    for o, p in zip(observation, proto, strict=True):
        near = np.argsort(np.linalg.norm(EMBEDDING - p, axis=1))[:k]
        q = critic_by_numpy(critic, np.repeat(o[None], k, 0), unit_points()[near])[:, 0]
        picked.append(near[q.argmax()])
        values.append(q.max())
    return np.array(picked), np.array(values)


@pytest.mark.parametrize("k", [1, 5, 40])
def test_the_critic_picks_from_the_nearest_actions(k):
    agent = make_agent(k)
    picked, _ = pick_by_numpy(agent.actor, agent.critic, OBSERVATION, k)
    np.testing.assert_array_equal(agent(tf.constant(OBSERVATION)), picked)
    assert agent(tf.constant(OBSERVATION)).dtype == tf.int32
    # Targets are of the whole policy of the slow copies.
    _, values = pick_by_numpy(agent.target_actor, agent.target_critic, OBSERVATION, k)
    np.testing.assert_allclose(
        agent.next_values(tf.constant(OBSERVATION), None), values, rtol=1e-4, atol=1e-5
    )


def test_the_critic_learns_from_the_action_that_was_taken():
    agent = make_agent()
    batch = Transitions(
        observation=tf.constant(OBSERVATION),
        action=tf.constant(RNG.integers(0, 40, 6), tf.int32),
        returns=tf.constant(RNG.normal(size=6), tf.float32),
        discount=tf.zeros([6]),
        next_observation=tf.constant(OBSERVATION),
    )
    values = critic_by_numpy(agent.critic, OBSERVATION, unit_points()[batch.action])
    _, error = agent.update(batch, tf.ones([6]), random.make_seed(0))
    np.testing.assert_allclose(
        error, np.abs(batch.returns - values[:, 0]), rtol=1e-4, atol=1e-5
    )


def test_noise_and_epsilon_explore():
    agent = make_agent(noise_stddev=0.0, epsilon=0.5)
    observation = tf.repeat(OBSERVATION[:1], 4000, axis=0)
    greedy = int(agent(observation[:1])[0])
    action, _ = agent.explore(observation, (), random.make_seed(0))
    share = np.mean(action == greedy)
    np.testing.assert_allclose(share, 0.5 + 0.5 / 40, atol=0.03)
    assert set(np.unique(action)) == set(range(40))
    # Noise alone leaves some actions out, and takes more than one.
    agent = make_agent(num_neighbors=1, noise_stddev=0.05)
    action, _ = agent.explore(observation, (), random.make_seed(0))
    assert 1 < len(np.unique(action)) < 40


def test_training_is_the_same_eagerly_in_a_graph_and_through_xla():
    environment = ManyJumps(num_envs=2)
    runs = []
    for mode in {"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}:
        agent = Wolpertinger(
            environment.observation_space,
            environment.action_space,
            action_embedding=environment.action_embedding,
            num_neighbors=3,
            learning_starts=20,
            batch_size=8,
            replay_capacity=200,
            actor_options={"hidden_units": (7,)},
            critic_options={"hidden_units": (6,)},
        )
        agent.compile(keras.optimizers.SGD(1e-2), **mode)
        agent.fit(environment, 40, verbose=0)
        runs.append([w.numpy() for w in agent.actor.weights + agent.critic.weights])
    for run in runs[1:]:
        for one, two in zip(run, runs[0], strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_neighbors": 41}, "num_neighbors=41 is more than the 40 actions"),
        ({"num_neighbors": 0}, "num_neighbors must be a positive integer"),
        ({"epsilon": 2.0}, "epsilon must be between 0 and 1"),
        ({"action_embedding": EMBEDDING[:9]}, r"must be of shape \(40, E\), got \(9"),
        ({"action_embedding": np.ones((40, 2))}, "no column of one value"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_agent(**{"num_neighbors": 5, **arguments})


def test_continuous_actions_are_refused():
    with pytest.raises(UnsupportedSpaceError, match="Discrete is, and DDPG takes"):
        Wolpertinger(
            SPACES[0],
            gym.spaces.Box(-1, 1, (2,)),
            action_embedding=EMBEDDING,
            num_neighbors=1,
        )
