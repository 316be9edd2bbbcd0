"""Losses of action values, and the targets that they are moved to.

With the n-step return r = r_t + gamma r_t+1 + ... and the discount g of what follows
it, which is gamma^n, or 0 where the episode terminated:

    Q-learning (Watkins 1989):                    y = r + g max_a Q'(s, a)
    double (van Hasselt et al. 2015, 1509.06461): y = r + g Q'(s, argmax_a Q(s, a))
    C51 (Bellemare et al. 2017, 1707.06887):      the distribution of r + g Z'(s, a*),
        projected onto the atoms z; loss = cross-entropy
    quantiles (Dabney et al. 2017, 1710.10044):   theta_j = r + g theta'_j(s, a*);
        loss = sum_i mean_j |tau_i - 1{u < 0}| huber(u) / kappa, u = theta_j - theta_i

Q' is the target network, s the state that the return leads to. In `y_true` the action
and its targets travel as columns of one float32 matrix:

    action index | targets
    1            | 1, or K atoms or quantiles
"""

import keras
import tensorflow as tf

from tfzoo.losses.packing import pack_columns
from tfzoo.losses.value import huber_value_loss, squared_value_loss


def pack_action_value_targets(actions, targets):
    """Packs actions and what their values are moved to into one matrix for `y_true`.

    Args:
      actions: indices [B] or [B, 1].
      targets: values [B] or [B, 1], or the probabilities of K atoms or the values of K
        quantiles, [B, K].

    Returns:
      float32 [B, 1 + K]: a tensor if any argument is a tensor, else an array.

    Raises:
      ValueError: if a shape is wrong, or an index is too large for float32.
    """
    return pack_columns({"actions": actions, "targets": targets}, single=("actions",))


def select_action(values, actions):
    """Returns the entries [B, ...] of `values` [B, A, ...] that `actions` [B] name."""
    mask = tf.one_hot(actions, values.shape[1], on_value=True, off_value=False)
    mask = tf.reshape(mask, [-1, values.shape[1], *[1] * (values.shape.rank - 2)])
    # Not a gather: its gradient is a scatter, which XLA does row by row.
    return tf.reduce_sum(tf.where(mask, values, 0.0), axis=1)


def q_learning_target(returns, discounts, values):
    """Returns r + g v, the target of an action value; all are [B].

    Args:
      returns: r, the discounted sum of the rewards of n steps.
      discounts: g, gamma^n, or 0 where the episode terminated.
      values: v, of the state after the n steps.
    """
    return returns + discounts * values


def categorical_projection(atoms, probabilities, returns, discounts):
    """Projects the distribution of r + g z onto the atoms z (arXiv:1707.06887, alg. 1).

    Args:
      atoms: z, float32 [K], rising by equal steps.
      probabilities: of the atoms in the state after the n steps, [B, K].
      returns, discounts: r and g, [B].

    Returns:
      Probabilities [B, K]; the mass of a value between two atoms is shared by them in
      proportion, that of one beyond the last atom goes to that.
    """
    moved = returns[:, None] + discounts[:, None] * atoms
    moved = tf.clip_by_value(moved, atoms[0], atoms[-1])
    distance = tf.abs(moved[:, None, :] - atoms[:, None]) / (atoms[1] - atoms[0])
    share = tf.maximum(1.0 - distance, 0.0)  # [B, K to, K from]
    return tf.linalg.matvec(share, probabilities)


def quantile_huber_loss(quantiles, targets, kappa=1.0):
    """Returns the quantile Huber loss of each sample, [B] (arXiv:1710.10044, eq. 10).

    Args:
      quantiles: theta_i, the values at the midpoints (i + 1/2) / K, [B, K].
      targets: theta_j, [B, K'].
      kappa: from which error on the loss is linear, at least 0; with 0 it is that of
        plain quantile regression.
    """
    num = quantiles.shape[-1]
    midpoints = (tf.range(num, dtype=tf.float32) + 0.5) / num
    error = targets[:, None, :] - quantiles[:, :, None]  # [B, K, K']
    weight = tf.abs(midpoints[:, None] - tf.cast(error < 0, tf.float32))
    if kappa > 0:
        loss = huber_value_loss(error, tf.zeros_like(error), kappa) / kappa
    else:
        loss = tf.abs(error)
    return tf.reduce_sum(tf.reduce_mean(weight * loss, axis=2), axis=1)


@keras.saving.register_keras_serializable(package="tfzoo")
class QLearningLoss(keras.losses.Loss):
    """The error of Q(s, a), for the actions that were taken.

    `y_true` is what `pack_action_value_targets` packed with targets [B]; `y_pred` holds
    action values [B, A].

    Args:
      delta: the error from which on the loss is linear (Huber); None for half the
        squared error.
      **kwargs: see `keras.losses.Loss`.

    Raises:
      ValueError: if `delta` is not greater than 0.
    """

    def __init__(self, delta=1.0, **kwargs):
        super().__init__(**kwargs)
        if delta is not None and not delta > 0:
            raise ValueError(f"delta must be greater than 0 or None, got {delta}")
        self.delta = delta

    def call(self, y_true, y_pred):
        """Returns the loss of each sample, [B]."""
        action, targets = _unpack(y_true, y_pred, rank=2, num_targets=1)
        values = select_action(y_pred, action)
        if self.delta is None:
            return squared_value_loss(values, targets[:, 0])
        return huber_value_loss(values, targets[:, 0], self.delta)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "delta": self.delta}


@keras.saving.register_keras_serializable(package="tfzoo")
class CategoricalQLearningLoss(keras.losses.Loss):
    """The cross-entropy of the value distribution of C51, for the actions taken.

    `y_true` is what `pack_action_value_targets` packed with the probabilities of K
    atoms, as `categorical_projection` gives them; `y_pred` holds logits [B, A, K].

    Args:
      **kwargs: see `keras.losses.Loss`.
    """

    def call(self, y_true, y_pred):
        """Returns the loss of each sample, [B]."""
        action, probabilities = _unpack(y_true, y_pred, 3, y_pred.shape[-1])
        logits = select_action(y_pred, action)
        return tf.nn.softmax_cross_entropy_with_logits(probabilities, logits)


@keras.saving.register_keras_serializable(package="tfzoo")
class QuantileQLearningLoss(keras.losses.Loss):
    """The quantile Huber loss of the value distribution, for the actions taken.

    `y_true` is what `pack_action_value_targets` packed with K target values; `y_pred`
    holds quantiles [B, A, K].

    Args:
      kappa: from which error on the loss is linear, at least 0.
      **kwargs: see `keras.losses.Loss`.

    Raises:
      ValueError: if `kappa` is negative.
    """

    def __init__(self, kappa=1.0, **kwargs):
        super().__init__(**kwargs)
        if not kappa >= 0:
            raise ValueError(f"kappa must be at least 0, got {kappa}")
        self.kappa = float(kappa)

    def call(self, y_true, y_pred):
        """Returns the loss of each sample, [B]."""
        action, targets = _unpack(y_true, y_pred, 3, y_pred.shape[-1])
        return quantile_huber_loss(select_action(y_pred, action), targets, self.kappa)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "kappa": self.kappa}


def _unpack(y_true, y_pred, rank, num_targets):
    if y_pred.shape.rank != rank:
        wanted = "[B, A]" if rank == 2 else "[B, A, K]"
        raise ValueError(
            f"y_pred must have shape {wanted}, got {y_pred.shape.as_list()}"
        )
    if y_true.shape[-1] != 1 + num_targets:
        raise ValueError(
            f"y_true must have {1 + num_targets} columns (1 action, {num_targets} of "
            f"targets), got {y_true.shape[-1]}; make it with pack_action_value_targets"
        )
    return tf.cast(y_true[:, 0], tf.int32), y_true[:, 1:]
