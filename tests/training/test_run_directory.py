import re
import sys

import pytest

from tfzoo.training import RunDirectory, UserError
from tfzoo.training.run_directory import new_default_path


def test_a_directory_in_use_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"--run_dir=.* not empty; .*--resume"):
        RunDirectory(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_new_or_an_empty_directory_is_taken(tmp_path):
    RunDirectory(tmp_path)
    RunDirectory(tmp_path / "deep" / "down")
    assert (tmp_path / "deep" / "down").is_dir()


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


def test_the_default_path_says_what_ran_where_and_when(tmp_path):
    paths = {new_default_path("ppo", "ALE/Pong-v5", tmp_path) for _ in range(3)}
    assert len(paths) == 3
    for path in paths:
        assert path.parent == tmp_path
        assert re.fullmatch(r"ppo-ALE-Pong-v5-\d{8}-\d{6}(-\d)?", path.name)
        assert not any(RunDirectory(path).path.iterdir())


def test_flags_are_written_when_asked(tmp_path):
    run = RunDirectory(tmp_path, flags="--steps=1\n")
    assert not run.flags_file.exists()
    run.write_flags()
    assert run.flags_file.read_text() == "--steps=1\n"


def test_the_next_commands_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["experiments/ppo.py", "--seed=1"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv/bin/python"))
    _, evaluate, board, resume = RunDirectory("my run").next_commands(20).splitlines()
    python = ".venv/bin/python"
    assert evaluate.endswith(f"{python} experiments/evaluate.py --model='my run'")
    assert board.endswith(f"{python} -m tensorboard.main --logdir='my run'")
    assert resume.endswith(
        f"{python} experiments/ppo.py --resume --run_dir='my run' --steps=20"
    )
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3.12")
    assert RunDirectory("my run").resume_command().startswith("python3.12 ")
