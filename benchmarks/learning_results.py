"""Trains configurations with several seeds, and makes the table and curves of a page.

  python benchmarks/learning_results.py --configs=ppo_cartpole,ppo_acrobot --seeds=5 \
      --figure=docs/results/ppo_classic_control.png

Each run is an experiment of its own in RUNS/CONFIG-SEED. What is finished there is
taken as it is, what was killed is resumed. The table is Markdown, on stdout: for each
configuration the mean, over seeds, of the mean return of 100 greedy episodes after
training, their standard deviation (of the sample), and each. Agents that learn from
whole episodes take some more steps than they were told, which differ by seed: then the
fewest and the most are given.
"""

import difflib
import pathlib

import numpy as np
from absl import flags
from experiment_runs import CONFIGS, finished_experiment

from tfzoo.training import UserError, learning_curve_panels, run_experiment

_CONFIGS = flags.DEFINE_list(
    "configs", None, "Names of files in experiments/configs.", required=True
)
_SEEDS = flags.DEFINE_integer("seeds", 5, "How many seeds, from 0.", lower_bound=1)
_RUNS = flags.DEFINE_string("runs", "runs/results", "Where the runs are.")
_FIGURE = flags.DEFINE_string("figure", None, "Where to draw the curves, if anywhere.")


def check_config(config):
    """Refuses a name that no file in experiments/configs has.

    Raises:
      UserError: with the nearest names.
    """
    names = {path.stem for path in CONFIGS.glob("*.flags")}
    if config not in names:
        near = difflib.get_close_matches(config, sorted(names), cutoff=0.3)
        raise UserError(
            f"--configs={config}: there is no such configuration; "
            f"{'the nearest are' if near else 'there are'} "
            f"{', '.join(near or sorted(names))}"
        )


def run(config, seed, directory):
    """Returns the evaluation of a run; see `finished_experiment`."""
    arguments = [f"--flagfile={CONFIGS}/{config}.flags", f"--seed={seed}"]
    arguments += [] if seed == 0 else ["--noanimation"]
    return finished_experiment(config.split("_")[0], directory, arguments)


def range_of(numbers):
    """Returns the least and the greatest of integers as text, or what they all are."""
    least, greatest = min(numbers), max(numbers)
    return f"{least:,}" if least == greatest else f"{least:,} to {greatest:,}"


def main():
    """Trains what is missing, prints the table, draws the figure."""
    for config in _CONFIGS.value:
        check_config(config)
    print("| environment | steps | mean return | spread over seeds | each seed |")
    print("|---|---:|---:|---:|---|")
    runs = []
    for config in _CONFIGS.value:
        directories = [
            pathlib.Path(_RUNS.value, f"{config}-{seed}")
            for seed in range(_SEEDS.value)
        ]
        results = [run(config, s, d) for s, d in enumerate(directories)]
        means = np.array([result["mean"] for result in results])
        name = results[0]["env"]
        spread = means.std(ddof=1) if len(means) > 1 else 0.0
        each = ", ".join(f"{mean:.1f}" for mean in means)
        print(
            f"| {name} | {range_of([result['steps'] for result in results])} | "
            f"{means.mean():.1f} | {spread:.1f} | {each} |",
            flush=True,
        )
        runs.append((name, config, [d / "metrics.csv" for d in directories]))
    if _FIGURE.value:
        names = [name for name, _, _ in runs]
        curves = {
            name if names.count(name) == 1 else config: {"": files}
            for name, config, files in runs
        }
        learning_curve_panels(curves, _FIGURE.value)


if __name__ == "__main__":
    run_experiment(main)
