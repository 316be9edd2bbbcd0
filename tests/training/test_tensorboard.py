import sys

import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.fake_agent import FakeAgent
from tfzoo.training import TensorBoardScalars


def fit(agent, steps, directory):
    callback = TensorBoardScalars(directory)
    return agent.fit(
        None, steps, initial_step=int(agent.env_steps), callbacks=[callback]
    ).history


def curves(directory):
    events = EventAccumulator(str(directory))
    events.Reload()
    return {
        tag: [(point.step, point.value) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_scalars_stand_at_environment_steps(tmp_path):
    agent = FakeAgent()
    agent.prepare(None)
    history = fit(agent, 40, tmp_path)
    losses = curves(tmp_path)["policy_loss"]
    assert [step for step, _ in losses] == [10, 20, 30, 40]
    tf.debugging.assert_near([value for _, value in losses], history["policy_loss"])
    assert [step for step, _ in curves(tmp_path)["episode_return"]] == [10, 30]


def test_a_resumed_run_takes_back_what_came_after_its_checkpoint(tmp_path):
    agent = FakeAgent()
    agent.prepare(None)
    fit(agent, 40, tmp_path)
    agent.env_steps.assign(20)
    fit(agent, 30, tmp_path)
    assert [step for step, _ in curves(tmp_path)["policy_loss"]] == [10, 20, 30]


def test_without_tensorboard_it_says_so_and_training_goes_on(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    agent = FakeAgent()
    agent.prepare(None)
    fit(agent, 20, tmp_path)
    assert "tensorboard is not installed" in caplog.text
    assert not list(tmp_path.iterdir())
