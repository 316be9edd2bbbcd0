"""The layer of few outputs against that of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.layers import NarrowDense

MODES = {
    "eager": lambda function: function,
    "graph": tf.function(autograph=False),
    "xla": tf.function(autograph=False, jit_compile=True),
}


def pair(units, inputs, **options):
    """The layer of Keras and ours, of the same weights."""
    layers = keras.layers.Dense(units, **options), NarrowDense(units, **options)
    for layer in layers:
        layer.build((None, inputs))
    layers[1].set_weights(layers[0].get_weights())
    return layers


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("units", [1, 2, 5])
def test_values_and_gradients_are_those_of_keras(mode, units):
    usual, narrow = pair(units, 16, activation="tanh", bias_initializer="normal")
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(7, 16)), tf.float32)
    weight = tf.constant(rng.normal(size=(7, units)), tf.float32)

    def gradients(layer):
        @MODES[mode]
        def both(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x)
                loss = tf.reduce_sum(weight * y)
            return y, tape.gradient(loss, [x, *layer.trainable_variables])

        y, rest = both(x)
        return [y, *rest]

    for ours, theirs in zip(gradients(narrow), gradients(usual), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_second_derivatives_are_those_of_keras():
    usual, narrow = pair(2, 3, use_bias=False)
    x = tf.constant([[0.5, -1.0, 2.0], [1.0, 0.0, 3.0]])

    def second(layer):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(layer(x) ** 3)
            first = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return outer.gradient(first, x)

    np.testing.assert_allclose(second(narrow), second(usual), rtol=1e-4)


def test_in_mixed_precision_it_computes_in_bfloat16():
    usual, narrow = pair(2, 3, dtype="mixed_bfloat16")
    x = np.ones((4, 3), np.float32)
    assert narrow(x).dtype == tf.bfloat16
    np.testing.assert_array_equal(
        tf.cast(narrow(x), tf.float32), tf.cast(usual(x), tf.float32)
    )


def test_a_model_with_it_is_saved_and_loaded(tmp_path):
    model = keras.Sequential([keras.Input((3,)), NarrowDense(2)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    assert isinstance(loaded.layers[0], NarrowDense)
    np.testing.assert_array_equal(loaded(x), model(x))
