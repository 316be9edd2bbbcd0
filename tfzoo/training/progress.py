"""How far a run is, while it runs."""

import math
import sys
import time

import keras


class Progress(keras.callbacks.Callback):
    """Shows steps, steps a second and one metric, the return where nothing is said.

    On a terminal it is the progress bar of Keras; elsewhere, as in a log file, it is a
    line every few seconds. Where `fit` calls it after each batch, long epochs show
    their progress, too.

    Args:
      steps: the steps at which training ends, as the model's `steps` counts them.
      metric: which of the logs to show; the last value that was a number.
      label: what to call it.
      seconds_between_lines: where it is no terminal.
      seconds_between_bars: within an epoch, where it is one.
    """

    def __init__(
        self,
        steps,
        *,
        metric="episode_return",
        label="return",
        seconds_between_lines=5.0,
        seconds_between_bars=1.0,
    ):
        super().__init__()
        self.steps = steps
        self.metric = metric
        self.label = label
        self.seconds_between_lines = seconds_between_lines
        self._bar = None
        self._logs = {}
        self._last = math.nan
        self.seconds_between_bars = seconds_between_bars
        self._shown_at = 0.0
        self._epoch_began = 0.0
        self._first_step = 0

    def on_train_begin(self, logs=None):
        """Shows an empty bar, as the first epoch compiles for some seconds."""
        self._shown_at = time.monotonic()
        if sys.stdout.isatty():
            self._bar = keras.utils.Progbar(
                self.steps,
                width=6,
                stateful_metrics=(self.label, "steps/s"),
                unit_name="step",
            )
            self._bar.update(int(self.model.steps), finalize=False)

    def on_epoch_begin(self, epoch, logs=None):
        """Remembers when and where the epoch began."""
        self._epoch_began = time.monotonic()
        self._first_step = int(self.model.steps)

    def on_train_batch_end(self, batch, logs=None):
        """Does what the end of an epoch does, where it is long in coming."""
        now = time.monotonic()
        if now - self._shown_at < self._seconds_between():
            return
        steps_per_second = (int(self.model.steps) - self._first_step) / (
            now - self._epoch_began
        )
        self._show({**(logs or {}), "steps_per_second": steps_per_second})

    def on_epoch_end(self, epoch, logs=None):
        """Moves the bar, or prints a line if it is time."""
        self._show(logs)

    def _show(self, logs):
        self._logs = {**logs, "steps": int(self.model.steps)}
        if not math.isnan(logs.get(self.metric, math.nan)):
            self._last = logs[self.metric]
        if self._bar is not None:
            self._bar.update(self._logs["steps"], self._shown(), finalize=False)
            self._shown_at = time.monotonic()
        elif time.monotonic() - self._shown_at >= self._seconds_between():
            self._print_line()

    def _seconds_between(self):
        if self._bar is None:
            return self.seconds_between_lines
        return self.seconds_between_bars

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
        self._shown_at = time.monotonic()
        # So the end prints no line that is there already.
        self._logs = {}
