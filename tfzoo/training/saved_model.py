"""Exporting functions of a model as a SavedModel that TensorFlow alone can serve."""

import pathlib

import keras

from tfzoo.training.atomic_files import replacing


def write_saved_model(filepath, endpoints, tracked, verbose=None):
    """Writes a SavedModel at a path where there is none.

    Args:
      filepath: a directory.
      endpoints: a dict of names to (function, list of `tf.TensorSpec`s).
      tracked: the networks and layers that the functions use.
      verbose: whether Keras prints the signatures.
    """
    archive = keras.export.ExportArchive()
    for resource in tracked:
        archive.track(resource)
    for name, (function, specs) in endpoints.items():
        archive.add_endpoint(name, function, specs)
    archive.write_out(filepath, verbose=bool(verbose))


def export_saved_model(filepath, endpoints, tracked, verbose=None):
    """Writes a SavedModel; an earlier one is replaced once the new one is complete.

    Args:
      filepath, endpoints, tracked, verbose: see `write_saved_model`.

    Raises:
      ValueError: if there is something else at `filepath`.
    """
    filepath = pathlib.Path(filepath)
    check_replaceable(filepath)
    filepath.parent.mkdir(parents=True, exist_ok=True)
    with replacing(filepath) as unfinished:
        write_saved_model(unfinished, endpoints, tracked, verbose)


def check_replaceable(filepath):
    """Refuses a path where there is something else than a SavedModel.

    Raises:
      ValueError: if there is.
    """
    if filepath.is_dir():
        if any(filepath.iterdir()) and not (filepath / "saved_model.pb").exists():
            raise ValueError(
                f"{filepath} holds something else than a SavedModel; give another path"
            )
    elif filepath.exists():
        raise ValueError(f"{filepath} is a file; a SavedModel is a directory")
