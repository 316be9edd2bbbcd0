"""Kernel distance of features.

Bińkowski et al. 2018 (arXiv:1801.01401): the squared maximum mean discrepancy with the
kernel k(x, y) = (x.y / F + 1)^3, without bias,

    sum_{i != j} k(x_i, x_j) / (N (N - 1)) + sum_{i != j} k(y_i, y_j) / (M (M - 1))
        - 2 sum_{i, j} k(x_i, y_j) / (N M).

As it has no bias, scores of different numbers of images can be compared, and those of
equal distributions have a mean of 0, so that they may be negative. It is called KID
only of the features of one network, see `tfzoo.metrics.inception`.
"""

import numpy as np

from tfzoo.metrics.features import as_two_sets


def unbiased_squared_mmd(features_a, features_b):
    """Returns the unbiased estimate of the squared discrepancy, a float.

    Args:
      features_a, features_b: [N, F] and [M, F], N and M at least 2.

    Raises:
      ValueError: if they are no such arrays.
    """
    a, b = as_two_sets(features_a, features_b)
    return _mean_of_pairs(a) + _mean_of_pairs(b) - 2.0 * float(_kernel(a, b).mean())


def kernel_distance(
    features_a, features_b, *, num_subsets=100, subset_size=1000, seed=0
):
    """Returns the mean and the standard deviation over random subsets, two floats.

    Each pair of subsets is drawn without replacement. Subsets overlap, so that the
    standard deviation tells how far subsets differ, not how exact the mean is.

    Args:
      features_a, features_b: [N, F] and [M, F].
      num_subsets: how many pairs of subsets.
      subset_size: their size, at most N and M.
      seed: an integer; of the subsets.

    Raises:
      ValueError: if an argument is out of its range.
    """
    a, b = as_two_sets(features_a, features_b)
    if num_subsets < 1:
        raise ValueError(f"num_subsets must be at least 1, got {num_subsets}")
    if not 2 <= subset_size <= min(len(a), len(b)):
        raise ValueError(
            f"subset_size must be from 2 to {min(len(a), len(b))}, the size of the "
            f"smaller set, got {subset_size}"
        )
    generator = np.random.default_rng(seed)
    distances = [
        unbiased_squared_mmd(
            a[generator.choice(len(a), subset_size, replace=False)],
            b[generator.choice(len(b), subset_size, replace=False)],
        )
        for _ in range(num_subsets)
    ]
    return float(np.mean(distances)), float(np.std(distances))


def _kernel(a, b):
    """Returns k of all pairs, [N, M]."""
    inner = a @ b.T / a.shape[1] + 1.0
    # A power is an order of magnitude slower than two products.
    return inner * inner * inner


def _mean_of_pairs(features):
    """Returns the mean of k over pairs of different rows."""
    kernel = _kernel(features, features)
    num = len(features)
    return float((kernel.sum() - np.trace(kernel)) / (num * (num - 1)))
