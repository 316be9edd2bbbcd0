"""How an experiment runs as a program."""

import os
import pathlib
import re
import sys
import traceback

import keras
import tensorflow as tf
from absl import app, flags, logging

from tfzoo.environments import (
    MissingPackageError,
    UnknownEnvironmentError,
    UnsupportedSpaceError,
)
from tfzoo.training.errors import Interrupted, NonFiniteError, UserError
from tfzoo.training.flags import parse_flags

_PACKAGE = pathlib.Path(__file__).parents[1]
_USER_ERRORS = (
    MissingPackageError,
    NonFiniteError,
    UnknownEnvironmentError,
    UnsupportedSpaceError,
    UserError,
)


def run_experiment(main):
    """Parses the flags, sets up TensorFlow, calls `main()` and exits.

    What a user can mend ends the program with one line on stderr and exit status 1: a
    wrong flag, and every ValueError that tfzoo raises on purpose about what it was
    given. A signal ends it with status 128 plus its number, as shells expect. Any
    other error is a bug and keeps its traceback; `--verbosity=1` shows it always.

    Args:
      main: a function without arguments.
    """

    def run(argv):
        del argv
        _set_up()
        try:
            main()
        except Interrupted as error:
            _print_error(error)
            return 128 + error.signal
        except (*_USER_ERRORS, ValueError) as error:
            if not isinstance(error, _USER_ERRORS) and not _is_check(error):
                raise
            _print_error(error)
            return 1
        return 0

    def parse(argv):
        try:
            return parse_flags(argv)
        except (flags.Error, UserError) as error:
            _print_error(error)
            sys.exit(1)

    app.run(run, flags_parser=parse)


def _set_up():
    if not flags.FLAGS["verbosity"].present:
        # TensorFlow tells at the level of absl programs how long each save took.
        logging.set_verbosity(logging.WARNING)
    if "threads" in flags.FLAGS:
        tf.config.threading.set_intra_op_parallelism_threads(flags.FLAGS.threads)
    if "mixed_precision" in flags.FLAGS and flags.FLAGS.mixed_precision:
        keras.config.set_dtype_policy("mixed_bfloat16")


def _is_check(error):
    """Whether a line of tfzoo raised the error on purpose, to refuse an argument."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return _PACKAGE in pathlib.Path(frame.filename).parents and frame.line.startswith(
        "raise "
    )


def _print_error(error):
    logging.debug("%s", "".join(traceback.format_exception(error)))
    program = os.path.basename(sys.argv[0])
    # What is an argument to a class is a flag to who runs the program.
    message = re.sub(
        r"(?<![\w=-])(\w+)=",
        lambda match: f"--{match[0]}" if match[1] in flags.FLAGS else match[0],
        " ".join(str(error).split()),
    )
    print(f"{program}: {message}", file=sys.stderr)
