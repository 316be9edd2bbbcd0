"""The experiments of K. Frans' parallel TRPO (2016), done again: tables and figures.

  python benchmarks/parallel_trpo.py --environments=reacher --figure=reacher.png
  python benchmarks/parallel_trpo.py --environments=half_cheetah \
      --settings=original,adaptive --seeds=3
  python benchmarks/parallel_trpo.py --scaling --figure=scaling.png

For each environment and setting, runs of experiments/trpo.py with several seeds, of
true environment steps. Two tables: the mean return of the sampling policy, over the
seeds and the last 200,000 steps (Reacher: 50,000) before a number of steps; and the
steps and the minutes until that mean first reaches a level. Minutes count from the
start of training, compilation included, and hold for whatever else the machine did.

"original" is configs/trpo_ENVIRONMENT_original.flags, the settings of 2016 with a fixed
20,000 steps an update and a radius of 0.001 nats, "adaptive" is
configs/trpo_ENVIRONMENT.flags. Most others are "original" with another number of steps,
another radius, or one of the schedules of 2016; SETTINGS has them all.

--scaling measures, on Reacher with 20,000 steps an update, the seconds of collecting
and of learning by the number of worker processes: medians over updates.

What is finished in --runs is taken as it is, what was killed is resumed.
"""

import csv
import pathlib
import statistics

import numpy as np
from absl import flags
from experiment_runs import CONFIGS, finished_experiment

from tfzoo.training import UserError, run_experiment
from tfzoo.training.figures import read_returns

# Steps at which a return is read, levels that are to be reached, steps averaged over.
ENVIRONMENTS = {
    "half_cheetah": {
        "steps": (1e6, 2e6, 4e6, 6e6, 9.7e6),
        "levels": (1000, 3000),
        "window": 2e5,
    },
    "reacher": {
        "steps": (1e5, 2.5e5, 5e5, 1e6, 3.2e6),
        "levels": (-20, -10, -6),
        "window": 5e4,
    },
    "swimmer": {
        "steps": (5e5, 1e6, 2e6, 4e6, 5.6e6),
        "levels": (80, 100),
        "window": 2e5,
    },
}
# Which configuration, and what is set otherwise.
_FROM_1000 = ["--num_steps=50"]
SETTINGS = {
    "original": ("_original", []),
    "adaptive": ("", []),
    "adaptive_discount_99": ("", ["--discount=0.99", "--gae_lambda=0.97"]),
    "adaptive_10k": ("", ["--num_steps=500", "--largest_kl_radius=0.02"]),
    "fixed_10k": ("_original", ["--num_steps=500"]),
    "fixed_5k": ("_original", ["--num_steps=250"]),
    "fixed_1500": ("_original", ["--num_steps=75"]),
    "fixed_20k_005": ("_original", ["--kl_radius=0.005"]),
    "fixed_20k_010": ("_original", ["--kl_radius=0.01"]),
    "adaptive_kl": ("_original", ["--schedule=adaptive_kl"]),
    "adaptive_steps": ("_original", ["--schedule=adaptive_steps", *_FROM_1000]),
    "adaptive_both": ("_original", ["--schedule=adaptive_both", *_FROM_1000]),
    "adaptive_both_margin": (
        "_original",
        [
            "--schedule=adaptive_both",
            "--margin=0.05",
            "--largest_steps=10000",
            *_FROM_1000,
        ],
    ),
}
_SCALING_UPDATES = 20

_ENVIRONMENTS = flags.DEFINE_list(
    "environments", list(ENVIRONMENTS), "Which of half_cheetah, reacher and swimmer."
)
_SETTINGS = flags.DEFINE_list("settings", ["original", "adaptive"], "Which settings.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "How many seeds, from 0.", lower_bound=1)
_STEPS = flags.DEFINE_integer("max_steps", None, "Fewer steps a run than its config.")
_NUM_WORKERS = flags.DEFINE_integer(
    "num_workers", None, "Of each run; by default one a core."
)
_SCALING = flags.DEFINE_boolean("scaling", False, "Measure workers, not returns.")
_WORKERS = flags.DEFINE_list("workers", list("12345678"), "Their numbers, to measure.")
_RUNS = flags.DEFINE_string("runs", "runs/parallel_trpo", "Where the runs are.")
_FIGURE = flags.DEFINE_string("figure", None, "Where to draw the curves, if anywhere.")


def run(config, directory, arguments):
    """Runs or resumes an experiment, unless it is finished."""
    finished_experiment(
        "trpo",
        directory,
        [
            f"--flagfile={CONFIGS}/{config}.flags",
            "--noanimation",
            *arguments,
        ],
    )


def read_seconds(metrics):
    """Reads the seconds of training at each row with a return.

    A run that was resumed counts from 0 again; what went before is added.
    """
    with open(metrics, newline="", encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    seconds = np.array([float(row["seconds"]) for row in rows])
    before = np.concatenate([[0.0], seconds[:-1]])
    seconds = seconds + np.cumsum(np.where(seconds < before, before, 0.0))
    return seconds[[row["episode_return"] != "nan" for row in rows]]


def trailing_mean(steps, returns, window):
    """Returns the mean of the returns in the `window` steps up to each, [rows]."""
    sums = np.concatenate([[0.0], np.cumsum(returns)])
    first = np.searchsorted(steps, steps - window, side="right")
    last = np.arange(1, len(steps) + 1)
    return (sums[last] - sums[first]) / (last - first)


def first_at_least(values, means, level):
    """Returns the value where the mean first reaches a level, or None."""
    reached = np.flatnonzero(means >= level)
    return values[reached[0]] if len(reached) else None


def short(steps):
    """Formats steps in thousands or millions."""
    return f"{steps / 1e6:g}M"


def joined(values, scale, form):
    """Formats what each seed needed."""
    return "/".join(
        "never" if value is None else f"{value / scale:{form}}" for value in values
    )


def measure_returns(name):
    """Runs an environment's settings, prints its tables, returns its curves."""
    about = ENVIRONMENTS[name]
    curves = {}
    for setting in _SETTINGS.value:
        suffix, arguments = SETTINGS[setting]
        # Whole updates.
        unit = 1_500 if setting == "fixed_1500" else 20_000
        steps = -(-int(_STEPS.value or about["steps"][-1]) // unit) * unit
        arguments = [*arguments, f"--steps={steps}"]
        if _NUM_WORKERS.value is not None:
            arguments = [*arguments, f"--num_workers={_NUM_WORKERS.value}"]
        curves[setting] = []
        for seed in range(_SEEDS.value):
            directory = pathlib.Path(_RUNS.value, f"{name}-{setting}-{seed}")
            run(f"trpo_{name}{suffix}", directory, [f"--seed={seed}", *arguments])
            metrics = directory / "metrics.csv"
            steps, returns = read_returns(metrics)
            means = trailing_mean(steps, returns, about["window"])
            curves[setting].append((steps, read_seconds(metrics), means))
    columns = [short(steps) for steps in about["steps"]]
    print(f"\n| {name} | {' | '.join(columns)} | end of each seed |")
    print("|---|" + "---:|" * len(columns) + "---|")
    for setting, seeds in curves.items():
        cells = []
        for at in about["steps"]:
            # Updates of other sizes end some steps before.
            reached = [
                means[np.searchsorted(steps, at, side="right") - 1]
                for steps, _, means in seeds
                if steps[0] <= at and steps[-1] >= 0.99 * at
            ]
            everywhere = len(reached) == len(seeds)
            cells.append(f"{np.mean(reached):.1f}" if everywhere else "")
        ends = ", ".join(f"{means[-1]:.1f}" for _, _, means in seeds)
        print(f"| {setting} | {' | '.join(cells)} | {ends} |", flush=True)
    levels = " · ".join(str(level) for level in about["levels"])
    print(f"\n| {name} | million steps to {levels} | minutes to {levels} | minutes |")
    print("|---|---|---|---|")
    for setting, seeds in curves.items():
        to = {"steps": [], "minutes": []}
        for level in about["levels"]:
            at = [first_at_least(s, means, level) for s, _, means in seeds]
            to["steps"].append(joined(at, 1e6, ".2f"))
            at = [first_at_least(t, means, level) for _, t, means in seeds]
            to["minutes"].append(joined(at, 60, ".1f"))
        whole = joined([seconds[-1] for _, seconds, _ in seeds], 60, ".1f")
        print(
            f"| {setting} | {' · '.join(to['steps'])} | {' · '.join(to['minutes'])} | "
            f"{whole} |",
            flush=True,
        )
    return curves


def new_figure(rows, columns):
    """Returns a figure and its axes, [rows, columns], with a light grid."""
    # Without pyplot there is no window system to choose, and no state to clean up.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.4 * rows), dpi=150, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.grid(alpha=0.3, linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def draw_returns(of_environments, path):
    """Draws returns by million steps and by minutes, a row for each environment."""
    figure, panels = new_figure(len(of_environments), 2)
    for row, (name, settings) in zip(panels, of_environments.items(), strict=True):
        for number, (setting, seeds) in enumerate(settings.items()):
            for seed, (steps, seconds, means) in enumerate(seeds):
                for panel, x in zip(row, (steps / 1e6, seconds / 60), strict=True):
                    panel.plot(
                        x,
                        means,
                        color=f"C{number}",
                        linewidth=1.2,
                        label=setting if seed == 0 else None,
                    )
        for panel, label in zip(row, ("million steps", "minutes"), strict=True):
            panel.set_xlabel(label)
            panel.set_xlim(left=0)
        row[0].set_title(name, loc="left", fontsize=10)
        row[0].set_ylabel("return while training")
        row[0].legend(frameon=False, fontsize=8)
    figure.savefig(path)


def measure_scaling():
    """Measures an update with each number of workers; returns a list of rows."""
    print("| workers | collecting, s an update | learning, s an update | steps/s |")
    print("|---:|---:|---:|---:|")
    rows = []
    for workers in map(int, _WORKERS.value):
        directory = pathlib.Path(_RUNS.value, f"scaling-{workers}")
        steps = _SCALING_UPDATES * 20_000
        run(
            "trpo_reacher_original",
            directory,
            [
                # Dealt evenly to 1, 2, 4, 5 and 8 workers, and nearly so to others.
                "--num_envs=40",
                "--num_steps=500",
                f"--steps={steps}",
                f"--num_workers={workers}",
                "--evaluation_episodes=1",
            ],
        )
        with open(directory / "metrics.csv", newline="", encoding="utf8") as file:
            # The first update starts the environments and compiles.
            updates = list(csv.DictReader(file))[1:]
        collect, learn = (
            statistics.median(float(update[name]) for update in updates)
            for name in ("collect_seconds", "learn_seconds")
        )
        rows.append((workers, collect, learn))
        print(
            f"| {workers} | {collect:.2f} | {learn:.2f} | "
            f"{20_000 / (collect + learn):,.0f} |",
            flush=True,
        )
    return rows


def draw_scaling(rows, path):
    """Draws the seconds of collecting and learning by the number of workers."""
    figure, panels = new_figure(1, 1)
    workers, collect, learn = np.array(rows).T
    panel = panels[0, 0]
    panel.bar(workers, collect, color="C0", label="collecting")
    panel.bar(workers, learn, bottom=collect, color="C1", label="learning")
    panel.set_xlabel("worker processes")
    panel.set_ylabel("seconds an update of 20,000 steps")
    panel.legend(frameon=False)
    figure.savefig(path)


def main():
    """Trains what is missing, prints the tables, draws the figure."""
    if _SCALING.value:
        rows = measure_scaling()
        if _FIGURE.value:
            draw_scaling(rows, _FIGURE.value)
        return
    for flag, chosen, known in (
        ("environments", _ENVIRONMENTS.value, ENVIRONMENTS),
        ("settings", _SETTINGS.value, SETTINGS),
    ):
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise UserError(
                f"--{flag}={','.join(unknown)}: known are {', '.join(known)}"
            )
    of_environments = {name: measure_returns(name) for name in _ENVIRONMENTS.value}
    if _FIGURE.value:
        draw_returns(of_environments, _FIGURE.value)


if __name__ == "__main__":
    run_experiment(main)
