"""Frechet distance of features.

Heusel et al. 2017 (arXiv:1706.08500): with Gaussians N(m, C) put through two sets of
features,

    d^2 = |m_a - m_b|^2 + tr C_a + tr C_b - 2 tr (C_a C_b)^(1/2).

It is called FID only of the features of one network, see `tfzoo.metrics.inception`.
C_a C_b has the eigenvalues of the symmetric R C_b R with R = C_a^(1/2), so that two
symmetric eigenvalue problems stand in place of the square root of a matrix that is not
symmetric, which may leave the real numbers where there are fewer images than features.
Here a covariance may have any rank.

The estimate is too high by an amount that falls as 1 / N and grows with F: compare
scores of one number of images only.
"""

import numpy as np

from tfzoo.metrics.features import as_two_sets


def frechet_distance(features_a, features_b):
    """Returns the squared Frechet distance of two sets of features, a float.

    Covariances are unbiased (N - 1), and all is computed in float64.

    Args:
      features_a, features_b: [N, F] and [M, F], N and M at least 2.

    Raises:
      ValueError: if they are no such arrays.
    """
    a, b = as_two_sets(features_a, features_b)
    return gaussian_frechet_distance(
        a.mean(axis=0), _covariance(a), b.mean(axis=0), _covariance(b)
    )


def gaussian_frechet_distance(mean_a, covariance_a, mean_b, covariance_b):
    """Returns the squared Frechet distance of two Gaussians, a float.

    Args:
      mean_a, mean_b: [F].
      covariance_a, covariance_b: [F, F], symmetric and without negative eigenvalues but
        for rounding.

    Raises:
      ValueError: if the shapes do not go together.
    """
    means = [np.asarray(mean, np.float64) for mean in (mean_a, mean_b)]
    covariances = [np.asarray(c, np.float64) for c in (covariance_a, covariance_b)]
    size = means[0].size
    shapes = [array.shape for array in (*means, *covariances)]
    if shapes != [(size,), (size,), (size, size), (size, size)]:
        raise ValueError(
            "means must be [F] and covariances [F, F], got "
            f"{', '.join(map(str, shapes))}"
        )
    eigenvalues, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.maximum(eigenvalues, 0.0))) @ vectors.T
    product = root @ covariances[1] @ root
    # Rounding leaves it not quite symmetric, and zeros a little below zero.
    eigenvalues = np.linalg.eigvalsh((product + product.T) / 2)
    trace_of_root = np.sqrt(np.maximum(eigenvalues, 0.0)).sum()
    distance = (
        np.square(means[0] - means[1]).sum()
        + np.trace(covariances[0])
        + np.trace(covariances[1])
        - 2.0 * trace_of_root
    )
    return max(float(distance), 0.0)


def _covariance(features):
    return np.atleast_2d(np.cov(features, rowvar=False))
