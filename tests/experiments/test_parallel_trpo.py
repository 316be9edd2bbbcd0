"""benchmarks/parallel_trpo.py, which runs experiments as programs."""

SCRIPT = "benchmarks/parallel_trpo.py"

# Resumed after 12 seconds.
ROWS = """steps,episode_return,seconds
100000,-50.0,6
120000,nan,9
140000,-30.0,12
200000,-10.0,6
300000,-4.0,18
"""


def finished_run(path):
    path.mkdir(parents=True)
    (path / "evaluation.json").write_text("{}")
    (path / "metrics.csv").write_text(ROWS)


def test_unknown_names_are_told_with_the_known(programs, tmp_path):
    for flag in ("environments", "settings"):
        result = programs.run(SCRIPT, f"--{flag}=nothing", f"--runs={tmp_path}")
        assert result.status == 1
        (line,) = result.stderr.splitlines()
        assert f"--{flag}=nothing: known are " in line


def test_returns_are_means_over_the_steps_before_and_levels_are_of_those(
    programs, tmp_path
):
    finished_run(tmp_path / "reacher-original-0")
    result = programs.run(
        SCRIPT,
        "--environments=reacher",
        "--settings=original",
        "--seeds=1",
        f"--runs={tmp_path}",
        f"--figure={tmp_path / 'figure.png'}",
    )
    assert result.status == 0, result.stderr
    # The window is of 50,000 steps: at 140,000 it is the mean of -50 and -30.
    assert result.stdout.splitlines()[-7:] == [
        "| reacher | 0.1M | 0.25M | 0.5M | 1M | 3.2M | end of each seed |",
        "|---|---:|---:|---:|---:|---:|---|",
        "| original | -50.0 | -10.0 |  |  |  | -4.0 |",
        "",
        "| reacher | million steps to -20 · -10 · -6 | minutes to -20 · -10 · -6 "
        "| minutes |",
        "|---|---|---|---|",
        "| original | 0.20 · 0.20 · 0.30 | 0.3 · 0.3 · 0.5 | 0.5 |",
    ]
    assert (tmp_path / "figure.png").stat().st_size > 10_000
