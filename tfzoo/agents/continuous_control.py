"""What off-policy agents with real-valued actions share: DDPG, TD3, SAC."""

import keras
import numpy as np
import tensorflow as tf
from gymnasium import spaces

from tfzoo import random
from tfzoo.agents.networks import action_critic, copy_of
from tfzoo.agents.off_policy import OffPolicyAgent
from tfzoo.environments import UnsupportedSpaceError
from tfzoo.environments.errors import check_positive_integer
from tfzoo.losses import q_learning_target, squared_value_loss


class ContinuousControlAgent(OffPolicyAgent):
    """An actor, one or more critics, and slowly moving copies of them.

    Networks work with actions in [-1, 1], which are scaled to the bounds of the action
    space and back. A subclass makes the actor and gives `explore`, `next_values`, the
    values that critics bootstrap from, and `update_actor`.

    Args:
      observation_space, action_space: the Gymnasium spaces of one environment copy;
        actions are a Box of one dimension with finite bounds.
      num_critics: C.
      actor_options, critic_options: dicts of arguments for the networks.
      **kwargs: see `OffPolicyAgent`.

    Raises:
      UnsupportedSpaceError: if actions are something else.
      ValueError: if an argument is not one of the above.
    """

    metric_names = ("critic_loss", "actor_loss", "q_value")

    def __init__(
        self,
        observation_space,
        action_space,
        *,
        num_critics,
        actor_options=None,
        critic_options=None,
        target_rate=0.005,
        replay_capacity=1_000_000,
        batch_size=256,
        learning_starts=1_000,
        num_steps=1,
        gradient_steps=1,
        **kwargs,
    ):
        self._check_action_space(action_space)
        check_positive_integer("num_critics", num_critics)
        super().__init__(
            observation_space,
            action_space,
            replay_capacity=replay_capacity,
            batch_size=batch_size,
            learning_starts=learning_starts,
            num_steps=num_steps,
            gradient_steps=gradient_steps,
            target_rate=target_rate,
            **kwargs,
        )
        self._set_bounds(action_space)
        self.actor = self.make_actor(**(actor_options or {}))
        self.critic = action_critic(
            self.feature_shape,
            self.num_dimensions,
            num_critics=num_critics,
            seed=self.seed,
            **(critic_options or {}),
        )
        self.target_critic = copy_of(self.critic)
        self.built = True

    def _check_action_space(self, space):
        is_box = isinstance(space, spaces.Box) and len(space.shape) == 1
        if not is_box or not np.all(np.isfinite(space.high - space.low)):
            raise UnsupportedSpaceError(
                f"action space {space} is not supported by {type(self).__name__}; a "
                "Box of one dimension with finite bounds is, and DQN takes Discrete"
            )

    def prepare(self, environment):
        """Creates every variable that training needs; see `Agent.prepare`."""
        if environment.action_bounds == "rescale":
            raise ValueError(
                f"{type(self).__name__} scales its actions to the bounds itself; give "
                'action_bounds="clip"'
            )
        super().prepare(environment)

    def _set_bounds(self, space):
        self.num_dimensions = space.shape[0]
        self.middle = (space.high + space.low).astype(np.float32) / 2
        self.half_range = (space.high - space.low).astype(np.float32) / 2
        if np.any(self.half_range <= 0):
            raise UnsupportedSpaceError(
                f"action space {space} is not supported: a number of it cannot change"
            )

    # What an algorithm gives.

    def make_actor(self, **options):
        """Builds the network of the policy."""
        raise NotImplementedError

    def next_values(self, features, seed):
        """Returns the values [B] of the state after a step, of features [B, ...]."""
        raise NotImplementedError

    def update_actor(self, features, seed):
        """Takes a step of the actor where one is due, and moves the slow copies.

        Returns:
          A dict of float32 scalars with "actor_loss".
        """
        raise NotImplementedError

    # What follows from it.

    def to_environment(self, action):
        """Scales actions [..., D] from [-1, 1] to the bounds of the action space."""
        return self.middle + self.half_range * action

    def from_environment(self, action):
        """Scales actions [..., D] from the bounds of the action space to [-1, 1]."""
        return (action - self.middle) / self.half_range

    @property
    def served_networks(self):
        """The networks that `export` serves: the actor."""
        return [self.actor]

    def compile(
        self,
        optimizer=None,
        *,
        actor_optimizer=None,
        jit_compile="auto",
        run_eagerly=False,
    ):
        """Configures training.

        Args:
          optimizer: of the critics; by default `Adam(1e-3)`.
          actor_optimizer: of the actor; by default `Adam(1e-3)`.
          jit_compile, run_eagerly: see `Agent.compile`.
        """
        self.actor_optimizer = actor_optimizer or keras.optimizers.Adam(1e-3)
        super().compile(
            optimizer or keras.optimizers.Adam(1e-3),
            jit_compile=jit_compile,
            run_eagerly=run_eagerly,
        )

    def build_optimizers(self):
        """Creates the variables of the optimizers."""
        self.optimizer.build(self.critic.trainable_variables)
        self.actor_optimizer.build(self.actor.trainable_variables)

    def update(self, batch, weight, seed):
        """Takes a gradient step; see `OffPolicyAgent.update`."""
        seeds = tf.unstack(random.split(seed, 2))
        features = self.preprocess(batch.observation)
        target = q_learning_target(
            batch.returns,
            batch.discount,
            self.next_values(self.preprocess(batch.next_observation), seeds[0]),
        )
        metrics, error = self.update_critic(
            features, self.from_environment(batch.action), target, weight
        )
        self.gradient_count.assign_add(1)
        metrics.update(self.update_actor(features, seeds[1]))
        return metrics, error

    def update_critic(self, features, action, target, weight):
        """Takes a step of all critics towards one target, [B]."""

        def loss():
            values = self.critic([features, action], training=True)
            losses = squared_value_loss(
                values, tf.broadcast_to(target[:, None], tf.shape(values))
            )
            return tf.reduce_mean(weight * tf.reduce_sum(losses, axis=1)), values

        value, values = self.minimize(loss, self.optimizer, self.critic)
        error = tf.reduce_mean(tf.abs(target[:, None] - values), axis=1)
        return {"critic_loss": value, "q_value": tf.reduce_mean(values)}, error

    # Serving.

    def endpoints(self):
        """Returns what `export` serves.

        "serving_default" takes `observation` [B, ...] and returns `action`, the greedy
        one, float32 [B, D].
        """

        def greedy(observation):
            return {"action": self(observation)}

        return {"serving_default": (greedy, [self.observation_spec])}
