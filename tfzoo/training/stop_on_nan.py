"""Stopping where the numbers have left the finite ones."""

import math

import keras
import numpy as np

from tfzoo.training.checkpoints import write_checkpoint
from tfzoo.training.errors import NonFiniteError

# These are NaN where no episode ended.
_MAY_BE_NAN = ("episode_return", "episode_length")


class StopOnNaN(keras.callbacks.Callback):
    """Stops training when a loss or a parameter is NaN or infinite.

    The state is saved for inspection, apart from the run's checkpoints. Place this
    callback before `Checkpoints`, which then never sees the bad state.

    Args:
      checkpoint: a `tf.train.Checkpoint` of what to save.
      directory: the folder to save it in.
    """

    def __init__(self, checkpoint, directory):
        super().__init__()
        self.checkpoint = checkpoint
        self.directory = directory

    def on_epoch_end(self, epoch, logs=None):
        """Looks at the logs and the weights.

        Raises:
          NonFiniteError: if one of them is not finite.
        """
        culprit = self.culprit(logs)
        if culprit is not None:
            step = int(self.model.steps)
            path = write_checkpoint(self.checkpoint, self.directory, step, keep=1)
            raise NonFiniteError(
                f"{culprit} before step {step:,}; this state is in {path}, the "
                f"checkpoints of the run end before it; try {self.model.remedy} in a "
                "new run (a resumed one keeps its own)"
            )

    def culprit(self, logs):
        """Returns what is not finite, in words, or None."""
        may_be_nan = _MAY_BE_NAN
        if logs.get("gradient_steps") == 0:
            # Nothing was learned yet, from which there could be a metric.
            may_be_nan += self.model.metric_names
        for name, value in logs.items():
            if name not in may_be_nan and not math.isfinite(value):
                return f"{name} became {value}"
        for weight in self.model.weights:
            if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
                return f"the weight {weight.path} is no longer finite"
        return None
