"""DRAW against NumPy, step by step."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from tests.layers.test_gaussian_attention import banks_by_numpy
from tfzoo import random
from tfzoo.layers.gaussian_attention import write
from tfzoo.models import draw
from tfzoo.models.draw import DRAW

SHAPE = (5, 4, 2)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 2, (3, *SHAPE)).astype(np.float32)
KINDS = {
    "attention": {"read_size": 2, "write_size": 3},
    "attention of one filter": {"read_size": 1, "write_size": 1},
    "only reading": {"read_size": 2, "write_size": None},
    "no attention": {"read_size": None, "write_size": None},
}


def make(image_shape=SHAPE, **options):
    defaults = {"num_glimpses": 3, "hidden_units": 6, "latent_size": 2, "seed": 2}
    sizes = {"read_size": 2, "write_size": 3}
    model = DRAW(image_shape, **{**defaults, **sizes, **options})
    rng = np.random.default_rng(1)
    # So that no bias and no start is 0.
    for weight in model.trainable_variables:
        weight.assign(weight + 0.2 * rng.normal(size=weight.shape))
    return model


def lstm_by_numpy(layer, x, h, c):
    gates = x @ layer.kernel.numpy() + h @ layer.recurrent_kernel.numpy()
    gates = gates + layer.bias.numpy()
    i, f, g, o = np.split(gates, 4)
    c = scipy.special.expit(f) * c + scipy.special.expit(i) * np.tanh(g)
    return scipy.special.expit(o) * np.tanh(c), c


def dense_by_numpy(layer, x):
    return x @ layer.kernel.numpy() + layer.bias.numpy()


def write_by_numpy(model, h_dec):
    """Equations 18 and 29: what one image's canvas gains, [H, W, C]."""
    w = dense_by_numpy(model.writer, h_dec)
    height, width, channels = model.image_shape
    if model.write_size is None:
        return w.reshape(height, width, channels)
    size = model.write_size
    f_x, f_y, intensity = banks_by_numpy(
        dense_by_numpy(model.write_attention, h_dec), (height, width), size
    )
    w = w.reshape(size, size, channels)
    planes = [f_y.T @ w[..., c] @ f_x / intensity for c in range(channels)]
    return np.stack(planes, axis=-1)


def read_by_numpy(model, x, error, h_dec):
    """Equations 17 and 27."""
    if model.read_size is None:
        return np.concatenate([x.reshape(-1), error.reshape(-1)])
    pair = np.concatenate([x, error], axis=-1)
    f_x, f_y, intensity = banks_by_numpy(
        dense_by_numpy(model.read_attention, h_dec), x.shape[:2], model.read_size
    )
    planes = [intensity * f_y @ pair[..., c] @ f_x.T for c in range(pair.shape[-1])]
    return np.stack(planes, axis=-1).reshape(-1)


def drawn_by_numpy(model, x, noise):
    """Equations 1 to 12 for one image x [H, W, C] with noise [T, D].

    Returns:
      (canvases [T, H, W, C], log p(x|c_T), KL [T], log p(z) - log q(z|x)).
    """
    c, h_enc, s_enc, h_dec, s_dec = (
        weight.numpy()
        for weight in (
            model.start.canvas,
            model.start.encoder,
            model.start.encoder_cell,
            model.start.decoder,
            model.start.decoder_cell,
        )
    )
    canvases, kl, log_ratio = [], [], 0.0
    for e in noise:
        error = x - scipy.special.expit(c)
        r = read_by_numpy(model, x, error, h_dec)
        inputs = np.concatenate([r, h_dec])
        h_enc, s_enc = lstm_by_numpy(model.encoder, inputs, h_enc, s_enc)
        mean, log_variance = np.split(dense_by_numpy(model.posterior, h_enc), 2)
        stddev = np.exp(log_variance / 2)
        z = mean + stddev * e
        h_dec, s_dec = lstm_by_numpy(model.decoder, z, h_dec, s_dec)
        c = c + write_by_numpy(model, h_dec)
        canvases.append(c)
        kl.append(0.5 * np.sum(mean**2 + stddev**2 - log_variance - 1))
        log_ratio += scipy.stats.norm(0, 1).logpdf(z).sum()
        log_ratio -= scipy.stats.norm(mean, stddev).logpdf(z).sum()
    p = scipy.special.expit(c)
    log_likelihood = np.log(np.where(x == 1, p, 1 - p)).sum()
    return np.stack(canvases), log_likelihood, np.array(kl), log_ratio


def all_by_numpy(model, noise):
    runs = [drawn_by_numpy(model, x, noise[:, n]) for n, x in enumerate(IMAGES)]
    canvases, log_likelihood, kl, log_ratio = map(np.stack, zip(*runs, strict=True))
    return canvases.swapaxes(0, 1), log_likelihood, kl, log_ratio


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_glimpses", [1, 3])
def test_the_bound_and_its_parts(kind, num_glimpses):
    model = make(num_glimpses=num_glimpses, beta=0.5, **KINDS[kind])
    seed = random.make_seed(7)
    noise = random.normal([num_glimpses, 3, 2], seed).numpy()
    canvases, log_likelihood, kl, _ = all_by_numpy(model, noise)
    ours = model.bound_parts(IMAGES, seed)
    np.testing.assert_allclose(ours[0], log_likelihood, rtol=1e-4)
    np.testing.assert_allclose(ours[1], kl, rtol=1e-4)
    bound = log_likelihood - kl.sum(-1)
    np.testing.assert_allclose(model.elbo(IMAGES, 7), bound, rtol=1e-4)
    loss, metrics = model.batch_loss(IMAGES, seed, training=True)
    expected = np.mean(0.5 * kl.sum(-1) - log_likelihood)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(metrics["elbo"]) == pytest.approx(bound.mean(), rel=1e-4)
    assert float(metrics["kl"]) == pytest.approx(kl.sum(-1).mean(), rel=1e-4)
    frames = model.canvases(IMAGES, seed=7)["images"]
    np.testing.assert_allclose(frames, scipy.special.expit(canvases), rtol=1e-4)


def test_the_bound_of_weights_set_by_hand():
    # z_t has mean 2 and variance e whatever is read; all that is written is its bias,
    # 0.5, and the canvas begins at -1, so that after two glimpses it is 0.
    model = DRAW(
        (2, 3, 1),
        num_glimpses=2,
        hidden_units=4,
        latent_size=3,
        read_size=None,
        write_size=None,
    )
    for weight in model.trainable_variables:
        weight.assign(tf.zeros(weight.shape))
    model.posterior.bias.assign([2.0, 2.0, 2.0, 1.0, 1.0, 1.0])
    model.writer.bias.assign(0.5 * tf.ones([6]))
    model.start.canvas.assign(-tf.ones([2, 3, 1]))
    log_likelihood, kl = model.bound_parts(tf.ones([1, 2, 3, 1]), random.make_seed(0))
    np.testing.assert_allclose(log_likelihood, [6 * np.log(0.5)], rtol=1e-6)
    # 1/2 (4 + e - 1 - 1) for each of three numbers.
    np.testing.assert_allclose(kl, [[1.5 * (2 + np.e)] * 2], rtol=1e-6)


def test_writing_with_attention_by_hand():
    # Five zeros are filters of variance 1 over all of the image; with N = 1, at its
    # middle, a patch of 3 becomes 3 times an outer product of two Gaussians.
    model = make((3, 3, 1), num_glimpses=1, write_size=1)
    for weight in model.trainable_variables:
        weight.assign(tf.zeros(weight.shape))
    model.writer.bias.assign([3.0])
    gaussian = np.exp([-0.5, 0.0, -0.5])
    gaussian /= gaussian.sum()
    expected = scipy.special.expit(3.0 * np.outer(gaussian, gaussian))
    np.testing.assert_allclose(model.sample(1)[0, ..., 0], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["attention", "no attention"])
def test_the_importance_weighted_bound(kind):
    model = make(**KINDS[kind])
    weights = []
    for k in range(4):
        seed = random.fold_in(random.make_seed(3), k)
        noise = random.normal([3, 3, 2], seed).numpy()
        _, log_likelihood, _, log_ratio = all_by_numpy(model, noise)
        weights.append(log_likelihood + log_ratio)
    expected = scipy.special.logsumexp(weights, axis=0) - np.log(4)
    ours = model.importance_weighted_bound(IMAGES, 4, seed=3)
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_reconstructions_are_the_last_canvases_and_take_means():
    model = make()
    canvases, *_ = all_by_numpy(model, np.zeros((3, 3, 2)))
    result = model.canvases(IMAGES)
    np.testing.assert_allclose(
        result["images"], scipy.special.expit(canvases), rtol=1e-4
    )
    np.testing.assert_array_equal(result["images"][-1], model.reconstruct(IMAGES))
    np.testing.assert_array_equal(model(IMAGES), model.reconstruct(IMAGES))
    noisy = model.canvases(IMAGES, seed=1)["images"][-1]
    assert np.abs(noisy - result["images"][-1]).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_latent_numbers_are_encoded_and_decoded(kind):
    model = make(**KINDS[kind])
    mean, log_variance = (x.numpy() for x in model.encode(IMAGES))
    assert mean.shape == log_variance.shape == (3, 3, 2)
    # What comes of the means of all glimpses before.
    _, _, kl, _ = all_by_numpy(model, np.zeros((3, 3, 2)))
    ours = 0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1).sum(-1)
    np.testing.assert_allclose(ours, kl, rtol=1e-4)
    rebuilt = model.decode(mean.astype(np.float64))
    np.testing.assert_allclose(rebuilt, model.reconstruct(IMAGES), rtol=1e-5)
    latent = random.normal([3, 4, 2], random.make_seed(6)).numpy()
    drawn = model.decode(latent.swapaxes(0, 1))
    np.testing.assert_allclose(drawn, model.sample(4, seed=6), rtol=1e-5)


def test_attention_is_shown_where_it_is():
    shapes = {"images": [3, 3, *SHAPE], "read": [3, 3, 5], "write": [3, 3, 5]}
    for sizes in KINDS.values():
        model = make(**sizes)
        results = model.canvases(IMAGES), model.sample_canvases(3)
        expected = {
            name: shape
            for name, shape in shapes.items()
            if name == "images" or sizes[f"{name}_size"]
        }
        assert {name: list(x.shape) for name, x in results[0].items()} == expected
        expected.pop("read", None)
        assert {name: list(x.shape) for name, x in results[1].items()} == expected
    # What is read first follows from the learned start alone.
    model = make()
    first = dense_by_numpy(model.read_attention, model.start.decoder.numpy())
    x, y, stride, stddev, intensity = model.canvases(IMAGES)["read"][0, 0].numpy()
    assert x == pytest.approx(2.5 * (first[0] + 1), rel=1e-4)
    assert y == pytest.approx(3.0 * (first[1] + 1), rel=1e-4)
    assert stride == pytest.approx(4.0 * np.exp(first[3]), rel=1e-4)
    assert stddev == pytest.approx(np.exp(first[2] / 2), rel=1e-4)
    assert intensity == pytest.approx(np.exp(first[4]), rel=1e-4)


def test_all_channels_have_one_attention():
    model = make((6, 5, 3), read_size=2, write_size=2)
    assert model.read_attention.units == model.write_attention.units == 5
    rng = np.random.default_rng(3)
    grey = np.repeat(rng.random((2, 6, 5, 1)), 3, axis=-1).astype(np.float32)
    # A patch of three equal channels is written as an image of three.
    for weight in (model.writer.kernel, model.writer.bias, model.start.canvas):
        by_channel = weight.numpy().reshape(-1, 3)
        weight.assign(np.repeat(by_channel[:, :1], 3, axis=-1).reshape(weight.shape))
    drawn = model.canvases(grey, seed=0)["images"].numpy()
    np.testing.assert_allclose(drawn[..., 0], drawn[..., 1], rtol=1e-6)
    np.testing.assert_allclose(drawn[..., 0], drawn[..., 2], rtol=1e-6)
    assert np.ptp(drawn[..., 0]) > 1e-2


def test_each_glimpse_has_noise_of_its_own():
    model = make(num_glimpses=4, write_size=None)
    # A decoder that remembers nothing writes the same for the same z.
    model.decoder.recurrent_kernel.assign(tf.zeros([6, 24]))
    model.decoder.bias.assign(tf.repeat([0.0, -99.0, 0.0, 0.0], 6))
    frames = scipy.special.logit(model.sample_canvases(2)["images"].numpy())
    start = np.broadcast_to(model.start.canvas.numpy(), (1, 2, *SHAPE))
    gains = np.diff(np.concatenate([start, frames]), axis=0).reshape(8, -1)
    differences = np.abs(gains[:, None] - gains).max(-1)
    assert differences[~np.eye(8, dtype=bool)].min() > 1e-3
    latent = random.normal([4, 2, 2], random.make_seed(0)).numpy()
    expected = []
    for z in latent.reshape(8, 2):
        h, _ = lstm_by_numpy(model.decoder, z, np.zeros(6), np.zeros(6))
        expected.append(dense_by_numpy(model.writer, h))
    np.testing.assert_allclose(gains, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 3, 3)])
def test_latent_numbers_of_other_glimpses_are_refused(shape):
    with pytest.raises(ValueError, match=r"latent must have shape \[B, 3, 2\], got"):
        make().decode(np.zeros(shape, np.float32))


@pytest.mark.parametrize("distribution", ["gaussian", "discretized_logistic"])
def test_canvases_hold_all_parameters_of_the_pixels(distribution):
    model = make(distribution=distribution)
    drawn = model.sample(6, seed=1).numpy()
    assert drawn.shape == (6, *SHAPE)
    assert 0 <= drawn.min() < drawn.max() <= 1
    np.testing.assert_array_equal(drawn, model.sample(6, seed=1))
    np.testing.assert_array_equal(drawn, model.sample_canvases(6, 1)["images"][-1])
    assert np.abs(drawn - model.sample(6, seed=2)).max() > 1e-3
    assert model.start.canvas.shape == (5, 4, 4)
    assert np.isfinite(model.elbo(IMAGES)).all()


@pytest.mark.parametrize("kind", ["attention", "no attention"])
def test_samples_and_bounds_are_the_same_eagerly_in_a_graph_and_through_xla(kind):
    model = make(**KINDS[kind])
    seed = random.make_seed(5)
    for function, argument in (
        (lambda seed: model.sample_from(4, seed), seed),
        (lambda seed: model.bound_parts(IMAGES, seed), seed),
    ):
        eager = function(argument)
        for jit_compile in (False, True):
            compiled = tf.function(function, autograph=False, jit_compile=jit_compile)
            for one, two in zip(
                tf.nest.flatten(compiled(argument)),
                tf.nest.flatten(eager),
                strict=True,
            ):
                np.testing.assert_allclose(one, two, rtol=1e-4)


def test_the_graph_holds_one_glimpse_however_many_there_are(monkeypatch):
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return write(*arguments)

    monkeypatch.setattr(draw, "write", counted)
    for num_glimpses in (2, 40):
        model = make(num_glimpses=num_glimpses)
        model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
        model.fit(IMAGES, batch_size=3, epochs=2, verbose=0)
    assert len(calls) == 2


def test_noise_of_training_steps_differs():
    model = make()
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    history = model.fit(IMAGES, batch_size=3, epochs=3, verbose=0).history
    assert len(set(history["log_likelihood"])) == 3


def test_likelihoods_are_computed_in_single_precision_under_a_mixed_policy():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = make()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    precise = make()
    for one, two in zip(model.weights, precise.weights, strict=True):
        one.assign(two)
    parts = model.bound_parts(IMAGES, random.make_seed(0))
    assert all(part.dtype == tf.float32 for part in parts)
    for ours, expected in zip(
        parts, precise.bound_parts(IMAGES, random.make_seed(0)), strict=True
    ):
        assert np.abs(ours - expected).max() > 0
        np.testing.assert_allclose(ours, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": (28, 28)}, r"three positive integers, got \(28, 28\)"),
        ({"num_glimpses": 0}, "num_glimpses must be a positive integer, got 0"),
        ({"hidden_units": 1.5}, "hidden_units must be a positive integer, got 1.5"),
        ({"latent_size": -1}, "latent_size must be a positive integer, got -1"),
        ({"read_size": 0}, "read_size must be a positive integer, or None for no"),
        ({"write_size": 0}, "write_size must be a positive integer, or None for no"),
        ({"distribution": "poisson"}, "or one of bernoulli"),
        ({"beta": -1.0}, "beta must be at least 0, got -1.0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        DRAW(**{"image_shape": SHAPE, **arguments})
