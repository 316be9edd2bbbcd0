"""Adversarial losses against NumPy, closed forms and gradients derived by hand."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from tfzoo.losses.adversarial import (
    AdversarialLosses,
    HingeGANLoss,
    LeastSquaresGANLoss,
    NonSaturatingGANLoss,
    WassersteinGANLoss,
    adversarial_losses,
    categorical_information,
    continuous_information,
    convergence_measure,
    equilibrium_weight,
    gradient_penalty,
)

LOGITS = np.array([[-30.0], [-0.7], [0.2], [3.0], [30.0]], np.float32)
# Of each name: the discriminator's loss of real and of fake logits and the generator's,
# then their derivatives, as functions of logits.
SIGMOID = scipy.special.expit
FORMULAS = {
    "non_saturating": (
        (
            lambda d: np.logaddexp(0, -d),
            lambda d: np.logaddexp(0, d),
            lambda d: np.logaddexp(0, -d),
        ),
        (lambda d: -SIGMOID(-d), SIGMOID, lambda d: -SIGMOID(-d)),
    ),
    "least_squares": (
        (lambda d: (d - 1) ** 2 / 2, lambda d: d**2 / 2, lambda d: (d - 1) ** 2 / 2),
        (lambda d: d - 1, lambda d: d, lambda d: d - 1),
    ),
    "wasserstein": (
        (lambda d: -d, lambda d: d, lambda d: -d),
        (lambda d: -np.ones_like(d), np.ones_like, lambda d: -np.ones_like(d)),
    ),
    "hinge": (
        (
            lambda d: np.maximum(0, 1 - d),
            lambda d: np.maximum(0, 1 + d),
            lambda d: -d,
        ),
        (
            lambda d: -(d < 1).astype(float),
            lambda d: (d > -1).astype(float),
            lambda d: -np.ones_like(d),
        ),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_losses_and_their_gradients_are_the_formulas(name):
    losses = adversarial_losses(name)
    sides = (losses.discriminator, 1.0), (losses.discriminator, 0.0)
    sides += ((losses.generator, 1.0),)
    for (loss, real), formula, slope in zip(sides, *FORMULAS[name], strict=True):
        logits = tf.Variable(LOGITS)
        with tf.GradientTape() as tape:
            value = loss(np.full([5, 1], real), logits)
        np.testing.assert_allclose(value, formula(LOGITS).mean(), rtol=1e-6)
        np.testing.assert_allclose(
            tape.gradient(value, logits), slope(LOGITS) / 5, rtol=1e-5, atol=1e-12
        )


@pytest.mark.parametrize("name", FORMULAS)
def test_a_smooth_label_weighs_real_and_fake(name):
    loss = adversarial_losses(name).discriminator
    if name == "least_squares":
        # Its labels are what the logits are to be.
        expected = ((LOGITS - 0.9) ** 2 / 2).mean()
    else:
        real, fake, _ = FORMULAS[name][0]
        expected = (0.9 * real(LOGITS) + 0.1 * fake(LOGITS)).mean()
    np.testing.assert_allclose(loss(np.full([5], 0.9), LOGITS), expected, rtol=1e-6)


def test_a_patch_discriminator_counts_images_equally():
    logits = np.random.default_rng(0).normal(size=(2, 3, 4, 1)).astype(np.float32)
    loss = LeastSquaresGANLoss(reduction=None)
    errors = loss(np.array([1.0, 0.0]), logits)
    expected = ((logits - [[[[1.0]]], [[[0.0]]]]) ** 2 / 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(errors, expected, rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_losses_work_in_stock_fit(name, jit_compile):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    loss = adversarial_losses(name).discriminator
    model.compile(keras.optimizers.SGD(0.1), loss=loss, jit_compile=jit_compile)
    real = np.arange(32) % 2
    x = np.stack([2.0 * real - 1.0, np.ones(32)], axis=-1)
    model.fit(x, real[:, None], batch_size=32, epochs=30, verbose=0)
    logits = model.predict(x, verbose=0)[:, 0]
    assert logits[real == 1].min() > logits[real == 0].max() + 0.5


@pytest.mark.parametrize(
    "loss",
    [
        NonSaturatingGANLoss(name="critic"),
        LeastSquaresGANLoss(reduction="sum"),
        WassersteinGANLoss(),
        HingeGANLoss(),
    ],
)
def test_losses_round_trip(loss):
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(loss)
    )
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()


def test_losses_are_found_by_name_or_given():
    losses = AdversarialLosses(HingeGANLoss(), LeastSquaresGANLoss())
    assert adversarial_losses(losses) is losses
    with pytest.raises(ValueError, match="one of non_saturating, least_squares"):
        adversarial_losses("kl")


def images(seed, num=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num, 4, 4, 2)).astype(np.float32)


@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_the_penalty_of_a_linear_critic_and_its_gradient(jit_compile):
    # D(x) = <w, x>, with the gradient w everywhere: (|w| - 1)^2 for each image, whose
    # own gradient is 2 (|w| - 1) w / |w|.
    weight = tf.Variable(images(3, num=1)[0])

    def penalise(epsilon):
        with tf.GradientTape() as tape:
            penalty = gradient_penalty(
                lambda x: tf.reduce_sum(weight * x, [1, 2, 3])[:, None],
                tf.constant(images(0)),
                tf.constant(images(1)),
                epsilon,
            )
            mean = tf.reduce_mean(penalty)
        return penalty, tape.gradient(mean, weight)

    if jit_compile is not None:
        penalise = tf.function(penalise, jit_compile=jit_compile)
    penalty, gradient = penalise(tf.linspace(0.0, 1.0, 6))
    norm = np.linalg.norm(weight.numpy())
    np.testing.assert_allclose(penalty, np.full(6, (norm - 1) ** 2), rtol=1e-5)
    expected = 2 * (norm - 1) * weight.numpy() / norm
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_the_penalty_is_taken_on_the_line_between_the_images_of_a_pair():
    # D(x) = |x|^2 / 2 has the gradient x.
    real, fake = images(0), images(1)
    epsilon = np.linspace(0, 1, 6).astype(np.float32)
    penalty = gradient_penalty(
        lambda x: tf.reduce_sum(x**2, [1, 2, 3], keepdims=True)[:, 0, 0] / 2,
        tf.constant(real),
        tf.constant(fake),
        tf.constant(epsilon),
    )
    points = epsilon[:, None, None, None] * real
    points += (1 - epsilon[:, None, None, None]) * fake
    norms = np.linalg.norm(points.reshape(6, -1), axis=-1)
    np.testing.assert_allclose(penalty, (norms - 1) ** 2, rtol=1e-5)
    # The ends are the images themselves.
    assert norms[5] == pytest.approx(np.linalg.norm(real[5]), rel=1e-6)
    assert norms[0] == pytest.approx(np.linalg.norm(fake[0]), rel=1e-6)


def test_the_penalty_has_a_gradient_where_the_critics_is_zero():
    weight = tf.Variable(tf.zeros([4, 4, 2]))
    with tf.GradientTape() as tape:
        penalty = gradient_penalty(
            lambda x: tf.reduce_sum(weight * x, [1, 2, 3])[:, None],
            tf.constant(images(0)),
            tf.constant(images(1)),
            tf.fill([6], 0.5),
        )
    np.testing.assert_allclose(penalty, np.ones(6), rtol=1e-5)
    assert np.isfinite(tape.gradient(penalty, weight)).all()


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_the_penalty_is_computed_in_full_precision(dtype):
    layer = keras.layers.Dense(1, dtype=dtype, kernel_initializer="ones")
    penalty = gradient_penalty(
        lambda x: layer(tf.reshape(x, [-1, 1024])),
        tf.zeros([2, 1024]),
        tf.ones([2, 1024]),
        tf.fill([2], 0.5),
    )
    assert penalty.dtype == tf.float32
    # The squares of the gradient add up to 1024, which a sum in bfloat16 would miss.
    np.testing.assert_allclose(penalty, np.full(2, 31.0**2), rtol=1e-4)


def test_k_and_convergence_by_hand():
    # gamma L(x) - L(G(z)) = 0.5 * 0.6 - 0.2 = 0.1.
    errors = tf.constant(0.6), tf.constant(0.2)
    assert float(equilibrium_weight(0.3, *errors, rate=0.01)) == pytest.approx(0.301)
    assert float(convergence_measure(*errors)) == pytest.approx(0.7)
    # 0.25 * 0.6 - 0.2 = -0.05.
    moved = equilibrium_weight(0.3, *errors, gamma=0.25, rate=0.01)
    assert float(moved) == pytest.approx(0.2995)
    assert float(convergence_measure(*errors, gamma=0.25)) == pytest.approx(0.65)
    assert float(equilibrium_weight(0.0, *errors, gamma=0.0)) == 0.0
    assert float(equilibrium_weight(0.999, *errors, rate=1.0)) == 1.0


def test_information_is_the_log_likelihood_and_the_entropy_of_codes():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 4)).astype(np.float32)
    category = rng.integers(0, 4, 5)
    expected = scipy.special.log_softmax(logits, -1)[np.arange(5), category]
    ours = categorical_information(logits, np.eye(4, dtype=np.float32)[category])
    np.testing.assert_allclose(ours, expected + np.log(4), rtol=1e-5)
    # All that there is to know.
    sure = categorical_information(tf.constant([[99.0, 0, 0]]), tf.eye(3)[:1])
    assert float(sure[0]) == pytest.approx(np.log(3))

    mean, codes = rng.normal(size=(2, 5, 3)).astype(np.float32)
    expected = (scipy.stats.norm(mean, 1).logpdf(codes) + np.log(2)).sum(-1)
    np.testing.assert_allclose(continuous_information(mean, codes), expected, rtol=1e-5)
