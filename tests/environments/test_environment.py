"""What both kinds of environment have in common."""

import functools

import pytest

from tfzoo.environments import CartPole, HostEnvironment


@pytest.mark.parametrize(
    "environment",
    [CartPole, functools.partial(HostEnvironment, "CartPole-v1")],
    ids=["in_graph", "host"],
)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs must be a positive integer, got 0"),
        ({"num_envs": 2.0}, "num_envs must be a positive integer, got 2.0"),
        ({"max_episode_steps": -1}, "max_episode_steps must be a positive integer"),
        ({"reward_transform": 0.1}, "reward_transform must be a function or None"),
        ({"action_bounds": "squash"}, "'clip', 'rescale', 'none', got 'squash'"),
    ],
)
def test_wrong_arguments_are_refused(environment, arguments, message):
    with pytest.raises(ValueError, match=message):
        environment(**arguments)


def test_repr_names_the_environment():
    assert repr(CartPole(3)) == "CartPole('CartPole-v1', num_envs=3)"
