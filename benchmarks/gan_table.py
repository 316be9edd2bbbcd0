"""Trains all types of GAN under one budget, and makes the table and picture of a page.

  python benchmarks/gan_table.py --dataset=mnist --updates=10000 \
      --figure=docs/results/gan_mnist.png

The budget is a number of the generator's updates, the same for all types, each with a
batch of the same size; critics have their types' updates for one of them, and batches
of their own for each. A run scores samples after each tenth of its updates, so that
epochs are not those of the data. Every run is an experiment of its own in
RUNS/TYPE_DATASET-SEED. What is finished there with as many updates is taken as it is,
what was killed is resumed. The table is Markdown, on stdout: means over seeds, the
standard deviation (of the sample) of the Frechet distance, and the fewest classes of
any seed.
"""

import json
import pathlib

import numpy as np
import tensorflow as tf
from absl import flags
from experiment_runs import check_flags, finished_experiment

from tfzoo.datasets import load_images
from tfzoo.models import GAN_TYPES
from tfzoo.training import UserError, run_experiment
from tfzoo.training.pictures import image_grid, write_picture

_DATASET = flags.DEFINE_string("dataset", "digits", "See experiments/gan.py.")
_TYPES = flags.DEFINE_list("types", list(GAN_TYPES), "Which types.")
_UPDATES = flags.DEFINE_integer(
    "updates", 10_000, "Of the generator, a multiple of 10.", 1
)
_SEEDS = flags.DEFINE_integer("seeds", 1, "How many seeds, from 0.", 1)
_BASE_CHANNELS = flags.DEFINE_integer("base_channels", 32, "See experiments/gan.py.", 1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "See experiments/gan.py.", 1)
_RUNS = flags.DEFINE_string("runs", "runs/results", "Where the runs are.")
_CACHE_DIR = flags.DEFINE_string("cache_dir", "~/.cache/tfzoo", "Of classifiers.")
_FIGURE = flags.DEFINE_string("figure", None, "Where to draw samples, if anywhere.")

_NUM_SHOWN = 20
_NUM_EPOCHS = 10

flags.register_validator(
    "updates",
    lambda updates: updates % _NUM_EPOCHS == 0,
    message=f"must be a multiple of {_NUM_EPOCHS}, the number of epochs",
)


def _arguments(gan_type, seed):
    """Returns the flags of a run."""
    return [
        f"--gan={gan_type}",
        f"--dataset={_DATASET.value}",
        f"--num_epochs={_NUM_EPOCHS}",
        f"--steps_per_epoch={_UPDATES.value // _NUM_EPOCHS}",
        f"--base_channels={_BASE_CHANNELS.value}",
        f"--batch_size={_BATCH_SIZE.value}",
        f"--cache_dir={_CACHE_DIR.value}",
        f"--seed={seed}",
        "--threads=1",
    ]


def _runs(gan_type, dataset):
    """Returns the directory and the flags of each seed's run."""
    return [
        (
            pathlib.Path(_RUNS.value, f"{gan_type}_{dataset}-{seed}"),
            _arguments(gan_type, seed),
        )
        for seed in range(_SEEDS.value)
    ]


def _check(directory, arguments):
    """Raises `UserError` if a run is another than is wanted, begun or finished."""
    check_flags(directory, arguments)
    evaluation = directory / "evaluation.json"
    if not evaluation.exists():
        return
    steps = json.loads(evaluation.read_text("utf8")).get("steps", _UPDATES.value)
    if steps != _UPDATES.value:
        raise UserError(
            f"{directory}: it has {steps} updates, not --updates={_UPDATES.value}; "
            "move it away, or name another folder by --runs"
        )


def samples(directory):
    """Returns images that the exported model of a run draws."""
    served = tf.saved_model.load(str(directory / "saved_model"))
    draw = served.signatures["sample"]
    num, seed = tf.constant(_NUM_SHOWN), tf.constant([0, 1])
    return draw(num=num, seed=seed)["images"].numpy()


def main():
    """Trains what is missing, prints the table, draws the figure."""
    for gan_type in _TYPES.value:
        if gan_type not in GAN_TYPES:
            raise UserError(f"--types={gan_type}: must be of {', '.join(GAN_TYPES)}")
    dataset = load_images(_DATASET.value)
    if dataset.train.labels is None or dataset.test.labels is None:
        raise UserError(
            f"--dataset={_DATASET.value}: images to train and to test on must have "
            "labels to score by"
        )
    name = pathlib.Path(_DATASET.value).stem
    print(
        "| type | updates | Frechet distance | spread | kernel distance | precision | "
        "recall | classes | KL of the classes' shares, nats |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    pictured = []
    for gan_type in _TYPES.value:
        for directory, arguments in _runs(gan_type, name):
            _check(directory, arguments)
    for gan_type in _TYPES.value:
        runs = _runs(gan_type, name)
        results = [
            finished_experiment("gan", directory, arguments)
            for directory, arguments in runs
        ]
        pictured.append(runs[0][0])
        mean = {
            key: np.mean([result[key] for result in results])
            for key in (
                "kernel_distance",
                "precision",
                "recall",
                "classes_kl_divergence",
            )
        }
        distances = [result["frechet_distance"] for result in results]
        spread = f"{np.std(distances, ddof=1):.1f}" if len(distances) > 1 else ""
        classes = min(result["classes_covered"] for result in results)
        print(
            f"| {gan_type} | {results[0]['steps']:,} | {np.mean(distances):.1f} | "
            f"{spread} | {mean['kernel_distance']:.2f} | {mean['precision']:.2f} | "
            f"{mean['recall']:.2f} | {classes} | "
            f"{mean['classes_kl_divergence']:.3f} |",
            flush=True,
        )
    if _FIGURE.value:
        pixels = image_grid(
            np.concatenate([samples(directory) for directory in pictured]),
            num_columns=_NUM_SHOWN,
            value_range=(-1.0, 1.0),
        )
        write_picture(_FIGURE.value, pixels)


if __name__ == "__main__":
    run_experiment(main)
