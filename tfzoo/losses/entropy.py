"""The entropy bonus, which keeps a policy from settling too early.

Williams and Peng 1991, "Function optimization using connectionist reinforcement
learning algorithms"; Mnih et al. 2016, arXiv:1602.01783, section 4. As a loss it is
-c H(pi): minimising it makes the policy more random.
"""

import keras

from tfzoo.losses.policy_loss import PolicyLoss


@keras.saving.register_keras_serializable(package="tfzoo")
class EntropyBonus(PolicyLoss):
    """The loss -c H(pi) on its own; the policy losses also have it built in.

    `y_true` is not read; any tensor with the batch size of `y_pred` will do.

    Args:
      distribution: see `PolicyLoss`.
      entropy_coefficient: c, at least 0.
      **kwargs: see `keras.losses.Loss`.
    """

    def __init__(
        self, distribution="categorical", *, entropy_coefficient=0.01, **kwargs
    ):
        super().__init__(
            distribution, entropy_coefficient=entropy_coefficient, **kwargs
        )

    def call(self, y_true, y_pred):
        """Returns the loss of each sample, [B]."""
        return -self.entropy_coefficient * self.policy(y_pred).entropy(y_pred)
