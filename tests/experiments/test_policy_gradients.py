"""The binaries of PPO, A2C and REINFORCE, run as a user runs them."""

import csv
import json
import signal

import pytest

from tests.programs import signal_when
from tfzoo.training.metrics_csv import NOT_REPRODUCIBLE

SMALL = (
    "--num_envs=4",
    "--num_steps=16",
    "--hidden_units=8",
    "--evaluation_episodes=5",
    "--noanimation",
)


def train(programs, algorithm, run_dir, *flags, **arguments):
    return programs.run(
        f"experiments/{algorithm}.py",
        *SMALL,
        f"--run_dir={run_dir}",
        *flags,
        **arguments,
    )


def metrics(run_dir):
    with open(run_dir / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in NOT_REPRODUCIBLE} for row in rows]


@pytest.fixture(scope="module")
def finished(programs, tmp_path_factory):
    """A PPO run of 8 epochs of 16,384 steps, and what it printed."""
    run_dir = tmp_path_factory.mktemp("ppo") / "run"
    result = train(
        programs,
        "ppo",
        run_dir,
        "--steps=131072",
        "--checkpoint_every=1",
        "--animation",
    )
    assert result.status == 0, result.stderr
    return run_dir, result.stdout


def test_a_run_leaves_everything_and_says_what_is_next(finished):
    run_dir, output = finished
    left = {path.name for path in run_dir.iterdir()}
    assert left >= {
        "checkpoints",
        "episode.gif",
        "evaluation.json",
        "flags.txt",
        "learning_curve.png",
        "metrics.csv",
        "saved_model",
        "tensorboard",
    }
    assert [int(row["steps"]) for row in metrics(run_dir)] == [
        16_384 * (i + 1) for i in range(8)
    ]
    summary = json.loads((run_dir / "evaluation.json").read_text())
    assert f"mean return {summary['mean']:.1f}" in output
    for command in ("evaluate.py", "tensorboard", "--resume"):
        assert command in output


def test_kill_9_and_resume_is_the_run_that_was_never_killed(
    programs, finished, tmp_path
):
    whole, _ = finished
    run_dir = tmp_path / "run"

    kill = signal_when(
        lambda: (run_dir / "metrics.csv").exists() and len(metrics(run_dir)) >= 2
    )
    flags = ("--steps=131072", "--checkpoint_every=1")
    killed = train(programs, "ppo", run_dir, *flags, meanwhile=kill)
    assert killed.status == -signal.SIGKILL
    assert not (run_dir / "saved_model").exists()
    resumed = programs.run("experiments/ppo.py", "--resume", f"--run_dir={run_dir}")
    assert resumed.status == 0, resumed.stderr
    assert metrics(run_dir) == metrics(whole)
    for name in ("evaluation.json",):
        assert (run_dir / name).read_text() == (whole / name).read_text()


def test_evaluate_takes_a_run_directory_and_a_saved_model(programs, finished, tmp_path):
    run_dir, _ = finished
    from_run = programs.run(
        "experiments/evaluate.py", f"--model={run_dir}", "--episodes=20"
    )
    from_model = programs.run(
        "experiments/evaluate.py",
        f"--model={run_dir / 'saved_model'}",
        "--env=CartPole-v1",
        "--episodes=20",
        f"--video={tmp_path / 'play.gif'}",
    )
    assert from_run.status == from_model.status == 0, from_model.stderr
    (line,) = [line for line in from_run.stdout.splitlines() if "mean" in line]
    assert line in from_model.stdout.splitlines()
    assert "95" in line
    assert (tmp_path / "play.gif").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("algorithm", "flags"),
    [
        ("a2c", ("--steps=640", "--env=Pendulum-v1", "--action_bounds=rescale")),
        ("reinforce", ("--steps=1", "--num_steps=500")),
        ("ppo", ("--steps=640", "--env=FrozenLake-v1", "--normalize_rewards")),
        ("ppo", ("--steps=640", "--mixed_precision", "--jit_compile=false")),
        ("a2c", ("--steps=640", "--vectorization=async", "--reward_scale=0.1")),
        ("ppo", ("--steps=640", "--vectorization=workers", "--num_workers=2")),
        ("trpo", ("--steps=640", "--schedule=adaptive_kl", "--baseline=ridge")),
    ],
)
def test_other_runs_end_well(programs, tmp_path, algorithm, flags):
    result = train(programs, algorithm, tmp_path / "run", *flags)
    assert result.status == 0, result.stderr
    assert (tmp_path / "run" / "saved_model").exists()


def test_distribute_splits_the_copies_over_the_devices(programs, tmp_path):
    run_dir = tmp_path / "run"
    flags = ("--distribute=mirrored", "--steps=640")
    result = train(programs, "ppo", run_dir, *flags, devices=2)
    assert result.status == 0, result.stderr
    assert "2 devices" in result.stdout
    assert metrics(run_dir)[-1]["steps"] == "640"
    assert (run_dir / "saved_model").exists()
    for flag, message in (
        ("--num_envs=5", "--num_envs=5 cannot be split evenly over 2 devices"),
        ("--vectorization=sync", "only in-graph environments can be distributed"),
        ("--jit_compile=true", "--jit_compile=True cannot be had on several devices"),
    ):
        refused = train(programs, "ppo", tmp_path / "no", *flags, flag, devices=2)
        assert refused.status == 1
        (line,) = refused.stderr.splitlines()
        assert message in line
        assert not (tmp_path / "no").exists()


def test_a_trpo_run_of_changing_steps_resumes_with_other_workers(programs, tmp_path):
    run_dir = tmp_path / "run"
    result = train(
        programs,
        "trpo",
        run_dir,
        "--vectorization=workers",
        "--num_workers=2",
        "--schedule=linear",
        "--last_num_steps=64",
        "--steps=1000",
        "--checkpoint_every=1",
    )
    assert result.status == 0, result.stderr
    steps = [int(row["steps"]) for row in metrics(run_dir)]
    assert steps[0] == 64
    assert steps[-1] - steps[-2] > 100
    more = programs.run(
        "experiments/trpo.py",
        "--resume",
        f"--run_dir={run_dir}",
        "--steps=2000",
        "--num_workers=0",
    )
    assert more.status == 0, more.stderr
    assert [int(row["steps"]) for row in metrics(run_dir)][: len(steps)] == steps
    evaluated = programs.run(
        "experiments/evaluate.py", f"--model={run_dir}", "--episodes=3"
    )
    assert "mean" in evaluated.stdout


@pytest.mark.parametrize(
    ("algorithm", "flags", "message"),
    [
        ("ppo", ("--env=CartPol-v1",), "CartPole-v1"),
        ("ppo", ("--steps=100",), "--steps=100 must be a multiple of the 64"),
        ("ppo", ("--minibatches=7",), "--minibatches=7 must divide the 64"),
        ("ppo", ("--env=CliffWalking-v1", "--normalize_observations"), "normalised"),
        ("ppo", ("--hidden_units=64,x",), "--hidden_units"),
        ("ppo", ("--learning_rate=-1",), "--learning_rate=-1"),
        ("ppo", ("--discount=1.5",), "--discount=1.5"),
        ("ppo", ("--entropy_coefficient=-0.1",), "--entropy_coefficient=-0.1"),
        ("ppo", ("--learning_rat=1",), "learning_rate"),
        ("ppo", ("--env=MountainCar-v0", "--env_arguments=x=1"), "argument 'x'"),
        ("ppo", ("--env_arguments=num_envs=3",), "--env_arguments=num_envs=3"),
        ("ppo", ("--reward_scale=0",), "--reward_scale=0"),
        ("reinforce", ("--num_steps=100",), "--num_steps=100 must be at least"),
        ("reinforce", ("--distribute=mirrored",), "flag 'distribute'"),
        ("reinforce", ("--anneal",), "flag 'anneal'"),
        ("trpo", ("--steps=640", "--schedule=adaptive_steps"), "--schedule=adaptive_s"),
        ("trpo", ("--steps=640", "--value_minibatches=3"), "--value_minibatches=3"),
        ("trpo", ("--steps=640", "--damping=-1"), "--damping=-1"),
        ("trpo", ("--steps=640", "--num_workers=2"), "--num_workers=2"),
        (
            "trpo",
            ("--steps=640", "--margin=0.1"),
            "--margin means nothing to --schedule=fixed; it belongs to adaptive_steps",
        ),
        (
            "trpo",
            ("--steps=640", "--vectorization=workers", "--num_workers=9"),
            "num_workers",
        ),
        ("ppo", ("--kl_stop=0.01",), "--kl_stop=0.01: learning may end early"),
        ("ppo", ("--clip_ratio=nan",), "--clip_ratio=nan: must be finite"),
        ("ppo", ("--clip_ratio=inf",), "--clip_ratio=inf: must be finite"),
        ("ppo", ("--kl_coefficient=nan",), "--kl_coefficient=nan: must be finite"),
        ("ppo", ("--kl_target=nan",), "--kl_target=nan: must be finite"),
        ("ppo", ("--kl_stop=nan",), "--kl_stop=nan: must be finite"),
        ("ppo", ("--value_clip=nan",), "--value_clip=nan: must be finite"),
        ("ppo", ("--value_clip=-1",), "--value_clip=-1.0: must be finite and not neg"),
        ("ppo", ("--initial_log_stddev=nan",), "--initial_log_stddev=nan: must be be"),
        ("ppo", ("--hidden_units=²",), "must be positive integers, as 64,64"),
        ("ppo", ("--env_arguments=render_mode=human",), "=render_mode=human: "),
        ("ppo", ("--env=CartPol-v1", "--vectorization=in_graph"), "CartPole-v1"),
    ],
)
def test_bad_input_is_one_line(programs, tmp_path, algorithm, flags, message):
    result = train(programs, algorithm, tmp_path / "run", *flags)
    assert result.status in (1, 2)
    (line,) = result.stderr.splitlines()
    assert message in line
    assert not (tmp_path / "run").exists()


def test_a_used_directory_is_not_overwritten(programs, finished):
    run_dir, _ = finished
    before = (run_dir / "metrics.csv").read_text()
    result = train(programs, "ppo", run_dir, "--steps=64")
    assert result.status == 1
    assert f"--run_dir={run_dir}" in result.stderr
    assert (run_dir / "metrics.csv").read_text() == before


def test_a_checkpoint_of_another_shape_is_refused(programs, finished):
    run_dir, _ = finished
    flags_file = run_dir / "flags.txt"
    text = flags_file.read_text()
    try:
        flags_file.write_text(text.replace("--hidden_units=8", "--hidden_units=16"))
        result = programs.run("experiments/ppo.py", "--resume", f"--run_dir={run_dir}")
    finally:
        flags_file.write_text(text)
    assert result.status == 1
    assert "another model" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "reinforce", "trpo", "evaluate"])
def test_helpshort_lists_the_flags(programs, algorithm):
    result = programs.run(f"experiments/{algorithm}.py", "--helpshort")
    for flag in ("--env", "--seed"):
        assert flag in result.stdout
    if algorithm != "evaluate":
        for flag in ("--num_envs", "--steps", "--learning_rate", "--[no]resume"):
            assert flag in result.stdout
        text = " ".join(result.stdout.split())
        for flag in ("--distribute:", "--[no]anneal:"):
            assert (flag in text) == (algorithm in ("ppo", "a2c"))
        # REINFORCE learns from whole episodes.
        assert ("a multiple of --num_envs x" in text) == (algorithm != "reinforce")
