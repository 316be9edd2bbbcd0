"""Recorded episodes are those that the policy plays."""

import gymnasium as gym
import numpy as np
import pytest

from tfzoo.environments import record_episode


def test_an_episode_is_recorded_from_its_first_state_to_its_last():
    seen = []

    def policy(observation):
        assert observation.shape == (1, 4)
        assert observation.dtype == np.float32
        seen.append(observation[0])
        return np.array([1], np.int32)

    frames, episode_return = record_episode("CartPole-v1", policy, seed=5)
    reference = gym.make("CartPole-v1")
    observation, _ = reference.reset(seed=5)
    expected, done = [], False
    while not done:
        expected.append(observation)
        observation, _, done, _, _ = reference.step(1)
    np.testing.assert_array_equal(seen, expected)
    assert episode_return == len(expected)
    assert len(frames) == len(expected) + 1
    assert len({frame.tobytes() for frame in frames}) > len(expected) / 2
    for frame in frames:
        assert frame.dtype == np.uint8
        assert frame.shape == (400, 600, 3)


def test_time_limit_and_action_bounds_hold():
    def episode_return(action_bounds, action):
        frames, episode_return = record_episode(
            "MountainCarContinuous-v0",
            lambda observation: np.array([[action]], np.float32),
            seed=0,
            max_episode_steps=3,
            action_bounds=action_bounds,
        )
        assert len(frames) == 4
        return episode_return

    assert episode_return("clip", 2.0) == pytest.approx(-0.3)
    assert episode_return("none", 2.0) == pytest.approx(-1.2)


def test_arguments_of_the_environment_arrive():
    _, episode_return = record_episode(
        "CartPole-v1",
        lambda observation: [0],
        seed=0,
        sutton_barto_reward=True,
    )
    assert episode_return == -1.0


@pytest.mark.parametrize(
    ("id", "arguments", "message"),
    [
        ("CartPol-v1", {}, "CartPole-v1"),
        ("CartPole-v1", {"max_episode_steps": 0}, "max_episode_steps must be a pos"),
        ("CartPole-v1", {"action_bounds": "tanh"}, "got 'tanh'"),
    ],
)
def test_wrong_arguments_are_refused(id, arguments, message):
    with pytest.raises(ValueError, match=message):
        record_episode(id, lambda observation: [0], seed=0, **arguments)
