"""Exporting a policy as a SavedModel that TensorFlow alone can serve, or as LiteRT."""

import functools
import pathlib
import tempfile

import gymnasium as gym
import tensorflow as tf

from tfzoo.training.atomic_files import replacing
from tfzoo.training.saved_model import check_replaceable, write_saved_model


def export_policy(agent, filepath, *, format="tf_saved_model", verbose=None):
    """Exports the `endpoints` of an agent; see `Agent.export`.

    An earlier export at `filepath` is replaced only once the new one is complete;
    anything else is left alone.

    Raises:
      ValueError: if `format` is not one of those named there, or if there is something
        else at `filepath`.
    """
    if format not in ("tf_saved_model", "litert"):
        raise ValueError(f"format must be 'tf_saved_model' or 'litert', got {format!r}")
    filepath = pathlib.Path(filepath)
    check = _check_no_directory if format == "litert" else check_replaceable
    check(filepath)
    litert = _to_litert(agent, verbose) if format == "litert" else None
    filepath.parent.mkdir(parents=True, exist_ok=True)
    with replacing(filepath) as unfinished:
        if litert is None:
            _write_saved_model(agent, unfinished, verbose)
        else:
            unfinished.write_bytes(litert)


def _check_no_directory(filepath):
    if filepath.is_dir():
        raise ValueError(f"{filepath} is a directory; a LiteRT model is a file")


def _write_saved_model(agent, filepath, verbose):
    tracked = list(agent.served_networks)
    if agent.observation_normalization is not None:
        tracked.append(agent.observation_normalization)
    endpoints = {
        name: (_with_checks(agent, function), specs)
        for name, (function, specs) in agent.endpoints().items()
    }
    write_saved_model(filepath, endpoints, tracked, verbose)


def _with_checks(agent, function):
    if not isinstance(agent.observation_space, gym.spaces.Discrete):
        return function

    @functools.wraps(function)
    def checked(observation, *arguments):
        _check_range(observation, agent.observation_space)
        return function(observation, *arguments)

    return checked


def _check_range(observation, space):
    """Lets the exported policy refuse what would be no observation to the network."""
    low, high = int(space.start), int(space.start + space.n) - 1
    message = f"observations must be from {low} to {high}"
    tf.debugging.assert_greater_equal(observation, low, message)
    tf.debugging.assert_less_equal(observation, high, message)


def _to_litert(agent, verbose):
    with tempfile.TemporaryDirectory() as directory:
        saved_model = str(pathlib.Path(directory, "saved_model"))
        _write_saved_model(agent, saved_model, verbose)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            saved_model, signature_keys=["serving_default"]
        )
        return converter.convert()
