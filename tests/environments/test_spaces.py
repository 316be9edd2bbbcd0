"""Which spaces are taken, and where actions go."""

import numpy as np
import pytest
import tensorflow as tf
from gymnasium import spaces

from tfzoo.environments import UnsupportedSpaceError
from tfzoo.environments.spaces import (
    action_map,
    check_action_space,
    check_observation_space,
    delivered_dtype,
    delivered_observation_space,
)

BOX = spaces.Box(np.float32([-2.0, 0.0]), np.float32([2.0, 10.0]))
UNBOUNDED = spaces.Box(-np.inf, np.inf, (2,))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3),
        spaces.Discrete(3, start=-1),
        BOX,
        UNBOUNDED,
        spaces.Box(-1.0, 1.0, (2,), np.float64),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(4),
    ],
)
def test_supported_action_spaces(space):
    check_action_space(space, "World-v0")


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1.0, 1.0, (2, 2)),
        spaces.Box(-1.0, 1.0, ()),
        spaces.Box(0, 9, (2,), np.int32),
        spaces.MultiDiscrete([[2, 3], [2, 3]]),
        spaces.MultiBinary([2, 2]),
        spaces.Dict(a=spaces.Discrete(2)),
        spaces.Tuple([spaces.Discrete(2)]),
        spaces.Text(3),
        spaces.Sequence(spaces.Discrete(2)),
    ],
    ids=str,
)
def test_other_action_spaces_are_refused_by_name(space):
    with pytest.raises(UnsupportedSpaceError) as error:
        check_action_space(space, "World-v0")
    message = str(error.value)
    assert f"action space of World-v0 is {' '.join(str(space).split())}" in message
    assert "supported are Discrete, and Box" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("space", "dtype"),
    [
        (spaces.Discrete(3), np.int32),
        (BOX, np.float32),
        (spaces.Box(-np.inf, np.inf, (3,), np.float64), np.float32),
        (spaces.Box(-5, 5, (3, 2), np.int64), np.float32),
        (spaces.Box(0, 255, (4, 4, 3), np.uint8), np.uint8),
    ],
)
def test_supported_observation_spaces(space, dtype):
    check_observation_space(space, "World-v0")
    assert delivered_dtype(space) == dtype
    delivered = delivered_observation_space(space)
    if isinstance(space, spaces.Box):
        assert delivered.dtype == dtype
        np.testing.assert_array_equal(delivered.low, space.low)
        np.testing.assert_array_equal(delivered.high, space.high)
    else:
        assert delivered == space


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1.0, 1.0, ()),
        spaces.Box(-1.0, 1.0, (0,)),
        spaces.MultiDiscrete([2, 3]),
        spaces.Dict(a=spaces.Discrete(2)),
        spaces.Text(3),
    ],
    ids=str,
)
def test_other_observation_spaces_are_refused_by_name(space):
    with pytest.raises(UnsupportedSpaceError) as error:
        check_observation_space(space, "World-v0")
    message = str(error.value)
    assert f"observation space of World-v0 is {space}" in message
    assert "supported are Discrete, and Box" in message


@pytest.mark.parametrize("arrays", [np, tf], ids=["numpy", "tensorflow"])
@pytest.mark.parametrize(
    ("action_bounds", "expected"),
    [
        ("none", [[-3.0, 0.5], [0.5, -1.0], [1.0, 20.0]]),
        ("clip", [[-2.0, 0.5], [0.5, 0.0], [1.0, 10.0]]),
        ("rescale", [[-2.0, 7.5], [1.0, 0.0], [2.0, 10.0]]),
    ],
)
def test_action_bounds(arrays, action_bounds, expected):
    actions = np.float32([[-3.0, 0.5], [0.5, -1.0], [1.0, 20.0]])
    if arrays is tf:
        actions = tf.constant(actions)
    mapped = action_map(BOX, action_bounds, arrays)(actions)
    assert isinstance(mapped, tf.Tensor if arrays is tf else np.ndarray)
    assert np.asarray(mapped).dtype == np.float32
    np.testing.assert_array_equal(mapped, expected)


def test_rescaling_never_leaves_the_bounds():
    random = np.random.default_rng(0)
    low = random.uniform(-3.0, 0.0, 1000).astype(np.float32)
    high = low + random.uniform(0.0, 3.0, 1000).astype(np.float32)
    space = spaces.Box(low, high)
    rescale = action_map(space, "rescale", np)
    for end in (-1.0, 1.0):
        assert space.contains(rescale(np.full(1000, end, np.float32)))


def test_an_unbounded_box_is_clipped_but_not_rescaled():
    action = np.float32([[1e9, -1e9]])
    np.testing.assert_array_equal(action_map(UNBOUNDED, "clip", np)(action), action)
    with pytest.raises(UnsupportedSpaceError, match="not bounded"):
        action_map(UNBOUNDED, "rescale", np)


@pytest.mark.parametrize(
    ("space", "action", "expected"),
    [
        (spaces.Discrete(3), [0, 2], [0, 2]),
        (spaces.Discrete(3, start=-1), [0, 2], [-1, 1]),
        (spaces.MultiDiscrete([2, 3], start=[5, 0]), [[0, 2]], [[5, 2]]),
        (spaces.MultiBinary(2), [[0, 1]], [[0, 1]]),
    ],
    ids=str,
)
def test_discrete_actions_count_from_zero(space, action, expected):
    mapped = action_map(space, "clip", np)(np.array(action, np.int32))
    assert mapped.dtype == np.int32
    np.testing.assert_array_equal(mapped, expected)


def test_unknown_action_bounds_are_refused():
    with pytest.raises(ValueError, match="'clip', 'rescale', 'none', got 'tanh'"):
        action_map(BOX, "tanh", np)
