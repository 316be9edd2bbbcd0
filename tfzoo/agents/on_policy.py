"""Collecting with the current policy and learning from it: PPO, A2C, REINFORCE."""

import math
import time
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import tensorflow as tf

from tfzoo import random
from tfzoo.agents.advantages import generalized_advantage_estimation
from tfzoo.agents.agent import Agent
from tfzoo.agents.mirrored import make_mirrored_train_function
from tfzoo.agents.networks import actor_critic
from tfzoo.agents.trajectory import (
    HostCollector,
    Trajectory,
    collect_in_graph,
    transform_rewards,
)
from tfzoo.agents.worker_policy import worker_policy
from tfzoo.environments import (
    InGraphEnvironment,
    ParallelRollouts,
    UnsupportedSpaceError,
)
from tfzoo.environments.errors import check_fraction, check_positive_integer
from tfzoo.layers import RunningNormalization
from tfzoo.losses import (
    BernoulliPolicy,
    CategoricalPolicy,
    DiagonalGaussianPolicy,
    MultiCategoricalPolicy,
)


def policy_for(action_space):
    """Returns the policy distribution of `tfzoo.losses` for a Gymnasium action space.

    Raises:
      UnsupportedSpaceError: if there is none.
    """
    if isinstance(action_space, gym.spaces.Discrete):
        return CategoricalPolicy(int(action_space.n))
    if isinstance(action_space, gym.spaces.Box) and len(action_space.shape) == 1:
        return DiagonalGaussianPolicy(action_space.shape[0])
    if (
        isinstance(action_space, gym.spaces.MultiDiscrete)
        and action_space.nvec.ndim == 1
    ):
        return MultiCategoricalPolicy([int(n) for n in action_space.nvec])
    if isinstance(action_space, gym.spaces.MultiBinary) and isinstance(
        action_space.n, (int, np.integer)
    ):
        return BernoulliPolicy(int(action_space.n))
    raise UnsupportedSpaceError(
        f"action space {action_space} is not supported; Discrete, Box of one "
        "dimension, MultiDiscrete and MultiBinary are"
    )


class Batch(NamedTuple):
    """What an update learns from; every field is [B, ...], B = T N.

    Attributes:
      observation: as the environment gave it.
      action: int32 [B], int32 [B, K] or float32 [B, D].
      old_outputs: the policy outputs at the time of acting, float32 [B, K].
      old_log_prob: of the actions at the time of acting, float32 [B].
      advantage: float32 [B].
      value_target: float32 [B].
      old_value: float32 [B], the critic's values at the time of acting.
    """

    observation: tf.Tensor
    action: tf.Tensor
    old_outputs: tf.Tensor
    old_log_prob: tf.Tensor
    advantage: tf.Tensor
    value_target: tf.Tensor
    old_value: tf.Tensor


def standardize(values, weight=None):
    """Shifts and scales values, float32 [B], to mean 0 and deviation 1.

    Under `tf.distribute` the moments are those over all replicas.

    Args:
      values: float32 [B].
      weight: float32 [B], sums to 1; by default all weigh the same.
    """
    replica = tf.distribute.get_replica_context()

    def mean(x):
        x = tf.reduce_mean(x) if weight is None else tf.reduce_sum(weight * x)
        if replica.num_replicas_in_sync > 1:
            x = replica.all_reduce(tf.distribute.ReduceOp.MEAN, x)
        return x

    centered = values - mean(values)
    return centered / (tf.sqrt(mean(tf.square(centered))) + 1e-8)


def first_episodes(done):
    """Whether a step belongs to the first episode of its copy, bool [T, N]."""
    return tf.cumsum(tf.cast(done, tf.int32), axis=0, exclusive=True) == 0


class OnPolicyAgent(Agent):
    """Collects trajectories with its current policy, then learns from them once.

    With an in-graph environment, collecting and learning over many iterations is one
    compiled call (the Anakin design, Hessel et al. 2021, arXiv:2104.06272). With a
    host environment, acting is one compiled call for all copies, and learning one.

    A subclass gives `batch_loss` and the names of the metrics that it returns; it may
    go over the trajectories in several `epochs` of several `minibatches`.

    Args:
      observation_space, action_space: the Gymnasium spaces of one environment copy.
      network: a `keras.Model` from features [B, ...] to (policy outputs [B, K],
        values [B, 1]); by default `networks.actor_critic`.
      network_options: a dict of arguments for `networks.actor_critic`.
      num_steps: T, the steps that each copy takes in an iteration.
      discount: gamma.
      gae_lambda: lambda of generalised advantage estimation.
      normalize_observations: see `Agent`.
      normalize_rewards: whether rewards are divided by the running standard deviation
        of the discounted return (Engstrom et al. 2020, arXiv:2005.12729, section 2).
      value_coefficient: weight of the value loss, half the squared error, at least 0.
      seed: an integer.
    """

    epochs = 1
    minibatches = 1
    # Whether every iteration starts from a reset and ends with the first episodes.
    whole_episodes = False

    def __init__(
        self,
        observation_space,
        action_space,
        *,
        network=None,
        network_options=None,
        num_steps,
        discount=0.99,
        gae_lambda=0.95,
        normalize_observations=False,
        normalize_rewards=False,
        value_coefficient=1.0,
        seed=0,
    ):
        check_positive_integer("num_steps", num_steps)
        check_fraction("discount", discount)
        check_fraction("gae_lambda", gae_lambda)
        if not 0 <= value_coefficient < math.inf:
            raise ValueError(
                f"value_coefficient must be at least 0, got {value_coefficient}"
            )
        policy = policy_for(action_space)
        super().__init__(
            observation_space,
            action_space,
            normalize_observations=normalize_observations,
            seed=seed,
        )
        self.policy = policy
        self.num_steps = num_steps
        self.value_coefficient = value_coefficient
        self.discount = discount
        self.gae_lambda = gae_lambda
        self.network = network or actor_critic(
            self.feature_shape, policy, seed=seed, **(network_options or {})
        )
        self.reward_normalization = None
        if normalize_rewards:
            self.reward_normalization = RunningNormalization(
                center=False, name="reward_normalization"
            )
            self.reward_normalization.build((None,))
        self.built = True

    # Acting.

    def policy_outputs(self, observation):
        """Returns the raw outputs of the policy, float32 [B, K]."""
        outputs, _ = self.network(self.preprocess(observation))
        return outputs

    def value(self, observation):
        """Returns the critic's values, float32 [B]."""
        _, values = self.network(self.preprocess(observation))
        return values[:, 0]

    def call(self, observation):
        """Returns the greedy actions for a batch of observations."""
        return self.policy.mode(self.policy_outputs(observation))

    def act(self, observation, seed, *, greedy=False):
        """Returns actions for a batch of observations; see `Agent.act`."""
        if greedy:
            return self(observation)
        outputs = self.policy_outputs(observation)
        noise = random.uniform(self.policy.noise_shape(tf.shape(outputs)[:1]), seed)
        return self.policy.sample(outputs, noise)

    # Collecting.

    def steps_per_iteration(self, environment):
        """Returns the environment steps, over all copies, of one iteration."""
        return None if self.whole_episodes else self.num_steps * environment.num_envs

    def prepare(self, environment):
        """Creates every variable that training needs; see `Agent.prepare`."""
        super().prepare(environment)
        if isinstance(environment, ParallelRollouts):
            if self.whole_episodes:
                raise ValueError(
                    f"{type(self).__name__} begins new episodes in every iteration, "
                    'and vectorization="workers" goes on with them; use "async"'
                )
            # Networks that workers cannot have are refused before anything is written.
            worker_policy(self)

    def _build(self, environment):
        num_envs = environment.num_envs
        self.discounted_return = None
        if self.reward_normalization is not None:
            self.discounted_return = tf.Variable(tf.zeros([num_envs]), trainable=False)
        if isinstance(environment, InGraphEnvironment):
            self.build_carried(environment)

    def collect(self, environment, carried, seed):
        """Acts in an in-graph environment for `num_steps` steps.

        Args:
          environment: of N copies.
          carried: as `collect_in_graph` last returned it.
          seed: int32 [2].

        Returns:
          (a `Trajectory` of tensors, what to carry on, a dict of sums over the
          episodes that ended)
        """
        noise_seed, step_seed = tf.unstack(random.split(seed, 2))
        if self.whole_episodes:
            state, observation = environment.reset(random.fold_in(seed, -1))
            _, _, memory, returns, lengths = carried
            carried = (
                state,
                observation,
                memory,
                tf.zeros_like(returns),
                tf.zeros_like(lengths),
            )
        # All noise of the policy is drawn at once: one large call costs less.
        noise = random.uniform(
            [self.num_steps, *self.policy.noise_shape([environment.num_envs])],
            noise_seed,
        )

        def act(t, observation, memory):
            outputs = self.policy_outputs(observation)
            return self.policy.sample(outputs, tf.gather(noise, t)), memory

        return collect_in_graph(
            environment,
            act,
            carried,
            self.num_steps,
            step_seed,
            whole_episodes=self.whole_episodes,
        )

    # Learning.

    def learn(self, trajectory, seed):
        """Updates the networks from a trajectory.

        Args:
          trajectory: a `Trajectory` of tensors [T, N, ...].
          seed: int32 [2].

        Returns:
          A dict of float32 scalars, named by `metric_names`: means over minibatches.
        """
        batch = self.estimate(trajectory)
        metrics = self.learn_batch(batch, seed, self.metric_names)
        self.finish_learning(batch)
        return metrics

    def learn_batch(self, batch, seed, metric_names):
        """Goes over a `Batch` in epochs of minibatches; returns the means of metrics.

        Args:
          batch: a `Batch`.
          seed: int32 [2].
          metric_names: what `batch_loss` returns.
        """
        zeros = {name: tf.constant(0.0) for name in metric_names}

        def learn_from(minibatch, count, sums):
            metrics = self.update(minibatch)
            sums = {name: sums[name] + metrics[name] for name in sums}
            return count + 1.0, metrics, sums

        def epoch(number, count, last, sums):
            if self.minibatches == 1:
                return number + 1, *learn_from(batch, count, sums)
            shuffled = self.shuffle(batch, random.fold_in(seed, number))

            def minibatch(index, count, last, sums):
                del last
                drawn = tf.nest.map_structure(lambda x: tf.gather(x, index), shuffled)
                return index + 1, *learn_from(drawn, count, sums)

            _, count, last, sums = tf.while_loop(
                lambda index, count, last, sums: (
                    (index < self.minibatches) & self.goes_on(last)
                ),
                minibatch,
                (0, count, last, sums),
                maximum_iterations=self.minibatches,
            )
            return number + 1, count, last, sums

        _, count, _, sums = tf.while_loop(
            lambda number, count, last, sums: (
                (number < self.epochs) & self.goes_on(last)
            ),
            epoch,
            (0, 0.0, zeros, zeros),
            maximum_iterations=self.epochs,
        )
        return {name: value / count for name, value in sums.items()}

    def shuffle(self, batch, seed):
        """Returns the `Batch` shuffled, as minibatches [minibatches, size, ...]."""
        if self.minibatches == 1:
            # The order of its samples does not matter.
            return tf.nest.map_structure(lambda x: x[tf.newaxis], batch)
        size = batch.advantage.shape[0]
        if size is None:
            # Of a size that changes; what does not fill all minibatches is left out.
            size = tf.shape(batch.advantage)[0]
            order = tf.argsort(random.uniform([size], seed))
            order = order[: size // self.minibatches * self.minibatches]
        else:
            order = random.permutation(size, seed)
        return tf.nest.map_structure(
            lambda x: tf.reshape(
                tf.gather(x, order),
                [self.minibatches, size // self.minibatches, *x.shape[1:]],
            ),
            batch,
        )

    def goes_on(self, metrics):
        """Whether to learn from the next minibatch, after the metrics of the last."""
        del metrics
        return True

    def finish_learning(self, batch):
        """Called once after all minibatches of an iteration."""

    def estimate(self, trajectory):
        """Estimates advantages and flattens a trajectory into a `Batch`."""

        def flat(x):
            return tf.reshape(x, [-1, *x.shape[2:]])

        rewards = trajectory.reward
        if self.reward_normalization is not None:
            rewards = self._normalize(rewards, trajectory)
        observation, action = flat(trajectory.observation), flat(trajectory.action)
        outputs, values, final_values = self.outputs_and_values(trajectory)
        advantages, value_targets = generalized_advantage_estimation(
            rewards=rewards,
            values=values,
            final_values=final_values,
            terminated=trajectory.terminated,
            truncated=trajectory.truncated,
            discount=self.discount,
            gae_lambda=self.gae_lambda,
        )
        return Batch(
            observation=observation,
            action=action,
            old_outputs=outputs,
            old_log_prob=self.policy.log_prob(outputs, action),
            advantage=flat(advantages),
            value_target=flat(value_targets),
            old_value=flat(values),
        )

    def outputs_and_values(self, trajectory):
        """Returns what the networks say of a trajectory, before they learn from it.

        Returns:
          (policy outputs [T * N, K], values of the observations [T, N], values of the
          final observations [T, N])
        """
        shape = tf.shape(trajectory.reward)

        def flat(x):
            return tf.reshape(x, [-1, *x.shape[2:]])

        outputs, values = self.network(self.preprocess(flat(trajectory.observation)))
        final_values = self.value(flat(trajectory.final_observation))
        return outputs, tf.reshape(values, shape), tf.reshape(final_values, shape)

    def _counts(self, trajectory):
        """Which steps are learned from, bool [T, N], or None for all."""
        return first_episodes(trajectory.done) if self.whole_episodes else None

    def _normalize(self, rewards, trajectory):
        """Scales rewards by the running deviation of the discounted return."""
        done, before = trajectory.done, self.discounted_return.read_value()
        if self.whole_episodes:
            before = tf.zeros_like(before)
        ended_before = tf.concat([tf.zeros_like(done[:1]), done[:-1]], axis=0)
        discounted = tf.scan(
            lambda before, step: (
                step[0] + self.discount * tf.where(step[1], 0.0, before)
            ),
            (rewards, ended_before),
            initializer=before,
        )
        self.discounted_return.assign(tf.where(done[-1], 0.0, discounted[-1]))
        self.reward_normalization.update(discounted, self._counts(trajectory))
        return self.reward_normalization(rewards)

    def batch_loss(self, batch):
        """Returns the loss of a `Batch`, a scalar, and a dict of metrics."""
        raise NotImplementedError

    def batch_gradients(self, *batch):
        """Returns the gradients by `batch_variables` and the metrics of a batch."""
        with tf.GradientTape() as tape:
            loss, metrics = self.batch_loss(*batch)
            if self.network.losses:
                loss += tf.add_n(self.network.losses)
            # The optimizer divides gradients by the scale that it gives the loss.
            loss = self.optimizer.scale_loss(loss)
        variables = [v.value for v in self.batch_variables]
        return tape.gradient(loss, variables), metrics

    def update(self, *batch):
        """Takes one optimizer step down `batch_loss`; returns the metrics."""
        gradients, metrics = self.batch_gradients(*batch)
        self.optimizer.apply(gradients, self.batch_variables)
        return metrics

    @property
    def batch_variables(self):
        """The weights that `update` moves."""
        return self.trainable_variables

    # Training.

    def _make_train_function(self, environment):
        if self.is_distributed:
            return make_mirrored_train_function(self, environment, self._strategy)
        if isinstance(environment, InGraphEnvironment):
            return self.compile_function(
                lambda target: self.train_in_graph(environment, target)
            )
        return self._make_host_train_function(environment)

    def finish_iteration(self, trajectory):
        """Counts, and lets the statistics of observations follow."""
        if self.observation_normalization is not None:
            self.observation_normalization.update(
                trajectory.observation, self._counts(trajectory)
            )
        steps = tf.size(trajectory.reward, tf.int64)
        if self.whole_episodes:
            steps = tf.reduce_sum(tf.cast(self._counts(trajectory), tf.int64))
        self.iterations.assign_add(1)
        self.step_counter.assign_add(steps)

    def iterate(self, environment):
        """Collects in an in-graph environment once, and learns; see `Agent.iterate`."""
        collect_seed, learn_seed = self.iteration_seeds()
        trajectory, carried, episodes = self.collect(
            environment, self.read_carried(), collect_seed
        )
        self.assign_carried(carried)
        metrics = self._learn(environment, trajectory, learn_seed)
        self.finish_episodes(episodes)
        return {**episodes, "iterations": 1.0, **metrics}

    def _learn(self, environment, trajectory, seed):
        metrics = self.learn(transform_rewards(environment, trajectory), seed)
        self.finish_iteration(trajectory)
        return metrics

    def _make_host_train_function(self, environment):
        collect = self._make_host_collect_function(environment)

        def learn_from(trajectory):
            return self._learn(environment, trajectory, self.iteration_seeds()[1])

        learn = self.compile_learn_function(learn_from, environment)

        def iterate():
            start = time.perf_counter()
            trajectory, episodes = collect()
            collected = time.perf_counter()
            metrics = learn(trajectory)
            self.finish_episodes(episodes)
            return {
                **episodes,
                "iterations": 1,
                **metrics,
                "collect_seconds": collected - start,
                "learn_seconds": time.perf_counter() - collected,
            }

        return lambda target: self.train_on_host(iterate, target)

    def compile_learn_function(self, function, environment):
        """Compiles a function of a host `Trajectory`; see `compile_function`."""
        del environment
        return self.compile_function(function)

    def finish_episodes(self, episodes):
        """Called after an iteration with the sums over the episodes that ended."""

    def collect_steps(self, environment):
        """Returns the environment steps, over all copies, of the next iteration."""
        return self.num_steps * environment.num_envs

    def begin_episodes(self):
        """Called before all copies of a host environment begin new episodes.

        So they do when training begins, or is resumed in another process.
        """
        if self.discounted_return is not None:
            self.discounted_return.assign(tf.zeros_like(self.discounted_return))

    def _make_host_collect_function(self, environment):
        """Returns a function that gives (trajectory, sums over its episodes)."""
        first = True

        def is_first():
            nonlocal first
            was_first, first = first, False
            if was_first:
                self.begin_episodes()
            return was_first

        if isinstance(environment, ParallelRollouts):

            def collect():
                fields, sums = environment.collect(
                    worker_policy(self),
                    self.collect_steps(environment),
                    (self.seed, int(self.iterations.read_value())),
                    new_episodes=is_first(),
                )
                del sums["collect_seconds"]
                return Trajectory(**fields), sums

            return collect

        def act(observation, memory, t):
            seed = random.fold_in(self.iteration_seeds()[0], t)
            return self.act(observation, seed), memory

        act = self.compile_function(act)
        collector = HostCollector(
            environment, self.num_steps, whole_episodes=self.whole_episodes
        )

        def collect():
            is_first()
            return collector.collect(act, self.reset_seed())

        return collect

    # Serving.

    def endpoints(self):
        """Returns what `export` serves.

        "serving_default" takes `observation` [B, ...] and returns `action`, the greedy
        one, `value`, and `action_probabilities` (discrete) or `action_mean` and
        `action_stddev` (continuous). "sample" also takes `seed`, int32 [2], and draws
        the action.
        """

        def describe(observation):
            outputs, values = self.network(self.preprocess(observation))
            described = {"value": values[:, 0]}
            if self.policy.name == "diagonal_gaussian":
                mean, log_stddev = self.policy.mean_and_log_stddev(outputs)
                described["action_mean"] = mean
                described["action_stddev"] = tf.exp(log_stddev)
            else:
                described["action_probabilities"] = self.policy.probabilities(outputs)
            return outputs, described

        def greedy(observation):
            outputs, described = describe(observation)
            return {"action": self.policy.mode(outputs), **described}

        def sample(observation, seed):
            outputs, described = describe(observation)
            shape = self.policy.noise_shape(tf.shape(outputs)[:1])
            action = self.policy.sample(outputs, random.uniform(shape, seed))
            return {"action": action, **described}

        seed_spec = tf.TensorSpec([2], tf.int32, name="seed")
        return {
            "serving_default": (greedy, [self.observation_spec]),
            "sample": (sample, [self.observation_spec, seed_spec]),
        }
