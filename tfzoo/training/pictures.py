"""Grids of images, and what models draw while they are trained."""

import math
import pathlib

import keras
import numpy as np
from PIL import Image

from tfzoo.training.atomic_files import replacing
from tfzoo.training.tensorboard import EventFile
from tfzoo.training.video import write_video

# Images smaller than this are shown with larger pixels.
_SHOWN_SIZE = 48
_BACKGROUND = 255


def image_grid(images, *, num_columns=None, value_range=(0.0, 1.0), padding=2):
    """Lays images out in rows, as one picture.

    Args:
      images: [N, H, W, C] with 1 or 3 channels.
      num_columns: by default about as many as rows.
      value_range: (low, high), which become black and white.
      padding: pixels of white between images.

    Returns:
      uint8 [height, width, 3]. The pixels of small images are repeated.

    Raises:
      ValueError: if there are no images, or they have another number of channels.
    """
    images = np.asarray(images, np.float32)
    if images.ndim != 4 or not len(images) or images.shape[-1] not in (1, 3):
        raise ValueError(
            "a picture is made of images [N, H, W, 1 or 3], at least one, got "
            f"{list(images.shape)}"
        )
    low, high = value_range
    pixels = np.clip((images - low) / (high - low), 0.0, 1.0)
    pixels = np.round(255 * pixels).astype(np.uint8)
    factor = max(1, math.ceil(_SHOWN_SIZE / pixels.shape[1]))
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    num, height, width, _ = pixels.shape
    num_columns = num_columns or math.ceil(math.sqrt(num))
    num_rows = math.ceil(num / num_columns)
    shape = (
        num_rows * (height + padding) + padding,
        num_columns * (width + padding) + padding,
        3,
    )
    grid = np.full(shape, _BACKGROUND, np.uint8)
    for number, image in enumerate(pixels):
        row, column = divmod(number, num_columns)
        top = padding + row * (height + padding)
        left = padding + column * (width + padding)
        grid[top : top + height, left : left + width] = image
    return grid


def write_picture(path, pixels):
    """Writes uint8 [height, width, 3] as an image file; the suffix says which kind."""
    with replacing(path) as unfinished:
        Image.fromarray(pixels).save(unfinished, pathlib.Path(path).suffix[1:])


class TrainingPictures(keras.callbacks.Callback):
    """Draws a picture after every so many epochs, for a folder and for TensorBoard.

    Args:
      draw: a function without arguments to uint8 [height, width, 3]; that of samples
        should have the same noise each time.
      directory: for the files `step-000000000600.png`; created where it does not exist.
      tensorboard: the directory of event files.
      every: epochs between two pictures.
      last_step: at which training ends, where there is one in any case.
    """

    def __init__(self, draw, directory, tensorboard, *, every=1, last_step=None):
        super().__init__()
        self.draw = draw
        self.directory = pathlib.Path(directory)
        self.every = every
        self.last_step = last_step
        # Apart from the curves: each file takes back what comes after it begins.
        self._events = EventFile(pathlib.Path(tensorboard, "pictures"))

    def on_train_begin(self, logs=None):
        """Draws what the model does before it has learned; forgets what comes after."""
        step = int(self.model.steps)
        self.directory.mkdir(parents=True, exist_ok=True)
        for path in training_pictures(self.directory):
            if path > self._path(step):
                path.unlink()
        self._events.open(step)
        if step == 0 and not self._path(step).exists():
            self._draw(step)

    def on_epoch_end(self, epoch, logs=None):
        """Draws, if it is time."""
        if (epoch + 1) % self.every == 0:
            self._draw(int(self.model.steps))

    def on_train_end(self, logs=None):
        """Draws where training ended."""
        step = int(self.model.steps)
        if step == self.last_step and not self._path(step).exists():
            self._draw(step)
        self._events.close()

    def _draw(self, step):
        pixels = self.draw()
        write_picture(self._path(step), pixels)
        self._events.write_picture(step, self.directory.name, self._path(step))

    def _path(self, step):
        return self.directory / f"step-{step:012d}.png"


def training_pictures(directory):
    """Returns the paths of the pictures that were drawn, in their order."""
    return sorted(pathlib.Path(directory).glob("step-*.png"))


def write_training_animation(directory, path, *, frames_per_second=4):
    """Writes the pictures that `TrainingPictures` drew as an animation.

    Args:
      directory: of the pictures.
      path: of a `.gif` or `.mp4`.
      frames_per_second: a number.
    """
    frames = [
        np.asarray(Image.open(path).convert("RGB"))
        for path in training_pictures(directory)
    ]
    write_video(path, frames, frames_per_second=frames_per_second)
