"""Stopping in good order when the system or the user asks for it."""

import signal
import sys

import keras

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopOnSignal(keras.callbacks.Callback):
    """Lets an epoch finish, and training end, on Ctrl-C or SIGTERM.

      with StopOnSignal() as stop:
          model.fit(..., callbacks=[..., stop])

    A second signal has its usual effect, at once.

    Attributes:
      received: the number of the signal that came, or None.
    """

    def __init__(self):
        super().__init__()
        self.received = None
        self._handlers = {}

    def __enter__(self):
        try:
            for number in _SIGNALS:
                self._handlers[number] = signal.signal(number, self._receive)
        except ValueError:
            # Only the main thread may handle signals; others never get any.
            self._handlers = {}
        return self

    def __exit__(self, *_):
        self._restore_handlers()

    def on_epoch_end(self, epoch, logs=None):
        """Ends training if a signal came."""
        if self.received is not None:
            self.model.stop_training = True

    def _receive(self, number, frame):
        self.received = number
        self._restore_handlers()
        name = signal.Signals(number).name
        print(f"\n{name}: finishing the epoch", file=sys.stderr, flush=True)

    def _restore_handlers(self):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
