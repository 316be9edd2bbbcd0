"""The transposed convolution with few outputs against that of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.layers import NarrowConv2DTranspose

MODES = {
    "eager": lambda function: function,
    "graph": tf.function(autograph=False),
    "xla": tf.function(autograph=False, jit_compile=True),
}


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
@pytest.mark.parametrize(("channels", "stride"), [(1, 2), (3, 2), (2, 4)])
def test_values_and_gradients_are_those_of_keras(mode, channels, stride):
    usual, narrow = pair(channels, 3, 5, 6, stride=stride, activation="tanh")
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(2, 3, 5, 6)), tf.float32)
    shape = 2, 3 * stride, 5 * stride, channels
    weight = tf.constant(rng.normal(size=shape), tf.float32)

    def gradients(layer):
        @MODES[mode]
        def both(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x)
                loss = tf.reduce_sum(weight * y)
            return y, tape.gradient(loss, [x, *layer.trainable_variables])

        y, rest = both(x)
        assert y.shape == shape
        return [y, *rest]

    for ours, theirs in zip(gradients(narrow), gradients(usual), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_second_derivatives_are_those_of_keras():
    usual, narrow = pair(1, 2, 2, 3)
    x = tf.constant(np.random.default_rng(1).normal(size=(2, 2, 2, 3)), tf.float32)

    def second(layer):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(layer(x) ** 3)
            first = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return outer.gradient(first, x)

    np.testing.assert_allclose(second(narrow), second(usual), rtol=1e-4, atol=1e-6)


def test_in_mixed_precision_values_are_those_of_keras():
    usual, narrow = pair(1, 3, 3, 4, dtype="mixed_bfloat16")
    x = tf.random.stateless_normal([2, 3, 3, 4], [0, 1])
    values = [layer(x) for layer in (narrow, usual)]
    assert values[0].dtype == tf.bfloat16
    np.testing.assert_allclose(
        *(tf.cast(value, tf.float32) for value in values), rtol=0.05, atol=0.02
    )


def test_sizes_may_be_known_when_called():
    model = keras.Sequential([keras.Input((None, None, 3)), NarrowConv2DTranspose(1)])
    assert model.output_shape == (None, None, None, 1)
    for size in (2, 5):
        assert model(np.ones((1, size, 4, 3), np.float32)).shape == (1, 2 * size, 8, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 5}, r"strides \(2, 2\) and kernel_size \(5, 5\)"),
        ({"kernel_size": 2, "strides": 1}, "the stride must be even"),
        ({"strides": (2, 4)}, r"strides \(2, 4\)"),
        ({"padding": "valid"}, "padding='valid'"),
        ({"data_format": "channels_first"}, "channels_first"),
        ({"output_padding": 1}, "output_padding="),
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
