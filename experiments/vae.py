"""Trains a variational autoencoder on images.

python experiments/vae.py
python experiments/vae.py --flagfile=experiments/configs/vae_mnist.flags
"""

import keras
from absl import flags

from tfzoo.models import VAE
from tfzoo.training import run_experiment
from tfzoo.training.flags import define_at_least_zero, define_widths, widths
from tfzoo.training.latent_pictures import draw_latent_space
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

FLAGS = flags.FLAGS

define_model_flags(
    num_epochs=100, batch_size=100, learning_rate=1e-3, binarize="static"
)
flags.DEFINE_enum("network", "mlp", ["mlp", "conv"], "Encoder and decoder.")
define_widths(
    "hidden_units",
    "Widths of the dense layers, 512,512 by default, or channels of the convolutions, "
    "32,64.",
)
flags.DEFINE_integer("latent_size", 20, "Numbers of the latent vector.", 1)
flags.DEFINE_enum(
    "distribution",
    "bernoulli",
    ["bernoulli", "gaussian", "discretized_logistic"],
    "What the decoder says of each pixel; with others than bernoulli, give "
    "--binarize=none.",
)
define_at_least_zero("beta", 1.0, "Weight of KL.")
define_at_least_zero("free_bits", 0.0, "Nats of each latent number that cost nothing.")
flags.DEFINE_integer(
    "warm_up_steps", 0, "Training steps over which the weight of KL rises from 0.", 0
)
flags.DEFINE_integer(
    "importance_samples", 100, "Samples of the importance-weighted bound.", 1
)

_NUM_SHOWN = 10


def main():
    """Trains, tests, draws."""
    check_binarization(
        FLAGS.distribution != "bernoulli", f"--distribution={FLAGS.distribution}"
    )
    dataset = load_dataset()
    with model_scope():
        model = VAE(
            dataset.image_shape,
            latent_size=FLAGS.latent_size,
            network=FLAGS.network,
            hidden_units=widths("hidden_units"),
            distribution=FLAGS.distribution,
            beta=FLAGS.beta,
            free_bits=FLAGS.free_bits,
            warm_up_steps=FLAGS.warm_up_steps,
            seed=FLAGS.seed,
        )
        model.compile(
            keras.optimizers.Adam(learning_rate(dataset)),
            jit_compile=FLAGS.jit_compile,
        )
    run = open_run(dataset)
    train_in_run_directory(model, dataset, run)
    scores = model.evaluate(images_to_test(model, dataset), verbose=0, return_dict=True)
    del scores["loss"]
    scores["importance_weighted_bound"] = importance_weighted_score(
        model, dataset, FLAGS.importance_samples
    )
    images = next(iter(images_to_test(model, dataset, _NUM_SHOWN)))
    draw_latent_space(model, run.path, images)
    finish(model, run, scores)


if __name__ == "__main__":
    run_experiment(main)
