"""Drawing many samples from a generative model."""

import numpy as np
import tensorflow as tf

from tfzoo import random


def sampler(model, batch_size=100):
    """Returns a function (num, seed=0) to samples of a model as it then is.

    Batches are of one size, so that drawing is compiled once.

    Args:
      model: with `sample_from(num, seed)`, as the `GenerativeModel`s of tfzoo have it.
      batch_size: how many to draw at a time.

    Raises:
      ValueError: if the batch size is not positive, or the model cannot draw.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if not hasattr(model, "sample_from"):
        raise ValueError(
            f"{type(model).__name__} has no sample_from(num, seed) to draw samples by"
        )

    @tf.function(input_signature=[tf.TensorSpec([2], tf.int32)])
    def draw_batch(seed):
        return model.sample_from(batch_size, seed)

    def draw(num, seed=0):
        """Returns samples, a float32 array [num, H, W, C].

        Args:
          num: how many, at least 1.
          seed: an integer. The first samples of a larger number are those of a smaller.
        """
        if num < 1:
            raise ValueError(f"num must be at least 1, got {num}")
        seed = random.make_seed(seed)
        batches = [
            draw_batch(random.fold_in(seed, number)).numpy()
            for number in range(-(-num // batch_size))
        ]
        return np.concatenate(batches)[:num]

    return draw


def draw_samples(model, num, *, batch_size=100, seed=0):
    """Returns samples of a model, a float32 array [num, H, W, C].

    Args:
      model: see `sampler`.
      num: how many, at least 1.
      batch_size: how many to draw at a time; other samples for another one.
      seed: an integer.

    Raises:
      ValueError: as `sampler` does, or if `num` is not positive.
    """
    return sampler(model, batch_size)(num, seed)
