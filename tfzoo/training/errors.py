"""What can end a run, as one line for the one who started it."""

import signal


class UserError(ValueError):
    """What was asked for cannot be done; the message names it and what is possible."""


class NonFiniteError(ArithmeticError):
    """A loss or a parameter is no longer a finite number."""


class Interrupted(Exception):
    """A run was told to stop by a signal, and has saved its state.

    Attributes:
      signal: the `signal.Signals` that it got.
    """

    def __init__(self, signal_number, message):
        super().__init__(message)
        self.signal = signal.Signals(signal_number)
