"""Trains a VAE-GAN, whose similarity of images is learned, on images.

python experiments/vae_gan.py
python experiments/vae_gan.py --dataset=mnist --num_epochs=20
"""

import keras
from absl import flags

from tfzoo.metrics import draw_samples, sharpness
from tfzoo.models import VAEGAN
from tfzoo.training import run_experiment
from tfzoo.training.flags import define_at_least_zero, define_widths, widths
from tfzoo.training.latent_pictures import draw_latent_space
from tfzoo.training.model_experiment import (
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

define_model_flags(num_epochs=100, batch_size=64, learning_rate=2e-4)
flags.DEFINE_enum("network", "conv", ["mlp", "conv"], "Encoder and decoder.")
define_widths(
    "hidden_units",
    "Channels of the convolutions, 32,64 by default, or widths of the dense layers.",
)
flags.DEFINE_integer("latent_size", 20, "Numbers of the latent vector.", 1)
define_at_least_zero(
    "gamma", 0.01, "Weight of the features' error in the decoder's loss."
)

_NUM_SHOWN = 10
_NUM_SCORED = 1000
_LOSSES = ("discriminator_loss", "generator_loss")


def main():
    """Trains, tests, draws."""
    dataset = load_dataset()
    with model_scope():
        model = VAEGAN(
            dataset.image_shape,
            latent_size=FLAGS.latent_size,
            network=FLAGS.network,
            hidden_units=widths("hidden_units"),
            gamma=FLAGS.gamma,
            seed=FLAGS.seed,
        )
        model.compile(
            keras.optimizers.Adam(learning_rate(dataset), beta_1=0.5),
            jit_compile=FLAGS.jit_compile,
        )
    run = open_run(dataset)
    train_in_run_directory(model, dataset, run)
    scores = model.evaluate(images_to_test(model, dataset), verbose=0, return_dict=True)
    del scores["loss"]
    samples = draw_samples(model, _NUM_SCORED, seed=FLAGS.seed)
    scores["sharpness"] = sharpness(samples, value_range=(0, 1))
    scores["sharpness_of_data"] = sharpness(dataset.test.images, value_range=(0, 255))
    scores |= {
        "split": "test",
        "sharpness_num_samples": _NUM_SCORED,
        "sharpness_num_real": len(dataset.test.images),
    }
    images = next(iter(images_to_test(model, dataset, _NUM_SHOWN)))
    draw_latent_space(model, run.path, images)
    finish(model, run, scores, metrics=_LOSSES, label="loss")


if __name__ == "__main__":
    run_experiment(main)
