"""The folder that holds all of a run."""

import atexit
import contextlib
import itertools
import os
import pathlib
import shlex
import sys
import time

try:
    import fcntl
except ImportError:
    # Windows has none: there nothing keeps two processes apart.
    fcntl = None

from tfzoo.training.atomic_files import replacing
from tfzoo.training.checkpoints import list_checkpoints
from tfzoo.training.errors import UserError

_LOCK = ".lock"
_FLAGS = "flags.txt"
# What a process that is killed before it has written anything leaves.
_NOTHING_YET = (_LOCK, f".unfinished.{_FLAGS}")
# The locks of this process, by path. They are open files, which end with it.
_locks = {}


class RunDirectory:
    """A folder for one run: a new one, or that of a run to resume.

    Nothing that is there is ever overwritten by another run, and the folder is kept
    from other processes until this one ends. A new folder that is still empty then is
    removed.

    Args:
      path: of the folder.
      resume: whether to go on with the run that is there; None where there is no such
        choice.
      flags: the text of the flagfile that repeats the run, or None.

    Attributes:
      path: a `pathlib.Path`.
      resume: as given.
      flags_file: `flags.txt`, an absl flagfile that repeats the run.
      checkpoints: the folder of the checkpoints.
      failed: the folder of the state in which a run became NaN.
      metrics: `metrics.csv`.
      tensorboard: the folder of event files.
      learning_curve: `learning_curve.png`.
      animation: `episode.gif`.
      samples: the folder of pictures that a generative model drew while it learned.
      evaluation: `evaluation.json`, how good what was trained is.
      saved_model: the folder of the exported SavedModel.

    Raises:
      UserError: if the folder is not empty and not to be resumed, if it is to be
        resumed and has a run of which there is no checkpoint, if another process uses
        it, or if it cannot be made.
    """

    def __init__(self, path, *, resume=False, flags=None):
        self.path = pathlib.Path(path)
        self.resume = resume
        self._flags = flags
        self.flags_file = self.path / _FLAGS
        self.checkpoints = self.path / "checkpoints"
        self.failed = self.path / "failed"
        self.metrics = self.path / "metrics.csv"
        self.tensorboard = self.path / "tensorboard"
        self.learning_curve = self.path / "learning_curve.png"
        self.animation = self.path / "episode.gif"
        self.samples = self.path / "samples"
        self.evaluation = self.path / "evaluation.json"
        self.saved_model = self.path / "saved_model"
        if resume:
            self._check_resumable()
        else:
            self._make()

    def __fspath__(self):
        return str(self.path)

    def __str__(self):
        return str(self.path)

    def _check_resumable(self):
        if not self.path.is_dir():
            raise UserError(f"--run_dir={self.path}: there is no such run to resume")
        self._lock()
        if not list_checkpoints(self.checkpoints) and not self._has_just_begun():
            raise UserError(
                f"--run_dir={self.path}: there is no checkpoint to resume from; start "
                "a new run in another directory"
            )

    def _has_just_begun(self):
        """Whether the run was killed before its first checkpoint, at step 0."""
        return self.flags_file.exists() and not self.metrics.exists()

    def _make(self):
        try:
            if not self.path.exists():
                _make_directory(self.path)
            names = {path.name for path in self.path.iterdir()}
        except OSError as error:
            raise UserError(f"--run_dir={self.path}: {error.strerror}") from error
        if not names.issubset(_NOTHING_YET):
            resume = ", or --resume to go on with the run in it"
            raise UserError(
                f"--run_dir={self.path}: the directory is not empty; give another"
                f"{'' if self.resume is None else resume}"
            )
        self._lock()

    def _lock(self):
        """Keeps other processes out until this one ends, however it ends."""
        path = self.path.resolve() / _LOCK
        if fcntl is None or path in _locks:
            return
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(f"--run_dir={self.path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise UserError(
                f"--run_dir={self.path}: is in use by another process"
            ) from error
        except OSError:
            # Not every file system has locks.
            os.close(descriptor)
            return
        _locks[path] = descriptor
        atexit.register(_remove_lock_if_alone, path)

    def write_flags(self):
        """Writes the flagfile, if there is a text for it."""
        if self._flags is not None:
            with replacing(self.flags_file) as unfinished:
                unfinished.write_text(self._flags, "utf8")

    def resume_command(self):
        """Returns the command that goes on with this run."""
        return (
            f"{_shown_python()} {sys.argv[0]} --resume "
            f"--run_dir={shlex.quote(str(self.path))}"
        )

    def use_command(self, program):
        """Returns the command that uses what this run exported.

        Args:
          program: "evaluate", which plays episodes, or "sample", which draws images.
        """
        file = pathlib.Path(sys.argv[0]).with_name(f"{program}.py")
        return f"{_shown_python()} {file} --model={shlex.quote(str(self.path))}"

    def next_commands(self, more, *, program="evaluate"):
        """Returns what one wants to do next, as text: use it, look, go on.

        Args:
          more: the flag for more training of the command to go on, as `--steps=2000`.
          program: see `use_command`.
        """
        python, path = _shown_python(), shlex.quote(str(self.path))
        return (
            f"run directory: {path}\n"
            f"  {program + ':':12} {self.use_command(program)}\n"
            f"  TensorBoard: {python} -m tensorboard.main --logdir={path}\n"
            f"  resume:      {self.resume_command()} {more}"
        )


def new_default_path(experiment, subject, root="runs"):
    """Makes the folder ROOT/EXPERIMENT-SUBJECT-TIMESTAMP and returns its path.

    Runs that start in the same second get different ones.
    """
    subject = subject.replace("/", "-")
    name = f"{experiment}-{subject}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in itertools.count(1):
        path = pathlib.Path(root, name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            _make_directory(path)
            return path


def _make_directory(path):
    path.mkdir(parents=True)
    atexit.register(_remove_if_empty, path)


def _remove_lock_if_alone(path):
    with contextlib.suppress(OSError):
        if os.listdir(path.parent) == [path.name]:
            path.unlink()


def _remove_if_empty(path):
    with contextlib.suppress(OSError):
        path.rmdir()


def _shown_python():
    """The interpreter as one would type it."""
    here = pathlib.Path(os.path.relpath(sys.executable))
    return here.name if here.parts[0] == ".." else here
