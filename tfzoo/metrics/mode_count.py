"""How many modes samples cover, and the data set made to count them.

Metz et al. 2016 (arXiv:1611.02163) stack three random digits of MNIST as the channels
of an image: 1,000 classes, equally likely. A classifier of digits tells the class of
each channel of a sample. Counted are the classes that occur at all, and the divergence

    KL(p || u) = sum_c p(c) log (p(c) / u(c)),   u(c) = 1 / 1,000,

of their shares p among the samples. PacGAN (arXiv:1712.04086) has 128,000 images to
learn from and counts in 26,000 samples; even of N samples that are perfect KL is about
999 / (2 N), 0.02 there, and more by what the classifier gets wrong.
"""

from typing import NamedTuple

import numpy as np
import scipy.special

from tfzoo.datasets import ImageDataset, ImageSplit

_NUM_STACKED = 3


class ModeCount(NamedTuple):
    """Modes that samples cover.

    Attributes:
      num_covered: how many classes occur.
      kl_divergence: of the classes' shares from the uniform distribution, in nats.
    """

    num_covered: int
    kl_divergence: float


def mode_count(classes, num_modes=1000):
    """Returns the `ModeCount` of samples.

    Args:
      classes: of samples, integers [N] from 0 to `num_modes` - 1.
      num_modes: how many there are.

    Raises:
      ValueError: if there are none, or others.
    """
    classes = np.asarray(classes)
    if classes.ndim != 1 or not classes.size or classes.dtype.kind not in "iu":
        raise ValueError(
            f"classes must be integers [N], got {classes.dtype} {list(classes.shape)}"
        )
    if not 0 <= classes.min() <= classes.max() < num_modes:
        raise ValueError(
            f"classes must be from 0 to {num_modes - 1}, got {classes.min()} to "
            f"{classes.max()}"
        )
    shares = np.bincount(classes, minlength=num_modes) / classes.size
    kl = scipy.special.rel_entr(shares, 1.0 / num_modes).sum()
    return ModeCount(int(np.count_nonzero(shares)), float(kl))


def stacked(images, labels, seed=0, *, num=None, num_classes=None):
    """Stacks random grey images by threes, as the channels of colour images.

    Args:
      images: [N, H, W, 1].
      labels: integers [N], from 0 to K - 1.
      seed: of `numpy.random.default_rng`.
      num: how many to make; by default N.
      num_classes: K; by default the largest of the labels and 1.

    Returns:
      Images [num, H, W, 3] of the same dtype, and labels int32 [num], K^2 a + K b + c
      where the channels show a, b and c.

    Raises:
      ValueError: if the images are not grey or the labels are not theirs.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or images.shape[-1] != 1:
        raise ValueError(f"images must be [N, H, W, 1], got {list(images.shape)}")
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"labels must be [{len(images)}], one for each image, got "
            f"{list(labels.shape)}"
        )
    num = len(images) if num is None else num
    chosen = np.random.default_rng(seed).integers(len(images), size=(num, _NUM_STACKED))
    channels = [images[column, :, :, 0] for column in chosen.T]
    num_classes = num_classes or int(labels.max()) + 1
    return np.stack(channels, axis=-1), _combined(labels[chosen], num_classes)


def stacked_dataset(dataset, *, num_train=128_000, num_test=26_000, seed=0):
    """Returns an `ImageDataset` of stacked images, with K^3 classes.

    Args:
      dataset: an `ImageDataset` of grey images with labels, such as MNIST.
      num_train, num_test: how many to make of the images of each split.
      seed: an integer.

    Raises:
      ValueError: if its images are not grey or have no labels.
    """
    splits = []
    seeds = np.random.SeedSequence(seed).spawn(2)
    sizes = num_train, num_test
    for name, own, num in zip(("train", "test"), seeds, sizes, strict=True):
        split = getattr(dataset, name)
        if split.labels is None:
            raise ValueError(f"{dataset.name} has no labels to name stacked images by")
        images, labels = stacked(
            split.images, split.labels, own, num=num, num_classes=dataset.num_classes
        )
        splits.append(ImageSplit(images, labels))
    num_modes = dataset.num_classes**_NUM_STACKED
    names = [str(mode).zfill(len(str(num_modes - 1))) for mode in range(num_modes)]
    return ImageDataset(f"stacked {dataset.name}", *splits, names)


def stacked_classes(images, classifier, *, value_range):
    """Returns the classes of stacked images, int32 [N], by those of their channels.

    Args:
      images: [N, H, W, 3].
      classifier: a `FeatureNetwork` for one channel; see `feature_classifier`.
      value_range: (black, white) of the images.

    Raises:
      ValueError: if the images have other channels.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != _NUM_STACKED:
        raise ValueError(f"images must be [N, H, W, 3], got {list(images.shape)}")
    outputs = [
        classifier(images[..., channel : channel + 1], value_range=value_range)
        for channel in range(_NUM_STACKED)
    ]
    digits = np.stack([each.probabilities.argmax(axis=1) for each in outputs], axis=1)
    return _combined(digits, outputs[0].probabilities.shape[1])


class StackedScorer:
    """Counts the modes of samples, and those of a split's images, once.

      scorer = StackedScorer(stacked_dataset(mnist), feature_classifier(mnist))
      scores = scorer(draw_samples(model, 26_000), value_range=model.value_range)

    Args:
      dataset: what `stacked_dataset` returned.
      network: a `FeatureNetwork` for one channel.
      split: "train" or "test".

    Attributes:
      shown: the scores that `SampleScores` shows.

    Raises:
      ValueError: if the split is another, or the images have other channels.
    """

    shown = ("num_covered", "kl_divergence")

    def __init__(self, dataset, network, *, split="test"):
        self.dataset = dataset
        self.network = network
        self.split = split
        classes = [
            stacked_classes(images, network, value_range=(0, 1))
            for images in dataset.once(500, split=split)
        ]
        self._real = np.concatenate(classes)

    def __call__(self, samples, *, value_range):
        """Returns the count of samples and its record, a dict for JSON.

        Args:
          samples: [N, H, W, 3].
          value_range: (black, white) of the samples.

        Returns:
          "num_covered" and "kl_divergence", see `ModeCount`; the same of the split's
          images with "_of_data" behind their names; "split", "num_samples", "num_real",
          "features", "features_hash", "features_accuracy", "resizer".

        Raises:
          ValueError: if the samples have other channels.
        """
        classes = stacked_classes(samples, self.network, value_range=value_range)
        modes, modes_of_data = (
            mode_count(each, self.dataset.num_classes)._asdict()
            for each in (classes, self._real)
        )
        return {
            **modes,
            **{f"{name}_of_data": value for name, value in modes_of_data.items()},
            "split": self.split,
            "num_samples": len(classes),
            "num_real": len(self._real),
            **self.network.record(),
        }


def _combined(classes, num_classes):
    """Returns the numbers that classes [N, 3] are the digits of, int32 [N]."""
    places = num_classes ** np.arange(_NUM_STACKED)[::-1]
    return (classes.astype(np.int64) @ places).astype(np.int32)
