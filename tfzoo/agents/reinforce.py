r"""REINFORCE with a learned baseline (Williams 1992, doi:10.1007/BF00992696).

One gradient step on a batch of whole episodes, down

    -E[ sum_t log pi(a_t|s_t) (G_t - V(s_t)) ] + c_v E[ (V(s_t) - G_t)^2 ] / 2,

where G_t is the discounted return from t to the end of the episode. V is only a
baseline: it takes no part in G_t, save where a time limit cut the episode short.
"""

import tensorflow as tf

from tfzoo.agents.on_policy import OnPolicyAgent, first_episodes, standardize
from tfzoo.losses import PolicyGradientLoss, ValueLoss, pack_policy_targets


class REINFORCE(OnPolicyAgent):
    """Monte-Carlo policy gradients with a learned baseline.

    Every copy of the environment plays one episode from its start in each iteration.
    The sum over an episode is replaced by the mean over all steps of the batch, which
    scales the gradient and makes the learning rate independent of episode lengths.
    `env_steps` counts the steps of these episodes, which are what is learned from; a
    copy that has ended early idles until the longest episode is over.

    Args:
      observation_space, action_space: the Gymnasium spaces of one environment copy.
      num_steps: the longest episode; the environment's time limit.
      entropy_coefficient: weight of an entropy bonus.
      normalize_advantages: whether G - V has mean 0 and deviation 1 in the batch.
      **kwargs: see `OnPolicyAgent`.
    """

    metric_names = ("policy_loss", "value_loss", "entropy")
    whole_episodes = True

    def __init__(
        self,
        observation_space,
        action_space,
        *,
        num_steps=500,
        entropy_coefficient=0.0,
        normalize_advantages=True,
        **kwargs,
    ):
        super().__init__(
            observation_space,
            action_space,
            num_steps=num_steps,
            gae_lambda=1.0,
            **kwargs,
        )
        self.normalize_advantages = normalize_advantages
        self.policy_loss = PolicyGradientLoss(
            self.policy, entropy_coefficient=entropy_coefficient
        )
        self.value_loss = ValueLoss()

    def prepare(self, environment):
        """Creates every variable that training needs; see `Agent.prepare`."""
        limit = environment.max_episode_steps
        if limit is None or limit > self.num_steps:
            raise ValueError(
                f"REINFORCE needs whole episodes: num_steps={self.num_steps} must be "
                f"at least the time limit of {environment.id}, which is {limit}"
            )
        super().prepare(environment)

    def learn(self, trajectory, seed):
        """Takes one gradient step; see `OnPolicyAgent`."""
        del seed
        played = tf.reshape(first_episodes(trajectory.done), [-1])
        weight = tf.cast(played, tf.float32)
        return self.update(self.estimate(trajectory), weight / tf.reduce_sum(weight))

    def batch_loss(self, batch, weight):
        """Returns the loss and metrics of a `Batch` whose steps have a weight [B]."""
        advantage = batch.advantage
        if self.normalize_advantages:
            advantage = standardize(advantage, weight)
        outputs, values = self.network(
            self.preprocess(batch.observation), training=True
        )
        policy_targets = pack_policy_targets(batch.action, advantage)
        policy_loss = self.policy_loss.call(policy_targets, outputs)
        value_loss = self.value_loss.call(batch.value_target[:, None], values)
        policy_loss = tf.reduce_sum(weight * policy_loss)
        value_loss = tf.reduce_sum(weight * value_loss)
        return policy_loss + self.value_coefficient * value_loss, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": tf.reduce_sum(weight * self.policy.entropy(outputs)),
        }
