"""The noisy layer against its formula."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo import random
from tfzoo.layers import NoisyDense


def test_it_is_the_formula_of_the_paper_in_training_and_a_dense_layer_else():
    layer = NoisyDense(4, "tanh", seed=3)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    layer.build(x.shape)
    w, b, s_w, s_b = (
        v.numpy()
        for v in (layer.kernel, layer.bias, layer.kernel_scale, layer.bias_scale)
    )
    np.testing.assert_allclose(s_w, 0.5 / np.sqrt(3), rtol=1e-6)
    plain = np.tanh(x @ w + b)
    # Without noise at first, and never but in training.
    np.testing.assert_allclose(layer(x, training=True), plain, rtol=1e-5)
    layer.resample(random.make_seed(1))
    np.testing.assert_allclose(layer(x), plain, rtol=1e-5)
    f_in, f_out = layer.input_noise.numpy(), layer.output_noise.numpy()
    kernel = w + s_w * np.outer(f_in, f_out)
    bias = b + s_b * f_out
    np.testing.assert_allclose(
        layer(x, training=True), np.tanh(x @ kernel + bias), rtol=1e-5, atol=1e-6
    )


def test_the_noise_is_a_signed_root_of_a_normal():
    layer = NoisyDense(20_000, seed=0)
    layer.build((None, 2))
    layer.resample(random.make_seed(7))
    noise = layer.output_noise.numpy()
    e = np.sign(noise) * noise**2
    np.testing.assert_allclose([e.mean(), e.std()], [0.0, 1.0], atol=0.03)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_a_graph_draws_the_noise_that_an_eager_call_does(jit_compile):
    layer = NoisyDense(4, seed=0)
    layer.build((None, 3))
    seed = random.make_seed(5)
    layer.resample(seed)
    eager = layer.input_noise.numpy(), layer.output_noise.numpy()
    layer.resample(random.make_seed(6))
    tf.function(layer.resample, autograph=False, jit_compile=jit_compile)(seed)
    np.testing.assert_allclose(layer.input_noise, eager[0], rtol=1e-6)
    np.testing.assert_allclose(layer.output_noise, eager[1], rtol=1e-6)


def test_scales_learn_and_noise_does_not(tmp_path):
    model = keras.Sequential([keras.Input((3,)), NoisyDense(1, seed=0)])
    layer = model.layers[0]
    layer.resample(random.make_seed(2))
    assert len(layer.trainable_variables) == 4
    assert len(layer.non_trainable_variables) == 2
    before = [v.numpy() for v in layer.trainable_variables]
    noise = layer.input_noise.numpy()
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 3)), np.full((4, 1), 9.0), verbose=0)
    for old, new in zip(before, layer.trainable_variables, strict=True):
        assert np.abs(old - new.numpy()).max() > 0
    np.testing.assert_array_equal(noise, layer.input_noise)
    model.save(tmp_path / "noisy.keras")
    loaded = keras.models.load_model(tmp_path / "noisy.keras")
    x = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(loaded(x, training=True), model(x, training=True))
