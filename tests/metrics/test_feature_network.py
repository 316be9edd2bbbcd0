"""A network of features sees each image once, in its range, and says what it is."""

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.metrics import FeatureNetwork
from tfzoo.metrics.feature_network import hash_of

RNG = np.random.default_rng(0)


def mean_and_first(images):
    """As features the pixels, as probabilities always the first of two classes."""
    flat = tf.reshape(images, [tf.shape(images)[0], 12])
    return flat, tf.one_hot(tf.zeros(tf.shape(images)[:1], tf.int32), 2)


def make(**options):
    options = {"image_shape": (3, 4, 1), **options}
    return FeatureNetwork("pixels", mean_and_first, "abc", **options)


def test_images_come_in_batches_and_in_order():
    network = make()
    images = RNG.integers(256, size=(23, 3, 4, 1), dtype=np.uint8)
    expected = images.reshape(23, 12) / 127.5 - 1
    for batch_size in (5, 100):
        outputs = network(images, value_range=(0, 255), batch_size=batch_size)
        np.testing.assert_allclose(outputs.features, expected, atol=1e-6)
        assert outputs.features.dtype == np.float32
        np.testing.assert_array_equal(outputs.probabilities, [[1, 0]] * 23)


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0)])
def test_range_is_brought_to_that_of_the_network(value_range):
    low, high = value_range
    images = np.full([2, 3, 4, 1], low, np.float32)
    images[1] = high
    features = make()(images, value_range=value_range).features
    np.testing.assert_allclose(features[:, 0], [-1, 1])


def test_record():
    network = make(resizer="area", accuracy=0.5)
    assert network.record() == {
        "features": "pixels",
        "features_hash": "abc",
        "features_accuracy": 0.5,
        "resizer": "area",
    }


def test_hash_depends_on_all_there_is():
    arrays = [np.arange(6.0), np.zeros([2, 3])]
    others = [
        [np.arange(6.0) + 1e-12, np.zeros([2, 3])],
        [np.arange(6.0), np.zeros([3, 2])],
        [np.arange(6.0), np.zeros([2, 3], np.int64)],
        arrays[::-1],
        arrays[:1],
    ]
    assert hash_of(arrays) == hash_of([x.copy() for x in arrays])
    hashes = {hash_of(arrays), *map(hash_of, others)}
    assert len(hashes) == 6
    assert {len(each) for each in hashes} == {16}


@pytest.mark.parametrize(
    ("images", "value_range", "message"),
    [
        (
            np.zeros([2, 3, 4, 3]),
            (0, 1),
            r"takes images \[N, 3, 4, 1\], got \[2, 3, 4, 3",
        ),
        (np.zeros([0, 3, 4, 1]), (0, 1), r"got \[0, 3, 4, 1\]"),
        (np.zeros([3, 4, 1]), (0, 1), r"got \[3, 4, 1\]"),
        (-np.ones([1, 3, 4, 1]), (0, 1), r"value_range=\(0, 1\), got numbers from -1"),
        (np.full([1, 3, 4, 1], 2), (-1, 1), "to 2"),
        (np.full([1, 3, 4, 1], np.nan), (-1, 1), "from nan"),
        (np.zeros([1, 3, 4, 1]), (1, 0), r"must be \(black, white\), got \(1, 0\)"),
    ],
)
def test_wrong_use_is_named(images, value_range, message):
    with pytest.raises(ValueError, match=message):
        make()(images, value_range=value_range)
