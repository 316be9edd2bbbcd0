import math

import pytest
import tensorflow as tf

from tests.training.fake_agent import FakeAgent
from tfzoo.training import (
    Checkpoints,
    NonFiniteError,
    StopOnNaN,
    list_checkpoints,
    restore_checkpoint,
)


def fit(agent, directory, steps=60):
    agent.prepare(None)
    checkpoint = tf.train.Checkpoint(agent=agent)
    agent.fit(
        None,
        steps,
        callbacks=[
            StopOnNaN(checkpoint, directory / "failed"),
            Checkpoints(checkpoint, directory / "checkpoints", every=20),
        ],
    )


def test_a_loss_that_is_nan_stops_the_run_and_its_state_is_kept_apart(tmp_path):
    with pytest.raises(NonFiniteError, match="policy_loss became nan") as caught:
        fit(FakeAgent(nan_at=50), tmp_path)
    assert "\n" not in str(caught.value)
    assert "lower --learning_rate in a new run" in str(caught.value)
    agent = FakeAgent()
    agent.prepare(None)
    checkpoint = tf.train.Checkpoint(agent=agent)
    restore_checkpoint(checkpoint, tmp_path / "checkpoints")
    assert int(agent.env_steps) == 40
    restore_checkpoint(checkpoint, tmp_path / "failed")
    assert int(agent.env_steps) == 50


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_stops_the_run(tmp_path, value):
    def spoil(steps):
        if steps == 30:
            kernel = agent.network.layers[0].kernel
            kernel.assign(tf.tensor_scatter_nd_update(kernel, [[0, 0]], [value]))

    agent = FakeAgent(on_epoch=spoil)
    with pytest.raises(NonFiniteError, match="hidden/kernel is no longer finite"):
        fit(agent, tmp_path)
    (newest, *_) = list_checkpoints(tmp_path / "checkpoints")
    assert newest.name == "step-000000000020"


def test_a_return_is_nan_where_no_episode_ended(tmp_path):
    fit(FakeAgent(), tmp_path)
    assert not (tmp_path / "failed").exists()


def test_only_the_last_failure_is_kept(tmp_path):
    for nan_at in (50, 30, 40):
        with pytest.raises(NonFiniteError):
            fit(FakeAgent(nan_at=nan_at), tmp_path)
        (kept,) = list_checkpoints(tmp_path / "failed")
        assert kept.name == f"step-{nan_at:012d}"
