"""FID, KID and the Inception score, by the network that has made the names known."""

from tfzoo.metrics.inception import PUBLISHED
from tfzoo.metrics.sample_scores import SampleScorer

_PUBLISHED_NAMES = {
    "frechet_distance": "FID",
    "kernel_distance": "KID",
    "kernel_distance_stddev": "KID_stddev",
    "classifier_score": "IS",
    "classifier_score_stddev": "IS_stddev",
    "classifier_score_of_data": "IS_of_data",
}
_NUM_SPLITS = 10
_SMALLEST_SPLIT = 1000


def inception_scores(samples, dataset, network, *, value_range, split="test"):
    """Returns the scores of samples by an Inception network, a dict for JSON.

    Those by `inception_2015` have their published names, "FID", "KID", "KID_stddev",
    "IS", "IS_stddev" and "IS_of_data"; those by another network are called as
    `SampleScorer` calls them. "IS" is a mean over ten splits, as published, where each
    is of 1,000 images at least (published are 5,000), and of all images at once where
    there are fewer: "num_splits" tells. All else is as `sample_scores` returns it, but
    that no classes are covered: ImageNet's are not the data set's.

    Args:
      samples: [N, H, W, C].
      dataset: the `ImageDataset` to compare them with; it needs no labels.
      network: see `inception_network`.
      value_range: (black, white) of the samples.
      split: "train" or "test".

    Raises:
      ValueError: if there are too few samples, or no such split.
    """
    num = min(len(samples), len(dataset.split(split).images))
    num_splits = _NUM_SPLITS if num >= _NUM_SPLITS * _SMALLEST_SPLIT else 1
    scorer = SampleScorer(dataset, network, split=split, num_splits=num_splits)
    scores = scorer(samples, value_range=value_range)
    for name in ("classes_covered", "classes_kl_divergence"):
        scores.pop(name, None)
    if network.name != PUBLISHED:
        return scores
    return {_PUBLISHED_NAMES.get(name, name): scores[name] for name in scores}
