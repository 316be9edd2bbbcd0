"""Distributions of images against SciPy and against sums over all that can be drawn."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfzoo import random
from tfzoo.losses import (
    BernoulliPixels,
    DiscretizedLogisticPixels,
    GaussianPixels,
    bernoulli_log_prob,
    discretized_logistic_log_prob,
    gaussian_log_prob,
    pixel_distribution,
)

DISTRIBUTIONS = {
    "bernoulli": BernoulliPixels(),
    "gaussian": GaussianPixels(),
    "gaussian of one width": GaussianPixels(0.2),
    "discretized_logistic": DiscretizedLogisticPixels(),
}


def draw_outputs(distribution, shape=(2, 3, 4, 2)):
    width = shape[-1] * distribution.num_parameters
    outputs = np.random.default_rng(0).normal(size=(*shape[:-1], width))
    return tf.constant(outputs, tf.float32)


def noise(shape, seed=0):
    return random.uniform(shape, random.make_seed(seed))


def test_bernoulli():
    x, logits = np.array([[0.0, 1.0, 0.3], [2.0, -1.0, 0.5]], np.float32)
    p = 1 / (1 + np.exp(-logits))
    expected = x * np.log(p) + (1 - x) * np.log(1 - p)
    np.testing.assert_allclose(bernoulli_log_prob(x, logits), expected, rtol=1e-6)


def test_gaussian():
    x, mean, log_stddev = (
        np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    )
    expected = scipy.stats.norm(mean, np.exp(log_stddev)).logpdf(x)
    np.testing.assert_allclose(
        gaussian_log_prob(x, mean, log_stddev), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("levels", [2, 5, 256])
def test_a_discretized_logistic_is_the_difference_of_distribution_functions(levels):
    x = np.linspace(0, 1, levels)
    half = 0.5 / (levels - 1)
    for mean, scale in ((0.3, 0.1), (0.9, 0.02), (0.5, 2.0)):
        cdf = scipy.stats.logistic(mean, scale).cdf
        above = np.where(x == 1, 1.0, cdf(x + half))
        below = np.where(x == 0, 0.0, cdf(x - half))
        log_prob = discretized_logistic_log_prob(
            tf.constant(x, tf.float32), mean, np.float32(np.log(scale)), levels
        )
        np.testing.assert_allclose(np.sum(np.exp(log_prob)), 1.0, atol=1e-4)
        likely = above - below > 1e-6
        np.testing.assert_allclose(
            log_prob[likely], np.log(above - below)[likely], rtol=1e-4, atol=1e-4
        )


def test_a_discretized_logistic_far_away_has_a_value_and_gradients():
    """Where the mass itself is lost in rounding; the density is flat enough there."""
    mean, log_scale = tf.Variable(0.1), tf.Variable(-4.0)
    with tf.GradientTape() as tape:
        x = tf.constant(200 / 255)
        log_prob = discretized_logistic_log_prob(x, mean, log_scale)
    logistic = scipy.stats.logistic(0.1, np.exp(-4.0))
    expected = logistic.logpdf(200 / 255) - np.log(255)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-3)
    gradients = tape.gradient(log_prob, [mean, log_scale])
    assert all(np.isfinite(g) and g > 10 for g in gradients)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_drawn_images_have_the_mean_that_is_told(name):
    distribution = DISTRIBUTIONS[name]
    outputs = draw_outputs(distribution)
    if name == "discretized_logistic":
        # Narrow enough that little is cut off at 0 and 1, which moves the mean.
        outputs = tf.concat([0.3 * outputs[..., :2], outputs[..., 2:] - 4.0], axis=-1)
    elif name.startswith("gaussian"):
        outputs = tf.concat([0.3 * outputs[..., :2], outputs[..., 2:] - 3.0], axis=-1)
    many = tf.tile(outputs[tf.newaxis], [4000, 1, 1, 1, 1])
    images = distribution.sample(many, noise([4000, 2, 3, 4, 2])).numpy()
    assert images.min() >= 0 <= images.max() <= 1
    error = images.mean(axis=0) - distribution.mean(outputs).numpy()
    deviation = images.std(axis=0) / 4000**0.5
    assert np.abs(error).max() < 5 * deviation.max()
    levels = {"bernoulli": 1, "discretized_logistic": 255}.get(name)
    if levels:
        np.testing.assert_allclose(
            images * levels, np.round(images * levels), atol=1e-4
        )


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_log_probabilities_sum_over_pixels_and_channels(name):
    distribution = DISTRIBUTIONS[name]
    outputs = draw_outputs(distribution)
    images = distribution.sample(outputs, noise([2, 3, 4, 2]))
    whole = distribution.log_prob(outputs, images)
    assert whole.shape == (2,)
    parts = 0.0
    for channel in range(2):
        columns = [channel + 2 * k for k in range(distribution.num_parameters)]
        for row in range(3):
            parts += distribution.log_prob(
                tf.gather(outputs, columns, axis=-1)[:, row : row + 1],
                images[:, row : row + 1, :, channel : channel + 1],
            )
    np.testing.assert_allclose(whole, parts, rtol=1e-5)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions_round_trip(name):
    distribution = DISTRIBUTIONS[name]
    config = keras.saving.serialize_keras_object(distribution)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(distribution)
    assert again.get_config() == distribution.get_config()


def test_names_and_arguments():
    assert isinstance(pixel_distribution("bernoulli"), BernoulliPixels)
    with pytest.raises(ValueError, match="or one of bernoulli, gaussian, discretized"):
        pixel_distribution("poisson")
    with pytest.raises(ValueError, match="stddev must be a positive number, got 0"):
        GaussianPixels(0)
    with pytest.raises(ValueError, match="levels must be an integer of at least 2"):
        DiscretizedLogisticPixels(1)
