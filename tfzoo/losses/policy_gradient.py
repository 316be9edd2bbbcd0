"""The policy gradient (REINFORCE, actor-critic, A2C) as a loss.

Williams 1992, "Simple statistical gradient-following algorithms for connectionist
reinforcement learning"; Sutton et al. 1999, "Policy gradient methods for reinforcement
learning with function approximation". The loss

    L = -A log pi(a|s)

has the policy gradient as its negative gradient. For a categorical policy it is the
cross-entropy of the actions that were taken, weighted by their advantages A.
"""

import keras
import tensorflow as tf

from tfzoo.losses.policy_loss import PolicyLoss


def policy_gradient_loss(log_prob, advantage):
    """Returns -A log pi(a|s), [B].

    Args:
      log_prob: log pi(a|s) of the actions that were taken, [B].
      advantage: A, [B]; no gradient flows into it.
    """
    return -tf.stop_gradient(advantage) * log_prob


@keras.saving.register_keras_serializable(package="tfzoo")
class PolicyGradientLoss(PolicyLoss):
    """The loss -A log pi(a|s) - c H(pi).

    `y_true` is `pack_policy_targets(actions, advantages)`, `y_pred` the outputs of the
    policy network.

    Args:
      distribution: a `PolicyDistribution`, or "categorical", "diagonal_gaussian" or
        "bernoulli"; a name takes its size from the width of `y_pred`.
      entropy_coefficient: c, at least 0.
      **kwargs: see `keras.losses.Loss`.

    Example:

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.compile("adam", loss=PolicyGradientLoss("categorical"))
        model.fit(observations, pack_policy_targets(actions, advantages))
    """

    def objective(self, policy, targets, outputs):
        """Returns -A log pi(a|s), [B]."""
        log_prob = policy.log_prob(outputs, targets.actions)
        return policy_gradient_loss(log_prob, targets.advantage)
