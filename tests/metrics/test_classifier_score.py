"""The classifier score at its limits and by hand."""

import numpy as np
import pytest

from tfzoo.metrics import classifier_score


def test_limits():
    sure = np.eye(4)[np.arange(40) % 4]
    assert classifier_score(sure) == (pytest.approx(4), 0)
    # Always the same class, or never sure of one.
    assert classifier_score(sure[::4])[0] == pytest.approx(1)
    assert classifier_score(np.full([10, 4], 0.25))[0] == pytest.approx(1)


def test_score_by_hand():
    probabilities = np.array([[0.8, 0.2], [0.4, 0.6]])
    marginal = np.array([0.6, 0.4])
    kl = [
        0.8 * np.log(0.8 / 0.6) + 0.2 * np.log(0.2 / 0.4),
        0.4 * np.log(0.4 / 0.6) + 0.6 * np.log(0.6 / 0.4),
    ]
    assert marginal.sum() == 1
    score, _ = classifier_score(probabilities)
    assert score == pytest.approx(np.exp(np.mean(kl)))


def test_each_split_has_a_marginal_of_its_own():
    # Classes 0 and 1, then class 0 alone: 2 and 1.
    sure = np.eye(2)[[0, 1, 0, 1, 0, 0, 0, 0]]
    assert classifier_score(sure, num_splits=2) == pytest.approx((1.5, 0.5))


@pytest.mark.parametrize(
    ("probabilities", "splits", "message"),
    [
        (np.zeros([3]), 1, r"must be \[N, K\], got \[3\]"),
        (np.ones([3, 2]), 1, "sum up to 1"),
        (np.full([3, 2], 0.5), 4, "num_splits must be from 1 to 3, got 4"),
    ],
)
def test_wrong_use_is_named(probabilities, splits, message):
    with pytest.raises(ValueError, match=message):
        classifier_score(probabilities, num_splits=splits)
