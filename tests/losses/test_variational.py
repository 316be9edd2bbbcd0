"""Bounds against closed forms, quadrature and a model whose likelihood is known."""

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import tensorflow as tf

from tfzoo import random
from tfzoo.losses import (
    DiscretizedLogisticPixels,
    GaussianKLLoss,
    ReconstructionLoss,
    elbo,
    gaussian_kl_divergence,
    gaussian_log_ratio,
    importance_weighted_bound,
    with_free_bits,
)


def test_kl_divergence_is_the_integral():
    for mean, log_variance in ((0.0, 0.0), (1.5, -1.0), (-0.4, 0.8)):
        q = scipy.stats.norm(mean, np.exp(log_variance / 2))
        p = scipy.stats.norm(0, 1)
        expected, _ = scipy.integrate.quad(
            lambda z, q=q, p=p: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -12, 12
        )
        ours = gaussian_kl_divergence(tf.constant(mean), tf.constant(log_variance))
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_log_ratio_is_that_of_the_densities():
    z, mean, log_variance = np.random.default_rng(0).normal(size=(3, 5, 4))
    q = scipy.stats.norm(mean, np.exp(log_variance / 2))
    expected = (scipy.stats.norm(0, 1).logpdf(z) - q.logpdf(z)).sum(-1)
    np.testing.assert_allclose(gaussian_log_ratio(z, mean, log_variance), expected)


def linear_gaussian(num_samples, num_data=2000, seed=0):
    """log p(x), and weights under a q that is not the posterior.

    z ~ N(0, 1), x | z ~ N(z, 1): x ~ N(0, 2), and the posterior is N(x / 2, 1 / 2).
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=num_data) * 2**0.5
    mean, log_variance = x / 2 + 0.4, np.zeros(num_data)
    seed = random.make_seed(seed)
    z = mean + random.normal([num_samples, num_data], seed).numpy()
    log_ratio = gaussian_log_ratio(z[..., None], mean[:, None], log_variance[:, None])
    log_likelihood = scipy.stats.norm(z, 1).logpdf(x)
    kl = gaussian_kl_divergence(mean, log_variance)[:, None]
    return scipy.stats.norm(0, 2**0.5).logpdf(x), log_likelihood, log_ratio, kl


def test_bounds_order_and_meet_the_likelihood():
    log_p, log_likelihood, log_ratio, kl = linear_gaussian(2000)
    weights = log_likelihood + log_ratio
    bounds = {
        k: float(tf.reduce_mean(importance_weighted_bound(weights[:k])))
        for k in (1, 5, 50, 2000)
    }
    assert bounds[1] < bounds[5] < bounds[50] < bounds[2000]
    assert bounds[2000] == pytest.approx(log_p.mean(), abs=0.01)
    # The evidence lower bound, with KL by its formula, is that of one sample.
    by_formula = np.mean([elbo(row, kl) for row in log_likelihood[:200]])
    by_samples = float(tf.reduce_mean(weights[:200]))
    assert by_formula == pytest.approx(by_samples, abs=0.02)
    # Its gap is KL(q || posterior): means 0.4 apart, variances 1 and 1 / 2.
    gap = 0.5 * (2 + 0.4**2 * 2 - 1 - np.log(2))
    assert log_p.mean() - by_formula == pytest.approx(gap, abs=0.03)


def test_importance_weights_may_be_huge():
    weights = tf.constant([[-2000.0], [-2000.0 + np.log(3.0)]])
    np.testing.assert_allclose(
        importance_weighted_bound(weights), [-2000.0 + np.log(2.0)], rtol=1e-6
    )


def test_beta_and_free_bits():
    kl = tf.Variable([[0.1, 3.0], [0.3, 1.0]])
    np.testing.assert_allclose(with_free_bits(kl, 0.0), [3.1, 1.3])
    with tf.GradientTape() as tape:
        counted = with_free_bits(kl, 0.5)
    np.testing.assert_allclose(counted, [3.5, 1.5])
    np.testing.assert_array_equal(tape.gradient(counted, kl), [[0, 1], [0, 1]])
    bound = elbo(tf.constant([-7.0, -8.0]), kl, beta=2.0, free_bits=0.5)
    np.testing.assert_allclose(bound, [-14.0, -11.0])


def make_autoencoder(distribution, latent=2):
    image = keras.Input((4, 4, 1))
    hidden = keras.layers.Dense(16, "tanh")(keras.layers.Flatten()(image))
    posterior = keras.layers.Dense(2 * latent, name="posterior")(hidden)
    width = 4 * 4 * distribution.num_parameters
    decoded = keras.layers.Dense(width)(posterior[:, :latent])
    outputs = keras.layers.Reshape(
        (4, 4, distribution.num_parameters), name="reconstruction"
    )(decoded)
    return keras.Model(image, {"reconstruction": outputs, "posterior": posterior})


@pytest.mark.parametrize("jit_compile", [False, True])
def test_losses_work_in_stock_fit(jit_compile):
    keras.utils.set_random_seed(0)
    distribution = DiscretizedLogisticPixels(16)
    model = make_autoencoder(distribution)
    model.compile(
        keras.optimizers.Adam(1e-2),
        loss={
            "reconstruction": ReconstructionLoss(distribution),
            "posterior": GaussianKLLoss(beta=0.5, free_bits=0.1),
        },
        jit_compile=jit_compile,
    )
    x = np.random.default_rng(0).integers(0, 16, (64, 1, 1, 1)) / 15
    x = np.tile(x, (1, 4, 4, 1)).astype(np.float32)
    targets = {"reconstruction": x, "posterior": np.zeros((64, 1))}
    history = model.fit(x, targets, epochs=30, verbose=0).history["loss"]
    assert history[-1] < history[0] - 10


def test_losses_are_sums_over_an_image_and_means_over_a_batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2, (3, 4, 5, 2)).astype(np.float32)
    logits = rng.normal(size=images.shape).astype(np.float32)
    p = 1 / (1 + np.exp(-logits))
    log_prob = np.log(np.where(images == 1, p, 1 - p)).sum(axis=(1, 2, 3))
    loss = ReconstructionLoss()
    np.testing.assert_allclose(loss(images, logits), -log_prob.mean(), rtol=1e-5)
    posterior = rng.normal(size=(3, 8)).astype(np.float32)
    kl = gaussian_kl_divergence(posterior[:, :4], posterior[:, 4:]).numpy().sum(-1)
    loss = GaussianKLLoss(beta=3.0)
    np.testing.assert_allclose(loss(images, posterior), 3 * kl.mean(), rtol=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        ReconstructionLoss(DiscretizedLogisticPixels(8)),
        GaussianKLLoss(beta=2.0, free_bits=0.5),
    ],
)
def test_losses_round_trip(loss):
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(loss)
    )
    assert again.get_config() == loss.get_config()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ReconstructionLoss("poisson"), "or one of bernoulli"),
        (
            lambda: ReconstructionLoss("gaussian")(
                tf.zeros([1, 2, 2, 3]), tf.zeros([1, 2, 2, 3])
            ),
            "GaussianPixels takes 6 outputs for a pixel of 3 channels, got 3",
        ),
        (lambda: GaussianKLLoss(beta=-1), "beta must be at least 0, got -1"),
        (lambda: GaussianKLLoss(free_bits=-1), "free_bits must be at least 0, got -1"),
        (
            lambda: GaussianKLLoss()(tf.zeros([2, 1]), tf.zeros([2, 3])),
            "an even number of outputs, got 3",
        ),
    ],
)
def test_wrong_use_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
