"""Minibatch discrimination against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.layers.minibatch_discrimination import MinibatchDiscrimination

FEATURES = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)


def make(**options):
    initializer = keras.initializers.RandomNormal(stddev=0.3, seed=1)
    return MinibatchDiscrimination(4, 3, kernel_initializer=initializer, **options)


@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_it_is_the_papers_formula_without_the_sample_itself(jit_compile):
    layer = make()
    layer.build((None, 7))
    call = layer
    if jit_compile is not None:
        call = tf.function(layer, jit_compile=jit_compile)
    kernel = layer.kernel.numpy().reshape(7, 4, 3)
    rows = np.einsum("na,abc->nbc", FEATURES, kernel)
    expected = np.zeros((5, 4))
    for i in range(5):
        for j in range(5):
            if i != j:
                expected[i] += np.exp(-np.abs(rows[i] - rows[j]).sum(-1))
    outputs = call(tf.constant(FEATURES)).numpy()
    assert layer.compute_output_shape((None, 7)) == (None, 11)
    np.testing.assert_array_equal(outputs[:, :7], FEATURES)
    np.testing.assert_allclose(outputs[:, 7:], expected, rtol=1e-5)


def test_equal_samples_are_as_close_as_can_be_and_one_has_no_other():
    layer = make()
    outputs = layer(tf.repeat(FEATURES[:1], 6, axis=0)).numpy()
    np.testing.assert_allclose(outputs[:, 7:], 5.0, rtol=1e-6)
    np.testing.assert_array_equal(layer(FEATURES[:1]).numpy()[:, 7:], np.zeros((1, 4)))


def test_it_learns_in_half_precision():
    layer = make(dtype="mixed_bfloat16")
    with tf.GradientTape() as tape:
        outputs = layer(FEATURES)
        total = tf.reduce_sum(tf.cast(outputs[:, 7:], tf.float32))
    assert outputs.dtype == tf.bfloat16
    assert np.abs(tape.gradient(total, layer.kernel.value)).max() > 0.01


def test_config_round_trip():
    layer = make(name="others")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("name", ["num_kernels", "kernel_size"])
def test_sizes_must_be_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, got 0"):
        MinibatchDiscrimination(**{name: 0})
