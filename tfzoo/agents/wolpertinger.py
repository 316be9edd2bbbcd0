"""The Wolpertinger policy, for large sets of discrete actions.

Dulac-Arnold et al. 2015 (arXiv:1512.07679): actions have an embedding, a point each. An
actor proposes a point (the proto-action), of whose k nearest actions the critic picks:

    pi(s) = argmax_{a in kNN(mu(s))} Q(s, a).

Critic and actor learn as in DDPG (arXiv:1509.02971), the critic from the actions that
were taken, with targets of the whole policy of the slow copies, the actor up the
critic's gradient at the proto-action:

    y = r + gamma Q'(s', pi'(s')),    L(mu) = -mean Q(s, mu(s)).
"""

import numpy as np
import tensorflow as tf
from gymnasium import spaces

from tfzoo import random
from tfzoo.agents.ddpg import DDPG
from tfzoo.environments import UnsupportedSpaceError
from tfzoo.environments.errors import check_fraction, check_positive_integer


class Wolpertinger(DDPG):
    """DDPG over the embedding of A discrete actions.

      agent = Wolpertinger(
          environment.observation_space,
          environment.action_space,
          action_embedding=environment.action_embedding,
          num_neighbors=29,
      )
      agent.compile()
      agent.fit(environment, steps=100_000)

    Args:
      observation_space, action_space: the Gymnasium spaces of one environment copy;
        actions are Discrete.
      action_embedding: [A, E], a point for each action; columns are scaled to [-1, 1]
        for the networks, and distances are those of the points as they are.
      num_neighbors: k, from 1 to A.
      epsilon: how often an action is drawn uniformly, beside the noise.
      **kwargs: see `DDPG`; noise is that of the proto-action.

    Raises:
      UnsupportedSpaceError: if actions are not Discrete.
      ValueError: if an argument is not one of the above.
    """

    def __init__(
        self,
        observation_space,
        action_space,
        *,
        action_embedding,
        num_neighbors,
        epsilon=0.0,
        **kwargs,
    ):
        embedding = np.asarray(action_embedding, np.float32)
        check_positive_integer("num_neighbors", num_neighbors)
        for name in ("target_noise", "target_noise_clip"):
            if name in kwargs:
                raise ValueError(f"Wolpertinger has no {name}; TD3 has")
        check_fraction("epsilon", epsilon)
        if isinstance(action_space, spaces.Discrete):
            num_actions = int(action_space.n)
            if embedding.ndim != 2 or len(embedding) != num_actions:
                raise ValueError(
                    f"action_embedding must be of shape ({num_actions}, E), got "
                    f"{embedding.shape}"
                )
            if not np.all(np.isfinite(embedding)) or np.any(np.ptp(embedding, 0) == 0):
                raise ValueError(
                    "action_embedding must be finite, with no column of one value"
                )
            if num_neighbors > num_actions:
                raise ValueError(
                    f"num_neighbors={num_neighbors} is more than the {num_actions} "
                    "actions"
                )
        self._embedding = embedding
        super().__init__(observation_space, action_space, **kwargs)
        self.num_neighbors = num_neighbors
        self.epsilon = epsilon
        # Points as the networks have them, and how distances weigh their columns.
        self.points = (embedding - self.middle) / self.half_range

    def _check_action_space(self, space):
        if not isinstance(space, spaces.Discrete):
            raise UnsupportedSpaceError(
                f"action space {space} is not supported by Wolpertinger; Discrete is, "
                "and DDPG takes a Box"
            )

    def _set_bounds(self, space):
        low, high = self._embedding.min(axis=0), self._embedding.max(axis=0)
        self.num_dimensions = self._embedding.shape[1]
        self.middle, self.half_range = (high + low) / 2, (high - low) / 2

    def from_environment(self, action):
        """Returns the points [B, E], in [-1, 1], of actions [B]."""
        return tf.gather(self.points, action)

    # Acting.

    def nearest(self, proto_action):
        """Returns the k nearest actions, int32 [B, k], to points in [-1, 1], [B, E]."""
        proto_action = self.half_range * proto_action
        points = self.half_range * self.points
        # |p - e|^2 without |p|^2, which is the same for all e.
        distance = tf.reduce_sum(points**2, axis=1) - 2.0 * tf.matmul(
            proto_action, points, transpose_b=True
        )
        return tf.math.top_k(-distance, self.num_neighbors).indices

    def pick(self, critic, features, proto_action):
        """Returns (the best of the nearest actions, int32 [B], their values [B])."""
        actions = self.nearest(proto_action)
        points = tf.gather(self.points, actions)  # [B, k, E]
        shape = tf.shape(points)
        repeated = tf.repeat(features, self.num_neighbors, axis=0)
        values = critic([repeated, tf.reshape(points, [-1, self.num_dimensions])])
        values = tf.reshape(tf.reduce_min(values, axis=1), shape[:2])
        best = tf.argmax(values, axis=1, output_type=tf.int32)
        return (
            tf.gather(actions, best, batch_dims=1),
            tf.reduce_max(values, axis=1),
        )

    def call(self, observation):
        """Returns the greedy actions, int32 [B], for a batch of observations."""
        features = self.preprocess(observation)
        return self.pick(self.critic, features, self.actor(features))[0]

    def explore(self, observation, memory, seed):
        """Returns actions near a noisy proto-action; see `OffPolicyAgent.explore`."""
        noise_seed, epsilon_seed, action_seed = tf.unstack(random.split(seed, 3))
        features = self.preprocess(observation)
        proto_action, memory = self.noisy(self.actor(features), memory, noise_seed)
        action, _ = self.pick(self.critic, features, proto_action)
        explores = random.uniform(tf.shape(action), epsilon_seed) < self.epsilon
        uniform = self.uniform_action(tf.shape(action), action_seed)
        return tf.where(explores, uniform, action), memory

    @property
    def served_networks(self):
        """The networks that `export` serves: the actor and the critic."""
        return [self.actor, self.critic]

    # Learning.

    def next_values(self, features, seed):
        """Returns Q'(s', pi'(s')), [B]."""
        del seed
        return self.pick(self.target_critic, features, self.target_actor(features))[1]
