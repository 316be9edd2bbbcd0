import functools
import os
import random
import signal

import numpy as np
import pytest
import tensorflow as tf

from tests.programs import signal_when
from tests.training.fake_agent import FakeAgent
from tfzoo.training import (
    Checkpoints,
    UserError,
    list_checkpoints,
    restore_checkpoint,
    write_checkpoint,
)


def prepared(**kwargs):
    agent = FakeAgent(**kwargs)
    agent.prepare(None)
    return agent, tf.train.Checkpoint(agent=agent)


def trained_for(steps, directory, **kwargs):
    """An agent after `steps` steps, with a checkpoint every 10."""
    agent, checkpoint = prepared(**kwargs)
    agent.fit(None, steps, callbacks=[Checkpoints(checkpoint, directory, every=10)])
    return agent


def steps_of(directory):
    return [
        int(path.name.removeprefix("step-")) for path in list_checkpoints(directory)
    ]


def assert_same_variables(one, other):
    ours = [one.env_steps, one.chaos, *one.variables, *one.optimizer.variables]
    theirs = [other.env_steps, other.chaos, *other.variables]
    theirs += other.optimizer.variables
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_restoring_gives_networks_optimizer_and_counters_back(tmp_path):
    agent = trained_for(50, tmp_path)
    other, checkpoint = prepared()
    assert restore_checkpoint(checkpoint, tmp_path).name == "step-000000000050"
    assert_same_variables(agent, other)


def test_checkpoints_come_when_they_are_due_and_at_both_ends(tmp_path):
    agent, checkpoint = prepared()
    callback = Checkpoints(checkpoint, tmp_path, every=25, keep=10)
    agent.fit(None, 80, callbacks=[callback])
    assert steps_of(tmp_path) == [80, 60, 30, 0]
    assert callback.last_step == 80


def test_only_the_newest_are_kept(tmp_path):
    trained_for(60, tmp_path)
    assert steps_of(tmp_path) == [60, 50, 40]
    assert len(os.listdir(tmp_path)) == 3


def test_a_resumed_run_does_not_rewrite_the_checkpoint_it_came_from(tmp_path):
    trained_for(30, tmp_path)
    (newest, *_) = list_checkpoints(tmp_path)
    before = newest.stat().st_mtime_ns
    agent, checkpoint = prepared()
    restore_checkpoint(checkpoint, tmp_path)
    agent.fit(None, 30, callbacks=[Checkpoints(checkpoint, tmp_path, every=10)])
    assert newest.stat().st_mtime_ns == before


def damage_a_byte(checkpoint):
    (data,) = checkpoint.glob("state.data*")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)


def truncate(checkpoint):
    os.truncate(checkpoint / "state.index", 7)


def remove_data(checkpoint):
    next(checkpoint.glob("state.data*")).unlink()


def empty_manifest(checkpoint):
    (checkpoint / "manifest.json").write_text("")


def remove_manifest(checkpoint):
    (checkpoint / "manifest.json").unlink()


@pytest.mark.parametrize(
    "damage",
    [damage_a_byte, truncate, remove_data, empty_manifest, remove_manifest],
)
def test_the_one_before_a_damaged_one_is_used(tmp_path, damage, caplog):
    agent = trained_for(20, tmp_path)
    write_checkpoint(tf.train.Checkpoint(agent=agent), tmp_path, 30)
    damage(list_checkpoints(tmp_path)[0])
    other, checkpoint = prepared()
    with caplog.at_level("WARNING"):
        path = restore_checkpoint(checkpoint, tmp_path)
    assert path.name == "step-000000000020"
    assert_same_variables(agent, other)
    (message,) = [r.getMessage() for r in caplog.records if "damaged" in r.message]
    assert "step-000000000030 is damaged" in message
    assert "\n" not in message


def test_training_goes_on_over_a_damaged_checkpoint(tmp_path):
    expected = trained_for(40, tmp_path / "whole")
    trained_for(30, tmp_path / "broken")
    damage_a_byte(list_checkpoints(tmp_path / "broken")[0])
    agent, checkpoint = prepared()
    restore_checkpoint(checkpoint, tmp_path / "broken")
    assert int(agent.env_steps) == 20
    callback = Checkpoints(checkpoint, tmp_path / "broken", every=10)
    agent.fit(None, 40, initial_step=20, callbacks=[callback])
    assert steps_of(tmp_path / "broken") == [40, 30, 20]
    restored, checkpoint = prepared()
    restore_checkpoint(checkpoint, tmp_path / "broken")
    assert_same_variables(restored, expected)


def test_nothing_to_resume_from_is_said(tmp_path):
    _, checkpoint = prepared()
    with pytest.raises(UserError, match="no checkpoint"):
        restore_checkpoint(checkpoint, tmp_path)
    trained_for(20, tmp_path)
    for path in list_checkpoints(tmp_path):
        damage_a_byte(path)
    with pytest.raises(UserError, match="all 3 checkpoints are damaged"):
        restore_checkpoint(checkpoint, tmp_path)


def test_another_shape_is_named_with_both_shapes(tmp_path):
    trained_for(10, tmp_path)
    _, checkpoint = prepared(width=5)
    with pytest.raises(UserError) as caught:
        restore_checkpoint(checkpoint, tmp_path)
    message = str(caught.value)
    assert "hidden/kernel" in message
    assert "(3, 4)" in message
    assert "(3, 5)" in message
    assert "\n" not in message


@pytest.mark.parametrize("lacking", ["checkpoint", "agent"])
def test_variables_must_be_the_same_on_both_sides(tmp_path, lacking):
    for name in ("checkpoint", "agent"):
        agent, checkpoint = prepared()
        if name != lacking:
            agent.more = tf.Variable(tf.zeros([3, 3]))
        if name == "checkpoint":
            write_checkpoint(checkpoint, tmp_path, 0)
    with pytest.raises(UserError, match="another model") as caught:
        restore_checkpoint(checkpoint, tmp_path)
    assert "\n" not in str(caught.value)


class PowerCut(BaseException):
    """Ends the process, as far as a test can tell."""


def test_a_cut_at_any_system_call_leaves_the_last_checkpoint_whole(
    tmp_path, monkeypatch
):
    """Replaces each of the calls that change the disk, in turn, by the end."""
    agent = trained_for(30, tmp_path)
    checkpoint = tf.train.Checkpoint(agent=agent)
    agent.env_steps.assign(40)
    restored, other = prepared()

    def write_until(cut_at):
        """Writes checkpoint 40; the call number `cut_at` does not happen."""
        calls = 0

        def counted(function):
            def call(*args, **kwargs):
                nonlocal calls
                calls += 1
                if calls >= cut_at:
                    raise PowerCut
                return function(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in ("fsync", "replace", "unlink", "rmdir", "mkdir", "open"):
                patch.setattr(os, name, counted(getattr(os, name)))
            try:
                write_checkpoint(checkpoint, tmp_path, 40)
            except PowerCut:
                return True
        return False

    cut_at, seen = 0, set()
    while write_until(cut_at):
        restore_checkpoint(other, tmp_path)
        seen.add(int(restored.env_steps))
        cut_at += 1
    assert cut_at > 8
    assert seen == {30, 40}


def test_kill_9_at_any_moment(tmp_path, programs):
    rng = random.Random(0)
    for trial in range(5):
        directory = tmp_path / str(trial) / "checkpoints"
        result = programs.run(
            "tests/training/fake_experiment.py",
            f"--run_dir={directory.parent}",
            "--checkpoint_every=1",
            "--steps=1_000_000",
            meanwhile=signal_when(
                functools.partial(list_checkpoints, directory),
                seconds_later=rng.uniform(0, 0.2),
            ),
        )
        assert result.status == -signal.SIGKILL
        agent, checkpoint = prepared()
        path = restore_checkpoint(checkpoint, directory)
        assert path == list_checkpoints(directory)[0]
        assert path.name == f"step-{int(agent.env_steps):012d}"
