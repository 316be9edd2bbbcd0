"""Kernel distance against its definition in loops, and without bias."""

import numpy as np
import pytest

from tfzoo.metrics import kernel_distance, unbiased_squared_mmd

RNG = np.random.default_rng(0)


def by_loops(a, b):
    def kernel(x, y):
        return (sum(x * y) / len(x) + 1) ** 3

    def within(rows):
        pairs = [
            kernel(x, y)
            for i, x in enumerate(rows)
            for j, y in enumerate(rows)
            if i != j
        ]
        return sum(pairs) / len(pairs)

    across = [kernel(x, y) for x in a for y in b]
    return within(a) + within(b) - 2 * sum(across) / len(across)


def test_distance_is_the_definition():
    a = RNG.normal(size=(7, 5))
    b = RNG.normal(size=(4, 5)) + 0.5
    expected = by_loops(a, b)
    assert unbiased_squared_mmd(a, b) == pytest.approx(expected, rel=1e-12)
    mean, stddev = kernel_distance(a[:4], b, num_subsets=3, subset_size=4)
    assert mean == pytest.approx(by_loops(a[:4], b), rel=1e-12)
    assert stddev == pytest.approx(0, abs=1e-12)


def test_subsets_are_drawn_without_replacement():
    a, b = RNG.normal(size=(2, 3, 2))
    subsets = [by_loops(a[[i, j]], b[[k, m]]) for i, j in PAIRS for k, m in PAIRS]
    mean, stddev = kernel_distance(a, b, num_subsets=4000, subset_size=2)
    # Three standard errors.
    assert mean == pytest.approx(np.mean(subsets), abs=3 * np.std(subsets) / 4000**0.5)
    assert stddev == pytest.approx(np.std(subsets), rel=0.1)


PAIRS = ((0, 1), (0, 2), (1, 2))


def test_distance_has_no_bias():
    def distances(shift):
        return [
            unbiased_squared_mmd(
                RNG.normal(size=(10, 3)), RNG.normal(size=(10, 3)) + shift
            )
            for _ in range(2000)
        ]

    equal = distances(0.0)
    assert abs(np.mean(equal)) < 3 * np.std(equal) / 2000**0.5
    assert min(equal) < 0
    # Of x.y only the part along the means stays: E k(x, y) by hand for one feature
    # would be (1 + m^2)^3 and more; it is enough that the shift is seen.
    assert np.mean(distances(1.0)) > 3 * np.std(equal)


def test_same_seed_same_subsets():
    a, b = RNG.normal(size=(2, 50, 4))
    options = {"num_subsets": 5, "subset_size": 10}
    first = kernel_distance(a, b, **options, seed=3)
    assert kernel_distance(a, b, **options, seed=3) == first
    assert kernel_distance(a, b, **options, seed=4) != first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "subset_size must be from 2 to 5, the size of the smaller set, got 1000"),
        ({"subset_size": 1}, "from 2 to 5, .* got 1"),
        ({"subset_size": 3, "num_subsets": 0}, "num_subsets must be at least 1, got 0"),
    ],
)
def test_wrong_use_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        kernel_distance(np.zeros([6, 2]), np.zeros([5, 2]), **options)
