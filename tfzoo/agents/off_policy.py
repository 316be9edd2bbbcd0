"""Acting, remembering, and learning from what is remembered: DQN, DDPG and others."""

import time

import gymnasium as gym
import tensorflow as tf

from tfzoo import random
from tfzoo.agents.agent import Agent
from tfzoo.agents.replay import ReplayBuffer
from tfzoo.agents.trajectory import (
    HostCollector,
    collect_in_graph,
    transform_rewards,
)
from tfzoo.environments import InGraphEnvironment, ParallelRollouts
from tfzoo.environments.errors import check_fraction, check_positive_integer

# So many gradient steps are an epoch in the graph, and so many environment steps on the
# host: callbacks cost little beside them, and are not too long in coming.
_PER_EPOCH = 1_000


class OffPolicyAgent(Agent):
    """Adds its steps to a replay buffer and learns from batches of it.

    An iteration is `num_steps` steps of each copy, then `gradient_steps` batches. With
    an in-graph environment, acting, stepping, storing, sampling and learning over many
    iterations are one compiled call. With a host environment, acting is one compiled
    call for all copies, or NumPy's work (see `make_numpy_act`), storing one for an
    iteration, and learning one.

    Priorities that are not finite change nothing, as a graph cannot refuse them; the
    loss is not finite then either.

    The replay buffer belongs to the environment: `fit` on another one, or `compile`,
    begins an empty one.

    A subclass gives `explore`, `initial_memory` and `update`, and makes what is to be
    learned from of the rows that were drawn.

    Args:
      observation_space, action_space: the Gymnasium spaces of one environment copy.
      replay_capacity: the rows of the replay buffer, over all copies.
      replay_checkpoint: whether checkpoints hold the replay buffer. Without it, a run
        that is resumed fills it anew, to `learning_starts` steps, before it learns on.
      priority_exponent: alpha of prioritised replay; None for uniform replay.
      importance_exponent: beta of its weights, a number or a
        `keras.optimizers.schedules.LearningRateSchedule` over environment steps.
      frame_stack: how many frames the last axis of an observation holds.
      batch_size: B, what one gradient step learns from.
      learning_starts: the environment steps before the first gradient step; until
        then, actions are drawn uniformly.
      num_steps: the steps of each copy in an iteration.
      gradient_steps: the gradient steps after them.
      target_rate: tau, with which slow copies follow: w' += tau (w - w').
      discount: gamma.
      normalize_observations, seed: see `Agent`.

    Attributes:
      gradient_count: int64 variable, the gradient steps taken so far.

    Raises:
      ValueError: if a number is wrong, or a batch is larger than the replay buffer.
    """

    def __init__(
        self,
        observation_space,
        action_space,
        *,
        replay_capacity,
        replay_checkpoint=True,
        priority_exponent=None,
        importance_exponent=1.0,
        frame_stack=1,
        batch_size,
        learning_starts,
        num_steps,
        gradient_steps,
        target_rate,
        discount=0.99,
        normalize_observations=False,
        seed=0,
    ):
        for name, value in (
            ("replay_capacity", replay_capacity),
            ("batch_size", batch_size),
            ("learning_starts", learning_starts),
            ("num_steps", num_steps),
            ("gradient_steps", gradient_steps),
        ):
            check_positive_integer(name, value)
        check_fraction("discount", discount)
        if not callable(importance_exponent):
            check_fraction("importance_exponent", importance_exponent)
        if not 0 < target_rate <= 1:
            raise ValueError(f"target_rate must be in (0, 1], got {target_rate}")
        if batch_size > replay_capacity:
            raise ValueError(
                f"batch_size={batch_size} is more than the {replay_capacity} rows of "
                "the replay buffer; give a larger replay_capacity"
            )
        super().__init__(
            observation_space,
            action_space,
            normalize_observations=normalize_observations,
            seed=seed,
        )
        self.replay_capacity = replay_capacity
        self.replay_checkpoint = replay_checkpoint
        self.priority_exponent = priority_exponent
        self.importance_exponent = importance_exponent
        self.frame_stack = frame_stack
        self.batch_size = batch_size
        self.learning_starts = learning_starts
        self.num_steps = num_steps
        self.gradient_steps = gradient_steps
        self.target_rate = target_rate
        self.discount = discount
        self.gradient_count = tf.Variable(0, dtype=tf.int64, trainable=False)

    # What an algorithm gives.

    def explore(self, observation, memory, seed):
        """Returns (actions that explore [N, ...], the memory after them).

        Args:
          observation: [N, ...].
          memory: as `initial_memory` or the last call returned it.
          seed: int32 [2].
        """
        raise NotImplementedError

    def stored_memory(self, memory):
        """Returns what the replay buffer holds of the memory before each step.

        Args:
          memory: as `initial_memory` returns it, or with more axes in front.
        """
        del memory
        return ()

    def read_batch(self, index):
        """Returns what to learn from of the rows [B] that were drawn."""
        return self.replay.transitions(index, discount=self.discount)

    def update(self, batch, weight, seed):
        """Takes a gradient step.

        Args:
          batch: as `read_batch` returned it.
          weight: float32 [B], of each sample.
          seed: int32 [2].

        Returns:
          (a dict of float32 scalars named by `metric_names`, the error of each sample,
          float32 [B])
        """
        raise NotImplementedError

    # What follows from it.

    def minimize(self, loss, optimizer, network):
        """Takes one step down a loss.

        Args:
          loss: a function without arguments to (a scalar, anything).
          optimizer: of the network.
          network: a `keras.Model`, whose own losses are added.

        Returns:
          What `loss` returned.
        """
        variables = [v.value for v in network.trainable_variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            value, other = loss()
            if network.losses:
                value += tf.add_n(network.losses)
            # The optimizer divides gradients by the scale that it gives the loss.
            scaled = optimizer.scale_loss(value)
        optimizer.apply(tape.gradient(scaled, variables), network.trainable_variables)
        return value, other

    def follow(self, target, network, due=True):
        """Moves the slow copy of a network towards it by `target_rate`, where due."""
        for slow, fast in zip(target.weights, network.weights, strict=True):
            moved = fast.value
            if self.target_rate < 1:
                moved = slow + self.target_rate * (fast - slow)
            slow.assign(moved if due is True else tf.where(due, moved, slow))

    def steps_per_iteration(self, environment):
        """Returns the environment steps, over all copies, of one iteration."""
        return self.num_steps * environment.num_envs

    def _steps_per_epoch(self, environment, steps_per_epoch, unit):
        if steps_per_epoch is not None:
            return super()._steps_per_epoch(environment, steps_per_epoch, unit)
        if not isinstance(environment, InGraphEnvironment):
            return -(-_PER_EPOCH // unit) * unit
        usual = super()._steps_per_epoch(environment, None, unit)
        return min(usual, -(-_PER_EPOCH // self.gradient_steps) * unit)

    def prepare(self, environment):
        """Creates every variable that training needs; see `Agent.prepare`."""
        if self.is_distributed:
            raise ValueError(
                f"{type(self).__name__} cannot be distributed over devices; PPO and "
                "A2C can"
            )
        if isinstance(environment, ParallelRollouts):
            raise ValueError(
                f"{type(self).__name__} cannot act in worker processes; give "
                'vectorization="async"'
            )
        super().prepare(environment)

    def _build(self, environment):
        is_box = isinstance(self.action_space, gym.spaces.Box)
        memory = self.initial_memory(environment.num_envs)
        stored = self.stored_memory(memory)
        observation = self.observation_spec
        replay = ReplayBuffer(
            self.replay_capacity,
            environment.num_envs,
            tf.TensorSpec(observation.shape[1:], observation.dtype),
            tf.TensorSpec(self.action_space.shape, tf.float32 if is_box else tf.int32),
            memory=tf.nest.map_structure(
                lambda m: tf.TensorSpec(m.shape[1:], m.dtype), stored
            ),
            frame_stack=self.frame_stack,
            priority_exponent=self.priority_exponent,
        )
        replay.check_num_steps(self.num_steps)
        # What only a function holds is in no checkpoint.
        self._replay = lambda: replay
        self._stored_replay = replay if self.replay_checkpoint else None
        if isinstance(environment, InGraphEnvironment):
            self.build_carried(environment, memory)

    @property
    def replay(self):
        """The `ReplayBuffer`, once `prepare` has made it."""
        return self._replay()

    def explore_or_begin(self, observation, memory, seed):
        """Explores, or draws actions uniformly where learning has not started."""
        action_seed, explore_seed = tf.unstack(random.split(seed, 2))
        action, memory = self.explore(observation, memory, explore_seed)
        begins = self.step_counter.read_value() < self.learning_starts
        uniform = self.uniform_action(action.shape, action_seed)
        return tf.where(begins, uniform, action), memory

    def uniform_action(self, shape, seed):
        """Returns actions drawn uniformly from the action space."""
        space = self.action_space
        if isinstance(space, gym.spaces.Discrete):
            return random.integers(shape, seed, int(space.n))
        return space.low + random.uniform(shape, seed) * (space.high - space.low)

    def iteration_seeds(self):
        """Returns the seeds of the current iteration, to be numbered along their rows.

        They are to act, for the environment, to sample and to update with. None is
        drawn: where an iteration is a step, that takes as long as a small layer.
        """
        row = 4 * self.iterations.read_value()
        return [random.numbered(self._base_seed, row + i) for i in range(4)]

    def learn(self, sample_seed, update_seed):
        """Takes the gradient steps of an iteration, once learning has started.

        Args:
          sample_seed: int32 [2].
          update_seed: int32 [2].

        Returns:
          A dict of float32 scalars: "iterations", the gradient steps taken, and sums
          over them of the metrics named by `metric_names`.
        """
        starts = self.replay.num_added.read_value() >= self.learning_starts
        gradient_steps = tf.where(starts, self.gradient_steps, 0)
        beta = self.value_at_step(self.importance_exponent)

        def step(i, sums):
            index, weight = self.replay.sample(
                self.batch_size, random.numbered(sample_seed, 0, i), beta
            )
            metrics, error = self.update(
                self.read_batch(index), weight, random.numbered(update_seed, 0, i)
            )
            if self.replay.tree is not None:
                self.replay.update_priorities(index, error)
            return i + 1, {name: sums[name] + metrics[name] for name in sums}

        done, sums = tf.while_loop(
            lambda i, _: i < gradient_steps,
            step,
            (0, {name: tf.constant(0.0) for name in self.metric_names}),
        )
        return {"iterations": tf.cast(done, tf.float32), **sums}

    def _remember(self, environment, trajectory):
        """Stores the steps of an iteration, and counts them."""
        trajectory = transform_rewards(environment, trajectory)
        memory = self.stored_memory(trajectory.memory)
        self.replay.add(trajectory._replace(memory=memory))
        if self.observation_normalization is not None:
            self.observation_normalization.update(trajectory.observation)
        self.step_counter.assign_add(tf.size(trajectory.reward, tf.int64))

    def _make_train_function(self, environment):
        if isinstance(environment, InGraphEnvironment):
            return self.compile_function(
                lambda target: self.train_in_graph(environment, target)
            )
        return self._make_host_train_function(environment)

    def iterate(self, environment):
        """Collects in an in-graph environment once, and learns; see `Agent.iterate`."""
        act_seed, step_seed, *learn_seeds = self.iteration_seeds()
        trajectory, carried, episodes = collect_in_graph(
            environment,
            lambda t, observation, memory: self.explore_or_begin(
                observation, memory, random.numbered(act_seed, 0, t)
            ),
            self.read_carried(),
            self.num_steps,
            step_seed,
        )
        self.assign_carried(carried)
        self._remember(environment, trajectory)
        sums = {**episodes, **self.learn(*learn_seeds)}
        self.iterations.assign_add(1)
        return sums

    def make_numpy_act(self):
        """Returns what acts in host environments without TensorFlow, or None.

        A compiled call of a small network takes ten times as long as its arithmetic.

        Returns:
          A function of an integer that seeds an iteration, which returns a function
          like `explore`, of arrays: (observation, memory, t) to (action, memory).
        """
        return None

    def _make_host_train_function(self, environment):
        num_envs = environment.num_envs

        def act(observation, memory, t):
            seed = random.numbered(self.iteration_seeds()[0], 0, t)
            return self.explore_or_begin(observation, memory, seed)

        def remember(trajectory):
            # Not through XLA, which would copy the storage in every call.
            self._remember(environment, trajectory)

        def learn():
            sums = self.learn(*self.iteration_seeds()[2:])
            self.iterations.assign_add(1)
            return sums

        act = self.compile_function(act)
        numpy_act = self.make_numpy_act()
        remember = self.compile_function(remember, jit_compile=False)
        learn = self.compile_function(learn)
        collector = HostCollector(
            environment, self.num_steps, memory=self.initial_memory(num_envs)
        )

        def iterate():
            start = time.perf_counter()
            if collector.observation is None:
                # Of episodes that a run before this one had under way.
                self.replay.cut()
            seed = self.reset_seed()
            explore = numpy_act(seed) if numpy_act else act
            trajectory, sums = collector.collect(explore, seed)
            collected = time.perf_counter()
            remember(trajectory)
            sums.update(learn())
            sums["collect_seconds"] = collected - start
            sums["learn_seconds"] = time.perf_counter() - collected
            return sums

        return lambda target: self.train_on_host(iterate, target)

    def _logs(self, sums):
        gradient_steps = int(sums["iterations"])
        return {**super()._logs(sums), "gradient_steps": gradient_steps}
