"""The metrics and pictures of a run for TensorBoard, against steps."""

import math
import pathlib
import time

import keras
from absl import logging


class TensorBoardScalars(keras.callbacks.Callback):
    """Writes the logs of each epoch as TensorBoard scalars.

    (`keras.callbacks.TensorBoard` counts epochs, and knows nothing of a run that goes
    on from before where it was killed.) Without the package `tensorboard` it says so
    and writes nothing.

    Args:
      directory: for the event files.
    """

    def __init__(self, directory):
        super().__init__()
        self._events = EventFile(directory)

    def on_train_begin(self, logs=None):
        """Opens an event file, which takes back what was written beyond this step."""
        self._events.open(int(self.model.steps))

    def on_epoch_end(self, epoch, logs=None):
        """Writes one point of each curve."""
        self._events.write_scalars(
            int(self.model.steps),
            {
                name: value
                for name, value in logs.items()
                if name != "steps" and not math.isnan(value)
            },
        )

    def on_train_end(self, logs=None):
        """Closes the event file."""
        self._events.close()


class EventFile:
    """A file of TensorBoard's events; nothing where `tensorboard` is not installed.

    Args:
      directory: to write it to.
    """

    def __init__(self, directory):
        self.directory = directory
        self._writer = None

    def open(self, step):
        """Begins a file, which takes back what earlier ones hold beyond `step`."""
        try:
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            logging.warning("tensorboard is not installed: no event files are written")
            return
        self._writer = EventFileWriter(str(self.directory))
        start = SessionLog(status=SessionLog.START)
        # TensorBoard drops what earlier files hold from this step on.
        self._writer.add_event(
            Event(wall_time=time.time(), step=step + 1, session_log=start)
        )

    def write_scalars(self, step, scalars):
        """Writes a dict of numbers."""
        if self._writer is not None:
            from tensorboard.compat.proto.summary_pb2 import Summary

            self._write(
                step,
                [
                    Summary.Value(tag=name, simple_value=value)
                    for name, value in scalars.items()
                ],
            )

    def write_picture(self, step, name, path):
        """Writes the picture in a PNG file."""
        if self._writer is not None:
            from tensorboard.compat.proto.summary_pb2 import Summary

            encoded = pathlib.Path(path).read_bytes()
            image = Summary.Image(encoded_image_string=encoded)
            self._write(step, [Summary.Value(tag=name, image=image)])

    def _write(self, step, values):
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=values)
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()

    def close(self):
        """Ends the file; a second call does nothing."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
