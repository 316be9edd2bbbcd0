"""PPO's losses against NumPy, gradients by hand and the paper's section 4."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from tfzoo.losses import (
    AdaptiveKLCoefficient,
    CategoricalPolicy,
    PPOClipLoss,
    PPOKLPenaltyLoss,
    adapted_kl_coefficient,
    pack_policy_targets,
    ppo_clip_loss,
    probability_ratio,
)

# Every case of the clipped objective: A > 0 and A < 0, each with the ratio below,
# inside and above [0.8, 1.2].
RATIOS = np.array([0.5, 1.1, 1.5, 0.5, 0.9, 1.5], np.float32)
ADVANTAGES = np.array([2.0, 2.0, 2.0, -3.0, -3.0, -3.0], np.float32)
EXPECTED = [-0.5 * 2, -1.1 * 2, -1.2 * 2, 0.8 * 3, 0.9 * 3, 1.5 * 3]
CLIPPED = np.array([False, False, True, True, False, False])

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 3)).astype(np.float32)
OLD_LOGITS = RNG.normal(size=(6, 3)).astype(np.float32)
ACTIONS = RNG.integers(0, 3, 6)
PROBS = scipy.special.softmax(LOGITS, axis=1)
ONE_HOT = np.eye(3, dtype=np.float32)[ACTIONS]
LOG_PROBS = np.log(np.sum(PROBS * ONE_HOT, axis=1))


def test_clipped_objective_worked_by_hand():
    old_log_prob = np.full(6, -1.0, np.float32)
    log_prob = tf.constant(old_log_prob + np.log(RATIOS))
    with tf.GradientTape() as tape:
        tape.watch(log_prob)
        loss = ppo_clip_loss(log_prob, old_log_prob, ADVANTAGES, clip_ratio=0.2)
    np.testing.assert_allclose(loss, EXPECTED, rtol=1e-6)
    # dL/dlog pi = -r A, and exactly zero where clipping has taken over.
    gradient = tape.gradient(loss, log_prob).numpy()
    np.testing.assert_array_equal(gradient == 0.0, CLIPPED)
    np.testing.assert_allclose(
        gradient, np.where(CLIPPED, 0.0, -RATIOS * ADVANTAGES), rtol=1e-6
    )


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_clip_loss_on_logits(jit_compile):
    y_true = pack_policy_targets(ACTIONS, ADVANTAGES, LOG_PROBS - np.log(RATIOS))
    loss = PPOClipLoss("categorical", clip_ratio=0.2)

    @tf.function(autograph=False, jit_compile=jit_compile)
    def value_and_gradient(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(y_true, logits)
        return value, tape.gradient(value, logits)

    value, gradient = value_and_gradient(tf.constant(LOGITS))
    np.testing.assert_allclose(value, np.mean(EXPECTED), rtol=1e-5)
    scale = np.where(CLIPPED, 0.0, -RATIOS * ADVANTAGES)[:, None] / 6
    np.testing.assert_allclose(gradient, scale * (ONE_HOT - PROBS), atol=1e-5)
    np.testing.assert_array_equal(gradient.numpy()[CLIPPED], 0.0)


def test_at_the_old_policy_every_objective_has_the_policy_gradient():
    """Where pi = pi_old, r = 1 and the KL has no slope: dL/dlog pi = -A."""
    targets = ACTIONS, ADVANTAGES, LOG_PROBS
    for loss, y_true in (
        (PPOClipLoss(), pack_policy_targets(*targets)),
        (PPOKLPenaltyLoss(), pack_policy_targets(*targets, LOGITS)),
    ):
        logits = tf.constant(LOGITS)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(y_true, logits)
        np.testing.assert_allclose(
            tape.gradient(value, logits),
            ADVANTAGES[:, None] * (PROBS - ONE_HOT) / 6,
            atol=1e-6,
        )


def test_kl_penalty_loss_and_its_gradient():
    old_probs = scipy.special.softmax(OLD_LOGITS, axis=1)
    old_log_probs = np.log(np.sum(old_probs * ONE_HOT, axis=1))
    ratio = np.exp(LOG_PROBS - old_log_probs)
    kl = scipy.stats.entropy(old_probs, PROBS, axis=1)
    y_true = pack_policy_targets(ACTIONS, ADVANTAGES, old_log_probs, OLD_LOGITS)
    loss = PPOKLPenaltyLoss("categorical", kl_coefficient=2.0, reduction=None)
    logits = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(y_true, logits)
    np.testing.assert_allclose(value, -ratio * ADVANTAGES + 2.0 * kl, rtol=1e-4)
    np.testing.assert_allclose(loss.kl_divergence(y_true, logits), kl, rtol=1e-4)
    # d KL(old || new) / d logits = pi - pi_old
    by_hand = -(ratio * ADVANTAGES)[:, None] * (ONE_HOT - PROBS)
    by_hand += 2.0 * (PROBS - old_probs)
    np.testing.assert_allclose(tape.gradient(value, logits), by_hand, atol=1e-5)


def test_a_runaway_ratio_stays_finite():
    log_prob = tf.constant([-1.0, -1.0, -300.0])
    old_log_prob = tf.constant([-300.0, -300.0, -1.0])
    assert np.all(np.isfinite(probability_ratio(log_prob, old_log_prob)))
    for advantage in (0.0, -1.0, 1.0):
        with tf.GradientTape() as tape:
            tape.watch(log_prob)
            loss = ppo_clip_loss(log_prob, old_log_prob, advantage)
        assert np.all(np.isfinite(loss))
        assert np.all(np.isfinite(tape.gradient(loss, log_prob)))


@pytest.mark.parametrize(
    ("kl", "factor"),
    [
        (0.0, 0.5),
        (0.01 / 1.51, 0.5),
        (0.01 / 1.49, 1.0),
        (0.01, 1.0),
        (0.01 * 1.49, 1.0),
        (0.01 * 1.51, 2.0),
        (9.0, 2.0),
        (np.nan, 1.0),
    ],
)
def test_the_rule_of_section_4(kl, factor):
    assert adapted_kl_coefficient(3.0, kl, 0.01) == 3.0 * factor


def test_the_coefficient_adapts_inside_a_compiled_loop_and_stays_in_its_range():
    loss = PPOKLPenaltyLoss(kl_coefficient=1.0, kl_target=0.01)

    @tf.function(autograph=False, jit_compile=True)
    def adapt(times, kl):
        def body(i):
            loss.adapt(kl)
            return (i + 1,)

        tf.while_loop(lambda i: i < times, body, (0,))

    adapt(3, 1.0)
    assert loss.kl_coefficient.value == 8.0
    adapt(4, 1e-4)
    assert loss.kl_coefficient.value == 0.5
    adapt(200, 1.0)
    assert loss.kl_coefficient.value == 1e6
    adapt(200, 0.0)
    np.testing.assert_allclose(loss.kl_coefficient.value, 1e-6)


def test_the_coefficient_of_an_attribute_is_in_the_checkpoint(tmp_path):
    class Agent(keras.Model):
        def __init__(self):
            super().__init__()
            self.policy_loss = PPOKLPenaltyLoss(kl_coefficient=1.0)
            self.kl_coefficient = self.policy_loss.kl_coefficient

    agent = Agent()
    agent.policy_loss.adapt(1.0)
    path = tf.train.Checkpoint(agent=agent).save(tmp_path / "checkpoint")
    again = Agent()
    tf.train.Checkpoint(agent=again).restore(path).assert_consumed()
    assert again.policy_loss.kl_coefficient.value == 2.0
    assert not agent.trainable_variables


def test_the_callback_adapts_to_the_divergence_that_fit_has_made():
    observations = np.ones((6, 2), np.float32)
    for learning_rate, factor in ((1.0, 2.0), (1e-6, 0.5)):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        old_logits = model(observations).numpy()
        old_log_probs = CategoricalPolicy(3).log_prob(old_logits, ACTIONS)
        y_true = pack_policy_targets(
            ACTIONS, ADVANTAGES, old_log_probs.numpy(), old_logits
        )
        loss = PPOKLPenaltyLoss(kl_coefficient=1.0, kl_target=0.01)
        model.compile(
            keras.optimizers.SGD(learning_rate),
            loss=loss,
            metrics=[loss.kl_divergence],
        )
        history = model.fit(
            observations,
            y_true,
            epochs=2,
            verbose=0,
            callbacks=[AdaptiveKLCoefficient(loss, observations, y_true)],
        )
        assert loss.kl_coefficient.value == factor
        # The metric is of the epoch's start, where nothing has moved yet.
        np.testing.assert_allclose(history.history["kl_divergence"][0], 0.0, atol=1e-6)


def test_the_configuration_keeps_the_coefficient_as_it_stands():
    loss = PPOKLPenaltyLoss(kl_coefficient=1.0, kl_target=0.02)
    loss.adapt(1.0)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.kl_coefficient.value == 2.0
    assert again.kl_target == 0.02


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PPOClipLoss(clip_ratio=0.0), "clip_ratio .* greater than 0, got 0.0"),
        (lambda: PPOKLPenaltyLoss(kl_target=-1.0), "kl_target .* than 0, got -1.0"),
        (
            lambda: PPOKLPenaltyLoss(kl_coefficient=0.0),
            r"kl_coefficient must be between 1e-06 and 1e\+06, got 0.0",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_clip_ratio_may_move():
    epsilon = tf.Variable(0.3)
    moving = PPOClipLoss("categorical", clip_ratio=lambda: epsilon)
    fixed = PPOClipLoss("categorical", clip_ratio=0.1)
    rng = np.random.default_rng(0)
    outputs = tf.constant(rng.normal(size=(9, 3)), tf.float32)
    targets = pack_policy_targets(
        tf.constant(rng.integers(0, 3, 9), tf.int32),
        tf.constant(rng.normal(size=9), tf.float32),
        tf.constant(-rng.uniform(0.5, 2, 9), tf.float32),
    )
    assert abs(float(moving(targets, outputs)) - float(fixed(targets, outputs))) > 1e-3
    epsilon.assign(0.1)
    np.testing.assert_allclose(moving(targets, outputs), fixed(targets, outputs))
    again = PPOClipLoss.from_config(moving.get_config())
    np.testing.assert_allclose(again(targets, outputs), fixed(targets, outputs))
    epsilon.assign(0.0)
    again = PPOClipLoss.from_config(moving.get_config())
    assert float(again(targets, outputs)) == float(moving(targets, outputs))
