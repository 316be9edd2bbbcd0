"""tfzoo/metrics/label_accuracy.py, by a classifier of plain brightness."""

import numpy as np
import pytest

from tfzoo.metrics import FeatureOutputs, draw_samples, label_accuracy
from tfzoo.models import make_gan


def network(images, *, value_range):
    assert value_range == (0, 4)
    return FeatureOutputs(images, np.eye(4)[images[:, 0, 0, 0]])


def images_of(classes):
    return np.broadcast_to(np.array(classes)[:, None, None, None], (5, 2, 2, 1))


def test_samples_of_another_class_count_as_wrong():
    samples = images_of([0, 1, 1, 3, 0])
    assert label_accuracy(samples, [0, 1, 2, 3, 0], network, value_range=(0, 4)) == 0.8


def test_a_conditional_gan_draws_what_is_asked_for():
    model = make_gan("dcgan", (8, 8, 1), base_channels=2, num_classes=3)
    labels = np.arange(7) % 3
    samples = draw_samples(model, 7, batch_size=4, seed=5, labels=labels)
    other = draw_samples(model, 7, batch_size=4, seed=5, labels=(labels + 1) % 3)
    assert samples.shape == (7, 8, 8, 1)
    assert (samples != other).any(axis=(1, 2, 3)).all()
    again = draw_samples(model, 7, batch_size=4, seed=5, labels=[*labels[:6], 1])
    np.testing.assert_array_equal(again[:6], samples[:6])
    assert (again[6] != samples[6]).any()
    with pytest.raises(ValueError, match="there must be 7 labels, got 3"):
        draw_samples(model, 7, labels=[0, 1, 2])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], r"labels must have shape \[5\], got \[2\]"),
        ([0, 1, 2, 3, 4], "from 0 to 3, the network's classes, got 0 to 4"),
        ([0, 1, 2, 3, -1], "from 0 to 3, the network's classes, got -1 to 3"),
    ],
)
def test_wrong_use_is_named(labels, message):
    with pytest.raises(ValueError, match=message):
        label_accuracy(images_of([0] * 5), labels, network, value_range=(0, 4))
