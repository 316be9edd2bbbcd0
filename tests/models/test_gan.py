"""Both players' steps by hand, and each published GAN."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tests.devices import two_devices
from tfzoo import random
from tfzoo.layers import SpectralConv2D
from tfzoo.layers.spectral_normalization import spectral_norm
from tfzoo.losses.adversarial import gradient_penalty
from tfzoo.models.began import BEGAN
from tfzoo.models.gan import GAN
from tfzoo.models.gan_networks import (
    dcgan_discriminator,
    dcgan_generator,
    gan_optimizers,
    make_gan,
)

SHAPE = (8, 8, 1)
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, (8, *SHAPE)).astype(np.float32)
LABELS = np.arange(8) % 3
TWO_CRITIC_STEPS = {"wgan", "wgan_gp", "sngan"}


def make(gan_type, rate=0.05, compiled=None, **options):
    defaults = {"base_channels": 2, "latent_size": 3, "seed": 1}
    if gan_type in TWO_CRITIC_STEPS:
        defaults["critic_steps"] = 2
    gan = make_gan(gan_type, SHAPE, **{**defaults, **options})
    # Tiny networks with weights of 0.02 would say the same of everything.
    for weight in gan.weights:
        if weight.path.endswith("kernel"):
            weight.assign(8.0 * weight)
    gan.compile(
        keras.optimizers.SGD(rate),
        keras.optimizers.SGD(rate),
        **(compiled or {"run_eagerly": True}),
    )
    return gan


def fit(gan, epochs=1, **options):
    options = {"batch_size": 8, "shuffle": False, "verbose": 0, **options}
    data = (IMAGES,) if gan.num_classes is None else (IMAGES, LABELS)
    return gan.fit(*data, epochs=epochs, **options).history


def values(network):
    return {v.path: v.numpy() for v in network.variables}


def changed(network, before):
    """The names of the kinds of variables that are not what they were."""
    return {
        path.rsplit("/", 1)[-1]
        for path, value in values(network).items()
        if np.abs(value - before[path]).max() > 0
    }


def test_a_step_by_hand():
    gan, by_hand = make("wgan_gp"), make("wgan_gp")
    history = fit(gan)
    seed = random.fold_in(random.fold_in(random.make_seed(1), 0), 0)
    critic, generator = by_hand.discriminator, by_hand.generator
    first = [w.numpy() for w in generator.weights]
    losses, distances = [], []
    for number in range(2):
        part = tf.constant(IMAGES[4 * number : 4 * number + 4])
        seeds = random.split(random.fold_in(seed, number), 2)
        # Not in training would be other statistics of the generator's normalisation.
        fakes = keras.models.clone_model(generator)
        fakes.set_weights(generator.get_weights())
        fakes = fakes(random.normal([4, 3], seeds[0]), training=True)
        with tf.GradientTape() as tape:
            distance = tf.reduce_mean(critic(part)) - tf.reduce_mean(critic(fakes))
            epsilon = random.uniform([4], seeds[1])
            penalty = tf.reduce_mean(gradient_penalty(critic, part, fakes, epsilon))
            loss = 10 * penalty - distance
        variables = [v.value for v in critic.trainable_variables]
        for v, g in zip(variables, tape.gradient(loss, variables), strict=True):
            v.assign_sub(0.05 * g)
        losses.append(loss)
        distances.append(distance)
    with tf.GradientTape() as tape:
        latent = random.normal([4, 3], random.fold_in(seed, 2))
        loss = -tf.reduce_mean(critic(generator(latent, training=True)))
    variables = [v.value for v in generator.trainable_variables]
    for v, g in zip(variables, tape.gradient(loss, variables), strict=True):
        v.assign_sub(0.05 * g)

    for network in "generator", "discriminator":
        expected = values(getattr(by_hand, network)).values()
        ours = values(getattr(gan, network)).values()
        for one, two in zip(ours, expected, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
    assert history["generator_loss"] == pytest.approx([float(loss)], rel=1e-4)
    for name, expected in (
        ("discriminator_loss", losses),
        ("wasserstein_distance", distances),
    ):
        assert history[name] == pytest.approx([np.mean(expected)], rel=1e-4)
    # In the first step averaged weights move by 9 / 10.
    for average, old, new in zip(
        gan.averaged_generator.weights, first, generator.weights, strict=True
    ):
        share = 0.9 if new.trainable else 1.0
        np.testing.assert_allclose(
            average, old + share * (new - old), rtol=1e-4, atol=1e-6
        )


def test_there_are_n_critic_steps_for_one_of_the_generator():
    gan = make("wgan", critic_steps=4)
    fit(gan, 3)
    assert int(gan.steps) == int(gan.generator_optimizer.iterations) == 3
    assert int(gan.discriminator_optimizer.iterations) == 12
    with pytest.raises(ValueError, match="a batch of 6 images cannot be split among"):
        fit(gan, batch_size=6)


@pytest.mark.parametrize("gan_type", ["dcgan", "sngan", "infogan"])
def test_a_players_update_changes_that_player_alone(gan_type):
    gan = make(gan_type)
    state = "u" if gan_type == "sngan" else "moving_mean"
    generator, critic = values(gan.generator), values(gan.discriminator)
    gan._update_discriminator(tf.constant(IMAGES), None, random.make_seed(3))
    assert changed(gan.generator, generator) == set()
    assert changed(gan.discriminator, critic) >= {"kernel", state}
    critic = values(gan.discriminator)
    gan._update_generator(8, None, random.make_seed(4))
    assert changed(gan.discriminator, critic) == set()
    assert changed(gan.generator, generator) >= {"kernel", "moving_mean"}
    generator = values(gan.generator)
    gan.evaluate(IMAGES, batch_size=8, verbose=0)
    gan.sample(4)
    assert not changed(gan.discriminator, critic) | changed(gan.generator, generator)


def test_moving_statistics_are_of_the_images_and_not_of_the_fakes():
    gan = make("dcgan")
    alone = keras.models.clone_model(gan.discriminator)
    alone.set_weights(gan.discriminator.get_weights())
    gan._update_discriminator(tf.constant(IMAGES), None, random.make_seed(3))
    alone(IMAGES, training=True)
    for ours, expected in zip(
        gan.discriminator.non_trainable_variables,
        alone.non_trainable_variables,
        strict=True,
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)


def test_the_average_by_hand():
    gan = make("dcgan", average_decay=0.2)
    average = gan.generator.get_weights()
    for step in range(3):
        fit(gan)
        decay = min(0.2, (1 + step) / (10 + step))
        average = [
            decay * old + (1 - decay) * new.numpy() if new.trainable else new.numpy()
            for old, new in zip(average, gan.generator.weights, strict=True)
        ]
        for ours, expected in zip(gan.averaged_generator.weights, average, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)
    latent = gan.draw_latent(4, random.split(random.make_seed(7), 2)[0])
    drawn = gan.sample(4, seed=7)
    np.testing.assert_allclose(drawn, gan.averaged_generator(latent), rtol=1e-5)
    assert np.abs(drawn - gan.generator(latent)).max() > 1e-4


def test_weights_are_clipped():
    gan = make("wgan", weight_clip=0.03)
    fit(gan)
    largest = [np.abs(w).max() for w in gan.discriminator.trainable_variables]
    assert max(largest) == pytest.approx(0.03)
    assert max(np.abs(w).max() for w in gan.generator.get_weights()) > 0.03


def test_the_critic_takes_one_power_step_in_an_update():
    gan = make("sngan", critic_steps=1)
    layer = next(x for x in gan.discriminator.layers if isinstance(x, SpectralConv2D))
    _, expected = spectral_norm(layer.kernel.value, layer.u.value)
    fit(gan)
    np.testing.assert_allclose(layer.u, expected, rtol=1e-5)


def test_began_by_hand():
    gan = make("began", gamma=0.5, k_rate=0.5)
    gan.k.assign(0.25)
    critic = keras.models.clone_model(gan.discriminator)
    critic.set_weights(gan.discriminator.get_weights())
    step_seed = random.fold_in(random.fold_in(random.make_seed(1), 0), 0)
    latent = gan.draw_latent(8, random.fold_in(step_seed, 0))
    fakes = gan.generator(latent, training=True)
    real_error = np.abs(IMAGES - critic(IMAGES, training=True)).mean()
    fake_error = np.abs(fakes - critic(fakes, training=True)).mean()
    history = {name: value[0] for name, value in fit(gan).items()}
    assert isinstance(gan, BEGAN)
    assert history["reconstruction_error"] == pytest.approx(real_error, rel=1e-5)
    assert history["discriminator_loss"] == pytest.approx(
        real_error - 0.25 * fake_error, rel=1e-5
    )
    balance = 0.5 * real_error - history["generator_loss"]
    k = np.clip(0.25 + 0.5 * balance, 0, 1)
    assert 0 < k < 1
    assert float(gan.k) == history["k"] == pytest.approx(k, rel=1e-5)
    convergence = real_error + abs(balance)
    assert history["convergence"] == pytest.approx(convergence, rel=1e-5)
    evaluated = gan.evaluate(IMAGES, batch_size=8, verbose=0, return_dict=True)
    assert float(gan.k) == evaluated["k"] == history["k"]


def test_began_draws_what_its_autoencoder_rebuilds():
    gan, seed = make("began"), random.make_seed(5)
    fakes = gan.generate(gan.draw_latent(6, seed), None, training=False)
    error = np.abs(fakes - gan.reconstruct(fakes)).mean()
    loss, _ = gan.generator_loss(6, None, seed, False)
    assert float(loss) == pytest.approx(error, rel=1e-5)


def test_began_balances_the_mean_errors_of_two_devices():
    strategy = two_devices()
    with strategy.scope():
        gan = make("began", compiled={"jit_compile": False}, gamma=0.5, k_rate=0.1)

    def finish():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        # 0.5 L(x) - L(G(z)) is -0.4 and 0.5: clipped one by one they had 0.25 as mean.
        return gan.finish_step(
            {
                "reconstruction_error": tf.gather([0.2, 1.2], replica),
                "generator_loss": tf.gather([0.5, 0.1], replica),
            },
            training=True,
        )

    shown = strategy.run(tf.function(finish))
    for k in gan.k.values:
        assert float(k) == pytest.approx(0.1 * 0.05, rel=1e-4)
    for measure in strategy.experimental_local_results(shown["convergence"]):
        assert float(measure) == pytest.approx(0.7 + 0.05, rel=1e-5)


def test_infogan_by_hand():
    gan = make(
        "infogan",
        num_categories=4,
        num_continuous=2,
        information_weight=0.7,
        continuous_weight=0.3,
    )
    seed = random.make_seed(5)
    latent = gan.draw_latent(6, seed).numpy()
    assert latent.shape == (6, 3 + 4 + 2)
    np.testing.assert_array_equal(latent[:, 3:7].sum(-1), np.ones(6))
    assert np.abs(latent[:, 7:]).max() <= 1
    fakes = gan.generate(latent, None, training=False)
    logits, outputs = (x.numpy() for x in gan.discriminator(fakes, training=False))
    log_prob = scipy.special.log_softmax(outputs[:, :4], -1)
    categorical = (log_prob * latent[:, 3:7]).sum(-1).mean() + np.log(4)
    squares = np.square(outputs[:, 4:] - latent[:, 7:])
    densities = -0.5 * (squares + np.log(2 * np.pi)) + np.log(2)
    continuous = densities.sum(-1).mean()
    loss, _ = gan.generator_loss(6, None, seed, False)
    expected = np.logaddexp(0, -logits).mean() - 0.7 * categorical - 0.3 * continuous
    assert float(loss) == pytest.approx(expected, rel=1e-5)

    real, _ = gan.discriminator(IMAGES[:6], training=False)
    loss, metrics = gan.discriminator_loss(IMAGES[:6], None, seed, False)
    expected += np.logaddexp(0, -real).mean()
    expected += (np.logaddexp(0, logits) - np.logaddexp(0, -logits)).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    for name, value in (("categorical", categorical), ("continuous", continuous)):
        assert float(metrics[f"{name}_information"]) == pytest.approx(value, abs=1e-6)

    probabilities, means = gan.codes(fakes)
    np.testing.assert_allclose(probabilities, np.exp(log_prob), rtol=1e-5)
    np.testing.assert_allclose(means, outputs[:, 4:])


def test_infogan_has_dense_layers_between_codes_and_convolutions():
    gan = make("infogan", base_channels=3)
    generator = [
        w.shape for w in gan.generator.trainable_variables if len(w.shape) == 2
    ]
    assert generator[0] == (gan.latent_size, 16 * 3)
    shapes = [w.shape for w in gan.discriminator.trainable_variables]
    assert {(16 * 3, 1), (16 * 3, 128)} <= set(shapes)
    for normalization in ("batch", "layer", "spectral", "none"):
        network = dcgan_discriminator(
            SHAPE, base_channels=2, hidden_units=5, normalization=normalization
        )
        assert (5, 1) in [w.shape for w in network.trainable_variables]
        assert network(IMAGES[:2]).shape == (2, 1)


def test_infogan_samples_have_the_codes_that_are_asked_for():
    gan = make("infogan", num_categories=4)
    with_codes = gan.sample(4, seed=2, categories=range(4), continuous=[0.5, -1.0])
    latent = gan.draw_latent(4, random.split(random.make_seed(2), 2)[0]).numpy()
    latent[:, 3:7] = np.eye(4)
    latent[:, 7:] = 0.5, -1.0
    np.testing.assert_allclose(with_codes, gan(latent), rtol=1e-5)
    with pytest.raises(ValueError, match="categories must be from 0 to 3, got 4 to 4"):
        gan.sample(2, categories=4)


@pytest.mark.parametrize("gan_type", ["dcgan", "sngan", "began"])
def test_a_conditional_gan_learns_and_draws_by_labels(gan_type):
    gan = make(gan_type, num_classes=3)
    fit(gan)
    drawn = [gan.sample(4, seed=2, labels=label).numpy() for label in range(3)]
    assert drawn[0].shape == (4, *SHAPE)
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-5
    mixed = gan.sample(4, seed=2, labels=[0, 1, 2, 0]).numpy()
    for row, label in enumerate([0, 1, 2, 0]):
        np.testing.assert_allclose(mixed[row], drawn[label][row], atol=1e-5)
    classes = np.eye(3, dtype=np.float32)
    logits = [
        gan.judge(IMAGES, np.repeat(classes[c : c + 1], 8, 0), False) for c in range(3)
    ]
    assert np.abs(logits[0] - logits[1]).max() > 1e-7
    with pytest.raises(ValueError, match=r"fitted to batches of \(images, labels\)"):
        gan.fit(IMAGES, verbose=0)
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 3 to 3"):
        gan.sample(2, labels=3)


def test_without_classes_labels_are_left_alone():
    gan, other = make("dcgan"), make("dcgan")
    fit(gan)
    other.fit(IMAGES, LABELS, batch_size=8, shuffle=False, verbose=0)
    for one, two in zip(gan.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(ValueError, match="labels are for a conditional GAN"):
        gan.sample(2, labels=1)


def test_half_precision_scales_both_losses_with_a_gradient_penalty():
    options = {"critic_steps": 1, "compiled": {"jit_compile": False}}
    full = fit(make("wgan_gp", **options))
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        gan = make("wgan_gp", rate=1e-3, **options)
        before = values(gan.generator), values(gan.discriminator)
        # float16 skips steps until it has found its scale.
        history = fit(gan, 12)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert gan.generator.trainable_variables[0].dtype == "float32"
    for name in "gradient_penalty", "discriminator_loss":
        assert history[name][0] == pytest.approx(full[name][0], rel=0.05)
        assert np.isfinite(history[name]).all()
    for network, old in zip((gan.generator, gan.discriminator), before, strict=True):
        assert "kernel" in changed(network, old)
    for optimizer in gan.generator_optimizer, gan.discriminator_optimizer:
        scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        assert scales


def test_a_conditional_began_serves_reconstructions_by_labels():
    gan = make("began", num_classes=3)
    reconstruct, inputs = gan.endpoints()["reconstruct"]
    assert [spec.name for spec in inputs] == ["images", "labels"]
    served = reconstruct(tf.constant(IMAGES), tf.constant(LABELS))["images"]
    expected = gan.reconstruct(IMAGES, tf.one_hot(LABELS, 3))
    np.testing.assert_allclose(served, expected, rtol=1e-5)
    other = reconstruct(tf.constant(IMAGES), tf.constant(LABELS[::-1]))["images"]
    assert np.abs(other - expected).max() > 1e-5


@pytest.mark.parametrize(
    ("shape", "deepest"),
    [
        ((8, 8, 1), (2, 2)),
        ((28, 28, 1), (7, 7)),
        ((32, 32, 3), (4, 4)),
        ((64, 64, 3), (4, 4)),
        ((12, 20, 3), (3, 5)),
    ],
)
def test_networks_are_made_for_images_of_any_shape(shape, deepest):
    gan = make_gan("dcgan", shape, base_channels=2, minibatch_kernels=3)
    assert gan.sample(2).shape == (2, *shape)
    assert gan.judge(tf.zeros([2, *shape]), None, False).shape == (2, 1)
    reshape = next(
        x for x in gan.generator.layers if isinstance(x, keras.layers.Reshape)
    )
    assert reshape.target_shape[:2] == deepest
    began = make_gan("began", shape, base_channels=2)
    assert began.sample(2).shape == began.reconstruct(tf.zeros([2, *shape])).shape


def test_latents_are_of_their_prior():
    for prior, stddev in ("normal", 1.0), ("uniform", 3**-0.5):
        gan = make("dcgan", latent_prior=prior)
        latent = gan.draw_latent(5000, random.make_seed(0)).numpy()
        assert latent.std() == pytest.approx(stddev, rel=0.03)
        assert (np.abs(latent).max() <= 1) == (prior == "uniform")


def test_minibatch_discrimination_compares_the_images_of_a_batch():
    gan = make("dcgan", minibatch_kernels=3)
    alone = gan.judge(IMAGES[:1], None, False)
    among = gan.judge(IMAGES, None, False)
    assert abs(float(alone[0, 0] - among[0, 0])) > 1e-6


def test_published_optimizers():
    generator, critic = gan_optimizers("wgan")
    assert type(generator) is type(critic) is keras.optimizers.RMSprop
    assert float(critic.learning_rate) == pytest.approx(5e-5)
    generator, critic = gan_optimizers("infogan")
    assert float(generator.learning_rate) == pytest.approx(1e-3)
    assert float(critic.learning_rate) == pytest.approx(2e-4)
    assert (critic.beta_1, critic.beta_2) == (0.5, 0.999)
    assert gan_optimizers("wgan_gp")[0].beta_1 == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latent_prior": "beta"}, "latent_prior must be one of normal, uniform"),
        ({"critic_steps": 0}, "critic_steps must be a positive integer, got 0"),
        ({"weight_clip": 0.0}, r"weight_clip must be None or above 0, got 0.0"),
        ({"penalty_weight": -1.0}, "penalty_weight must be None or above 0"),
        ({"average_decay": 1.0}, r"average_decay must be in \[0, 1\), got 1.0"),
        ({"loss": "kl"}, "loss must be AdversarialLosses or one of non_saturating"),
        ({"num_classes": 3}, "the generator must be from latent and "),
        (
            {"discriminator": dcgan_discriminator((8, 8, 3), base_channels=2)},
            r"the discriminator must take \(8, 8, 1\), got \(8, 8, 3\)",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    defaults = {
        "generator": dcgan_generator(SHAPE, 3, base_channels=2),
        "discriminator": dcgan_discriminator(SHAPE, base_channels=2),
    }
    with pytest.raises(ValueError, match=message):
        GAN(SHAPE, **{**defaults, **arguments})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_gan("biggan", SHAPE), "must be one of dcgan, .*, got 'biggan'"),
        (lambda: gan_optimizers("biggan"), "must be one of dcgan, .*, got 'biggan'"),
        (lambda: make_gan("dcgan", (30, 30, 1)), "divisible by 4, got 30x30"),
        (lambda: make("began", gamma=1.5), r"gamma must be in \[0, 1\], got 1.5"),
        (lambda: make("began", loss="hinge"), "takes no loss"),
        (lambda: make("began", minibatch_kernels=2), "takes no minibatch_kernels"),
        (lambda: make("began", normalization="none"), "no other normalization"),
        (lambda: make("dcgan", latent_size=0), "latent_size must be a positive"),
        (lambda: make("infogan", num_classes=2), "takes no num_classes"),
        (lambda: make("wgan_gp", minibatch_kernels=2), "judges each image by itself"),
        (lambda: make("sngan", minibatch_kernels=2), "judges each image by itself"),
        (lambda: make("dcgan", penalty_weight=10.0), "and has BatchNormalization"),
        (lambda: make("infogan", num_categories=1), "of at least 2, got 1"),
        (
            lambda: dcgan_discriminator(SHAPE, normalization="group"),
            "normalization must be one of batch, layer, spectral, none, got 'group'",
        ),
    ],
)
def test_wrong_types_and_options_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_one_optimizer_cannot_serve_two_players():
    gan, optimizer = make("dcgan"), keras.optimizers.Adam()
    with pytest.raises(ValueError, match="need an optimizer each, got one"):
        gan.compile(optimizer, optimizer)


def test_layers_with_random_numbers_of_their_own_are_refused():
    image = keras.Input(SHAPE)
    features = keras.layers.Dropout(0.5)(keras.layers.Flatten()(image))
    discriminator = keras.Model(image, keras.layers.Dense(1)(features))
    with pytest.raises(ValueError, match="such as Dropout"):
        GAN(SHAPE, dcgan_generator(SHAPE, 3, base_channels=2), discriminator)
