"""What is asked of features before they are compared."""

import numpy as np


def as_features(features, name="features"):
    """Returns features as a float64 array [N, F].

    Args:
      features: numbers [N, F], N at least 2.
      name: what to call them in messages.

    Raises:
      ValueError: if they have another shape, or are not all finite.
    """
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or features.shape[0] < 2 or features.shape[1] < 1:
        raise ValueError(
            f"{name} must be [N, F] with at least 2 rows, got {list(features.shape)}"
        )
    if not np.isfinite(features).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return features


def as_two_sets(features_a, features_b, names=("features_a", "features_b")):
    """Returns two sets of features as float64 arrays [N, F] and [M, F].

    Raises:
      ValueError: as `as_features` does, or if F is not the same.
    """
    a, b = (
        as_features(features, name)
        for features, name in zip((features_a, features_b), names, strict=True)
    )
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{names[0]} and {names[1]} must be of one network, got {a.shape[1]} and "
            f"{b.shape[1]} numbers a row"
        )
    return a, b
