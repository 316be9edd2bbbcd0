"""Bounds against closed forms, quadrature and a model whose likelihood is known."""

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import tensorflow as tf

from tfzoo import random
from tfzoo.losses import (
    DiscretizedLogisticPixels,
    ELBOLoss,
    GaussianKLLoss,
    GaussianPixels,
    ImportanceWeightedLoss,
    ReconstructionLoss,
    elbo,
    gaussian_kl_divergence,
    gaussian_log_ratio,
    importance_weighted_bound,
    pack_importance_samples,
    pack_variational,
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


def density(distribution, outputs, images):
    """log p(image), [...], of images of two channels, by SciPy."""
    p = scipy.special.expit(outputs[..., :2])
    if distribution == "bernoulli":
        values = scipy.stats.bernoulli(p).logpmf(images)
    else:
        values = scipy.stats.norm(p, np.exp(outputs[..., 2:])).logpdf(images)
    return values.sum(axis=(-3, -2, -1))


def make_images(distribution, rng):
    if distribution == "bernoulli":
        return rng.integers(0, 2, (6, 3, 4, 2)).astype(np.float32)
    return rng.uniform(size=(6, 3, 4, 2)).astype(np.float32)


both = pytest.mark.parametrize(
    ("distribution", "width"), [("bernoulli", 2), ("gaussian", 4)]
)


@both
@pytest.mark.parametrize(("beta", "free_bits"), [(1.0, 0.0), (2.5, 0.4)])
def test_elbo_loss_is_that_of_the_densities(distribution, width, beta, free_bits):
    rng = np.random.default_rng(0)
    images = make_images(distribution, rng)
    outputs = rng.normal(size=(6, 3, 4, width)).astype(np.float32)
    # The first numbers of the latent have few nats.
    scale = np.linspace(0.1, 2, 5)
    mean, log_variance = (scale * rng.normal(size=(2, 6, 5))).astype(np.float32)
    # KL = H(q, p) - H(q).
    cross_entropy = 0.5 * (np.log(2 * np.pi) + mean**2 + np.exp(log_variance))
    kl = cross_entropy - scipy.stats.norm(mean, np.exp(log_variance / 2)).entropy()
    free = kl.mean(axis=0) < free_bits
    assert bool(free_bits) == free.any()
    assert not free.all()
    kl[:, free] = free_bits
    expected = beta * kl.sum(axis=1) - density(distribution, outputs, images)
    options = {"beta": beta, "free_bits": free_bits}
    packed = pack_variational(outputs, mean, log_variance)
    loss = ELBOLoss(distribution, reduction="none", **options)
    np.testing.assert_allclose(loss(images, packed), expected, rtol=1e-4)
    loss = ELBOLoss(distribution, **options)
    np.testing.assert_allclose(loss(images, packed), expected.mean(), rtol=1e-4)


@both
@pytest.mark.parametrize("num_samples", [1, 4])
def test_importance_weighted_loss_is_that_of_the_densities(
    distribution, width, num_samples
):
    rng = np.random.default_rng(0)
    images = make_images(distribution, rng)
    # The weights are close enough for each to count.
    outputs = rng.normal(size=(6, num_samples, 3, 4, width)) / 4
    z, mean, log_variance = rng.normal(size=(3, 6, num_samples, 5)) / 2
    log_ratio = scipy.stats.norm(0, 1).logpdf(z)
    log_ratio -= scipy.stats.norm(mean, np.exp(log_variance / 2)).logpdf(z)
    log_ratio = log_ratio.sum(-1)
    log_weights = density(distribution, outputs, images[:, None]) + log_ratio
    packed = pack_importance_samples(outputs, log_ratio)
    ours = ImportanceWeightedLoss(distribution, reduction="none")(images, packed)
    if num_samples == 1:
        expected = -log_weights[:, 0]
    else:
        expected = -scipy.special.logsumexp(log_weights, axis=1, b=1 / num_samples)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    mean = ImportanceWeightedLoss(distribution)(images, packed)
    np.testing.assert_allclose(mean, expected.mean(), rtol=1e-5)


def test_importance_weighted_loss_falls_to_the_likelihood_with_more_samples():
    # p(z) = N(0, 1) and p(x = 1 | z) = sigmoid(4 z): as many images are 1 as are 0.
    num = 2000
    mean, log_variance = 0.3, -0.5
    images = (np.arange(num) % 2).astype(np.float32).reshape(num, 1, 1, 1)
    noise = random.normal([num, 200, 1], random.make_seed(0)).numpy()
    z = mean + np.exp(log_variance / 2) * noise
    outputs = 4 * z[..., None, None]
    log_ratio = gaussian_log_ratio(z, mean, log_variance).numpy()

    def value(k):
        packed = pack_importance_samples(outputs[:, :k], log_ratio[:, :k])
        return ImportanceWeightedLoss(reduction="none")(images, packed).numpy()

    losses = {k: value(k).mean() for k in (1, 2, 10, 200)}
    assert losses[1] > losses[2] > losses[10] > losses[200]
    assert losses[200] == pytest.approx(np.log(2), abs=0.02)
    # With one sample it is the evidence lower bound, but for noise.
    constant = np.ones([num, 1], np.float32)
    packed = pack_variational(outputs[:, 0], mean * constant, log_variance * constant)
    by_formula = ELBOLoss()(images, packed)
    assert losses[1] == pytest.approx(float(by_formula), abs=0.03)
    # Of the same samples, no image's loss is above the mean of their own losses.
    alone = [
        ImportanceWeightedLoss(reduction="none")(
            images,
            pack_importance_samples(outputs[:, k : k + 1], log_ratio[:, k : k + 1]),
        )
        for k in range(3)
    ]
    assert np.all(value(3) <= np.mean(alone, axis=0) + 1e-5)


@pytest.mark.parametrize("loss", [ELBOLoss, ImportanceWeightedLoss])
def test_eager_graph_and_xla_agree_on_bounds(loss):
    rng = np.random.default_rng(0)
    images = make_images("gaussian", rng)
    if loss is ELBOLoss:
        loss, pack = ELBOLoss("gaussian", beta=2.0, free_bits=0.04), pack_variational
        shapes = (6, 3, 4, 4), (6, 5), (6, 5)
    else:
        loss, pack = ImportanceWeightedLoss("gaussian"), pack_importance_samples
        shapes = (6, 7, 3, 4, 4), (6, 7)
    parts = [tf.constant(rng.normal(size=shape) / 4, tf.float32) for shape in shapes]

    def value_and_gradients(images, *parts):
        with tf.GradientTape() as tape:
            tape.watch(parts)
            value = loss(images, pack(*parts))
        return value, *tape.gradient(value, parts)

    eager = value_and_gradients(tf.constant(images), *parts)
    assert all(np.any(gradient) for gradient in eager[1:])
    if pack is pack_variational:
        is_free = ~np.any(eager[2], axis=0)
        assert is_free.any()
        assert not is_free.all()
    # As in `fit`, whose batches may be of any size.
    signature = [tf.TensorSpec([None, *x.shape[1:]]) for x in (images, *parts)]
    for jit_compile in (False, True):
        function = tf.function(
            value_and_gradients, signature, autograph=False, jit_compile=jit_compile
        )
        for ours, expected in zip(function(images, *parts), eager, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_number_of_samples_may_be_unknown_to_the_loss():
    rng = np.random.default_rng(0)
    images = make_images("gaussian", rng)
    packed = pack_importance_samples(
        rng.normal(size=(6, 7, 3, 4, 4)), rng.normal(size=(6, 7))
    )
    loss = ImportanceWeightedLoss("gaussian")
    signature = [tf.TensorSpec([None, 3, 4, 2]), tf.TensorSpec([None, None, 49])]
    np.testing.assert_allclose(
        tf.function(loss, signature)(images, packed), loss(images, packed), rtol=1e-5
    )


class Draw(keras.layers.Layer):
    """Draws K samples [B, K, D] from q(z|x), and gives their log-ratios [B, K]."""

    def __init__(self, num_samples):
        super().__init__()
        self.num_samples = num_samples
        self.noise = keras.random.SeedGenerator(0)

    def call(self, mean, log_variance):
        mean, log_variance = mean[:, None], log_variance[:, None]
        shape = tf.shape(mean) * [1, self.num_samples, 1]
        noise = keras.random.normal(shape, seed=self.noise)
        latent = mean + tf.exp(0.5 * log_variance) * noise
        return latent, gaussian_log_ratio(latent, mean, log_variance)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("num_samples", [None, 5])
def test_bounds_train_a_stock_model(num_samples, jit_compile):
    keras.utils.set_random_seed(0)
    image = keras.Input((4, 4, 1))
    hidden = keras.layers.Dense(16, "tanh")(keras.layers.Flatten()(image))
    mean, log_variance = keras.layers.Dense(2)(hidden), keras.layers.Dense(2)(hidden)
    latent, log_ratio = Draw(num_samples or 1)(mean, log_variance)
    hidden = keras.layers.Dense(16, "tanh")(latent)
    outputs = keras.layers.Dense(4 * 4)(hidden)
    if num_samples is None:
        outputs = keras.layers.Reshape((4, 4, 1))(outputs)
        packed, loss = pack_variational(outputs, mean, log_variance), ELBOLoss()
    else:
        outputs = keras.layers.Reshape((num_samples, 4, 4, 1))(outputs)
        packed = pack_importance_samples(outputs, log_ratio)
        loss = ImportanceWeightedLoss()
    model = keras.Model(image, packed)
    model.compile(keras.optimizers.Adam(0.02), loss, jit_compile=jit_compile)
    # Each image is all black or all white: log 2 nats, if the latent tells which, and
    # 16 log 2 if it does not.
    x = np.tile(np.reshape(np.arange(64) % 2, (64, 1, 1, 1)), (1, 4, 4, 1))
    history = model.fit(x, x, epochs=40, verbose=0).history["loss"]
    assert history[0] > 8
    assert 0.6 < np.mean(history[-5:]) < 4


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_packing_order_and_type(dtype):
    outputs = np.arange(48).reshape(2, 3, 2, 2, 2).astype(dtype)
    latent = np.arange(100, 106).reshape(2, 3).astype(dtype)
    packed = pack_variational(outputs[:, 0], latent, latent + 10)
    assert packed.dtype == tf.float32
    row = [*range(8), 100, 101, 102, 110, 111, 112]
    np.testing.assert_array_equal(packed[0], row)
    packed = pack_importance_samples(outputs, latent)
    assert packed.dtype == tf.float32
    assert packed.shape == [2, 3, 9]
    np.testing.assert_array_equal(packed[1, 2], [*range(40, 48), 105])


@pytest.mark.parametrize(
    "loss",
    [
        ReconstructionLoss(DiscretizedLogisticPixels(8)),
        GaussianKLLoss(beta=2.0, free_bits=0.5),
        ELBOLoss(GaussianPixels(0.2), beta=2.0, free_bits=0.5, name="bound"),
        ImportanceWeightedLoss(DiscretizedLogisticPixels(8), reduction="sum"),
    ],
)
def test_losses_round_trip(loss):
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(loss)
    )
    assert type(again) is type(loss)
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
        (lambda: ELBOLoss("poisson"), "or one of bernoulli"),
        (lambda: ELBOLoss(beta=-1), "beta must be at least 0, got -1"),
        (lambda: ELBOLoss(free_bits=-1), "free_bits must be at least 0, got -1"),
        (
            lambda: ELBOLoss("gaussian")(tf.zeros([2, 3, 3, 1]), tf.zeros([2, 21])),
            r"must have shape \[B, 18 \+ 2 D\] \(18 decoder outputs, D means, D "
            r"log-variances\), got \[2, 21\]; make it with pack_variational",
        ),
        (
            lambda: ELBOLoss()(tf.zeros([2, 3, 3, 1]), tf.zeros([2, 9])),
            r"must have shape \[B, 9 \+ 2 D\] .* got \[2, 9\]",
        ),
        (
            lambda: ELBOLoss()(tf.zeros([2, 3, 3, 1]), tf.zeros([2, 3, 13])),
            r"must have shape \[B, 9 \+ 2 D\] .* got \[2, 3, 13\]",
        ),
        (
            lambda: ELBOLoss()(tf.zeros([2, 9]), tf.zeros([2, 13])),
            r"y_true must be images \[B, H, W, C\], all but B known, got \[2, 9\]",
        ),
        (lambda: ImportanceWeightedLoss("poisson"), "or one of bernoulli"),
        (
            lambda: ImportanceWeightedLoss("gaussian")(
                tf.zeros([2, 3, 3, 1]), tf.zeros([2, 5, 10])
            ),
            r"must have shape \[B, K, 19\] \(18 decoder outputs, 1 log-ratio\), got "
            r"\[2, 5, 10\]; make it with pack_importance_samples",
        ),
        (
            lambda: ImportanceWeightedLoss()(tf.zeros([2, 3, 3, 1]), tf.zeros([2, 10])),
            r"must have shape \[B, K, 10\] .* got \[2, 10\]",
        ),
        (
            lambda: ImportanceWeightedLoss()(tf.zeros([2, 9]), tf.zeros([2, 5, 10])),
            r"y_true must be images \[B, H, W, C\], all but B known, got \[2, 9\]",
        ),
        (
            lambda: pack_variational(
                tf.zeros([2, 9]), tf.zeros([2, 3]), tf.zeros([2, 3])
            ),
            r"must have shape \[B, H, W, P C\], all but B known, got \[2, 9\]",
        ),
        (
            lambda: pack_variational(
                keras.Input((None, 3, 1)), keras.Input((2,)), keras.Input((2,))
            ),
            r"all but B known, got \[None, None, 3, 1\]",
        ),
        (
            lambda: pack_variational(
                tf.zeros([2, 3, 3, 1]), tf.zeros([2, 3]), tf.zeros([2, 4])
            ),
            r"must have the same shape, got \[2, 3\] and \[2, 4\]",
        ),
        (
            lambda: pack_variational(
                tf.zeros([2, 3, 3, 1]), tf.zeros([4, 3]), tf.zeros([4, 3])
            ),
            r"mean must have B of decoder_outputs, \[2\], as its first axes, got "
            r"shape \[4, 3\]",
        ),
        (
            lambda: pack_importance_samples(tf.zeros([2, 3, 3, 1]), tf.zeros([2, 3])),
            r"must have shape \[B, K, H, W, P C\], all but B known, got "
            r"\[2, 3, 3, 1\]",
        ),
        (
            lambda: pack_importance_samples(
                tf.zeros([2, 5, 3, 3, 1]), tf.zeros([2, 5, 1])
            ),
            r"log_ratio must have shape \[B, K\], got \[2, 5, 1\]",
        ),
        (
            lambda: pack_importance_samples(
                tf.zeros([2, 5, 3, 3, 1]), tf.zeros([2, 4])
            ),
            r"log_ratio must have B, K of decoder_outputs, \[2, 5\], as its first "
            r"axes, got shape \[2, 4, 1\]",
        ),
    ],
)
def test_wrong_use_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
