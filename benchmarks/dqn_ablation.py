"""What each addition to DQN does: environment steps until CartPole-v1 is solved.

  python benchmarks/dqn_ablation.py --seeds=10 --figure=docs/results/dqn_ablation.png

Solved is a mean return of 475 over 100 greedy episodes, looked at after every 5,000
steps; a run ends there, or unsolved after 300,000. The settings are the same for all
variants: networks of 120-84, a gradient step on a batch of 128 after every ten steps,
the squared error, Adam 2.5e-4, a copy to the target network every 50 gradient steps,
the last 10,000 rows, and epsilon from 1 to 0.05 over the first 50,000 steps.

Each finished run is kept in --runs and not repeated. It prints a Markdown table.
"""

import math
import pathlib
import statistics

import keras
import matplotlib
import tensorflow as tf
from absl import app, flags
from finished_runs import finished

from tfzoo.agents import DQN
from tfzoo.environments import CartPole

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_PRIORITIES = {
    "priority_exponent": 0.6,
    "importance_exponent": keras.optimizers.schedules.PolynomialDecay(
        0.4, 300_000, 1.0
    ),
}
_CATEGORICAL = {"distribution": "categorical", "value_range": (0.0, 100.0)}
_NOISY = {"noisy": True, "epsilon": 0.0}
VARIANTS = {
    "plain": {},
    "double": {"double": True},
    "dueling": {"dueling": True},
    "prioritised": _PRIORITIES,
    "3 steps": {"n_step": 3},
    "noisy": _NOISY,
    "categorical": _CATEGORICAL,
    "quantile": {"distribution": "quantile", "num_atoms": 51},
    "double, dueling, prioritised": {"double": True, "dueling": True, **_PRIORITIES},
    "rainbow": {
        "double": True,
        "dueling": True,
        "n_step": 3,
        **_PRIORITIES,
        **_NOISY,
        **_CATEGORICAL,
    },
}
_SOLVED = 475.0
_EVERY = 5_000
_STEPS = 300_000

flags.DEFINE_integer("seeds", 10, "Runs of each variant.", lower_bound=1)
flags.DEFINE_multi_enum(
    "variant", list(VARIANTS), list(VARIANTS), "Which to run; may be given again."
)
flags.DEFINE_string("runs", "runs/dqn_ablation", "Where finished runs are kept.")
flags.DEFINE_string("figure", None, "Where to write the figure.")
FLAGS = flags.FLAGS


def run(variant, seed):
    """Returns the mean returns after every 5,000 steps, the last one solved or not."""
    environment = CartPole()
    options = {
        "huber_delta": None,
        "epsilon": keras.optimizers.schedules.PolynomialDecay(1.0, 50_000, 0.05),
        **VARIANTS[variant],
    }
    agent = DQN(
        environment.observation_space,
        environment.action_space,
        network_options={"hidden_units": (120, 84)},
        target_period=50,
        num_steps=10,
        gradient_steps=1,
        batch_size=128,
        learning_starts=5_000,
        replay_capacity=10_000,
        seed=seed,
        **options,
    )
    agent.compile(keras.optimizers.Adam(2.5e-4))
    means = []
    for done in range(0, _STEPS, _EVERY):
        agent.fit(
            environment,
            done + _EVERY,
            initial_step=done,
            steps_per_epoch=_EVERY,
            verbose=0,
        )
        means.append(agent.evaluate(environment, 100, seed=seed)["mean"])
        if means[-1] >= _SOLVED:
            break
    return means


def stored(variant, seed):
    """Returns what `run` does, from the file of a run that is finished already."""
    name = variant.replace(", ", "-").replace(" ", "-")
    path = pathlib.Path(FLAGS.runs, f"{name}-{seed}.json")
    return finished(path, lambda: run(variant, seed))


def steps_to_solve(means):
    """Returns the steps after which the game was solved, or None."""
    return _EVERY * len(means) if means[-1] >= _SOLVED else None


def row(variant, runs):
    """Returns a row of the table."""
    steps = [steps_to_solve(means) for means in runs]
    solved = sorted(s for s in steps if s is not None)
    median = statistics.median([s or math.inf for s in steps])
    median = f"{median:,.0f}" if median <= _STEPS else f"more than {_STEPS:,}"
    spread = f"{solved[0]:,} to {solved[-1]:,}" if solved else ""
    return f"| {variant} | {len(solved)} of {len(steps)} | {median} | {spread} |"


def draw(results, path):
    """Draws the share of runs that have solved the game by steps."""
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for runs in results.values():
        solved = sorted(s for s in map(steps_to_solve, runs) if s is not None)
        shares = [i / len(runs) for i in range(len(solved) + 1)]
        axes.step([0, *solved, _STEPS], [*shares, shares[-1]], where="post")
    axes.legend(list(results), frameon=False)
    axes.set(xlabel="environment steps", ylabel="share of runs that solved CartPole-v1")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def main(argv):
    """Runs what is missing, then prints the table and draws the figure."""
    del argv
    tf.config.threading.set_intra_op_parallelism_threads(1)
    results = {
        variant: [stored(variant, seed) for seed in range(FLAGS.seeds)]
        for variant in FLAGS.variant
    }
    print("| variant | solved | median of steps | of those that solved |")
    print("|---|---|---:|---:|")
    for variant, runs in results.items():
        print(row(variant, runs))
    if FLAGS.figure:
        draw(results, FLAGS.figure)


if __name__ == "__main__":
    app.run(main)
