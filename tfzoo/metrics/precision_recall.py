"""Precision and recall of samples.

Kynkäänniemi et al. 2019 (arXiv:1904.06991): a set of features stands for the union of
balls around its rows, each as large as the distance to the row's k-th nearest
neighbour in the set.

    precision: the share of samples within the balls of real images (are they good?)
    recall:    the share of real images within the balls of samples (are all there?)

Both depend on the number of images; the paper has 50,000 of each and k = 3. Neither
says anything alone. The ball of one real image far from the others may hold what a
network finds alike only because it knows neither: by the features of a classifier of
MNIST, 2,000 images of pure noise have a precision of 0.996, with a recall of 0 and a
Frechet distance 500 times that of real images.
"""

import numpy as np

from tfzoo.metrics.features import as_two_sets

# Rows of a block of distances, and the share of squared norms below which a squared
# distance is what rounding left of none.
_BLOCK = 1000
_ROUNDING = 1e-12


def precision_recall(real, fake, *, num_neighbors=3):
    """Returns precision and recall, two floats from 0 to 1.

    Args:
      real: features of real images, [N, F].
      fake: features of samples, [M, F].
      num_neighbors: k, less than N and M.

    Raises:
      ValueError: if an argument is out of its range.
    """
    real, fake = as_two_sets(real, fake, ("real", "fake"))
    most = min(len(real), len(fake)) - 1
    if not 1 <= num_neighbors <= most:
        raise ValueError(
            f"num_neighbors must be from 1 to {most}, one less than the smaller set "
            f"has rows, got {num_neighbors}"
        )
    real_radii = _squared_radii(real, num_neighbors)
    fake_radii = _squared_radii(fake, num_neighbors)
    is_good = np.zeros(len(fake), bool)
    is_covered = np.zeros(len(real), bool)
    for rows in _blocks(len(real)):
        distances = _squared_distances(real[rows], fake)
        is_good |= (distances <= real_radii[rows, None]).any(axis=0)
        is_covered[rows] = (distances <= fake_radii).any(axis=1)
    return float(is_good.mean()), float(is_covered.mean())


def _squared_radii(features, num_neighbors):
    """Returns the squared distances to the k-th nearest other rows, [N]."""
    radii = np.empty(len(features))
    for rows in _blocks(len(features)):
        distances = _squared_distances(features[rows], features)
        own = np.arange(len(features))[rows]
        distances[np.arange(len(own)), own] = np.inf
        nearest = np.partition(distances, num_neighbors - 1, axis=1)
        radii[rows] = nearest[:, num_neighbors - 1]
    return radii


def _squared_distances(a, b):
    """Returns the squared distances of all pairs, [N, M]; 0 for equal rows."""
    norms = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)
    distances = norms - 2.0 * a @ b.T
    return np.where(distances < _ROUNDING * norms, 0.0, distances)


def _blocks(size):
    return [slice(start, start + _BLOCK) for start in range(0, size, _BLOCK)]
