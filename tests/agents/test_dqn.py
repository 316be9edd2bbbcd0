"""DQN and its variants against NumPy, on tables small enough to read."""

import gymnasium as gym
import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tests.losses.test_q_learning import projection_by_the_paper
from tfzoo import random
from tfzoo.agents import DQN, Trajectory, Transitions, q_network
from tfzoo.agents.networks import copy_of
from tfzoo.agents.replay import ReplayBuffer
from tfzoo.environments import CartPole, UnsupportedSpaceError, make
from tfzoo.layers import NoisyDense

NUM_STATES, NUM_ACTIONS = 3, 2
SPACES = (gym.spaces.Discrete(NUM_STATES), gym.spaces.Discrete(NUM_ACTIONS))
# Q and Q' disagree on the best action in states 0 and 2.
ONLINE = np.array([[1.0, 2.0], [5.0, -1.0], [0.0, 3.0]], np.float32)
TARGET = np.array([[4.0, 3.0], [6.0, 0.0], [2.0, -7.0]], np.float32)
BATCH = Transitions(
    observation=np.array([0, 1, 2, 1], np.int32),
    action=np.array([0, 1, 1, 0], np.int32),
    returns=np.array([1.0, 2.0, -1.0, 0.5], np.float32),
    # Of two steps; the third terminated.
    discount=np.array([0.81, 0.81, 0.0, 0.81], np.float32),
    next_observation=np.array([2, 0, 0, 1], np.int32),
)


def as_tensors(batch):
    return tf.nest.map_structure(tf.constant, batch)


def table_network(outputs):
    """A network whose only weight is a table of states."""
    return keras.Sequential(
        [
            keras.Input((NUM_STATES,)),
            keras.layers.Dense(int(np.prod(outputs)), use_bias=False),
            keras.layers.Reshape(outputs),
        ]
    )


def table_agent(online=ONLINE, target=TARGET, optimizer=None, **options):
    agent = DQN(
        *SPACES, network=table_network(online.shape[1:]), discount=0.9, **options
    )
    agent.network.set_weights([online.reshape(NUM_STATES, -1)])
    agent.target_network.set_weights([target.reshape(NUM_STATES, -1)])
    agent.compile(optimizer or keras.optimizers.SGD(1.0), run_eagerly=True)
    return agent


@pytest.mark.parametrize("double", [False, True])
def test_targets(double):
    agent = table_agent(double=double)
    chooser = ONLINE if double else TARGET
    best = chooser[BATCH.next_observation].argmax(1)
    value = TARGET[BATCH.next_observation, best]
    expected = BATCH.returns + BATCH.discount * value
    assert expected[2] == -1.0
    np.testing.assert_allclose(
        agent.targets(as_tensors(BATCH))[:, 0], expected, rtol=1e-6
    )
    # Worked by hand: state 2 is worth 2 to the plain agent, -7 to the double one.
    np.testing.assert_allclose(
        agent.targets(as_tensors(BATCH))[0, 0], 1 + 0.81 * (-7 if double else 2)
    )


def distributions(seed, num_atoms=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(NUM_STATES, NUM_ACTIONS, num_atoms)).astype(np.float32)


@pytest.mark.parametrize("double", [False, True])
def test_categorical_targets(double):
    online, target = distributions(0), distributions(1)
    agent = table_agent(
        online,
        target,
        double=double,
        distribution="categorical",
        num_atoms=4,
        value_range=(-1, 2),
    )
    atoms = np.linspace(-1, 2, 4)
    probabilities = scipy.special.softmax(target, axis=2)
    means = scipy.special.softmax(online if double else target, axis=2) @ atoms
    best = means[BATCH.next_observation].argmax(1)
    expected = projection_by_the_paper(
        atoms,
        probabilities[BATCH.next_observation, best],
        BATCH.returns,
        BATCH.discount,
    )
    np.testing.assert_allclose(agent.targets(as_tensors(BATCH)), expected, atol=1e-6)
    np.testing.assert_allclose(
        agent.q_values(tf.range(NUM_STATES)),
        scipy.special.softmax(online, axis=2) @ atoms,
        rtol=1e-5,
    )


@pytest.mark.parametrize("double", [False, True])
def test_quantile_targets(double):
    online, target = distributions(0), distributions(1)
    agent = table_agent(
        online, target, double=double, distribution="quantile", num_atoms=4
    )
    means = (online if double else target).mean(2)
    best = means[BATCH.next_observation].argmax(1)
    expected = (
        BATCH.returns[:, None]
        + BATCH.discount[:, None] * target[BATCH.next_observation, best]
    )
    np.testing.assert_allclose(agent.targets(as_tensors(BATCH)), expected, rtol=1e-6)


def test_a_step_moves_only_what_was_done_by_weight():
    agent = table_agent(huber_delta=None, target_period=2)
    weight = np.array([1.0, 0.5, 0.25, 1.0], np.float32)
    targets = agent.targets(as_tensors(BATCH))[:, 0].numpy()
    metrics, error = agent.update(
        as_tensors(BATCH), tf.constant(weight), random.make_seed(0)
    )
    old = ONLINE[BATCH.observation, BATCH.action]
    np.testing.assert_allclose(error, targets - old, rtol=1e-6)
    expected = ONLINE.copy()
    np.add.at(expected, (BATCH.observation, BATCH.action), weight * (targets - old) / 4)
    np.testing.assert_allclose(agent.network.get_weights()[0], expected, rtol=1e-6)
    np.testing.assert_allclose(
        metrics["loss"], np.mean(weight * 0.5 * (targets - old) ** 2), rtol=1e-6
    )
    np.testing.assert_allclose(metrics["td_error"], np.abs(targets - old).mean())
    # Q' is Q after every second step, and what it was until then.
    np.testing.assert_array_equal(agent.target_network.get_weights()[0], TARGET)
    agent.update(as_tensors(BATCH), tf.constant(weight), random.make_seed(0))
    np.testing.assert_array_equal(
        agent.target_network.get_weights()[0], agent.network.get_weights()[0]
    )


def test_soft_targets():
    agent = table_agent(target_period=1, target_rate=0.1)
    agent.update(as_tensors(BATCH), tf.ones([4]), random.make_seed(0))
    online = agent.network.get_weights()[0]
    np.testing.assert_allclose(
        agent.target_network.get_weights()[0], 0.9 * TARGET + 0.1 * online, rtol=1e-6
    )


@pytest.mark.parametrize("double", [False, True])
def test_a_target_copied_after_every_step_is_the_network_itself(double):
    environment = CartPole(num_envs=4)

    def weights(keeps_copy):
        agent = DQN(
            environment.observation_space,
            environment.action_space,
            network_options={"hidden_units": (16,)},
            double=double,
            learning_starts=8,
            target_period=1,
            seed=3,
        )
        assert agent.target_network is agent.network
        if keeps_copy:
            agent.target_network = copy_of(agent.network)
        return weights_after(agent, environment, 80)[0]

    for one, two in zip(weights(False), weights(True), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"target_rate": 0.5}, {"noisy": True}])
def test_a_target_that_differs_has_a_network_of_its_own(options):
    agent = DQN(
        gym.spaces.Box(-1.0, 1.0, (4,)),
        gym.spaces.Discrete(2),
        target_period=1,
        **options,
    )
    assert agent.target_network is not agent.network


def test_the_dueling_network_has_advantages_of_mean_zero():
    network = q_network((3,), 4, dueling=True, hidden_units=(8,))
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    parts = keras.Model(
        network.input,
        [network.get_layer(name).output for name in ("value", "advantage")],
    )
    value, advantage = (y.numpy() for y in parts(x))
    expected = value + advantage - advantage.mean(1, keepdims=True)
    np.testing.assert_allclose(network(x), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(network(x).numpy().mean(1), value[:, 0], rtol=1e-4)


def test_epsilon_is_how_often_actions_are_drawn():
    schedule = keras.optimizers.schedules.PolynomialDecay(1.0, 100, 0.2)
    agent = table_agent(epsilon=schedule, learning_starts=1)
    observation = tf.zeros([20_000], tf.int32)
    for steps, epsilon in ((0, 1.0), (50, 0.6), (100, 0.2), (500, 0.2)):
        agent.step_counter.assign(steps)
        action, _ = agent.explore(observation, (), random.make_seed(steps))
        # In state 0 action 1 is greedy; half of the drawn ones are action 0.
        np.testing.assert_allclose(np.mean(action == 0), epsilon / 2, atol=0.01)
    assert agent(observation[:1]).numpy() == 1


def test_until_learning_starts_actions_are_uniform():
    agent = table_agent(epsilon=0.0, learning_starts=100)
    observation = tf.zeros([10_000], tf.int32)
    for steps, share in ((99, 0.5), (100, 0.0)):
        agent.step_counter.assign(steps)
        action, _ = agent.explore_or_begin(observation, (), random.make_seed(steps))
        np.testing.assert_allclose(np.mean(action == 0), share, atol=0.02)


def test_in_host_environments_numpy_acts_as_the_graph_would():
    environment = make("CartPole-v1", 2, vectorization="sync")
    spaces = environment.observation_space, environment.action_space
    agent = DQN(*spaces, epsilon=0.0, normalize_observations=True, learning_starts=9)
    agent.compile(keras.optimizers.Adam())
    agent.observation_normalization.update(tf.random.normal([50, 4]) * 3.0)
    agent.step_counter.assign(9)
    observation = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    explore = agent.make_numpy_act()(0)
    action, memory = explore(observation, (), 0)
    assert action.dtype == np.int32
    assert memory == ()
    np.testing.assert_array_equal(action, agent(tf.constant(observation)))
    agent.epsilon = 0.4
    different = agent.make_numpy_act()(0)(observation, (), 0)[0] != action
    np.testing.assert_allclose(different.mean(), 0.2, atol=0.05)
    agent.step_counter.assign(8)
    different = agent.make_numpy_act()(0)(observation, (), 0)[0] != action
    np.testing.assert_allclose(different.mean(), 0.5, atol=0.06)
    # What NumPy has no form of acts in the graph.
    for options in {"dueling": True}, {"noisy": True}, {"distribution": "quantile"}:
        other = DQN(*spaces, **options)
        other.compile(keras.optimizers.Adam())
        assert other.make_numpy_act() is None
    features = keras.Input((4,))
    shared = keras.layers.Dense(4, "relu")
    hidden = shared(features)
    for body in (hidden + features, shared(hidden), hidden * 0.1):
        network = keras.Model(features, keras.layers.Dense(2)(body))
        other = DQN(*spaces, network=network)
        other.compile(keras.optimizers.Adam())
        assert other.make_numpy_act() is None
    leaky = keras.layers.Dense(4, activation=keras.layers.LeakyReLU(0.2))(features)
    other = DQN(*spaces, network=keras.Model(features, keras.layers.Dense(2)(leaky)))
    other.compile(keras.optimizers.Adam())
    assert other.make_numpy_act() is None


def test_noise_explores_and_evaluation_is_without_it():
    agent = DQN(*SPACES, noisy=True, dueling=True, epsilon=0.0)
    agent.compile(keras.optimizers.Adam(), run_eagerly=True)
    observation = tf.range(NUM_STATES)
    values = agent.q_values(observation)
    actions = [
        agent.explore(observation, (), random.make_seed(i))[0].numpy()
        for i in range(30)
    ]
    assert len({a.tobytes() for a in actions}) > 1
    np.testing.assert_array_equal(agent.q_values(observation), values)
    assert sum(isinstance(x, NoisyDense) for x in agent.network.layers) == 4


def rainbow(environment, **options):
    return DQN(
        environment.observation_space,
        environment.action_space,
        double=True,
        dueling=True,
        noisy=True,
        n_step=3,
        distribution="categorical",
        num_atoms=11,
        priority_exponent=0.5,
        importance_exponent=keras.optimizers.schedules.PolynomialDecay(0.4, 100, 1.0),
        network_options={"hidden_units": (16,)},
        replay_capacity=400,
        batch_size=8,
        learning_starts=40,
        num_steps=5,
        gradient_steps=2,
        target_period=3,
        seed=4,
        **options,
    )


def weights_after(agent, environment, steps, **options):
    agent.compile(keras.optimizers.Adam(1e-2), **options)
    history = agent.fit(environment, steps, verbose=0).history
    return [w.numpy() for w in agent.network.weights], history


def test_training_is_the_same_eagerly_in_a_graph_and_through_xla():
    environment = CartPole(num_envs=4)
    modes = {"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}
    runs = [weights_after(rainbow(environment), environment, 80, **m) for m in modes]
    for weights, history in runs[1:]:
        assert history["gradient_steps"] == runs[0][1]["gradient_steps"] == [6]
        for one, two in zip(weights, runs[0][0], strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("replay_checkpoint", [True, False])
def test_a_checkpoint_goes_on_as_if_nothing_had_been(tmp_path, replay_checkpoint):
    environment = CartPole(num_envs=4)

    def make_agent():
        agent = rainbow(environment, replay_checkpoint=replay_checkpoint)
        agent.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
        agent.prepare(environment)
        return agent

    whole, resumed = make_agent(), make_agent()
    whole.fit(environment, 100, verbose=0)
    path = tf.train.Checkpoint(agent=whole).write(str(tmp_path / "state"))
    whole.fit(environment, 200, initial_step=100, verbose=0)
    tf.train.Checkpoint(agent=resumed).read(path).assert_consumed()
    assert resumed.env_steps == 100
    history = resumed.fit(environment, 200, initial_step=100, verbose=0).history
    same = all(
        np.array_equal(one, two)
        for one, two in zip(whole.weights, resumed.weights, strict=True)
    )
    assert same == replay_checkpoint
    # Without the replay buffer, two of five iterations fill it anew.
    expected = 10 if replay_checkpoint else 2 * (5 - 1)
    assert history["gradient_steps"] == [expected]


def test_host_and_graph_environments_are_learned_from_alike():
    environment = make("CartPole-v1", 3, vectorization="sync")
    agent = rainbow(environment)
    _, history = weights_after(agent, environment, 75, jit_compile=False)
    # An epoch of a host environment is about a thousand steps.
    assert history["gradient_steps"] == [6]
    assert np.isfinite(history["loss"]).all()
    assert int(agent.replay.num_added) == 75
    # Another environment has a buffer of its own.
    agent.fit(make("CartPole-v1", 3, vectorization="sync"), 15, verbose=0)
    assert int(agent.replay.num_added) == 15


def test_the_values_of_a_chain_are_learned():
    """A time limit that is bootstrapped: values are those of an endless episode."""
    agent = table_agent(
        np.zeros((3, 2), np.float32),
        np.zeros((3, 2), np.float32),
        huber_delta=None,
        target_period=1,
        replay_capacity=64,
        batch_size=64,
    )
    replay = ReplayBuffer(
        64, 1, tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.int32)
    )
    # State 0 goes to 1 by action 1, and stays by action 0; both are worth 1. State 1
    # terminates with a reward of 10. Every episode in state 0 is cut off at once.
    observation = np.array([0, 0, 1], np.int32)
    replay.add(
        Trajectory(
            observation=tf.constant(observation[:, None]),
            action=tf.constant([[0], [1], [0]]),
            reward=tf.constant([[1.0], [1.0], [10.0]]),
            terminated=tf.constant([[False], [False], [True]]),
            truncated=tf.constant([[True], [True], [False]]),
            final_observation=tf.constant([[0], [1], [2]]),
        )
    )
    for i in range(200):
        index, weight = replay.sample(64, random.make_seed(i))
        agent.update(replay.transitions(index, discount=0.9), weight, None)
    table = agent.network.get_weights()[0]
    # Q(0, 0) = 1 + 0.9 max(Q(0, 0), Q(0, 1)), Q(0, 1) = 1 + 0.9 * 10.
    np.testing.assert_allclose(table[1, 0], 10.0, rtol=1e-3)
    np.testing.assert_allclose(table[0], [10.0, 10.0], rtol=1e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 200, "replay_capacity": 100}, "more than the 100 rows"),
        ({"distribution": "normal"}, "distribution must be 'categorical'"),
        ({"epsilon": 1.5}, "epsilon must be between 0 and 1"),
        ({"target_rate": 0.0}, r"target_rate must be in \(0, 1\]"),
        ({"n_step": 0}, "n_step must be a positive integer"),
        ({"num_atoms": 1, "distribution": "quantile"}, "num_atoms must be at least 2"),
        ({"num_atoms": 51.0, "distribution": "categorical"}, "num_atoms must be a pos"),
        ({"num_atoms": 51}, "num_atoms needs a distribution"),
        ({"dueling": True, "network": table_network((2,))}, "dueling and network_opt"),
        ({"importance_exponent": -1.0}, "importance_exponent must be between 0 and 1"),
        (
            {"value_range": (0, float("inf")), "distribution": "categorical"},
            "value_range must rise and be finite",
        ),
        ({"noisy": True, "network": table_network((2,))}, "layers of NoisyDense"),
        ({"value_range": (1, 1), "distribution": "categorical"}, "value_range"),
        ({"network": table_network((5,))}, r"outputs \('B', 2\), got \('B', 5\)"),
        ({"learning_starts": 0}, "learning_starts must be a positive integer"),
        ({"discount": 1.1}, "discount must be between 0 and 1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        DQN(*SPACES, **arguments)


def test_a_network_of_unknown_outputs_is_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match=r"must be a functional keras\.Model"):
        DQN(*SPACES, network=Subclassed())


def test_continuous_actions_are_refused():
    box = gym.spaces.Box(-1, 1, (2,))
    with pytest.raises(UnsupportedSpaceError, match="DDPG, TD3 and SAC take a Box"):
        DQN(SPACES[0], box)


def stacked_cartpole():
    """CartPole whose observations are the last four, one after the other."""
    stacked = gym.wrappers.FrameStackObservation(gym.make("CartPole-v1"), 4)
    return gym.wrappers.FlattenObservation(stacked)


gym.register("StackedCartPole-v0", stacked_cartpole)


@pytest.mark.parametrize("priority_exponent", [None, 0.6])
def test_an_agent_learns_the_same_from_frames_that_are_stored_once(priority_exponent):
    weights, bytes = [], []
    for frame_stack in (1, 4):
        with make("StackedCartPole-v0", 2) as environment:
            agent = DQN(
                environment.observation_space,
                environment.action_space,
                frame_stack=frame_stack,
                priority_exponent=priority_exponent,
                n_step=2,
                network_options={"hidden_units": (8,)},
                batch_size=16,
                replay_capacity=600,
                learning_starts=50,
                num_steps=5,
                gradient_steps=2,
                epsilon=0.3,
            )
            agent.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
            agent.fit(environment, 200, verbose=0)
        weights.append(agent.network.get_weights())
        bytes.append(agent.replay.nbytes)
    assert bytes[1] < bytes[0] / 2
    start = DQN(
        environment.observation_space,
        environment.action_space,
        network_options={"hidden_units": (8,)},
    ).network.get_weights()
    assert np.abs(start[0] - weights[0][0]).max() > 0.01
    for one, two in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, two)
