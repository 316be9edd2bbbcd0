"""Climbs from a network that memorises one image to a variational autoencoder.

python experiments/autoencoder_ladder.py
python experiments/autoencoder_ladder.py --dataset=mnist --num_epochs=20

1. A decoder whose input never changes memorises one image.
2. With one code for each of a few images it memorises these; between the codes there is
   nothing that it was asked for.
3. An encoder finds the codes: an autoencoder. What its decoder makes of random codes
   looks like nothing, as nothing says where codes are.
4. A KL term brings the codes to a normal distribution: a variational autoencoder, which
   can be drawn from.

Each rung leaves a picture, `ladder.png` has all four.
"""

import json
import pathlib

import keras
import numpy as np
from absl import flags

from tfzoo import random, training
from tfzoo.losses import ReconstructionLoss
from tfzoo.models import VAE
from tfzoo.models.vae import mlp_decoder, mlp_encoder
from tfzoo.training.atomic_files import replacing
from tfzoo.training.model_experiment import define_dataset_flags, load_dataset
from tfzoo.training.pictures import image_grid, write_picture

FLAGS = flags.FLAGS

define_dataset_flags(dataset="digits", binarize="threshold")
flags.DEFINE_integer("num_images", 4, "Images of the second rung.", 2)
flags.DEFINE_integer("latent_size", 20, "Numbers of a code on rungs 3 and 4.", 1)
flags.DEFINE_integer("memory_steps", 300, "Training steps of rungs 1 and 2.", 10)
flags.DEFINE_integer("num_epochs", 60, "Epochs of rungs 3 and 4.", 1)
flags.DEFINE_integer("batch_size", 100, "Images of a training step.", 1)
flags.DEFINE_float("learning_rate", 1e-3, "Learning rate of Adam.", 1e-8)
flags.DEFINE_integer("seed", 0, "The same seed gives the same pictures.", 0)
flags.DEFINE_string(
    "run_dir", None, "Where to put the run; by default runs/autoencoder_ladder-TIME."
)

_NUM_SHOWN = 10


def main():
    """Climbs, draws, reports."""
    dataset = load_dataset()
    batches = dataset.batches(FLAGS.batch_size, binarize=_binarize(), seed=FLAGS.seed)
    test = dataset.once(FLAGS.batch_size, binarize=_binarize())
    num = max(_NUM_SHOWN, FLAGS.num_images)
    images = next(iter(dataset.once(num, binarize=_binarize()))).numpy()
    run = training.open_run_directory(pathlib.Path(FLAGS.dataset).stem)
    run.write_flags()
    print(training.describe_devices())
    fit = {
        "x": batches,
        "steps_per_epoch": dataset.steps_per_epoch(FLAGS.batch_size),
        "epochs": FLAGS.num_epochs,
        "shuffle": False,
        "verbose": 2,
    }
    rungs, nats = {}, {}
    rungs["1 one image"], nats["1 one image"] = memorise(images[:1])
    few = images[: FLAGS.num_images]
    rungs["2 one code each"], nats["2 one code each"] = memorise(few)
    for name, climb in ("3 autoencoder", autoencoder), ("4 VAE", vae):
        rungs[name], nats[name] = climb(
            dataset.image_shape, fit, test, images[:_NUM_SHOWN]
        )
    for name, picture in rungs.items():
        write_picture(run.path / f"rung_{name[0]}.png", picture)
    write_picture(run.path / "ladder.png", _stacked(rungs.values()))
    with replacing(run.evaluation) as unfinished:
        unfinished.write_text(json.dumps(nats, indent=1) + "\n", "utf8")
    print("\n-log p(image | code), nats:")
    for name, value in nats.items():
        print(f"  {name:16} {value:8.2f}")
    print(f"pictures: {run.path}/ladder.png, rung_1.png to rung_4.png")


def memorise(images):
    """Trains a decoder to make each image of a code of its own.

    Args:
      images: [N, H, W, C].

    Returns:
      A picture: the images, what the decoder made of their codes as it learned, a row
      each time, and, where there are several, what it makes of halves of neighbours'
      codes; and the loss in the end.
    """
    num = len(images)
    codes = np.eye(num, dtype=np.float32)
    decoder = mlp_decoder(num, images.shape[1:], seed=FLAGS.seed)
    decoder.compile(keras.optimizers.Adam(FLAGS.learning_rate), ReconstructionLoss())
    rows = [images]
    for share in (0.0, 0.03, 0.1, 0.3, 1.0):
        steps = int(share * FLAGS.memory_steps) - int(decoder.optimizer.iterations)
        for _ in range(steps):
            loss = decoder.train_on_batch(codes, images)
        rows.append(mean_images(decoder, codes))
    if num > 1:
        rows.append(mean_images(decoder, (codes + np.roll(codes, 1, axis=1)) / 2))
    return image_grid(np.concatenate(rows), num_columns=num), float(loss)


def autoencoder(image_shape, fit, test, images):
    """Trains an autoencoder; returns a picture and its loss on the images to test on.

    The picture has images, their reconstructions, and what the decoder makes of codes
    drawn from a normal distribution.
    """
    image = keras.Input(image_shape)
    encoder = mlp_encoder(image_shape, FLAGS.latent_size, seed=FLAGS.seed)
    # The encoder of a VAE has a logarithm of a variance for each number, too.
    code = keras.layers.Dense(FLAGS.latent_size)(encoder(image))
    decoder = mlp_decoder(FLAGS.latent_size, image_shape, seed=FLAGS.seed)
    model = keras.Model(image, decoder(code))
    model.compile(keras.optimizers.Adam(FLAGS.learning_rate), ReconstructionLoss())
    model.fit(**{**fit, "x": fit["x"].map(lambda x: (x, x))})
    loss = model.evaluate(test.map(lambda x: (x, x)), verbose=0)
    noise = random.normal([len(images), FLAGS.latent_size], random.make_seed(1))
    rows = [images, mean_images(model, images), mean_images(decoder, noise)]
    return image_grid(np.concatenate(rows), num_columns=len(images)), float(loss)


def vae(image_shape, fit, test, images):
    """Trains a VAE; returns a picture, as `autoencoder` does, and its loss."""
    model = VAE(image_shape, latent_size=FLAGS.latent_size, seed=FLAGS.seed)
    model.compile(keras.optimizers.Adam(FLAGS.learning_rate))
    model.fit(**fit)
    scores = model.evaluate(test, verbose=0, return_dict=True)
    rows = [images, model.reconstruct(images), model.sample(len(images), seed=1)]
    picture = image_grid(np.concatenate(rows), num_columns=len(images))
    return picture, -scores["log_likelihood"]


def mean_images(decoder, codes):
    """Returns the probabilities of white that a decoder gives, [N, H, W, C]."""
    return keras.ops.convert_to_numpy(keras.ops.sigmoid(decoder(codes)))


def _binarize():
    return None if FLAGS.binarize == "none" else FLAGS.binarize


def _stacked(pictures):
    """Returns pictures one below the other, with white between and beside them."""
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate(
        [
            np.pad(
                picture,
                [(0, 12), (0, width - picture.shape[1]), (0, 0)],
                constant_values=255,
            )
            for picture in pictures
        ]
    )


if __name__ == "__main__":
    training.run_experiment(main)
