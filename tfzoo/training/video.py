"""Animations of episodes."""

import importlib.util
import math
import pathlib

from tfzoo.environments import MissingPackageError
from tfzoo.training.atomic_files import replacing
from tfzoo.training.errors import UserError

_SUFFIXES = (".gif", ".mp4")
_MAX_GIF_FRAMES = 300


def check_video_path(path):
    """Refuses a path that `write_video` cannot write to.

    Raises:
      UserError: if its suffix is neither `.gif` nor `.mp4`, if it is a folder, or if
        its folder is missing.
      MissingPackageError: if it is `.mp4` and `imageio-ffmpeg` is not installed.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise UserError(f"the video {path} must end in .gif or .mp4")
    if path.is_dir():
        raise UserError(f"the video {path} cannot be written: it is a folder")
    if not path.absolute().parent.is_dir():
        raise UserError(f"the video {path} cannot be written: no folder {path.parent}")
    if path.suffix.lower() == ".mp4" and not importlib.util.find_spec("imageio_ffmpeg"):
        raise MissingPackageError(
            f"writing {path} needs the package imageio-ffmpeg: "
            'pip install "tfzoo[video]", or write a .gif'
        )


def write_video(path, frames, *, frames_per_second=30):
    """Writes frames as an animation that repeats (`.gif`) or as a film (`.mp4`).

    A GIF leaves out frames of an episode of more than 300, and so plays it faster: it
    stores every pixel anew, and would take long to write and to load.

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
    with replacing(path) as unfinished:
        if unfinished.suffix.lower() == ".gif":
            imageio.v3.imwrite(
                unfinished,
                frames[:: math.ceil(len(frames) / _MAX_GIF_FRAMES)],
                plugin="pillow",
                duration=1000 / frames_per_second,
                loop=0,
            )
        else:
            # The usual pixel format of H.264 needs even heights and widths.
            height, width = (size // 2 * 2 for size in frames[0].shape[:2])
            imageio.v3.imwrite(
                unfinished,
                [frame[:height, :width] for frame in frames],
                plugin="FFMPEG",
                fps=frames_per_second,
                macro_block_size=2,
            )
