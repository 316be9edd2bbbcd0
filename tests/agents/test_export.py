"""An exported policy answers as the agent does, without Keras and without tfzoo."""

import functools
import json
import subprocess
import sys

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo import environments, random
from tfzoo.agents import A2C, PPO

# Loads the model where importing Keras or tfzoo fails, and prints what it answers.
_CLIENT = """
import json, sys
sys.modules["keras"] = sys.modules["tf_keras"] = sys.modules["tfzoo"] = None
import numpy as np, tensorflow as tf
answers = []
for path, observation in json.load(sys.stdin):
    model = tf.saved_model.load(path)
    spec = model.signatures["serving_default"].structured_input_signature[1]
    observation = tf.constant(observation, spec["observation"].dtype)
    greedy = model.signatures["serving_default"](observation=observation)
    drawn = model.signatures["sample"](
        observation=observation, seed=tf.constant([3, 4])
    )
    answers.append(
        [{k: v.numpy().tolist() for k, v in a.items()} for a in (greedy, drawn)]
    )
print(json.dumps(answers))
"""

SPACES = {
    "discrete": (gym.spaces.Box(-1, 1, (4,)), gym.spaces.Discrete(3)),
    "continuous": (gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-2, 2, (2,))),
    "discrete observations": (gym.spaces.Discrete(5), gym.spaces.Discrete(2)),
    "several choices": (gym.spaces.Box(-1, 1, (2,)), gym.spaces.MultiDiscrete([2, 3])),
    "bits": (gym.spaces.Box(-1, 1, (2,)), gym.spaces.MultiBinary(4)),
    "images": (
        gym.spaces.Box(0, 255, (84, 84, 4), np.uint8),
        gym.spaces.Discrete(6),
    ),
}


def batch(space, size, seed):
    space.seed(seed)
    return np.stack([space.sample() for _ in range(size)])


def make_agent(name):
    observation_space, action_space = SPACES[name]
    normalized = name in ("discrete", "continuous")
    agent = A2C(
        observation_space, action_space, normalize_observations=normalized, seed=1
    )
    if normalized:
        agent.observation_normalization.update(
            tf.constant(3.0 + 2.0 * batch(observation_space, 50, 0))
        )
    # The last layers start near zero; larger weights make the answers differ.
    agent.set_weights(
        [w * 20 if w.ndim == 2 and w.shape[1] < 10 else w for w in agent.get_weights()]
    )
    return agent


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Agents, observations, paths, and the answers of one process for them all."""
    folder = tmp_path_factory.mktemp("exported")
    cases = {}
    for name in SPACES:
        path = folder / name.replace(" ", "_")
        agent = make_agent(name)
        agent.export(path)
        cases[name] = (agent, batch(SPACES[name][0], 7, 2), str(path))
    requests = [(path, x.tolist()) for _, x, path in cases.values()]
    output = subprocess.run(
        [sys.executable, "-c", _CLIENT],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    answers = dict(zip(cases, json.loads(output.splitlines()[-1]), strict=True))
    return cases, answers


@pytest.mark.parametrize("name", SPACES)
def test_answers_as_in_process(exported, name):
    cases, answers = exported
    agent, observation, _ = cases[name]
    greedy, drawn = answers[name]
    np.testing.assert_allclose(greedy["action"], agent(observation), 1e-4)
    np.testing.assert_allclose(greedy["value"], agent.value(observation), 1e-4, 1e-5)
    outputs = agent.policy_outputs(observation)
    distribution = agent.policy.distribution(outputs)
    if name == "continuous":
        np.testing.assert_allclose(greedy["action_mean"], distribution.mean(), 1e-4)
        np.testing.assert_allclose(greedy["action_stddev"], distribution.stddev(), 1e-4)
        np.testing.assert_allclose(greedy["action"], greedy["action_mean"])
    elif name in ("several choices", "bits"):
        np.testing.assert_allclose(
            greedy["action_probabilities"], agent.policy.probabilities(outputs), 1e-4
        )
    elif name in ("discrete", "discrete observations", "images"):
        np.testing.assert_allclose(
            greedy["action_probabilities"], tf.nn.softmax(outputs), 1e-4, 1e-6
        )
    expected = agent.act(tf.constant(observation), tf.constant([3, 4]))
    np.testing.assert_allclose(drawn["action"], expected, 1e-4, 1e-5)
    assert drawn["value"] == greedy["value"]


def test_batch_size_is_free(exported):
    cases, _ = exported
    _, observation, path = cases["discrete"]
    policy = tf.saved_model.load(path).signatures["serving_default"]
    for size in (1, 5):
        answer = policy(observation=tf.constant(observation[:size], tf.float32))
        assert answer["action"].shape == [size]


def test_saved_model_cli_lists_both_signatures(exported):
    cases, _ = exported
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"]
    output = subprocess.run(
        [*command, "show", "--dir", cases["discrete"][2], "--all"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in ("serving_default", "sample", "observation", "seed", "action", "value"):
        assert f"'{name}'" in output


def test_litert_gives_the_same_actions(tmp_path):
    agent = make_agent("discrete")
    agent.export(tmp_path / "policy.tflite", format="litert")
    interpreter = tf.lite.Interpreter(str(tmp_path / "policy.tflite"))
    policy = interpreter.get_signature_runner("serving_default")
    observation = batch(SPACES["discrete"][0], 1, 3)
    answer = policy(observation=observation)
    np.testing.assert_array_equal(answer["action"], agent(observation))
    np.testing.assert_allclose(answer["value"], agent.value(observation), 1e-4)


@pytest.mark.parametrize("signature", ["serving_default", "sample"])
def test_what_is_no_observation_is_refused(exported, signature):
    cases, _ = exported
    model = tf.saved_model.load(cases["discrete observations"][2])
    seed = {"seed": tf.constant([3, 4])} if signature == "sample" else {}
    for observation in (-1, 5):
        with pytest.raises(tf.errors.InvalidArgumentError, match="must be from 0 to 4"):
            model.signatures[signature](
                observation=tf.constant([0, observation]), **seed
            )


def test_litert_takes_discrete_observations(tmp_path):
    agent = make_agent("discrete observations")
    agent.export(tmp_path / "policy.tflite", format="litert")
    interpreter = tf.lite.Interpreter(str(tmp_path / "policy.tflite"))
    policy = interpreter.get_signature_runner("serving_default")
    observation = np.arange(5, dtype=np.int32)
    answer = policy(observation=observation)
    np.testing.assert_array_equal(answer["action"], agent(observation))


@pytest.mark.parametrize("format", ["litert", "tf_saved_model"])
def test_an_export_that_fails_leaves_what_was_there(tmp_path, monkeypatch, format):
    agent = make_agent("discrete")
    path = tmp_path / "policy"
    agent.export(path, format=format)

    def contents():
        return {
            file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()
        }

    def fail(*_, **__):
        raise RuntimeError("out of memory")

    before = contents()
    if format == "litert":
        monkeypatch.setattr(tf.lite.TFLiteConverter, "from_saved_model", fail)
    else:
        monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        agent.export(path, format=format)
    assert contents() == before


def test_unknown_format_is_refused_and_an_export_may_be_repeated(tmp_path):
    agent = make_agent("discrete")
    with pytest.raises(ValueError, match="format must be"):
        agent.export(tmp_path / "model", format="onnx")
    agent.export(tmp_path / "model")
    agent.export(tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_what_is_no_export_is_not_replaced(tmp_path):
    agent = make_agent("discrete")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("It was")
    (tmp_path / "notes").write_text("a dark")
    with pytest.raises(ValueError, match="holds something else than a SavedModel"):
        agent.export(tmp_path / "thesis")
    with pytest.raises(ValueError, match="notes is a file"):
        agent.export(tmp_path / "notes")
    with pytest.raises(ValueError, match="thesis is a directory"):
        agent.export(tmp_path / "thesis", format="litert")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "It was"
    assert (tmp_path / "notes").read_text() == "a dark"


@pytest.mark.parametrize("make", [functools.partial(PPO, num_steps=8, minibatches=2)])
def test_export_after_training_holds_the_trained_weights(make, tmp_path):
    environment = environments.make("CartPole-v1", 4)
    agent = make(environment.observation_space, environment.action_space)
    agent.compile(keras.optimizers.Adam(0.01))
    agent.fit(environment, 320, verbose=0)
    agent.export(tmp_path / "model")
    observation = random.uniform([5, 4], random.make_seed(0), -1.0, 1.0)
    policy = tf.saved_model.load(tmp_path / "model").signatures["serving_default"]
    np.testing.assert_allclose(
        policy(observation=observation)["value"], agent.value(observation), 1e-4, 1e-5
    )
