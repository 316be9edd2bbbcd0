"""How often samples of a conditional model are of the class that was asked for."""

import numpy as np


def label_accuracy(samples, labels, network, *, value_range):
    """Returns the share of samples that a classifier takes for their class, a float.

    The classifier learned from real images (the GAN-test of Shmelkov et al. 2018,
    arXiv:1807.09499). Samples that look all alike within a class have 1, too.

      labels = np.arange(10_000) % model.num_classes
      samples = draw_samples(model, len(labels), labels=labels)
      label_accuracy(samples, labels, network, value_range=model.value_range)

    Args:
      samples: [N, H, W, C].
      labels: the classes that were asked for, integers [N].
      network: a `FeatureNetwork` of the same classes, as `feature_classifier` makes it.
      value_range: (black, white) of the samples.

    Raises:
      ValueError: if there are not as many labels as samples, or the network does not
        have their classes.
    """
    labels = np.asarray(labels)
    if labels.shape != (len(samples),):
        raise ValueError(
            f"labels must have shape [{len(samples)}], got {list(labels.shape)}"
        )
    probabilities = network(samples, value_range=value_range).probabilities
    num_classes = probabilities.shape[1]
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"labels must be from 0 to {num_classes - 1}, the network's classes, got "
            f"{labels.min()} to {labels.max()}"
        )
    return float(np.mean(probabilities.argmax(axis=1) == labels))
