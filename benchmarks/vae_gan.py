"""The VAE-GAN beside the VAE: how sharp, and how near to the data, their images are.

python benchmarks/vae_gan.py --dataset=mnist --figure=docs/results/vae_gan_mnist.png

Trains the convolutional VAE (`experiments/vae.py`, on images that are binarised anew
for each batch, so that its pixels are probabilities) and a VAE-GAN for each gamma
(`experiments/vae_gan.py`), both with batches of 64 for the same number of epochs, and
scores samples and reconstructions that the exported models make, by the features of
one classifier, against the images to test on. Sharpness is best near the data's:
noise is sharper than any image. What is finished in --runs is taken as it is, what was
killed is resumed. The table is Markdown, on stdout: means over seeds, with the standard
deviation (of the sample) where there are several. In the figure: images to test on, and
for each model, of seed 0, reconstructions of them and samples.
"""

import pathlib

import numpy as np
import tensorflow as tf
from absl import flags
from experiment_runs import finished_experiment

from tfzoo.datasets import load_images
from tfzoo.metrics import SampleScorer, feature_classifier
from tfzoo.training import run_experiment
from tfzoo.training.pictures import image_grid, write_picture

_DATASET = flags.DEFINE_string("dataset", "digits", "See experiments/vae_gan.py.")
_GAMMAS = flags.DEFINE_list("gammas", ["0.001", "0.01", "0.1"], "Of the VAE-GAN.")
_EPOCHS = flags.DEFINE_integer("num_epochs", 10, "For each model.", 1)
_SEEDS = flags.DEFINE_integer("seeds", 1, "How many seeds, from 0.", 1)
_RUNS = flags.DEFINE_string("runs", "runs/results", "Where the runs are.")
_CACHE_DIR = flags.DEFINE_string("cache_dir", "~/.cache/tfzoo", "Of the classifier.")
_FIGURE = flags.DEFINE_string("figure", None, "Where to draw the images, if anywhere.")

_BATCH_SIZE = 500
_NUM_SHOWN = 20
# Of the columns of the table.
_DIGITS = (3, 3, 1, 1, 4)


def reconstructions_and_samples(directory, images):
    """Returns what the exported model of a run makes, [N, H, W, C] from 0 to 1 each.

    Args:
      directory: of the run.
      images: float32 [N, H, W, C] from 0 to 1.
    """
    served = tf.saved_model.load(str(directory / "saved_model")).signatures
    rebuilt, drawn = [], []
    for number, start in enumerate(range(0, len(images), _BATCH_SIZE)):
        batch = tf.constant(images[start : start + _BATCH_SIZE])
        rebuilt.append(served["reconstruct"](images=batch)["images"].numpy())
        seed = tf.constant([0, number])
        num = tf.constant(len(batch))
        drawn.append(served["sample"](num=num, seed=seed)["images"].numpy())
    return np.concatenate(rebuilt), np.concatenate(drawn)


def _mean(numbers, digits):
    """Returns the mean of numbers, and the standard deviation of several."""
    mean = f"{np.mean(numbers):.{digits}f}"
    if len(numbers) == 1:
        return mean
    return f"{mean} +- {np.std(numbers, ddof=1):.{digits}f}"


def main():
    """Trains what is missing, prints the table, draws the figure."""
    dataset = load_images(_DATASET.value)
    name = pathlib.Path(_DATASET.value).stem
    shared = [
        f"--dataset={_DATASET.value}",
        f"--num_epochs={_EPOCHS.value}",
        "--batch_size=64",
        "--network=conv",
        "--threads=1",
    ]
    models = {"VAE": ("vae", f"vae_conv_{name}", ["--binarize=dynamic"])}
    for gamma in _GAMMAS.value:
        models[f"VAE-GAN, gamma {gamma}"] = (
            "vae_gan",
            f"vae_gan_{gamma}_{name}",
            [f"--gamma={gamma}"],
        )
    network = feature_classifier(dataset, cache_dir=_CACHE_DIR.value)
    scorer = SampleScorer(dataset, network)
    images = dataset.test.images.astype(np.float32) / 255.0
    print(
        "| model | sharpness of samples | of reconstructions | Frechet distance of "
        "samples | of reconstructions | squared error of a pixel |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    rows = [images[:_NUM_SHOWN]]
    for model, (experiment, folder, arguments) in models.items():
        columns = []
        for seed in range(_SEEDS.value):
            directory = pathlib.Path(_RUNS.value, f"{folder}-{seed}")
            flags_of_run = [*shared, *arguments, f"--seed={seed}"]
            finished_experiment(experiment, directory, flags_of_run)
            rebuilt, drawn = reconstructions_and_samples(directory, images)
            scores = [scorer(made, value_range=(0, 1)) for made in (drawn, rebuilt)]
            columns.append(
                [score["sharpness"] for score in scores]
                + [score["frechet_distance"] for score in scores]
                + [np.mean(np.square(rebuilt - images))]
            )
            if seed == 0:
                rows += [rebuilt[:_NUM_SHOWN], drawn[:_NUM_SHOWN]]
        cells = [
            _mean(numbers, digits)
            for numbers, digits in zip(np.transpose(columns), _DIGITS, strict=True)
        ]
        print(f"| {model} | {' | '.join(cells)} |", flush=True)
    print(f"| images to test on | {scores[0]['sharpness_of_data']:.3f} | | 0.0 | | |")
    if _FIGURE.value:
        picture = image_grid(
            np.concatenate(rows), num_columns=_NUM_SHOWN, value_range=(0.0, 1.0)
        )
        write_picture(_FIGURE.value, picture)


if __name__ == "__main__":
    run_experiment(main)
