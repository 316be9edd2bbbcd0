import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.layers import SpectralConv2D, SpectralDense
from tfzoo.layers.spectral_normalization import spectral_norm

RNG = np.random.default_rng(0)


def test_spectral_norm_is_the_largest_singular_value_and_has_its_gradient():
    kernel = tf.Variable(RNG.normal(size=(3, 3, 2, 5)), dtype=tf.float32)
    u = tf.constant(RNG.normal(size=5), tf.float32)
    for _ in range(200):
        _, u = spectral_norm(kernel, u)
    left, singular, right = np.linalg.svd(kernel.numpy().reshape(-1, 5), False)
    with tf.GradientTape() as tape:
        sigma, _ = spectral_norm(kernel, u)
    assert float(sigma) == pytest.approx(singular[0], rel=1e-5)
    # The derivative of a singular value is the product of its vectors.
    expected = np.outer(left[:, 0], right[0]).reshape(kernel.shape)
    np.testing.assert_allclose(tape.gradient(sigma, kernel), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("layer", "plain", "shape"),
    [
        (SpectralConv2D(6, 3), keras.layers.Conv2D(6, 3), (4, 4, 2)),
        (SpectralDense(5), keras.layers.Dense(5), (7,)),
    ],
)
def test_spectral_layers_have_a_norm_of_one(layer, plain, shape):
    for one in layer, plain:
        one.build((None, *shape))
    layer.bias.assign(RNG.normal(size=layer.bias.shape))
    x = RNG.normal(size=(2, *shape)).astype(np.float32)
    u, kernel = layer.u.numpy(), layer.kernel.numpy()
    layer(x)
    np.testing.assert_array_equal(layer.u, u)
    for _ in range(200):
        outputs = layer(x, training=True)
    assert np.abs(layer.u - u).max() > 0.01
    np.testing.assert_array_equal(layer.kernel, kernel)
    norm = np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2)
    plain.set_weights([kernel / norm, layer.bias.numpy()])
    np.testing.assert_allclose(outputs, plain(x), rtol=1e-4, atol=1e-5)
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()
