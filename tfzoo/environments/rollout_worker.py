"""What a worker process of `parallel_rollouts` does: it acts in its copies.

Neither this module nor what it imports may import TensorFlow.
"""

import contextlib
import os
import pickle
import time
import traceback

import numpy as np
from gymnasium import spaces

from tfzoo.environments.spaces import delivered_dtype


class Copies:
    """Some of the copies of an environment, each in the middle of an episode.

    Args:
      recipe: a `gymnasium_recipe.Recipe`, from which each copy is made.
      indices: which of all the copies these are, a list of integers. The random
        numbers of a copy depend on its index, and not on those beside it.
      observation_space: the Gymnasium space of the observations that policies get.
      map_action: the function from a policy's actions to the environment's.
      check_owner: called before every step; raises if nobody waits for it any more.
    """

    def __init__(
        self,
        recipe,
        indices,
        observation_space,
        map_action,
        *,
        check_owner=lambda: None,
    ):
        self._indices = indices
        self._space = observation_space
        self._map_action = map_action
        self._check_owner = check_owner
        self._environments = [recipe.make() for _ in indices]
        self._observation = None
        if isinstance(observation_space, spaces.Discrete):
            self._one_hot = np.eye(int(observation_space.n), dtype=np.float32)

    def collect(self, policy, num_steps, seed, new_episodes=False):
        """Acts for T steps in each of the n copies; episodes go on from call to call.

        Args:
          policy: a `NumpyPolicy`.
          num_steps: T.
          seed: an integer or a sequence of integers.
          new_episodes: whether to leave the episodes under way and begin new ones.

        Returns:
          A dict of arrays [T, n, ...], see `ParallelRollouts.collect`; the number, the
          summed returns and the summed lengths of the episodes that ended, float64
          [n, 3]; and the seconds that it took.
        """
        start = time.perf_counter()
        num_copies = len(self._indices)
        generators, reset_seeds = self._random_streams(seed)
        if self._observation is None or new_episodes:
            self._returns, self._lengths = [0.0] * num_copies, [0] * num_copies
            self._observation = [
                environment.reset(seed=reset_seed)[0]
                for environment, reset_seed in zip(
                    self._environments, reset_seeds, strict=True
                )
            ]
        noise = np.stack([policy.noise(g, num_steps) for g in generators], axis=1)

        def empty(length, dtype, *shape):
            return np.empty((length, num_copies, *shape), dtype)

        shape, dtype = self._space.shape, delivered_dtype(self._space)
        observations = empty(num_steps + 1, dtype, *shape)
        observations[0] = self._observation
        final_observations = empty(num_steps, dtype, *shape)
        actions = (
            empty(num_steps, np.float32, policy.num_outputs)
            if policy.is_gaussian
            else empty(num_steps, np.int32)
        )
        rewards = empty(num_steps, np.float32)
        terminations, truncations = empty(num_steps, bool), empty(num_steps, bool)
        ended = np.zeros((num_copies, 3))
        for t in range(num_steps):
            self._check_owner()
            actions[t] = action = policy.act(self._features(observations[t]), noise[t])
            action = self._map_action(action)
            for i, environment in enumerate(self._environments):
                observation, reward, terminated, truncated, _ = environment.step(
                    action[i]
                )
                final_observations[t, i] = observation
                rewards[t, i] = reward
                terminations[t, i] = terminated
                truncations[t, i] = truncated
                self._returns[i] += float(reward)
                self._lengths[i] += 1
                if terminated or truncated:
                    ended[i] += 1, self._returns[i], self._lengths[i]
                    self._returns[i], self._lengths[i] = 0.0, 0
                    observation, _ = environment.reset()
                observations[t + 1, i] = observation
        self._observation = observations[-1].copy()
        fields = {
            "observation": observations[:-1],
            "action": actions,
            "reward": rewards,
            "terminated": terminations,
            "truncated": truncations,
            "final_observation": final_observations,
        }
        return fields, ended, time.perf_counter() - start

    def _random_streams(self, seed):
        """Returns a generator of noise and a seed for a first reset, for each copy."""
        generators, reset_seeds = [], []
        for index in self._indices:
            for_noise, for_reset = np.random.SeedSequence(
                seed, spawn_key=(index,)
            ).spawn(2)
            generators.append(np.random.default_rng(for_noise))
            reset_seeds.append(int(for_reset.generate_state(1)[0]))
        return generators, reset_seeds

    def _features(self, observation):
        """Returns what the policy takes, float32 [n, F], of observations [n, ...]."""
        if isinstance(self._space, spaces.Discrete):
            return self._one_hot[observation - self._space.start]
        return observation.reshape(len(observation), -1)

    def close(self):
        """Closes the environments."""
        for environment in self._environments:
            environment.close()


def serve(connection):
    """Does what messages ask, until the other end of the connection is closed.

    The first message holds the arguments of `Copies`, every other those of
    `Copies.collect`. Each is answered by (True, the result), or by (False, the error
    and its traceback as texts).

    Args:
      connection: a `multiprocessing.connection.Connection`.
    """
    owner = os.getppid()

    def check_owner():
        # A killed owner leaves its processes to another parent.
        if os.getppid() != owner:
            raise SystemExit(1)

    with contextlib.ExitStack() as closing:
        # Raised once the owner has closed its end, or has died.
        closing.enter_context(contextlib.suppress(EOFError, ConnectionError))
        copies = None
        while True:
            message = connection.recv_bytes()
            try:
                arguments = pickle.loads(message)
                if copies is None:
                    copies = Copies(*arguments, check_owner=check_owner)
                    closing.callback(copies.close)
                    answer = True, None
                else:
                    answer = True, copies.collect(*arguments)
            except Exception as error:
                description = " ".join(f"{type(error).__name__}: {error}".split())
                answer = False, (description, traceback.format_exc())
            connection.send(answer)
