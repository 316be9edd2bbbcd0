"""Deep Q-learning, and what was added to it up to Rainbow.

Mnih et al. 2015 (doi:10.1038/nature14236) move Q(s, a) to

    y = r + gamma max_a' Q'(s', a'),  or r alone where the episode terminated,

on steps drawn from a replay buffer, Q' being an older copy of Q. Switches add

  - double: a' is chosen by Q, not by Q' (van Hasselt et al. 2015, arXiv:1509.06461),
  - dueling: Q = V + D - mean D (Wang et al. 2015, arXiv:1511.06581),
  - priority_exponent: steps of large error are drawn more often (Schaul et al. 2015,
    arXiv:1511.05952),
  - n_step: r is the discounted return of n steps (Sutton 1988),
  - noisy: noise on the weights explores (Fortunato et al. 2017, arXiv:1706.10295),
  - distribution: "categorical" is C51 (Bellemare et al. 2017, arXiv:1707.06887),
    "quantile" QR-DQN (Dabney et al. 2017, arXiv:1710.10044).

All at once are Rainbow (Hessel et al. 2017, arXiv:1710.02298), but that priorities of
distributions are their losses, not divergences; that with `double` the online network
chooses a' with the noise that it also learns with, where Rainbow draws another; and
that gradients are not scaled by 1/sqrt(2) where the dueling streams meet. Unlike in
many implementations an episode that is cut off by a time limit is bootstrapped, by n
steps as by one, from the observation that it was cut off at.
"""

import math

import numpy as np
import tensorflow as tf
from gymnasium import spaces

from tfzoo import random
from tfzoo.agents.networks import check_functional, copy_of, q_network
from tfzoo.agents.off_policy import OffPolicyAgent
from tfzoo.agents.worker_policy import dense_stack, normalization_statistics
from tfzoo.environments import NumpyPolicy, UnsupportedSpaceError
from tfzoo.environments.errors import check_fraction, check_positive_integer
from tfzoo.layers import NoisyDense
from tfzoo.losses import (
    CategoricalQLearningLoss,
    QLearningLoss,
    QuantileQLearningLoss,
    categorical_projection,
    pack_action_value_targets,
    q_learning_target,
    select_action,
)


class DQN(OffPolicyAgent):
    """Deep Q-network; the arguments default to the plain agent, scaled down.

      agent = DQN(environment.observation_space, environment.action_space, double=True)
      agent.compile(keras.optimizers.Adam(1e-3))
      agent.fit(environment, steps=50_000)

    Args:
      observation_space, action_space: the Gymnasium spaces of one environment copy;
        actions are Discrete.
      network: a `keras.Model` from features [B, ...] to values [B, A], or [B, A, K]
        with a distribution; by default `networks.q_network`.
      network_options: a dict of arguments for `networks.q_network`.
      double, dueling, noisy: see above.
      n_step: n.
      distribution: None, "categorical" or "quantile".
      num_atoms: K, by default 51 atoms or 200 quantiles.
      value_range: the first and the last atom of "categorical".
      huber_delta: the error from which on the loss is linear; None for half the
        squared error. The quantile loss has a kappa of 1 instead.
      epsilon: how often an action is drawn uniformly, a number or a
        `keras.optimizers.schedules.LearningRateSchedule` over environment steps; with
        `noisy`, 0 as a rule.
      target_period: the gradient steps between two copies of Q to Q'.
      target_rate: tau, with which Q' follows Q instead: Q' += tau (Q - Q'), every
        `target_period` gradient steps.
      **kwargs: see `OffPolicyAgent`.

    Raises:
      UnsupportedSpaceError: if actions are not Discrete.
      ValueError: if an argument is not one of the above.
    """

    metric_names = ("loss", "q_value", "td_error")

    def __init__(
        self,
        observation_space,
        action_space,
        *,
        network=None,
        network_options=None,
        double=False,
        dueling=False,
        noisy=False,
        n_step=1,
        distribution=None,
        num_atoms=None,
        value_range=(-10.0, 10.0),
        huber_delta=1.0,
        epsilon=0.05,
        target_period=1_000,
        target_rate=1.0,
        replay_capacity=100_000,
        batch_size=32,
        learning_starts=1_000,
        num_steps=4,
        gradient_steps=1,
        **kwargs,
    ):
        if not isinstance(action_space, spaces.Discrete):
            raise UnsupportedSpaceError(
                f"action space {action_space} is not supported by "
                f"{type(self).__name__}; Discrete is, and DDPG, TD3 and SAC take a Box"
            )
        check_positive_integer("n_step", n_step)
        check_positive_integer("target_period", target_period)
        if distribution not in (None, "categorical", "quantile"):
            raise ValueError(
                "distribution must be 'categorical', 'quantile' or None, got "
                f"{distribution!r}"
            )
        if num_atoms is not None:
            check_positive_integer("num_atoms", num_atoms)
            if num_atoms < 2:
                raise ValueError(f"num_atoms must be at least 2, got {num_atoms}")
            if distribution is None:
                raise ValueError("num_atoms needs a distribution")
        if network is not None and (network_options or dueling):
            raise ValueError(
                "dueling and network_options are of the network that is made where "
                "none is given"
            )
        if not callable(epsilon):
            check_fraction("epsilon", epsilon)
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
        self.num_actions = int(action_space.n)
        self.double = double
        self.noisy = noisy
        self.n_step = n_step
        self.distribution = distribution
        self.epsilon = epsilon
        self.target_period = target_period
        self.num_atoms = None
        if distribution is None:
            self.loss_function = QLearningLoss(huber_delta)
        elif distribution == "categorical":
            self.num_atoms = num_atoms or 51
            low, high = value_range
            if not -math.inf < low < high < math.inf:
                raise ValueError(
                    f"value_range must rise and be finite, got {value_range}"
                )
            self.atoms = tf.linspace(float(low), float(high), self.num_atoms)
            self.loss_function = CategoricalQLearningLoss()
        else:
            self.num_atoms = num_atoms or 200
            self.loss_function = QuantileQLearningLoss()
        self.network = network or self.make_network(
            num_atoms=self.num_atoms,
            dueling=dueling,
            noisy=noisy,
            **(network_options or {}),
        )
        self.check_network(self.network)
        if noisy and not any(
            isinstance(x, NoisyDense) for x in self.network._flatten_layers()
        ):
            raise ValueError("noisy=True needs a network with layers of NoisyDense")
        # A copy made after each gradient step is the network itself.
        is_copy = target_period > 1 or self.target_rate < 1 or noisy
        self.target_network = copy_of(self.network) if is_copy else self.network
        self.built = True

    def make_network(self, **options):
        """Builds the network that is taken where none is given."""
        return q_network(
            self.feature_shape, self.num_actions, seed=self.seed, **options
        )

    def check_network(self, network):
        """Refuses a network whose outputs are not values.

        Raises:
          ValueError: if they are not.
        """
        check_functional(network)
        outputs = (self.num_actions,)
        if self.num_atoms is not None:
            outputs += (self.num_atoms,)
        if network.output_shape[1:] != outputs:
            raise ValueError(
                f"the network must have outputs {('B', *outputs)}, got "
                f"{('B', *network.output_shape[1:])}"
            )

    # Acting.

    def action_values(self, outputs):
        """Returns the values [B, A] that outputs of the network stand for."""
        if self.distribution is None:
            return outputs
        if self.distribution == "quantile":
            return tf.reduce_mean(outputs, axis=-1)
        return tf.linalg.matvec(tf.nn.softmax(outputs), self.atoms)

    def q_values(self, observation):
        """Returns the values of all actions, float32 [B, A], without any noise."""
        return self.action_values(self.network(self.preprocess(observation)))

    def call(self, observation):
        """Returns the greedy actions for a batch of observations."""
        return tf.argmax(self.q_values(observation), axis=-1, output_type=tf.int32)

    def act(self, observation, seed, *, greedy=False):
        """Returns actions for a batch of observations; see `Agent.act`."""
        if greedy:
            return self(observation)
        return self.explore(observation, (), seed)[0]

    def explore(self, observation, memory, seed):
        """Returns epsilon-greedy actions [N]; see `OffPolicyAgent.explore`."""
        if self.noisy:
            noise_seed, seed = tf.unstack(random.split(seed, 2))
            self.resample_noise(self.network, noise_seed)
        outputs = self.network(self.preprocess(observation), training=self.noisy)
        return self.epsilon_greedy(self.action_values(outputs), seed), memory

    def explore_or_begin(self, observation, memory, seed):
        """Explores, with an epsilon of 1 where learning has not started."""
        return self.explore(observation, memory, seed)

    def present_epsilon(self):
        """Returns how often an action is drawn uniformly now, a float32 scalar."""
        begins = self.step_counter.read_value() < self.learning_starts
        return tf.where(begins, 1.0, self.value_at_step(self.epsilon))

    def epsilon_greedy(self, values, seed):
        """Returns the actions of largest value [N, A], or uniform ones, by epsilon."""
        greedy = tf.argmax(values, axis=-1, output_type=tf.int32)
        epsilon = self.present_epsilon()
        # Where it is below epsilon, one uniform number over epsilon is another.
        number = random.uniform(tf.shape(greedy), seed)
        share = number / tf.maximum(epsilon, 1e-9)
        uniform = tf.cast(share * self.num_actions, tf.int32)
        uniform = tf.minimum(uniform, self.num_actions - 1)
        return tf.where(number < epsilon, uniform, greedy)

    def make_numpy_act(self):
        """Returns what acts without TensorFlow, where the network is dense layers.

        See `OffPolicyAgent.make_numpy_act`.
        """
        if not self._has_vector_observations or self.distribution or self.run_eagerly:
            return None
        try:
            dense, activation = dense_stack(self.network)
            NumpyPolicy([(x.kernel.numpy(), x.bias.numpy()) for x in dense], activation)
        except ValueError:
            return None

        def numpy_act(seed):
            policy = NumpyPolicy(
                [(layer.kernel.numpy(), layer.bias.numpy()) for layer in dense],
                activation,
                **normalization_statistics(self),
            )
            generator = np.random.default_rng([seed, 1])
            steps, epsilon = self.env_steps, self.epsilon
            if callable(epsilon) or steps < self.learning_starts:
                epsilon = float(self.present_epsilon())

            def explore(observation, memory, t):
                del t
                features = np.reshape(observation, [len(observation), -1])
                action = policy(features.astype(np.float32)).argmax(axis=-1)
                explores = generator.random(len(action)) < epsilon
                uniform = generator.integers(self.num_actions, size=len(action))
                return np.where(explores, uniform, action).astype(np.int32), memory

            return explore

        return numpy_act

    # Learning.

    def read_batch(self, index):
        """Returns the `Transitions` that begin at rows [B]."""
        return self.replay.transitions(
            index, n_step=self.n_step, discount=self.discount
        )

    def targets(self, batch):
        """Returns what the taken actions' values are moved to, [B, 1] or [B, K]."""
        next_features = self.preprocess(batch.next_observation)
        target = self.target_network(next_features, training=self.noisy)
        if self.distribution is None and not self.double:
            best = tf.reduce_max(target, axis=-1)
        else:
            chooser = target
            if self.double:
                chooser = self.network(next_features, training=self.noisy)
            best = tf.argmax(self.action_values(chooser), axis=-1, output_type=tf.int32)
            best = select_action(target, best)
        if self.distribution is None:
            return q_learning_target(batch.returns, batch.discount, best)[:, None]
        if self.distribution == "quantile":
            return q_learning_target(
                batch.returns[:, None], batch.discount[:, None], best
            )
        return categorical_projection(
            self.atoms, tf.nn.softmax(best), batch.returns, batch.discount
        )

    def update(self, batch, weight, seed):
        """Takes a gradient step; see `OffPolicyAgent.update`."""
        if self.noisy:
            seeds = tf.unstack(random.split(seed, 2))
            self.resample_noise(self.network, seeds[0])
            self.resample_noise(self.target_network, seeds[1])
        y_true = pack_action_value_targets(batch.action, self.targets(batch))
        y_true = tf.stop_gradient(y_true)

        def weighted_loss():
            outputs = self.network(self.preprocess(batch.observation), training=True)
            losses = self.loss_function.call(y_true, outputs)
            return tf.reduce_mean(weight * losses), (outputs, losses)

        loss, (outputs, losses) = self.minimize(
            weighted_loss, self.optimizer, self.network
        )
        self.update_target()
        values = self.action_values(outputs)
        error = losses
        if self.distribution is None:
            error = y_true[:, 1] - select_action(values, batch.action)
        metrics = {
            "loss": loss,
            "q_value": tf.reduce_mean(tf.reduce_max(values, axis=-1)),
            "td_error": tf.reduce_mean(tf.abs(error)),
        }
        return metrics, error

    def update_target(self):
        """Lets Q' follow Q, after each `target_period` gradient steps."""
        count = self.gradient_count.assign_add(1)
        due = self.target_period == 1 or count % self.target_period == 0
        if self.target_network is not self.network:
            self.follow(self.target_network, self.network, due)

    def resample_noise(self, network, seed):
        """Draws the noise of a network's noisy layers anew."""
        layers = [x for x in network._flatten_layers() if isinstance(x, NoisyDense)]
        for layer, one in zip(
            layers, tf.unstack(random.split(seed, len(layers))), strict=True
        ):
            layer.resample(one)

    def build_optimizers(self):
        """Creates the variables of the optimizer."""
        self.optimizer.build(self.network.trainable_variables)

    # Serving.

    def endpoints(self):
        """Returns what `export` serves.

        "serving_default" takes `observation` [B, ...] and returns `action`, the greedy
        one, and `q_values`, float32 [B, A].
        """

        def greedy(observation):
            values = self.q_values(observation)
            action = tf.argmax(values, axis=-1, output_type=tf.int32)
            return {"action": action, "q_values": values}

        return {"serving_default": (greedy, [self.observation_spec])}
