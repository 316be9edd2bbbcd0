"""Value losses against NumPy and gradients by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.losses import (
    ClippedValueLoss,
    HuberValueLoss,
    ValueLoss,
    clipped_value_loss,
    huber_value_loss,
    squared_value_loss,
)

RNG = np.random.default_rng(0)
VALUES, TARGETS, OLD_VALUES = RNG.normal(size=(3, 200)).astype(np.float32)
ERRORS = VALUES - TARGETS


def value_and_gradient(function):
    values = tf.constant(VALUES)
    with tf.GradientTape() as tape:
        tape.watch(values)
        loss = function(values)
    return loss.numpy(), tape.gradient(loss, values).numpy()


def test_squared():
    loss, gradient = value_and_gradient(lambda v: squared_value_loss(v, TARGETS))
    np.testing.assert_allclose(loss, 0.5 * ERRORS**2, rtol=1e-5)
    np.testing.assert_allclose(gradient, ERRORS, rtol=1e-5)


def test_huber():
    loss, gradient = value_and_gradient(lambda v: huber_value_loss(v, TARGETS, 0.5))
    linear = np.abs(ERRORS) > 0.5
    assert 0 < linear.sum() < len(linear)
    expected = np.where(linear, 0.5 * (np.abs(ERRORS) - 0.25), 0.5 * ERRORS**2)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradient, np.clip(ERRORS, -0.5, 0.5), rtol=1e-5)


def test_clipped():
    loss, gradient = value_and_gradient(
        lambda v: clipped_value_loss(v, TARGETS, OLD_VALUES, 0.3)
    )
    clipped = np.clip(VALUES, OLD_VALUES - 0.3, OLD_VALUES + 0.3)
    squared, clipped_squared = 0.5 * ERRORS**2, 0.5 * (clipped - TARGETS) ** 2
    np.testing.assert_allclose(
        loss, np.maximum(squared, clipped_squared), rtol=1e-4, atol=1e-6
    )
    # Nothing is gained from a value that has left the interval on its way to R.
    stopped = (np.abs(VALUES - OLD_VALUES) > 0.3) & (clipped_squared > squared)
    assert 0 < stopped.sum() < len(stopped)
    np.testing.assert_array_equal(gradient[stopped], 0.0)
    np.testing.assert_allclose(gradient[~stopped], ERRORS[~stopped], rtol=1e-5)


LOSSES = {
    "squared": (
        ValueLoss(),
        TARGETS[:, None],
        squared_value_loss(tf.constant(VALUES), TARGETS),
    ),
    "huber": (
        HuberValueLoss(0.5),
        TARGETS[:, None],
        huber_value_loss(tf.constant(VALUES), TARGETS, 0.5),
    ),
    "clipped": (
        ClippedValueLoss(0.3),
        np.stack([TARGETS, OLD_VALUES], 1),
        clipped_value_loss(tf.constant(VALUES), TARGETS, OLD_VALUES, 0.3),
    ),
}
each_loss = pytest.mark.parametrize(
    ("loss", "y_true", "expected"), LOSSES.values(), ids=LOSSES
)


@each_loss
def test_loss_is_the_mean_of_its_function_in_every_mode(loss, y_true, expected):
    for jit_compile in (False, True):
        function = tf.function(loss, autograph=False, jit_compile=jit_compile)
        for y_pred in (VALUES, VALUES[:, None]):
            np.testing.assert_allclose(
                function(y_true, tf.constant(y_pred)), np.mean(expected), rtol=1e-5
            )


@each_loss
def test_sample_weight_weighs_samples(loss, y_true, expected):
    weight = RNG.uniform(size=200).astype(np.float32)
    np.testing.assert_allclose(
        loss(y_true, VALUES[:, None], sample_weight=weight),
        np.mean(weight * expected),
        rtol=1e-5,
    )


@each_loss
def test_config_round_trip(loss, y_true, expected):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    assert again(y_true, VALUES) == loss(y_true, VALUES)


@pytest.mark.parametrize("shape", [(200,), (200, 1)], ids=["vector", "column"])
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_fit_finds_the_mean_of_the_targets(shape, jit_compile):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.5), loss=ValueLoss(), jit_compile=jit_compile)
    x = np.ones((200, 1), np.float32)
    model.fit(x, TARGETS.reshape(shape), batch_size=200, epochs=30, verbose=0)
    np.testing.assert_allclose(model(x[:1])[0, 0], TARGETS.mean(), atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HuberValueLoss(0.0), "delta must be greater than 0, got 0.0"),
        (lambda: ClippedValueLoss(-1.0), "value_clip must be .* than 0, got -1.0"),
        (
            lambda: ValueLoss()(np.zeros([5, 2]), np.zeros([5, 1])),
            r"y_true must have 1 column \(value target\), got shape \[5, 2\]",
        ),
        (
            lambda: ValueLoss()(np.zeros([5, 1]), np.zeros([5, 2])),
            r"y_pred must have 1 column \(value\), got shape \[5, 2\]",
        ),
        (
            lambda: ClippedValueLoss()(np.zeros([5, 1]), np.zeros([5, 1])),
            r"y_true must have 2 columns \(value target, old value\), got .*\[5, 1\]",
        ),
        (
            lambda: squared_value_loss(tf.zeros([5, 1]), tf.zeros([5])),
            r"must have one shape, got .*'values': \[5, 1\], 'value_targets': \[5\]",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
