"""Random numbers: the same in all modes, and distributed as they say."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfzoo import random

SEED = random.make_seed(5)

FUNCTIONS = {
    "bits": lambda seed: random.bits([1001], seed),
    "uniform": lambda seed: random.uniform([7, 3], seed, -1.0, 2.0),
    "permutation": lambda seed: random.permutation(1000, seed),
    "permutation of a power of four": lambda seed: random.permutation(1024, seed),
    "fold_in": lambda seed: random.fold_in(seed, 7),
    "split": lambda seed: random.split(seed, 3),
    "numbered": lambda seed: random.numbered(seed, 6, 7),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_eager_graph_and_xla_draw_the_same(name):
    function = FUNCTIONS[name]
    eager = function(SEED).numpy()
    graph = tf.function(function, autograph=False)(SEED).numpy()
    xla = tf.function(function, autograph=False, jit_compile=True)(SEED).numpy()
    np.testing.assert_array_equal(eager, graph)
    np.testing.assert_array_equal(eager, xla)


def test_same_seed_same_numbers_and_other_seed_others():
    again = random.make_seed(5)
    np.testing.assert_array_equal(random.bits([64], SEED), random.bits([64], again))
    other = random.bits([64], random.make_seed(6))
    assert np.mean(random.bits([64], SEED).numpy() == other.numpy()) < 0.1


def test_seeds_of_a_table_are_distinct_and_their_draws_unlike():
    table = [random.numbered(SEED, row, n) for row in range(40) for n in range(40)]
    assert len({tuple(seed.numpy()) for seed in table}) == 1_600
    numbers = [random.uniform([32], seed).numpy() for seed in table]
    distribution = scipy.stats.uniform(0, 1)
    assert scipy.stats.kstest(np.ravel(numbers), distribution.cdf).pvalue > 0.01
    # Neighbours along a row and along a column.
    numbers = np.reshape(numbers, [40, 40, 32])
    for one, two in ((numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1])):
        assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.02


def test_uniform_numbers_are_uniform():
    numbers = random.uniform([20_000], SEED, -1.0, 2.0).numpy()
    distribution = scipy.stats.uniform(-1, 3)
    assert scipy.stats.kstest(numbers, distribution.cdf).pvalue > 0.01


def test_uniform_never_reaches_its_upper_end():
    numbers = random.uniform([1_000_000], SEED).numpy()
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0


@pytest.mark.parametrize("num", [1, 2, 3, 5, 64, 100, 512, 4097])
def test_permutation_holds_every_index_once(num):
    permutation = random.permutation(num, SEED).numpy()
    np.testing.assert_array_equal(np.sort(permutation), np.arange(num))


def test_permutations_of_four_are_equally_likely():
    draw = tf.function(
        lambda seeds: tf.map_fn(lambda s: random.permutation(4, s), seeds),
        autograph=False,
    )
    seeds = tf.stack([tf.range(4800), tf.fill([4800], 3)], axis=1)
    _, counts = np.unique(draw(seeds).numpy(), axis=0, return_counts=True)
    assert len(counts) == 24
    assert scipy.stats.chisquare(counts).pvalue > 0.001


def test_position_after_a_shuffle_is_uniform_and_forgets_neighbours():
    draw = tf.function(lambda s: random.permutation(100, s), autograph=False)
    draws = np.stack([draw(tf.constant([i, 11])).numpy() for i in range(2000)])
    counts = np.bincount(draws[:, 0], minlength=100)
    assert scipy.stats.chisquare(counts).pvalue > 0.001
    steps = np.bincount((draws[:, 1] - draws[:, 0]) % 100, minlength=100)[1:]
    assert scipy.stats.chisquare(steps).pvalue > 0.001


def test_split_and_fold_in_give_unrelated_seeds():
    seeds = random.split(SEED, 1000).numpy()
    assert len(np.unique(seeds, axis=0)) == 1000
    folded = np.stack([random.fold_in(SEED, i).numpy() for i in range(1000)])
    assert len(np.unique(folded, axis=0)) == 1000


@pytest.mark.parametrize("seed", [-1, 2**62, 1.5, True])
def test_make_seed_refuses_what_is_no_seed(seed):
    with pytest.raises(ValueError, match="seed must be"):
        random.make_seed(seed)


@pytest.mark.parametrize("num", [0, 2**30])
def test_permutation_refuses_sizes_it_cannot_hold(num):
    with pytest.raises(ValueError, match="num must be"):
        random.permutation(num, SEED)


def test_make_seed_returns_what_is_a_seed():
    assert random.make_seed(SEED) is SEED
    for wrong in (tf.constant([1.0, 2.0]), tf.constant([1, 2, 3])):
        with pytest.raises(ValueError, match="seed must be an integer"):
            random.make_seed(wrong)
