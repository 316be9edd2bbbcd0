"""Precision and recall against loops, and at their limits."""

import importlib

import numpy as np
import pytest

from tfzoo.metrics import precision_recall

# (The name of the module is that of a function in the package, too.)
MODULE = importlib.import_module("tfzoo.metrics.precision_recall")
RNG = np.random.default_rng(0)


def by_loops(real, fake, k):
    def coverage(centres, points):
        covered = 0
        for point in points:
            for i, centre in enumerate(centres):
                others = [
                    np.linalg.norm(centre - x) for j, x in enumerate(centres) if j != i
                ]
                if np.linalg.norm(centre - point) <= sorted(others)[k - 1]:
                    covered += 1
                    break
        return covered / len(points)

    return coverage(real, fake), coverage(fake, real)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_are_the_definition(k):
    real = RNG.normal(size=(23, 3))
    fake = RNG.normal(size=(17, 3)) * 0.7 + 1.0
    expected = by_loops(real, fake, k)
    assert precision_recall(real, fake, num_neighbors=k) == pytest.approx(expected)
    assert 0 < expected[0] != expected[1] < 1


def test_blocks_of_distances_change_nothing(monkeypatch):
    real, fake = RNG.normal(size=(2, 25, 4))
    expected = precision_recall(real, fake)
    monkeypatch.setattr(MODULE, "_BLOCK", 7)
    assert precision_recall(real, fake) == expected


def test_limits():
    features = RNG.normal(size=(40, 6))
    assert precision_recall(features, features[::-1]) == (1, 1)
    assert precision_recall(features, features + 100) == (0, 0)


def test_dropped_modes_lower_recall_and_not_precision():
    centres = 20 * np.eye(4)
    real, fake = (
        np.concatenate([centre + RNG.normal(size=(50, 4)) for centre in centres])
        for _ in range(2)
    )
    precision, recall = precision_recall(real, fake)
    fewer, dropped = precision_recall(real, fake[:100])
    assert min(precision, recall, fewer) > 0.85
    assert dropped == pytest.approx(recall / 2, abs=0.05)
    # Modes that are not in the data lower precision and not recall.
    precision, recall = precision_recall(real[:100], fake)
    assert precision == pytest.approx(0.5, abs=0.05)
    assert recall > 0.85


def test_samples_that_are_all_alike():
    # Far from 0, where squared distances by inner products are most inexact.
    one = np.tile(RNG.normal(size=300) + 1000, (15, 1))
    assert precision_recall(one, one) == (1, 1)
    real = one + RNG.normal(size=one.shape)
    precision, recall = precision_recall(np.concatenate([real, one[:1]]), one)
    assert precision == 1
    assert recall == pytest.approx(1 / 16)


def test_distance_of_equal_rows_is_zero_and_of_others_is_not():
    rows = RNG.normal(size=(30, 300)) + 1000
    near = rows + 0.01
    distances = MODULE._squared_distances(rows, np.concatenate([rows[::-1], near]))
    np.testing.assert_array_equal(np.diag(distances[::-1, :30]), 0)
    np.testing.assert_allclose(np.diag(distances[:, 30:]), 300 * 0.01**2, rtol=1e-3)


@pytest.mark.parametrize("num_neighbors", [0, 4])
def test_wrong_use_is_named(num_neighbors):
    with pytest.raises(ValueError, match=f"from 1 to 3, .* got {num_neighbors}"):
        precision_recall(
            np.zeros([4, 2]), np.zeros([9, 2]), num_neighbors=num_neighbors
        )
