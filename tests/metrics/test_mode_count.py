"""Modes counted by hand, and the data set that they are counted on."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.datasets import ImageDataset, ImageSplit
from tfzoo.metrics import (
    FeatureNetwork,
    StackedScorer,
    mode_count,
    stacked,
    stacked_classes,
    stacked_dataset,
)

# An image of class c is c everywhere, but for its number in the corner.
LABELS = np.array([2, 0, 1, 1, 2, 0], np.int32)
IMAGES = np.tile(LABELS[:, None, None, None], (1, 3, 4, 1)).astype(np.uint8)
IMAGES[:, 0, 0, 0] = np.arange(6)


def class_of_brightness(images):
    """No features, and three classes by a pixel's brightness; see `IMAGES`."""
    classes = tf.cast(tf.round((images[:, 1, 1, 0] + 1) * 127.5), tf.int32)
    return tf.zeros([tf.shape(images)[0], 2]), tf.one_hot(classes, 3)


READER = FeatureNetwork(
    "reader", class_of_brightness, "12ab", image_shape=(3, 4, 1), accuracy=0.9
)


def test_modes_by_hand():
    count = mode_count(np.array([3, 3, 0, 7]), 10)
    assert count.num_covered == 3
    expected = 0.5 * np.log(0.5 * 10) + 2 * 0.25 * np.log(0.25 * 10)
    assert count.kl_divergence == pytest.approx(expected)
    assert mode_count(np.arange(1000)) == (1000, pytest.approx(0, abs=1e-12))
    assert mode_count(np.full(50, 999)) == (1, pytest.approx(np.log(1000)))


def test_divergence_of_perfect_samples_is_what_the_docstring_says():
    classes = np.random.default_rng(0).integers(1000, size=26_000)
    count = mode_count(classes)
    assert count.num_covered == 1000
    assert count.kl_divergence == pytest.approx(999 / 52_000, rel=0.1)


def test_stacked_images_are_three_of_the_data_and_so_are_their_labels():
    images, labels = stacked(IMAGES, LABELS, seed=1, num=200)
    assert images.shape == (200, 3, 4, 3)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32
    classes = images[:, 1, 1, :].astype(int)
    np.testing.assert_array_equal(labels, classes @ [9, 3, 1])
    numbers = images[:, 0, 0, :]
    np.testing.assert_array_equal(LABELS[numbers], classes)
    # Each channel is drawn for itself, from all images.
    assert len(set(map(tuple, numbers))) > 100
    for channel in numbers.T:
        assert set(channel) == set(range(6))


def test_stacking_follows_from_the_seed():
    first, _ = stacked(IMAGES, LABELS, seed=1)
    assert len(first) == 6
    np.testing.assert_array_equal(stacked(IMAGES, LABELS, seed=1)[0], first)
    assert (stacked(IMAGES, LABELS, seed=2)[0] != first).any()


def test_stacked_dataset_keeps_splits_apart():
    splits = [
        ImageSplit(IMAGES[rows], LABELS[rows]) for rows in (slice(3), slice(3, 6))
    ]
    dataset = ImageDataset("three", *splits)
    made = stacked_dataset(dataset, num_train=50, num_test=30)
    assert made.image_shape == (3, 4, 3)
    assert made.num_classes == 27
    assert made.class_names[-1] == "26"
    assert len(made.train.images) == 50
    assert len(made.test.images) == 30
    assert set(made.train.images[:, 0, 0].flat) == {0, 1, 2}
    assert set(made.test.images[:, 0, 0].flat) == {3, 4, 5}


def test_classes_of_stacked_images_are_the_labels():
    images, labels = stacked(IMAGES, LABELS, num=250)
    classes = stacked_classes(images, READER, value_range=(0, 255))
    np.testing.assert_array_equal(classes, labels)


def test_scores_of_stacked_images_name_all_that_they_depend_on():
    splits = [ImageSplit(IMAGES, LABELS), ImageSplit(IMAGES[:3], LABELS[:3])]
    dataset = stacked_dataset(ImageDataset("three", *splits), num_train=9, num_test=700)
    scorer = StackedScorer(dataset, READER)
    samples, labels = dataset.train
    scores = scorer(samples / 127.5 - 1, value_range=(-1, 1))
    counts = [mode_count(each, 27) for each in (labels, dataset.test.labels)]
    assert counts[0] != counts[1]
    assert scores == {
        "num_covered": counts[0].num_covered,
        "kl_divergence": counts[0].kl_divergence,
        "num_covered_of_data": counts[1].num_covered,
        "kl_divergence_of_data": counts[1].kl_divergence,
        "split": "test",
        "num_samples": 9,
        "num_real": 700,
        "features": "reader",
        "features_hash": "12ab",
        "features_accuracy": 0.9,
        "resizer": "none",
    }
    assert json.loads(json.dumps(scores)) == scores
    assert set(scorer.shown) <= scores.keys()
    of_train = StackedScorer(dataset, READER, split="train")
    assert of_train(samples, value_range=(0, 255))["num_real"] == 9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: mode_count([0.5, 1.0]),
            r"classes must be integers \[N\], got float64",
        ),
        (lambda: mode_count([1, 1000]), "from 0 to 999, got 1 to 1000"),
        (
            lambda: stacked(np.zeros([2, 3, 3, 3]), np.zeros(2)),
            r"images must be \[N, H, W, 1\], got \[2, 3, 3, 3\]",
        ),
        (lambda: stacked(IMAGES, LABELS[:4]), r"labels must be \[6\]"),
        (
            lambda: stacked_classes(IMAGES, None, value_range=(0, 255)),
            r"images must be \[N, H, W, 3\], got \[6, 3, 4, 1\]",
        ),
        (
            lambda: stacked_dataset(
                ImageDataset("bare", *[ImageSplit(IMAGES, None)] * 2)
            ),
            "bare has no labels",
        ),
    ],
)
def test_wrong_use_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
