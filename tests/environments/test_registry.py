"""`make` gives the right kind of environment, or says what is possible."""

import pytest

from tfzoo.environments import (
    IN_GRAPH_ENVIRONMENTS,
    HostEnvironment,
    InGraphEnvironment,
    UnknownEnvironmentError,
    make,
)


@pytest.mark.parametrize("id", sorted(IN_GRAPH_ENVIRONMENTS))
def test_the_in_graph_form_is_picked_where_there_is_one(id):
    for vectorization in ("auto", "in_graph"):
        environment = make(id, 3, vectorization=vectorization)
        assert isinstance(environment, InGraphEnvironment)
        assert (environment.id, environment.num_envs) == (id, 3)


def test_the_host_form_is_made_on_request():
    with make("CartPole-v1", vectorization="sync") as environment:
        assert isinstance(environment, HostEnvironment)


def test_arguments_of_the_environment_need_the_host_form():
    with make("CartPole-v1", sutton_barto_reward=True) as environment:
        assert isinstance(environment, HostEnvironment)
        environment.reset(seed=0)
        assert environment.step([1]).reward == 0.0
    with pytest.raises(ValueError, match=r"'g': 1.0} has no in-graph form"):
        make("Pendulum-v1", vectorization="in_graph", g=1.0)


def test_other_environments_are_made_on_the_host():
    with make("FrozenLake-v1") as environment:
        assert isinstance(environment, HostEnvironment)
        assert environment.vectorization == "sync"
    with pytest.raises(ValueError, match=r"FrozenLake-v1 .* no in-graph form"):
        make("FrozenLake-v1", vectorization="in_graph")


@pytest.mark.parametrize("vectorization", ["auto", "sync"])
def test_options_arrive(vectorization):
    def transform(reward):
        return -reward

    environment = make(
        "Pendulum-v1",
        2,
        vectorization=vectorization,
        action_bounds="rescale",
        reward_transform=transform,
        max_episode_steps=5,
    )
    assert environment.num_envs == 2
    assert environment.action_bounds == "rescale"
    assert environment.reward_transform is transform
    assert environment.max_episode_steps == 5


def test_unknown_vectorization_is_refused():
    with pytest.raises(ValueError, match="'sync', 'async', 'workers', got 'x"):
        make("CartPole-v1", vectorization="xla")


def test_unknown_ids_are_refused():
    with pytest.raises(UnknownEnvironmentError, match="CartPole-v1"):
        make("CartPol-v1")
