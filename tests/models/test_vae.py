"""The variational autoencoder against NumPy."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from tfzoo import random
from tfzoo.models import VAE

SHAPE = (4, 4, 1)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 2, (5, *SHAPE)).astype(np.float32)


def make_vae(**options):
    vae = VAE(SHAPE, **{"latent_size": 3, "hidden_units": (6,), "seed": 2, **options})
    # So that no bias is 0.
    for weight in vae.weights:
        weight.assign(weight + 0.2 * RNG.normal(size=weight.shape))
    return vae


def dense_by_numpy(network, x):
    *layers, last = [
        (layer.kernel.numpy(), layer.bias.numpy())
        for layer in network.layers
        if isinstance(layer, keras.layers.Dense)
    ]
    x = x.reshape(len(x), -1)
    for kernel, bias in layers:
        x = np.maximum(x @ kernel + bias, 0)
    return x @ last[0] + last[1]


def log_likelihood_by_numpy(vae, latent):
    logits = dense_by_numpy(vae.decoder, latent).reshape(-1, *SHAPE)
    p = scipy.special.expit(logits)
    return np.log(np.where(IMAGES == 1, p, 1 - p)).sum(axis=(1, 2, 3))


def test_the_bound_and_its_parts():
    vae = make_vae()
    mean, log_variance = np.split(dense_by_numpy(vae.encoder, IMAGES), 2, axis=-1)
    seed = random.make_seed(7)
    noise = random.normal([5, 3], seed).numpy()
    latent = mean + np.exp(log_variance / 2) * noise
    log_likelihood = log_likelihood_by_numpy(vae, latent)
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(-1)
    ours = vae.bound_parts(IMAGES, seed)
    np.testing.assert_allclose(ours[0], log_likelihood, rtol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(ours[1], -1), kl, rtol=1e-5)
    np.testing.assert_allclose(vae.elbo(IMAGES, 7), log_likelihood - kl, rtol=1e-5)
    loss, metrics = vae.batch_loss(IMAGES, seed, training=True)
    np.testing.assert_allclose(loss, np.mean(kl - log_likelihood), rtol=1e-5)
    assert float(metrics["elbo"]) == pytest.approx(-float(loss), rel=1e-5)
    assert float(metrics["kl"]) == pytest.approx(kl.mean(), rel=1e-5)


def test_the_importance_weighted_bound():
    vae = make_vae()
    mean, log_variance = np.split(dense_by_numpy(vae.encoder, IMAGES), 2, axis=-1)
    stddev = np.exp(log_variance / 2)
    weights = []
    for k in range(4):
        seed = random.fold_in(random.make_seed(3), k)
        latent = mean + stddev * random.normal([5, 3], seed).numpy()
        log_ratio = scipy.stats.norm(0, 1).logpdf(latent) - scipy.stats.norm(
            mean, stddev
        ).logpdf(latent)
        weights.append(log_likelihood_by_numpy(vae, latent) + log_ratio.sum(-1))
    expected = scipy.special.logsumexp(weights, axis=0) - np.log(4)
    ours = vae.importance_weighted_bound(IMAGES, 4, seed=3)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    many = vae.importance_weighted_bound(IMAGES, 300)
    assert np.mean(many) > np.mean([vae.elbo(IMAGES, seed) for seed in range(40)])


def test_samples_reconstructions_and_codes():
    vae = make_vae(distribution="discretized_logistic")
    drawn = vae.sample(6, seed=1).numpy()
    assert drawn.shape == (6, *SHAPE)
    assert drawn.min() >= 0 <= drawn.max() <= 1
    np.testing.assert_array_equal(drawn, vae.sample(6, seed=1))
    assert np.abs(drawn - vae.sample(6, seed=2)).max() > 1e-3
    mean, _ = vae.encode(IMAGES)
    np.testing.assert_allclose(vae.reconstruct(IMAGES), vae.decode(mean), rtol=1e-6)


def test_beta_rises_over_the_first_steps():
    vae = make_vae(beta=2.0, warm_up_steps=4)
    vae.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    betas = []
    for _ in range(6):
        betas.append(float(vae.present_beta()))
        vae.fit(IMAGES, batch_size=5, verbose=0)
    assert betas == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": -1.0}, "beta must be at least 0, got -1.0"),
        ({"free_bits": -1.0}, "free_bits must be at least 0"),
        ({"latent_size": 0}, "latent_size must be a positive integer, got 0"),
        ({"network": "lstm"}, "network must be 'mlp' or 'conv', got 'lstm'"),
        ({"distribution": "poisson"}, "or one of bernoulli"),
        (
            {"network": "conv", "hidden_units": (2, 2, 2)},
            "images of 4x4 cannot be halved 3 times",
        ),
        (
            {"decoder": keras.Sequential([keras.Input((3,)), keras.layers.Dense(16)])},
            r"the decoder must have outputs \[4, 4, 1\] for an image, got \[16\]",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        VAE(SHAPE, **{"latent_size": 3, **arguments})
