"""What is minimised: Keras losses and the small pure functions behind them."""

from tfzoo.losses.entropy import EntropyBonus
from tfzoo.losses.packing import (
    PolicyTargets,
    pack_policy_targets,
    unpack_policy_targets,
)
from tfzoo.losses.policy_distributions import (
    BernoulliPolicy,
    CategoricalPolicy,
    DiagonalGaussianPolicy,
    MultiCategoricalPolicy,
    PolicyDistribution,
    policy_distribution,
)
from tfzoo.losses.policy_gradient import PolicyGradientLoss, policy_gradient_loss
from tfzoo.losses.policy_loss import PolicyLoss
from tfzoo.losses.ppo import (
    AdaptiveKLCoefficient,
    PPOClipLoss,
    PPOKLPenaltyLoss,
    adapted_kl_coefficient,
    ppo_clip_loss,
    ppo_kl_penalty_loss,
    probability_ratio,
)
from tfzoo.losses.q_learning import (
    CategoricalQLearningLoss,
    QLearningLoss,
    QuantileQLearningLoss,
    categorical_projection,
    pack_action_value_targets,
    q_learning_target,
    quantile_huber_loss,
    select_action,
)
from tfzoo.losses.value import (
    ClippedValueLoss,
    HuberValueLoss,
    ValueLoss,
    clipped_value_loss,
    huber_value_loss,
    squared_value_loss,
)

__all__ = [
    "AdaptiveKLCoefficient",
    "BernoulliPolicy",
    "CategoricalPolicy",
    "CategoricalQLearningLoss",
    "ClippedValueLoss",
    "DiagonalGaussianPolicy",
    "EntropyBonus",
    "HuberValueLoss",
    "MultiCategoricalPolicy",
    "PPOClipLoss",
    "PPOKLPenaltyLoss",
    "PolicyDistribution",
    "PolicyGradientLoss",
    "PolicyLoss",
    "PolicyTargets",
    "QLearningLoss",
    "QuantileQLearningLoss",
    "ValueLoss",
    "adapted_kl_coefficient",
    "categorical_projection",
    "clipped_value_loss",
    "huber_value_loss",
    "pack_action_value_targets",
    "pack_policy_targets",
    "policy_distribution",
    "policy_gradient_loss",
    "ppo_clip_loss",
    "ppo_kl_penalty_loss",
    "probability_ratio",
    "q_learning_target",
    "quantile_huber_loss",
    "select_action",
    "squared_value_loss",
    "unpack_policy_targets",
]
