"""Files and folders that are either complete or not there."""

import contextlib
import os
import pathlib
import shutil


@contextlib.contextmanager
def replacing(path):
    """Yields a path beside `path` to write to; it takes the place of `path` in the end.

      with replacing("figure.png") as unfinished:
          figure.savefig(unfinished)

    A process that is killed, or a machine that loses power, at any moment leaves the
    old file or the new one, never a part. A folder that takes the place of another one
    may leave neither. An error leaves the old one.

    Args:
      path: of a file or a folder, in a folder that exists. The yielded path has the
        same suffix and does not exist yet.

    Raises:
      IsADirectoryError, NotADirectoryError: if a file would take the place of a folder
        or a folder that of a file; the old one stays.
    """
    path = pathlib.Path(path)
    unfinished = path.with_name(f".unfinished.{path.name}")
    _remove(unfinished)
    try:
        yield unfinished
        is_folder = unfinished.is_dir()
        if is_folder:
            for inside in unfinished.rglob("*"):
                _sync(inside)
        _sync(unfinished)
        if is_folder and path.is_dir():
            # A folder can only be renamed onto an empty one.
            _remove(path)
        os.replace(unfinished, path)
        _sync(path.parent)
    except BaseException:
        _remove(unfinished)
        raise


def _sync(path):
    """Waits until a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
