"""A network that gives images features to be compared by, and its record."""

import hashlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Images may leave their range by this share of it, by rounding.
_SLACK = 1e-3


class FeatureOutputs(NamedTuple):
    """What a network says of images.

    Attributes:
      features: float32 array [N, F].
      probabilities: of classes, float32 array [N, K].
    """

    features: np.ndarray
    probabilities: np.ndarray


class FeatureNetwork:
    """A network that gives images features and classes, one compiled call a batch.

      outputs = network(images, value_range=(0, 1))

    Args:
      name: what it is, for records.
      run: a function of images float32 [B, H, W, C] from -1 to 1 to features [B, F] and
        probabilities [B, K]; a `keras.Model`, for instance.
      hash: of its weights, for records; see `hash_of`.
      image_shape: (H, W, C); None where any will do.
      resizer: how it scales images, for records.
      accuracy: on the images to test on of the data set that it was trained on, or
        None.
    """

    def __init__(
        self,
        name,
        run,
        hash,
        *,
        image_shape=(None, None, None),
        resizer="none",
        accuracy=None,
    ):
        self.name = name
        self.hash = hash
        self.image_shape = tuple(image_shape)
        self.resizer = resizer
        self.accuracy = accuracy
        self._run = tf.function(
            run, input_signature=[tf.TensorSpec([None, *self.image_shape], tf.float32)]
        )

    def __call__(self, images, *, value_range, batch_size=100):
        """Returns `FeatureOutputs` of images.

        Args:
          images: numbers [N, H, W, C], N at least 1.
          value_range: (black, white) of the images, such as (0, 255).
          batch_size: how many to look at at a time.

        Raises:
          ValueError: if the images have another shape or leave the range.
        """
        images = np.asarray(images)
        self._check(images, value_range)
        low, high = value_range
        outputs = []
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].astype(np.float32)
            outputs.append(self._run(2.0 * (batch - low) / (high - low) - 1.0))
        parts = zip(*outputs, strict=True)
        return FeatureOutputs(*(np.concatenate(part) for part in parts))

    def record(self):
        """Returns what to store beside a score, a dict for JSON."""
        return {
            "features": self.name,
            "features_hash": self.hash,
            "features_accuracy": self.accuracy,
            "resizer": self.resizer,
        }

    def _check(self, images, value_range):
        low, high = value_range
        if not low < high:
            raise ValueError(f"value_range must be (black, white), got {value_range}")
        pairs = zip(images.shape[1:], self.image_shape, strict=False)
        if (
            images.ndim != 4
            or not len(images)
            or any(size not in (given, None) for given, size in pairs)
        ):
            sizes = ", ".join(str(size or "any") for size in self.image_shape)
            raise ValueError(
                f"{self.name} takes images [N, {sizes}], got {list(images.shape)}"
            )
        least, most = float(images.min()), float(images.max())
        slack = _SLACK * (high - low)
        if not (low - slack <= least and most <= high + slack):
            raise ValueError(
                f"images must be within value_range=({low:g}, {high:g}), got numbers "
                f"from {least:.4g} to {most:.4g}"
            )


def hash_of(arrays):
    """Returns 16 hexadecimal digits that depend on the arrays' types and contents."""
    digest = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array)
    return digest.hexdigest()[:16]
