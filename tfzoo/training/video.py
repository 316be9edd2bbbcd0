"""Animations of episodes."""

import importlib.util
import pathlib

import numpy as np

from tfzoo.environments import MissingPackageError
from tfzoo.training.atomic_files import replacing
from tfzoo.training.errors import UserError

_SUFFIXES = (".gif", ".mp4")


def check_video_path(path):
    """Refuses a path that `write_video` cannot write to.

    Raises:
      UserError: if its suffix is neither `.gif` nor `.mp4`, or its folder is missing.
      MissingPackageError: if it is `.mp4` and `imageio-ffmpeg` is not installed.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise UserError(f"the video {path} must end in .gif or .mp4")
    if not path.absolute().parent.is_dir():
        raise UserError(f"the video {path} cannot be written: no folder {path.parent}")
    if path.suffix.lower() == ".mp4" and not importlib.util.find_spec("imageio_ffmpeg"):
        raise MissingPackageError(
            f"writing {path} needs the package imageio-ffmpeg: "
            'pip install "tfzoo[video]", or write a .gif'
        )


def write_video(path, frames, *, frames_per_second=30):
    """Writes frames as an animation that repeats (`.gif`) or a film (`.mp4`).

    Args:
      path: of the file; its suffix says which.
      frames: a list of uint8 arrays [H, W, 3].
      frames_per_second: how fast it plays. A GIF counts hundredths of a second, and
        viewers show it at 50 at most.

    Raises:
      UserError, MissingPackageError: as `check_video_path`.
    """
    import imageio.v3

    check_video_path(path)
    frames = np.stack(frames)
    with replacing(path) as unfinished:
        if unfinished.suffix.lower() == ".gif":
            imageio.v3.imwrite(
                unfinished,
                frames,
                plugin="pillow",
                duration=1000 / frames_per_second,
                loop=0,
            )
        else:
            # The usual pixel format of H.264 needs even heights and widths.
            height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2
            imageio.v3.imwrite(
                unfinished,
                frames[:, :height, :width],
                plugin="FFMPEG",
                fps=frames_per_second,
                macro_block_size=2,
            )
