"""experiments/cartpole_search.py, run as a user runs it."""

import csv
import os
import pathlib
import sys

import numpy as np
import pytest

from tests.programs import ROOT

SCRIPT = "experiments/cartpole_search.py"


@pytest.fixture(scope="module")
def finished(programs, tmp_path_factory):
    """A run of random search, and what it printed."""
    path = tmp_path_factory.mktemp("search") / "run"
    flags = ("--method=random_search", "--trials=50", "--num_seeds=2")
    result = programs.run(SCRIPT, *flags, f"--run_dir={path}")
    assert result.status == 0, result.stderr
    return path, result.stdout


def test_the_table_is_that_of_the_trials(finished):
    path, output = finished
    with open(path / "trials.csv", newline="") as file:
        trials = list(csv.DictReader(file))
    few = [
        [int(trial["tries"]) for trial in trials if trial["seed"] == seed]
        for seed in ("0", "1")
    ]
    few = [[tries for tries in of_seed if tries <= 30] for of_seed in few]
    names, _, row = (
        [cell.strip() for cell in line.split("|")]
        for line in output.splitlines()
        if line.startswith("|")
    )
    columns = dict(zip(names, row, strict=True))
    for name, values in (
        ("solved within 30 tries, %", [len(tries) / 0.5 for tries in few]),
        ("their mean", [np.mean(tries) for tries in few]),
    ):
        mean, deviation = map(float, columns[name].split(" ± "))
        assert mean == pytest.approx(np.mean(values), abs=0.051)
        assert deviation == pytest.approx(np.std(values, ddof=1), abs=0.051)


def test_what_it_prints_last_evaluates_the_best_policy(programs, finished):
    path, output = finished
    (python, script, model) = output.splitlines()[-1].rpartition(": ")[2].split()
    # The interpreter of the project, or one of the system.
    here = pathlib.Path(os.path.relpath(sys.executable, ROOT))
    assert python == (here.name if here.parts[0] == ".." else str(here))
    assert (script, model) == ("experiments/evaluate.py", f"--model={path}")
    result = programs.run(script, model, "--episodes=10")
    assert result.stdout.startswith("CartPole-v0: 10 episodes of")


def test_a_used_directory_is_refused_without_offering_to_resume(programs, finished):
    path, _ = finished
    result = programs.run(SCRIPT, f"--run_dir={path}")
    assert result.status == 1
    (line,) = result.stderr.splitlines()
    assert f"--run_dir={path}: the directory is not empty; give another" in line
    assert "--resume" not in line


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--noise_growth=nan", "--noise_growth=nan: must be finite and at least 1"),
        ("--noise_growth=inf", "--noise_growth=inf: must be finite and at least 1"),
        ("--noise_growth=0.9", "--noise_growth=0.9: must be finite and at least 1"),
        ("--solved_at=nan", "--solved_at=nan: must be greater than 0"),
        ("--trials=0", "--trials=0"),
        ("--env=Acrobot-v1", "Acrobot-v1"),
    ],
)
def test_bad_input_is_one_line(programs, tmp_path, flag, message):
    result = programs.run(SCRIPT, flag, f"--run_dir={tmp_path}/run")
    assert result.status == 1
    (line,) = result.stderr.splitlines()
    assert message in line
    assert not (tmp_path / "run").exists()
