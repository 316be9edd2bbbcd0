"""InfoGAN's codes of a split, their record, and that `fit` shows how good they are."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.datasets import DatasetError, ImageDataset, ImageSplit
from tfzoo.metrics import CodeScores, code_scores

# Images of class c are 50 c everywhere.
LABELS = np.arange(1200, dtype=np.int32) % 4
IMAGES = np.tile((50 * LABELS)[:, None, None, None], (1, 2, 2, 1)).astype(np.uint8)
DATASET = ImageDataset(
    "four", ImageSplit(IMAGES[:40], LABELS[:40]), ImageSplit(IMAGES, LABELS)
)


class Reader(keras.Model):
    """A model whose codes are the classes, until it is fitted: then two are one."""

    value_range = (-1.0, 1.0)

    def __init__(self):
        super().__init__()
        self.most = self.add_weight(shape=(), initializer="ones", trainable=False)
        self.most.assign(3.0)

    def codes(self, images):
        classes = tf.round((images[:, 0, 0, 0] + 1) * 127.5 / 50)
        # The names of codes are others than those of classes.
        codes = 3 - tf.minimum(classes, self.most.value)
        return tf.one_hot(tf.cast(codes, tf.int32), 4), tf.zeros([len(images), 0])

    def train_step(self, data):
        self.most.assign(self.most - 1.0)
        return {"most": self.most.value}


@pytest.mark.parametrize(("split", "num"), [("train", 40), ("test", 1200)])
def test_scores_name_their_split_and_images(split, num):
    model = Reader()
    record = {"code_split": split, "code_num_images": num}
    scores = code_scores(model, DATASET, split=split)
    assert scores == {"code_accuracy": 1.0, "code_purity": 1.0, **record}
    assert json.loads(json.dumps(scores)) == scores
    # Two of four classes have one code.
    model.most.assign(2.0)
    scores = code_scores(model, DATASET, split=split)
    assert scores == {"code_accuracy": 0.75, "code_purity": 0.75, **record}


def test_scores_are_shown_by_fit():
    model = Reader()
    model.compile()
    history = model.fit(
        tf.data.Dataset.from_tensors(tf.zeros([1])).repeat(),
        epochs=2,
        steps_per_epoch=1,
        shuffle=False,
        verbose=0,
        callbacks=[CodeScores(DATASET)],
    ).history
    assert history == {
        "most": [2.0, 1.0],
        "code_accuracy": [0.75, 0.5],
        "code_purity": [0.75, 0.5],
    }


def test_images_without_labels_are_refused():
    bare = ImageDataset("bare", *[ImageSplit(IMAGES, None)] * 2)
    with pytest.raises(DatasetError, match="bare has no labels"):
        code_scores(Reader(), bare)
