"""How well an InfoGAN's categories tell classes, with a record, also in `fit`."""

import keras
import numpy as np

from tfzoo.metrics.code_accuracy import code_accuracy, code_purity

_BATCH_SIZE = 500


def code_scores(model, dataset, *, split="test"):
    """Returns how well the categories tell classes and the record, a dict for JSON.

    Args:
      model: with `codes`, as an `InfoGAN`.
      dataset: an `ImageDataset` with labels.
      split: "train" or "test".

    Returns:
      "code_accuracy" and "code_purity", see there; "code_split", "code_num_images".

    Raises:
      ValueError: if there is no such split, or it has no labels.
    """
    batches = dataset.once(
        _BATCH_SIZE, split=split, value_range=model.value_range, labels=True
    )
    codes, labels = [], []
    for images, classes in batches:
        codes.append(keras.ops.convert_to_numpy(model.codes(images)[0]).argmax(axis=-1))
        labels.append(classes.numpy())
    codes, labels = np.concatenate(codes), np.concatenate(labels)
    return {
        "code_accuracy": code_accuracy(codes, labels),
        "code_purity": code_purity(codes, labels),
        "code_split": split,
        "code_num_images": len(codes),
    }


class CodeScores(keras.callbacks.Callback):
    """Adds "code_accuracy" and "code_purity" to the logs of each epoch of `fit`.

    Callbacks that write logs must come after it.

    Args:
      dataset, split: see `code_scores`.
    """

    def __init__(self, dataset, *, split="test"):
        super().__init__()
        self.dataset = dataset
        self.split = split

    def on_epoch_end(self, epoch, logs=None):
        """Adds both."""
        scores = code_scores(self.model, self.dataset, split=self.split)
        logs.update({name: scores[name] for name in ("code_accuracy", "code_purity")})
