"""DRQN: its state in acting and in learning, and its targets against NumPy."""

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo import random
from tfzoo.agents import DRQN, Sequences, recurrent_q_network
from tfzoo.environments import CartPolePositions, UnsupportedSpaceError, make

SPACES = (gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2))
UNITS = 5


def make_agent(environment=None, spaces=SPACES, **options):
    if environment is not None:
        spaces = environment.observation_space, environment.action_space
    agent = DRQN(
        *spaces,
        **{
            "network_options": {"lstm_units": UNITS, "hidden_units": (6,)},
            "discount": 0.9,
            "replay_capacity": 400,
            "batch_size": 8,
            "learning_starts": 40,
            "num_steps": 5,
            "gradient_steps": 2,
            "target_period": 3,
            "sequence_length": 4,
            "seed": 3,
            **options,
        },
    )
    agent.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    return agent


def lstm_by_numpy(weights, features, memory, previous=None):
    """The network of `recurrent_q_network` over time, in NumPy."""
    w, b, kernel, recurrent, bias, w_out, b_out = weights
    hidden, cell = memory[:2]
    if previous is None:
        previous = np.zeros((*features.shape[:2], 0))
    values, states = [], []

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    for x, action in zip(features, previous, strict=True):
        x = np.concatenate([np.maximum(x @ w + b, 0), action], axis=-1)
        z = x @ kernel + hidden @ recurrent + bias
        i, f, c, o = np.split(z, 4, axis=-1)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(c)
        hidden = sigmoid(o) * np.tanh(cell)
        values.append(hidden @ w_out + b_out)
        states.append((hidden, cell))
    return np.array(values), states


def test_the_network_is_an_lstm():
    network = recurrent_q_network((3,), 2, lstm_units=UNITS, hidden_units=(6,), seed=1)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(7, 4, 3)).astype(np.float32)
    memory = rng.normal(size=(2, 4, UNITS)).astype(np.float32)
    values, hidden, cell = network([features.swapaxes(0, 1), *memory])
    expected, states = lstm_by_numpy(network.get_weights(), features, memory)
    np.testing.assert_allclose(np.swapaxes(values, 0, 1), expected, atol=1e-5)
    np.testing.assert_allclose(hidden, states[-1][0], atol=1e-5)
    np.testing.assert_allclose(cell, states[-1][1], atol=1e-5)


@pytest.mark.parametrize("previous_action", [False, True])
@pytest.mark.parametrize("vectorization", ["in_graph", "sync"])
def test_states_in_acting_are_those_in_learning(vectorization, previous_action):
    """Every stored state is that of the steps of its episode so far, and no others."""
    environment = make("CartPolePositions-v1", 2, vectorization=vectorization)
    agent = make_agent(
        environment, learning_starts=1000, previous_action=previous_action
    )
    agent.fit(environment, 100, verbose=0)
    replay = agent.replay
    index = tf.constant(np.unique(replay.sample(2000, random.make_seed(0))[0]))
    batch = replay.sequences(index, 4)
    inputs = agent.sequence_inputs(batch)
    values, memory = agent.unroll(
        agent.network, [x[:4] for x in inputs], batch.memory[:2]
    )
    # The state before step t of a sequence is the stored one of the row of that step.
    rows = replay._following(index, 5)
    for t in (1, 3):
        same = batch.mask[t]
        _, state = agent.unroll(
            agent.network, [x[:t] for x in inputs], batch.memory[:2]
        )
        after = (*state, *(x[t] for x in inputs[1:]))
        for ours, stored in zip(after, replay._memory, strict=True):
            np.testing.assert_allclose(
                tf.boolean_mask(ours, same),
                tf.boolean_mask(tf.gather(stored, rows[t]), same),
                atol=1e-5,
            )
    # An episode begins with zeros: after an end, and in the first row.
    first = (tf.gather(replay._kind, tf.maximum(index - 1, 0)) == 2) | (
        index % replay.length == 0
    )
    for stored in replay._memory:
        starts = tf.gather(stored, tf.boolean_mask(index, first)).numpy()
        assert len(starts) > 2
        np.testing.assert_array_equal(starts, 0.0)
    assert values.shape == (4, len(index), 2)
    assert memory[0].shape == (len(index), UNITS)


def make_batch(length, seed=0, previous_action=False):
    rng = np.random.default_rng(seed)
    mask = np.ones((length, 3), bool)
    mask[-2:, 1] = False
    terminated = np.zeros((length, 3), bool)
    terminated[-3, 1] = True
    previous = (np.eye(2, dtype=np.float32)[[1, 0, 1]],) if previous_action else ()
    return Sequences(
        observation=rng.normal(size=(length + 1, 3, 3)).astype(np.float32),
        action=rng.integers(0, 2, (length, 3)).astype(np.int32),
        reward=rng.normal(size=(length, 3)).astype(np.float32),
        terminated=terminated,
        mask=mask,
        goes_on=np.array([False, False, True]),
        memory=(*rng.normal(size=(2, 3, UNITS)).astype(np.float32), *previous),
    )


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("burn_in", [0, 2])
@pytest.mark.parametrize(
    ("stored_state", "previous_action"), [(False, False), (True, False), (True, True)]
)
def test_loss_and_errors(double, burn_in, stored_state, previous_action):
    agent = make_agent(
        double=double,
        burn_in=burn_in,
        stored_state=stored_state,
        previous_action=previous_action,
        huber_delta=None,
    )
    # Q' is not Q.
    rng = np.random.default_rng(1)
    for weight in agent.target_network.weights:
        weight.assign(weight + 0.3 * rng.normal(size=weight.shape))
    batch = make_batch(burn_in + 4, previous_action=previous_action)
    previous = None
    if previous_action:
        previous = np.concatenate([batch.memory[2][None], np.eye(2)[batch.action]])
    online, target = (
        lstm_by_numpy(
            network.get_weights(),
            batch.observation,
            batch.memory if stored_state else np.zeros((2, 3, UNITS)),
            previous,
        )[0][burn_in:]
        for network in (agent.network, agent.target_network)
    )
    action, reward, terminated, mask = (
        x[burn_in:] for x in (batch.action, batch.reward, batch.terminated, batch.mask)
    )
    best = (online if double else target).argmax(-1)
    value = np.take_along_axis(target, best[..., None], -1)[..., 0][1:]
    expected = reward + 0.9 * ~terminated * value
    taken = np.take_along_axis(online[:-1], action[..., None], -1)[..., 0]
    error = mask * np.abs(expected - taken)
    weight = np.array([1.0, 0.5, 0.2], np.float32)
    metrics, priority = agent.update(
        tf.nest.map_structure(tf.constant, batch), tf.constant(weight), None
    )
    loss = np.sum(weight * 0.5 * error**2) / mask.sum()
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["td_error"], error.sum() / mask.sum(), rtol=1e-4)
    mean = error.sum(0) / mask.sum(0)
    np.testing.assert_allclose(priority, 0.9 * error.max(0) + 0.1 * mean, rtol=1e-4)


def test_no_gradient_flows_through_the_burn_in_or_the_target():
    """The gradient is that of the loss with all before it held fixed."""
    agent = make_agent(burn_in=2, huber_delta=None)
    agent.compile(keras.optimizers.SGD(1e-3), run_eagerly=True)
    batch = tf.nest.map_structure(tf.constant, make_batch(6))
    weights = [w.numpy() for w in agent.network.trainable_variables]
    _, memory = agent.unroll(agent.network, [batch.observation[:2]], batch.memory)
    _, of_target = agent.unroll(
        agent.target_network, [batch.observation[:2]], batch.memory
    )
    rest = batch._replace(
        **{f: getattr(batch, f)[2:] for f in ("action", "reward", "terminated", "mask")}
    )
    target = agent.targets(rest, [batch.observation[2:]], (memory, of_target)).numpy()
    memory = [tf.constant(m.numpy()) for m in memory]
    with tf.GradientTape() as tape:
        values, _ = agent.unroll(agent.network, [batch.observation[2:-1]], memory)
        taken = tf.gather(values, rest.action, batch_dims=2)
        counts = tf.cast(rest.mask, tf.float32)
        loss = tf.reduce_sum(counts * 0.5 * (taken - target) ** 2)
        loss /= tf.reduce_sum(counts)
    variables = [v.value for v in agent.network.trainable_variables]
    gradients = tape.gradient(loss, variables)
    agent.update(batch, tf.ones([3]), None)
    for old, new, gradient in zip(
        weights, agent.network.trainable_variables, gradients, strict=True
    ):
        np.testing.assert_allclose(old - 1e-3 * gradient, new, atol=1e-6)


def test_training_is_the_same_eagerly_in_a_graph_and_through_xla():
    environment = CartPolePositions(num_envs=4)
    runs = []
    for mode in {"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}:
        agent = make_agent(
            environment,
            priority_exponent=0.6,
            burn_in=2,
            dueling=True,
            previous_action=True,
        )
        agent.compile(keras.optimizers.Adam(1e-2), **mode)
        history = agent.fit(environment, 60, verbose=0).history
        assert history["gradient_steps"] == [4]
        runs.append([w.numpy() for w in agent.network.weights])
    for run in runs[1:]:
        for one, two in zip(run, runs[0], strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)


def test_evaluation_remembers_within_an_episode_only():
    environment = make("CartPolePositions-v1", 2, vectorization="sync")
    agent = make_agent(environment)
    seen = []
    step_values = agent.step_values
    agent.step_values = lambda observation, memory: (
        seen.append(tuple(np.array(m) for m in memory))
        or step_values(observation, memory)
    )
    agent.compile(keras.optimizers.Adam(), run_eagerly=True)
    lengths = agent.evaluate(environment, 4)["lengths"]
    for copy in range(2):
        is_zero = [not hidden[copy].any() for hidden, _ in seen]
        assert is_zero[0]
        assert not is_zero[1]
        assert is_zero[lengths[copy]]
        assert sum(is_zero[: lengths[copy] + 1]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sequence_length": 0}, "sequence_length must be a positive integer"),
        ({"burn_in": -1}, "burn_in must be a positive integer, got -1"),
        ({"burn_in": 2.0}, "burn_in must be a positive integer, got 2.0"),
        ({"n_step": 3}, "DRQN has no n_step"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_agent(**arguments)


def test_a_network_without_a_state_is_refused():
    features = keras.Input((None, 3))
    network = keras.Model(features, keras.layers.Dense(2)(features))
    with pytest.raises(ValueError, match="the network must have inputs"):
        make_agent(network=network, network_options=None)
    without_actions = recurrent_q_network((3,), 2)
    with pytest.raises(ValueError, match=r"inputs \(observation, previous_action, h"):
        make_agent(network=without_actions, previous_action=True, network_options=None)


def test_a_sequence_longer_than_an_episode_is_refused():
    environment = CartPolePositions(max_episode_steps=10)
    agent = make_agent(environment, sequence_length=8, burn_in=3)
    with pytest.raises(
        ValueError, match=r"take 11 steps, but an episode of .* than 10"
    ):
        agent.prepare(environment)


def test_a_sequence_longer_than_the_ring_is_refused():
    environment = CartPolePositions(num_envs=20)
    agent = make_agent(environment, sequence_length=18, burn_in=2)
    with pytest.raises(ValueError, match="take 20 steps, but each copy has 20 rows"):
        agent.prepare(environment)


def test_priority_of_a_sequence_without_steps_to_learn_from():
    """One that ended within the burn-in has none; one that goes on has the largest."""
    agent = make_agent(burn_in=3)
    batch = make_batch(7)
    mask = np.array(batch.mask)
    mask[2:, 1:] = False
    batch = batch._replace(mask=mask, goes_on=np.array([True, False, True]))
    _, priority = agent.update(
        tf.nest.map_structure(tf.constant, batch), tf.ones([3]), None
    )
    assert priority[0] > 0
    np.testing.assert_array_equal(priority[1:], [0.0, priority[0]])


def test_continuous_actions_are_refused():
    with pytest.raises(UnsupportedSpaceError, match="not supported by DRQN"):
        make_agent(spaces=(SPACES[0], gym.spaces.Box(-1, 1, (1,))))


def test_litert_is_refused(tmp_path):
    with pytest.raises(ValueError, match="DRQN cannot be exported as LiteRT"):
        make_agent().export(tmp_path / "policy.tflite", format="litert")
    assert not list(tmp_path.iterdir())
