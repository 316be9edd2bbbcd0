"""Exported value-based and deterministic agents play whole episodes by themselves."""

import json
import subprocess
import sys

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.agents import DDPG, DQN, DRQN, SAC, TD3, Wolpertinger

# Plays an episode with each model where importing Keras or tfzoo fails.
_CLIENT = """
import json, sys
sys.modules["keras"] = sys.modules["tf_keras"] = sys.modules["tfzoo"] = None
import gymnasium as gym, numpy as np, tensorflow as tf
episodes = []
for path, id, columns in json.load(sys.stdin):
    model = tf.saved_model.load(path)
    signature = model.signatures["serving_default"]
    specs = signature.structured_input_signature[1]
    memory = {
        name: tf.zeros([1, *spec.shape[1:]])
        for name, spec in specs.items() if name != "observation"
    }
    environment = gym.make(id)
    observation, _ = environment.reset(seed=5)
    actions, done = [], False
    while not done:
        observation = tf.constant(observation[None, columns], tf.float32)
        outputs = signature(observation=observation, **memory)
        memory = {name: outputs[name] for name in memory}
        action = outputs["action"][0].numpy()
        actions.append(action.tolist())
        observation, _, terminated, truncated, _ = environment.step(action)
        done = terminated or truncated
    episodes.append([actions, sorted(outputs)])
print(json.dumps(episodes))
"""
_CARTPOLE = gym.spaces.Box(-9, 9, (4,)), gym.spaces.Discrete(2)
_PENDULUM = gym.spaces.Box(-8, 8, (3,)), gym.spaces.Box(-2, 2, (1,))
_SMALL = {
    "actor_options": {"hidden_units": (8,)},
    "critic_options": {"hidden_units": (8,)},
}


def make_agents():
    """Returns agents by name, with an environment and the columns that they see."""
    positions = gym.spaces.Box(-9, 9, (2,)), gym.spaces.Discrete(2)
    rainbow = {"dueling": True, "noisy": True, "distribution": "categorical"}
    points = np.array([[-1.0, 0.0], [1.0, 0.2]])
    return {
        "dqn": (DQN(*_CARTPOLE), "CartPole-v1", [0, 1, 2, 3]),
        "rainbow": (DQN(*_CARTPOLE, **rainbow), "CartPole-v1", [0, 1, 2, 3]),
        "drqn": (DRQN(*positions), "CartPole-v1", [0, 2]),
        "drqn of actions": (
            DRQN(*positions, previous_action=True),
            "CartPole-v1",
            [0, 2],
        ),
        "ddpg": (DDPG(*_PENDULUM, **_SMALL), "Pendulum-v1", [0, 1, 2]),
        "td3": (TD3(*_PENDULUM, **_SMALL), "Pendulum-v1", [0, 1, 2]),
        "sac": (SAC(*_PENDULUM, **_SMALL), "Pendulum-v1", [0, 1, 2]),
        "wolpertinger": (
            Wolpertinger(
                *_CARTPOLE, action_embedding=points, num_neighbors=2, **_SMALL
            ),
            "CartPole-v1",
            [0, 1, 2, 3],
        ),
    }


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Agents, and the episodes that one process played with what they exported."""
    folder = tmp_path_factory.mktemp("exported")
    agents = make_agents()
    rng = np.random.default_rng(0)
    for name, (agent, _, _) in agents.items():
        agent.compile(keras.optimizers.Adam())
        for network in agent.served_networks:
            for weight in network.weights:
                weight.assign(weight + 0.5 * rng.normal(size=weight.shape))
        agent.export(folder / name)
    requests = [
        (str(folder / name), id, columns) for name, (_, id, columns) in agents.items()
    ]
    output = subprocess.run(
        [sys.executable, "-c", _CLIENT],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return agents, dict(zip(agents, json.loads(output.splitlines()[-1]), strict=True))


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("dqn", ["action", "q_values"]),
        ("rainbow", ["action", "q_values"]),
        ("drqn", ["action", "cell", "hidden", "q_values"]),
        (
            "drqn of actions",
            ["action", "cell", "hidden", "previous_action", "q_values"],
        ),
        ("ddpg", ["action"]),
        ("td3", ["action"]),
        ("sac", ["action"]),
        ("wolpertinger", ["action"]),
    ],
)
def test_a_whole_episode_is_the_agent_s_own(played, name, outputs):
    agents, episodes = played
    agent, id, columns = agents[name]
    actions, named = episodes[name]
    assert named == outputs
    environment = gym.make(id)
    observation, _ = environment.reset(seed=5)
    memory, done, t = agent.initial_memory(1), False, 0
    while not done:
        given = tf.constant(observation[None, columns], tf.float32)
        action, memory = agent.act_from_memory(given, memory, None, greedy=True)
        np.testing.assert_allclose(action[0], actions[t], atol=1e-3)
        # By the process's own actions, so that rounding does not add up.
        action = np.array(actions[t], agent.action_space.dtype)
        observation, _, terminated, truncated, _ = environment.step(action)
        done, t = terminated or truncated, t + 1
    assert t == len(actions)
