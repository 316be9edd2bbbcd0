"""What is around the Inception networks, with stubs in their place."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.metrics import inception_2015, keras_inception

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
    ],
)
def test_wrong_use_is_named(tmp_path, monkeypatch, call, message):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
