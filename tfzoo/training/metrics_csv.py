"""The metrics of a run, one row an epoch, in a file that a resumed run continues."""

import csv
import pathlib

import keras

from tfzoo.training.atomic_files import replacing

# Two runs of the same seed differ in these columns only.
NOT_REPRODUCIBLE = (
    "steps_per_second",
    "seconds",
    "collect_seconds",
    "acting_seconds",
    "learn_seconds",
)


class MetricsCSV(keras.callbacks.Callback):
    """Writes the logs of each epoch as a row of a CSV file.

    When training begins, rows of more steps than the model has done are cut off: those
    that a killed run wrote after its last checkpoint. So a resumed run leaves the same
    file as one that was never interrupted, but for the last columns,
    `steps_per_second` and `seconds` (since the process began to train), which no run
    repeats. (`keras.callbacks.CSVLogger` can append, but not cut.)

    Args:
      path: of the file. Its first column is `steps`, from the model's `steps`.
    """

    def __init__(self, path):
        super().__init__()
        self.path = pathlib.Path(path)
        self._columns = None

    def on_train_begin(self, logs=None):
        """Cuts off what comes after the model's state."""
        self._columns = cut_metrics(self.path, int(self.model.steps))

    def on_epoch_end(self, epoch, logs=None):
        """Writes a row."""
        # Keras makes floats of all that is in the logs.
        steps = {"steps": int(self.model.steps)}
        row = {**steps, **logs, **steps}
        # Opened and closed for each row, so that a killed process leaves all of them.
        with open(self.path, "a", newline="", encoding="utf8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if self._columns is None:
                self._columns = sorted(row, key=lambda name: name in NOT_REPRODUCIBLE)
                writer.writerow(self._columns)
            writer.writerow([row[name] for name in self._columns])


def cut_metrics(path, steps):
    """Removes the rows of more than `steps` steps, and what was not wholly written.

    Args:
      path: of a file that `MetricsCSV` wrote, or of none.
      steps: the last environment step to keep.

    Returns:
      The names of the columns, or None if no row is left; then there is no file.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return None
    header, *rows = path.read_text("utf8", "replace").splitlines(keepends=True) or [""]

    def stays(row):
        step = row.partition(",")[0]
        return row.endswith("\n") and step.isdecimal() and int(step) <= steps

    kept = [row for row in rows if stays(row)]
    if not kept:
        path.unlink()
        return None
    if kept != rows:
        with replacing(path) as unfinished:
            unfinished.write_text(header + "".join(kept), "utf8")
    return header.strip().split(",")
