"""benchmarks/learning_results.py, which runs experiments as programs."""

import json

import pytest

SCRIPT = "benchmarks/learning_results.py"


def finished_run(path, steps, mean):
    path.mkdir()
    result = {"env": "CartPole-v1", "steps": steps, "mean": mean}
    (path / "evaluation.json").write_text(json.dumps(result))


def test_an_unknown_configuration_is_told_with_the_nearest(programs, tmp_path):
    flags = ("--configs=a2c_cartpole,ppo_cartpol", f"--runs={tmp_path}")
    result = programs.run(SCRIPT, *flags)
    assert result.status == 1
    (line,) = result.stderr.splitlines()
    assert "--configs=ppo_cartpol: there is no such" in line
    assert "the nearest are ppo_cartpole" in line
    assert not list(tmp_path.iterdir())


def test_steps_that_differ_by_seed_are_a_range(programs, tmp_path):
    for seed, (steps, mean) in enumerate([(1030, 10.0), (1010, 12.0)]):
        finished_run(tmp_path / f"reinforce_cartpole-{seed}", steps, mean)
        finished_run(tmp_path / f"a2c_cartpole-{seed}", 1000, mean)
    configs = "--configs=reinforce_cartpole,a2c_cartpole"
    result = programs.run(SCRIPT, configs, f"--runs={tmp_path}", "--seeds=2")
    assert result.stdout.splitlines()[-2:] == [
        "| CartPole-v1 | 1,010 to 1,030 | 11.0 | 1.4 | 10.0, 12.0 |",
        "| CartPole-v1 | 1,000 | 11.0 | 1.4 | 10.0, 12.0 |",
    ]


@pytest.mark.slow
def test_a_run_that_was_killed_before_its_first_checkpoint_is_resumed(
    programs, tmp_path
):
    path = tmp_path / "ppo_cartpole-0"
    path.mkdir()
    (path / "flags.txt").write_text(
        "# experiment: ppo\n--num_envs=4\n--num_steps=16\n--steps=64\n"
        "--hidden_units=8\n--evaluation_episodes=2\n--noanimation\n"
    )
    flags = ("--configs=ppo_cartpole", "--seeds=1", f"--runs={tmp_path}")
    result = programs.run(SCRIPT, *flags)
    assert result.status == 0, result.stderr
    assert result.stdout.splitlines()[-1].startswith("| CartPole-v1 | 64 | ")


def test_an_experiment_that_fails_is_one_line_more(programs, tmp_path):
    path = tmp_path / "ppo_cartpole-0"
    path.mkdir()
    (path / "flags.txt").write_text("# experiment: a2c\n")
    flags = ("--configs=ppo_cartpole", "--seeds=1", f"--runs={tmp_path}")
    result = programs.run(SCRIPT, *flags)
    assert result.status == 1
    *_, experiment, line = result.stderr.splitlines()
    assert "this is a run of a2c, not of ppo" in experiment
    assert line == f"learning_results.py: {path}: its experiment ended with status 1"
    assert "Traceback" not in result.stderr
