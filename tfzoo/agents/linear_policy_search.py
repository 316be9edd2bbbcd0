"""Random search and hill climbing over linear policies.

The policy has one weight for each feature and takes action 1 where w . o >= 0, else 0.
A try plays one or several episodes with one w; the search is solved by the first try
that improves on all before it and whose mean return reaches `solved_at`.

  random search:  w ~ U(-1, 1)^D, afresh in each try
  hill climbing:  w_0 ~ U(-1, 1)^D;  w = w_best + noise * u,  u ~ U(-1, 1)^D;
                  w_best <- w if the return of w is strictly greater than the best

These are the first two methods of OpenAI's request for research "cartpole" (2016), as
K. Frans, "Simple reinforcement learning methods to learn CartPole" (2016), ran them:
w_0 itself is never tried, and the best return is measured once, by however lucky an
episode. Hill climbing then gets stuck on more than half of all w_0. He names two
repairs, and both are arguments here: noise that grows while nothing improves
(`noise_growth`), and returns summed over several episodes (`episodes_per_try`).

Every copy of the environment is a trial of its own, and the search of all trials is
one loop over environment steps that XLA compiles as a whole: a trial whose try is over
draws the next weights while the others play on, and the loop ends with the last trial.

  environment = make("CartPole-v0", num_envs=1000)
  search = tf.function(functools.partial(hill_climbing, environment), jit_compile=True)
  trials = search(random.make_seed(0))
"""

from typing import Any, NamedTuple

import gymnasium as gym
import tensorflow as tf

from tfzoo import random
from tfzoo.environments import InGraphEnvironment, UnsupportedSpaceError


class Trials(NamedTuple):
    """What N searches found.

    Attributes:
      solved: bool [N].
      tries: int32 [N], tries up to the one that solved it, or `max_tries`.
      env_steps: int32 [N], environment steps of all these tries.
      weights: float32 [N, D], the best.
      best_return: float32 [N], their mean return in the try that made them the best.
    """

    solved: tf.Tensor
    tries: tf.Tensor
    env_steps: tf.Tensor
    weights: tf.Tensor
    best_return: tf.Tensor


def random_search(
    environment, seed, *, max_tries=10_000, episodes_per_try=1, solved_at=None
):
    """Tries weights at random until one set of them solves the environment.

    Args:
      environment: an in-graph environment of N copies with a vector observation of D
        features and two actions.
      seed: int32 [2].
      max_tries: the number of tries after which a trial gives up.
      episodes_per_try: the number of episodes over which the return of a try is summed.
      solved_at: the mean return of a try that solves the environment; by default its
        time limit, the most that an environment with a reward of 1 a step can give.

    Returns:
      Trials

    Raises:
      UnsupportedSpaceError: if the policy does not fit the environment's spaces.
      ValueError: if the environment is not in the graph or a number is out of range.
    """

    def propose(best_weights, failures, seed):
        del failures
        return random.uniform(tf.shape(best_weights), seed, -1.0, 1.0)

    return _search(environment, propose, seed, max_tries, episodes_per_try, solved_at)


def hill_climbing(
    environment,
    seed,
    *,
    noise=0.1,
    noise_growth=1.0,
    max_noise=10.0,
    max_tries=2_000,
    episodes_per_try=1,
    solved_at=None,
):
    """Tries weights near the best ones and keeps those that are better.

    Args:
      environment, seed, max_tries, episodes_per_try, solved_at: see `random_search`.
      noise: half the width of the uniform noise on each weight.
      noise_growth: the factor, at least 1, by which each try without an improvement
        multiplies the noise; an improvement sets it back.
      max_noise: where the growth ends. The policy depends on the direction of the
        weights alone, and noise of many times their length makes all directions about
        equally likely: more noise changes nothing.

    Returns:
      Trials

    Raises:
      UnsupportedSpaceError, ValueError: as `random_search` does.
    """
    if not 0 < noise <= max_noise:
        raise ValueError(
            f"noise must be greater than 0 and at most max_noise={max_noise}, "
            f"got {noise}"
        )
    if not noise_growth >= 1:
        raise ValueError(f"noise_growth must be at least 1, got {noise_growth}")

    def propose(best_weights, failures, seed):
        scale = grown_noise(failures, noise, noise_growth, max_noise)
        uniform = random.uniform(tf.shape(best_weights), seed, -1.0, 1.0)
        return best_weights + scale[:, tf.newaxis] * uniform

    return _search(environment, propose, seed, max_tries, episodes_per_try, solved_at)


def grown_noise(failures, noise, noise_growth, max_noise):
    """Returns min(noise * noise_growth ** failures, max_noise).

    Args:
      failures: int32 [N], tries since the last improvement.
      noise, noise_growth, max_noise: see `hill_climbing`.

    Returns:
      float32 [N]
    """
    growth = tf.pow(float(noise_growth), tf.cast(failures, tf.float32))
    return tf.minimum(noise * growth, max_noise)


def linear_policy(weights, observation):
    """Returns action 1 where the inner product is not negative, else 0.

    Args:
      weights, observation: float32 [N, D].

    Returns:
      int32 [N]
    """
    return tf.cast(tf.reduce_sum(weights * observation, axis=1) >= 0, tf.int32)


def mean_return(environment, weights, seed, *, episodes=100):
    """Returns what each of N linear policies reaches in fresh episodes, float32 [N].

    Args:
      environment: see `random_search`.
      weights: float32 [N, D].
      seed: int32 [2].
      episodes: the number of episodes for each policy.

    Raises:
      UnsupportedSpaceError, ValueError: as `random_search` does.
    """
    # A single try of the given weights is a search that proposes nothing else.
    one_try = _search(environment, lambda *_: weights, seed, 1, episodes, None)
    return one_try.best_return


class _Loop(NamedTuple):
    """The state of the search between two environment steps."""

    environment_state: Any
    observation: tf.Tensor  # [N, D]
    weights: tf.Tensor  # [N, D], on trial now
    episodes: tf.Tensor  # int32 [N], finished in this try
    total_return: tf.Tensor  # [N], of this try
    failures: tf.Tensor  # int32 [N], tries since the last improvement
    best_weights: tf.Tensor  # [N, D]
    best_total: tf.Tensor  # [N], the greatest total_return
    solved: tf.Tensor  # bool [N]
    tries: tf.Tensor  # int32 [N], finished
    env_steps: tf.Tensor  # int32 [N]


def _search(environment, propose, seed, max_tries, episodes_per_try, solved_at):
    """Runs all trials until each is solved or has used up its tries.

    Args:
      propose: a function (best_weights [N, D], failures [N], seed) -> weights [N, D].
      environment, seed, max_tries, episodes_per_try, solved_at: see `random_search`.

    Returns:
      Trials
    """
    _check_environment(environment)
    if solved_at is None:
        solved_at = environment.max_episode_steps
    for name, number in (
        ("max_tries", max_tries),
        ("episodes_per_try", episodes_per_try),
    ):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    shape = [environment.num_envs, *environment.observation_space.shape]

    def step(t, loop):
        propose_seed, step_seed = tf.unstack(random.split(random.fold_in(seed, t), 2))
        environment_state, now = environment.step(
            loop.environment_state,
            linear_policy(loop.weights, loop.observation),
            step_seed,
        )
        searching = is_searching(loop)
        episodes = loop.episodes + tf.cast(now.terminated | now.truncated, tf.int32)
        total_return = loop.total_return + now.reward

        tried = episodes == episodes_per_try
        improved = searching & tried & (total_return > loop.best_total)
        best_weights = tf.where(
            improved[:, tf.newaxis], loop.weights, loop.best_weights
        )
        failures = tf.where(improved, 0, loop.failures + tf.cast(tried, tf.int32))
        solved = improved & (total_return >= solved_at * episodes_per_try)
        return t + 1, _Loop(
            environment_state=environment_state,
            observation=now.observation,
            weights=tf.where(
                tried[:, tf.newaxis],
                propose(best_weights, failures, propose_seed),
                loop.weights,
            ),
            episodes=tf.where(tried, 0, episodes),
            total_return=tf.where(tried, 0.0, total_return),
            failures=failures,
            best_weights=best_weights,
            best_total=tf.where(improved, total_return, loop.best_total),
            solved=loop.solved | solved,
            tries=loop.tries + tf.cast(searching & tried, tf.int32),
            env_steps=loop.env_steps + tf.cast(searching, tf.int32),
        )

    def is_searching(loop):
        return ~loop.solved & (loop.tries < max_tries)

    start_seed, propose_seed, reset_seed = tf.unstack(random.split(seed, 3))
    state, observation = environment.reset(reset_seed)
    start = random.uniform(shape, start_seed, -1.0, 1.0)
    zeros = tf.zeros(shape[:1], tf.int32)
    _, end = tf.while_loop(
        lambda t, loop: tf.reduce_any(is_searching(loop)),
        step,
        (
            tf.constant(0),
            _Loop(
                environment_state=state,
                observation=observation,
                weights=propose(start, zeros, propose_seed),
                episodes=zeros,
                total_return=tf.zeros(shape[:1]),
                failures=zeros,
                best_weights=start,
                best_total=tf.fill(shape[:1], float("-inf")),
                solved=tf.zeros(shape[:1], tf.bool),
                tries=zeros,
                env_steps=zeros,
            ),
        ),
    )
    return Trials(
        solved=end.solved,
        tries=end.tries,
        env_steps=end.env_steps,
        weights=end.best_weights,
        best_return=end.best_total / episodes_per_try,
    )


def _check_environment(environment):
    """Raises an error unless a linear policy can play it in the graph."""
    if not isinstance(environment, InGraphEnvironment):
        raise ValueError(f"{environment.id} is not an in-graph environment")
    observation_space, action_space = (
        environment.observation_space,
        environment.action_space,
    )
    if not isinstance(action_space, gym.spaces.Discrete) or action_space.n != 2:
        raise UnsupportedSpaceError(
            f"the action space {action_space} of {environment.id} is not supported by "
            "a linear policy; Discrete(2) is"
        )
    if not isinstance(observation_space, gym.spaces.Box) or (
        len(observation_space.shape) != 1
    ):
        raise UnsupportedSpaceError(
            f"the observation space {observation_space} of {environment.id} is not "
            "supported by a linear policy; a Box of one dimension is"
        )
