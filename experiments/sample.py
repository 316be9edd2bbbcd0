"""Draws images from an exported generative model.

python experiments/sample.py --model=runs/vae-digits-... --num=64 --seed=1
python experiments/sample.py --model=path/to/saved_model --output=samples.png
"""

import pathlib

import tensorflow as tf
from absl import flags

from tfzoo import random
from tfzoo.training import UserError, run_experiment
from tfzoo.training.pictures import image_grid, write_picture

FLAGS = flags.FLAGS

flags.DEFINE_string("model", None, "A run directory or a SavedModel.", required=True)
flags.DEFINE_integer("num", 64, "How many images.", 1)
flags.DEFINE_integer("seed", 0, "The same seed gives the same images.", 0)
flags.DEFINE_string("output", "samples.png", "The picture to write: .png or .jpg.")

_SUFFIXES = (".png", ".jpg", ".jpeg")


def main():
    """Draws."""
    output = pathlib.Path(FLAGS.output)
    if output.suffix.lower() not in _SUFFIXES or not output.absolute().parent.is_dir():
        raise UserError(
            f"--output={output}: must end in .png or .jpg, in a folder that exists"
        )
    signatures = load(pathlib.Path(FLAGS.model)).signatures
    if "sample" not in signatures:
        raise UserError(
            f"--model={FLAGS.model}: draws no images, its signatures are "
            f"{', '.join(signatures)}"
        )
    images = signatures["sample"](
        num=tf.constant(FLAGS.num), seed=random.make_seed(FLAGS.seed)
    )["images"].numpy()
    low = 0.0 if images.min() >= 0.0 else -1.0
    write_picture(output, image_grid(images, value_range=(low, 1.0)))
    print(f"{len(images)} images of {list(images.shape[1:])}: {output}")


def load(path):
    """Loads a SavedModel, given its folder or that of the run that exported it."""
    for folder in (path / "saved_model", path):
        if (folder / "saved_model.pb").exists():
            return tf.saved_model.load(str(folder))
    raise UserError(f"--model={path}: there is no SavedModel, and no run that has one")


if __name__ == "__main__":
    run_experiment(main)
