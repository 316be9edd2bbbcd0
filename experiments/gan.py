"""Trains a generative adversarial network of any type on any images.

python experiments/gan.py --gan=wgan_gp --dataset=mnist
python experiments/gan.py --gan=dcgan --dataset=path/to/folder --image_size=64
python experiments/gan.py --gan=sngan --dataset=mnist --stacked
python experiments/gan.py --dataset=cifar10 --inception=classify_image_graph_def.pb
"""

import functools

import numpy as np
import tensorflow as tf
from absl import flags

from tfzoo import random
from tfzoo.metrics import (
    CodeScores,
    SampleScorer,
    SampleScores,
    StackedScorer,
    code_scores,
    draw_samples,
    feature_classifier,
    inception_network,
    inception_scores,
    label_accuracy,
    stacked_dataset,
)
from tfzoo.metrics.sample_scores import MIN_IMAGES
from tfzoo.models import GAN_TYPES, gan_optimizers, make_gan
from tfzoo.training import UserError, run_experiment, write_video
from tfzoo.training.figures import metric_curves
from tfzoo.training.flags import define_at_least_zero, define_fraction
from tfzoo.training.model_experiment import (
    define_model_flags,
    finish,
    load_dataset,
    model_scope,
    open_run,
    sample_grid,
    train_in_run_directory,
)
from tfzoo.training.pictures import image_grid, write_picture

FLAGS = flags.FLAGS

define_model_flags(num_epochs=50, batch_size=64, learning_rate=None, anneal=None)
flags.DEFINE_enum("gan", "dcgan", GAN_TYPES, "Type; sets loss, networks, optimizers.")
flags.DEFINE_integer(
    "base_channels", 32, "Channels of the networks' outermost convolutions.", 1
)
flags.DEFINE_integer("latent_size", None, "Numbers of the noise; by type.", 1)
flags.DEFINE_integer(
    "critic_steps",
    None,
    "Updates of the discriminator for one of the generator, each with a batch of its "
    "own; by type.",
    1,
)
define_fraction(
    "gamma",
    None,
    "Of BEGAN: how badly its autoencoder rebuilds samples, as a part of how badly it "
    "rebuilds images; smaller for sharper samples that are less diverse. By default "
    "0.75.",
)
define_at_least_zero(
    "information_weight",
    None,
    "Of InfoGAN: how much its categories are to tell; by default 0.1.",
)
flags.DEFINE_boolean("conditional", False, "Give both players the labels.")
flags.DEFINE_integer(
    "minibatch_kernels", 0, "Kernels of minibatch discrimination; 0 for none.", 0
)
flags.DEFINE_boolean(
    "stacked",
    False,
    "Learn images of three of the data set's grey ones, as colours, and count which of "
    "their classes samples have: 1,000 with ten digits.",
)
define_fraction(
    "average_decay", 0.999, "Of the averaged generator, which samples are from."
)
flags.DEFINE_float(
    "generator_learning_rate", None, "By type.", lower_bound=1e-9, upper_bound=1.0
)
flags.DEFINE_float(
    "discriminator_learning_rate", None, "By type.", lower_bound=1e-9, upper_bound=1.0
)
flags.DEFINE_integer(
    "num_scored",
    2000,
    "Samples that are scored after each epoch, by the features of a classifier that is "
    "trained on the data set when first used; 0 for no scores.",
    0,
)
flags.register_validator(
    "num_scored",
    lambda num: num == 0 or num >= 10,
    message="must be 0 or at least 10",
)
flags.DEFINE_string(
    "cache_dir", "~/.cache/tfzoo", "Where trained classifiers are kept."
)
flags.DEFINE_string(
    "inception",
    None,
    "A file of Inception's weights, to score samples by once at the end, with labels "
    "or without: a .pb, taken for classify_image_graph_def.pb of 2015, for FID, KID "
    "and the Inception score, or inception_v3_weights_tf_dim_ordering_tf_kernels.h5 of "
    "Keras (or any .h5) for scores that must not be called so. On a CPU it takes "
    "minutes for each 1,000 images.",
)

_OF_ONE_TYPE = {"gamma": "began", "information_weight": "infogan"}
_NUM_SHOWN = 10
_NUM_FRAMES = 60


def main():
    """Trains, scores, draws."""
    dataset = part_of_stacks = load_dataset()
    labels = all(part.labels is not None for part in (dataset.train, dataset.test))
    if FLAGS.gan == "infogan" and FLAGS.conditional:
        raise UserError("--conditional: --gan=infogan finds classes by itself")
    if FLAGS.stacked:
        if FLAGS.conditional or FLAGS.gan == "infogan":
            raise UserError(
                "--stacked: it counts classes that nobody asked for, and goes with "
                "neither --conditional nor --gan=infogan"
            )
        dataset = stacked_dataset(part_of_stacks)
    if FLAGS.inception or (FLAGS.num_scored and labels):
        _check_enough_to_score(dataset)
    options = {"critic_steps": FLAGS.critic_steps} if FLAGS.critic_steps else {}
    for name, gan_type in _OF_ONE_TYPE.items():
        if (value := FLAGS[name].value) is not None:
            if FLAGS.gan != gan_type:
                raise UserError(f"--{name} is for --gan={gan_type}, got {FLAGS.gan}")
            options[name] = value
    with model_scope():
        model = make_gan(
            FLAGS.gan,
            dataset.image_shape,
            base_channels=FLAGS.base_channels,
            latent_size=FLAGS.latent_size,
            num_classes=dataset.num_classes if FLAGS.conditional else None,
            minibatch_kernels=FLAGS.minibatch_kernels,
            average_decay=FLAGS.average_decay,
            seed=FLAGS.seed,
            **options,
        )
        optimizers = gan_optimizers(FLAGS.gan)
        rates = FLAGS.generator_learning_rate, FLAGS.discriminator_learning_rate
        for optimizer, rate in zip(optimizers, rates, strict=True):
            if rate is not None:
                optimizer.learning_rate = rate
        model.compile(*optimizers, jit_compile=FLAGS.jit_compile)
    batch_size = FLAGS.batch_size * model.critic_steps
    if batch_size > len(dataset.train.images):
        raise UserError(
            f"--batch_size={FLAGS.batch_size}: a step of {model.critic_steps} updates "
            f"of the critic takes {batch_size} images, and {dataset.name} has "
            f"{len(dataset.train.images)}"
        )
    inception = inception_network(FLAGS.inception) if FLAGS.inception else None
    run = open_run(dataset)
    scorer = None
    metric_callbacks = []
    if FLAGS.num_scored and labels:
        print(
            f"scores are by a classifier of {part_of_stacks.name}, kept in "
            f"{FLAGS.cache_dir}"
        )
        network = feature_classifier(part_of_stacks, cache_dir=FLAGS.cache_dir)
        scorer = (StackedScorer if FLAGS.stacked else SampleScorer)(dataset, network)
        metric_callbacks.append(
            SampleScores(scorer, num_samples=FLAGS.num_scored, seed=FLAGS.seed)
        )
    elif FLAGS.num_scored:
        print(f"{FLAGS.dataset} has no labels to train a classifier on: no scores")
    if FLAGS.gan == "infogan" and labels:
        metric_callbacks.append(CodeScores(dataset))
    train_in_run_directory(
        model,
        dataset,
        run,
        labels=FLAGS.conditional,
        batch_size=batch_size,
        validate=False,
        draw=functools.partial(_draw, model),
        metric_callbacks=metric_callbacks,
    )
    scores = {"gan": FLAGS.gan}
    if FLAGS.gan == "began":
        scores["gamma"] = model.gamma
    elif FLAGS.gan == "infogan":
        scores["information_weight"], _ = model.information_weights
    if scorer or inception:
        samples = draw_samples(model, len(dataset.test.images), seed=FLAGS.seed)
    if scorer:
        scores |= scorer(samples, value_range=model.value_range)
    if scorer and FLAGS.conditional:
        asked = np.arange(len(samples)) % model.num_classes
        drawn = draw_samples(model, len(asked), seed=FLAGS.seed, labels=asked)
        scores["label_accuracy"] = label_accuracy(
            drawn, asked, network, value_range=model.value_range
        )
    if FLAGS.gan == "infogan" and labels:
        scores |= code_scores(model, dataset)
    if inception:
        print(f"scoring {len(samples):,} samples by {inception.name}", flush=True)
        scores["inception"] = inception_scores(
            samples, dataset, inception, value_range=model.value_range
        )
    draw_pictures(model, run.path)
    if FLAGS.gan == "began" and run.metrics.exists():
        # Apart from the learning curve: its numbers are far smaller than distances.
        metric_curves(
            run.metrics,
            ("convergence",),
            run.path / "convergence.png",
            title="BEGAN's measure of convergence M",
            label="absolute error of a pixel",
        )
    metrics = scorer.shown[:1] if scorer else model.metric_names[:2]
    finish(model, run, scores, metrics=metrics, label="" if scorer else "loss")


def _check_enough_to_score(dataset):
    num = len(dataset.test.images)
    if num < MIN_IMAGES:
        raise UserError(
            f"{FLAGS.dataset} has {num} images to test on, and scores need at least "
            f"{MIN_IMAGES}; give more, or --num_scored=0 and no --inception"
        )


def _draw(model):
    """Returns the picture of samples that is drawn as training goes."""
    if FLAGS.conditional:
        # A column for each class.
        num = model.num_classes
        samples = model.sample(8 * num, FLAGS.seed, labels=np.tile(np.arange(num), 8))
    elif FLAGS.gan == "infogan":
        num = model.num_categories
        categories = np.tile(np.arange(num), 8)
        samples = model.sample(8 * num, FLAGS.seed, categories=categories)
    else:
        return sample_grid(model)
    return image_grid(samples, num_columns=num, value_range=model.value_range)


def draw_pictures(model, folder):
    """Writes what becomes of the noise: `interpolation.gif` and `sweeps.png`.

    Args:
      model: a `GAN`.
      folder: for the pictures.
    """
    labels = np.arange(_NUM_SHOWN) % model.num_classes if FLAGS.conditional else None
    seeds = tf.unstack(random.split(random.make_seed(FLAGS.seed), 2))
    start, end = (model.draw_latent(_NUM_SHOWN, seed).numpy() for seed in seeds)
    # What may be mixed: InfoGAN's categories stay what they are.
    mixed = np.ones(model.latent_size, bool)
    swept = np.arange(model.latent_size)[::-1][:_NUM_SHOWN]
    if FLAGS.gan == "infogan":
        mixed[model.noise_size : model.noise_size + model.num_categories] = False
        swept = swept[: model.num_continuous]
    frames = []
    for angle in np.linspace(0.0, 2.0 * np.pi, _NUM_FRAMES, endpoint=False):
        # Around an ellipse, along which normal noise has the prior's variance.
        latent = np.where(mixed, np.cos(angle) * start + np.sin(angle) * end, start)
        if model.latent_prior == "uniform":
            latent = np.clip(latent, -1.0, 1.0)
        images = model(latent, labels)
        frames.append(image_grid(images, value_range=model.value_range))
    write_video(folder / "interpolation.gif", frames, frames_per_second=15)

    # A row for each of the last numbers, which are InfoGAN's continuous codes.
    if not len(swept):
        return
    latent = np.tile(start[0], [len(swept), _NUM_SHOWN, 1])
    for row, number in enumerate(swept):
        latent[row, :, number] = np.linspace(-1.0, 1.0, _NUM_SHOWN)
    latent = latent.reshape(-1, model.latent_size)
    labels = None if labels is None else np.zeros(len(latent), np.int32)
    write_picture(
        folder / "sweeps.png",
        image_grid(
            model(latent, labels), num_columns=_NUM_SHOWN, value_range=model.value_range
        ),
    )


if __name__ == "__main__":
    run_experiment(main)
