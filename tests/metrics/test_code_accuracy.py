"""Codes and labels matched by hand, and by trying all ways to match them."""

import itertools

import numpy as np
import pytest

from tfzoo.metrics import code_accuracy, code_purity


def test_accuracy_by_hand():
    # Codes 0 and 1 both say 5 mostly: one of them must do with another label.
    codes = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2])
    labels = np.array([5, 5, 5, 5, 5, 5, 6, 7, 7])
    assert code_accuracy(codes, labels) == pytest.approx((3 + 1 + 2) / 9)
    assert code_purity(codes, labels) == pytest.approx((3 + 3 + 2) / 9)


def test_accuracy_is_that_of_the_best_permutation():
    codes, labels = np.random.default_rng(0).integers(5, size=(2, 200))
    best = max(
        np.mean(np.array(permutation)[codes] == labels)
        for permutation in itertools.permutations(range(5))
    )
    assert code_accuracy(codes, labels) == pytest.approx(best)


def test_names_of_codes_do_not_matter():
    labels = np.arange(100) % 10
    codes = np.random.default_rng(0).permutation(10)[labels]
    assert code_accuracy(codes, labels) == 1
    assert code_purity(codes, labels) == 1
    assert code_accuracy(np.zeros(100, int), labels) == pytest.approx(0.1)


def test_more_codes_than_labels():
    codes, labels = np.arange(6), np.array([0, 0, 0, 1, 1, 1])
    assert code_accuracy(codes, labels) == pytest.approx(2 / 6)
    assert code_purity(codes, labels) == 1


@pytest.mark.parametrize(
    ("codes", "labels", "message"),
    [
        (
            np.zeros([2, 3]),
            [0, 1],
            r"codes must be integers \[N\], got float64 \[2, 3\]",
        ),
        ([0, 1], [0, -1], "labels must be at least 0, got -1"),
        ([0, 1], [0], "there are 2 codes for 1 labels"),
        (np.zeros(0, int), np.zeros(0, int), "codes must be integers"),
    ],
)
def test_wrong_use_is_named(codes, labels, message):
    for function in (code_accuracy, code_purity):
        with pytest.raises(ValueError, match=message):
            function(codes, labels)
