"""What all losses on the outputs of a policy network share."""

import keras

from tfzoo.losses.packing import unpack_policy_targets
from tfzoo.losses.policy_distributions import policy_distribution


class PolicyLoss(keras.losses.Loss):
    """A loss of `y_pred`, policy outputs [B, K], on packed targets `y_true`.

    Subclasses give `objective`, and say with two class attributes whether their targets
    hold the old log-probabilities and the old outputs.

    Args:
      distribution: a `PolicyDistribution`, or "categorical", "diagonal_gaussian" or
        "bernoulli"; a name takes its size from the width of `y_pred`.
      entropy_coefficient: the weight c of the entropy bonus -c H(pi), at least 0.
      **kwargs: `name`, `reduction` and `dtype`; see `keras.losses.Loss`.

    Raises:
      ValueError: if `entropy_coefficient` is negative; when called, if `y_true` or
        `y_pred` has a wrong width.
    """

    with_old_log_prob = False
    with_old_outputs = False

    def __init__(
        self, distribution="categorical", *, entropy_coefficient=0.0, **kwargs
    ):
        super().__init__(**kwargs)
        if not entropy_coefficient >= 0:
            raise ValueError(
                f"entropy_coefficient must be at least 0, got {entropy_coefficient}"
            )
        self.distribution = distribution
        self.entropy_coefficient = float(entropy_coefficient)

    def objective(self, policy, targets, outputs):
        """Returns the loss of each sample without the entropy bonus, [B].

        Args:
          policy: a `PolicyDistribution`.
          targets: `PolicyTargets`, with the actions as `policy` wants them.
          outputs: float32 [B, K].
        """
        raise NotImplementedError

    def call(self, y_true, y_pred):
        """Returns the loss of each sample, [B]."""
        policy = self.policy(y_pred)
        loss = self.objective(policy, self.unpack(y_true, policy), y_pred)
        if self.entropy_coefficient:
            loss -= self.entropy_coefficient * policy.entropy(y_pred)
        return loss

    def policy(self, y_pred):
        """Returns the `PolicyDistribution` for network outputs [B, K]."""
        return policy_distribution(self.distribution, y_pred.shape[-1])

    def unpack(self, y_true, policy):
        """Returns the `PolicyTargets`, with the actions as `policy` wants them."""
        num_old_outputs = policy.num_outputs if self.with_old_outputs else 0
        num_other_columns = 1 + self.with_old_log_prob + num_old_outputs
        num_action_columns = y_true.shape[-1] - num_other_columns
        if num_action_columns not in policy.action_widths:
            widths = [str(n + num_other_columns) for n in policy.action_widths]
            columns = "actions | advantage"
            columns += " | old_log_prob" * self.with_old_log_prob
            columns += " | old_outputs" * self.with_old_outputs
            raise ValueError(
                f"{type(self).__name__} with {policy} needs y_true with "
                f"{' or '.join(widths)} columns ({columns}), got {y_true.shape[-1]}; "
                "make it with pack_policy_targets"
            )
        targets = unpack_policy_targets(
            y_true, num_action_columns, num_old_outputs, self.with_old_log_prob
        )
        return targets._replace(actions=policy.actions_from_columns(targets.actions))

    def get_config(self):
        """Returns the constructor's arguments."""
        distribution = self.distribution
        if not isinstance(distribution, str):
            distribution = keras.saving.serialize_keras_object(distribution)
        return {
            **super().get_config(),
            "distribution": distribution,
            "entropy_coefficient": self.entropy_coefficient,
        }

    @classmethod
    def from_config(cls, config):
        """Returns the loss that `get_config` described."""
        distribution = keras.saving.deserialize_keras_object(config["distribution"])
        return cls(**{**config, "distribution": distribution})
