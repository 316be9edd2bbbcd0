"""What all experiments with generative models share: flags, data, how a run ends.

An experiment is: define the flags; load the data; make and compile the model;
`train_in_run_directory`; draw what the model is good for; `finish`.
"""

import contextlib
import functools
import json
import pathlib

import keras
import tensorflow as tf
from absl import flags

from tfzoo import random
from tfzoo.datasets import load_images
from tfzoo.training.atomic_files import replacing
from tfzoo.training.devices import distribution_scope
from tfzoo.training.errors import UserError
from tfzoo.training.figures import metric_curves
from tfzoo.training.flags import define_run_flags, open_run_directory
from tfzoo.training.pictures import (
    TrainingPictures,
    image_grid,
    write_training_animation,
)
from tfzoo.training.resumable_run import train_model

# The flags below belong to the module that calls the functions below.
flags.disclaim_key_flags()

FLAGS = flags.FLAGS
_NUM_SHOWN = 64


def define_model_flags(
    *,
    num_epochs,
    batch_size,
    learning_rate,
    dataset="digits",
    binarize=None,
    anneal=False,
):
    """Defines the flags of all generative models; the arguments are the defaults.

    Args:
      num_epochs: see --num_epochs.
      batch_size: see --batch_size.
      learning_rate: see --learning_rate; None defines no such flag.
      dataset: see --dataset.
      binarize: see --binarize; None defines no such flag.
      anneal: see --anneal; None defines no such flag.
    """
    define_dataset_flags(dataset=dataset, binarize=binarize)
    flags.DEFINE_integer("batch_size", batch_size, "Images of a training step.", 1)
    flags.DEFINE_integer("num_epochs", num_epochs, "Epochs to train for.", 1)
    flags.DEFINE_integer(
        "steps_per_epoch",
        None,
        "Training steps between two rows of metrics; by default once through the data.",
        1,
    )
    define_run_flags(
        learning_rate=learning_rate,
        checkpoint_every=1,
        checkpoint_help="Epochs between checkpoints.",
        threads=0,
        distribute="none",
        default_run_dir="runs/EXPERIMENT-DATASET-TIME",
        longer="--num_epochs",
    )
    if anneal is not None:
        flags.DEFINE_boolean(
            "anneal",
            anneal,
            "Let the learning rate fall to 0 over --num_epochs, by a half cosine; a "
            "run that is resumed with more of them has a higher rate again.",
        )
    flags.DEFINE_integer(
        "pictures_every", 1, "Epochs between two pictures of samples.", 1
    )
    flags.DEFINE_boolean("animation", True, "Leave an animation of the training.")


def define_dataset_flags(*, dataset, binarize=None):
    """Defines --dataset and how its images are prepared.

    Args:
      dataset: the default data set.
      binarize: see --binarize; None defines no such flag.
    """
    flags.DEFINE_string(
        "dataset",
        dataset,
        "Images: digits (8x8, no download), the path of a folder or of an .npz file "
        "with x_train and x_test, or a name of tensorflow-datasets.",
    )
    flags.DEFINE_string("data_dir", None, "Where tensorflow-datasets keeps its data.")
    flags.DEFINE_integer(
        "image_size", None, "Scale images to this height and width.", 1
    )
    flags.DEFINE_enum(
        "channels", None, ["1", "3"], "Make images grey (1) or coloured (3)."
    )
    flags.DEFINE_enum(
        "crop",
        "center",
        ["center", "none"],
        "Where images are scaled: cut out the square in the middle before, or let the "
        "ratio of width to height change.",
    )
    if binarize is not None:
        flags.DEFINE_enum(
            "binarize",
            binarize,
            ["none", "static", "dynamic", "threshold"],
            "Make pixels black or white: drawn once with their brightness as the "
            "probability of white, drawn anew for each batch, or white from a half on.",
        )


def load_dataset():
    """Returns the `ImageDataset` that the flags name.

    Raises:
      DatasetError: if there is no such, or it cannot be used.
    """
    return load_images(
        FLAGS.dataset,
        image_size=FLAGS.image_size,
        channels=FLAGS.channels and int(FLAGS.channels),
        crop=FLAGS.crop,
        data_dir=FLAGS.data_dir,
    )


def steps_per_epoch(dataset, batch_size=None):
    """Returns the training steps of an epoch.

    Args:
      dataset: an `ImageDataset`.
      batch_size: where it is not --batch_size.

    Raises:
      DatasetError: if a batch is larger than the data set.
    """
    whole = dataset.steps_per_epoch(batch_size or FLAGS.batch_size)
    return FLAGS.steps_per_epoch or whole


@contextlib.contextmanager
def model_scope():
    """The scope to make a model in, as --distribute says.

    Raises:
      UserError: if --batch_size cannot be split evenly over the devices.
    """
    with distribution_scope(FLAGS.distribute, "batches"):
        devices = tf.distribute.get_strategy().num_replicas_in_sync
        if FLAGS.batch_size % devices:
            raise UserError(
                f"--batch_size={FLAGS.batch_size}: must be divisible by {devices}, the "
                f"devices of --distribute={FLAGS.distribute}"
            )
        yield


def learning_rate(dataset):
    """Returns --learning_rate, or the schedule that --anneal makes of it.

    Args:
      dataset: an `ImageDataset`.
    """
    if not FLAGS.anneal:
        return FLAGS.learning_rate
    steps = FLAGS.num_epochs * steps_per_epoch(dataset)
    return keras.optimizers.schedules.CosineDecay(FLAGS.learning_rate, steps)


def _batch_options(model, labels):
    binarize = FLAGS.binarize if "binarize" in FLAGS else "none"
    return {
        "value_range": model.value_range,
        "binarize": None if binarize == "none" else binarize,
        "labels": labels,
    }


def images_to_test(model, dataset, batch_size=None, labels=False):
    """Returns the images to test on, once, as the model is fitted to them.

    Args:
      model: a `GenerativeModel`.
      dataset: an `ImageDataset`.
      batch_size: by default --batch_size.
      labels: whether elements are (images, labels).
    """
    return dataset.once(batch_size or FLAGS.batch_size, **_batch_options(model, labels))


def open_run(dataset):
    """Returns the `RunDirectory` that the flags name.

    Args:
      dataset: an `ImageDataset`; a batch must not be larger.

    Raises:
      DatasetError: if it is.
      UserError: if the directory cannot be used.
    """
    steps_per_epoch(dataset)
    return open_run_directory(pathlib.Path(FLAGS.dataset).resolve().stem)


def check_binarization(levels, flag):
    """Refuses black and white images for models of more levels.

    Args:
      levels: whether the model has more than black and white.
      flag: that says so, as "--levels=3".

    Raises:
      UserError: if --binarize is not "none" then.
    """
    if levels and FLAGS.binarize != "none":
        raise UserError(
            f"--binarize={FLAGS.binarize}: {flag} is for images that are not black and "
            "white; give --binarize=none"
        )


def train_in_run_directory(
    model,
    dataset,
    run_directory,
    *,
    labels=False,
    batch_size=None,
    validate=True,
    draw=None,
    metric_callbacks=(),
):
    """Trains in a run directory, as the flags say.

    Args:
      model: a `GenerativeModel`, compiled.
      dataset: an `ImageDataset`.
      run_directory: see `open_run`.
      labels: whether batches are (images, labels).
      batch_size: of a training step, where it is not --batch_size.
      validate: whether the images to test on are evaluated after each epoch.
      draw: a function without arguments to the picture of samples, uint8 [height,
        width, 3]; by default a grid of `model.sample`.
      metric_callbacks: see `train_model`.
    """
    batch_size = batch_size or FLAGS.batch_size
    steps = steps_per_epoch(dataset, batch_size)
    pictures = TrainingPictures(
        draw or functools.partial(sample_grid, model),
        run_directory.samples,
        run_directory.tensorboard,
        every=FLAGS.pictures_every,
        last_step=FLAGS.num_epochs * steps,
    )
    train_model(
        model,
        functools.partial(
            dataset.batches,
            batch_size,
            seed=FLAGS.seed,
            **_batch_options(model, labels),
        ),
        run_directory,
        FLAGS.num_epochs,
        steps_per_epoch=steps,
        validation_data=images_to_test(model, dataset, labels=labels)
        if validate
        else None,
        checkpoint_every=FLAGS.checkpoint_every,
        metric_callbacks=metric_callbacks,
        callbacks=[pictures],
    )


def importance_weighted_score(model, dataset, num_samples, batch_size=100):
    """Returns the mean importance-weighted bound of the images to test on, in nats.

    Args:
      model: with `importance_weighted_bound(images, num_samples, seed)`.
      dataset: an `ImageDataset`.
      num_samples: see there.
      batch_size: B of a call.
    """
    bound = tf.function(model.importance_weighted_bound, reduce_retracing=True)
    bounds = [
        bound(images, num_samples, seed=random.make_seed(number))
        for number, images in enumerate(images_to_test(model, dataset, batch_size))
    ]
    return float(tf.reduce_mean(tf.concat(bounds, axis=0)))


def sample_grid(model, num=_NUM_SHOWN):
    """Returns a picture of samples, the same noise each time."""
    samples = model.sample(num, seed=FLAGS.seed)
    return image_grid(samples, value_range=model.value_range)


def finish(model, run_directory, scores, *, metrics=None, label="nats"):
    """Exports what was trained, draws its curves, and says what can be done next.

    Args:
      model: a `GenerativeModel`.
      run_directory: a `RunDirectory`.
      scores: a dict for `evaluation.json`, which is printed as well; it may have
        dicts in it.
      metrics: what of `metrics.csv` to draw; by default the model's first metric.
      label: of the curves' vertical axis.
    """
    model.export(run_directory.saved_model)
    summary = {"dataset": FLAGS.dataset, "steps": int(model.steps), **scores}
    with replacing(run_directory.evaluation) as unfinished:
        unfinished.write_text(json.dumps(summary, indent=1) + "\n", "utf8")
    if run_directory.metrics.exists():
        metric_curves(
            run_directory.metrics,
            metrics or model.metric_names[:1],
            run_directory.learning_curve,
            title=f"{type(model).__name__} on {pathlib.Path(FLAGS.dataset).stem}",
            label=label,
        )
    if FLAGS.animation:
        write_training_animation(
            run_directory.samples, run_directory.path / "training.gif"
        )
    for name, value in scores.items():
        parts = value if isinstance(value, dict) else {"": value}
        for part, number in parts.items():
            shown = f"{number:,.5g}" if isinstance(number, float) else number
            print(f"{name} {part}".strip() + f": {shown}")
    print(
        run_directory.next_commands(
            f"--num_epochs={2 * FLAGS.num_epochs}", program="sample"
        )
    )
