"""DDPG, TD3 and SAC: their updates against NumPy and TensorFlow Probability."""

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfzoo import random
from tfzoo.agents import DDPG, SAC, TD3, Transitions
from tfzoo.environments import Pendulum, UnsupportedSpaceError, make

# Bounds that are neither symmetric nor alike.
SPACES = (
    gym.spaces.Box(-1, 1, (3,)),
    gym.spaces.Box(np.float32([-1.0, 2.0]), np.float32([3.0, 2.5])),
)
AGENTS = {"ddpg": DDPG, "td3": TD3, "sac": SAC}
SMALL = {
    "actor_options": {"hidden_units": (7,)},
    "critic_options": {"hidden_units": (6,)},
}
RNG = np.random.default_rng(0)
BATCH = Transitions(
    observation=RNG.normal(size=(5, 3)).astype(np.float32),
    action=RNG.uniform([-1, 2], [3, 2.5], (5, 2)).astype(np.float32),
    returns=RNG.normal(size=5).astype(np.float32),
    discount=np.array([0.9, 0.9, 0.0, 0.9, 0.9], np.float32),
    next_observation=RNG.normal(size=(5, 3)).astype(np.float32),
)
WEIGHT = np.array([1.0, 0.5, 1.0, 0.2, 1.0], np.float32)


def make_agent(algorithm, spaces=SPACES, **options):
    agent = AGENTS[algorithm](*spaces, discount=0.9, **{**SMALL, **options})
    # Copies that differ, so that what is taken from which shows.
    rng = np.random.default_rng(1)
    copies = [agent.target_critic]
    copies += [agent.target_actor] if algorithm != "sac" else []
    for network in (agent.actor, *copies):
        for weight in network.weights:
            weight.assign(weight + 0.3 * rng.normal(size=weight.shape))
    agent.compile(
        keras.optimizers.SGD(1e-2),
        actor_optimizer=keras.optimizers.SGD(1e-2),
        run_eagerly=True,
    )
    return agent


def dense_by_numpy(weights, x, last=lambda x: x):
    w, b, w_out, b_out = weights
    return last(np.maximum(x @ w + b, 0) @ w_out + b_out)


def critic_by_numpy(network, features, action):
    """Returns the values [B, C] of critics of one hidden layer each."""
    x = np.concatenate([features, action], 1)
    weights = network.get_weights()
    critics = [weights[i : i + 4] for i in range(0, len(weights), 4)]
    # Keras lists all first layers before all second ones.
    if len(critics) == 2:
        order = (0, 1, 4, 5), (2, 3, 6, 7)
        critics = [[weights[i] for i in critic] for critic in order]
    return np.concatenate([dense_by_numpy(c, x) for c in critics], 1)


def as_tensors(batch):
    return tf.nest.map_structure(tf.constant, batch)


@pytest.mark.parametrize("algorithm", ["ddpg", "td3"])
def test_values_of_the_next_state(algorithm):
    agent = make_agent(algorithm)
    seed = random.make_seed(3)
    values = agent.next_values(tf.constant(BATCH.next_observation), seed)
    actor = agent.target_actor.get_weights()
    action = dense_by_numpy(actor, BATCH.next_observation, np.tanh)
    if algorithm == "td3":
        noise = 0.2 * random.normal([5, 2], seed).numpy()
        action = np.clip(action + np.clip(noise, -0.5, 0.5), -1, 1)
    expected = critic_by_numpy(agent.target_critic, BATCH.next_observation, action)
    assert expected.shape == (5, 2 if algorithm == "td3" else 1)
    np.testing.assert_allclose(values, expected.min(1), rtol=1e-4, atol=1e-5)


def test_critics_move_to_one_target_by_weight():
    agent = make_agent("td3")
    features, seed = tf.constant(BATCH.observation), random.make_seed(4)
    seeds = tf.unstack(random.split(seed, 2))
    next_values = agent.next_values(tf.constant(BATCH.next_observation), seeds[0])
    target = BATCH.returns + BATCH.discount * next_values.numpy()
    assert target[2] == BATCH.returns[2]
    unit = (BATCH.action - [1.0, 2.25]) / [2.0, 0.25]
    before = critic_by_numpy(agent.critic, BATCH.observation, unit)
    variables = [v.value for v in agent.critic.trainable_variables]
    with tf.GradientTape() as tape:
        values = agent.critic([features, tf.constant(unit, tf.float32)])
        losses = tf.reduce_sum(0.5 * (values - target[:, None]) ** 2, axis=1)
        loss = tf.reduce_mean(WEIGHT * losses)
    np.testing.assert_allclose(values, before, rtol=1e-4, atol=1e-5)
    expected = [
        v.numpy() - 1e-2 * g.numpy()
        for v, g in zip(variables, tape.gradient(loss, variables), strict=True)
    ]
    metrics, error = agent.update(as_tensors(BATCH), tf.constant(WEIGHT), seed)
    np.testing.assert_allclose(metrics["critic_loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["q_value"], before.mean(), rtol=1e-4)
    np.testing.assert_allclose(
        error, np.abs(target[:, None] - before).mean(1), rtol=1e-4
    )
    for one, two in zip(agent.critic.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["ddpg", "td3"])
def test_the_actor_climbs_the_first_critic_and_the_copies_follow(algorithm):
    agent = make_agent(algorithm, target_rate=0.1)
    old_actor = agent.actor.get_weights()
    old_copies = agent.target_actor.get_weights(), agent.target_critic.get_weights()
    updates = 2 if algorithm == "td3" else 1
    for i in range(updates):
        if i == 1:
            # TD3 moves the actor and the copies with every second step only.
            for old, new in (
                (old_actor, agent.actor.get_weights()),
                (old_copies[0], agent.target_actor.get_weights()),
                (old_copies[1], agent.target_critic.get_weights()),
            ):
                for one, two in zip(old, new, strict=True):
                    np.testing.assert_array_equal(one, two)
        metrics, _ = agent.update(
            as_tensors(BATCH), tf.constant(WEIGHT), random.make_seed(i)
        )
    # The critic has moved before the actor did.
    actor = keras.models.clone_model(agent.actor)
    actor.set_weights(old_actor)
    variables = [v.value for v in actor.trainable_variables]
    with tf.GradientTape() as tape:
        action = actor(BATCH.observation)
        observation = tf.constant(BATCH.observation)
        loss = -tf.reduce_mean(agent.critic([observation, action])[:, 0])
    np.testing.assert_allclose(metrics["actor_loss"], updates * loss, rtol=1e-4)
    for old, gradient, new in zip(
        old_actor, tape.gradient(loss, variables), agent.actor.weights, strict=True
    ):
        np.testing.assert_allclose(old - 1e-2 * gradient, new, rtol=1e-4, atol=1e-6)
    for old, network, copy in (
        (old_copies[0], agent.actor, agent.target_actor),
        (old_copies[1], agent.critic, agent.target_critic),
    ):
        for before, fast, slow in zip(old, network.weights, copy.weights, strict=True):
            np.testing.assert_allclose(
                0.9 * before + 0.1 * fast.numpy(), slow, rtol=1e-5, atol=1e-6
            )


def squashed_gaussian(agent, observation):
    """The policy of SAC as a distribution of TensorFlow Probability."""
    mean, log_stddev = tf.split(agent.actor(observation), 2, axis=-1)
    return tfp.distributions.TransformedDistribution(
        tfp.distributions.MultivariateNormalDiag(mean, tf.exp(log_stddev)),
        tfp.bijectors.Tanh(),
    )


def test_log_probabilities_of_sac():
    agent = make_agent("sac")
    observation = tf.constant(BATCH.observation)
    action, log_prob = agent.sample(observation, random.make_seed(1))
    expected = squashed_gaussian(agent, observation).log_prob(action)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-3, atol=1e-3)
    # Far out, where tanh is 1 and its inverse infinite.
    agent.actor.layers[-1].bias.assign([30.0, -30.0, 0.0, 0.0])
    _, log_prob = agent.sample(observation, random.make_seed(1))
    assert np.isfinite(log_prob).all()


def test_sac_learns_value_policy_and_temperature():
    agent = make_agent("sac", temperature=0.3, target_rate=0.1)
    temperature_optimizer = keras.optimizers.SGD(1e-2)
    agent.compile(
        keras.optimizers.SGD(1e-2),
        actor_optimizer=keras.optimizers.SGD(1e-2),
        temperature_optimizer=temperature_optimizer,
        run_eagerly=True,
    )
    seed = random.make_seed(9)
    seeds = tf.unstack(random.split(seed, 2))
    following = tf.constant(BATCH.next_observation)
    action, log_prob = agent.sample(following, seeds[0])
    values = critic_by_numpy(agent.target_critic, BATCH.next_observation, action)
    expected = values.min(1) - 0.3 * log_prob.numpy()
    np.testing.assert_allclose(
        agent.next_values(following, seeds[0]), expected, rtol=1e-4, atol=1e-5
    )
    old_actor, old_copy = agent.actor.get_weights(), agent.target_critic.get_weights()
    metrics, _ = agent.update(as_tensors(BATCH), tf.constant(WEIGHT), seed)
    actor = keras.models.clone_model(agent.actor)
    actor.set_weights(old_actor)
    variables = [v.value for v in actor.trainable_variables]
    with tf.GradientTape() as tape:
        mean, log_stddev = tf.split(actor(BATCH.observation), 2, axis=-1)
        u = mean + tf.exp(log_stddev) * random.normal([5, 2], seeds[1])
        action = tf.tanh(u)
        normal = tfp.distributions.MultivariateNormalDiag(mean, tf.exp(log_stddev))
        log_prob = normal.log_prob(u) - tf.reduce_sum(
            tf.math.log(1.0 - action**2), axis=1
        )
        observation = tf.constant(BATCH.observation)
        values = tf.reduce_min(agent.critic([observation, action]), axis=1)
        loss = tf.reduce_mean(0.3 * log_prob - values)
    np.testing.assert_allclose(metrics["actor_loss"], loss, rtol=1e-3, atol=1e-4)
    for old, gradient, new in zip(
        old_actor, tape.gradient(loss, variables), agent.actor.weights, strict=True
    ):
        np.testing.assert_allclose(old - 1e-2 * gradient, new, rtol=1e-3, atol=1e-5)
    entropy = -np.mean(log_prob)
    np.testing.assert_allclose(metrics["entropy"], entropy, rtol=1e-3)
    # Two numbers in an action: the target is -2 nats, and alpha falls towards it.
    np.testing.assert_allclose(
        agent.log_temperature.numpy(), np.log(0.3) - 1e-2 * (entropy + 2.0), rtol=1e-3
    )
    for before, fast, slow in zip(
        old_copy, agent.critic.weights, agent.target_critic.weights, strict=True
    ):
        np.testing.assert_allclose(
            0.9 * before + 0.1 * fast.numpy(), slow, rtol=1e-5, atol=1e-6
        )


def test_a_fixed_temperature_stays():
    agent = make_agent("sac", temperature=0.3, target_entropy="fixed")
    agent.update(as_tensors(BATCH), tf.constant(WEIGHT), random.make_seed(0))
    np.testing.assert_allclose(agent.temperature, 0.3, rtol=1e-6)


def test_ornstein_uhlenbeck_noise_has_its_stationary_distribution():
    agent = make_agent("ddpg", noise_stddev=0.05, noise_theta=0.15)
    observation = tf.zeros([400, 3])
    greedy = agent.from_environment(agent(observation))
    memory, noises = agent.initial_memory(400), []
    for t in range(120):
        action, memory = agent.explore(observation, memory, random.make_seed(t))
        noises.append(memory.numpy())
    np.testing.assert_allclose(
        agent.from_environment(action), np.clip(greedy + memory, -1, 1), atol=1e-5
    )
    late = np.array(noises[60:])
    # x' = (1 - theta) x + sigma e: variance sigma^2 / (1 - (1 - theta)^2).
    stddev = 0.05 / np.sqrt(1 - 0.85**2)
    np.testing.assert_allclose(late.std(), stddev, rtol=0.05)
    correlation = np.mean(late[1:] * late[:-1]) / np.mean(late**2)
    np.testing.assert_allclose(correlation, 0.85, atol=0.02)


@pytest.mark.parametrize("algorithm", AGENTS)
def test_actions_keep_to_the_bounds(algorithm):
    agent = make_agent(algorithm)
    observation = tf.constant(RNG.normal(0, 50, (300, 3)), tf.float32)
    memory = agent.initial_memory(300)
    low, high = SPACES[1].low, SPACES[1].high
    for action in (
        agent(observation),
        agent.explore(observation, memory, random.make_seed(0))[0],
        agent.uniform_action([300, 2], random.make_seed(1)),
    ):
        assert np.all(action >= low - 1e-5)
        assert np.all(action <= high + 1e-5)
    # Uniform ones reach both ends.
    np.testing.assert_allclose(np.min(action, 0), low, atol=0.05)
    np.testing.assert_allclose(np.max(action, 0), high, atol=0.05)


@pytest.mark.parametrize("algorithm", AGENTS)
def test_training_is_the_same_eagerly_in_a_graph_and_through_xla(algorithm):
    environment = Pendulum(num_envs=2)
    runs = []
    for mode in {"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}:
        agent = AGENTS[algorithm](
            environment.observation_space,
            environment.action_space,
            learning_starts=20,
            batch_size=8,
            replay_capacity=200,
            **SMALL,
        )
        agent.compile(**mode)
        history = agent.fit(environment, 40, verbose=0).history
        assert history["gradient_steps"] == [11]
        runs.append([w.numpy() for w in agent.actor.weights + agent.critic.weights])
    for run in runs[1:]:
        for one, two in zip(run, runs[0], strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("algorithm", AGENTS)
def test_a_checkpoint_goes_on_as_if_nothing_had_been(algorithm, tmp_path):
    environment = Pendulum(num_envs=2)

    def make_run():
        agent = AGENTS[algorithm](
            environment.observation_space,
            environment.action_space,
            learning_starts=20,
            batch_size=8,
            replay_capacity=200,
            **SMALL,
        )
        agent.compile(jit_compile=False)
        agent.prepare(environment)
        return agent

    whole, resumed = make_run(), make_run()
    whole.fit(environment, 30, verbose=0)
    path = tf.train.Checkpoint(agent=whole).write(str(tmp_path / "state"))
    whole.fit(environment, 50, initial_step=30, verbose=0)
    tf.train.Checkpoint(agent=resumed).read(path).assert_consumed()
    resumed.fit(environment, 50, initial_step=30, verbose=0)
    for one, two in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_host_environment_is_learned_from():
    environment = make("Pendulum-v1", 2, vectorization="sync")
    agent = DDPG(
        environment.observation_space,
        environment.action_space,
        learning_starts=8,
        batch_size=8,
        replay_capacity=200,
        **SMALL,
    )
    agent.compile(jit_compile=False)
    history = agent.fit(environment, 12, steps_per_epoch=2, verbose=0).history
    assert history["gradient_steps"] == [0, 0, 0, 1, 1, 1]
    assert np.isnan(history["critic_loss"][:3]).all()
    assert np.isfinite(history["critic_loss"][3:]).all()


@pytest.mark.parametrize(
    ("algorithm", "arguments", "message"),
    [
        ("ddpg", {"noise": "pink"}, "noise must be 'gaussian' or"),
        ("ddpg", {"noise_stddev": -1.0}, "noise_stddev must be at least 0"),
        ("td3", {"policy_delay": 0}, "policy_delay must be a positive integer"),
        ("sac", {"temperature": 0.0}, "temperature must be positive"),
        ("sac", {"target_entropy": "low"}, "target_entropy must be a number"),
        ("sac", {"target_rate": 2.0}, r"target_rate must be in \(0, 1\]"),
    ],
)
def test_bad_arguments_are_named(algorithm, arguments, message):
    with pytest.raises(ValueError, match=message):
        AGENTS[algorithm](*SPACES, **arguments)


@pytest.mark.parametrize("algorithm", AGENTS)
@pytest.mark.parametrize(
    "space",
    [gym.spaces.Discrete(3), gym.spaces.Box(-np.inf, np.inf, (2,))],
    ids=["discrete", "unbounded"],
)
def test_other_actions_are_refused(algorithm, space):
    with pytest.raises(UnsupportedSpaceError, match="finite bounds is, and DQN takes"):
        AGENTS[algorithm](SPACES[0], space)


def test_actions_are_not_scaled_twice():
    environment = Pendulum(action_bounds="rescale")
    agent = DDPG(environment.observation_space, environment.action_space, **SMALL)
    agent.compile()
    with pytest.raises(ValueError, match="scales its actions to the bounds itself"):
        agent.prepare(environment)


def test_a_number_that_cannot_change_is_refused():
    space = gym.spaces.Box(np.float32([-1.0, 2.0]), np.float32([1.0, 2.0]))
    with pytest.raises(UnsupportedSpaceError, match="cannot change"):
        DDPG(SPACES[0], space)
