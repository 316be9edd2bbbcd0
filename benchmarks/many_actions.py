"""2,908 actions: the Wolpertinger policy by its neighbours, and DQN over all outputs.

  python benchmarks/many_actions.py --seeds=3 --figure=docs/results/many_actions.png

ManyJumps-v0, eight copies in the graph, two gradient steps on batches of 64 for every
eight steps, networks of 64-64, discount 0.95. After every 2,000 of 40,000 steps, the
mean return of 100 greedy episodes. DQN's epsilon falls from 1 to 0.05 over 10,000
steps, the policy's is 0.05, beside noise. Seconds are those of training alone,
compilation not counted, on one thread. k is the number of nearest actions that the
critic picks from: 1, and about 1, 2.5 and 5 per cent of all.

Each finished run is kept in --runs and not repeated. It prints a Markdown table.
"""

import pathlib

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from absl import app, flags
from finished_runs import finished

from tfzoo.agents import DQN, Wolpertinger
from tfzoo.environments import ManyJumps

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_EVERY, _STEPS, _NUM_ENVS = 2_000, 40_000, 8
_SHARED = {
    "discount": 0.95,
    "batch_size": 64,
    "replay_capacity": 100_000,
    "learning_starts": 1_000,
    "num_steps": 1,
    "gradient_steps": 2,
}
_NETWORK = {"hidden_units": (64, 64)}
NEIGHBORS = {"k = 1": 1, "k = 29": 29, "k = 73": 73, "k = 145": 145}
AGENTS = ("DQN", *NEIGHBORS)

flags.DEFINE_integer("seeds", 3, "Runs of each.", lower_bound=1)
flags.DEFINE_multi_enum("agent", list(AGENTS), list(AGENTS), "Which to run.")
flags.DEFINE_string("runs", "runs/many_actions", "Where finished runs are kept.")
flags.DEFINE_string("figure", None, "Where to write the figure.")
FLAGS = flags.FLAGS


def make_agent(name, environment, seed):
    """Returns a compiled agent."""
    spaces = environment.observation_space, environment.action_space
    if name == "DQN":
        agent = DQN(
            *spaces,
            double=True,
            network_options=_NETWORK,
            huber_delta=None,
            target_period=1,
            target_rate=0.005,
            epsilon=keras.optimizers.schedules.PolynomialDecay(1.0, 10_000, 0.05),
            seed=seed,
            **_SHARED,
        )
        agent.compile(keras.optimizers.Adam(1e-3))
        return agent
    agent = Wolpertinger(
        *spaces,
        action_embedding=environment.action_embedding,
        num_neighbors=NEIGHBORS[name],
        noise="gaussian",
        noise_stddev=0.2,
        epsilon=0.05,
        actor_options=_NETWORK,
        critic_options=_NETWORK,
        seed=seed,
        **_SHARED,
    )
    agent.compile(
        keras.optimizers.Adam(1e-3), actor_optimizer=keras.optimizers.Adam(1e-3)
    )
    return agent


def run(name, seed):
    """Returns lists of steps, seconds and mean returns."""
    environment = ManyJumps(_NUM_ENVS)
    agent = make_agent(name, environment, seed)
    # The first call compiles; its seconds are taken to be those of the next.
    steps, seconds, means = [], [], []
    for done in range(0, _STEPS, _EVERY):
        history = agent.fit(
            environment,
            done + _EVERY,
            initial_step=done,
            steps_per_epoch=_EVERY,
            verbose=0,
        ).history
        steps.append(done + _EVERY)
        seconds.append(history["seconds"][-1])
        means.append(agent.evaluate(environment, 100, seed=seed)["mean"])
    seconds[0] = seconds[1]
    return {"steps": steps, "seconds": np.cumsum(seconds).tolist(), "means": means}


def stored(name, seed):
    """Returns what `run` does, from the file of a run that is finished already."""
    path = pathlib.Path(FLAGS.runs, f"{name.replace(' = ', '')}-{seed}.json")
    return finished(path, lambda: run(name, seed))


def row(name, runs):
    """Returns a row of the table."""
    means = np.array([result["means"] for result in runs])
    seconds = np.mean([result["seconds"][-1] for result in runs])
    at = {step: means[:, runs[0]["steps"].index(step)] for step in (2_000, 10_000)}
    spread = means[:, -1].std(ddof=1) if len(runs) > 1 else 0.0
    return (
        f"| {name} | {at[2_000].mean():.2f} | {at[10_000].mean():.2f} | "
        f"{means[:, -1].mean():.2f} +- {spread:.2f} | {1000 * seconds / _STEPS:.2f} |"
    )


def draw(results, path):
    """Draws the mean over seeds by step and by second."""
    figure, panels = plt.subplots(
        1, 2, figsize=(10, 4.5), layout="constrained", sharey=True
    )
    for axes, by in zip(panels, ("steps", "seconds"), strict=True):
        for name, runs in results.items():
            x = np.mean([result[by] for result in runs], axis=0)
            axes.plot(x, np.mean([r["means"] for r in runs], axis=0), label=name)
        axes.set(xlabel="environment steps" if by == "steps" else by)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    panels[0].set(ylabel="mean return of 100 greedy episodes")
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(argv):
    """Runs what is missing, then prints the table and draws the figure."""
    del argv
    tf.config.threading.set_intra_op_parallelism_threads(1)
    results = {
        name: [stored(name, seed) for seed in range(FLAGS.seeds)]
        for name in FLAGS.agent
    }
    print("| agent | at 2,000 steps | at 10,000 | at 40,000 | ms a step |")
    print("|---|---:|---:|---:|---:|")
    for name, runs in results.items():
        print(row(name, runs))
    if FLAGS.figure:
        draw(results, FLAGS.figure)


if __name__ == "__main__":
    app.run(main)
