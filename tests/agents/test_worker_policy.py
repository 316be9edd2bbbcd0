"""The policy of an agent in NumPy against the agent itself."""

import keras
import numpy as np
import pytest

from tfzoo import environments
from tfzoo.agents import PPO, REINFORCE
from tfzoo.agents.worker_policy import worker_policy


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu"])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_it_is_the_agent_s(env_id, activation):
    environment = environments.make(env_id, 2)
    agent = PPO(
        environment.observation_space,
        environment.action_space,
        num_steps=16,
        minibatches=2,
        normalize_observations=True,
        network_options={"hidden_units": (8, 5), "activation": activation},
    )
    agent.compile(keras.optimizers.Adam(0.01), jit_compile=False)
    agent.fit(environment, 64, verbose=0)
    rng = np.random.default_rng(0)
    observation = rng.normal(size=[7, *environment.observation_space.shape])
    observation = observation.astype("float32")
    expected = np.array(agent.policy_outputs(observation))
    policy = worker_policy(agent)
    got = policy(observation)
    np.testing.assert_allclose(got, expected[:, : got.shape[1]], rtol=1e-4, atol=1e-5)
    if policy.is_gaussian:
        noise = policy.noise(np.random.default_rng(1), 100_000)
        stddev = np.exp(expected[0, got.shape[1] :])
        np.testing.assert_allclose(noise.std(axis=0), stddev, rtol=0.02)


def agent_with(last_activation, hidden_activation="tanh"):
    inputs = keras.Input([4])
    hidden = keras.layers.Dense(3, hidden_activation)(inputs)
    outputs = [
        keras.layers.Dense(2, last_activation, name="policy")(hidden),
        keras.layers.Dense(1, name="value")(hidden),
    ]
    environment = environments.make("CartPole-v1", 2)
    agent = PPO(
        environment.observation_space,
        environment.action_space,
        network=keras.Model(inputs, outputs),
        num_steps=16,
        minibatches=2,
    )
    agent.compile(keras.optimizers.SGD(0.01))
    return agent


@pytest.mark.parametrize(
    ("activations", "message"),
    [
        (("tanh",), "a linear last layer only, and that of policy is tanh"),
        ((None, "gelu"), "activation must be one of .* where worker processes act"),
    ],
)
def test_other_networks_are_refused_before_training(activations, message):
    with (
        environments.make(
            "CartPole-v1", 2, vectorization="workers", num_workers=0
        ) as environment,
        pytest.raises(ValueError, match=message),
    ):
        agent_with(*activations).prepare(environment)


def test_agents_of_whole_episodes_are_refused():
    with environments.make(
        "CartPole-v1", 2, vectorization="workers", num_workers=0
    ) as environment:
        agent = REINFORCE(
            environment.observation_space, environment.action_space, num_steps=500
        )
        agent.compile(keras.optimizers.SGD(0.01))
        for _ in range(2):
            with pytest.raises(ValueError, match="REINFORCE begins new episodes in"):
                agent.fit(environment, 1000)
