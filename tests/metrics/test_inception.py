"""What is around the Inception networks, with stubs in their place."""

import importlib
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.datasets import ImageDataset, ImageSplit
from tfzoo.metrics import (
    inception_2015,
    inception_network,
    inception_scores,
    keras_inception,
    sample_scores,
)

RNG = np.random.default_rng(0)
FILE = "inception_v3_weights_tf_dim_ordering_tf_kernels.h5"


def stub_of_keras(weights):
    """A model with the layers' names of InceptionV3: brightness, then two classes."""
    assert weights.endswith(FILE)
    image = keras.Input((299, 299, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name="avg_pool")(image)
    return keras.Model(image, keras.layers.Dense(2, activation="softmax")(pooled))


@pytest.fixture
def stub(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.applications, "InceptionV3", stub_of_keras)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    path = tmp_path / "models" / FILE
    path.parent.mkdir()
    path.touch()
    return path


def test_keras_network_takes_its_layers_and_any_image(stub):
    network = keras_inception(resizer="bicubic")
    for images in (np.full([3, 20, 30, 3], 0.75), np.full([3, 400, 310, 1], 0.75)):
        outputs = network(images, value_range=(0, 1))
        np.testing.assert_allclose(outputs.features, np.full([3, 3], 0.5), atol=1e-5)
        assert outputs.probabilities.shape == (3, 2)
    record = network.record()
    assert record["features"] == "InceptionV3 of Keras"
    assert record["resizer"] == "bicubic with antialias"
    assert keras_inception(stub).hash != record["features_hash"]


def test_resizer_is_that_of_the_record(stub):
    image = RNG.uniform(size=(1, 7, 9, 3)).astype(np.float32)
    for method in ("area", "bicubic"):
        network = keras_inception(stub, resizer=method)
        scaled = tf.image.resize(2 * image - 1, [299, 299], method, antialias=True)
        expected = tf.reduce_mean(scaled, axis=(1, 2))
        features = network(image, value_range=(0, 1)).features
        np.testing.assert_allclose(features, expected, atol=1e-5)


def graph_of_2015(weights):
    """A graph with the operations' names of 2015, made for one image, as it was."""

    @tf.function(input_signature=[tf.TensorSpec([4, 5, 3])])
    def function(image):
        batch = tf.raw_ops.ExpandDims(input=image, axis=0, name="ExpandDims")
        scaled = (batch - 128.0) * 0.0078125
        pool = tf.reduce_mean(scaled, axis=(1, 2), keepdims=True)
        pool = tf.raw_ops.Identity(input=pool, name="pool_3")
        flat = tf.reshape(pool, [1, 3])
        matrix = tf.constant(weights)
        with tf.name_scope("softmax/logits"):
            return tf.raw_ops.MatMul(a=flat, b=matrix, name="MatMul") + 5.0

    return function.get_concrete_function().graph.as_graph_def().SerializeToString()


def test_graph_of_2015(tmp_path):
    weights = RNG.normal(size=(3, 6)).astype(np.float32)
    path = tmp_path / "classify_image_graph_def.pb"
    path.write_bytes(graph_of_2015(weights))
    network = inception_2015(path)
    images = RNG.integers(256, size=(7, 9, 8, 3), dtype=np.uint8)
    outputs = network(images, value_range=(0, 255), batch_size=4)
    expected = (images.mean(axis=(1, 2)) - 128) / 128
    np.testing.assert_allclose(outputs.features, expected, atol=1e-5)
    # Without what is added to the product.
    logits = np.exp(expected @ weights)
    np.testing.assert_allclose(
        outputs.probabilities, logits / logits.sum(1, keepdims=True), atol=1e-5
    )
    grey = network(images[..., :1], value_range=(0, 255)).features
    np.testing.assert_allclose(grey, expected[:, :1].repeat(3, axis=1), atol=1e-5)
    path.write_bytes(graph_of_2015(2 * weights))
    assert inception_2015(path).hash != network.hash


def test_a_network_is_that_of_its_file(tmp_path, stub):
    graph = tmp_path / "classify_image_graph_def.pb"
    graph.write_bytes(graph_of_2015(np.eye(3, dtype=np.float32)))
    assert inception_network(str(graph)).record() == inception_2015(graph).record()
    assert inception_network(str(stub)).name == "InceptionV3 of Keras"


@pytest.fixture
def graph(tmp_path):
    """A network of six classes that stands for the graph of 2015."""
    path = tmp_path / "classify_image_graph_def.pb"
    path.write_bytes(graph_of_2015(RNG.normal(size=(3, 6)).astype(np.float32)))
    return inception_2015(path)


def unlabelled(num):
    images = RNG.integers(256, size=(num, 4, 4, 1), dtype=np.uint8)
    return ImageDataset("noise", *[ImageSplit(images, None)] * 2)


def test_scores_by_the_published_network_have_the_published_names(graph):
    dataset = unlabelled(60)
    samples = dataset.test.images[:40] // 2
    scores = inception_scores(samples, dataset, graph, value_range=(0, 255))
    assert json.loads(json.dumps(scores)) == scores
    expected = sample_scores(samples, dataset, value_range=(0, 255), network=graph)
    published = {
        "FID": "frechet_distance",
        "KID": "kernel_distance",
        "KID_stddev": "kernel_distance_stddev",
        "IS": "classifier_score",
        "IS_stddev": "classifier_score_stddev",
        "IS_of_data": "classifier_score_of_data",
    }
    assert scores["FID"] > 0.01
    for name, ours in published.items():
        assert scores.pop(name) == expected.pop(ours)
    assert scores == expected
    assert scores["features"] == "Inception of 2015-12-05"
    assert (scores["num_samples"], scores["num_real"]) == (40, 60)


def test_scores_by_another_network_have_none_of_the_published_names(stub):
    dataset = unlabelled(9)
    network = keras_inception(stub)
    # As many classes as the network's, but others.
    labels = np.arange(9, dtype=np.int32) % 2
    splits = [ImageSplit(dataset.test.images, labels)] * 2
    scores = inception_scores(
        dataset.test.images,
        ImageDataset("two", *splits),
        network,
        value_range=(0, 255),
    )
    assert {"frechet_distance", "kernel_distance", "classifier_score"} < scores.keys()
    for name in scores:
        assert not name.startswith(("FID", "KID", "IS", "classes_"))


@pytest.mark.parametrize(("num", "splits"), [(9_990, 1), (10_000, 10)])
def test_inception_score_is_of_ten_splits_where_there_are_enough(
    monkeypatch, graph, num, splits
):
    # Distances of so many images take seconds.
    module = importlib.import_module("tfzoo.metrics.sample_scores")
    monkeypatch.setattr(module, "precision_recall", lambda *_, **__: (1.0, 1.0))
    dataset = unlabelled(10_000)
    samples = dataset.test.images[:num]
    scores = inception_scores(samples, dataset, graph, value_range=(0, 255))
    assert scores["num_splits"] == splits
    assert (scores["IS_stddev"] > 0) == (splits > 1)
    scores = inception_scores(
        dataset.test.images, unlabelled(num), graph, value_range=(0, 255)
    )
    assert scores["num_splits"] == splits


def written(path, content):
    path.write_bytes(content)
    return path


OTHER_GRAPH = (
    tf.function(tf.zeros).get_concrete_function([3]).graph.as_graph_def()
).SerializeToString()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda path: keras_inception(),
            f"{FILE}: there is no such file; give the path of",
        ),
        (lambda path: keras_inception(path / "w.h5"), "w.h5: there is no such file"),
        (
            lambda path: keras_inception(resizer="nearest"),
            "one of area.* got 'nearest'",
        ),
        (
            lambda path: inception_2015(path),
            "no such file; give the path of classify_image_graph_def.pb",
        ),
        (
            lambda path: inception_network(path / "weights.pt"),
            f"weights.pt: must be the path of classify_image_graph_def.pb or of {FILE}",
        ),
        (
            lambda path: inception_network(path / "graph.pb"),
            "graph.pb: there is no such file",
        ),
        (
            lambda path: inception_2015(written(path / "a.pb", b"no graph")),
            "a.pb: it is not the graph of 2015",
        ),
        (
            lambda path: inception_2015(written(path / "a.pb", OTHER_GRAPH)),
            "a.pb: .* operations ExpandDims, pool_3 and softmax/logits/MatMul; give",
        ),
        (
            lambda path: keras_inception(written(path / "a.h5", b"no weights")),
            "a.h5: not the weights of InceptionV3: ",
        ),
    ],
)
def test_wrong_use_is_named(tmp_path, monkeypatch, call, message):
    # As the network reads weights, of which there are too many here.
    monkeypatch.setattr(
        keras.applications,
        "InceptionV3",
        lambda weights: keras.Sequential([keras.Input([1])]).load_weights(weights),
    )
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
