"""Exporting a policy as a SavedModel that TensorFlow alone can serve, or as LiteRT."""

import os
import pathlib
import shutil

import keras
import tensorflow as tf

from tfzoo import random


def export_policy(agent, filepath, *, format="tf_saved_model", verbose=None):
    """Exports an on-policy agent; see `OnPolicyAgent.export`.

    An earlier export at `filepath` is replaced only once the new one is complete;
    anything else is left alone.

    Raises:
      ValueError: if `format` is not one of those named there, or if there is something
        else at `filepath`.
    """
    if format not in ("tf_saved_model", "litert"):
        raise ValueError(f"format must be 'tf_saved_model' or 'litert', got {format!r}")
    filepath = pathlib.Path(filepath)
    _check_replaceable(filepath, format)
    filepath.parent.mkdir(parents=True, exist_ok=True)
    unfinished = filepath.with_name(f".{filepath.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    _write_saved_model(agent, unfinished, verbose)
    if format == "litert":
        model = _to_litert(unfinished)
        shutil.rmtree(unfinished)
        unfinished.write_bytes(model)
    elif filepath.exists():
        shutil.rmtree(filepath)
    os.replace(unfinished, filepath)


def _check_replaceable(filepath, format):
    if format == "litert":
        if filepath.is_dir():
            raise ValueError(f"{filepath} is a directory; a LiteRT model is a file")
    elif filepath.is_dir():
        if any(filepath.iterdir()) and not (filepath / "saved_model.pb").exists():
            raise ValueError(
                f"{filepath} holds something else than a SavedModel; give another path"
            )
    elif filepath.exists():
        raise ValueError(f"{filepath} is a file; a SavedModel is a directory")


def _write_saved_model(agent, filepath, verbose):
    def describe(observation):
        outputs, values = agent.network(agent.preprocess(observation))
        described = {"value": values[:, 0]}
        distribution = agent.policy.distribution(outputs)
        if agent.policy.name == "diagonal_gaussian":
            described["action_mean"] = distribution.mean()
            described["action_stddev"] = distribution.stddev()
        elif agent.policy.name == "categorical":
            described["action_probabilities"] = tf.nn.softmax(outputs)
        else:
            described["action_probabilities"] = agent.policy.probabilities(outputs)
        return outputs, described

    def greedy(observation):
        outputs, described = describe(observation)
        return {"action": agent.policy.mode(outputs), **described}

    def sample(observation, seed):
        outputs, described = describe(observation)
        shape = agent.policy.noise_shape(tf.shape(outputs)[:1])
        action = agent.policy.sample(outputs, random.uniform(shape, seed))
        return {"action": action, **described}

    archive = keras.export.ExportArchive()
    archive.track(agent.network)
    if agent.observation_normalization is not None:
        archive.track(agent.observation_normalization)
    archive.add_endpoint("serving_default", greedy, [agent.observation_spec])
    seed_spec = tf.TensorSpec([2], tf.int32, name="seed")
    archive.add_endpoint("sample", sample, [agent.observation_spec, seed_spec])
    archive.write_out(filepath, verbose=bool(verbose))


def _to_litert(saved_model):
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(saved_model), signature_keys=["serving_default"]
    )
    return converter.convert()
