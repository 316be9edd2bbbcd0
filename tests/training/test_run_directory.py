import errno
import os
import re
import sys

import pytest

from tfzoo.training import RunDirectory, UserError, run_directory
from tfzoo.training.run_directory import new_default_path


def test_a_directory_in_use_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"--run_dir=.* not empty; .*--resume"):
        RunDirectory(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_resume_is_not_offered_where_there_is_no_such_choice(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UserError, match=r"not empty; give another$"):
        RunDirectory(tmp_path, resume=None)


def test_a_new_or_an_empty_directory_is_taken(tmp_path):
    RunDirectory(tmp_path)
    RunDirectory(tmp_path / "deep" / "down")
    assert (tmp_path / "deep" / "down").is_dir()


def test_what_is_killed_before_it_wrote_anything_leaves_an_empty_directory(tmp_path):
    for name in (".lock", ".unfinished.flags.txt"):
        (tmp_path / name).touch()
        RunDirectory(tmp_path)


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=f"--run_dir={path}: "):
            RunDirectory(path)


def test_only_a_run_with_checkpoints_resumes(tmp_path):
    with pytest.raises(UserError, match="there is no such run"):
        RunDirectory(tmp_path / "nowhere", resume=True)
    with pytest.raises(UserError, match="no checkpoint to resume from"):
        RunDirectory(tmp_path, resume=True)
    (tmp_path / "checkpoints" / "step-000000000000").mkdir(parents=True)
    assert RunDirectory(tmp_path, resume=True).resume


def test_a_run_that_was_killed_before_its_first_checkpoint_resumes(tmp_path):
    (tmp_path / "flags.txt").touch()
    (tmp_path / "checkpoints" / ".unfinished.step-000000000000").mkdir(parents=True)
    RunDirectory(tmp_path, resume=True)
    # A run of which there are metrics has had a checkpoint.
    (tmp_path / "metrics.csv").touch()
    with pytest.raises(UserError, match="no checkpoint to resume from"):
        RunDirectory(tmp_path, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_directory_that_another_process_uses_is_refused(tmp_path, resume):
    fcntl = pytest.importorskip("fcntl")
    if resume:
        (tmp_path / "flags.txt").touch()
    # A file that is opened twice counts as two, even in one process.
    with open(tmp_path / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        message = f"--run_dir={tmp_path}: is in use by another process"
        with pytest.raises(UserError, match=message):
            RunDirectory(tmp_path, resume=resume)
    RunDirectory(tmp_path, resume=resume)
    with open(tmp_path / ".lock", "w") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # The process itself may open it again.
    RunDirectory(tmp_path, resume=resume)


def test_systems_without_locks_go_without(tmp_path, monkeypatch):
    monkeypatch.setattr(run_directory, "fcntl", None)
    RunDirectory(tmp_path / "windows")
    assert not os.listdir(tmp_path / "windows")


def test_file_systems_without_locks_go_without(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    RunDirectory(tmp_path)


def test_the_default_path_says_what_ran_where_and_when(tmp_path):
    paths = {new_default_path("ppo", "ALE/Pong-v5", tmp_path) for _ in range(3)}
    assert len(paths) == 3
    for path in paths:
        assert path.parent == tmp_path
        assert re.fullmatch(r"ppo-ALE-Pong-v5-\d{8}-\d{6}(-\d)?", path.name)
        assert not any(path.iterdir())
        RunDirectory(path)


def test_flags_are_written_when_asked(tmp_path):
    run = RunDirectory(tmp_path, flags="--steps=1\n")
    assert not run.flags_file.exists()
    run.write_flags()
    assert run.flags_file.read_text() == "--steps=1\n"


def test_the_next_commands_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["experiments/ppo.py", "--seed=1"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv/bin/python"))
    _, evaluate, board, resume = (
        RunDirectory("my run").next_commands("--steps=20").splitlines()
    )
    python = ".venv/bin/python"
    assert evaluate.endswith(f"{python} experiments/evaluate.py --model='my run'")
    assert board.endswith(f"{python} -m tensorboard.main --logdir='my run'")
    assert resume.endswith(
        f"{python} experiments/ppo.py --resume --run_dir='my run' --steps=20"
    )
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3.12")
    assert RunDirectory("my run").resume_command().startswith("python3.12 ")
