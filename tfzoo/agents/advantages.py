"""Generalised advantage estimation (Schulman et al. 2015, arXiv:1506.02438)."""

import tensorflow as tf


def generalized_advantage_estimation(
    *, rewards, values, final_values, terminated, truncated, discount, gae_lambda
):
    r"""Estimates advantages and value targets from a batch of trajectories.

        delta_t = r_t + discount (1 - terminated_t) V(s'_t) - V(s_t)
        A_t = delta_t + discount lambda (1 - terminated_t)(1 - truncated_t) A_{t+1}

    where s'_t is the state that follows step t before any reset. Termination ends
    the bootstrap; truncation, by a time limit or by the end of the batch, does not:
    it only ends the sum.

    Args:
      rewards: float32 [T, B].
      values: float32 [T, B], V(s_t).
      final_values: float32 [T, B], V(s'_t), of the final observation where an episode
        ended at t.
      terminated, truncated: bool [T, B].
      discount: gamma, in [0, 1].
      gae_lambda: lambda, in [0, 1]; 1 gives Monte-Carlo returns, 0 one-step errors.

    Returns:
      (advantages, value_targets), float32 [T, B] each; the targets are the lambda
      returns A_t + V(s_t).
    """
    bootstrap = tf.where(terminated, 0.0, final_values)
    deltas = rewards + discount * bootstrap - values
    carry = tf.where(terminated | truncated, 0.0, discount * gae_lambda)
    advantages = tf.scan(
        lambda following, step: step[0] + step[1] * following,
        (deltas, carry),
        initializer=tf.zeros_like(values[0]),
        reverse=True,
    )
    return advantages, advantages + values
