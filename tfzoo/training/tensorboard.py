"""The metrics of a run for TensorBoard, against environment steps."""

import math
import time

import keras
from absl import logging


class TensorBoardScalars(keras.callbacks.Callback):
    """Writes the logs of each epoch as TensorBoard scalars.

    (`keras.callbacks.TensorBoard` counts epochs, and knows nothing of a run that goes
    on from before where it was killed.) Without the package `tensorboard` it says so
    once and writes nothing.

    Args:
      directory: for the event files.
    """

    def __init__(self, directory):
        super().__init__()
        self.directory = directory
        self._writer = None

    def on_train_begin(self, logs=None):
        """Opens an event file, which takes back what was written beyond this step."""
        try:
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            logging.warning("tensorboard is not installed: no event files are written")
            return
        self._writer = EventFileWriter(str(self.directory))
        start = SessionLog(status=SessionLog.START)
        step = int(self.model.env_steps)
        # TensorBoard drops what earlier files hold from this step on.
        self._writer.add_event(
            Event(wall_time=time.time(), step=step + 1, session_log=start)
        )

    def on_epoch_end(self, epoch, logs=None):
        """Writes one point of each curve."""
        if self._writer is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in logs.items()
            if name != "steps" and not math.isnan(value)
        ]
        self._writer.add_event(
            Event(
                wall_time=time.time(),
                step=int(self.model.env_steps),
                summary=Summary(value=points),
            )
        )
        self._writer.flush()

    def on_train_end(self, logs=None):
        """Closes the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
