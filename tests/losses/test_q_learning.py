"""Losses of action values against NumPy, and worked by hand."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tfzoo.losses import (
    CategoricalQLearningLoss,
    QLearningLoss,
    QuantileQLearningLoss,
    categorical_projection,
    pack_action_value_targets,
    q_learning_target,
    quantile_huber_loss,
    select_action,
)

RNG = np.random.default_rng(0)


def test_target_worked_by_hand():
    target = q_learning_target(
        tf.constant([1.0, 2.0]), tf.constant([0.9, 0.0]), tf.constant([10.0, 7.0])
    )
    np.testing.assert_allclose(target, [10.0, 2.0], rtol=1e-6)


def test_selecting_has_the_gradient_of_a_gather():
    values = tf.constant(RNG.normal(size=(5, 4, 3)), tf.float32)
    actions = tf.constant([0, 3, 1, 1, 2])
    with tf.GradientTape() as tape:
        tape.watch(values)
        selected = select_action(values, actions)
    np.testing.assert_array_equal(selected, tf.gather(values, actions, batch_dims=1))
    expected = np.eye(4, dtype=np.float32)[actions][:, :, None].repeat(3, axis=2)
    np.testing.assert_array_equal(tape.gradient(selected, values), expected)


@pytest.mark.parametrize("delta", [None, 0.5])
def test_only_the_action_taken_learns(delta):
    values = RNG.normal(size=(6, 3)).astype(np.float32)
    actions, targets = RNG.integers(0, 3, 6), RNG.normal(size=6).astype(np.float32)
    weights = RNG.uniform(size=6).astype(np.float32)
    y_pred = tf.constant(values)
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        loss = QLearningLoss(delta)(
            pack_action_value_targets(actions, targets), y_pred, weights
        )
    error = values[np.arange(6), actions] - targets
    limit = np.inf if delta is None else delta
    inner = np.minimum(np.abs(error), limit)
    each = 0.5 * inner**2
    if delta is not None:
        each += delta * (np.abs(error) - inner)
    # Weights of importance are the sample weights of Keras.
    np.testing.assert_allclose(loss, np.mean(weights * each), rtol=1e-5)
    expected = np.zeros((6, 3))
    expected[np.arange(6), actions] = weights * np.clip(error, -limit, limit) / 6
    np.testing.assert_allclose(tape.gradient(loss, y_pred), expected, atol=1e-6)


def projection_by_the_paper(atoms, probabilities, returns, discounts):
    """Algorithm 1 of arXiv:1707.06887, a loop over atoms."""
    low, high, num = atoms[0], atoms[-1], len(atoms)
    step = (high - low) / (num - 1)
    projected = np.zeros_like(probabilities)
    for b in range(len(probabilities)):
        for j in range(num):
            moved = np.clip(returns[b] + discounts[b] * atoms[j], low, high)
            position = (moved - low) / step
            lower, upper = int(np.floor(position)), int(np.ceil(position))
            mass = probabilities[b, j]
            if lower == upper:
                projected[b, lower] += mass
            else:
                projected[b, lower] += mass * (upper - position)
                projected[b, upper] += mass * (position - lower)
    return projected


def test_projection_is_that_of_the_paper():
    atoms = np.linspace(-2, 3, 11)
    probabilities = scipy.special.softmax(RNG.normal(size=(20, 11)), axis=1)
    returns = RNG.normal(0, 2, 20)
    discounts = np.where(RNG.random(20) < 0.3, 0.0, 0.9)
    arguments = [
        tf.constant(x, tf.float32) for x in (atoms, probabilities, returns, discounts)
    ]
    projected = categorical_projection(*arguments)
    np.testing.assert_allclose(
        projected,
        projection_by_the_paper(atoms, probabilities, returns, discounts),
        atol=1e-5,
    )


def test_projection_worked_by_hand():
    # r + g z = 0.25 for every atom: three quarters to atom 0, one to atom 1.
    projected = categorical_projection(
        tf.constant([-1.0, 0.0, 1.0]),
        tf.constant([[0.2, 0.5, 0.3]]),
        tf.constant([0.25]),
        tf.constant([0.0]),
    )
    np.testing.assert_allclose(projected, [[0.0, 0.75, 0.25]], rtol=1e-6)


def test_categorical_loss_is_the_cross_entropy():
    logits = RNG.normal(size=(6, 3, 5)).astype(np.float32)
    target = scipy.special.softmax(RNG.normal(size=(6, 5)), axis=1)
    actions = RNG.integers(0, 3, 6)
    loss = CategoricalQLearningLoss()(
        pack_action_value_targets(actions, target), tf.constant(logits)
    )
    log_prob = scipy.special.log_softmax(logits[np.arange(6), actions], axis=1)
    np.testing.assert_allclose(loss, -np.mean(np.sum(target * log_prob, 1)), rtol=1e-5)


@pytest.mark.parametrize("kappa", [0.0, 1.0, 0.3])
def test_quantile_loss_is_that_of_the_paper(kappa):
    quantiles = RNG.normal(size=(4, 5))
    targets = RNG.normal(size=(4, 7))
    expected = np.zeros(4)
    for b in range(4):
        for i in range(5):
            for j in range(7):
                u = targets[b, j] - quantiles[b, i]
                if kappa == 0:
                    huber = abs(u)
                elif abs(u) <= kappa:
                    huber = 0.5 * u**2 / kappa
                else:
                    huber = abs(u) - 0.5 * kappa
                expected[b] += abs((i + 0.5) / 5 - (u < 0)) * huber / 7
    loss = quantile_huber_loss(
        tf.constant(quantiles, tf.float32), tf.constant(targets, tf.float32), kappa
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_the_quantile_loss_is_least_at_the_quantiles():
    samples = tf.constant(RNG.exponential(size=(1, 4001)), tf.float32)
    quantiles = tf.Variable(tf.zeros([1, 4]))
    optimizer = keras.optimizers.SGD(0.5)

    @tf.function(autograph=False)
    def fit():
        def step(i):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(quantile_huber_loss(quantiles, samples, 0.0))
            optimizer.apply_gradients([(tape.gradient(loss, quantiles), quantiles)])
            return (i + 1,)

        tf.while_loop(lambda i: i < 400, step, (0,))

    fit()
    expected = np.quantile(samples, [0.125, 0.375, 0.625, 0.875])
    np.testing.assert_allclose(quantiles[0], expected, atol=0.02)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize(
    ("loss", "width"),
    [
        (QLearningLoss(0.7), None),
        (CategoricalQLearningLoss(), 5),
        (QuantileQLearningLoss(0.5), 5),
    ],
    ids=["plain", "categorical", "quantile"],
)
def test_each_is_a_loss_of_stock_keras(loss, width, jit_compile):
    loss = type(loss).from_config(loss.get_config())
    outputs = (3,) if width is None else (3, width)
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(int(np.prod(outputs)), kernel_initializer="zeros"),
            keras.layers.Reshape(outputs),
        ]
    )
    model.compile("sgd", loss, jit_compile=jit_compile)
    targets = RNG.uniform(size=(8, width or 1)).astype(np.float32)
    targets /= targets.sum(axis=1, keepdims=True)
    y = pack_action_value_targets(RNG.integers(0, 3, 8), targets)
    x = RNG.normal(size=(8, 2)).astype(np.float32)
    expected = float(loss(tf.constant(y), model(x)))
    history = model.fit(x, y, batch_size=8, verbose=0)
    np.testing.assert_allclose(history.history["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: QLearningLoss(0.0), "delta must be greater than 0 or None"),
        (lambda: QuantileQLearningLoss(-1.0), "kappa must be at least 0"),
        (
            lambda: QLearningLoss()(np.zeros((2, 3)), np.zeros((2, 4))),
            "y_true must have 2 columns",
        ),
        (
            lambda: QLearningLoss()(np.zeros((2, 2)), np.zeros((2, 4, 5))),
            r"y_pred must have shape \[B, A\]",
        ),
        (
            lambda: pack_action_value_targets(np.zeros((2, 2)), np.zeros(2)),
            r"actions must have shape \[B\] or \[B, 1\]",
        ),
        (
            lambda: pack_action_value_targets(np.zeros(2), np.zeros(3)),
            "targets must have the batch size of actions, 2, got 3",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
