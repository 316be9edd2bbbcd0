"""The transposed convolution with few outputs against that of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.layers.like_keras import MODES, assert_same_values_and_gradients
from tfzoo.layers import NarrowConv2DTranspose


def pair(channels, *shape, stride=2, **options):
    """The layer of Keras and ours, of the same weights."""
    options |= {"bias_initializer": "normal"}
    arguments = channels, 2 * stride, stride, "same"
    layers = (
        keras.layers.Conv2DTranspose(*arguments, **options),
        NarrowConv2DTranspose(*arguments, **options),
    )
    for layer in layers:
        layer.build((None, *shape))
    layers[1].set_weights(layers[0].get_weights())
    return layers


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("channels", "stride"), [(1, 2), (3, 2), (2, 3), (1, 4)])
def test_values_and_gradients_are_those_of_keras(mode, channels, stride):
    usual, narrow = pair(channels, 3, 5, 6, stride=stride, activation="tanh")
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(2, 3, 5, 6)), tf.float32)
    shape = 2, 3 * stride, 5 * stride, channels
    weight = tf.constant(rng.normal(size=shape), tf.float32)
    assert_same_values_and_gradients(
        narrow, usual, x, weight, mode, rtol=1e-4, atol=1e-5
    )


def test_second_derivatives_are_those_of_keras():
    usual, narrow = pair(1, 2, 2, 3)
    x = tf.constant(np.random.default_rng(1).normal(size=(2, 2, 2, 3)), tf.float32)

    def second(layer):
        variables = [x, layer.kernel.value]
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(layer(x) ** 3)
            first = inner.gradient(loss, variables)
            total = tf.add_n([tf.reduce_sum(gradient**2) for gradient in first])
        return outer.gradient(total, variables)

    for ours, theirs in zip(second(narrow), second(usual), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-12), ("mixed_bfloat16", 1e-2)]
)
def test_other_precisions_are_as_exact_as_keras(dtype, tolerance):
    usual, narrow = pair(1, 3, 3, 64, dtype=dtype)
    exact = keras.layers.Conv2DTranspose(1, 4, 2, "same", dtype="float64")
    exact.build((None, 3, 3, 64))
    exact.set_weights(usual.get_weights())
    x = tf.random.stateless_normal([4, 3, 3, 64], [0, 1], dtype=tf.float64)

    def outputs_and_gradient(layer):
        with tf.GradientTape() as tape:
            y = layer(x)
            loss = tf.reduce_sum(tf.cast(y, tf.float64) ** 2)
        gradient = tape.gradient(loss, layer.kernel.value)
        return y, tf.cast(y, tf.float64), tf.cast(gradient, tf.float64)

    (y, *ours), (expected, *theirs) = map(outputs_and_gradient, (narrow, usual))
    _, *truth = outputs_and_gradient(exact)
    assert y.dtype == expected.dtype
    for value, other, true in zip(ours, theirs, truth, strict=True):
        scale = np.std(true)
        error, error_of_keras = (np.std(v - true) / scale for v in (value, other))
        assert error < tolerance
        assert error < 1.2 * error_of_keras + 1e-15


def test_sizes_may_be_known_when_called():
    model = keras.Sequential([keras.Input((None, None, 3)), NarrowConv2DTranspose(1)])
    assert model.output_shape == (None, None, None, 1)
    for size in (2, 5):
        assert model(np.ones((1, size, 4, 3), np.float32)).shape == (1, 2 * size, 8, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 5}, r"strides \(2, 2\) and kernel_size \(5, 5\)"),
        ({"kernel_size": 2, "strides": 1}, "the stride must be at least 2"),
        ({"strides": (2, 4)}, r"strides \(2, 4\)"),
        ({"padding": "valid"}, "got 'valid'"),
        ({"data_format": "channels_first"}, "channels_first"),
        ({"output_padding": 1}, r"channels_last', \(1, 1\)"),
    ],
)
def test_other_shapes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NarrowConv2DTranspose(1, **options)


def test_a_model_with_it_is_saved_and_loaded(tmp_path):
    model = keras.Sequential([keras.Input((2, 2, 3)), NarrowConv2DTranspose(1)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(1).normal(size=(4, 2, 2, 3)).astype(np.float32)
    assert isinstance(loaded.layers[0], NarrowConv2DTranspose)
    np.testing.assert_array_equal(loaded(x), model(x))
