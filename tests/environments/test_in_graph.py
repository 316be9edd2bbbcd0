"""Every in-graph environment against the Gymnasium environment of the same name."""

import functools

import gymnasium as gym
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfzoo import random
from tfzoo.environments import (
    IN_GRAPH_ENVIRONMENTS,
    CartPole,
    CartPoleFlickering,
    CartPoleV0,
    State,
    make,
)
from tfzoo.environments.gymnasium_recipe import recipe_for
from tfzoo.environments.in_graph import wrap_angle

# Those that Gymnasium has no equal of have tests of their own.
IDS = sorted(set(IN_GRAPH_ENVIRONMENTS) - {"CartPoleFlickering-v1", "ManyJumps-v0"})
NUM_ENVS = 2
NUM_STEPS = 1000
SEED = random.make_seed(7)


def random_actions(environment, shape, seed):
    """Actions of `shape`; continuous ones reach over the bounds by a half."""
    if isinstance(environment.action_space, gym.spaces.Discrete):
        count = float(environment.action_space.n)
        return tf.cast(random.uniform(shape, seed, 0.0, count), tf.int32)
    high = 1.5 * environment.action_space.high[0]
    return random.uniform([*shape, 1], seed, -high, high)


def pushing_actions(environment, physics):
    """The strongest actions [N, ...] in the direction of the last velocity."""
    forward = physics[:, -1] > 0
    if isinstance(environment.action_space, gym.spaces.Discrete):
        return tf.where(forward, int(environment.action_space.n) - 1, 0)
    high = environment.action_space.high[0]
    return tf.where(forward, high, -high)[:, tf.newaxis]


@functools.cache
def trajectory(id):
    """A thousand steps in one XLA program, as arrays [T, N, ...].

    Copy 0 acts at random; copy 1 mostly pushes, which drives the mountain car and the
    acrobot to their goals.

    Returns:
      (states before the steps, actions, time steps, states after them)
    """
    environment = make(id, NUM_ENVS, action_bounds="none")

    @tf.function(jit_compile=True, autograph=False)
    def run(seed):
        state, _ = environment.reset(seed)
        actions = random_actions(environment, [NUM_STEPS, NUM_ENVS], seed)
        probability = tf.reshape([1.0, 0.1], [NUM_ENVS, *[1] * (actions.ndim - 2)])
        at_random = random.uniform(actions.shape, seed) < probability

        def step(carried, t):
            *_, state = carried
            pushing = pushing_actions(environment, state.physics)
            action = tf.where(at_random[t], actions[t], pushing)
            next_state, time_step = environment.step(
                state, action, random.fold_in(seed, t)
            )
            return state, action, time_step, next_state

        _, first = environment.step(state, actions[0], seed)
        return tf.scan(
            step, tf.range(NUM_STEPS), initializer=(state, actions[0], first, state)
        )

    return tf.nest.map_structure(lambda tensor: tensor.numpy(), run(SEED))


def pick(structure, *index):
    return tf.nest.map_structure(lambda array: array[index], structure)


def assert_equal_to_gymnasium(id, *, resynchronise, atol, max_steps):
    """Replays a trajectory in Gymnasium, which computes in float64.

    Args:
      id: the name.
      resynchronise: whether Gymnasium gets our state at every step, not only where an
        episode begins.
      atol: absolute tolerance on observations and rewards, beside a relative 2e-6.
      max_steps: how far into an episode to compare.
    """
    before, actions, time_steps, _ = trajectory(id)
    reference = recipe_for(id).make()
    for copy in range(NUM_ENVS):
        for t in range(NUM_STEPS):
            state, ours = pick(before, t, copy), pick(time_steps, t, copy)
            if state.num_steps == 0:
                reference.reset(seed=0)
            if state.num_steps == 0 or resynchronise:
                reference.unwrapped.state = np.asarray(state.physics, np.float64)
            if state.num_steps >= max_steps:
                continue
            observation, reward, terminated, truncated, _ = reference.step(
                actions[t, copy]
            )
            np.testing.assert_allclose(
                [*ours.final_observation, ours.reward],
                [*observation, reward],
                rtol=2e-6,
                atol=atol,
                err_msg=f"{id}, copy {copy}, step {t}",
            )
            assert ours.terminated == terminated
            assert ours.truncated == truncated


@pytest.mark.parametrize("id", IDS)
def test_each_step_equals_gymnasium(id):
    # One step in float32 against one in float64.
    assert_equal_to_gymnasium(id, resynchronise=True, atol=2e-6, max_steps=NUM_STEPS)


# How far into an episode float32 and float64 stay together, and how closely. Unstable
# dynamics let the last bit grow exponentially: a balanced pole by a factor of e in a
# quarter of a second, an acrobot that whirls in about half a second.
TOGETHER = {
    "Acrobot-v1": (50, 1e-4),
    "CartPolePositions-v1": (75, 1e-3),
    "CartPole-v0": (75, 1e-3),
    "CartPole-v1": (75, 1e-3),
    "MountainCar-v0": (200, 1e-5),
    "MountainCarContinuous-v0": (999, 1e-5),
    "Pendulum-v1": (200, 2e-2),
}


@pytest.mark.parametrize("id", IDS)
def test_episodes_equal_gymnasium(id):
    max_steps, atol = TOGETHER[id]
    assert_equal_to_gymnasium(id, resynchronise=False, atol=atol, max_steps=max_steps)


@pytest.mark.parametrize("id", IDS)
def test_the_trajectories_show_all_that_can_happen(id):
    _, _, step, state = trajectory(id)
    done = step.terminated | step.truncated
    assert done.any()
    if id != "Pendulum-v1":
        assert step.terminated.any()
    # Only an end of an episode parts the two observations, and starts a new count. XLA
    # may compute one value twice and round it in two ways.
    same = np.isclose(step.observation, step.final_observation, atol=1e-6).all(axis=-1)
    np.testing.assert_array_equal(same, ~done)
    np.testing.assert_array_equal(state.num_steps == 0, done)


@pytest.mark.parametrize("id", IDS)
def test_description_equals_gymnasium(id):
    environment = make(id)
    reference = recipe_for(id).make()
    assert environment.id == id
    assert environment.observation_space == reference.observation_space
    assert environment.action_space == reference.action_space
    assert environment.max_episode_steps == reference.spec.max_episode_steps


@pytest.mark.parametrize("id", IDS)
def test_first_states_are_distributed_as_gymnasium_s(id):
    reference = recipe_for(id).make()
    expected = []
    for seed in range(3000):
        reference.reset(seed=seed)
        expected.append(reference.unwrapped.state)
    state, observation = make(id, 3000).reset(SEED)
    assert_same_distribution(state.physics.numpy(), np.array(expected))
    assert observation.shape == (3000, *reference.observation_space.shape)
    assert not state.num_steps.numpy().any()


def assert_same_distribution(given, expected):
    for column in range(expected.shape[1]):
        test = scipy.stats.ks_2samp(given[:, column], expected[:, column])
        assert test.pvalue > 0.01
        # All are uniform, so that the extremes of many draws are close.
        for extreme in (np.min, np.max):
            np.testing.assert_allclose(
                extreme(given[:, column]), extreme(expected[:, column]), rtol=0.02
            )


@pytest.mark.parametrize("id", IDS)
def test_a_new_episode_starts_as_a_reset_does(id):
    # The limit of one step ends all episodes at once.
    environment = make(id, 3000, max_episode_steps=1)
    state, first = environment.reset(SEED)
    action = random_actions(environment, [3000], SEED)
    state, step = environment.step(state, action, random.fold_in(SEED, 1))
    assert step.truncated.numpy().all()
    assert not np.array_equal(step.observation, first)
    assert not np.array_equal(step.observation, step.final_observation)
    assert not state.num_steps.numpy().any()
    np.testing.assert_array_equal(step.observation, environment.observe(state.physics))
    for column in range(first.shape[1]):
        test = scipy.stats.ks_2samp(step.observation[:, column], first[:, column])
        assert test.pvalue > 0.01


@pytest.mark.parametrize("id", IDS)
def test_eager_graph_and_xla_take_the_same_step(id):
    # From all the states of a trajectory at once, so that no difference accumulates.
    before, actions, *_ = trajectory(id)
    environment = make(id, NUM_STEPS * NUM_ENVS)
    flat = tf.nest.map_structure(
        lambda array: array.reshape([-1, *array.shape[2:]]), (before, actions)
    )
    eager = environment.step(*flat, SEED)
    for jit_compile in (False, True):
        step = tf.function(environment.step, autograph=False, jit_compile=jit_compile)
        for given, expected in zip(
            *map(tf.nest.flatten, (step(*flat, SEED), eager)), strict=True
        ):
            # Graphs divide by constants as they like, XLA also has its own sine: the
            # last bits differ.
            np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("id", IDS)
def test_types_and_bounds(id):
    environment = make(id, NUM_ENVS)
    *_, step, state = trajectory(id)
    shape = (NUM_STEPS, NUM_ENVS)
    observation_shape = environment.observation_space.shape
    for observation in (step.observation, step.final_observation):
        assert observation.dtype == np.float32
        assert observation.shape == (*shape, *observation_shape)
        space = environment.observation_space
        assert np.all(observation >= space.low)
        assert np.all(observation <= space.high)
    assert step.reward.dtype == np.float32
    assert step.terminated.dtype == step.truncated.dtype == bool
    assert step.reward.shape == step.terminated.shape == step.truncated.shape == shape
    assert state.num_steps.dtype == np.int32


@pytest.mark.parametrize("id", IDS)
def test_the_time_limit_truncates_and_does_not_terminate(id):
    environment = make(id, NUM_ENVS, max_episode_steps=3)
    state, _ = environment.reset(SEED)
    action = random_actions(environment, [NUM_ENVS], SEED)
    for t in range(1, 8):
        state, step = environment.step(state, action, random.fold_in(SEED, t))
        assert not step.terminated.numpy().any()
        np.testing.assert_array_equal(step.truncated, [t % 3 == 0] * NUM_ENVS)


def test_cartpole_v0_ends_after_200_steps():
    limits = {id: make(id).max_episode_steps for id in ("CartPole-v0", "CartPole-v1")}
    assert limits == {"CartPole-v0": 200, "CartPole-v1": 500}


def test_an_episode_that_falls_at_the_limit_is_both():
    environment = CartPole(1, max_episode_steps=1)
    falling = tf.constant([[0.0, 0.0, 0.2, 3.0]])
    _, step = environment.step(State(falling, tf.constant([0])), [1], SEED)
    assert step.terminated.numpy().all()
    assert step.truncated.numpy().all()


def test_the_function_is_pure():
    environment = make("CartPole-v1", NUM_ENVS)
    results = []
    for _ in range(2):
        state, _ = environment.reset(SEED)
        results.append(environment.step(state, [0, 1], SEED))
    first, second = map(tf.nest.flatten, results)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_copies_and_seeds_differ():
    environment = make("CartPole-v1", 3)
    observations = np.concatenate(
        [environment.reset(random.make_seed(seed))[1] for seed in range(3)]
    )
    assert len(np.unique(observations[:, 0])) == 9


def test_one_trace_serves_all_calls():
    environment = make("CartPole-v1", NUM_ENVS)
    traces = []

    @tf.function(autograph=False)
    def step(state, action, seed):
        traces.append(None)
        return environment.step(state, action, seed)

    state, _ = environment.reset(SEED)
    for t in range(5):
        state, _ = step(state, tf.constant([0, 1]), random.fold_in(SEED, t))
    assert len(traces) == 1


def test_with_num_envs_keeps_everything_else():
    def halved(reward):
        return reward / 2

    environment = make(
        "CartPole-v0",
        4,
        max_episode_steps=17,
        action_bounds="none",
        reward_transform=halved,
    )
    other = environment.with_num_envs(2)
    assert (environment.num_envs, other.num_envs) == (4, 2)
    assert type(other) is CartPoleV0
    assert other.id == "CartPole-v0"
    assert other.max_episode_steps == 17
    assert other.action_bounds == "none"
    assert other.reward_transform is halved
    assert other.reset(SEED)[1].shape == (2, 4)


def test_with_num_envs_keeps_what_a_subclass_adds():
    class Heavy(CartPole):
        def __init__(self, num_envs, mass):
            super().__init__(num_envs)
            self.mass = mass

    assert Heavy(4, mass=3.0).with_num_envs(2).mass == 3.0
    with pytest.raises(ValueError, match="num_envs must be a positive integer"):
        Heavy(4, mass=3.0).with_num_envs(0)


def test_step_returns_the_reward_untransformed():
    environment = make("CartPole-v1", 2, reward_transform=lambda reward: reward * 100)
    state, _ = environment.reset(SEED)
    _, step = environment.step(state, [0, 1], SEED)
    np.testing.assert_array_equal(step.reward, [1.0, 1.0])
    np.testing.assert_array_equal(environment.reward_transform(step.reward), [100, 100])


@pytest.mark.parametrize(
    ("action_bounds", "action", "same_as"),
    [("clip", 5.0, 1.0), ("clip", 0.3, 0.3), ("rescale", -7.0, -1.0)],
)
def test_action_bounds(action_bounds, action, same_as):
    def reward(action_bounds, action):
        environment = make("MountainCarContinuous-v0", action_bounds=action_bounds)
        state, _ = environment.reset(SEED)
        state, step = environment.step(state, tf.constant([[action]]), SEED)
        return [*state.physics.numpy().ravel(), *step.reward.numpy()]

    assert reward(action_bounds, action) == reward("none", same_as)


def test_rescaled_actions_reach_the_bounds():
    def velocity(action_bounds, action):
        environment = make("Pendulum-v1", action_bounds=action_bounds)
        state, _ = environment.reset(SEED)
        _, step = environment.step(state, tf.constant([[action]]), SEED)
        return step.observation.numpy()[0, 2]

    assert velocity("rescale", 0.5) == velocity("none", 1.0)
    assert velocity("rescale", 1.0) == velocity("none", 2.0)
    assert velocity("clip", 0.5) == velocity("none", 0.5)


def test_wrap_angle_keeps_what_is_in_range():
    angles = tf.constant([-np.pi, -3.0, 0.0, 1.5, np.pi, 4.0, -4.0, 20.0], tf.float32)
    wrapped = wrap_angle(angles).numpy()
    np.testing.assert_array_equal(wrapped[:5], angles[:5])
    np.testing.assert_allclose(np.sin(wrapped), np.sin(angles), atol=1e-5)
    assert np.abs(wrapped).max() <= np.float32(np.pi)


def test_flickering_hides_every_second_observation_and_nothing_else():
    flickering, plain = CartPoleFlickering(64), CartPole(64)
    state, observation = flickering.reset(SEED)
    position, _ = state.physics
    other = State(position, state.num_steps)
    seen = [observation.numpy().any(axis=1)]
    step, plain_step = (
        tf.function(e.step, autograph=False, jit_compile=True)
        for e in (flickering, plain)
    )
    for t in range(200):
        action = random.integers([64], random.fold_in(SEED, t), 2)
        seed = random.fold_in(SEED, 1000 + t)
        state, now = step(state, action, seed)
        other, expected = plain_step(other, action, seed)
        shown = now.final_observation.numpy().any(axis=1)
        np.testing.assert_array_equal(
            now.final_observation,
            np.where(shown[:, None], expected.final_observation, 0.0),
        )
        np.testing.assert_array_equal(now.terminated, expected.terminated)
        done = (now.terminated | now.truncated).numpy()
        np.testing.assert_array_equal(
            now.observation[~done], now.final_observation[~done]
        )
        seen.append(now.observation.numpy().any(axis=1))
    seen = np.array(seen)
    np.testing.assert_allclose(seen.mean(), 0.5, atol=0.02)
    # In time and between copies there is nothing to foresee.
    np.testing.assert_allclose((seen[1:] == seen[:-1]).mean(), 0.5, atol=0.02)
    np.testing.assert_allclose((seen[:, 1:] == seen[:, :-1]).mean(), 0.5, atol=0.02)


def test_the_host_form_flickers_as_well():
    environment = make("CartPoleFlickering-v1", 64, vectorization="sync")
    shown = [environment.reset(0).any(axis=1)]
    for _ in range(50):
        shown.append(environment.step(np.ones(64, np.int32)).observation.any(axis=1))
    np.testing.assert_allclose(np.mean(shown), 0.5, atol=0.03)
