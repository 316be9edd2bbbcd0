"""The masked layer against its formula."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.layers.masked_dense import MaskedDense

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 3)).astype(np.float32)
CONNECTIVITY = np.array([[1, 0, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]], bool)


def make_layer(**options):
    layer = MaskedDense(4, "tanh", **options)
    layer.build(X.shape)
    for weight in layer.weights:
        weight.assign(RNG.normal(size=weight.shape))
    return layer


@pytest.mark.parametrize("dtype", [bool, np.float32])
def test_it_is_a_dense_layer_without_the_connections_that_are_masked(dtype):
    layer = make_layer()
    kernel = np.where(CONNECTIVITY, layer.kernel.numpy(), 0.0)
    expected = np.tanh(X @ kernel + layer.bias.numpy())
    ours = layer(X, CONNECTIVITY.astype(dtype))
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    # The second unit is connected to nothing.
    np.testing.assert_allclose(ours[:, 1], np.tanh(layer.bias.numpy()[1]), rtol=1e-6)


def test_masked_weights_have_no_gradient():
    layer = make_layer(use_bias=False)
    (kernel,) = layer.trainable_variables
    with tf.GradientTape() as tape:
        outputs = layer(X, CONNECTIVITY)
    gradient = tape.gradient(outputs, kernel.value).numpy()
    np.testing.assert_array_equal(gradient != 0, CONNECTIVITY)


def test_one_trace_serves_all_masks():
    layer, traces = make_layer(), []

    @tf.function(autograph=False)
    def call(connectivity):
        traces.append(None)
        return layer(X, connectivity)

    for mask in CONNECTIVITY, ~CONNECTIVITY:
        np.testing.assert_allclose(
            call(tf.constant(mask)), layer(X, mask), rtol=1e-5, atol=1e-6
        )
    assert len(traces) == 1


def test_a_model_with_one_is_saved_and_loaded(tmp_path):
    inputs = keras.Input((3,))
    layer = MaskedDense(4, "relu", kernel_initializer="orthogonal")
    model = keras.Model(inputs, layer(inputs, CONNECTIVITY))
    model.save(tmp_path / "masked.keras")
    loaded = keras.models.load_model(tmp_path / "masked.keras")
    np.testing.assert_array_equal(loaded(X), model(X))
    assert loaded.layers[-1].get_config() == layer.get_config()
