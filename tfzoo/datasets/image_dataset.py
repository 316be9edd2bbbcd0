"""Images in memory, and the batches of them that models are fitted to."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfzoo import random
from tfzoo.datasets.errors import DatasetError

BINARIZATIONS = ("static", "dynamic", "threshold")
# The draws of static binarisation are the same wherever it is asked for.
_STATIC_SEED = 0


class ImageSplit(NamedTuple):
    """A part of a data set.

    Attributes:
      images: uint8 array [N, H, W, C].
      labels: int32 array [N] of class indices, or None.
    """

    images: np.ndarray
    labels: np.ndarray | None


class ImageDataset:
    """Images in memory, split into those to learn from and those to test on.

      dataset = load_images("digits")
      batches = dataset.batches(64, value_range=(-1, 1))
      model.fit(batches, steps_per_epoch=dataset.steps_per_epoch(64), epochs=10)

    The order of batches follows from a seed and from the number of the first one alone,
    so that training goes on after a stop with the very batches that were to come.

    Args:
      name: what it is called in messages.
      train, test: `ImageSplit`s of images of one shape.
      class_names: a list of strings, or None; index c is that of label c.

    Raises:
      DatasetError: if the splits do not go together.
    """

    def __init__(self, name, train, test, class_names=None):
        for split in (train, test):
            if split.images.dtype != np.uint8 or split.images.ndim != 4:
                raise DatasetError(
                    f"{name}: images must be uint8 [N, H, W, C], got "
                    f"{split.images.dtype} {list(split.images.shape)}"
                )
            if not len(split.images) or split.images.shape[-1] not in (1, 3):
                raise DatasetError(
                    f"{name}: there must be images of 1 or 3 channels to train and to "
                    f"test on, got {list(split.images.shape)}"
                )
            if split.labels is not None and len(split.labels) != len(split.images):
                raise DatasetError(
                    f"{name}: there are {len(split.labels)} labels for "
                    f"{len(split.images)} images"
                )
        if train.images.shape[1:] != test.images.shape[1:]:
            raise DatasetError(
                f"{name}: images to train on are {list(train.images.shape[1:])}, those "
                f"to test on {list(test.images.shape[1:])}"
            )
        self.name = name
        self.train = train
        self.test = test
        self.class_names = class_names
        self._tensors = {}

    @property
    def image_shape(self):
        """(H, W, C)."""
        return self.train.images.shape[1:]

    @property
    def num_classes(self):
        """How many classes there are.

        Raises:
          DatasetError: if there are no labels.
        """
        if self.class_names is not None:
            return len(self.class_names)
        self._check_labels("train")
        return int(self.train.labels.max()) + 1

    def steps_per_epoch(self, batch_size, split="train"):
        """Returns how many whole batches a split has.

        Raises:
          DatasetError: if it has none.
        """
        size = len(self.split(split).images)
        if not 1 <= batch_size <= size:
            raise DatasetError(
                f"a batch of {batch_size} cannot be made of the {size} images of "
                f"{self.name} to {split}"
            )
        return size // batch_size

    def batches(
        self,
        batch_size,
        *,
        split="train",
        value_range=(0.0, 1.0),
        labels=False,
        binarize=None,
        seed=0,
        first_batch=0,
    ):
        """Returns endless shuffled batches, a `tf.data.Dataset`.

        Every image comes once in an epoch of `steps_per_epoch` batches, but for those
        that do not fill one. Each epoch has an order of its own.

        Args:
          batch_size: B.
          split: "train" or "test".
          value_range: (low, high), what black and white become.
          labels: whether elements are (images, labels) and not images alone.
          binarize: None; "static": each pixel is black or white, drawn once for all
            with its brightness as the probability of white; "dynamic": drawn anew for
            each batch; "threshold": white from a half on.
          seed: an integer; of the order, and of dynamic binarisation.
          first_batch: the number of batches to leave out.

        Returns:
          Elements float32 [B, H, W, C], with labels int32 [B] if asked for.

        Raises:
          DatasetError: if a batch is larger than the split or there are no labels.
          ValueError: if `binarize` is unknown.
        """
        steps = self.steps_per_epoch(batch_size, split)
        size = len(self.split(split).images)
        make = self._make_batch(split, value_range, labels, binarize)
        order_seed, noise_seed = tf.unstack(random.split(random.make_seed(seed), 2))

        def epoch(number):
            order = random.permutation(size, random.fold_in(order_seed, number))
            order = tf.reshape(order[: steps * batch_size], [steps, batch_size])
            return tf.data.Dataset.from_tensor_slices(order)

        numbers = tf.data.Dataset.counter(first_batch // steps)
        indices = numbers.flat_map(epoch).skip(first_batch % steps)
        batches = indices.enumerate(first_batch).map(
            lambda number, index: make(index, random.fold_in(noise_seed, number)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return _shard_by_batch(batches.prefetch(tf.data.AUTOTUNE))

    def once(
        self,
        batch_size,
        *,
        split="test",
        value_range=(0.0, 1.0),
        labels=False,
        binarize=None,
        seed=0,
    ):
        """Returns all images of a split once, in their order, a `tf.data.Dataset`.

        The last batch holds what is left. The arguments are those of `batches`.
        """
        make = self._make_batch(split, value_range, labels, binarize)
        size = len(self.split(split).images)
        noise_seed = random.make_seed(seed)
        indices = tf.data.Dataset.range(size, output_type=tf.int32).batch(batch_size)
        batches = indices.enumerate().map(
            lambda number, index: make(index, random.fold_in(noise_seed, number)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return _shard_by_batch(batches.prefetch(tf.data.AUTOTUNE))

    def split(self, split):
        """Returns the `ImageSplit` of a name, "train" or "test".

        Raises:
          ValueError: if it is another name.
        """
        if split not in ("train", "test"):
            raise ValueError(f"split must be 'train' or 'test', got {split!r}")
        return getattr(self, split)

    def _check_labels(self, split):
        if self.split(split).labels is None:
            raise DatasetError(f"{self.name} has no labels")

    def _make_batch(self, split, value_range, labels, binarize):
        """Returns a function of (indices [B], a seed) to a batch."""
        if binarize is not None and binarize not in BINARIZATIONS:
            raise ValueError(
                f"binarize must be None or one of {', '.join(BINARIZATIONS)}, got "
                f"{binarize!r}"
            )
        if labels:
            self._check_labels(split)
        low, high = value_range
        images = self._images(split, binarize)
        classes = self.split(split).labels
        classes = None if classes is None else tf.constant(classes, tf.int32)

        def make(index, seed):
            brightness = tf.cast(tf.gather(images, index), tf.float32) / 255.0
            if binarize == "dynamic":
                number = random.uniform(tf.shape(brightness), seed)
                brightness = tf.cast(number < brightness, tf.float32)
            batch = low + (high - low) * brightness
            return (batch, tf.gather(classes, index)) if labels else batch

        return make

    def _images(self, split, binarize):
        """Returns the images of a split as a tensor, made once."""
        binarize = binarize if binarize in ("static", "threshold") else None
        if (split, binarize) not in self._tensors:
            images = self.split(split).images
            if binarize:
                images = binarized(images, static=binarize == "static")
            self._tensors[split, binarize] = tf.constant(images)
        return self._tensors[split, binarize]


def binarized(images, *, static):
    """Returns images uint8 [N, H, W, C] of 0 and 255.

    Args:
      images: uint8 [N, H, W, C].
      static: whether a pixel is drawn, white with its brightness as the probability,
        and not white from a half on. The draws are always the same.
    """
    if not static:
        return np.where(images >= 128, 255, 0).astype(np.uint8)
    generator = np.random.default_rng(_STATIC_SEED)
    # By images, as the numbers of all at once would take eight times their memory.
    return np.stack(
        [
            np.where(generator.random(image.shape) * 255 < image, 255, 0)
            for image in images
        ]
    ).astype(np.uint8)


def _shard_by_batch(dataset):
    """Lets `tf.distribute` split a dataset by its elements and not by files."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return dataset.with_options(options)
