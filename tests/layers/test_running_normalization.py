"""Running statistics equal those of all data at once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.layers import RunningNormalization


def batches(seed=0):
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=(n, 4, 3)) * [1, 5, 0.1] + [0, 3, -20]).astype("float32")
        for n in (1, 7, 50, 200)
    ]


@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_statistics_equal_those_of_all_data(jit_compile):
    layer = RunningNormalization(clip=None)
    layer.build((None, 3))
    update = layer.update
    if jit_compile is not None:
        update = tf.function(update, jit_compile=jit_compile, reduce_retracing=True)
    for batch in batches():
        update(tf.constant(batch))
    data = np.concatenate([b.reshape(-1, 3) for b in batches()]).astype("float64")
    np.testing.assert_allclose(layer.mean, data.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer.variance, data.var(0), rtol=1e-4)
    assert float(layer.count) == len(data)
    normalised = layer(tf.constant(data, tf.float32)).numpy()
    np.testing.assert_allclose(normalised.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(normalised.std(0), 1, rtol=1e-4)


def test_before_any_data_it_is_the_identity():
    layer = RunningNormalization()
    layer.build((None, 2))
    np.testing.assert_allclose(layer(tf.constant([[1.5, -3.0]])), [[1.5, -3.0]])


def test_clips_and_may_leave_the_mean():
    layer = RunningNormalization(center=False, clip=2.0)
    layer.build((None,))
    layer.update(tf.constant([9.0, 11.0]))
    np.testing.assert_allclose(layer(tf.constant([1.0, 10.0])), [1.0, 2.0], rtol=1e-5)


def test_count_grows_past_the_integers_of_float32():
    layer = RunningNormalization()
    layer.build((None, 1))
    layer.count.assign(2.0**24)
    layer.update(tf.ones([1, 1]))
    assert float(layer.count) == 2**24 + 1


def test_config_round_trip():
    layer = RunningNormalization(center=False, clip=3.0, epsilon=1e-3, name="norm")
    config = keras.layers.serialize(layer)
    again = keras.layers.deserialize(config)
    assert again.get_config() == layer.get_config()
