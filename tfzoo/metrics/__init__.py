"""How good generative models are: distances of features, coverage, modes, codes."""

from tfzoo.metrics.classifier_score import classifier_score
from tfzoo.metrics.code_accuracy import code_accuracy, code_purity
from tfzoo.metrics.code_scores import CodeScores, code_scores
from tfzoo.metrics.draw_samples import draw_samples, sampler
from tfzoo.metrics.feature_classifier import feature_classifier
from tfzoo.metrics.feature_network import FeatureNetwork, FeatureOutputs
from tfzoo.metrics.frechet_distance import (
    frechet_distance,
    gaussian_frechet_distance,
)
from tfzoo.metrics.inception import (
    inception_2015,
    inception_network,
    keras_inception,
)
from tfzoo.metrics.inception_scores import inception_scores
from tfzoo.metrics.kernel_distance import kernel_distance, unbiased_squared_mmd
from tfzoo.metrics.label_accuracy import label_accuracy
from tfzoo.metrics.mode_count import (
    ModeCount,
    StackedScorer,
    mode_count,
    stacked,
    stacked_classes,
    stacked_dataset,
)
from tfzoo.metrics.precision_recall import precision_recall
from tfzoo.metrics.sample_scores import SampleScorer, SampleScores, sample_scores
from tfzoo.metrics.sharpness import sharpness

__all__ = [
    "CodeScores",
    "FeatureNetwork",
    "FeatureOutputs",
    "ModeCount",
    "SampleScorer",
    "SampleScores",
    "StackedScorer",
    "classifier_score",
    "code_accuracy",
    "code_purity",
    "code_scores",
    "draw_samples",
    "feature_classifier",
    "frechet_distance",
    "gaussian_frechet_distance",
    "inception_2015",
    "inception_network",
    "inception_scores",
    "keras_inception",
    "kernel_distance",
    "label_accuracy",
    "mode_count",
    "precision_recall",
    "sample_scores",
    "sampler",
    "sharpness",
    "stacked",
    "stacked_classes",
    "stacked_dataset",
    "unbiased_squared_mmd",
]
