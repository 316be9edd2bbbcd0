"""Batches of images: every image once an epoch, again the same, from any batch on."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfzoo.datasets import DatasetError, ImageDataset, ImageSplit


def make_dataset(num_train=23, num_test=7, channels=1, labels=True, **options):
    """Images whose first pixel is their number, and whose label is that mod 3."""

    def split(num):
        images = np.random.default_rng(0).integers(
            0, 256, (num, 4, 6, channels), dtype=np.uint8
        )
        images[:, 0, 0, 0] = np.arange(num)
        return ImageSplit(
            images, np.arange(num, dtype=np.int32) % 3 if labels else None
        )

    return ImageDataset("numbers", split(num_train), split(num_test), **options)


def take(batches, num):
    return [
        tf.nest.map_structure(lambda x: x.numpy(), batch) for batch in batches.take(num)
    ]


def numbers(batch):
    return np.round(batch[:, 0, 0, 0] * 255).astype(int)


def test_every_image_comes_once_in_an_epoch_and_each_epoch_has_its_own_order():
    dataset = make_dataset()
    assert dataset.steps_per_epoch(5) == 4
    batches = dataset.batches(5)
    assert batches.element_spec.shape == (5, 4, 6, 1)
    assert batches.element_spec.dtype == tf.float32
    drawn = [numbers(batch) for batch in take(batches, 12)]
    epochs = [np.concatenate(drawn[i : i + 4]) for i in (0, 4, 8)]
    for epoch in epochs:
        assert len(set(epoch)) == 20
    assert len({tuple(epoch) for epoch in epochs}) == 3
    # What is left out of an epoch differs, too.
    assert len(set(np.concatenate(epochs))) > 20


@pytest.mark.parametrize("binarize", [None, "dynamic"])
@pytest.mark.parametrize("first_batch", [1, 4, 6])
def test_batches_go_on_where_they_were(binarize, first_batch):
    dataset = make_dataset()
    options = {"labels": True, "binarize": binarize, "seed": 5}
    whole = take(dataset.batches(5, **options), 9)
    rest = take(dataset.batches(5, first_batch=first_batch, **options), 9 - first_batch)
    for one, two in zip(whole[first_batch:], rest, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, two)
    other = take(dataset.batches(5, **{**options, "seed": 6}), 1)
    assert not np.array_equal(other[0][1], whole[0][1])


def test_images_labels_and_range():
    dataset = make_dataset(channels=3)
    images, labels = take(dataset.batches(5, labels=True, value_range=(-1, 1)), 1)[0]
    rows = np.round((images[:, 0, 0, 0] + 1) / 2 * 255).astype(int)
    np.testing.assert_array_equal(labels, rows % 3)
    expected = dataset.train.images[rows] / 127.5 - 1
    np.testing.assert_allclose(images, expected, atol=1e-6)
    assert dataset.image_shape == (4, 6, 3)
    assert dataset.num_classes == 3


def test_once_is_in_order_and_whole():
    dataset = make_dataset()
    batches = take(dataset.once(3), 10)
    assert [len(batch) for batch in batches] == [3, 3, 1]
    np.testing.assert_array_equal(numbers(np.concatenate(batches)), np.arange(7))
    assert sum(map(len, take(dataset.once(5, split="train"), 10))) == 23


def test_binarisation():
    images = np.full((60, 20, 20, 1), 64, np.uint8)
    images[:, :10] = 200
    dataset = ImageDataset("grey", ImageSplit(images, None), ImageSplit(images, None))
    draws = {
        name: np.concatenate(take(dataset.once(30, binarize=name), 5))
        for name in ("static", "dynamic", "threshold")
    }
    for drawn in draws.values():
        assert set(np.unique(drawn)) == {0, 1}
    assert draws["threshold"][:, :10].min() == 1
    assert draws["threshold"][:, 10:].max() == 0
    for name in ("static", "dynamic"):
        for rows, share in (slice(0, 10), 200 / 255), (slice(10, 20), 64 / 255):
            white = int(draws[name][:, rows].sum())
            test = scipy.stats.binomtest(white, 60 * 200, share)
            assert test.pvalue > 1e-3
    # Static draws are those of every pass and seed; dynamic ones are not.
    static = [take(dataset.once(30, binarize="static", seed=s), 2) for s in (0, 1)]
    np.testing.assert_array_equal(*static)
    dynamic = [take(dataset.once(30, binarize="dynamic", seed=s), 2) for s in (0, 1)]
    assert (np.array(dynamic[0]) != np.array(dynamic[1])).mean() > 0.2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.batches(24), "a batch of 24 cannot be made of the 23 images"),
        (lambda d: d.batches(2, binarize="half"), "binarize must be None or one of"),
        (lambda d: d.batches(2, split="dev"), "split must be 'train' or 'test'"),
        (
            lambda d: make_dataset(labels=False).batches(2, labels=True),
            "numbers has no labels",
        ),
        (
            lambda d: ImageDataset(
                "sizes", d.train, ImageSplit(d.test.images[:, :2], None)
            ),
            r"to train on are \[4, 6, 1\], those to test on \[2, 6, 1\]",
        ),
        (
            lambda d: ImageDataset("few", d.train, d.test._replace(labels=[1])),
            "there are 1 labels for 7 images",
        ),
        (
            lambda d: ImageDataset("x", d.train, ImageSplit(np.zeros((1, 2, 2)), None)),
            "images must be uint8",
        ),
    ],
)
def test_wrong_use_is_named(call, message):
    with pytest.raises((DatasetError, ValueError), match=message):
        call(make_dataset())
