"""Training that can be killed at any moment and resumed."""

import time

import keras
import tensorflow as tf

from tfzoo.environments import RolloutWorkerError
from tfzoo.training.checkpoints import (
    Checkpoints,
    list_checkpoints,
    restore_checkpoint,
)
from tfzoo.training.devices import describe_devices
from tfzoo.training.errors import Interrupted, UserError
from tfzoo.training.metrics_csv import MetricsCSV
from tfzoo.training.progress import Progress
from tfzoo.training.stop_on_nan import StopOnNaN
from tfzoo.training.stop_on_signal import StopOnSignal
from tfzoo.training.tensorboard import TensorBoardScalars


def train(
    agent,
    environment,
    run_directory,
    steps,
    *,
    checkpoint_every=100_000,
    steps_per_epoch=None,
    callbacks=(),
):
    """Trains an agent in a run directory, from the start or from its last checkpoint.

    With an environment in the graph a resumed run is, bit for bit, the run that was
    never interrupted.

    Args:
      agent: compiled, with `prepare`, `fit` and the variable `env_steps`.
      environment: what it is fitted to.
      run_directory: a `RunDirectory`; its `resume` decides where to start from.
      steps: the environment steps at which training ends, those of the run that is
        resumed included.
      checkpoint_every: environment steps between two checkpoints, at least.
      steps_per_epoch: see `fit`.
      callbacks: more `keras.callbacks.Callback`s.

    Returns:
      The `keras.callbacks.History` of what was trained now.

    Raises:
      UserError: if the checkpoint is not one of this agent or all are damaged, or if
        the run is already beyond `steps`.
      NonFiniteError: if a loss or a weight became NaN or infinite.
      Interrupted: if SIGINT or SIGTERM came; the state is saved, as it is before the
        UserError that tells of a worker process that failed.
    """
    agent.prepare(environment)

    def fit(done, callbacks):
        if steps < done and agent.steps_per_iteration(environment) is not None:
            raise UserError(f"--steps={steps}: the run has done {done} steps already")
        return agent.fit(
            environment,
            steps,
            initial_step=done,
            steps_per_epoch=steps_per_epoch,
            callbacks=callbacks,
        )

    return _train(
        agent,
        tf.train.Checkpoint(agent=agent),
        run_directory,
        fit,
        Progress(steps),
        checkpoint_every,
        callbacks,
    )


def train_model(
    model,
    batches,
    run_directory,
    epochs,
    *,
    steps_per_epoch,
    validation_data=None,
    checkpoint_every=1,
    metric_callbacks=(),
    callbacks=(),
):
    """Trains a generative model in a run directory, from the start or a checkpoint.

    A resumed run is, bit for bit, the run that was never interrupted.

    Args:
      model: a `GenerativeModel`, compiled.
      batches: a function of the number of batches to leave out, `first_batch`, to a
        `tf.data.Dataset`, as `ImageDataset.batches` with its other arguments given.
      run_directory: a `RunDirectory`; its `resume` decides where to start from.
      epochs: at which training ends, those of the run that is resumed included.
      steps_per_epoch: training steps between two rows of metrics.
      validation_data: what to evaluate after each epoch, or None.
      checkpoint_every: epochs between two checkpoints.
      metric_callbacks: `keras.callbacks.Callback`s that add to the logs of each epoch.
      callbacks: more `keras.callbacks.Callback`s.

    Returns:
      The `keras.callbacks.History` of what was trained now.

    Raises:
      UserError, NonFiniteError, Interrupted: as `train` does.
    """

    def fit(done, callbacks):
        first = done // steps_per_epoch
        if epochs < first:
            raise UserError(
                f"--num_epochs={epochs}: the run has done {first} epochs already"
            )
        return model.fit(
            batches(first_batch=done),
            epochs=epochs,
            initial_epoch=first,
            steps_per_epoch=steps_per_epoch,
            validation_data=validation_data,
            callbacks=[_Speed(), *metric_callbacks, *callbacks],
            shuffle=False,
            verbose=0,
        )

    metric = (*model.metric_names, "loss")[0]
    return _train(
        model,
        tf.train.Checkpoint(model=model),
        run_directory,
        fit,
        Progress(epochs * steps_per_epoch, metric=metric, label=metric),
        checkpoint_every * steps_per_epoch,
        callbacks,
    )


def _train(
    model, checkpoint, run_directory, fit, progress, checkpoint_every, callbacks
):
    """Calls `fit(steps done, callbacks)` with all that a run needs around it."""
    print(describe_devices())
    if run_directory.resume:
        if list_checkpoints(run_directory.checkpoints):
            path = restore_checkpoint(checkpoint, run_directory.checkpoints)
            print(f"resuming {path}")
        else:
            print("the run was stopped before its first checkpoint: from step 0")
    stop_on_nan = StopOnNaN(checkpoint, run_directory.failed)
    checkpoints = Checkpoints(checkpoint, run_directory.checkpoints, checkpoint_every)

    def stopped():
        return (
            f"stopped at step {checkpoints.last_step:,} of {progress.steps:,}; go on "
            f"with {run_directory.resume_command()}"
        )

    with StopOnSignal() as stop:
        try:
            history = fit(
                int(model.steps),
                [
                    # `fit` has checked its arguments before it begins: until then
                    # nothing is written.
                    keras.callbacks.LambdaCallback(
                        on_train_begin=lambda logs: run_directory.write_flags()
                    ),
                    # Rows are written before their checkpoint: too many can be cut.
                    MetricsCSV(run_directory.metrics),
                    TensorBoardScalars(run_directory.tensorboard),
                    # A bad state must not become a checkpoint.
                    stop_on_nan,
                    # What these write is written again by a run that is killed here.
                    *callbacks,
                    checkpoints,
                    stop,
                    progress,
                ],
            )
        except (KeyboardInterrupt, EOFError, OSError):
            # Ctrl-C reaches worker processes as well, which then fail under the agent.
            if stop.received is None:
                raise
        except RolloutWorkerError as error:
            # The agent is as its last iteration left it.
            if stop_on_nan.culprit({}) is None:
                checkpoints.on_train_end()
            if stop.received is None:
                raise UserError(f"{error}; {stopped()}") from error
        finally:
            progress.close()
    if stop.received is not None:
        raise Interrupted(stop.received, stopped())
    return history


class _Speed(keras.callbacks.Callback):
    """Adds "steps_per_second" of training and "seconds" to the logs of `fit`."""

    def on_train_begin(self, logs=None):
        self._began = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_began = time.perf_counter()
        self._done = int(self.model.steps)
        self._trained_at = None

    def on_test_begin(self, logs=None):
        self._trained_at = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        now = time.perf_counter()
        # Validation is not training.
        seconds = (self._trained_at or now) - self._epoch_began
        logs["steps_per_second"] = (int(self.model.steps) - self._done) / seconds
        logs["seconds"] = now - self._began
