"""All scores of samples at once, with what must be known to compare them.

Numbers of one name differ by more than models do where the split, the number of images,
the features or the resizer differ: each record holds them.
"""

import math

import keras
import numpy as np

from tfzoo.metrics.classifier_score import classifier_score
from tfzoo.metrics.draw_samples import sampler
from tfzoo.metrics.feature_classifier import feature_classifier
from tfzoo.metrics.feature_network import FeatureOutputs
from tfzoo.metrics.frechet_distance import frechet_distance
from tfzoo.metrics.kernel_distance import kernel_distance
from tfzoo.metrics.mode_count import mode_count
from tfzoo.metrics.precision_recall import precision_recall
from tfzoo.metrics.sharpness import sharpness

_NUM_NEIGHBORS = 3
MIN_IMAGES = _NUM_NEIGHBORS + 1
_KERNEL_SUBSETS = 20
_KERNEL_SUBSET_SIZE = 1000


class SampleScorer:
    """Scores samples against the images of a split, which are looked at once.

      scorer = SampleScorer(dataset, feature_classifier(dataset))
      scores = scorer(draw_samples(model, 10_000), value_range=model.value_range)

    Args:
      dataset: an `ImageDataset`.
      network: a `FeatureNetwork`.
      split: "train" or "test".
      binarize: see `ImageDataset.batches`, for models of black and white images.
      num_splits: of the classifier score; see `classifier_score`.
      seed: an integer; of the images that are chosen where only some are compared, of
        their order where the classifier score is of splits, and of dynamic
        binarisation.

    Attributes:
      shown: the scores that `SampleScores` shows.

    Raises:
      ValueError: if an argument is out of its range, or the split has too few images.
    """

    shown = ("frechet_distance", "kernel_distance", "precision", "recall")

    def __init__(
        self, dataset, network, *, split="test", binarize=None, num_splits=1, seed=0
    ):
        self.dataset = dataset
        self.network = network
        self.split = split
        self.binarize = binarize
        self.num_splits = num_splits
        self.seed = seed
        num = len(dataset.split(split).images)
        if num < MIN_IMAGES:
            raise ValueError(
                f"{dataset.name} has {num} images to {split}, and scores need at least "
                f"{MIN_IMAGES}"
            )
        outputs, sharpnesses, sizes = [], [], []
        for images in dataset.once(500, split=split, binarize=binarize, seed=seed):
            outputs.append(network(images, value_range=(0, 1)))
            sharpnesses.append(sharpness(images, value_range=(0, 1)))
            sizes.append(len(images))
        parts = zip(*outputs, strict=True)
        self._real = FeatureOutputs(*(np.concatenate(part) for part in parts))
        self._sharpness = float(np.average(sharpnesses, weights=sizes))
        # A data set may be in the order of its classes, a split be of one of them.
        order = np.random.default_rng(seed).permutation(len(self._real.probabilities))
        self._classifier_score, _ = classifier_score(
            self._real.probabilities[order], num_splits=num_splits
        )

    def __call__(self, samples, *, value_range):
        """Returns the scores of samples and their record, a dict for JSON.

        "classes_covered" and "classes_kl_divergence" are `mode_count`'s of the classes
        that the network sees in the samples, if they are the data set's. Precision and
        recall are of equal numbers of real images and samples, as in their paper; the
        distances are of all.

        Args:
          samples: [N, H, W, C], at least 4.
          value_range: (black, white) of the samples.

        Raises:
          ValueError: if there are too few, or they do not fit the network.
        """
        if len(samples) < MIN_IMAGES:
            raise ValueError(
                f"scores need at least {MIN_IMAGES} samples, got {len(samples)}"
            )
        fake = self.network(samples, value_range=value_range)
        num_real, num_fake = len(self._real.features), len(fake.features)
        num = min(num_real, num_fake)
        # No more than half of the images: subsets that are all alike have no spread.
        subset_size = min(num // 2, _KERNEL_SUBSET_SIZE)
        kernel, kernel_stddev = kernel_distance(
            self._real.features,
            fake.features,
            num_subsets=_KERNEL_SUBSETS,
            subset_size=subset_size,
            seed=self.seed,
        )
        precision, recall = precision_recall(
            self._chosen(self._real.features, num),
            self._chosen(fake.features, num),
            num_neighbors=_NUM_NEIGHBORS,
        )
        score, score_stddev = classifier_score(
            fake.probabilities, num_splits=self.num_splits
        )
        return {
            "frechet_distance": frechet_distance(self._real.features, fake.features),
            "kernel_distance": kernel,
            "kernel_distance_stddev": kernel_stddev,
            "precision": precision,
            "recall": recall,
            "classifier_score": score,
            "classifier_score_stddev": score_stddev,
            "classifier_score_of_data": self._classifier_score,
            "sharpness": sharpness(samples, value_range=value_range),
            "sharpness_of_data": self._sharpness,
            "split": self.split,
            "binarize": self.binarize,
            "num_samples": num_fake,
            "num_real": num_real,
            "num_neighbors": _NUM_NEIGHBORS,
            "kernel_subsets": [_KERNEL_SUBSETS, subset_size],
            "num_splits": self.num_splits,
            **self._classes_covered(fake.probabilities),
            **self.network.record(),
        }

    def _classes_covered(self, probabilities):
        # Of a network that knows other classes than the data set's they say nothing.
        num_classes = probabilities.shape[1]
        if self.dataset.train.labels is None or num_classes != self.dataset.num_classes:
            return {}
        modes = mode_count(np.argmax(probabilities, axis=1), num_classes)
        return {
            "classes_covered": modes.num_covered,
            "classes_kl_divergence": modes.kl_divergence,
        }

    def _chosen(self, features, num):
        # At random, as a data set may be in the order of its classes.
        if num == len(features):
            return features
        generator = np.random.default_rng(self.seed)
        return features[generator.choice(len(features), num, replace=False)]


def sample_scores(samples, dataset, *, value_range, network=None, **options):
    """Returns the scores of samples and their record, a dict for JSON.

    How good a score can be is told by that of real images:

      scores = sample_scores(draw_samples(model, 10_000), dataset, value_range=(-1, 1))
      best = sample_scores(dataset.train.images[:10_000], dataset, value_range=(0, 255))

    Args:
      samples: [N, H, W, C].
      dataset: the `ImageDataset` to compare them with.
      value_range: (black, white) of the samples.
      network: a `FeatureNetwork`; by default `feature_classifier(dataset)`, which is
        trained when first used.
      **options: of `SampleScorer`.

    Returns:
      "frechet_distance", "kernel_distance" and "kernel_distance_stddev", "precision",
      "recall", "classifier_score" and "classifier_score_stddev" (over splits),
      "sharpness"; "classifier_score_of_data", "sharpness_of_data"; "split", "binarize",
      "num_samples", "num_real", "num_neighbors", "kernel_subsets" (how many, their
      size), "num_splits", "features", "features_hash", "features_accuracy", "resizer";
      and, if the network's classes are the data set's, "classes_covered" and
      "classes_kl_divergence".

    Raises:
      ValueError: if there are too few samples, they do not fit, or the data set has no
        labels and no network is given.
    """
    network = network or feature_classifier(dataset)
    return SampleScorer(dataset, network, **options)(samples, value_range=value_range)


class SampleScores(keras.callbacks.Callback):
    """Adds scores of samples to the logs of each epoch, for `fit` to show.

    Callbacks that write logs must come after it. The samples have the same noise in
    each epoch.

    Args:
      scorer: a `SampleScorer` or a `StackedScorer`.
      num_samples: how many to draw.
      batch_size: how many to draw at a time.
      seed: an integer; of the noise.
    """

    def __init__(self, scorer, *, num_samples=1000, batch_size=100, seed=0):
        super().__init__()
        self.scorer = scorer
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self._draw = None

    def on_train_begin(self, logs=None):
        """Prepares to draw."""
        self._draw = sampler(self.model, self.batch_size)

    def on_epoch_end(self, epoch, logs=None):
        """Adds what the scorer shows; of a `SampleScorer` distances and coverage."""
        samples = self._draw(self.num_samples, self.seed)
        if not np.isfinite(samples).all():
            # For whoever watches over training to find.
            logs.update(dict.fromkeys(self.scorer.shown, math.nan))
            return
        scores = self.scorer(samples, value_range=self.model.value_range)
        logs.update({name: scores[name] for name in self.scorer.shown})
