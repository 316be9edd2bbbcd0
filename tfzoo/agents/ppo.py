r"""Proximal policy optimization (Schulman et al. 2017, arXiv:1707.06347).

Maximises, by several epochs of minibatch gradient steps on the same trajectories,

    E[ min(r A, clip(r, 1 - epsilon, 1 + epsilon) A) ] - c_v L_value + c_e entropy,
    r = pi(a|s) / pi_old(a|s),

or, with `objective="kl_penalty"`, E[r A] - beta KL(pi_old || pi) with a beta that
follows the measured divergence (section 4 of the paper).

Beyond the paper, and as is usual (Huang et al. 2022, "The 37 implementation details of
proximal policy optimization"): advantages are normalised in each minibatch, the value
loss may be clipped, an update may stop early when the policy has moved too far. Unlike
many implementations, a time limit does not end the bootstrap.
"""

from functools import partial

import tensorflow as tf

from tfzoo.agents.on_policy import OnPolicyAgent, standardize
from tfzoo.environments.errors import check_positive_integer
from tfzoo.losses import (
    ClippedValueLoss,
    PPOClipLoss,
    PPOKLPenaltyLoss,
    ValueLoss,
    pack_policy_targets,
    probability_ratio,
)


class PPO(OnPolicyAgent):
    """Proximal policy optimization, with defaults for continuous control.

    Args:
      observation_space, action_space: the Gymnasium spaces of one environment copy.
      num_steps: T, the steps that each copy takes in an iteration.
      epochs: passes over the trajectories in an iteration.
      minibatches: gradient steps in an epoch; must divide T times the copies.
      objective: "clip" or "kl_penalty".
      clip_ratio: epsilon, a number or a
        `keras.optimizers.schedules.LearningRateSchedule` over environment steps.
      kl_coefficient: the first beta of the KL penalty.
      kl_target: the divergence, in nats, that beta steers to.
      value_clip: if given, the value may move this far from the old one in an update.
      entropy_coefficient: c_e.
      normalize_advantages: whether advantages have mean 0 and deviation 1 in each
        minibatch.
      kl_stop: if given, an iteration's remaining epochs are left out once a minibatch
        has a divergence, in nats, over 1.5 times this.
      **kwargs: see `OnPolicyAgent`.

    Raises:
      ValueError: if an argument is out of its range.
    """

    metric_names = ("policy_loss", "value_loss", "entropy", "kl", "clip_fraction")

    def __init__(
        self,
        observation_space,
        action_space,
        *,
        num_steps=2048,
        epochs=10,
        minibatches=32,
        objective="clip",
        clip_ratio=0.2,
        kl_coefficient=1.0,
        kl_target=0.01,
        value_clip=None,
        entropy_coefficient=0.0,
        normalize_advantages=True,
        kl_stop=None,
        **kwargs,
    ):
        check_positive_integer("epochs", epochs)
        check_positive_integer("minibatches", minibatches)
        if kl_stop is not None and not kl_stop > 0:
            raise ValueError(f"kl_stop must be positive, got {kl_stop}")
        super().__init__(observation_space, action_space, num_steps=num_steps, **kwargs)
        self.epochs = epochs
        self.minibatches = minibatches
        self.normalize_advantages = normalize_advantages
        self.kl_stop = kl_stop
        self.clip_ratio = clip_ratio
        if callable(clip_ratio):
            self.clip_ratio = partial(self.value_at_step, clip_ratio)
        if objective == "clip":
            self.policy_loss = PPOClipLoss(
                self.policy,
                clip_ratio=self.clip_ratio,
                entropy_coefficient=entropy_coefficient,
            )
        elif objective == "kl_penalty":
            self.policy_loss = PPOKLPenaltyLoss(
                self.policy,
                kl_coefficient=kl_coefficient,
                kl_target=kl_target,
                entropy_coefficient=entropy_coefficient,
            )
            # An attribute of the agent, so that checkpoints hold it.
            self.kl_coefficient = self.policy_loss.kl_coefficient
        else:
            raise ValueError(
                f"objective must be 'clip' or 'kl_penalty', got {objective!r}"
            )
        self.objective = objective
        self.value_clip = value_clip
        self.value_loss = (
            ValueLoss() if value_clip is None else ClippedValueLoss(value_clip)
        )

    def prepare(self, environment):
        """Creates every variable that training needs; see `Agent.prepare`."""
        size = self.steps_per_iteration(environment)
        if size % self.minibatches:
            raise ValueError(
                f"minibatches={self.minibatches} must divide the {size} steps of an "
                f"iteration ({environment.num_envs} copies of {self.num_steps} steps)"
            )
        super().prepare(environment)

    def goes_on(self, metrics):
        """Whether the policy is still near enough to the old one."""
        return True if self.kl_stop is None else metrics["kl"] <= 1.5 * self.kl_stop

    def finish_learning(self, batch):
        """Lets the coefficient of the KL penalty follow the measured divergence."""
        if self.objective == "kl_penalty":
            outputs = self.policy_outputs(batch.observation)
            self.policy_loss.adapt(
                tf.reduce_mean(self.policy.kl_divergence(batch.old_outputs, outputs))
            )

    def batch_loss(self, batch):
        """Returns the loss of a minibatch and its metrics; see `OnPolicyAgent`."""
        advantage = batch.advantage
        if self.normalize_advantages:
            advantage = standardize(advantage)
        policy_targets = pack_policy_targets(
            batch.action,
            advantage,
            batch.old_log_prob,
            batch.old_outputs if self.objective == "kl_penalty" else None,
        )
        value_targets = batch.value_target[:, None]
        if self.value_clip is not None:
            value_targets = tf.stack([batch.value_target, batch.old_value], axis=1)
        outputs, values = self.network(
            self.preprocess(batch.observation), training=True
        )
        # Keras losses called as such would divide by the number of replicas.
        policy_loss = tf.reduce_mean(self.policy_loss.call(policy_targets, outputs))
        value_loss = tf.reduce_mean(self.value_loss.call(value_targets, values))

        log_prob = self.policy.log_prob(outputs, batch.action)
        ratio = probability_ratio(log_prob, batch.old_log_prob)
        clip_ratio = self.clip_ratio() if callable(self.clip_ratio) else self.clip_ratio
        clipped = tf.abs(ratio - 1.0) > clip_ratio
        return policy_loss + self.value_coefficient * value_loss, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": tf.reduce_mean(self.policy.entropy(outputs)),
            # An estimate of KL(pi_old || pi) without bias and of small variance
            # (Schulman 2020, "Approximating KL divergence").
            "kl": tf.reduce_mean(ratio - 1.0 - (log_prob - batch.old_log_prob)),
            "clip_fraction": tf.reduce_mean(tf.cast(clipped, tf.float32)),
        }
