"""How well the categorical code of an InfoGAN tells classes it was never shown.

Chen et al. 2016 (arXiv:1606.03657) match each category of the code to a digit and get
5 % of MNIST wrong. There are two ways to match:

    accuracy: one to one, the best of all assignments. This is the paper's, and that of
              clustering: two codes for one digit leave another digit without.
    purity:   each code to its most frequent label, whoever else has it. It is never
              lower, and is 1 where each image has a code of its own; for more codes
              than classes, as several styles of a digit, it is the one to look at.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment


def code_accuracy(codes, labels):
    """Returns the share of images whose code was matched to their label, a float.

    Codes are matched to labels one to one, such that the share is largest. Where there
    are more codes than labels, what has the others counts as wrong.

    Args:
      codes: the most probable category of each image, integers [N].
      labels: integers [N].

    Raises:
      ValueError: if they are no such arrays.
    """
    counts = _counts(codes, labels)
    matched = counts[linear_sum_assignment(counts, maximize=True)]
    return float(matched.sum() / counts.sum())


def code_purity(codes, labels):
    """Returns the share of images that have the most frequent label of their code.

    Args:
      codes, labels: see `code_accuracy`.

    Raises:
      ValueError: if they are no such arrays.
    """
    counts = _counts(codes, labels)
    return float(counts.max(axis=1).sum() / counts.sum())


def _counts(codes, labels):
    """Returns how many images have a code and a label, [codes, labels]."""
    codes, labels = np.asarray(codes), np.asarray(labels)
    for name, array in (("codes", codes), ("labels", labels)):
        if array.ndim != 1 or not array.size or array.dtype.kind not in "iu":
            raise ValueError(
                f"{name} must be integers [N], got {array.dtype} {list(array.shape)}"
            )
        if array.min() < 0:
            raise ValueError(f"{name} must be at least 0, got {array.min()}")
    if len(codes) != len(labels):
        raise ValueError(f"there are {len(codes)} codes for {len(labels)} labels")
    counts = np.zeros([codes.max() + 1, labels.max() + 1], np.int64)
    np.add.at(counts, (codes, labels), 1)
    return counts
