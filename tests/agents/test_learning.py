"""The tuned configurations reach what their result pages say."""

import csv
import json
import subprocess
import sys

import pytest

from tests.programs import ROOT


def mean_return(config, run_dir, seed):
    algorithm = config.split("_")[0]
    subprocess.run(
        [
            sys.executable,
            f"experiments/{algorithm}.py",
            f"--flagfile=experiments/configs/{config}.flags",
            f"--run_dir={run_dir}",
            f"--seed={seed}",
            "--noanimation",
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return json.loads((run_dir / "evaluation.json").read_text())["mean"]


def test_what_make_run_trains_solves_cartpole_within_a_minute(tmp_path):
    run_dir = tmp_path / "run"
    assert mean_return("ppo_cartpole", run_dir, seed=0) >= 475
    # Compilation included.
    *_, last = csv.DictReader((run_dir / "metrics.csv").open(newline=""))
    assert float(last["seconds"]) <= 60


# The thresholds are those of the result pages, less what seeds differ by.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "threshold"),
    [
        ("ppo_cartpole", 475),
        ("ppo_acrobot", -85),
        ("ppo_pendulum", -200),
        ("ppo_mountain_car_continuous", 90),
        ("a2c_cartpole", 475),
        ("a2c_acrobot", -90),
        ("a2c_pendulum", -200),
        ("a2c_mountain_car_continuous", 90),
        ("reinforce_cartpole", 475),
        ("dqn_cartpole", 475),
        ("dqn_acrobot", -100),
        ("dqn_mountain_car", -110),
        ("drqn_cartpole_positions", 450),
        ("drqn_cartpole_flickering", 450),
        ("wolpertinger_many_jumps", -1),
        ("ddpg_mountain_car_continuous", 90),
        ("ddpg_pendulum", -170),
        ("td3_pendulum", -160),
        ("sac_pendulum", -160),
    ],
)
def test_configuration_reaches_its_return(config, threshold, tmp_path):
    assert mean_return(config, tmp_path / "run", seed=11) >= threshold
