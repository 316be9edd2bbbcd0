"""The agent: a `keras.Model` that is fitted to an environment instead of data."""

import math
import time
from functools import partial

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from tfzoo import random
from tfzoo.agents.export import export_policy
from tfzoo.agents.trajectory import EPISODE_SUMS, forget
from tfzoo.environments import InGraphEnvironment, UnsupportedSpaceError
from tfzoo.environments.errors import check_positive_integer
from tfzoo.layers import RunningNormalization
from tfzoo.training.progress import Progress

# With the environment in the graph, an epoch of about this many steps keeps the time
# outside the compiled call, for callbacks and logs, below a few per cent.
_STEPS_PER_EPOCH = 16_384

_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3D,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)


class Agent(keras.Model):
    """What all agents share: spaces, observations, seeds, `fit`, `evaluate`.

    An agent is compiled and fitted as any Keras model is, but to an environment:

      agent = PPO(environment.observation_space, environment.action_space)
      agent.compile(optimizer=keras.optimizers.Adam(3e-4))
      history = agent.fit(environment, steps=100_000)
      print(agent.evaluate(environment, episodes=100)["mean"])
      agent.export("saved_model")

    `agent(observation)` is the greedy action for a batch of observations. All random
    numbers follow from `seed` and from one counter that checkpoints hold, so that
    `tf.train.Checkpoint(agent=agent)`, restored after `prepare(environment)`,
    continues the very run where the environment is in the graph.

    Args:
      observation_space, action_space: the Gymnasium spaces of one environment copy.
      normalize_observations: whether observations are shifted and scaled by running
        statistics of all that were seen; the statistics are part of the agent. Not
        for discrete or image observations.
      seed: an integer; the same seed gives the same run on the same machine.

    Attributes:
      env_steps: an int, the environment steps taken so far; checkpoints hold it.
      iterations: int32 variable, the collect-and-learn iterations done so far.
      metric_names: what learning reports, in the order of the logs.
      remedy: what to try where training left the finite numbers, as flags.
    """

    metric_names: tuple[str, ...] = ()
    remedy = "a lower --learning_rate"

    def __init__(
        self, observation_space, action_space, *, normalize_observations=False, seed=0
    ):
        # Whatever the networks compute in, observations come whole.
        super().__init__(dtype="float32")
        self.observation_space = observation_space
        self.action_space = action_space
        self.seed = seed
        self._base_seed = random.make_seed(seed)
        self._strategy = tf.distribute.get_strategy()
        self.step_counter = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.iterations = tf.Variable(0, dtype=tf.int32, trainable=False)
        self.observation_normalization = None
        if isinstance(observation_space, gym.spaces.Discrete):
            self.feature_shape = (int(observation_space.n),)
        elif isinstance(observation_space, gym.spaces.Box):
            self.feature_shape = observation_space.shape
        else:
            raise UnsupportedSpaceError(
                f"observation space {observation_space} is not supported; "
                "Box and Discrete are"
            )
        if normalize_observations:
            if not self._has_vector_observations:
                raise UnsupportedSpaceError(
                    f"observation space {observation_space} cannot be normalised by "
                    "running statistics; a Box of floats can"
                )
            self.observation_normalization = RunningNormalization(
                name="observation_normalization"
            )
            self.observation_normalization.build((None, *self.feature_shape))
        self._environment = None
        self._functions = {}

    @property
    def is_distributed(self):
        """Whether it was made in the scope of a strategy of several devices."""
        return self._strategy.num_replicas_in_sync > 1

    @property
    def env_steps(self):
        """The environment steps taken so far."""
        return int(self.step_counter.read_value())

    @property
    def steps(self):
        """What runs are counted by: `env_steps`."""
        return self.env_steps

    @property
    def _has_vector_observations(self):
        space = self.observation_space
        return isinstance(space, gym.spaces.Box) and space.dtype != np.uint8

    @property
    def observation_spec(self):
        """The `tf.TensorSpec` of a batch of observations, [None, ...]."""
        space = self.observation_space
        if isinstance(space, gym.spaces.Discrete):
            return tf.TensorSpec([None], tf.int32, name="observation")
        dtype = tf.uint8 if space.dtype == np.uint8 else tf.float32
        return tf.TensorSpec([None, *space.shape], dtype, name="observation")

    def preprocess(self, observation):
        """Maps observations [B, ...] to the float32 features that networks take.

        Discrete observations become one-hot, bytes are divided by 255, others are
        normalised by the running statistics if the agent keeps them.
        """
        if isinstance(self.observation_space, gym.spaces.Discrete):
            return tf.one_hot(
                observation - int(self.observation_space.start), self.feature_shape[0]
            )
        if self.observation_space.dtype == np.uint8:
            return tf.cast(observation, tf.float32) / 255.0
        if self.observation_normalization is not None:
            return self.observation_normalization(observation)
        return tf.cast(observation, tf.float32)

    # What an algorithm gives.

    def call(self, observation):
        """Returns the greedy actions for a batch of observations."""
        raise NotImplementedError

    def steps_per_iteration(self, environment):
        """Returns the steps of one iteration, or None where it is not fixed."""
        raise NotImplementedError

    def _make_train_function(self, environment):
        """Returns a function of the target `env_steps` that trains up to it.

        It returns a dict of scalars: "episodes", the sums "episode_return" and
        "episode_length" over them, "iterations", and sums over iterations of the
        metrics of learning; of agents that take gradient steps between the steps of
        the environment, "iterations" counts these.
        """
        raise NotImplementedError

    def iterate(self, environment):
        """Collects in an in-graph environment once, and learns; returns sums.

        Returns:
          A dict of float32 scalars as `_make_train_function` tells of them.
        """
        raise NotImplementedError

    def _build(self, environment):
        """Creates the variables that depend on the environment."""
        raise NotImplementedError

    @property
    def served_networks(self):
        """The networks that the functions of `endpoints` run."""
        return [self.network]

    def endpoints(self):
        """Returns what `export` serves: a dict of name to (function, input specs).

        There is "serving_default", from `observation` [B, ...] to a dict with `action`.
        """
        raise NotImplementedError

    # What follows from it.

    def build_carried(self, environment, memory=()):
        """Creates the variables that collecting in the graph carries on.

        Args:
          environment: an `InGraphEnvironment` of N copies.
          memory: what the agent remembers at the start of an episode, [N, ...].
        """
        state, observation = environment.reset(random.fold_in(self._base_seed, -1))
        returns = tf.zeros([environment.num_envs])
        lengths = tf.zeros([environment.num_envs], tf.int32)
        self._carried = tf.nest.map_structure(
            lambda tensor: tf.Variable(tensor, trainable=False),
            (state, observation, memory, returns, lengths),
        )

    def read_carried(self):
        """Returns what `collect_in_graph` carries from one iteration to the next."""
        return tf.nest.map_structure(lambda v: v.read_value(), self._carried)

    def assign_carried(self, carried):
        """Keeps what `collect_in_graph` returned to be carried on."""
        tf.nest.map_structure(lambda v, x: v.assign(x), self._carried, carried)

    def train_in_graph(self, environment, target):
        """Calls `iterate` until `env_steps` reaches `target`; returns the sums.

        Compiled, this is one call for all of them.
        """

        def add(sums):
            new = self.iterate(environment)
            return ({name: sums[name] + new[name] for name in sums},)

        names = (*EPISODE_SUMS, "iterations", *self.metric_names)
        (sums,) = tf.while_loop(
            lambda _: self.step_counter.read_value() < target,
            add,
            ({name: tf.constant(0.0) for name in names},),
        )
        return sums

    def train_on_host(self, iterate, target):
        """Calls `iterate()` until `env_steps` reaches `target`; returns the sums."""
        sums = {}
        while self.env_steps < target:
            for name, value in iterate().items():
                sums[name] = sums.get(name, 0.0) + float(value)
        return sums

    def iteration_seeds(self):
        """Returns the seeds to collect and to learn with, of the current iteration."""
        seed = random.fold_in(self._base_seed, self.iterations.read_value())
        return tf.unstack(random.split(seed, 2))

    def value_at_step(self, schedule):
        """Returns the present value of a number, or of a schedule of steps."""
        if callable(schedule):
            return tf.cast(schedule(self.step_counter.read_value()), tf.float32)
        return tf.constant(schedule, tf.float32)

    def reset_seed(self):
        """Returns the seed of a host environment that begins, or begins again."""
        key = [self.seed, int(self.iterations.read_value())]
        return int(np.random.SeedSequence(key).generate_state(1)[0])

    def compile(self, optimizer, *, jit_compile="auto", run_eagerly=False):
        """Configures training.

        Args:
          optimizer: a `keras.optimizers.Optimizer`. Gradient clipping and learning
            rate schedules are its own: `global_clipnorm=`, `PolynomialDecay`.
          jit_compile: whether XLA compiles the work. "auto" does, save on several
            devices under a `tf.distribute` strategy, where it cannot, and for networks
            with convolutions on the CPU, of which its gradients in loops are slow.
          run_eagerly: whether to run it operation by operation, for debugging.
        """
        if jit_compile == "auto":
            jit_compile = not (
                run_eagerly or self.is_distributed or self._convolves_on_cpu()
            )
        super().compile(
            optimizer=optimizer, jit_compile=jit_compile, run_eagerly=run_eagerly
        )
        # Here, as `tf.distribute` wants all variables made in the scope of a strategy.
        self.build_optimizers()
        self._environment = None
        self._functions = {}

    def _convolves_on_cpu(self):
        """Whether its networks have convolutions, and there is no GPU for them.

        XLA brings convolutions on the CPU into the form for which it has fast code in
        the main computation only, not in the body of a loop (docs/platform.md, 54).
        """
        return not tf.config.get_visible_devices("GPU") and any(
            isinstance(layer, _CONVOLUTIONS) for layer in self._flatten_layers()
        )

    def build_optimizers(self):
        """Creates the variables of the optimizer."""
        self.optimizer.build(self.trainable_variables)

    def compile_function(self, function, *, jit_compile=None):
        """Wraps `function` as `compile` was told to."""
        if self.run_eagerly:
            return function
        return tf.function(
            function,
            autograph=False,
            jit_compile=self.jit_compile if jit_compile is None else jit_compile,
        )

    def prepare(self, environment):
        """Creates every variable that training on `environment` needs.

        `fit` does this by itself. Call it before a checkpoint is restored.

        Raises:
          ValueError: if the agent is not compiled.
          UnsupportedSpaceError: if the environment's spaces are not the agent's.
        """
        if environment is self._environment:
            return
        if getattr(self, "optimizer", None) is None:
            raise ValueError("the agent is not compiled; call compile(optimizer=...)")
        for kind in ("observation_space", "action_space"):
            given, expected = getattr(environment, kind), getattr(self, kind)
            if given != expected:
                raise UnsupportedSpaceError(
                    f"the {kind.replace('_', ' ')} of {environment.id} is {given}, "
                    f"but the agent was made for {expected}"
                )
        self._build(environment)
        self._train_function = self._make_train_function(environment)
        self._environment = environment

    def fit(
        self,
        environment,
        steps,
        *,
        initial_step=0,
        callbacks=None,
        steps_per_epoch=None,
        verbose="auto",
    ):
        """Trains on an environment.

        Args:
          environment: as `tfzoo.environments.make` returns it.
          steps: train until this many environment steps, over all copies, are done;
            as `epochs` in Keras, it counts from `initial_step`.
          initial_step: how many of them are done already; `agent.env_steps` after a
            checkpoint was restored.
          callbacks: `keras.callbacks.Callback`s. An epoch is one call into the graph.
            Its logs hold "steps", "episodes", "episode_return", "episode_length", the
            losses, "steps_per_second" and "seconds".
          steps_per_epoch: environment steps between two logs; by default about
            16,384 for in-graph environments, and one iteration for others. Agents with
            a replay buffer log every 1,000 gradient steps and environment steps.
          verbose: 0 for silence; otherwise a progress bar is shown.

        Returns:
          A `keras.callbacks.History` whose `history` lists each log entry by epoch.

        Raises:
          ValueError: if the agent is not compiled or the steps are not a multiple of
            what one iteration takes.
        """
        steps = _whole_number("steps", steps)
        initial_step = _whole_number("initial_step", initial_step)
        if steps_per_epoch is not None:
            steps_per_epoch = _whole_number("steps_per_epoch", steps_per_epoch)
        self.prepare(environment)
        unit = self.steps_per_iteration(environment)
        steps_per_epoch = self._steps_per_epoch(environment, steps_per_epoch, unit)
        todo = max(0, steps - initial_step)
        if unit and (todo % unit or steps < initial_step):
            nearest = initial_step + -(-todo // unit) * unit
            raise ValueError(
                f"steps={steps} must be a multiple of the {unit} steps of one "
                f"iteration after the {initial_step} done; the next is {nearest}"
            )
        offset = self.env_steps - initial_step
        callbacks = list(callbacks or [])
        if verbose and not any(isinstance(c, Progress) for c in callbacks):
            callbacks.append(Progress(steps + offset))
        callbacks = keras.callbacks.CallbackList(
            callbacks,
            add_history=True,
            model=self,
            epochs=-(-todo // steps_per_epoch),
            steps=steps,
            verbose=0,
        )
        self.stop_training = False
        start = time.perf_counter()
        callbacks.on_train_begin()
        epoch, logs = 0, {}
        while self.env_steps - offset < steps and not self.stop_training:
            callbacks.on_epoch_begin(epoch)
            done, began = self.env_steps, time.perf_counter()
            target = min(done + steps_per_epoch, steps + offset)
            logs = self._logs(self._train_function(tf.constant(target, tf.int64)))
            now = time.perf_counter()
            logs["steps_per_second"] = (self.env_steps - done) / (now - began)
            logs["seconds"] = now - start
            callbacks.on_epoch_end(epoch, logs)
            epoch += 1
        callbacks.on_train_end(logs)
        return self.history

    def _steps_per_epoch(self, environment, steps_per_epoch, unit):
        if steps_per_epoch is None:
            if not isinstance(environment, InGraphEnvironment):
                return unit or 1
            return max(1, _STEPS_PER_EPOCH // unit) * unit if unit else _STEPS_PER_EPOCH
        if steps_per_epoch < 1 or (unit and steps_per_epoch % unit):
            raise ValueError(
                f"steps_per_epoch={steps_per_epoch} must be a positive multiple of "
                f"the {unit} steps of one iteration"
            )
        return steps_per_epoch

    def _logs(self, sums):
        """Turns the sums of a train function into the means that logs hold."""
        sums = {name: float(value) for name, value in sums.items()}
        episodes, iterations = sums.pop("episodes"), sums.pop("iterations")
        logs = {"steps": self.env_steps, "episodes": int(episodes)}
        for name in ("episode_return", "episode_length"):
            total = sums.pop(name)
            logs[name] = total / episodes if episodes else float("nan")
        for name in self.metric_names:
            logs[name] = sums[name] / iterations if iterations else float("nan")
        logs.update({name: sums[name] for name in sums if name.endswith("_seconds")})
        logs["learning_rate"] = float(
            tf.convert_to_tensor(self.optimizer.learning_rate)
        )
        return logs

    def evaluate(self, environment, episodes=100, *, seed=0, greedy=True):
        """Plays whole episodes and reports their undiscounted returns.

        No episode is preferred for being short. In the graph there are as many copies
        as episodes, and the first of each counts; on the host, with N copies, copy i
        plays the episodes i, i + N, i + 2 N, ...

        Args:
          environment: as `tfzoo.environments.make` returns it; it is left as it is.
          episodes: how many.
          seed: an integer; seeds the environments' first states and the actions.
          greedy: whether the likeliest action is taken or one is drawn.

        Returns:
          A dict: "mean", "std" (of the episodes), "returns" and "lengths" (arrays of
          length `episodes`).

        Raises:
          ValueError: if `episodes` is not positive.
        """
        check_positive_integer("episodes", episodes)
        if isinstance(environment, InGraphEnvironment):
            returns, lengths = self._evaluate_in_graph(
                environment, episodes, seed, greedy
            )
        else:
            returns, lengths = self._evaluate_on_host(
                environment, episodes, seed, greedy
            )
        return {
            "mean": float(np.mean(returns)),
            "std": float(np.std(returns)),
            "returns": returns,
            "lengths": lengths,
        }

    def export(self, filepath, format="tf_saved_model", verbose=None):
        """Exports the policy for serving, with the signatures of `endpoints`.

        The batch size is free. Normalisation is included. An earlier export at
        `filepath` is replaced only once the new one is complete.

        Args:
          filepath: a directory for "tf_saved_model", a file for "litert".
          format: "tf_saved_model" or "litert", which holds "serving_default" only.
          verbose: whether Keras prints the signatures.

        Raises:
          ValueError: if `format` is not one of those, or if there is something else at
            `filepath`.
        """
        export_policy(self, filepath, format=format, verbose=verbose)

    def act(self, observation, seed, *, greedy=False):
        """Returns actions for a batch of observations, drawn or greedy.

        Args:
          observation: [B, ...].
          seed: int32 [2]; the draw depends on nothing else.
          greedy: whether to take the likeliest action.
        """
        raise NotImplementedError

    def initial_memory(self, num_envs):
        """Returns what is remembered when an episode begins, zeros [N, ...], nested.

        Most agents remember nothing, and this is ().
        """
        del num_envs
        return ()

    def act_from_memory(self, observation, memory, seed, *, greedy=False):
        """Returns (actions, the memory after them); see `act`.

        Args:
          observation: [B, ...].
          memory: as `initial_memory` or the last call returned it.
          seed, greedy: see `act`.
        """
        return self.act(observation, seed, greedy=greedy), memory

    def _evaluate_in_graph(self, environment, episodes, seed, greedy):
        # Whatever of the environment can make another function.
        key = (
            "evaluate",
            type(environment),
            environment.max_episode_steps,
            environment.action_bounds,
            episodes,
            greedy,
        )
        if key not in self._functions:
            copies = environment.with_num_envs(episodes)

            def play(seed):
                def step(t, alive, state, observation, memory, returns, lengths):
                    action_seed, step_seed = tf.unstack(
                        random.split(random.fold_in(seed, t), 2)
                    )
                    action, memory = self.act_from_memory(
                        observation, memory, action_seed, greedy=greedy
                    )
                    state, now = copies.step(state, action, step_seed)
                    returns += tf.where(alive, now.reward, 0.0)
                    lengths += tf.cast(alive, tf.int32)
                    alive &= ~(now.terminated | now.truncated)
                    observation = now.observation
                    return t + 1, alive, state, observation, memory, returns, lengths

                state, observation = copies.reset(random.fold_in(seed, -2))
                *_, returns, lengths = tf.while_loop(
                    lambda t, alive, *_: tf.reduce_any(alive),
                    step,
                    (
                        0,
                        tf.ones([episodes], tf.bool),
                        state,
                        observation,
                        self.initial_memory(episodes),
                        tf.zeros([episodes]),
                        tf.zeros([episodes], tf.int32),
                    ),
                )
                return returns, lengths

            self._functions[key] = self.compile_function(play)
        returns, lengths = self._functions[key](random.make_seed(seed))
        return np.asarray(returns), np.asarray(lengths)

    def _evaluate_on_host(self, environment, episodes, seed, greedy):
        key = ("act", greedy)
        if key not in self._functions:
            self._functions[key] = self.compile_function(
                lambda observation, memory, seed, t: self.act_from_memory(
                    observation, memory, random.fold_in(seed, t), greedy=greedy
                )
            )
        seed_tensor = random.make_seed(seed)
        returns, lengths = np.zeros(episodes), np.zeros(episodes, int)
        num_envs = min(episodes, environment.num_envs)
        with environment.with_num_envs(num_envs) as copies:
            # Copy i plays the episodes i, i + num_envs, i + 2 num_envs, ...
            current = np.arange(num_envs)
            observation, t = copies.reset(seed), 0
            memory = self.initial_memory(num_envs)
            while (playing := current < episodes).any():
                action, memory = self._functions[key](
                    observation, memory, seed_tensor, np.int32(t)
                )
                step = copies.step(np.asarray(action))
                observation, t = step.observation, t + 1
                returns[current[playing]] += step.reward[playing]
                lengths[current[playing]] += 1
                done = step.terminated | step.truncated
                current += np.where(done, num_envs, 0)
                memory = tf.nest.map_structure(partial(forget, done=done), memory)
        return returns, lengths


def _whole_number(name, value):
    """Returns `value` as an int; 1e6 is one, too.

    Raises:
      ValueError: if it is negative or has a fraction.
    """
    if not 0 <= value < math.inf or value != int(value):
        raise ValueError(f"{name} must be a whole number, got {value}")
    return int(value)
