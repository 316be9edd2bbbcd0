"""Random search and hill climbing over linear policies.

The policy has one weight for each feature and takes action 1 where w . o >= 0, else 0.
A try plays one or several episodes with one w; the search is solved by the first try
that improves on all before it and whose mean return reaches `solved_at`.

  random search:  w ~ U(-1, 1)^D, afresh in each try
  hill climbing:  w_0 ~ U(-1, 1)^D;  w = w_best + noise * u,  u ~ U(-1, 1)^D;
                  w_best <- w if the return of w is strictly greater than the best

These are the first two methods of OpenAI's request for research on CartPole (2016), as
K. Frans, "Simple reinforcement learning methods to learn CartPole" (2016), ran them:
w_0 itself is never tried, and a return that was lucky stays the best for ever. Hill
climbing then gets stuck from more than half of all w_0. He names two repairs, and both
are arguments here: noise that grows while nothing improves (`noise_growth`), and
returns summed over several episodes (`episodes_per_try`).

Thousands of independent trials are one loop over environment steps, which XLA compiles
as a whole. Each copy of the environment is at its own try of its own trial; a copy
whose trial is over takes up the next.

  environment = make("CartPole-v0", num_envs=128)
  search = tf.function(
      lambda seed: hill_climbing(environment, seed, num_trials=1000), jit_compile=True
  )
  trials = search(random.make_seed(0))
  stuck = 1 - np.mean(trials.solved)
"""

from typing import Any, NamedTuple

import gymnasium as gym
import tensorflow as tf

from tfzoo import random
from tfzoo.environments import InGraphEnvironment, UnsupportedSpaceError


class Trials(NamedTuple):
    """What M trials found.

    Attributes:
      solved: bool [M].
      tries: int32 [M], tries up to the one that solved it, or `max_tries`.
      env_steps: int32 [M], environment steps of all these tries.
      weights: float32 [M, D], the best.
      best_return: float32 [M], their mean return in the try that made them the best.
    """

    solved: tf.Tensor
    tries: tf.Tensor
    env_steps: tf.Tensor
    weights: tf.Tensor
    best_return: tf.Tensor


def random_search(
    environment,
    seed,
    *,
    num_trials=None,
    max_tries=10_000,
    episodes_per_try=1,
    solved_at=None,
):
    """Tries weights at random until one set of them solves the environment.

    Args:
      environment: an in-graph environment of N copies with a vector observation of D
        features and two actions.
      seed: int32 [2].
      num_trials: M, the number of trials; by default N. Where trials differ much in
        length, a small N keeps few copies waiting for the last trial.
      max_tries: after how many tries a trial gives up.
      episodes_per_try: over how many episodes the return of a try is summed.
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

    return _search(
        environment,
        propose,
        seed,
        num_trials=num_trials,
        max_tries=max_tries,
        episodes_per_try=episodes_per_try,
        solved_at=solved_at,
    )


def hill_climbing(
    environment,
    seed,
    *,
    noise=0.1,
    noise_growth=1.0,
    max_noise=10.0,
    num_trials=None,
    max_tries=2_000,
    episodes_per_try=1,
    solved_at=None,
):
    """Tries weights near the best ones and keeps those that are better.

    Args:
      environment, seed, num_trials, max_tries, episodes_per_try, solved_at: see
        `random_search`.
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

    return _search(
        environment,
        propose,
        seed,
        num_trials=num_trials,
        max_tries=max_tries,
        episodes_per_try=episodes_per_try,
        solved_at=solved_at,
    )


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
      weights: float32 [N, D], or [D] for the same in all copies.
      observation: float32 [N, D].

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
    return _search(
        environment,
        lambda *_: weights,
        seed,
        num_trials=None,
        max_tries=1,
        episodes_per_try=episodes,
        solved_at=None,
    ).best_return


def check_environment(environment):
    """Raises an error unless a linear policy can play the environment in the graph.

    Raises:
      UnsupportedSpaceError: if the policy does not fit its spaces.
      ValueError: if it is not an in-graph environment.
    """
    if not isinstance(environment, InGraphEnvironment):
        raise ValueError(
            f"{environment.id} is not an in-graph environment; of those, CartPole-v0 "
            "and CartPole-v1 suit a linear policy of two actions"
        )
    observation_space = environment.observation_space
    action_space = environment.action_space
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


def export_linear_policy(weights, filepath):
    """Writes a SavedModel whose signature maps `observation` [B, D] to `action` [B].

    Args:
      weights: float32 [D].
      filepath: of the folder; what is there is replaced.
    """
    policy = tf.Module()
    policy.weights = tf.constant(weights, tf.float32)
    policy.act = tf.function(
        lambda observation: {"action": linear_policy(policy.weights, observation)},
        input_signature=[
            tf.TensorSpec([None, len(weights)], tf.float32, name="observation")
        ],
        autograph=False,
    )
    tf.saved_model.save(policy, str(filepath), signatures=policy.act)


class _Loop(NamedTuple):
    """The state between two environment steps of N copies."""

    environment_state: Any
    observation: tf.Tensor  # [N, D]
    # The try that each copy is at.
    weights: tf.Tensor  # [N, D]
    episodes: tf.Tensor  # int32 [N], finished
    total_return: tf.Tensor  # [N]
    # The trial that each copy is at.
    trial: tf.Tensor  # int32 [N], its number
    best_weights: tf.Tensor  # [N, D]
    best_total: tf.Tensor  # [N], their total_return
    failures: tf.Tensor  # int32 [N], tries since the last improvement
    tries: tf.Tensor  # int32 [N], finished
    env_steps: tf.Tensor  # int32 [N]
    # All trials.
    begun: tf.Tensor  # int32 []
    trials: Trials  # of num_trials + 1 rows; what the last one holds is of no use


def _search(
    environment, propose, seed, *, num_trials, max_tries, episodes_per_try, solved_at
):
    """Runs trials until each is solved or has used up its tries.

    Args:
      propose: a function (best_weights [N, D], failures [N], seed) -> weights [N, D].
      environment, seed, num_trials, max_tries, episodes_per_try, solved_at: see
        `random_search`.

    Returns:
      Trials
    """
    check_environment(environment)
    if num_trials is None:
        num_trials = environment.num_envs
    if solved_at is None:
        solved_at = environment.max_episode_steps
    for name, number in (
        ("num_trials", num_trials),
        ("max_tries", max_tries),
        ("episodes_per_try", episodes_per_try),
    ):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    num_envs = environment.num_envs
    num_features = environment.observation_space.shape[0]
    solved_total = float(solved_at * episodes_per_try)

    def step(t, loop):
        propose_seed, step_seed, begin_seed = tf.unstack(
            random.split(random.fold_in(seed, t), 3)
        )
        loop = play(loop, propose_seed, step_seed)
        over = (loop.best_total >= solved_total) | (loop.tries >= max_tries)
        loop = tf.cond(
            tf.reduce_any(over), lambda: begin(loop, over, begin_seed), lambda: loop
        )
        return t + 1, loop

    def play(loop, propose_seed, step_seed):
        """Steps the environment and, where that ends a try, judges the weights."""
        environment_state, now = environment.step(
            loop.environment_state,
            linear_policy(loop.weights, loop.observation),
            step_seed,
        )
        episodes = loop.episodes + tf.cast(now.terminated | now.truncated, tf.int32)
        total_return = loop.total_return + now.reward
        tried = episodes == episodes_per_try
        improved = tried & (total_return > loop.best_total)
        best_weights = _where(improved, loop.weights, loop.best_weights)
        failures = tf.where(improved, 0, loop.failures + tf.cast(tried, tf.int32))
        return loop._replace(
            environment_state=environment_state,
            observation=now.observation,
            weights=_where(
                tried, propose(best_weights, failures, propose_seed), loop.weights
            ),
            episodes=tf.where(tried, 0, episodes),
            total_return=tf.where(tried, 0.0, total_return),
            best_weights=best_weights,
            best_total=tf.where(improved, total_return, loop.best_total),
            failures=failures,
            tries=loop.tries + tf.cast(tried, tf.int32),
            env_steps=loop.env_steps + 1,
        )

    def begin(loop, over, seed):
        """Records the trials that are over and begins others in their copies."""
        # Copies for which no trial is left play on under numbers beyond the last.
        rows = tf.minimum(tf.where(over, loop.trial, num_trials), num_trials)
        found = Trials(
            solved=loop.best_total >= solved_total,
            tries=loop.tries,
            env_steps=loop.env_steps,
            weights=loop.best_weights,
            best_return=loop.best_total / episodes_per_try,
        )
        start_seed, propose_seed = tf.unstack(random.split(seed, 2))
        start = random.uniform([num_envs, num_features], start_seed, -1.0, 1.0)
        first = propose(start, tf.zeros([num_envs], tf.int32), propose_seed)
        count = tf.cumsum(tf.cast(over, tf.int32))
        return loop._replace(
            weights=_where(over, first, loop.weights),
            trial=tf.where(over, loop.begun + count - 1, loop.trial),
            # So the first try is an improvement, which replaces the best weights and
            # sets the failures to 0.
            best_total=tf.where(over, float("-inf"), loop.best_total),
            tries=tf.where(over, 0, loop.tries),
            env_steps=tf.where(over, 0, loop.env_steps),
            begun=loop.begun + count[-1],
            trials=tf.nest.map_structure(
                lambda rows_so_far, new: tf.tensor_scatter_nd_update(
                    rows_so_far, rows[:, tf.newaxis], new
                ),
                loop.trials,
                found,
            ),
        )

    reset_seed, begin_seed = tf.unstack(random.split(seed, 2))
    environment_state, observation = environment.reset(reset_seed)
    integers, floats = tf.zeros([num_envs], tf.int32), tf.zeros([num_envs])
    features = tf.zeros([num_envs, num_features])
    nothing = _Loop(
        environment_state=environment_state,
        observation=observation,
        weights=features,
        episodes=integers,
        total_return=floats,
        trial=integers + num_trials,
        best_weights=features,
        best_total=floats,
        failures=integers,
        tries=integers,
        env_steps=integers,
        begun=tf.constant(0),
        trials=Trials(
            solved=tf.zeros([num_trials + 1], tf.bool),
            tries=tf.zeros([num_trials + 1], tf.int32),
            env_steps=tf.zeros([num_trials + 1], tf.int32),
            weights=tf.zeros([num_trials + 1, num_features]),
            best_return=tf.zeros([num_trials + 1]),
        ),
    )
    _, loop = tf.while_loop(
        lambda t, loop: tf.reduce_any(loop.trial < num_trials),
        step,
        (tf.constant(0), begin(nothing, tf.ones([num_envs], tf.bool), begin_seed)),
    )
    return tf.nest.map_structure(lambda rows: rows[:num_trials], loop.trials)


def _where(mask, new, old):
    """Takes `new` [N, D] where `mask` [N] is true and `old` elsewhere."""
    return tf.where(mask[:, tf.newaxis], new, old)
