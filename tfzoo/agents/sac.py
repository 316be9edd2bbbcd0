"""Soft actor-critic with an automatic temperature (Haarnoja et al. 2018).

arXiv:1812.05905. The policy is a Gaussian squashed by tanh; return and entropy are
learned together:

    y = r + gamma (min_i Q'_i(s', a') - alpha log pi(a'|s')),  a' ~ pi(.|s'),
        or r alone where the episode terminated,
    L(pi) = mean (alpha log pi(a|s) - min_i Q_i(s, a)),  a = tanh(mu + sigma e),
    L(alpha) = -log alpha mean (log pi(a|s) + H),        H = -D as a rule.

With u = mu + sigma e, log pi(a|s) = log N(u; mu, sigma) - sum log(1 - tanh(u)^2), of
actions in [-1, 1].
"""

import math

import keras
import tensorflow as tf

from tfzoo import random
from tfzoo.agents.continuous_control import ContinuousControlAgent
from tfzoo.agents.networks import deterministic_actor

# Bounds of log sigma, from the authors' code.
_LOG_STDDEV_RANGE = (-20.0, 2.0)


class SAC(ContinuousControlAgent):
    """Soft actor-critic.

      agent = SAC(environment.observation_space, environment.action_space)
      agent.compile(actor_optimizer=keras.optimizers.Adam(3e-4))
      agent.fit(environment, steps=20_000)

    Args:
      observation_space, action_space: see `ContinuousControlAgent`.
      temperature: alpha, or where it starts from.
      target_entropy: H, in nats, that alpha is adapted to; None for -D, and "fixed"
        for an alpha that does not change.
      num_critics: C, whose smallest value counts.
      **kwargs: see `ContinuousControlAgent`.

    Raises:
      UnsupportedSpaceError, ValueError: see `ContinuousControlAgent`.
    """

    metric_names = ("critic_loss", "actor_loss", "q_value", "entropy", "temperature")

    def __init__(
        self,
        observation_space,
        action_space,
        *,
        temperature=1.0,
        target_entropy=None,
        num_critics=2,
        **kwargs,
    ):
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be positive, got {temperature}")
        if isinstance(target_entropy, str) and target_entropy != "fixed":
            raise ValueError(
                f"target_entropy must be a number, None or 'fixed', got "
                f"{target_entropy!r}"
            )
        if isinstance(target_entropy, float) and not math.isfinite(target_entropy):
            raise ValueError(f"target_entropy must be finite, got {target_entropy}")
        super().__init__(
            observation_space, action_space, num_critics=num_critics, **kwargs
        )
        if target_entropy is None:
            target_entropy = -float(self.num_dimensions)
        self.target_entropy = target_entropy
        self.log_temperature = keras.Variable(
            math.log(temperature), name="log_temperature", dtype="float32"
        )

    def make_actor(self, **options):
        """Builds the network of the policy: D means and D log deviations."""
        return deterministic_actor(
            self.feature_shape,
            2 * self.num_dimensions,
            output_activation=None,
            seed=self.seed,
            **options,
        )

    def compile(
        self,
        optimizer=None,
        *,
        actor_optimizer=None,
        temperature_optimizer=None,
        jit_compile="auto",
        run_eagerly=False,
    ):
        """Configures training.

        Args:
          optimizer: of the critics; by default `Adam(1e-3)`.
          actor_optimizer: of the actor; by default `Adam(1e-3)`.
          temperature_optimizer: of log alpha; by default `Adam(1e-3)`.
          jit_compile, run_eagerly: see `Agent.compile`.
        """
        self.temperature_optimizer = temperature_optimizer or keras.optimizers.Adam(
            1e-3
        )
        super().compile(
            optimizer,
            actor_optimizer=actor_optimizer,
            jit_compile=jit_compile,
            run_eagerly=run_eagerly,
        )

    def build_optimizers(self):
        """Creates the variables of the optimizers."""
        super().build_optimizers()
        self.temperature_optimizer.build([self.log_temperature])

    # Acting.

    def call(self, observation):
        """Returns the greedy actions for a batch of observations, [B, D]."""
        mean, _ = self.mean_and_log_stddev(self.preprocess(observation))
        return self.to_environment(tf.tanh(mean))

    def act(self, observation, seed, *, greedy=False):
        """Returns actions for a batch of observations; see `Agent.act`."""
        return self(observation) if greedy else self.explore(observation, (), seed)[0]

    def explore(self, observation, memory, seed):
        """Returns actions drawn from the policy; see `OffPolicyAgent.explore`."""
        action, _ = self.sample(self.preprocess(observation), seed)
        return self.to_environment(action), memory

    def mean_and_log_stddev(self, features, training=False):
        """Returns the mean and log deviation before squashing, each [B, D]."""
        outputs = self.actor(features, training=training)
        mean, log_stddev = tf.split(outputs, 2, axis=-1)
        return mean, tf.clip_by_value(log_stddev, *_LOG_STDDEV_RANGE)

    def sample(self, features, seed, training=False):
        """Returns (actions in [-1, 1], [B, D], their log-probabilities [B])."""
        mean, log_stddev = self.mean_and_log_stddev(features, training)
        e = random.normal(tf.shape(mean), seed)
        u = mean + tf.exp(log_stddev) * e
        log_prob = -0.5 * e**2 - log_stddev - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh(u)^2), which is exact where tanh is 1.
        log_prob -= 2.0 * (math.log(2.0) - u - tf.math.softplus(-2.0 * u))
        return tf.tanh(u), tf.reduce_sum(log_prob, axis=-1)

    # Learning.

    @property
    def temperature(self):
        """Alpha, a float32 scalar."""
        return tf.exp(self.log_temperature.value)

    def next_values(self, features, seed):
        """Returns min_i Q'_i(s', a') - alpha log pi(a'|s'), [B]."""
        action, log_prob = self.sample(features, seed)
        values = tf.reduce_min(self.target_critic([features, action]), axis=1)
        return values - self.temperature * log_prob

    def update_actor(self, features, seed):
        """Moves the actor, the temperature and the copies of the critics."""
        temperature = self.temperature

        def loss():
            action, log_prob = self.sample(features, seed, training=True)
            values = tf.reduce_min(self.critic([features, action]), axis=1)
            return tf.reduce_mean(temperature * log_prob - values), log_prob

        value, log_prob = self.minimize(loss, self.actor_optimizer, self.actor)
        self.follow(self.target_critic, self.critic)
        entropy = -tf.reduce_mean(log_prob)
        if self.target_entropy != "fixed":
            # The gradient of L(alpha) by log alpha.
            self.temperature_optimizer.apply(
                [entropy - self.target_entropy], [self.log_temperature]
            )
        return {"actor_loss": value, "entropy": entropy, "temperature": temperature}
