"""The trajectory buffer keeps steps in order, and what a trajectory says of them."""

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from tfzoo import environments
from tfzoo.agents import Trajectory, TrajectoryBuffer
from tfzoo.agents.on_policy import first_episodes
from tfzoo.agents.trajectory import HostCollector


def step(t):
    return {
        "observation": np.full((2, 3), t, np.float32),
        "action": np.full(2, t, np.int32),
        "reward": np.full(2, t, np.float32),
        "terminated": np.array([t == 1, False]),
        "truncated": np.array([False, t == 2]),
        "final_observation": np.full((2, 3), t + 1, np.float32),
    }


def test_keeps_steps_in_order_and_is_used_again():
    buffer = TrajectoryBuffer(3)
    for t in range(3):
        buffer.add(**step(t))
    first = buffer.trajectory()
    np.testing.assert_array_equal(first.action, [[0, 0], [1, 1], [2, 2]])
    np.testing.assert_array_equal(
        first.done, [[False, False], [True, False], [False, True]]
    )
    assert first.observation.dtype == np.float32
    with pytest.raises(IndexError, match="it holds 3 steps"):
        buffer.add(**step(3))
    buffer.clear()
    buffer.add(**step(9))
    assert buffer.trajectory().action is first.action
    np.testing.assert_array_equal(first.action[0], [9, 9])


def test_first_episodes_end_with_their_last_step():
    done = tf.constant([[False, True], [True, False], [False, False]])
    np.testing.assert_array_equal(
        first_episodes(done), [[True, True], [True, False], [False, False]]
    )


def test_collector_records_the_transitions_of_the_environment():
    """Replays what was collected in fresh environments of the same seeds."""
    environment = environments.make("CartPole-v1", 3, vectorization="sync")
    collector = HostCollector(environment, 60, whole_episodes=False)
    rng = np.random.default_rng(0)
    trajectory, sums = collector.collect(lambda *_: (rng.integers(0, 2, 3), ()), seed=7)
    assert isinstance(trajectory, Trajectory)
    assert sums["episodes"] == trajectory.done.sum() > 0
    for copy, seed in enumerate(np.random.SeedSequence(7).generate_state(3)):
        replay = gym.make("CartPole-v1")
        observation, _ = replay.reset(seed=int(seed))
        for t in range(60):
            np.testing.assert_allclose(
                trajectory.observation[t, copy], observation, rtol=1e-6
            )
            observation, _, terminated, truncated, _ = replay.step(
                int(trajectory.action[t, copy])
            )
            np.testing.assert_allclose(
                trajectory.final_observation[t, copy], observation, rtol=1e-6
            )
            assert trajectory.terminated[t, copy] == terminated
            if terminated or truncated:
                observation, _ = replay.reset()
    whole = [
        int(t)
        for copy in range(3)
        for t in np.diff(np.flatnonzero(np.r_[True, trajectory.done[:, copy]]))
    ]
    assert sums["episode_length"] == sum(whole) == sums["episode_return"]
