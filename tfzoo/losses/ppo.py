"""The two objectives of proximal policy optimization as losses.

Schulman et al. 2017, arXiv:1707.06347. With the ratio r = pi(a|s) / pi_old(a|s),

    clipped (eq. 7):     L = -min(r A, clip(r, 1 - epsilon, 1 + epsilon) A)
    KL penalty (eq. 8):  L = -r A + beta KL(pi_old || pi)

where beta follows the measured divergence (section 4). Beyond the paper, log r is held
below 20, so that a policy that has run away gives large but finite numbers, and beta
stays between 1e-6 and 1e6, so that it can always come back.
"""

import sys

import keras
import tensorflow as tf

from tfzoo.losses.policy_loss import PolicyLoss

MAX_LOG_RATIO = 20.0
MIN_KL_COEFFICIENT, MAX_KL_COEFFICIENT = 1e-6, 1e6


def probability_ratio(log_prob, old_log_prob):
    """Returns r = pi(a|s) / pi_old(a|s), at most e^20, from log-probabilities [B]."""
    return tf.exp(tf.minimum(log_prob - old_log_prob, MAX_LOG_RATIO))


def ppo_clip_loss(log_prob, old_log_prob, advantage, clip_ratio=0.2):
    """Returns -min(r A, clip(r, 1 - epsilon, 1 + epsilon) A), [B].

    Args:
      log_prob: log pi(a|s), [B].
      old_log_prob: log pi_old(a|s), [B].
      advantage: A, [B].
      clip_ratio: epsilon, greater than 0.
    """
    ratio = probability_ratio(log_prob, old_log_prob)
    clipped_ratio = tf.clip_by_value(ratio, 1.0 - clip_ratio, 1.0 + clip_ratio)
    return -tf.minimum(ratio * advantage, clipped_ratio * advantage)


def ppo_kl_penalty_loss(log_prob, old_log_prob, advantage, kl, kl_coefficient):
    """Returns -r A + beta KL(pi_old || pi), [B].

    Args:
      log_prob: log pi(a|s), [B].
      old_log_prob: log pi_old(a|s), [B].
      advantage: A, [B].
      kl: KL(pi_old || pi) in nats, [B].
      kl_coefficient: beta, a scalar.
    """
    ratio = probability_ratio(log_prob, old_log_prob)
    return -ratio * advantage + kl_coefficient * kl


def adapted_kl_coefficient(kl_coefficient, kl, kl_target):
    """Returns the next beta: halved if KL < target / 1.5, doubled if KL > 1.5 target.

    Args:
      kl_coefficient: beta, a float32 scalar.
      kl: the mean KL(pi_old || pi) after an update, in nats.
      kl_target: the divergence that an update is to make, in nats.
    """
    factor = tf.where(
        kl < kl_target / 1.5, 0.5, tf.where(kl > kl_target * 1.5, 2.0, 1.0)
    )
    return tf.clip_by_value(
        factor * kl_coefficient, MIN_KL_COEFFICIENT, MAX_KL_COEFFICIENT
    )


@keras.saving.register_keras_serializable(package="tfzoo")
class PPOClipLoss(PolicyLoss):
    """PPO's clipped objective.

    The loss is -min(r A, clip(r, 1 - epsilon, 1 + epsilon) A) - c H(pi).

    `y_true` is `pack_policy_targets(actions, advantages, old_log_probs)`, `y_pred` the
    outputs of the policy network.

    Args:
      distribution: a `PolicyDistribution`, or "categorical", "diagonal_gaussian" or
        "bernoulli"; a name takes its size from the width of `y_pred`.
      clip_ratio: epsilon, greater than 0, or a function without arguments to it, which
        is called with every batch.
      entropy_coefficient: c, at least 0.
      **kwargs: see `keras.losses.Loss`.

    Raises:
      ValueError: if an argument is out of its range.
    """

    with_old_log_prob = True

    def __init__(
        self,
        distribution="categorical",
        *,
        clip_ratio=0.2,
        entropy_coefficient=0.0,
        **kwargs,
    ):
        super().__init__(
            distribution, entropy_coefficient=entropy_coefficient, **kwargs
        )
        if not callable(clip_ratio):
            if not clip_ratio > 0:
                raise ValueError(f"clip_ratio must be greater than 0, got {clip_ratio}")
            clip_ratio = float(clip_ratio)
        self.clip_ratio = clip_ratio

    def present_clip_ratio(self):
        """Returns epsilon as it is now."""
        return self.clip_ratio() if callable(self.clip_ratio) else self.clip_ratio

    def objective(self, policy, targets, outputs):
        """Returns -min(r A, clip(r, 1 - epsilon, 1 + epsilon) A), [B]."""
        return ppo_clip_loss(
            policy.log_prob(outputs, targets.actions),
            targets.old_log_prob,
            targets.advantage,
            self.present_clip_ratio(),
        )

    def get_config(self):
        """Returns the constructor's arguments, epsilon as it is now.

        That of a schedule that has come to 0 is the least normal float above it, with
        which losses are the same.
        """
        clip_ratio = max(float(self.present_clip_ratio()), sys.float_info.min)
        return {**super().get_config(), "clip_ratio": clip_ratio}


@keras.saving.register_keras_serializable(package="tfzoo")
class PPOKLPenaltyLoss(PolicyLoss):
    """PPO's penalised objective.

    The loss is -r A + beta KL(pi_old || pi) - c H(pi).

    `y_true` is `pack_policy_targets(actions, advantages, old_log_probs, old_outputs)`,
    `y_pred` the outputs of the policy network. Call `adapt` after each update of the
    policy, or give `fit` the callback `AdaptiveKLCoefficient`.

    Args:
      distribution: a `PolicyDistribution`, or "categorical", "diagonal_gaussian" or
        "bernoulli"; a name takes its size from the width of `y_pred`.
      kl_coefficient: the first beta, between 1e-6 and 1e6.
      kl_target: the divergence in nats that beta steers to, greater than 0.
      entropy_coefficient: c, at least 0.
      **kwargs: see `keras.losses.Loss`.

    Attributes:
      kl_coefficient: beta, a float32 scalar `keras.Variable` that is not trainable. A
        Keras loss is not part of a checkpoint; make the variable an attribute of the
        model, and it is.

    Raises:
      ValueError: if an argument is out of its range.
    """

    with_old_log_prob = True
    with_old_outputs = True

    def __init__(
        self,
        distribution="categorical",
        *,
        kl_coefficient=1.0,
        kl_target=0.01,
        entropy_coefficient=0.0,
        **kwargs,
    ):
        super().__init__(
            distribution, entropy_coefficient=entropy_coefficient, **kwargs
        )
        if not MIN_KL_COEFFICIENT <= kl_coefficient <= MAX_KL_COEFFICIENT:
            raise ValueError(
                f"kl_coefficient must be between {MIN_KL_COEFFICIENT:g} and "
                f"{MAX_KL_COEFFICIENT:g}, got {kl_coefficient}"
            )
        if not kl_target > 0:
            raise ValueError(f"kl_target must be greater than 0, got {kl_target}")
        self.kl_coefficient = keras.Variable(
            float(kl_coefficient),
            dtype="float32",
            trainable=False,
            name="kl_coefficient",
        )
        self.kl_target = float(kl_target)

    def objective(self, policy, targets, outputs):
        """Returns -r A + beta KL(pi_old || pi), [B]."""
        return ppo_kl_penalty_loss(
            policy.log_prob(outputs, targets.actions),
            targets.old_log_prob,
            targets.advantage,
            policy.kl_divergence(targets.old_outputs, outputs),
            self.kl_coefficient.value,
        )

    def kl_divergence(self, y_true, y_pred):
        """Returns KL(pi_old || pi) in nats, [B]; it also serves as a Keras metric."""
        policy = self.policy(y_pred)
        return policy.kl_divergence(self.unpack(y_true, policy).old_outputs, y_pred)

    def adapt(self, kl):
        """Moves beta after an update of the policy, eagerly or inside a graph.

        Args:
          kl: the mean KL(pi_old || pi) after the update, a scalar in nats.
        """
        self.kl_coefficient.assign(
            adapted_kl_coefficient(self.kl_coefficient.value, kl, self.kl_target)
        )

    def get_config(self):
        """Returns the constructor's arguments, with beta as it stands."""
        return {
            **super().get_config(),
            "kl_coefficient": float(self.kl_coefficient.numpy()),
            "kl_target": self.kl_target,
        }


class AdaptiveKLCoefficient(keras.callbacks.Callback):
    """Adapts the coefficient of a `PPOKLPenaltyLoss` when `fit` ends.

    One call of `fit`, with its epochs over one batch of trajectories, is one update of
    the policy. For a model with one output.

    Args:
      loss: the `PPOKLPenaltyLoss` that the model was compiled with.
      observations: the inputs given to `fit`.
      policy_targets: the packed targets given to `fit`.
    """

    def __init__(self, loss, observations, policy_targets):
        super().__init__()
        self.loss = loss
        self.observations = observations
        self.policy_targets = policy_targets

    def on_train_end(self, logs=None):
        """Measures the divergence and adapts."""
        outputs = self.model(self.observations, training=False)
        kl = self.loss.kl_divergence(self.policy_targets, outputs)
        self.loss.adapt(tf.reduce_mean(kl))
