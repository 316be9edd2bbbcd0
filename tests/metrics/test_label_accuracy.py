"""tfzoo/metrics/label_accuracy.py, by a model and a classifier of plain brightness."""

import numpy as np
import pytest

from tfzoo.metrics import FeatureOutputs, label_accuracy


class Bright:
    """Draws images as bright as their class, those of class 2 as of class 1."""

    num_classes = 4
    value_range = (0.0, 4.0)

    def __init__(self):
        self.seeds = []

    def sample(self, num, seed, labels):
        self.seeds.append(seed)
        assert len(labels) == num
        seen = np.where(labels == 2, 1, labels)
        return np.broadcast_to(seen[:, None, None, None], (num, 2, 2, 1))


def classes_of(num_classes):
    def network(images, *, value_range):
        assert value_range == (0.0, 4.0)
        return FeatureOutputs(images, np.eye(num_classes)[images[:, 0, 0, 0]])

    return network


def test_samples_of_another_class_count_as_wrong():
    model = Bright()
    assert label_accuracy(model, classes_of(4), 1_200, seed=7) == 0.75
    # Each batch has noise of its own.
    assert model.seeds == [7, 8, 9]
    # 0, 1, 2, 3, 0
    assert label_accuracy(model, classes_of(4), 5) == 0.8


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="num must be at least 1, got 0"):
        label_accuracy(Bright(), classes_of(4), 0)
    with pytest.raises(ValueError, match="must have the model's 4 classes, got 5"):
        label_accuracy(Bright(), classes_of(5), 8)
