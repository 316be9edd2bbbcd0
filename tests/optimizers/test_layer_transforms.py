"""The transforms against NumPy, and Newton-Schulz against the singular values."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.optimizers.layer_transforms import (
    GradientCentralization,
    LARSScaling,
    LayerTransform,
    LayerwiseClipping,
    OrthogonalizedMomentum,
    centralize,
    newton_schulz_orthogonalize,
    trust_ratio,
)

RNG = np.random.default_rng(0)
SHAPES = {"dense": [(6, 4), (4,)], "conv": [(3, 3, 2, 5), (5,)]}


def draw(shapes):
    return [RNG.normal(size=shape).astype("float32") for shape in shapes]


def slots_of(transform, weights):
    """The slots of a transform, outside of an optimizer."""

    def add_slot(name, shape, initializer="zeros", dtype="float32"):
        return keras.Variable(shape=shape, initializer=initializer, dtype=dtype)

    return transform.make_slots([tf.Variable(w) for w in weights], add_slot)


def norm(arrays):
    return np.sqrt(sum((a.astype("float64") ** 2).sum() for a in arrays))


@pytest.mark.parametrize("layer", SHAPES)
def test_clipping_bounds_the_norm_of_kernel_and_bias_together(layer):
    gradients = draw(SHAPES[layer])
    total = norm(gradients)
    clipped = LayerwiseClipping(0.5 * total)(gradients, None, None)
    for new, old in zip(clipped, gradients, strict=True):
        np.testing.assert_allclose(new, 0.5 * old, rtol=1e-5)
    for new, old in zip(
        LayerwiseClipping(1.01 * total)(gradients, None, None), gradients, strict=True
    ):
        np.testing.assert_array_equal(new, old)
    (zero,) = LayerwiseClipping(1.0)([tf.zeros([2])], None, None)
    np.testing.assert_array_equal(zero, [0.0, 0.0])


@pytest.mark.parametrize("layer", SHAPES)
def test_centralization_takes_the_mean_from_each_output_of_a_kernel(layer):
    kernel, bias = draw(SHAPES[layer])
    new_kernel, new_bias = GradientCentralization()([kernel, bias], None, None)
    columns = kernel.reshape(-1, kernel.shape[-1])
    expected = (columns - columns.mean(axis=0)).reshape(kernel.shape)
    np.testing.assert_allclose(new_kernel, expected, atol=1e-6)
    np.testing.assert_array_equal(new_bias, bias)
    # A projection: doing it twice changes nothing.
    np.testing.assert_allclose(centralize(new_kernel), expected, atol=1e-6)


def test_trust_ratio():
    w, g = draw(SHAPES["dense"]), draw(SHAPES["dense"])
    expected = 0.01 * norm(w) / (norm(g) + 0.1 * norm(w))
    ratio = trust_ratio(w, g, trust_coefficient=0.01, weight_decay=0.1)
    np.testing.assert_allclose(ratio, expected, rtol=1e-5)
    zeros = [np.zeros_like(x) for x in w]
    for weights, gradients in ((zeros, g), (w, zeros), (zeros, zeros)):
        assert trust_ratio(weights, gradients, trust_coefficient=0.01) == 1.0


def test_lars_moves_by_a_fixed_share_of_the_norm_of_the_weights():
    w, g = draw(SHAPES["conv"]), draw(SHAPES["conv"])
    for factor in (1e-3, 1.0, 1e3):
        step = LARSScaling(0.02)([factor * x for x in g], w, None)
        np.testing.assert_allclose(
            norm([x.numpy() for x in step]), 0.02 * norm(w), 1e-5
        )
    decayed = LARSScaling(0.02, weight_decay=0.3)(g, w, None)
    ratio = 0.02 * norm(w) / (norm(g) + 0.3 * norm(w))
    for new, x, y in zip(decayed, w, g, strict=True):
        np.testing.assert_allclose(new, ratio * (y + 0.3 * x), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("shape", [(8, 8), (12, 5), (5, 12), (2, 3, 6, 4)])
@pytest.mark.parametrize("iterations", [1, 5])
def test_newton_schulz_keeps_the_singular_vectors(shape, iterations):
    """U S V^T becomes U p(S / |S|) V^T, p the polynomial of scalars."""
    matrix = RNG.normal(size=shape).astype("float32")
    u, s, vt = np.linalg.svd(matrix.astype("float64"), full_matrices=False)
    s /= np.sqrt((s**2).sum(axis=-1, keepdims=True))
    for _ in range(iterations):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    expected = u * s[..., None, :] @ vt
    result = newton_schulz_orthogonalize(tf.constant(matrix), iterations)
    # The iteration spreads singular values, and their rounding with them, up to 480
    # fold.
    np.testing.assert_allclose(result, expected, atol=2e-4)


def test_newton_schulz_brings_the_singular_values_near_one():
    u, _, vt = np.linalg.svd(RNG.normal(size=(40, 30)), full_matrices=False)
    s = np.geomspace(1.0, 0.005, 30)
    s *= 1.0 / np.linalg.norm(s)
    result = newton_schulz_orthogonalize(tf.constant(u * s @ vt))
    found = np.linalg.svd(result, compute_uv=False)
    assert found.min() > 0.68
    assert found.max() < 1.21
    # So it is U V^T up to a third in norm at most, and less on average.
    polar = u @ vt
    assert np.linalg.norm(result - polar, 2) < 0.32
    cosine = (result * polar).numpy().sum() / np.linalg.norm(result) / np.sqrt(30)
    assert cosine > 0.98


def test_newton_schulz_does_not_see_the_scale():
    matrix = tf.constant(draw([(6, 4)])[0])
    result = newton_schulz_orthogonalize(matrix)
    for factor in (1e-12, 1e12):
        scaled = newton_schulz_orthogonalize(factor * matrix)
        np.testing.assert_allclose(scaled, result, atol=1e-4)
    zeros = tf.zeros([3, 4])
    np.testing.assert_array_equal(newton_schulz_orthogonalize(zeros), zeros)


@pytest.mark.parametrize("layer", SHAPES)
@pytest.mark.parametrize("nesterov", [True, False])
def test_orthogonalized_momentum_over_three_steps(layer, nesterov):
    transform = OrthogonalizedMomentum(momentum=0.8, nesterov=nesterov, rms=0.3)
    weights = draw(SHAPES[layer])
    slots = slots_of(transform, weights)
    average = [np.zeros_like(w) for w in weights]
    for _ in range(3):
        gradients = draw(SHAPES[layer])
        kernel, bias = transform([tf.constant(g) for g in gradients], weights, slots)
        average = [0.8 * m + 0.2 * g for m, g in zip(average, gradients, strict=True)]
        ahead = average
        if nesterov:
            ahead = [0.8 * m + 0.2 * g for m, g in zip(average, gradients, strict=True)]
    for slot, m in zip(slots, average, strict=True):
        np.testing.assert_allclose(slot, m, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(bias, ahead[1], rtol=1e-5, atol=1e-6)
    matrix = ahead[0].reshape(-1, ahead[0].shape[-1])
    orthogonal = newton_schulz_orthogonalize(tf.constant(matrix))
    expected = 0.3 * np.sqrt(max(matrix.shape)) * orthogonal.numpy()
    np.testing.assert_allclose(kernel, expected.reshape(kernel.shape), atol=1e-3)
    # The root mean square is that asked for, as far as the singular values are 1.
    assert 0.68 < np.sqrt(np.mean(np.square(kernel))) / 0.3 < 1.21


TRANSFORMS = [
    LayerwiseClipping(2.5),
    GradientCentralization(),
    LARSScaling(0.01, 1e-4),
    OrthogonalizedMomentum(0.9, False, 0.4, 3),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
def test_configuration(transform):
    config = keras.saving.serialize_keras_object(transform)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(transform)
    assert isinstance(copy, LayerTransform)
    assert copy.get_config() == transform.get_config() == vars(transform)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
def test_float64_stays_float64(transform):
    gradients = [tf.constant(g, tf.float64) for g in draw(SHAPES["dense"])]
    weights = [tf.Variable(g) for g in gradients]
    slots = transform.make_slots(
        weights,
        lambda name, shape: keras.Variable(
            shape=shape, initializer="zeros", dtype="float64"
        ),
    )
    for new in transform(gradients, weights, slots):
        assert new.dtype == tf.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LayerwiseClipping(0.0), "max_norm must be greater than 0, got 0.0"),
        (lambda: LayerwiseClipping(float("nan")), "max_norm"),
        (lambda: LARSScaling(-1.0), "trust_coefficient must be greater than 0"),
        (lambda: LARSScaling(weight_decay=-0.1), "weight_decay must be at least 0"),
        (lambda: OrthogonalizedMomentum(1.0), r"momentum must be in \[0, 1\), got 1.0"),
        (lambda: OrthogonalizedMomentum(rms=0.0), "rms must be greater than 0"),
        (lambda: OrthogonalizedMomentum(iterations=0), "iterations must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
