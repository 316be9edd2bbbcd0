import csv
import os
import signal

import keras
import numpy as np
import pytest

from tests.training.fake_agent import FakeAgent
from tfzoo.agents import PPO
from tfzoo.environments import RolloutWorkerError, make
from tfzoo.training import (
    Interrupted,
    NonFiniteError,
    RunDirectory,
    UserError,
    checkpoints,
    list_checkpoints,
    train,
)
from tfzoo.training.metrics_csv import NOT_REPRODUCIBLE


def reproducible(metrics):
    """The rows of a metrics.csv without the columns that no run repeats."""
    with open(metrics, newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {name: row[name] for name in row if name not in NOT_REPRODUCIBLE}
        for row in rows
    ]


def run(path, agent, steps, *, resume=False, every=20, flags="--steps=100\n"):
    run_directory = RunDirectory(path, resume=resume, flags=flags)
    return train(agent, None, run_directory, steps, checkpoint_every=every)


class Killed(BaseException):
    """Stands for kill -9: nothing of the run's own code comes after it."""


def killed_at(step):
    def kill(steps):
        if steps == step:
            raise Killed

    return FakeAgent(on_epoch=kill)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 100 steps that was never interrupted."""
    path = tmp_path_factory.mktemp("whole")
    run(path, FakeAgent(), 100)
    return path


@pytest.mark.parametrize("step", [0, 10, 20, 50, 90])
def test_a_killed_run_continues_as_if_nothing_had_happened(tmp_path, whole, step):
    with pytest.raises(Killed):
        run(tmp_path, killed_at(step), 100)
    run(tmp_path, FakeAgent(), 100, resume=True)
    metrics = reproducible(tmp_path / "metrics.csv")
    assert metrics == reproducible(whole / "metrics.csv")
    assert len(metrics) == 10


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(
    tmp_path, whole, monkeypatch, capsys
):
    def kill(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_checkpoint", kill)
        with pytest.raises(Killed):
            run(tmp_path, FakeAgent(), 100)
    assert (tmp_path / "flags.txt").exists()
    run(tmp_path, FakeAgent(), 100, resume=True)
    assert "before its first checkpoint" in capsys.readouterr().out
    assert reproducible(tmp_path / "metrics.csv") == reproducible(whole / "metrics.csv")


def test_it_may_be_killed_again_and_again(tmp_path, whole):
    with pytest.raises(Killed):
        run(tmp_path, killed_at(50), 100)
    for step in (40, 60, 90):
        with pytest.raises(Killed):
            run(tmp_path, killed_at(step), 100, resume=True)
    run(tmp_path, FakeAgent(), 100, resume=True)
    assert reproducible(tmp_path / "metrics.csv") == reproducible(whole / "metrics.csv")


def test_a_finished_run_goes_on_with_more_steps(tmp_path, whole):
    run(tmp_path, FakeAgent(), 60)
    history = run(tmp_path, FakeAgent(), 100, resume=True).history
    assert history["steps"] == [70, 80, 90, 100]
    assert reproducible(tmp_path / "metrics.csv") == reproducible(whole / "metrics.csv")
    before = (tmp_path / "metrics.csv").read_text()
    run(tmp_path, FakeAgent(), 100, resume=True)
    assert (tmp_path / "metrics.csv").read_text() == before
    with pytest.raises(UserError, match="--steps=90: the run has done 100 steps"):
        run(tmp_path, FakeAgent(), 90, resume=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_a_checkpoint(tmp_path, whole, number):
    def interrupt(steps):
        if steps == 50:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match="stopped at step 60 of 100") as caught:
        run(tmp_path, FakeAgent(on_epoch=interrupt), 100)
    assert caught.value.signal == number
    assert f"--resume --run_dir={tmp_path}" in str(caught.value)
    assert len(reproducible(tmp_path / "metrics.csv")) == 6
    run(tmp_path, FakeAgent(), 100, resume=True)
    assert reproducible(tmp_path / "metrics.csv") == reproducible(whole / "metrics.csv")


def test_workers_that_die_of_ctrl_c_do_not_hide_it(tmp_path):
    def interrupt(steps):
        if steps == 50:
            os.kill(os.getpid(), signal.SIGINT)
            raise EOFError("a worker process is gone")

    with pytest.raises(Interrupted, match="stopped at step 40 of 100"):
        run(tmp_path, FakeAgent(on_epoch=interrupt), 100)


def test_a_nan_ends_a_run_and_leaves_its_good_checkpoints(tmp_path):
    with pytest.raises(NonFiniteError, match="policy_loss became nan"):
        run(tmp_path, FakeAgent(nan_at=60), 100)
    names = [path.name for path in list_checkpoints(tmp_path / "checkpoints")]
    assert names == [f"step-{step:012d}" for step in (40, 20, 0)]
    assert (tmp_path / "failed" / "step-000000000060").is_dir()
    assert np.isnan(float(reproducible(tmp_path / "metrics.csv")[-1]["policy_loss"]))


def test_arguments_that_fit_refuses_leave_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="multiple of 10"):
        run(tmp_path, FakeAgent(), 55)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    run(tmp_path, FakeAgent(), 40)
    before = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"\(3, 4\).*\(3, 6\).*hidden/kernel"):
        run(tmp_path, FakeAgent(width=6), 40, resume=True)
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_compiled_run_continues_bit_for_bit(tmp_path):
    """PPO in the graph: networks, optimizer, seeds and the environments' states."""

    def run_ppo(path, *, resume=False, callbacks=()):
        environment = make("CartPole-v1", num_envs=4)
        agent = PPO(
            environment.observation_space,
            environment.action_space,
            num_steps=16,
            epochs=2,
            minibatches=2,
            normalize_observations=True,
            normalize_rewards=True,
        )
        agent.compile(keras.optimizers.Adam(1e-2))
        train(
            agent,
            environment,
            RunDirectory(path, resume=resume),
            768,
            checkpoint_every=256,
            steps_per_epoch=128,
            callbacks=callbacks,
        )
        return reproducible(path / "metrics.csv"), agent.get_weights()

    class KillLater(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 4:
                raise Killed

    metrics, weights = run_ppo(tmp_path / "whole")
    with pytest.raises(Killed):
        run_ppo(tmp_path / "killed", callbacks=[KillLater()])
    resumed_metrics, resumed_weights = run_ppo(tmp_path / "killed", resume=True)
    assert resumed_metrics == metrics
    assert len(metrics) == 6
    for resumed, whole in zip(resumed_weights, weights, strict=True):
        np.testing.assert_array_equal(resumed, whole)


def test_a_worker_that_fails_leaves_a_run_that_resumes(tmp_path, whole):
    def fail(steps):
        if steps == 50:
            raise RolloutWorkerError("worker 0 ended by SIGKILL")

    with pytest.raises(UserError, match=r"worker 0 .* stopped at step 50 of 100; go"):
        run(tmp_path / "run", FakeAgent(on_epoch=fail), 100)
    assert list_checkpoints(tmp_path / "run/checkpoints")[0].name == "step-000000000050"
    run(tmp_path / "run", FakeAgent(), 100, resume=True)
    resumed, expected = (p / "metrics.csv" for p in (tmp_path / "run", whole))
    assert reproducible(resumed) == reproducible(expected)
