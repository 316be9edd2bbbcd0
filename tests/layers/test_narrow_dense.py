"""The layer of few outputs against that of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.layers.like_keras import MODES, assert_same_values_and_gradients
from tfzoo.agents import q_network
from tfzoo.layers import NarrowDense


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
    assert_same_values_and_gradients(
        narrow, usual, x, weight, mode, rtol=1e-5, atol=1e-6
    )


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


def test_gradients_in_double_precision_are_as_exact():
    usual, narrow = pair(2, 16, dtype="float64")
    x = tf.constant(np.random.default_rng(3).normal(size=(7, 16)))

    def gradient(layer):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, layer.kernel.value)

    np.testing.assert_allclose(gradient(narrow), gradient(usual), rtol=1e-12)


def test_in_mixed_precision_values_and_gradients_are_those_of_keras():
    usual, narrow = pair(2, 3, dtype="mixed_bfloat16")
    # So many that sums in bfloat16 would be far off.
    x = tf.random.stateless_uniform([512, 3], [0, 1], 0.5, 1.5)

    def outputs_and_gradients(layer):
        with tf.GradientTape() as tape:
            y = layer(x)
            loss = tf.reduce_sum(tf.cast(y, tf.float32))
        return y, tape.gradient(loss, layer.kernel.value)

    (y, gradient), (expected, of_kernel) = map(outputs_and_gradients, (narrow, usual))
    assert y.dtype == tf.bfloat16
    np.testing.assert_array_equal(*(tf.cast(v, tf.float32) for v in (y, expected)))
    np.testing.assert_allclose(gradient, of_kernel, rtol=1e-2)
    np.testing.assert_allclose(gradient[:, 0], tf.reduce_sum(x, axis=0), rtol=1e-2)


def test_inputs_of_another_rank_are_refused():
    layer = NarrowDense(2)
    layer.build((None, 3))
    with pytest.raises(ValueError, match="expected ndim=2, found ndim=3"):
        layer(np.ones((4, 5, 3), np.float32))


@pytest.mark.parametrize(("num_actions", "expected"), [(8, True), (9, False)])
def test_q_networks_have_it_for_few_actions(num_actions, expected):
    last = q_network((4,), num_actions).layers[-1]
    assert isinstance(last, NarrowDense) == expected


def test_a_model_with_it_is_saved_and_loaded(tmp_path):
    model = keras.Sequential([keras.Input((3,)), NarrowDense(2)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    assert isinstance(loaded.layers[0], NarrowDense)
    np.testing.assert_array_equal(loaded(x), model(x))
