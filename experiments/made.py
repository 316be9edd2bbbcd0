"""Trains MADE, the masked autoencoder for distribution estimation, on images.

python experiments/made.py
python experiments/made.py --flagfile=experiments/configs/made_mnist.flags
"""

import keras
from absl import flags

from tfzoo.models import MADE
from tfzoo.training import run_experiment
from tfzoo.training.flags import define_widths, widths
from tfzoo.training.model_experiment import (
    check_binarization,
    define_model_flags,
    finish,
    images_to_test,
    learning_rate,
    load_dataset,
    model_scope,
    open_run,
    train_in_run_directory,
)

FLAGS = flags.FLAGS

define_model_flags(
    num_epochs=100,
    batch_size=100,
    learning_rate=1e-3,
    binarize="static",
    anneal=True,
)
define_widths("hidden_units", "Widths of the hidden layers, 500 by default.")
flags.DEFINE_integer(
    "levels", 2, "Brightnesses of a pixel; with more than 2, give --binarize=none.", 2
)
flags.DEFINE_integer("num_masks", 1, "Masks of hidden units, for each order.", 1)
flags.DEFINE_integer("num_orders", 1, "Orders of the pixels.", 1)
flags.DEFINE_boolean("direct", True, "Connect inputs to outputs directly, too.")


def main():
    """Trains, tests."""
    check_binarization(FLAGS.levels > 2, f"--levels={FLAGS.levels}")
    dataset = load_dataset()
    with model_scope():
        model = MADE(
            dataset.image_shape,
            hidden_units=widths("hidden_units") or (500,),
            levels=FLAGS.levels,
            num_masks=FLAGS.num_masks,
            num_orders=FLAGS.num_orders,
            direct=FLAGS.direct,
            seed=FLAGS.seed,
        )
        model.compile(
            keras.optimizers.Adam(learning_rate(dataset)),
            jit_compile=FLAGS.jit_compile,
        )
    run = open_run(dataset)
    train_in_run_directory(model, dataset, run)
    scores = model.evaluate(images_to_test(model, dataset), verbose=0, return_dict=True)
    finish(model, run, {"log_prob": scores["log_prob"]})


if __name__ == "__main__":
    run_experiment(main)
