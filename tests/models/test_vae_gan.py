"""What each of the VAE-GAN's networks learns from."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo import random
from tfzoo.models import VAE, VAEGAN
from tfzoo.models.vae_gan import feature_discriminator

SHAPE = (8, 8, 1)
IMAGES = np.random.default_rng(0).uniform(size=(6, *SHAPE)).astype(np.float32)
PLAYERS = ("encoder", "decoder", "discriminator")


def make(gamma=0.3, **compiled):
    discriminator = feature_discriminator(SHAPE, hidden_units=(2, 3), seed=5)
    model = VAEGAN(
        SHAPE,
        latent_size=2,
        hidden_units=(3, 4),
        discriminator=discriminator,
        gamma=gamma,
        seed=1,
    )
    model.compile(keras.optimizers.SGD(0.01), **(compiled or {"run_eagerly": True}))
    return model


def test_losses_are_those_of_the_paper():
    model, seed = make(), random.make_seed(3)
    losses, metrics = model.player_losses(IMAGES, seed, training=True)
    mean, log_variance = (x.numpy() for x in model.encode(IMAGES))
    posterior_seed, prior_seed = tf.unstack(random.split(seed, 2))
    noise = random.normal([6, 2], posterior_seed).numpy()
    latent = mean + np.exp(log_variance / 2) * noise
    latent = tf.concat([latent, random.normal([6, 2], prior_seed)], 0)
    # Of one batch, which batch normalisation sees.
    rebuilt, drawn = np.split(
        tf.sigmoid(model.decoder(latent, training=True)).numpy(), 2
    )
    (features, real), (rebuilt_features, fake), (_, prior) = (
        [x.numpy() for x in model.discriminator(images, training=True)]
        for images in (IMAGES, rebuilt, drawn)
    )
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(1).mean()
    error = 0.5 * ((features - rebuilt_features) ** 2).reshape(6, -1).sum(1).mean()

    def log_sigmoid(logits):
        return -np.log1p(np.exp(-logits)).mean()

    discriminator = -(log_sigmoid(real) + log_sigmoid(-fake) + log_sigmoid(-prior))
    generator = -(log_sigmoid(fake) + log_sigmoid(prior))
    expected = {
        "encoder": kl + error,
        "decoder": 0.3 * error + generator,
        "discriminator": discriminator,
    }
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(value, rel=1e-4)
    assert float(metrics["kl"]) == pytest.approx(kl, rel=1e-4)
    assert float(metrics["feature_error"]) == pytest.approx(error, rel=1e-4)
    density = -0.5 * ((IMAGES - rebuilt) ** 2 + np.log(2 * np.pi))
    bound = density.reshape(6, -1).sum(1).mean() - kl
    assert float(metrics["elbo"]) == pytest.approx(bound, rel=1e-4)


def test_each_network_steps_down_its_own_loss_alone():
    model = make()
    seed = random.fold_in(random.fold_in(random.make_seed(1), 0), 0)
    with tf.GradientTape(persistent=True) as tape:
        losses, _ = model.player_losses(IMAGES, seed, training=True)
    expected = {}
    for name in PLAYERS:
        variables = getattr(model, name).trainable_variables
        gradients = tape.gradient(losses[name], [v.value for v in variables])
        assert all(np.abs(g).max() > 0 for g in gradients if g.shape.rank > 1)
        expected[name] = [
            v.numpy() - 0.01 * g.numpy()
            for v, g in zip(variables, gradients, strict=True)
        ]
    model.fit(IMAGES, batch_size=6, shuffle=False, verbose=0)
    for name in PLAYERS:
        variables = getattr(model, name).trainable_variables
        for variable, value in zip(variables, expected[name], strict=True):
            np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6)


def test_moving_statistics_of_the_discriminator_are_those_of_real_images():
    model, alone = make(), make()
    model.fit(IMAGES, batch_size=6, shuffle=False, verbose=0)
    alone.discriminator(IMAGES, training=True)
    means, variances = (v.numpy() for v in model.discriminator.non_trainable_variables)
    expected = [v.numpy() for v in alone.discriminator.non_trainable_variables]
    assert np.abs(means).max() > 0
    np.testing.assert_allclose(means, expected[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(variances, expected[1], rtol=1e-5)


@pytest.mark.parametrize(("model", "normalized"), [(VAEGAN, True), (VAE, False)])
def test_the_decoder_is_normalised_beside_a_discriminator(model, normalized):
    decoder = model(SHAPE, network="conv").decoder
    kinds = [type(layer) for layer in decoder.layers]
    assert (keras.layers.BatchNormalization in kinds) == normalized


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": -1}, "gamma must be at least 0, got -1"),
        ({"beta": 2.0}, "takes no beta"),
        ({"distribution": "bernoulli"}, "takes no distribution"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        VAEGAN(SHAPE, **options)


def test_a_discriminator_without_features_is_refused():
    image = keras.Input(SHAPE)
    logits = keras.layers.Dense(1)(keras.layers.Flatten()(image))
    with pytest.raises(ValueError, match=r"outputs \(features, logits \[B, 1\]\)"):
        VAEGAN(SHAPE, discriminator=keras.Model(image, logits))
