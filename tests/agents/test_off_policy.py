"""What agents with a replay buffer share: what is stored, drawn and carried on."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfzoo.agents import DDPG, DQN, DRQN, SAC, TD3, Wolpertinger
from tfzoo.agents.replay import _END
from tfzoo.environments import make
from tfzoo.layers import NoisyDense

_DENSE = {
    "actor_options": {"hidden_units": (8,)},
    "critic_options": {"hidden_units": (8,)},
}


def make_agent(kind, environment, **options):
    """A small agent that learns after 40 steps."""
    if kind in (DQN, DRQN):
        options = {"network_options": {"hidden_units": (8,)}, **options}
    else:
        options = {**_DENSE, **options}
    if kind is DRQN:
        options = {"sequence_length": 4, "burn_in": 2, **options}
    if kind is Wolpertinger:
        embedding = environment.action_embedding
        options = {"action_embedding": embedding, "num_neighbors": 3, **options}
    agent = kind(
        environment.observation_space,
        environment.action_space,
        **{
            "replay_capacity": 600,
            "batch_size": 16,
            "learning_starts": 40,
            "num_steps": 5,
            "gradient_steps": 2,
            "seed": 3,
            **options,
        },
    )
    agent.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    return agent


def fitted(environment, steps=100, kind=DQN, **options):
    agent = make_agent(kind, environment, **options)
    agent.fit(environment, steps, verbose=0)
    return agent


def rows_of_steps(replay):
    return np.flatnonzero(replay._kind.numpy() != _END)


@pytest.fixture(params=["in_graph", "sync"])
def cartpole(request):
    with make("CartPole-v1", 2, vectorization=request.param) as environment:
        yield environment


@pytest.mark.parametrize("kind", [DQN, DRQN])
def test_priorities_follow_the_errors(cartpole, kind):
    agent = fitted(cartpole, kind=kind, priority_exponent=0.6)
    rows = rows_of_steps(agent.replay)
    priorities = agent.replay.tree.get(tf.constant(rows)).numpy()
    assert len(rows) == 100
    assert len(np.unique(priorities)) > 20


def test_the_importance_of_samples_is_weighted(cartpole):
    weights = [
        fitted(cartpole, priority_exponent=0.9, importance_exponent=beta)
        .network.weights[0]
        .numpy()
        for beta in (0.0, 1.0)
    ]
    assert np.abs(weights[0] - weights[1]).max() > 1e-4


@pytest.mark.parametrize("vectorization", ["in_graph", "sync"])
def test_rewards_are_learned_from_as_they_are_transformed(vectorization):
    with make(
        "CartPole-v1",
        2,
        vectorization=vectorization,
        reward_transform=lambda reward: 3.0 * reward,
    ) as environment:
        replay = fitted(environment).replay
    rewards = replay._reward.numpy()[rows_of_steps(replay)]
    np.testing.assert_array_equal(rewards, np.full(100, 3.0))


def test_observations_are_normalised_by_all_that_were_seen(cartpole):
    agent = fitted(cartpole, normalize_observations=True)
    rows = rows_of_steps(agent.replay)
    seen = agent.replay._observation.numpy()[rows]
    np.testing.assert_allclose(
        agent.observation_normalization(tf.constant(seen)),
        (seen - seen.mean(0)) / seen.std(0),
        rtol=1e-2,
        atol=1e-2,
    )


@pytest.mark.parametrize("vectorization", ["in_graph", "sync"])
@pytest.mark.parametrize("kind", [DDPG, TD3, SAC])
def test_actions_are_uniform_until_learning_starts(kind, vectorization):
    with make("Pendulum-v1", 4, vectorization=vectorization) as environment:
        waits = fitted(environment, 400, kind=kind, learning_starts=1000)
        learns = fitted(environment, 400, kind=kind, learning_starts=20)
    actions = [
        agent.replay._action.numpy()[rows_of_steps(agent.replay)][:, 0]
        for agent in (waits, learns)
    ]
    uniform = scipy.stats.uniform(-2, 4)
    assert scipy.stats.kstest(actions[0], uniform.cdf).pvalue > 1e-3
    # The first policy of SAC is all but uniform itself.
    assert kind is SAC or scipy.stats.kstest(actions[1], uniform.cdf).pvalue < 1e-3


def test_noise_of_both_networks_is_drawn_for_each_gradient_step():
    environment = make("CartPole-v1", 2)
    agent = make_agent(DQN, environment, noisy=True)
    agent.prepare(environment)
    networks = agent.network, agent.target_network

    def noise():
        return [
            layer.input_noise.numpy().copy()
            for network in networks
            for layer in network._flatten_layers()
            if isinstance(layer, NoisyDense)
        ]

    agent.fit(environment, 40, verbose=0)
    before = noise()
    batch = agent.read_batch(agent.replay.sample(16, agent.iteration_seeds()[0])[0])
    agent.update(batch, tf.ones([16]), agent.iteration_seeds()[1])
    after = noise()
    for one, two in zip(before, after, strict=True):
        assert np.abs(one - two).max() > 0.01
    # That of one network is not that of the other.
    half = len(after) // 2
    assert np.abs(after[0] - after[half]).max() > 0.01


def test_fit_goes_on_with_the_episodes_and_a_resumed_host_run_cuts_them(tmp_path):
    with make("CartPole-v1", 2, vectorization="sync") as environment:
        agent = fitted(environment, 30)
        path = tf.train.Checkpoint(agent=agent).write(str(tmp_path / "state"))
        replay, head = agent.replay, agent.replay._rows(agent.replay._head).numpy()
        under_way = replay._kind.numpy()[head - 1] != _END
        assert under_way.any()
        agent.fit(environment, 40, initial_step=30, verbose=0)
        assert agent.replay is replay
        assert int(replay.num_added) == 40
        assert (replay._kind.numpy()[head] != _END)[under_way].all()

    with make("CartPole-v1", 2, vectorization="sync") as environment:
        resumed = make_agent(DQN, environment)
        resumed.prepare(environment)
        tf.train.Checkpoint(agent=resumed).read(path).assert_consumed()
        resumed.fit(environment, 40, initial_step=30, verbose=0)
        assert int(resumed.replay.num_added) == 40
        kind = resumed.replay._kind.numpy()
        # What was under way has ended, and a new episode begins behind.
        assert (kind[head] == _END)[under_way].all()
        assert (kind[head + 1] != _END)[under_way].all()


@pytest.mark.parametrize("replay_checkpoint", [True, False])
@pytest.mark.parametrize(
    ("kind", "id", "options"),
    [
        (DRQN, "CartPoleFlickering-v1", {"previous_action": True}),
        (DRQN, "CartPolePositions-v1", {"stored_state": False}),
        (Wolpertinger, "ManyJumps-v0", {}),
    ],
)
def test_a_checkpoint_goes_on_as_if_nothing_had_been(
    kind, id, options, replay_checkpoint, tmp_path
):
    environment = make(id, 2)
    options["replay_checkpoint"] = replay_checkpoint
    whole = fitted(environment, 80, kind=kind, **options)
    path = tf.train.Checkpoint(agent=whole).write(str(tmp_path / "state"))
    whole.fit(environment, 160, initial_step=80, verbose=0)
    resumed = make_agent(kind, environment, **options)
    resumed.prepare(environment)
    tf.train.Checkpoint(agent=resumed).read(path).assert_consumed()
    resumed.fit(environment, 160, initial_step=80, verbose=0)
    same = all(
        np.array_equal(one, two)
        for one, two in zip(
            [*whole.weights, *whole.replay.variables],
            [*resumed.weights, *resumed.replay.variables],
            strict=True,
        )
    )
    assert same == replay_checkpoint


@pytest.mark.parametrize(
    ("kind", "id", "options", "per_row"),
    [
        (DRQN, "CartPolePositions-v1", {}, 2 * 4 * 64),
        (DRQN, "CartPolePositions-v1", {"previous_action": True}, 2 * 4 * 64 + 2 * 4),
        (DRQN, "CartPolePositions-v1", {"stored_state": False}, 0),
        (
            DRQN,
            "CartPolePositions-v1",
            {"stored_state": False, "previous_action": True},
            2 * 4,
        ),
        (DDPG, "Pendulum-v1", {"noise": "ornstein_uhlenbeck"}, 0),
    ],
)
def test_of_the_memory_only_what_is_learned_from_is_stored(kind, id, options, per_row):
    environment = make(id, 2)
    agent = make_agent(kind, environment, **options)
    agent.prepare(environment)
    observation = environment.observation_space.shape[0]
    action = 1
    # A byte for the kind of a row; two integers a copy, and the number of steps.
    row = 4 * (observation + action + 1) + 1 + per_row
    assert agent.replay.nbytes == 600 * row + 2 * 8 + 8
