"""Drawing many samples from a generative model."""

import numpy as np
import tensorflow as tf

from tfzoo import random


def sampler(model, batch_size=100):
    """Returns a function (num, seed=0, labels=None) to samples of a model as it is.

    Batches are of one size, so that drawing is compiled once.

    Args:
      model: with `sample_from(num, seed)`, as the `GenerativeModel`s of tfzoo have it,
        or `sample_from(num, seed, labels)`, as conditional `GAN`s do.
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

    @tf.function
    def draw_batch(seed, *labels):
        return model.sample_from(batch_size, seed, *labels)

    def draw(num, seed=0, labels=None):
        """Returns samples, a float32 array [num, H, W, C].

        Args:
          num: how many, at least 1.
          seed: an integer. The first samples of a larger number are those of a smaller.
          labels: integers [num], the classes of a conditional model; by default it
            draws them itself.
        """
        if num < 1:
            raise ValueError(f"num must be at least 1, got {num}")
        seed = random.make_seed(seed)
        num_batches = -(-num // batch_size)
        # What fills the last batch is left out at the end.
        parts = [()] * num_batches
        if labels is not None:
            if len(labels) != num:
                raise ValueError(f"there must be {num} labels, got {len(labels)}")
            filled = np.resize(np.asarray(labels, np.int32), num_batches * batch_size)
            parts = [(tf.constant(part),) for part in np.split(filled, num_batches)]
        batches = [
            draw_batch(random.fold_in(seed, number), *part).numpy()
            for number, part in enumerate(parts)
        ]
        return np.concatenate(batches)[:num]

    return draw


def draw_samples(model, num, *, batch_size=100, seed=0, labels=None):
    """Returns samples of a model, a float32 array [num, H, W, C].

    Args:
      model: see `sampler`.
      num: how many, at least 1.
      batch_size: how many to draw at a time; other samples for another one.
      seed: an integer.
      labels: integers [num], for a conditional model; by default it draws them.

    Raises:
      ValueError: as `sampler` does, or if `num` is not positive.
    """
    return sampler(model, batch_size)(num, seed, labels)
