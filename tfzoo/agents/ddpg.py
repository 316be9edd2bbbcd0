"""Deep deterministic policy gradients, and their twin-delayed successor.

DDPG (Lillicrap et al. 2015, arXiv:1509.02971) learns a critic Q and an actor mu by

    y = r + gamma Q'(s', mu'(s')),  or r alone where the episode terminated,
    L(Q) = mean (Q(s, a) - y)^2 / 2,    L(mu) = -mean Q(s, mu(s)),

Q' and mu' being slow copies. TD3 (Fujimoto et al. 2018, arXiv:1802.09477) takes the
smaller of two critics, adds clipped noise to the action that mu' chooses, and moves the
actor and the copies less often:

    y = r + gamma min_i Q'_i(s', clip(mu'(s') + clip(e, -c, c), -1, 1)),  e ~ N(0, s^2)

An episode that is cut off by a time limit is bootstrapped, and noise that remembers is
forgotten where an episode ends.
"""

import tensorflow as tf

from tfzoo import random
from tfzoo.agents.continuous_control import ContinuousControlAgent
from tfzoo.agents.networks import copy_of, deterministic_actor
from tfzoo.environments.errors import check_fraction, check_positive_integer


class DDPG(ContinuousControlAgent):
    """Deep deterministic policy gradients.

      agent = DDPG(environment.observation_space, environment.action_space)
      agent.compile(actor_optimizer=keras.optimizers.Adam(1e-4))
      agent.fit(environment, steps=20_000)

    Args:
      observation_space, action_space: see `ContinuousControlAgent`.
      noise: "gaussian", or "ornstein_uhlenbeck", which drifts back to 0 (Uhlenbeck and
        Ornstein 1930): x += -theta x + sigma e, e ~ N(0, 1).
      noise_stddev: sigma, in units of half the range of an action.
      noise_theta: theta, from 0 to 1.
      policy_delay: the critics' gradient steps to one of the actor.
      target_noise, target_noise_clip: s and c, at least 0.
      num_critics: C, whose smallest value is bootstrapped from.
      **kwargs: see `ContinuousControlAgent`.

    Raises:
      UnsupportedSpaceError, ValueError: see `ContinuousControlAgent`.
    """

    def __init__(
        self,
        observation_space,
        action_space,
        *,
        noise="ornstein_uhlenbeck",
        noise_stddev=0.2,
        noise_theta=0.15,
        policy_delay=1,
        target_noise=0.0,
        target_noise_clip=0.5,
        num_critics=1,
        **kwargs,
    ):
        if noise not in ("gaussian", "ornstein_uhlenbeck"):
            raise ValueError(
                f"noise must be 'gaussian' or 'ornstein_uhlenbeck', got {noise!r}"
            )
        for name, value in (
            ("noise_stddev", noise_stddev),
            ("target_noise", target_noise),
            ("target_noise_clip", target_noise_clip),
        ):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be at least 0, got {value}")
        check_fraction("noise_theta", noise_theta)
        check_positive_integer("policy_delay", policy_delay)
        super().__init__(
            observation_space, action_space, num_critics=num_critics, **kwargs
        )
        self.noise = noise
        self.noise_stddev = noise_stddev
        self.noise_theta = noise_theta
        self.policy_delay = policy_delay
        self.target_noise = target_noise
        self.target_noise_clip = target_noise_clip
        self.target_actor = copy_of(self.actor)

    def make_actor(self, **options):
        """Builds the network of the policy."""
        return deterministic_actor(
            self.feature_shape, self.num_dimensions, seed=self.seed, **options
        )

    # Acting.

    def call(self, observation):
        """Returns the greedy actions for a batch of observations, [B, D]."""
        return self.to_environment(self.actor(self.preprocess(observation)))

    def act(self, observation, seed, *, greedy=False):
        """Returns actions for a batch of observations; see `Agent.act`.

        Those that are not greedy have the noise of an episode's first step.
        """
        if greedy:
            return self(observation)
        memory = self.initial_memory(tf.shape(observation)[0])
        return self.explore(observation, memory, seed)[0]

    def initial_memory(self, num_envs):
        """Returns the noise before the first step, zeros [N, D], if it is kept."""
        if self.noise == "gaussian":
            return ()
        return tf.zeros([num_envs, self.num_dimensions])

    def explore(self, observation, memory, seed):
        """Returns noisy actions; see `OffPolicyAgent.explore`."""
        action = self.actor(self.preprocess(observation))
        action, memory = self.noisy(action, memory, seed)
        return self.to_environment(action), memory

    def noisy(self, action, memory, seed):
        """Returns (actions in [-1, 1] with noise, the memory after it)."""
        noise = self.noise_stddev * random.normal(tf.shape(action), seed)
        if self.noise == "ornstein_uhlenbeck":
            noise += (1.0 - self.noise_theta) * memory
            memory = noise
        return tf.clip_by_value(action + noise, -1.0, 1.0), memory

    # Learning.

    def next_values(self, features, seed):
        """Returns min_i Q'_i(s', mu'(s') + noise), [B]."""
        action = self.target_actor(features)
        if self.target_noise:
            noise = self.target_noise * random.normal(tf.shape(action), seed)
            limit = self.target_noise_clip
            noise = tf.clip_by_value(noise, -limit, limit)
            action = tf.clip_by_value(action + noise, -1.0, 1.0)
        return tf.reduce_min(self.target_critic([features, action]), axis=1)

    def update_actor(self, features, seed):
        """Moves the actor up the first critic, and the copies after it."""
        del seed

        def loss():
            action = self.actor(features, training=True)
            return -tf.reduce_mean(self.critic([features, action])[:, 0]), None

        def move():
            value, _ = self.minimize(loss, self.actor_optimizer, self.actor)
            self.follow(self.target_actor, self.actor)
            self.follow(self.target_critic, self.critic)
            return value

        if self.policy_delay == 1:
            return {"actor_loss": move()}
        due = self.gradient_count % self.policy_delay == 0
        # Times the delay, so that the mean over all gradient steps is that of the loss.
        value = tf.cond(due, lambda: self.policy_delay * move(), lambda: 0.0)
        return {"actor_loss": value}


class TD3(DDPG):
    """Twin delayed DDPG: `DDPG` with the defaults of arXiv:1802.09477.

    But for networks and batches: those of all agents here, 256-256 and 256, stand in
    place of the paper's 400-300 and 100.

    Args:
      observation_space, action_space: see `ContinuousControlAgent`.
      **kwargs: see `DDPG`.
    """

    def __init__(
        self,
        observation_space,
        action_space,
        *,
        noise="gaussian",
        noise_stddev=0.1,
        policy_delay=2,
        target_noise=0.2,
        num_critics=2,
        **kwargs,
    ):
        super().__init__(
            observation_space,
            action_space,
            noise=noise,
            noise_stddev=noise_stddev,
            policy_delay=policy_delay,
            target_noise=target_noise,
            num_critics=num_critics,
            **kwargs,
        )
