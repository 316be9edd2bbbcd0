"""The classifier score of samples.

Salimans et al. 2016 (arXiv:1606.03498):

    exp E_x KL(p(y|x) || p(y)),   p(y) = E_x p(y|x),

from 1 to the number of classes K: high where each sample is clearly of a class and all
classes are there. It is called the Inception score only of the probabilities of one
network, see `tfzoo.metrics.inception`. It never looks at real images; give theirs, too.
"""

import numpy as np
import scipy.special


def classifier_score(probabilities, *, num_splits=1):
    """Returns the mean and the standard deviation over splits, two floats.

    Args:
      probabilities: p(y|x) of each sample, [N, K].
      num_splits: in how many parts of consecutive samples to split them, each with a
        p(y) of its own; published Inception scores have 10 of 5,000.

    Raises:
      ValueError: if an argument is out of its range.
    """
    probabilities = np.asarray(probabilities, np.float64)
    if probabilities.ndim != 2 or not probabilities.size:
        raise ValueError(
            f"probabilities must be [N, K], got {list(probabilities.shape)}"
        )
    sums = probabilities.sum(axis=1)
    if not (np.abs(sums - 1.0) < 1e-3).all() or (probabilities < 0).any():
        raise ValueError("probabilities must be at least 0 and sum up to 1 in each row")
    if not 1 <= num_splits <= len(probabilities):
        raise ValueError(
            f"num_splits must be from 1 to {len(probabilities)}, got {num_splits}"
        )
    scores = []
    for part in np.array_split(probabilities, num_splits):
        marginal = part.mean(axis=0, keepdims=True)
        kl = scipy.special.rel_entr(part, marginal).sum(axis=1)
        scores.append(np.exp(kl.mean()))
    return float(np.mean(scores)), float(np.std(scores))
