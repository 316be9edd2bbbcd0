"""Experiments as programs; tests/training/fake_experiment.py is one."""

import os
import signal

import pytest

from tests.programs import signal_when, wait_until
from tests.training.test_resumable_run import reproducible
from tfzoo.training import RunDirectory, UserError

SCRIPT = "tests/training/fake_experiment.py"


def in_one_line(result, status=1):
    """Asserts that a program ended with one line, and returns it."""
    assert result.status == status
    (line,) = result.stderr.splitlines()
    name, _, message = line.partition(": ")
    assert name == "fake_experiment.py"
    return message


@pytest.fixture(scope="module")
def finished(programs, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    return path, programs.run(SCRIPT, f"--run_dir={path}", "--seed=1")


def test_a_run_leaves_what_it_should_and_says_what_is_next(finished):
    path, result = finished
    assert result.status == 0
    assert result.stderr == ""
    assert sorted(entry.name for entry in path.iterdir()) == [
        ".lock",
        "checkpoints",
        "flags.txt",
        "learning_curve.png",
        "metrics.csv",
        "tensorboard",
    ]
    lines = result.stdout.splitlines()
    assert lines[0].startswith("TensorFlow")
    assert lines[1].startswith("100 of 100 steps (100%)")
    assert lines[2] == f"run directory: {path}"
    assert len(lines) == 6


def test_its_flagfile_repeats_it(programs, finished, tmp_path):
    path, _ = finished
    again = tmp_path / "again"
    flags = f"--flagfile={path}/flags.txt"
    assert programs.run(SCRIPT, flags, f"--run_dir={again}").status == 0
    assert reproducible(again / "metrics.csv") == reproducible(path / "metrics.csv")


def test_another_run_does_not_overwrite_it(programs, finished):
    path, _ = finished
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    message = in_one_line(programs.run(SCRIPT, f"--run_dir={path}"))
    assert message.startswith(f"--run_dir={path}: the directory is not empty")
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*")} == before


def test_kill_9_and_resume(programs, finished, tmp_path):
    metrics = tmp_path / "run" / "metrics.csv"
    kill = signal_when(
        lambda: metrics.exists() and len(metrics.read_text().splitlines()) >= 6
    )
    path = tmp_path / "run"
    flags = (f"--run_dir={path}", "--seed=1", "--seconds_per_epoch=0.02")
    assert programs.run(SCRIPT, *flags, meanwhile=kill).status == -signal.SIGKILL
    assert programs.run(SCRIPT, "--resume", f"--run_dir={path}").status == 0
    whole = reproducible(finished[0] / "metrics.csv")
    assert reproducible(path / "metrics.csv") == whole


def test_kill_9_at_the_very_start_and_resume(programs, finished, tmp_path):
    whole = reproducible(finished[0] / "metrics.csv")
    for milliseconds in (0, 10):
        path = tmp_path / str(milliseconds)
        kill = signal_when(
            (path / "flags.txt").exists, seconds_later=milliseconds / 1000
        )
        flags = (f"--run_dir={path}", "--seed=1", "--seconds_per_epoch=0.1")
        assert programs.run(SCRIPT, *flags, meanwhile=kill).status == -signal.SIGKILL
        assert programs.run(SCRIPT, "--resume", f"--run_dir={path}").status == 0
        assert reproducible(path / "metrics.csv") == whole


def test_two_processes_do_not_share_a_directory(programs, tmp_path):
    pytest.importorskip("fcntl")
    path, refusals = tmp_path / "run", []

    def intrude(pid):
        wait_until((path / "flags.txt").exists, pid)
        try:
            RunDirectory(path, resume=True)
        except UserError as error:
            refusals.append(str(error))
        os.kill(pid, signal.SIGKILL)

    flags = (f"--run_dir={path}", "--seconds_per_epoch=10")
    programs.run(SCRIPT, *flags, meanwhile=intrude)
    assert refusals == [f"--run_dir={path}: is in use by another process"]
    # The lock of a process ends with it.
    RunDirectory(path, resume=True)


def test_a_signal_ends_a_run_in_good_order(programs, tmp_path):
    metrics = tmp_path / "run" / "metrics.csv"
    terminate = signal_when(metrics.exists, signal.SIGTERM)
    flags = (f"--run_dir={tmp_path}/run", "--seconds_per_epoch=0.02")
    result = programs.run(SCRIPT, *flags, meanwhile=terminate)
    assert result.status == 128 + signal.SIGTERM
    assert "--resume --run_dir=" in result.stderr.splitlines()[-1]
    assert "run directory" not in result.stdout


def test_a_nan_ends_it_in_one_line(programs, tmp_path):
    result = programs.run(SCRIPT, f"--run_dir={tmp_path}/run", "--nan_at=50")
    assert in_one_line(result).startswith("policy_loss became nan before step 50")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--learning_rat=1", "'learning_rat'. Did you mean: learning_rate"),
        ("--learning_rate=-1", "flag --learning_rate=-1.0: must be a positive number"),
        ("--env=CartPole-v7", "'CartPole-v7'; the nearest are CartPole-v1"),
        # A ValueError that tfzoo raises on purpose, about something that no flag knows.
        ("--vectorization=in_graph", "has no in-graph form"),
    ],
)
def test_what_the_user_can_mend_is_one_line(programs, tmp_path, flag, message):
    path = tmp_path / "run"
    result = programs.run(SCRIPT, flag, f"--run_dir={path}", "--env_arguments=a=1")
    assert message in in_one_line(result)
    assert not path.exists()


def test_a_bug_keeps_its_traceback(programs, tmp_path):
    result = programs.run(SCRIPT, "--bug", f"--run_dir={tmp_path}/run")
    assert result.status == 1
    assert "Traceback" in result.stderr
    assert result.stderr.endswith(
        "ValueError: invalid literal for int() with base 10: 'a bug'\n"
    )


def test_the_flags_are_the_experiments_own(programs):
    text = programs.run(SCRIPT, "--helpshort").stdout
    assert text.startswith("An experiment of the form of the real ones")
    assert f"{SCRIPT}:" in text
    for name in ("--env:", "--[no]resume:", "--width:", "--learning_rate:"):
        assert name in text
