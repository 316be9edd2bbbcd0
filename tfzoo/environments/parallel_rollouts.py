"""Worker processes that act in copies of an environment with a policy of their own.

A `HostEnvironment` takes a call of the policy, and a message to and from each worker
process, for every step. Here a worker gets the weights of the policy, acts for as many
steps as it is told to, and returns them all in one message. It has the policy in NumPy,
and never imports TensorFlow.
"""

import contextlib
import json
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time
import weakref
from multiprocessing.connection import wait

import cloudpickle
import numpy as np
from gymnasium import spaces

from tfzoo.environments.environment import Environment
from tfzoo.environments.errors import UnsupportedSpaceError, check_positive_integer
from tfzoo.environments.gymnasium_recipe import recipe_for
from tfzoo.environments.host import HostEnvironment
from tfzoo.environments.rollout_worker import Copies

# The program of a worker. It loads the modules that it needs, and whose classes
# messages name, without the __init__ of their package, which imports TensorFlow.
_PROGRAM = """
import json, signal, sys, types
for number in (signal.SIGINT, signal.SIGTERM):
    # A handler, as programs that an environment starts would go on ignoring.
    signal.signal(number, lambda *_: None)
descriptor, directory, sys.path[:] = json.loads(sys.argv[1])
package = types.ModuleType("tfzoo.environments")
package.__path__ = [directory]
sys.modules["tfzoo.environments"] = package
import tfzoo.environments.gymnasium_recipe
import tfzoo.environments.numpy_policy
from tfzoo.environments.rollout_worker import serve
del sys.modules["tfzoo.environments"]
from multiprocessing.connection import Connection
serve(Connection(descriptor))
"""

# Workers are what runs in parallel; threads of linear algebra would only crowd them.
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)

# How often it is looked whether workers that say nothing still live.
_CHECK_SECONDS = 1.0
# How long all workers together may take to end by themselves.
_GRACE_SECONDS = 1.0


class RolloutWorkerError(RuntimeError):
    """A worker process failed; the message has which one, and why."""


class ParallelRollouts(Environment):
    """Copies of a Gymnasium environment, dealt to worker processes that act in them.

      policy = NumpyPolicy([(kernel, bias), ...], "tanh", log_stddev=log_stddev)
      with ParallelRollouts("Reacher-v5", num_envs=8, num_workers=2) as rollouts:
        fields, sums = rollouts.collect(policy, steps=20_000, seed=(0, iteration))
        trajectory = Trajectory(**fields)

    What is collected is the same, bit for bit, whatever the number of workers: each
    copy has random numbers of its own, and nothing that is computed for a copy depends
    on those beside it. Statistics of it are therefore the same, too. Numbers of steps
    may change from call to call.

    To step by itself, `with_num_envs` gives the same environment.

    Args:
      id: a registered Gymnasium id.
      num_envs: N, the number of copies.
      num_workers: how many processes they are dealt to, at most N; 0 steps them all in
        this process, which is fastest where there is one core.
      max_episode_steps: the time limit, or None for the registered one.
      action_bounds, reward_transform: see `Environment`.
      **environment_kwargs: arguments of the environment itself.

    Raises:
      UnknownEnvironmentError: if no such environment is registered.
      UnsupportedSpaceError: if observations are bytes, as images are, or actions are
        neither Discrete nor a Box.
      MissingPackageError: if a package that it needs is missing.
      RolloutWorkerError: if a worker cannot make its copies.
      ValueError: if another argument is not one of the above.
    """

    def __init__(
        self,
        id,
        num_envs,
        num_workers,
        *,
        max_episode_steps=None,
        action_bounds="clip",
        reward_transform=None,
        **environment_kwargs,
    ):
        described = {
            "max_episode_steps": max_episode_steps,
            "action_bounds": action_bounds,
            "reward_transform": reward_transform,
        }
        super().__init__(id=id, num_envs=num_envs, **described)
        is_integer = isinstance(num_workers, (int, np.integer))
        if not is_integer or not 0 <= num_workers <= num_envs:
            raise ValueError(
                "num_workers must be an integer from 0 to the number of copies, "
                f"num_envs={num_envs}, got {num_workers!r}"
            )
        self.num_workers = num_workers
        self._arguments = {**described, **environment_kwargs}
        # Anything that is wrong with the environment shows here.
        with self.with_num_envs(1) as single:
            self.max_episode_steps = single.max_episode_steps
            self._set_spaces(single.observation_space, single.action_space, arrays=np)
        self._check_spaces()

        recipe = recipe_for(id, max_episode_steps, **environment_kwargs)
        self._local, self._workers = None, []
        self._end = weakref.finalize(self, _end, self._workers)
        dealt = np.array_split(range(num_envs), max(1, num_workers))
        arguments = [
            (recipe, indices.tolist(), self.observation_space, self._map_action)
            for indices in dealt
        ]
        if num_workers == 0:
            self._local = Copies(*arguments[0])
            return
        with self._closed_on_error():
            for number, indices in enumerate(dealt):
                copies = f"copies {indices[0]} to {indices[-1]} of {id}"
                self._workers.append(_Worker(f"worker {number} ({copies})"))
            self._ask(arguments)

    def _check_spaces(self):
        observed, acted = self.observation_space, self.action_space
        if observed.dtype == np.uint8:
            raise UnsupportedSpaceError(
                f"the observations of {self.id} are bytes, as images are; workers have "
                "no network for them, but a HostEnvironment steps it"
            )
        if not isinstance(acted, (spaces.Box, spaces.Discrete)):
            raise UnsupportedSpaceError(
                f"the action space of {self.id} is {acted}; workers act in Box and "
                "Discrete, but a HostEnvironment steps it"
            )

    def collect(self, policy, steps, seed, new_episodes=False):
        """Acts in all copies; episodes go on from call to call.

        Each copy takes T = ceil(steps / N) steps. Where an episode ends, the copy
        begins a new one. The first call begins the first episodes: after a run was
        resumed, episodes are new, and all random numbers follow from `seed`.

        Args:
          policy: a `NumpyPolicy`.
          steps: how many environment steps to take, over all copies; where they are
            not a multiple of N, up to N - 1 more are taken.
          seed: a non-negative integer or a sequence of them, such as the seed of a run
            and the number of the iteration. All random numbers of the call follow from
            it, save those that the environments go on drawing themselves.
          new_episodes: whether all copies leave their episodes and begin new ones, as
            in the first call.

        Returns:
          (fields, sums). `fields` is a dict of arrays [T, N, ...], the fields of
          `tfzoo.agents.Trajectory`: "observation", "action" (the policy's own, float32
          [T, N, D] or int32 [T, N], before `action_bounds`), "reward", "terminated",
          "truncated" and "final_observation". `sums` is a dict of floats: "episodes",
          "episode_return" and "episode_length", summed over the episodes that ended,
          of whatever call they began in; "collect_seconds", the time of this call, and
          "acting_seconds", that of the slowest worker without its messages.

        Raises:
          RolloutWorkerError: if a worker fails; the others are ended.
          ValueError: if there are fewer steps than copies, if the policy does not fit
            the spaces, or if an argument is not one of the above.
        """
        start = time.perf_counter()
        if not self._end.alive:
            raise ValueError(f"{self!r} is closed; make another")
        check_positive_integer("steps", steps)
        if steps < self.num_envs:
            raise ValueError(
                f"steps must be at least num_envs={self.num_envs}, a step for each "
                f"copy, got {steps}"
            )
        self._check_policy(policy)
        _check_seed(seed)
        arguments = policy, -(-steps // self.num_envs), seed, new_episodes
        with self._closed_on_error():
            if self._local is not None:
                parts = [self._local.collect(*arguments)]
            else:
                parts = self._ask([arguments] * self.num_workers)
        fields, ended, acting_seconds = zip(*parts, strict=True)
        fields = {
            name: np.concatenate([part[name] for part in fields], axis=1)
            for name in fields[0]
        }
        # Summed copy by copy, so that the order of summation is always the same.
        episodes, returns, lengths = sum(np.concatenate(ended)).tolist()
        return fields, {
            "episodes": episodes,
            "episode_return": returns,
            "episode_length": lengths,
            "collect_seconds": time.perf_counter() - start,
            "acting_seconds": max(acting_seconds),
        }

    def _check_policy(self, policy):
        observed, acted = self.observation_space, self.action_space
        is_discrete = isinstance(observed, spaces.Discrete)
        num_features = observed.n if is_discrete else np.prod(observed.shape)
        is_gaussian = isinstance(acted, spaces.Box)
        num_outputs = acted.shape[0] if is_gaussian else acted.n

        def described(is_gaussian, num_features, num_outputs):
            kind = "Gaussian" if is_gaussian else "categorical"
            return f"{kind} policy of {num_features} features and {num_outputs} outputs"

        needed = described(is_gaussian, num_features, num_outputs)
        given = described(policy.is_gaussian, policy.num_features, policy.num_outputs)
        if given != needed:
            raise ValueError(f"{self.id} needs a {needed}, got a {given}")

    def _ask(self, messages):
        """Sends a message to each worker and returns the answers, in their order."""
        for worker, message in zip(self._workers, messages, strict=True):
            worker.send(message)
        answers = {}
        waiting = {worker.connection: worker for worker in self._workers}
        while waiting:
            for connection in wait(list(waiting), _CHECK_SECONDS):
                worker = waiting.pop(connection)
                answers[worker] = worker.receive()
            for worker in waiting.values():
                worker.check()
        return [answers[worker] for worker in self._workers]

    @contextlib.contextmanager
    def _closed_on_error(self):
        # Some workers may still be at work, and answer when nobody asks.
        try:
            yield
        except BaseException:
            self.close()
            raise

    def with_num_envs(self, num_envs):
        """Returns a `HostEnvironment` of so many copies, to step one by one."""
        return HostEnvironment(self.id, num_envs, **self._arguments)

    def close(self):
        """Ends the copies and the workers; a second call does nothing."""
        self._end()
        if self._local is not None:
            self._local.close()
            self._local = None


class _Worker:
    """A worker process, as its owner has it.

    Args:
      name: what errors call it.
    """

    def __init__(self, name):
        self.name = name
        self.connection, theirs = multiprocessing.Pipe()
        directory = pathlib.Path(__file__).parent
        with theirs:
            descriptor = theirs.fileno()
            start = [descriptor, str(directory), [str(path) for path in sys.path]]
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, json.dumps(start)],
                pass_fds=[descriptor],
                env={**os.environ, **_ONE_THREAD},
                # Away from the terminal's Ctrl-C, from the very first moment.
                start_new_session=True,
            )

    def send(self, message):
        """Sends a message."""
        try:
            self.connection.send_bytes(cloudpickle.dumps(message))
        except OSError:
            raise self._death() from None

    def receive(self):
        """Returns the answer to a message, once there is one."""
        try:
            succeeded, answer = self.connection.recv()
        except (EOFError, OSError):
            raise self._death() from None
        if not succeeded:
            description, traceback = answer
            raise RolloutWorkerError(f"{self.name} raised {description}") from (
                RolloutWorkerError(f"in the worker:\n{traceback}")
            )
        return answer

    def check(self):
        """Raises RolloutWorkerError if it has died without an answer."""
        if self._process.poll() is not None and not self.connection.poll():
            raise self._death()

    def _death(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)
        status = self._process.returncode
        how = f"with status {status}"
        if status is not None and status < 0:
            how = f"by {signal.Signals(-status).name}"
        return RolloutWorkerError(f"{self.name} ended {how}")

    def end(self, deadline):
        """Waits for its end, until a time of `time.monotonic`; then kills it."""
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _end(workers):
    """Ends workers, which do so by themselves when their connection is closed."""
    for worker in workers:
        worker.connection.close()
    deadline = time.monotonic() + _GRACE_SECONDS
    for worker in workers:
        worker.end(deadline)


def _check_seed(seed):
    try:
        np.random.SeedSequence(seed)
    except (TypeError, ValueError):
        seed_is_fine = False
    else:
        # NumPy would draw another seed in every process.
        seed_is_fine = seed is not None
    if not seed_is_fine:
        raise ValueError(
            f"seed must be a non-negative integer or a sequence of them, got {seed!r}"
        )
