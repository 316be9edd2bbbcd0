"""Frechet distance against closed forms, SciPy's matrix root and singular values."""

import numpy as np
import pytest
import scipy.linalg

from tfzoo.metrics import frechet_distance, gaussian_frechet_distance

RNG = np.random.default_rng(0)


def with_moments(mean, covariance, num=200):
    """Features whose mean and unbiased covariance are exactly these."""
    features = RNG.normal(size=(num, len(mean)))
    features -= features.mean(axis=0)
    # (R^T R is the covariance.)
    whitened = features @ np.linalg.inv(np.linalg.cholesky(np.cov(features.T)).T)
    return mean + whitened @ np.linalg.cholesky(covariance).T


def test_distance_of_diagonal_gaussians_in_closed_form():
    mean_a, mean_b = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, 0.5])
    stddev_a, stddev_b = np.array([1.0, 0.2, 3.0]), np.array([2.0, 0.2, 0.5])
    a = with_moments(mean_a, np.diag(stddev_a**2))
    b = with_moments(mean_b, np.diag(stddev_b**2), num=70)
    expected = ((mean_a - mean_b) ** 2).sum() + ((stddev_a - stddev_b) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)
    one = frechet_distance(a[:, :1], b[:, :1])
    assert one == pytest.approx(1.0 + 1.0, rel=1e-10)


def test_distance_is_that_by_the_matrix_root():
    a = RNG.normal(size=(300, 12)) @ RNG.normal(size=(12, 12)) + RNG.normal(size=12)
    b = RNG.normal(size=(250, 12)) @ RNG.normal(size=(12, 12))
    covariance_a, covariance_b = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(covariance_a @ covariance_b)
    expected = np.square(a.mean(0) - b.mean(0)).sum()
    expected += np.trace(covariance_a + covariance_b - 2 * root.real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)
    statistics = a.mean(0), covariance_a, b.mean(0), covariance_b
    assert gaussian_frechet_distance(*statistics) == pytest.approx(expected, rel=1e-9)


def test_fewer_images_than_features():
    a = RNG.normal(size=(20, 90)) * 3 + 1
    b = RNG.normal(size=(30, 90))
    # tr (C_a C_b)^(1/2) is the sum of the singular values of A B^T, A and B centred.
    centred = [x - x.mean(0) for x in (a, b)]
    singular = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False)
    expected = np.square(a.mean(0) - b.mean(0)).sum()
    expected += np.trace(np.cov(a.T)) + np.trace(np.cov(b.T))
    expected -= 2 * singular.sum() / np.sqrt(19 * 29)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-7)


def test_distance_of_features_from_themselves_is_none():
    for size in (5, 400):
        features = RNG.normal(size=(50, size))
        assert 0 <= frechet_distance(features, features[::-1]) < 1e-5
    constant = np.ones([10, 4], np.float32)
    assert frechet_distance(constant, constant) == 0
    # All samples alike: what is left is the distance of means and the real spread.
    expected = np.square(features.mean(0)).sum() + np.trace(np.cov(features.T))
    zeros = np.zeros([10, 400])
    assert frechet_distance(features, zeros) == pytest.approx(expected)


def test_single_precision_features_are_summed_in_double():
    features = RNG.normal(size=(500, 3))
    shifted = (features + 1000).astype(np.float32)
    assert frechet_distance(shifted, features + 1001) == pytest.approx(3, rel=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: frechet_distance(np.zeros([3]), np.zeros([3, 2])),
            r"features_a must be \[N, F\] with at least 2 rows, got \[3\]",
        ),
        (
            lambda: frechet_distance(np.zeros([3, 2]), np.zeros([1, 2])),
            r"features_b must be .* got \[1, 2\]",
        ),
        (
            lambda: frechet_distance(np.zeros([3, 2]), np.zeros([3, 4])),
            "must be of one network, got 2 and 4 numbers a row",
        ),
        (
            lambda: frechet_distance(np.full([3, 2], np.nan), np.zeros([3, 2])),
            "features_a must be finite",
        ),
        (
            lambda: gaussian_frechet_distance([0], [[1]], [0, 0], [[1]]),
            r"covariances \[F, F\], got \(1,\), \(2,\), \(1, 1\), \(1, 1\)",
        ),
    ],
)
def test_wrong_use_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
