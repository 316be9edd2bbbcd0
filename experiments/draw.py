"""Trains DRAW, which draws an image in glimpses, on images.

python experiments/draw.py
python experiments/draw.py --flagfile=experiments/configs/draw_mnist.flags
"""

import keras
import numpy as np
from absl import flags

from tfzoo.layers.gaussian_attention import draw_attention
from tfzoo.models import DRAW
from tfzoo.training import run_experiment, write_video
from tfzoo.training.flags import define_at_least_zero
from tfzoo.training.model_experiment import (
    check_binarization,
    define_model_flags,
    finish,
    images_to_test,
    importance_weighted_score,
    learning_rate,
    load_dataset,
    model_scope,
    open_run,
    train_in_run_directory,
)
from tfzoo.training.pictures import image_grid, write_picture

FLAGS = flags.FLAGS

define_model_flags(
    num_epochs=30, batch_size=100, learning_rate=1e-3, binarize="static", anneal=True
)
flags.DEFINE_integer("num_glimpses", 10, "Glimpses of an image, T.", 1)
flags.DEFINE_integer("hidden_units", 256, "Width of both LSTMs.", 1)
flags.DEFINE_integer("latent_size", 10, "Latent numbers of each glimpse.", 1)
flags.DEFINE_integer(
    "read_size", 5, "N of the N x N filters that read; 0 reads without attention.", 0
)
flags.DEFINE_integer(
    "write_size", 5, "N of the N x N filters that write; 0 writes without attention.", 0
)
flags.DEFINE_enum(
    "distribution",
    "bernoulli",
    ["bernoulli", "gaussian", "discretized_logistic"],
    "What the canvas says of each pixel; with others than bernoulli, give "
    "--binarize=none.",
)
define_at_least_zero("beta", 1.0, "Weight of KL.")
define_at_least_zero(
    "max_gradient_norm",
    5.0,
    "The gradient of all weights is scaled down to this norm; 0 leaves it.",
)
flags.DEFINE_integer(
    "importance_samples",
    0,
    "Samples of the importance-weighted bound, each a pass of its own; 0 for none.",
    0,
)

_NUM_SHOWN = 16
_FRAMES_PER_SECOND = 5
# How often the last canvas is shown, so that one can look at it.
_LAST_SHOWN = 8


def main():
    """Trains, tests, draws."""
    check_binarization(
        FLAGS.distribution != "bernoulli", f"--distribution={FLAGS.distribution}"
    )
    dataset = load_dataset()
    with model_scope():
        model = DRAW(
            dataset.image_shape,
            num_glimpses=FLAGS.num_glimpses,
            hidden_units=FLAGS.hidden_units,
            latent_size=FLAGS.latent_size,
            read_size=FLAGS.read_size or None,
            write_size=FLAGS.write_size or None,
            distribution=FLAGS.distribution,
            beta=FLAGS.beta,
            seed=FLAGS.seed,
        )
        model.compile(
            keras.optimizers.Adam(
                learning_rate(dataset), global_clipnorm=FLAGS.max_gradient_norm or None
            ),
            jit_compile=FLAGS.jit_compile,
        )
    run = open_run(dataset)
    train_in_run_directory(model, dataset, run)
    scores = model.evaluate(images_to_test(model, dataset), verbose=0, return_dict=True)
    del scores["loss"]
    if FLAGS.importance_samples:
        scores["importance_weighted_bound"] = importance_weighted_score(
            model, dataset, FLAGS.importance_samples
        )
    images = next(iter(images_to_test(model, dataset, _NUM_SHOWN)))
    draw_pictures(model, run.path, images)
    finish(model, run, scores)


def draw_pictures(model, folder, images):
    """Writes how images come about, glimpse by glimpse.

    Args:
      model: a `DRAW`.
      folder: for the pictures.
      images: [N, H, W, C], to draw again.
    """
    drawn = {
        "sampling": model.sample_canvases(len(images), seed=FLAGS.seed),
        "reconstructing": model.canvases(images),
    }
    for name, canvases in drawn.items():
        pictures = canvases["images"].numpy()
        if "write" in canvases:
            pictures = draw_attention(
                pictures, canvases["write"].numpy(), model.write_size
            )
        _write_frames(folder / f"{name}.gif", pictures)
        # A row for each image, a column for each glimpse.
        rows = np.swapaxes(pictures, 0, 1)[: _NUM_SHOWN // 2]
        write_picture(
            folder / f"{name}.png",
            image_grid(
                rows.reshape(-1, *rows.shape[2:]), num_columns=model.num_glimpses
            ),
        )
    if "read" in drawn["reconstructing"]:
        parameters = drawn["reconstructing"]["read"].numpy()
        looks = draw_attention(
            np.broadcast_to(images, [len(parameters), *images.shape]),
            parameters,
            model.read_size,
            color=(0.0, 0.8, 0.0),
        )
        _write_frames(folder / "reading.gif", looks)


def _write_frames(path, pictures):
    """Writes pictures [T, N, H, W, C] as an animation of T grids."""
    frames = [image_grid(frame) for frame in pictures]
    frames += [frames[-1]] * _LAST_SHOWN
    write_video(path, frames, frames_per_second=_FRAMES_PER_SECOND)


if __name__ == "__main__":
    run_experiment(main)
