"""How far a run is, while it runs."""

import math
import sys
import time

import keras


class Progress(keras.callbacks.Callback):
    """Shows steps, steps a second and one metric, the return where nothing is said.

    On a terminal it is the progress bar of Keras; elsewhere, as in a log file, it is a
    line every few seconds.

    Args:
      steps: the steps at which training ends, as the model's `steps` counts them.
      metric: which of the logs to show; the last value that was a number.
      label: what to call it.
      seconds_between_lines: where it is no terminal.
    """

    def __init__(
        self,
        steps,
        *,
        metric="episode_return",
        label="return",
        seconds_between_lines=5.0,
    ):
        super().__init__()
        self.steps = steps
        self.metric = metric
        self.label = label
        self.seconds_between_lines = seconds_between_lines
        self._bar = None
        self._logs = {}
        self._last = math.nan
        self._last_line_at = 0.0

    def on_train_begin(self, logs=None):
        """Shows an empty bar, as the first epoch compiles for some seconds."""
        self._last_line_at = time.monotonic()
        if sys.stdout.isatty():
            self._bar = keras.utils.Progbar(
                self.steps,
                width=6,
                stateful_metrics=(self.label, "steps/s"),
                unit_name="step",
            )
            self._bar.update(int(self.model.steps), finalize=False)

    def on_epoch_end(self, epoch, logs=None):
        """Moves the bar, or prints a line if it is time."""
        self._logs = {**logs, "steps": int(self.model.steps)}
        if not math.isnan(logs.get(self.metric, math.nan)):
            self._last = logs[self.metric]
        if self._bar is not None:
            self._bar.update(self._logs["steps"], self._shown(), finalize=False)
        elif time.monotonic() - self._last_line_at >= self.seconds_between_lines:
            self._print_line()

    def on_train_end(self, logs=None):
        """Shows where training ended."""
        self.close()

    def close(self):
        """Ends the line of the bar; a second call does nothing."""
        if self._bar is not None:
            self._bar.update(self._logs.get("steps", 0), self._shown(), finalize=True)
            self._bar = None
        elif self._logs:
            self._print_line()
        self._logs = {}

    def _shown(self):
        return [
            (self.label, self._last),
            ("steps/s", self._logs.get("steps_per_second", math.nan)),
        ]

    def _print_line(self):
        steps = self._logs["steps"]
        rate = self._logs.get("steps_per_second", math.nan)
        print(
            f"{steps:,} of {self.steps:,} steps ({steps / self.steps:.0%}), "
            f"{rate:,.0f} steps/s, {self.label} {self._last:.1f}",
            flush=True,
        )
        self._last_line_at = time.monotonic()
        # So the end prints no line that is there already.
        self._logs = {}
