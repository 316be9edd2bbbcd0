"""How often samples of a conditional model are of the class that was asked for.

By a classifier that learned from real images (the GAN-test of Shmelkov et al. 2018,
arXiv:1807.09499): samples that all look alike within a class have 1, too.
"""

import numpy as np

_BATCH_SIZE = 500


def label_accuracy(model, network, num=10_000, *, seed=0):
    """Returns the share of samples that a classifier takes for their class, a float.

    Classes are asked for equally often, in turn.

    Args:
      model: with `sample(num, seed, labels)`, `num_classes` and `value_range`, as a
        conditional `GAN`.
      network: a `FeatureNetwork` of the same classes.
      num: how many samples.
      seed: an integer; batch b of 500 samples has the noise of seed + b.

    Raises:
      ValueError: if `num` is below 1, or the network has other classes.
    """
    if num < 1:
        raise ValueError(f"num must be at least 1, got {num}")
    labels = np.arange(num, dtype=np.int32) % model.num_classes
    right = 0
    for batch, start in enumerate(range(0, num, _BATCH_SIZE)):
        asked = labels[start : start + _BATCH_SIZE]
        images = model.sample(len(asked), seed + batch, labels=asked)
        probabilities = network(images, value_range=model.value_range).probabilities
        if probabilities.shape[1] != model.num_classes:
            raise ValueError(
                f"the network must have the model's {model.num_classes} classes, got "
                f"{probabilities.shape[1]}"
            )
        right += int(np.sum(probabilities.argmax(axis=1) == asked))
    return right / num
