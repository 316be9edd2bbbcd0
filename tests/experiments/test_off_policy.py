"""The binaries of the agents with a replay buffer, run as a user runs them."""

import signal

import pytest

from tests.experiments.test_policy_gradients import metrics
from tests.programs import signal_when
from tests.training.test_resumable_run import reproducible

SMALL = (
    "--num_envs=2",
    "--steps=400",
    "--learning_starts=100",
    "--batch_size=8",
    "--replay_capacity=1000",
    "--hidden_units=8",
    "--evaluation_episodes=3",
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


@pytest.mark.parametrize(
    ("algorithm", "flags"),
    [
        ("dqn", ("--dueling", "--double", "--n_step=3", "--priority_exponent=0.6")),
        (
            "dqn",
            (
                "--noisy",
                "--epsilon_start=0",
                "--distribution=quantile",
                "--mixed_precision",
            ),
        ),
        pytest.param(
            "dqn",
            ("--vectorization=sync", "--epsilon_schedule=exponential", "--anneal"),
            marks=pytest.mark.slow,
        ),
        ("drqn", ("--burn_in=2", "--nostored_state", "--env=CartPoleFlickering-v1")),
        ("drqn", ("--mixed_precision", "--priority_exponent=0.6")),
        ("ddpg", ("--num_steps=4", "--jit_compile=false")),
        pytest.param(
            "td3",
            ("--num_steps=4", "--vectorization=sync"),
            marks=pytest.mark.slow,
        ),
        ("sac", ("--num_steps=4", "--actor_learning_rate=1e-4", "--mixed_precision")),
        ("wolpertinger", ("--num_steps=4", "--num_neighbors=3")),
    ],
)
def test_runs_end_well_and_are_evaluated(programs, tmp_path, algorithm, flags):
    run_dir = tmp_path / "run"
    result = train(programs, algorithm, run_dir, *flags)
    assert result.status == 0, result.stderr
    assert "mean return" in result.stdout
    assert metrics(run_dir)[-1]["steps"] == "400"
    assert float(metrics(run_dir)[-1]["gradient_steps"]) > 0
    evaluated = programs.run(
        "experiments/evaluate.py", f"--model={run_dir}", "--episodes=3"
    )
    assert evaluated.status == 0, evaluated.stderr
    assert "mean return" in evaluated.stdout


@pytest.mark.parametrize(
    ("algorithm", "flags"),
    [
        ("dqn", ("--num_steps=8", "--priority_exponent=0.6", "--checkpoint_every=800")),
        pytest.param(
            "drqn",
            ("--num_steps=8", "--checkpoint_every=800"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "sac",
            ("--num_steps=8", "--checkpoint_every=800"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_killed_run_resumes_as_if_nothing_had_happened(
    programs, tmp_path, algorithm, flags
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    flags += ("--steps=32000", "--jit_compile=false", "--anneal")
    train(programs, algorithm, whole, *flags)
    kill = signal_when(
        lambda: list((killed / "checkpoints").glob("step-*")), seconds_later=0.2
    )
    result = train(programs, algorithm, killed, *flags, meanwhile=kill)
    assert result.status == -signal.SIGKILL
    resumed = programs.run(
        f"experiments/{algorithm}.py", "--resume", f"--run_dir={killed}"
    )
    assert resumed.status == 0, resumed.stderr
    assert "resuming" in resumed.stdout
    assert len(metrics(whole)) >= 2
    assert reproducible(killed / "metrics.csv") == reproducible(whole / "metrics.csv")


@pytest.mark.parametrize(
    ("replay_checkpoint", "vectorization", "steps"),
    # Rows come every 1,000 gradient steps in the graph, 1,000 steps on the host.
    [
        pytest.param(False, "in_graph", 16_000, marks=pytest.mark.slow),
        (True, "sync", 1008),
    ],
)
def test_a_stopped_run_goes_on_with_or_without_its_memories(
    programs, tmp_path, replay_checkpoint, vectorization, steps
):
    flags = (
        # Schedules would end with --steps, so that the first halves would differ.
        "--epsilon_start=0.1",
        "--epsilon_end=0.1",
        "--noanneal",
        f"--{'' if replay_checkpoint else 'no'}replay_checkpoint",
        f"--vectorization={vectorization}",
        "--num_steps=8",
        "--jit_compile=false",
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(programs, "dqn", whole, f"--steps={2 * steps}", *flags)
    first = train(programs, "dqn", parts, f"--steps={steps}", *flags)
    assert first.status == 0, first.stderr
    second = programs.run(
        "experiments/dqn.py", "--resume", f"--run_dir={parts}", f"--steps={2 * steps}"
    )
    assert second.status == 0, second.stderr
    (_, expected), (_, given) = metrics(whole), metrics(parts)
    assert given["steps"] == expected["steps"]
    taken = [float(row["gradient_steps"]) for row in (expected, given)]
    # Without the buffer, 100 steps of 16 each fill it before learning goes on.
    assert taken[0] - taken[1] == (0 if replay_checkpoint else 100 // 16)
    sizes = [
        sum(file.stat().st_size for file in path.rglob("state.data*"))
        for path in (parts / "checkpoints").iterdir()
    ]
    assert (max(sizes) > 20_000) == replay_checkpoint


@pytest.mark.parametrize(
    ("algorithm", "flags", "message"),
    [
        ("dqn", ("--env=Pendulum-v1",), "is not supported by DQN; Discrete is"),
        ("ddpg", ("--env=CartPole-v1",), "is not supported by DDPG; a Box"),
        ("sac", ("--env=CartPole-v1",), "is not supported by SAC; a Box"),
        ("wolpertinger", ("--env=CartPole-v1",), "it has no embedding of its actions"),
        ("wolpertinger", ("--num_neighbors=3000",), "--num_neighbors=3000 is more"),
        ("wolpertinger", ("--action_embedding=no.npy",), "--action_embedding=no.npy: "),
        ("wolpertinger", ("--action_embedding=/dev/null",), "it cannot be read"),
        ("dqn", ("--learning_starts=401",), "--learning_starts=401: nothing would be"),
        ("dqn", ("--value_max=9",), "--value_max=9.0: it is of --distribution=categ"),
        ("dqn", ("--batch_size=2000",), "--batch_size=2000 is more than the 1000 rows"),
        ("dqn", ("--steps=401",), "--steps=401 must be a multiple of the 20"),
        ("dqn", ("--vectorization=workers",), "DQN cannot act in worker processes"),
        ("dqn", ("--replay_capacity=30",), "20 of the 15 rows that each of 2"),
        (
            "dqn",
            ("--distribution=categorical", "--value_min=3", "--value_max=1"),
            "value_range must rise",
        ),
        ("dqn", ("--target_rate=0",), "target_rate must be in (0, 1], got 0.0"),
        ("drqn", ("--sequence_length=600",), "take 600 steps, but an episode"),
        ("drqn", ("--torso=atari_cnn",), "--torso=atari_cnn: the layers of DRQN"),
        ("td3", ("--torso=atari_cnn",), "--torso=atari_cnn: actors and critics"),
        ("td3", ("--actor_learning_rate=0",), "--actor_learning_rate=0"),
        ("td3", ("--noise=pink",), "--noise=pink"),
        ("sac", ("--temperature=0",), "--temperature=0"),
        ("dqn", ("--adam_epsilon=0",), "--adam_epsilon=0.0: must be a positive number"),
        ("sac", ("--action_bounds=rescale",), "scales its actions to the bounds"),
        (
            "dqn",
            ("--epsilon_schedule=exponential", "--epsilon_end=0"),
            "--epsilon_schedule=exponential: --epsilon_start=1.0 and",
        ),
    ],
)
def test_bad_input_is_one_line(programs, tmp_path, algorithm, flags, message):
    result = train(programs, algorithm, tmp_path / "run", *flags)
    assert result.status in (1, 2)
    (line,) = result.stderr.splitlines()
    assert message in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("algorithm", "own"),
    [
        ("dqn", "--[no]noisy"),
        ("drqn", "--sequence_length"),
        ("ddpg", "--noise_theta"),
        ("td3", "--policy_delay"),
        ("sac", "--temperature"),
        ("wolpertinger", "--num_neighbors"),
    ],
)
def test_helpshort_lists_the_flags(programs, algorithm, own):
    result = programs.run(f"experiments/{algorithm}.py", "--helpshort")
    for flag in ("--env", "--steps", "--replay_capacity", "--[no]resume", own):
        assert flag in result.stdout
