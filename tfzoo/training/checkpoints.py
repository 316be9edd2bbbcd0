"""Checkpoints that survive a kill at any moment.

A checkpoint is a folder `step-000000016384` with the files of `tf.train.Checkpoint` and
`manifest.json`, which holds the SHA-256 of each. It is written under another name and
renamed when it is complete, so that a folder of this name is whole; the manifest finds
what went wrong on the disk afterwards.
"""

import hashlib
import json
import pathlib
import shutil

import keras
import tensorflow as tf
from absl import logging

from tfzoo.training.atomic_files import replacing
from tfzoo.training.errors import UserError

_MANIFEST = "manifest.json"


class Checkpoints(keras.callbacks.Callback):
    """Writes a checkpoint every so many steps, and one at the end.

    The first is written before training, so that a run that is killed early resumes,
    too. Steps are counted by the model's `steps`, those of the environment for an
    agent and those of training for other models; an epoch is never cut.

    Args:
      checkpoint: a `tf.train.Checkpoint` of all that a run goes on from.
      directory: where to keep the checkpoints; created where it does not exist.
      every: steps between two checkpoints, at least.
      keep: how many of the newest are kept.

    Attributes:
      last_step: the step of the newest checkpoint written, or None.
    """

    def __init__(self, checkpoint, directory, every, keep=3):
        super().__init__()
        self.checkpoint = checkpoint
        self.directory = pathlib.Path(directory)
        self.every = every
        self.keep = keep
        self.last_step = None

    def on_train_begin(self, logs=None):
        """Writes where training starts from, unless it was restored from there."""
        self.last_step = int(self.model.steps)
        if not _path(self.directory, self.last_step).exists():
            self._write()

    def on_epoch_end(self, epoch, logs=None):
        """Writes a checkpoint if it is time."""
        if int(self.model.steps) >= self.last_step + self.every:
            self._write()

    def on_train_end(self, logs=None):
        """Writes where training ended."""
        if int(self.model.steps) > self.last_step:
            self._write()

    def _write(self):
        step = int(self.model.steps)
        write_checkpoint(self.checkpoint, self.directory, step, keep=self.keep)
        self.last_step = step


def write_checkpoint(checkpoint, directory, step, *, keep=3):
    """Writes one checkpoint atomically, then deletes the oldest.

    Checkpoints of more steps are deleted, too: one that goes on from here has not seen
    them, as `restore_checkpoint` takes the newest that is whole.

    Args:
      checkpoint: a `tf.train.Checkpoint`.
      directory: the folder of the run's checkpoints; created where it does not exist.
      step: the steps done; orders the checkpoints.
      keep: how many of the newest are kept.

    Returns:
      The path of the checkpoint.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    path = _path(directory, step)
    with replacing(path) as unfinished:
        unfinished.mkdir()
        checkpoint.write(str(unfinished / "state"))
        hashes = {file.name: _sha256(file) for file in sorted(unfinished.iterdir())}
        manifest = {"step": step, "sha256": hashes}
        (unfinished / _MANIFEST).write_text(json.dumps(manifest, indent=1), "utf8")
    paths = list_checkpoints(directory)
    newest = paths.index(path)
    for old in paths[:newest] + paths[newest + keep :]:
        shutil.rmtree(old)
    return path


def restore_checkpoint(checkpoint, directory):
    """Restores the newest checkpoint that is whole.

    Args:
      checkpoint: a `tf.train.Checkpoint` whose objects have all their variables.
      directory: the folder of the run's checkpoints.

    Returns:
      The path of the checkpoint.

    Raises:
      UserError: if there is none that is whole, or if the newest that is whole does
        not hold exactly the variables of `checkpoint`, whose values are then undefined.
    """
    paths = list_checkpoints(directory)
    for path in paths:
        damage = _damage(path)
        if damage is None:
            _read(checkpoint, path)
            return path
        logging.warning("%s is damaged (%s); trying the one before", path, damage)
    found = f"all {len(paths)} checkpoints are damaged" if paths else "no checkpoint"
    raise UserError(
        f"there is nothing to resume from in {directory}: {found}; start a new run "
        "in another directory"
    )


def list_checkpoints(directory):
    """Returns the paths of the checkpoints in a folder, the newest first."""
    return sorted(pathlib.Path(directory).glob("step-*"), reverse=True)


def _path(directory, step):
    return directory / f"step-{step:012d}"


def _sha256(path):
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _damage(path):
    """Returns what is wrong with the files of a checkpoint, or None."""
    try:
        manifest = json.loads((path / _MANIFEST).read_text("utf8"))
        for name, expected in manifest["sha256"].items():
            if _sha256(path / name) != expected:
                return f"{name} is not what was written"
    except FileNotFoundError as error:
        return f"{pathlib.Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{_MANIFEST} is unreadable"
    return None


def _read(checkpoint, path):
    status = None
    try:
        status = checkpoint.read(str(path / "state"))
        status.assert_consumed()
    except (ValueError, AssertionError, tf.errors.OpError) as error:
        if status is not None:
            # Silences the warnings about values that were not restored.
            status.expect_partial()
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path} is the checkpoint of another model: {reason}"
        ) from error
