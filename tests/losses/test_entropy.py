"""The entropy bonus makes a policy more random, alone or inside a policy loss."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from tfzoo.losses import EntropyBonus, PolicyGradientLoss, pack_policy_targets

LOGITS = np.array([[1.0, 2.0, -1.0], [0.0, 0.0, 3.0]], np.float32)
ENTROPY = scipy.stats.entropy(scipy.special.softmax(LOGITS, axis=1), axis=1)


def test_value_is_minus_the_coefficient_times_the_entropy():
    loss = EntropyBonus("categorical", entropy_coefficient=0.5)
    np.testing.assert_allclose(
        loss(np.zeros(2), LOGITS), -0.5 * ENTROPY.mean(), rtol=1e-6
    )


@pytest.mark.slow
def test_minimising_it_leads_to_the_uniform_policy():
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(3, kernel_initializer="ones")]
    )
    model.layers[-1].bias.assign([2.0, 0.0, -1.0])
    model.compile(keras.optimizers.SGD(2.0), loss=EntropyBonus(entropy_coefficient=1.0))
    x = np.ones((8, 1), np.float32)
    model.fit(x, np.zeros(8), epochs=50, verbose=0)
    np.testing.assert_allclose(tf.nn.softmax(model(x)), 1 / 3, atol=0.01)


def test_a_policy_loss_adds_the_same_bonus():
    y_true = pack_policy_targets([0, 2], np.array([1.0, -1.0]))
    without = PolicyGradientLoss(reduction=None)(y_true, LOGITS)
    with_bonus = PolicyGradientLoss(entropy_coefficient=0.3, reduction=None)
    np.testing.assert_allclose(
        with_bonus(y_true, LOGITS), without - 0.3 * ENTROPY, rtol=1e-5
    )
