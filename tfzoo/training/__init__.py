"""What every run needs: its directory, checkpoints, callbacks, flags and figures."""

from tfzoo.training.checkpoints import (
    Checkpoints,
    list_checkpoints,
    restore_checkpoint,
    write_checkpoint,
)
from tfzoo.training.devices import describe_devices, distribution_scope
from tfzoo.training.errors import Interrupted, NonFiniteError, UserError
from tfzoo.training.experiment import run_experiment
from tfzoo.training.figures import (
    learning_curve,
    learning_curve_panels,
    learning_curves,
)
from tfzoo.training.flags import (
    define_environment_flags,
    define_training_flags,
    environment_flags_of_run,
    environment_options,
    open_run_directory,
    parse_flags,
)
from tfzoo.training.metrics_csv import MetricsCSV
from tfzoo.training.progress import Progress
from tfzoo.training.resumable_run import train, train_model
from tfzoo.training.run_directory import RunDirectory
from tfzoo.training.stop_on_nan import StopOnNaN
from tfzoo.training.stop_on_signal import StopOnSignal
from tfzoo.training.tensorboard import TensorBoardScalars
from tfzoo.training.video import check_video_path, write_video

__all__ = [
    "Checkpoints",
    "Interrupted",
    "MetricsCSV",
    "NonFiniteError",
    "Progress",
    "RunDirectory",
    "StopOnNaN",
    "StopOnSignal",
    "TensorBoardScalars",
    "UserError",
    "check_video_path",
    "define_environment_flags",
    "define_training_flags",
    "describe_devices",
    "distribution_scope",
    "environment_flags_of_run",
    "environment_options",
    "learning_curve",
    "learning_curve_panels",
    "learning_curves",
    "list_checkpoints",
    "open_run_directory",
    "parse_flags",
    "restore_checkpoint",
    "run_experiment",
    "train",
    "train_model",
    "write_checkpoint",
    "write_video",
]
