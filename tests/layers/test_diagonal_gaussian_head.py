"""The Gaussian head appends a log standard deviation that ignores its input."""

import keras
import numpy as np
import tensorflow as tf

from tfzoo.layers import DiagonalGaussianHead


def test_output_is_the_mean_and_one_log_stddev_for_all():
    head = DiagonalGaussianHead(3, initial_log_stddev=-0.5)
    features = tf.random.stateless_normal([5, 4], [0, 1])
    outputs = head(features).numpy()
    np.testing.assert_allclose(outputs[:, :3], head.mean(features), rtol=1e-6)
    np.testing.assert_allclose(outputs[:, 3:], -0.5)
    assert head.compute_output_shape((5, 4)) == outputs.shape


def test_log_stddev_has_a_gradient():
    head = DiagonalGaussianHead(2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(head(tf.ones([4, 3]))[:, 2:])
    gradient = tape.gradient(loss, head.log_stddev.value)
    np.testing.assert_allclose(gradient, [4.0, 4.0])


def test_config_round_trip():
    head = DiagonalGaussianHead(
        2, initial_log_stddev=0.3, kernel_initializer=keras.initializers.Orthogonal(0.1)
    )
    again = keras.layers.deserialize(keras.layers.serialize(head))
    assert again.get_config() == head.get_config()
