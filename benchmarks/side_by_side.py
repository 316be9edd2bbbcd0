"""Ours and a peer's, measured in turns, each measurement in a process of its own.

A benchmark names its parts, a function for each implementation that takes a part and a
seed and returns a dict of figures, and the rows of its table. `main` runs them.
"""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time

from absl import flags

FLAGS = flags.FLAGS


def define_flags(parts):
    """Defines the flags of a benchmark with these parts."""
    flags.DEFINE_list("parts", list(parts), "Which parts to run.")
    flags.DEFINE_integer("repeats", 3, "Measurements of each.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of the first; the next have seed + 1, ...")
    flags.DEFINE_integer("core", 0, "The core that measurements are pinned to.")
    flags.DEFINE_string("worker", None, "For its own use: part:implementation:seed.")


def run_worker(part, name, seed):
    """Runs one measurement in a process of its own and returns its figures."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }
    worker = subprocess.run(
        [
            sys.executable,
            sys.argv[0],
            f"--worker={part}:{name}:{seed}",
            f"--core={FLAGS.core}",
        ],
        env=environment,
        capture_output=True,
        text=True,
    )
    if worker.returncode:
        reason = (worker.stderr.strip().splitlines() or ["no message"])[-1]
        sys.exit(f"{part}, {name}: {reason} (pip install 'tfzoo[bench]' has all peers)")
    return json.loads(worker.stdout.strip().splitlines()[-1])


# The rows of a part whose figures are those of `rate`.
SPEED_ROWS = (
    ("environment steps a second", "rate", ",.0f"),
    ("seconds to trace and compile", "compile", ".1f"),
)


def rate(train, batch, seconds):
    """Measures how fast an agent trains that has done its first iteration.

    Args:
      train: a function of a number of environment steps, which takes them.
      batch: the environment steps of an iteration.
      seconds: how long to measure, about.

    Returns:
      (environment steps a second, the seconds that one iteration took)
    """
    start = time.perf_counter()
    train(batch)
    one = time.perf_counter() - start
    iterations = max(1, int(seconds / one))
    start = time.perf_counter()
    train(iterations * batch)
    return iterations * batch / (time.perf_counter() - start), one


def spread(values, form):
    """Formats a median and the range around it."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def main(parts, ours, peer, rows, packages, unpinned=()):
    """Measures the parts in turns and prints a Markdown table.

    Args:
      parts: the names of all parts.
      ours: the function that measures tfzoo: (part, seed) -> dict of numbers.
      peer: (name, function), the same for the other implementation.
      rows: (part) -> list of (what was measured, name of a figure, format). A figure
        that the peer does not have gets no ratio.
      packages: the distributions whose versions are printed.
      unpinned: parts that have all cores.
    """
    measure = {"tfzoo": ours, peer[0]: peer[1]}
    if FLAGS.worker:
        part, name, seed = FLAGS.worker.split(":")
        if part not in unpinned and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {FLAGS.core})
        print(json.dumps(measure[name](part, int(seed))))
        return
    unknown = sorted(set(FLAGS.parts) - set(parts))
    if unknown:
        sys.exit(f"--parts={','.join(unknown)}: the parts are {', '.join(parts)}")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    rest = f" ({', '.join(unpinned)}: on all)" if unpinned else ""
    print(
        f"one thread each, on core {FLAGS.core} of {os.cpu_count()}{rest}; "
        f"{', '.join(versions)}; Python {platform.python_version()}\n"
    )
    print(f"| part | measured | tfzoo | {peer[0]} | ratio |")
    print("|---|---|---:|---:|---:|")
    for part in FLAGS.parts:
        results = {name: [] for name in measure}
        for repeat in range(FLAGS.repeats):
            for name in measure:
                results[name].append(run_worker(part, name, FLAGS.seed + repeat))
        for measured, figure, form in rows(part):
            mine = [result[figure] for result in results["tfzoo"]]
            other = [r[figure] for r in results[peer[0]] if figure in r]
            theirs, ratio = "", ""
            if other:
                theirs = spread(other, form)
                ratio = f"{statistics.median(mine) / statistics.median(other):.2f}"
            print(
                f"| {part} | {measured} | {spread(mine, form)} | {theirs} | {ratio} |",
                flush=True,
            )
