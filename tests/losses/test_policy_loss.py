"""What every policy loss must do, in stock Keras: one line a loss in the table."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.losses import (
    BernoulliPolicy,
    CategoricalPolicy,
    DiagonalGaussianPolicy,
    EntropyBonus,
    MultiCategoricalPolicy,
    PolicyGradientLoss,
    PPOClipLoss,
    PPOKLPenaltyLoss,
    pack_policy_targets,
    policy_distribution,
)

# name: (loss, width of the network's output)
LOSSES = {
    "policy gradient, categorical": (PolicyGradientLoss("categorical"), 3),
    "policy gradient, gaussian": (
        PolicyGradientLoss(DiagonalGaussianPolicy(2), entropy_coefficient=1e-3),
        4,
    ),
    "policy gradient, bernoulli": (PolicyGradientLoss("bernoulli"), 3),
    "ppo clip, categorical": (
        PPOClipLoss(CategoricalPolicy(3), entropy_coefficient=1e-3),
        3,
    ),
    "ppo clip, gaussian": (PPOClipLoss("diagonal_gaussian", clip_ratio=0.3), 4),
    "ppo clip, multi-categorical": (PPOClipLoss(MultiCategoricalPolicy([3, 2])), 5),
    "ppo kl penalty, categorical": (PPOKLPenaltyLoss("categorical"), 3),
    "ppo kl penalty, gaussian": (
        PPOKLPenaltyLoss("diagonal_gaussian", kl_coefficient=0.5, kl_target=0.02),
        4,
    ),
}
each_loss = pytest.mark.parametrize(("loss", "width"), LOSSES.values(), ids=LOSSES)
BATCH = 64


def targets(loss, old_outputs, seed=0):
    """Drawn actions, advantages that favour large actions, and the packed targets."""
    rng = np.random.default_rng(seed)
    policy = policy_distribution(loss.distribution, old_outputs.shape[1])
    noise = rng.uniform(size=policy.noise_shape([len(old_outputs)]))
    actions = policy.sample(old_outputs, noise).numpy()
    sums = actions.reshape(len(actions), -1).sum(1)
    advantages = (sums - sums.mean()) / sums.std()
    log_probs = policy.log_prob(old_outputs, actions).numpy()
    packed = pack_policy_targets(
        actions,
        advantages,
        log_probs if loss.with_old_log_prob else None,
        old_outputs if loss.with_old_outputs else None,
    )
    return policy, actions, advantages, packed


def random_outputs(width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(BATCH, width)).astype(np.float32)


@each_loss
def test_eager_graph_and_xla_agree(loss, width):
    y_true = tf.constant(targets(loss, random_outputs(width))[-1])

    def value_and_gradient(y_pred):
        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            value = loss(y_true, y_pred)
        return value, tape.gradient(value, y_pred)

    # Near the old outputs, where a PPO step happens.
    y_pred = tf.constant(random_outputs(width) + 0.1 * random_outputs(width, seed=1))
    eager = value_and_gradient(y_pred)
    for jit_compile in (False, True):
        function = tf.function(
            value_and_gradient, autograph=False, jit_compile=jit_compile
        )
        for x, y in zip(eager, function(y_pred), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@each_loss
def test_fit_makes_advantageous_actions_more_probable(loss, width, jit_compile):
    keras.utils.set_random_seed(0)
    loss = type(loss).from_config(loss.get_config())
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(width)])
    observations = np.ones((BATCH, 2), np.float32)
    before = model(observations).numpy()
    policy, actions, advantages, packed = targets(loss, before)
    model.compile(keras.optimizers.Adam(0.02), loss=loss, jit_compile=jit_compile)
    history = model.fit(observations, packed, epochs=10, verbose=0).history["loss"]
    assert history[-1] < history[0]
    change = policy.log_prob(model(observations), actions) - policy.log_prob(
        before, actions
    )
    assert np.mean(advantages * change) > 0.02


@each_loss
def test_sample_weight_weighs_samples(loss, width):
    y_pred = random_outputs(width)
    y_true = targets(loss, y_pred)[-1]
    weight = np.random.default_rng(2).uniform(size=BATCH).astype(np.float32)
    np.testing.assert_allclose(
        loss(y_true, y_pred, sample_weight=weight),
        np.mean(weight * loss.call(tf.constant(y_true), tf.constant(y_pred))),
        rtol=1e-5,
        atol=1e-6,
    )


@each_loss
def test_config_round_trip(loss, width):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    y_pred = random_outputs(width)
    y_true = targets(loss, y_pred)[-1]
    assert again(y_true, y_pred) == loss(y_true, y_pred)


@each_loss
def test_a_saved_model_knows_its_loss(loss, width, tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(width)])
    model.compile("sgd", loss=loss)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.loss.get_config() == loss.get_config()


def test_sequences_have_a_loss_for_each_step():
    loss = PPOClipLoss(reduction=None)
    y_pred = random_outputs(3)
    y_true = targets(loss, y_pred)[-1]
    flat = loss(y_true, y_pred)
    steps = loss(y_true.reshape(8, 8, -1), y_pred.reshape(8, 8, -1))
    np.testing.assert_allclose(steps, np.reshape(flat, [8, 8]), rtol=1e-6)


def test_one_hot_and_index_actions_give_the_same_loss():
    y_pred = random_outputs(3)
    for loss in (PolicyGradientLoss(), PPOClipLoss(), PPOKLPenaltyLoss()):
        _, actions, _, y_true = targets(loss, y_pred)
        one_hot = np.concatenate([np.eye(3)[actions], y_true[:, 1:]], axis=1)
        assert loss(one_hot, y_pred) == loss(y_true, y_pred)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: PolicyGradientLoss()(np.zeros([5, 3]), np.zeros([5, 3])),
            r"PolicyGradientLoss with CategoricalPolicy\(num_actions=3\) needs y_true "
            r"with 2 or 4 columns \(actions \| advantage\), got 3",
        ),
        (
            lambda: PPOClipLoss("diagonal_gaussian")(
                np.zeros([5, 3]), np.zeros([5, 4])
            ),
            r"PPOClipLoss with DiagonalGaussianPolicy\(num_dimensions=2\) needs y_true "
            r"with 4 columns \(actions \| advantage \| old_log_prob\), got 3",
        ),
        (
            lambda: PPOKLPenaltyLoss(BernoulliPolicy(2))(
                np.zeros([5, 4]), np.zeros([5, 2])
            ),
            r"needs y_true with 6 columns \(actions \| advantage \| old_log_prob \| "
            r"old_outputs\), got 4; make it with pack_policy_targets",
        ),
        (
            lambda: PPOClipLoss(CategoricalPolicy(3))(
                np.zeros([5, 3]), np.zeros([5, 4])
            ),
            "needs 3 network outputs, got 4",
        ),
        (
            lambda: EntropyBonus(entropy_coefficient=-1.0),
            "entropy_coefficient must be at least 0, got -1.0",
        ),
        (
            lambda: PolicyGradientLoss("normal")(np.zeros([5, 3]), np.zeros([5, 4])),
            "distribution must be .* got 'normal'",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
