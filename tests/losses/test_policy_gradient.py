"""The policy gradient loss against its formula and its gradient by hand."""

import numpy as np
import scipy.special
import scipy.stats
import tensorflow as tf

from tfzoo.losses import (
    PolicyGradientLoss,
    pack_policy_targets,
    policy_gradient_loss,
)

RNG = np.random.default_rng(0)
ADVANTAGES = RNG.normal(size=6).astype(np.float32)


def loss_and_gradient(loss, y_true, y_pred):
    y_pred = tf.constant(y_pred)
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        value = loss(y_true, y_pred)
    return value.numpy(), tape.gradient(value, y_pred).numpy()


def test_categorical_is_weighted_cross_entropy():
    logits = RNG.normal(size=(6, 3)).astype(np.float32)
    actions = RNG.integers(0, 3, 6)
    probs, one_hot = scipy.special.softmax(logits, axis=1), np.eye(3)[actions]
    expected = np.mean(-ADVANTAGES * np.sum(one_hot * np.log(probs), axis=1))
    for packed_actions in (actions, one_hot):
        value, gradient = loss_and_gradient(
            PolicyGradientLoss("categorical"),
            pack_policy_targets(packed_actions, ADVANTAGES),
            logits,
        )
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        # d/dlogits of -A log pi(a) = A (pi - onehot(a))
        np.testing.assert_allclose(
            gradient, ADVANTAGES[:, None] * (probs - one_hot) / 6, atol=1e-6
        )


def test_diagonal_gaussian():
    outputs = RNG.normal(size=(6, 4)).astype(np.float32)
    actions = RNG.normal(size=(6, 2)).astype(np.float32)
    mean, stddev = outputs[:, :2], np.exp(outputs[:, 2:])
    value, gradient = loss_and_gradient(
        PolicyGradientLoss("diagonal_gaussian"),
        pack_policy_targets(actions, ADVANTAGES),
        outputs,
    )
    log_prob = scipy.stats.norm(mean, stddev).logpdf(actions).sum(1)
    np.testing.assert_allclose(value, np.mean(-ADVANTAGES * log_prob), rtol=1e-4)
    # d/dmean = -A z / s, d/dlog s = -A (z^2 - 1)
    z = (actions - mean) / stddev
    by_hand = -ADVANTAGES[:, None] * np.concatenate([z / stddev, z**2 - 1], 1) / 6
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-4, atol=1e-5)


def test_no_gradient_flows_into_the_advantage():
    advantage = tf.constant(ADVANTAGES)
    with tf.GradientTape() as tape:
        tape.watch(advantage)
        loss = policy_gradient_loss(2.0 * advantage, advantage)
    np.testing.assert_allclose(tape.gradient(loss, advantage), -2.0 * ADVANTAGES)


def test_the_expected_gradient_does_not_change_with_a_baseline():
    """E[grad log pi] = 0, so a constant taken off the advantage changes no mean."""
    logits = np.tile(np.array([[0.5, -1.0, 0.2]], np.float32), [3, 1])
    returns = np.array([3.0, 1.0, 2.0], np.float32)
    probs = scipy.special.softmax(logits[0])
    gradients = []
    for baseline in (0.0, 100.0):
        # Each action once, weighted by its probability: the exact expectation.
        with tf.GradientTape() as tape:
            variable = tf.Variable(logits[0])
            loss = PolicyGradientLoss("categorical", reduction="sum")(
                pack_policy_targets([0, 1, 2], returns - np.float32(baseline)),
                tf.tile(variable[None], [3, 1]),
                sample_weight=probs,
            )
        gradients.append(tape.gradient(loss, variable))
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-5)
    # And it is minus the gradient of the expected return, pi (R - E[R]).
    np.testing.assert_allclose(
        gradients[0], -probs * (returns - probs @ returns), atol=1e-5
    )
