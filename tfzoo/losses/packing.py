"""Packing what a policy loss needs into `y_true`, and unpacking it inside the loss.

Keras hands a loss two tensors, `y_true` and `y_pred`. A policy loss needs the actions
that were taken, their advantages and, for PPO, what the old policy thought of them.
They travel as the columns of one float32 matrix, in this order:

    actions | advantage | old log-probability | old network outputs
    C       | 1         | 0 or 1              | 0 or K

An index below 2**24 is exact in float32.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfzoo.losses.policy_distributions import MAX_INDEX


class PolicyTargets(NamedTuple):
    """The parts of packed targets, float32.

    Attributes:
      actions: [..., C]; see `PolicyDistribution.actions_from_columns`.
      advantage: [...].
      old_log_prob: [...], or None.
      old_outputs: [..., K], or None.
    """

    actions: tf.Tensor
    advantage: tf.Tensor
    old_log_prob: tf.Tensor | None
    old_outputs: tf.Tensor | None


def pack_policy_targets(actions, advantages, old_log_probs=None, old_outputs=None):
    """Packs actions, advantages and the old policy into one matrix for `y_true`.

    Args:
      actions: indices [B] or [B, 1], one-hot rows [B, A], several indices or bits
        [B, C], or real numbers [B, D].
      advantages: [B] or [B, 1].
      old_log_probs: the log-probabilities of the actions when they were drawn, [B] or
        [B, 1]; for the PPO losses. They tell by the width whether it is there; with
        one-hot rows of two actions they cannot, so do not forget it.
      old_outputs: the network's outputs when the actions were drawn, [B, K]; for
        `PPOKLPenaltyLoss`.

    Returns:
      float32 [B, columns]: a tensor if any argument is a tensor, else an array.

    Raises:
      ValueError: if a shape is wrong, or an index is too large for float32.
    """
    named = {
        "actions": actions,
        "advantages": advantages,
        "old_log_probs": old_log_probs,
        "old_outputs": old_outputs,
    }
    given = {name: x for name, x in named.items() if x is not None}
    return pack_columns(given, single=("advantages", "old_log_probs"))


def pack_columns(named, single=()):
    """Packs arguments side by side into one float32 matrix.

    Args:
      named: a dict of arrays or tensors, [B] or [B, columns].
      single: the names of those that must be one column.

    Returns:
      float32 [B, columns]: a tensor if any argument is a tensor, else an array.

    Raises:
      ValueError: if a shape is wrong, or an index is too large for float32.
    """
    in_graph = any(tf.is_tensor(x) for x in named.values())
    columns = [_columns(name, x, in_graph) for name, x in named.items()]
    first = next(iter(named))
    for name, x in zip(named, columns, strict=True):
        if name in single and x.shape[1] != 1:
            raise ValueError(
                f"{name} must have shape [B] or [B, 1], got {list(x.shape)}"
            )
        if not tf.TensorShape(x.shape[:1]).is_compatible_with(columns[0].shape[:1]):
            raise ValueError(
                f"{name} must have the batch size of {first}, {columns[0].shape[0]}, "
                f"got {x.shape[0]}"
            )
    return tf.concat(columns, 1) if in_graph else np.concatenate(columns, 1)


def _columns(name, x, in_graph):
    """Returns x as float32 columns [B, C]."""
    if not tf.is_tensor(x):
        x = np.asarray(x)
        if np.issubdtype(x.dtype, np.integer) and np.any(np.abs(x) >= MAX_INDEX):
            raise ValueError(
                f"{name} must be less than {MAX_INDEX} to be exact in float32, got "
                f"{np.max(np.abs(x))}"
            )
    x = tf.cast(x, tf.float32) if in_graph else x.astype(np.float32)
    rank = len(x.shape)
    if rank not in (1, 2):
        raise ValueError(
            f"{name} must have shape [B] or [B, columns], got {list(x.shape)}"
        )
    return x[:, None] if rank == 1 else x


def unpack_policy_targets(
    y_true, num_action_columns, num_old_outputs=0, with_old_log_prob=False
):
    """Unpacks what `pack_policy_targets` packed.

    Args:
      y_true: float32 [..., columns].
      num_action_columns: C, the columns of the actions.
      num_old_outputs: K, the columns of the old network outputs, or 0 for none.
      with_old_log_prob: whether old log-probabilities were packed.

    Returns:
      `PolicyTargets`.

    Raises:
      ValueError: if the number of columns differs from what the arguments say.
    """
    with_old_log_prob = bool(with_old_log_prob)
    widths = [num_action_columns, 1, int(with_old_log_prob), num_old_outputs]
    if y_true.shape[-1] != sum(widths):
        parts = [f"{num_action_columns} of actions", "1 advantage"]
        parts += ["1 old log-probability"] * with_old_log_prob
        parts += [f"{num_old_outputs} old outputs"] * bool(num_old_outputs)
        raise ValueError(
            f"y_true must have {sum(widths)} columns ({', '.join(parts)}), got "
            f"{y_true.shape[-1]}; make it with pack_policy_targets"
        )
    start = num_action_columns + 1
    return PolicyTargets(
        actions=y_true[..., :num_action_columns],
        advantage=y_true[..., num_action_columns],
        old_log_prob=y_true[..., start] if with_old_log_prob else None,
        old_outputs=y_true[..., start + with_old_log_prob :]
        if num_old_outputs
        else None,
    )
