"""What can be wrong with an environment that was asked for."""

import numpy as np


class UnknownEnvironmentError(ValueError):
    """No environment of that id is registered; the message has the nearest ids."""


class UnsupportedSpaceError(ValueError):
    """A space that agents cannot handle; the message names what they can."""


class MissingPackageError(ImportError):
    """An optional package is missing; the message has what to install."""


def check_positive_integer(name, value):
    """Raises ValueError, which names the argument, if `value` is not one."""
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_integer or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def check_fraction(name, value):
    """Refuses what is not a number from 0 to 1.

    Raises:
      ValueError: with the name and the value.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")
