"""Trains configurations with several seeds, and makes the table and curves of a page.

  python benchmarks/learning_results.py --configs=ppo_cartpole,ppo_acrobot --seeds=5 \
      --figure=docs/results/ppo_classic_control.png

Each run is an experiment of its own in RUNS/CONFIG-SEED. What is finished there is
taken as it is, what was killed is resumed. The table is Markdown, on stdout: for each
configuration the mean, over seeds, of the mean return of 100 greedy episodes after
training, their standard deviation (of the sample), and each.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
from absl import app, flags

from tfzoo.training import learning_curve_panels

_CONFIGS = flags.DEFINE_list(
    "configs", None, "Names of files in experiments/configs.", required=True
)
_SEEDS = flags.DEFINE_integer("seeds", 5, "How many seeds, from 0.", lower_bound=1)
_RUNS = flags.DEFINE_string("runs", "runs/results", "Where the runs are.")
_FIGURE = flags.DEFINE_string("figure", None, "Where to draw the curves, if anywhere.")

_ROOT = pathlib.Path(__file__).parents[1]


def run(config, seed, directory):
    """Runs, resumes or finds one experiment; returns its evaluation."""
    evaluation = directory / "evaluation.json"
    if not evaluation.exists():
        command = [sys.executable, f"experiments/{config.split('_')[0]}.py"]
        if any((directory / "checkpoints").glob("step-*")):
            command += ["--resume", f"--run_dir={directory.absolute()}"]
        else:
            flagfile = f"experiments/configs/{config}.flags"
            command += [
                f"--flagfile={flagfile}",
                f"--seed={seed}",
                f"--run_dir={directory.absolute()}",
            ]
            command += [] if seed == 0 else ["--noanimation"]
        subprocess.run(command, cwd=_ROOT, check=True, stdout=sys.stderr)
    return json.loads(evaluation.read_text("utf8"))


def main(argv):
    """Trains what is missing, prints the table, draws the figure."""
    del argv
    print("| environment | steps | mean return | spread over seeds | each seed |")
    print("|---|---:|---:|---:|---|")
    curves = {}
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
            f"| {name} | {results[0]['steps']:,} | {means.mean():.1f} | "
            f"{spread:.1f} | {each} |",
            flush=True,
        )
        title = name if name not in curves else config
        curves[title] = {"": [d / "metrics.csv" for d in directories]}
    if _FIGURE.value:
        learning_curve_panels(curves, _FIGURE.value)


if __name__ == "__main__":
    app.run(main)
