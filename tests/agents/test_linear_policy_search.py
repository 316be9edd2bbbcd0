"""Searches over linear policies, against Gymnasium, NumPy and their own laws."""

import functools

import gymnasium as gym
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfzoo import random
from tfzoo.agents.linear_policy_search import (
    export_linear_policy,
    grown_noise,
    hill_climbing,
    linear_policy,
    mean_return,
    random_search,
)
from tfzoo.environments import UnsupportedSpaceError, make

SEED = random.make_seed(1)
LIMIT = 200  # steps, of CartPole-v0
HARD = {"noise_growth": 1.5, "episodes_per_try": 2}


def environment(num_envs):
    return make("CartPole-v0", num_envs)


@functools.cache
def search(method, num_envs, jit_compile=True, **options):
    return tf.function(
        lambda seed: method(environment(num_envs), seed, **options),
        autograph=False,
        jit_compile=jit_compile,
    )


def as_arrays(trials):
    return tf.nest.map_structure(lambda tensor: tensor.numpy(), trials)


@functools.cache
def gymnasium_cartpoles(num_envs):
    return gym.make_vec(
        "CartPole-v1",
        num_envs,
        vectorization_mode="vector_entry_point",
        max_episode_steps=LIMIT,
    )


def gymnasium_returns(weights, seed):
    """The returns of one episode for each of the weights [N, 4], in Gymnasium."""
    cartpoles = gymnasium_cartpoles(len(weights))
    observation, _ = cartpoles.reset(seed=seed)
    returns, alive = np.zeros(len(weights)), np.ones(len(weights), bool)
    while alive.any():
        action = (np.sum(weights * observation, axis=1) >= 0).astype(int)
        observation, reward, terminated, truncated, _ = cartpoles.step(action)
        returns += np.where(alive, reward, 0.0)
        alive &= ~(terminated | truncated)
    return returns


def numpy_hill_climbing(num_trials, max_tries, noise_growth, episodes_per_try):
    """Hill climbing as one reads it, all trials in step; returns bests and tries."""
    rng = np.random.default_rng(0)
    best_weights = rng.uniform(-1, 1, (num_trials, 4))
    best = np.zeros(num_trials)
    noise = np.full(num_trials, 0.1)
    tries = np.zeros(num_trials, int)
    for _ in range(max_tries):
        searching = best < LIMIT
        step = noise[:, None] * rng.uniform(-1, 1, (num_trials, 4))
        total = sum(
            gymnasium_returns(best_weights + step, int(rng.integers(2**31)))
            for _ in range(episodes_per_try)
        )
        improved = searching & (total / episodes_per_try > best)
        best_weights[improved] += step[improved]
        best[improved] = total[improved] / episodes_per_try
        noise = np.where(improved, 0.1, np.minimum(10, noise * noise_growth))
        tries += searching
    return best, tries


def assert_same_mean(ours, reference):
    error = np.hypot(scipy.stats.sem(ours), scipy.stats.sem(reference))
    assert abs(np.mean(ours) - np.mean(reference)) < 3 * error


def test_the_tries_of_random_search_are_geometric_with_gymnasium_s_probability():
    rng = np.random.default_rng(0)
    returns = gymnasium_returns(rng.uniform(-1, 1, (10_000, 4)), seed=0)
    probability = np.mean(returns == LIMIT)
    trials = as_arrays(search(random_search, 32, num_trials=1000)(SEED))
    assert trials.solved.all()
    # The mean of a geometric distribution is 1 / p, with a standard deviation of
    # almost that; the error of p itself is as if of 10,000 p more trials.
    error = np.sqrt(1 / 1000 + 1 / (10_000 * probability)) / probability
    assert abs(np.mean(trials.tries) - 1 / probability) < 3 * error
    law = scipy.stats.geom(1 / np.mean(trials.tries))
    edges = [0, 1, 3, 6, 10, 15, 25, 40, np.inf]
    counts = np.histogram(trials.tries, np.array(edges) + 0.5)[0]
    expected = 1000 * np.diff(law.cdf(edges))
    assert scipy.stats.chisquare(counts, expected, ddof=1).pvalue > 0.01


@pytest.mark.parametrize(
    "options", [{"noise_growth": 1.0, "episodes_per_try": 1}, HARD], ids=str
)
def test_hill_climbing_is_what_numpy_and_gymnasium_make_of_it(options):
    num_trials, max_tries = 1500, 12
    trials = as_arrays(
        search(
            hill_climbing, 64, num_trials=num_trials, max_tries=max_tries, **options
        )(SEED)
    )
    best, tries = numpy_hill_climbing(num_trials, max_tries, **options)
    assert_same_mean(trials.solved, best == LIMIT)
    assert_same_mean(trials.best_return, best)
    assert_same_mean(trials.tries, tries)


def test_growing_noise_gets_hill_climbing_unstuck():
    options = {"num_trials": 200, "max_tries": 300}
    stuck = search(hill_climbing, 32, **options)(SEED)
    unstuck = search(hill_climbing, 32, noise_growth=1.5, **options)(SEED)
    assert np.mean(stuck.solved) < 0.5
    assert np.mean(unstuck.solved) > 0.98


def test_more_tries_never_make_the_best_worse():
    earlier = None
    for max_tries in (1, 4, 10):
        # With as many copies as trials, more tries begin with the same ones.
        now = as_arrays(
            search(hill_climbing, 16, jit_compile=False, max_tries=max_tries)(SEED)
        )
        assert (now.solved == (now.best_return == LIMIT)).all()
        assert (now.tries[~now.solved] == max_tries).all()
        if earlier is not None:
            assert (now.best_return >= earlier.best_return).all()
            same = now.best_return == earlier.best_return
            changed = (now.weights != earlier.weights).any(axis=1)
            np.testing.assert_array_equal(changed, ~same)
            np.testing.assert_array_equal(
                now.tries[earlier.solved], earlier.tries[earlier.solved]
            )
        earlier = now
    assert np.sum(~same) > 0


def test_eager_graph_and_xla_search_the_same():
    options = {"num_trials": 6, "max_tries": 2, **HARD}
    eager = hill_climbing(environment(4), SEED, **options)
    for jit_compile in (False, True):
        compiled = search(hill_climbing, 4, jit_compile=jit_compile, **options)(SEED)
        for ours, theirs in zip(eager, compiled, strict=True):
            # Compilers may differ in the last bits of the weights.
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_a_search_is_traced_once_and_repeats_itself():
    compiled = search(random_search, 32, num_trials=1000)
    first, again = as_arrays(compiled(SEED)), as_arrays(compiled(SEED))
    other = as_arrays(compiled(random.make_seed(2)))
    assert compiled.experimental_get_tracing_count() == 1
    for ours, theirs in zip(first, again, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert np.mean(first.tries == other.tries) < 0.2


def test_every_trial_is_recorded_once_whatever_the_number_of_copies():
    # Every try solves it: a trial is one try, and a step is a reward of 1.
    options = {"solved_at": 1, "episodes_per_try": 3, "jit_compile": False}
    for num_envs, num_trials in ((4, 10), (4, 3), (4, 4)):
        trials = as_arrays(
            search(random_search, num_envs, num_trials=num_trials, **options)(SEED)
        )
        assert trials.solved.shape == (num_trials,)
        assert trials.solved.all()
        assert (trials.tries == 1).all()
        np.testing.assert_allclose(trials.env_steps, 3 * trials.best_return, rtol=1e-6)
        assert len(np.unique(trials.weights, axis=0)) == num_trials
        assert np.abs(trials.weights).max() < 1


def test_a_trial_inherits_nothing_from_the_one_before_in_its_copy():
    # The noise is 0.1 in the first two tries, and would be 10 in the third.
    options = {"num_trials": 40, "max_tries": 2, "noise_growth": 100.0}
    trials = search(hill_climbing, 4, jit_compile=False, **options)(SEED)
    assert not np.all(trials.solved)
    assert np.abs(trials.weights).max() < 1.2


def test_the_noise_grows_to_its_limit_and_no_further():
    failures = tf.constant([0, 1, 2, 10, 2000, 10**6])
    expected = [0.1, 0.11, 0.121, 0.1 * 1.1**10, 5.0, 5.0]
    np.testing.assert_allclose(grown_noise(failures, 0.1, 1.1, 5.0), expected, 1e-5)
    np.testing.assert_allclose(grown_noise(failures, 0.1, 1.0, 5.0), 0.1)


def test_the_mean_return_is_gymnasium_s():
    rng = np.random.default_rng(3)
    weights = rng.uniform(-1, 1, (6, 4)).astype(np.float32)
    weights[0] = [0.1, 0.5, 0.9, 0.9]
    num_episodes = 400
    ours = tf.function(
        lambda seed: mean_return(
            environment(6), tf.constant(weights), seed, episodes=num_episodes
        ),
        autograph=False,
        jit_compile=True,
    )(SEED)
    returns = gymnasium_returns(np.repeat(weights, num_episodes, axis=0), seed=1)
    returns = returns.reshape(6, num_episodes)
    errors = np.sqrt(2) * scipy.stats.sem(returns, axis=1)
    assert np.ptp(returns.mean(axis=1)) > 100
    np.testing.assert_array_less(
        np.abs(ours - returns.mean(axis=1)), 3.5 * errors + 1e-3
    )


def test_the_exported_policy_acts_as_the_searched_one(tmp_path):
    weights = np.float32([0.1, -0.5, 0.9, 0.3])
    export_linear_policy(weights, tmp_path / "policy")
    policy = tf.saved_model.load(tmp_path / "policy").signatures["serving_default"]
    observation = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
    action = policy(observation=tf.constant(observation))["action"]
    np.testing.assert_array_equal(action, observation @ weights >= 0)
    np.testing.assert_array_equal(linear_policy(weights, observation), action)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_trials": 0}, "num_trials must be at least 1, got 0"),
        ({"max_tries": 0}, "max_tries must be at least 1, got 0"),
        ({"episodes_per_try": -1}, "episodes_per_try must be at least 1, got -1"),
        ({"noise": 0.0}, "noise must be greater than 0 and at most max_noise=10"),
        ({"noise": 20.0}, "max_noise=10.0, got 20.0"),
        ({"noise_growth": 0.9}, "noise_growth must be at least 1, got 0.9"),
        ({"noise_growth": float("nan")}, "noise_growth must be at least 1, got nan"),
    ],
)
def test_bad_numbers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        hill_climbing(environment(2), SEED, **options)


@pytest.mark.parametrize("id", ["Acrobot-v1", "Pendulum-v1"])
def test_other_action_spaces_are_refused(id):
    with pytest.raises(UnsupportedSpaceError, match=r"supported .* Discrete\(2\) is"):
        random_search(make(id), SEED)


def test_host_environments_are_refused():
    with (
        make("CartPole-v1", vectorization="sync") as host,
        pytest.raises(ValueError, match="CartPole-v1 is not an in-graph environment"),
    ):
        random_search(host, SEED)
