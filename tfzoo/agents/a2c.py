r"""Synchronous advantage actor-critic, after A3C (Mnih et al. 2016, arXiv:1602.01783).

One gradient step on every n-step trajectory, down

    -E[ log pi(a|s) A ] + c_v E[ (V(s) - R)^2 ] / 2 - c_e entropy,

where R = r_t + gamma r_{t+1} + ... + gamma^n V(s_{t+n}) and A = R - V(s). All copies
step together and their gradients are averaged, instead of asynchronous workers.
"""

import tensorflow as tf

from tfzoo.agents.on_policy import OnPolicyAgent, standardize
from tfzoo.losses import PolicyGradientLoss, ValueLoss, pack_policy_targets


class A2C(OnPolicyAgent):
    """Synchronous advantage actor-critic with n-step returns.

    The usual optimizer is RMSprop(7e-4, rho=0.99, epsilon=1e-5, global_clipnorm=0.5).

    Args:
      observation_space, action_space: the Gymnasium spaces of one environment copy.
      num_steps: n, the steps that each copy takes before an update.
      gae_lambda: 1 gives the paper's n-step returns.
      entropy_coefficient: c_e.
      normalize_advantages: whether advantages have mean 0 and deviation 1.
      **kwargs: see `OnPolicyAgent`.
    """

    metric_names = ("policy_loss", "value_loss", "entropy")

    def __init__(
        self,
        observation_space,
        action_space,
        *,
        num_steps=5,
        gae_lambda=1.0,
        entropy_coefficient=0.0,
        normalize_advantages=False,
        **kwargs,
    ):
        super().__init__(
            observation_space,
            action_space,
            num_steps=num_steps,
            gae_lambda=gae_lambda,
            **kwargs,
        )
        self.normalize_advantages = normalize_advantages
        self.policy_loss = PolicyGradientLoss(
            self.policy, entropy_coefficient=entropy_coefficient
        )
        self.value_loss = ValueLoss()

    def batch_loss(self, batch):
        """Returns the loss of a batch and its metrics; see `OnPolicyAgent`."""
        advantage = batch.advantage
        if self.normalize_advantages:
            advantage = standardize(advantage)
        outputs, values = self.network(
            self.preprocess(batch.observation), training=True
        )
        policy_targets = pack_policy_targets(batch.action, advantage)
        value_targets = batch.value_target[:, None]
        # Keras losses called as such would divide by the number of replicas.
        policy_loss = tf.reduce_mean(self.policy_loss.call(policy_targets, outputs))
        value_loss = tf.reduce_mean(self.value_loss.call(value_targets, values))
        return policy_loss + self.value_coefficient * value_loss, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": tf.reduce_mean(self.policy.entropy(outputs)),
        }
