"""Random search and hill climbing on CartPole, over thousands of trials.

  python experiments/cartpole_search.py --num_seeds=5
  python experiments/cartpole_search.py --env=CartPole-v1 --method=hill_climbing

Each method searches the four weights of a linear policy, `--trials` times for each
seed. The run directory gets trials.csv (one row a trial), summary.csv (one row a method
and seed), histogram.png and saved_model, the best policy, for evaluate.py.
"""

import csv
import math
import time

import gymnasium as gym
import numpy as np
import tensorflow as tf
from absl import flags

from tfzoo import random, training
from tfzoo.agents import linear_policy_search
from tfzoo.environments import make

METHODS = {
    "random_search": "random search",
    "random_search_summed": "random search, summed return",
    "hill_climbing": "hill climbing",
    "hill_climbing_growing": "hill climbing, growing noise",
    "hill_climbing_summed": "hill climbing, summed return",
    "hill_climbing_growing_summed": "hill climbing, both",
}
TEST_EPISODES = 100
# The mean over all solved trials is ruled by a few that took hundreds of tries.
FEW_TRIES = 30

flags.DEFINE_string("env", "CartPole-v0", "CartPole-v0 or CartPole-v1.")
flags.DEFINE_multi_enum(
    "method",
    list(METHODS),
    list(METHODS),
    "What to run; all by default. Repeat the flag for several.",
)
flags.DEFINE_integer("trials", 1000, "Searches for each method and seed.", 1)
flags.DEFINE_integer("num_envs", 128, "Copies of the environment to search in.", 1)
flags.DEFINE_float(
    "noise_growth",
    1.1,
    "Factor on the noise after each try without improvement, in *_growing*.",
)
flags.register_validator(
    "noise_growth",
    lambda growth: 1 <= growth < math.inf,
    message="must be finite and at least 1",
)
flags.DEFINE_integer("episodes_per_try", 5, "Episodes that *_summed add up.", 1)
flags.DEFINE_integer(
    "max_tries", None, "When to give up: 10,000 (random) or 2,000 (hill) by default.", 1
)
flags.DEFINE_float(
    "solved_at",
    None,
    "Mean return of a try that solves; by default the time limit (200 or 500).",
)
flags.DEFINE_integer("seed", 0, "The same seed gives the same trials.", 0)
flags.DEFINE_integer("num_seeds", 1, "Runs the seeds from --seed on.", 1)
flags.DEFINE_integer(
    "threads", 1, "Threads within one operation; 0 lets TensorFlow choose.", 0
)
flags.DEFINE_string(
    "run_dir",
    None,
    "Where to put the run; by default runs/cartpole_search-ENVIRONMENT-TIME.",
)
FLAGS = flags.FLAGS


def main():
    """Searches, tests what was found, reports."""
    environment = make(FLAGS.env, FLAGS.num_envs)
    linear_policy_search.check_environment(environment)
    limit = environment.max_episode_steps
    if FLAGS.solved_at is not None and not 0 < FLAGS.solved_at <= limit:
        raise training.UserError(
            f"--solved_at={FLAGS.solved_at}: must be greater than 0 and at most "
            f"{limit}, the time limit of {FLAGS.env}"
        )
    run = training.open_run_directory(FLAGS.env)
    run.write_flags()
    print(training.describe_devices())
    test = compiled_test(environment.with_num_envs(FLAGS.trials))
    rows, summaries = [], []
    for method in METHODS:
        if method not in FLAGS.method:
            continue
        search = compiled_search(method, environment)
        for seed in range(FLAGS.seed, FLAGS.seed + FLAGS.num_seeds):
            start = time.perf_counter()
            search_seed, test_seed = tf.unstack(random.split(random.make_seed(seed), 2))
            trials = search(search_seed)
            trials = tf.nest.map_structure(lambda tensor: tensor.numpy(), trials)
            test_returns = test(tf.constant(trials.weights), test_seed).numpy()
            new_rows = trial_rows(method, seed, trials, test_returns)
            append_csv(run.path / "trials.csv", new_rows)
            rows += new_rows
            summaries.append(summary(method, seed, trials, test_returns))
            append_csv(run.path / "summary.csv", summaries[-1:])
            print(line(summaries[-1], time.perf_counter() - start), flush=True)
    draw(rows, run.path / "histogram.png")
    best = max(rows, key=lambda row: row["test_return"])
    linear_policy_search.export_linear_policy(
        [best[f"weight_{i}"] for i in range(4)], run.saved_model
    )
    print(f"\n{table(summaries)}\n\nrun directory: {run}")
    print(f"  evaluate the best policy: {run.use_command('evaluate')}")


def compiled_search(method, environment):
    """Returns the method as one XLA program, a function of a seed."""
    options = {"num_trials": FLAGS.trials, "solved_at": FLAGS.solved_at}
    if FLAGS.max_tries is not None:
        options["max_tries"] = FLAGS.max_tries
    if "summed" in method:
        options["episodes_per_try"] = FLAGS.episodes_per_try
    if "growing" in method:
        options["noise_growth"] = FLAGS.noise_growth
    search = linear_policy_search.hill_climbing
    if method.startswith("random_search"):
        search = linear_policy_search.random_search
    return compiled(
        lambda seed: search(environment, seed, **options),
        tf.TensorSpec([2], tf.int32),
    )


def compiled_test(environment):
    """Returns a function of weights [N, 4] and a seed: their mean returns [N]."""
    return compiled(
        lambda weights, seed: linear_policy_search.mean_return(
            environment, weights, seed, episodes=TEST_EPISODES
        ),
        tf.TensorSpec([environment.num_envs, 4], tf.float32),
        tf.TensorSpec([2], tf.int32),
    )


def compiled(function, *specs):
    """Returns a function of tensors as one XLA program."""
    function = tf.function(function, autograph=False, jit_compile=True)
    return function.get_concrete_function(*specs)


def trial_rows(method, seed, trials, test_returns):
    """Returns one dict a trial."""
    return [
        {
            "method": method,
            "seed": seed,
            "trial": i,
            "solved": int(trials.solved[i]),
            "tries": int(trials.tries[i]),
            "env_steps": int(trials.env_steps[i]),
            "best_return": float(trials.best_return[i]),
            "test_return": float(test_returns[i]),
            **{f"weight_{j}": float(w) for j, w in enumerate(trials.weights[i])},
        }
        for i in range(FLAGS.trials)
    ]


def summary(method, seed, trials, test_returns):
    """Returns the figures of one method and seed; percentages are of all trials."""
    solved, tries = trials.solved, trials.tries[trials.solved]
    threshold = gym.spec(FLAGS.env).reward_threshold
    good = test_returns >= threshold
    few = tries[tries <= FEW_TRIES]
    return {
        "method": method,
        "seed": seed,
        "trials": len(solved),
        "stuck_percent": 100 * np.mean(~solved),
        "mean_tries": np.mean(tries) if tries.size else np.nan,
        "standard_error": np.std(tries) / np.sqrt(tries.size) if tries.size else np.nan,
        "median_tries": np.median(tries) if tries.size else np.nan,
        f"within_{FEW_TRIES}_percent": 100 * few.size / len(solved),
        f"mean_of_within_{FEW_TRIES}": np.mean(few) if few.size else np.nan,
        "mean_env_steps": np.mean(trials.env_steps),
        "mean_test_return": np.mean(test_returns),
        "good_percent": 100 * np.mean(good),
    }


def line(figures, seconds):
    """Returns the figures of one method and seed as text."""
    return (
        f"{figures['method']:<29}seed {figures['seed']}: "
        f"{figures['mean_tries']:.2f} ± {figures['standard_error']:.2f} tries, median "
        f"{figures['median_tries']:.0f}, {figures['stuck_percent']:.1f} % stuck "
        f"({seconds:.1f} s)"
    )


def table(summaries):
    """Returns the summaries as a Markdown table, mean ± deviation over the seeds."""
    columns = {
        "stuck, %": "stuck_percent",
        "tries of the solved: mean": "mean_tries",
        "median": "median_tries",
        f"solved within {FEW_TRIES} tries, %": f"within_{FEW_TRIES}_percent",
        "their mean": f"mean_of_within_{FEW_TRIES}",
        "environment steps": "mean_env_steps",
        f"return in {TEST_EPISODES} new episodes": "mean_test_return",
        f"of at least {gym.spec(FLAGS.env).reward_threshold:.0f}, %": "good_percent",
    }
    lines = [
        f"| {FLAGS.env} | {' | '.join(columns)} |",
        "|---" + "|---:" * len(columns) + "|",
    ]
    for method, name in METHODS.items():
        of_method = [figures for figures in summaries if figures["method"] == method]
        if of_method:
            cells = [
                cell([figures[column] for figures in of_method])
                for column in columns.values()
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(values):
    """Returns mean ± standard deviation, or the value if there is one only."""
    mean = np.mean(values)
    digits = 1 if mean < 1000 else 0
    if len(values) == 1:
        return f"{mean:,.{digits}f}"
    return f"{mean:,.{digits}f} ± {np.std(values, ddof=1):,.{digits}f}"


def append_csv(path, rows):
    """Writes dicts of the same keys as rows of a CSV file."""
    is_new = not path.exists()
    with open(path, "a", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def draw(rows, path):
    """Draws, for each method, how many trials were solved within how many tries."""
    from matplotlib.figure import Figure

    methods = [
        method for method in METHODS if method in {row["method"] for row in rows}
    ]
    num_columns = min(2, len(methods))
    num_rows = -(-len(methods) // num_columns)
    figure = Figure(
        figsize=(4.8 * num_columns, 2.3 * num_rows + 0.7), dpi=150, layout="constrained"
    )
    panels = figure.subplots(
        num_rows, num_columns, sharex=True, sharey=True, squeeze=False
    )
    for panel in panels.flat[len(methods) :]:
        panel.set_axis_off()
    # The bars are 1, 2 to 3, 4 to 7, 8 to 15 tries and so on; the last is for "stuck".
    num_bars = int(np.log2(max(row["tries"] for row in rows))) + 1
    for panel, method in zip(panels.flat, methods, strict=False):
        of_method = [row for row in rows if row["method"] == method]
        solved = np.array([row["solved"] for row in of_method], bool)
        tries = np.array([row["tries"] for row in of_method])
        bars = np.where(solved, np.log2(tries).astype(int), num_bars)
        shares = 100 * np.bincount(bars, minlength=num_bars + 1) / len(bars)
        colors = [*["#0072B2"] * num_bars, "#D55E00"]
        drawn = panel.bar(range(num_bars + 1), shares, width=0.9, color=colors)
        panel.bar_label(drawn, ["", *[""] * (num_bars - 1), f"{shares[-1]:.0f} %"])
        title = METHODS[method]
        if solved.any():
            title += f": {np.mean(tries[solved]):.1f} tries"
        panel.set_title(title, loc="left", fontsize=10)
        panel.set_xticks(
            range(num_bars + 1),
            [*(f"{2**i}" for i in range(num_bars)), "stuck"],
            fontsize=8,
        )
        panel.grid(axis="y", alpha=0.3, linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(
        "tries until solved (1, 2 to 3, 4 to 7, 8 to 15, ...)", fontsize=10
    )
    figure.supylabel("share of trials, %", fontsize=10)
    figure.suptitle(
        f"{FLAGS.env}, {len(of_method):,} trials each, mean over the solved",
        fontsize=11,
    )
    figure.savefig(path)


if __name__ == "__main__":
    training.run_experiment(main)
