"""Inception networks, for those who have their weights; nothing is downloaded.

Two networks go by the name; `inception_network` takes the file of either:

  - `inception_2015`: the graph of December 2015, "classify_image_graph_def.pb" (of
    inception-2015-12-05.tgz). Published FID, KID and Inception scores of Salimans et
    al., Heusel et al. and those that compare with them are by this one. Images are
    scaled to 299x299 in the graph, by TensorFlow 1's bilinear rule.
  - `keras_inception`: InceptionV3 of `keras.applications`, trained anew. Its features
    are as good, but others: a Frechet distance by them must not be called FID or be
    compared with published ones.

How images are scaled changes scores by more than models differ (Parmar et al. 2021,
arXiv:2104.11222), hence the resizer in each record.
"""

import hashlib
import os
import pathlib

import keras
import tensorflow as tf
from google.protobuf.message import DecodeError

from tfzoo.metrics.feature_network import FeatureNetwork, hash_of

# Published scores are by the network of this name.
PUBLISHED = "Inception of 2015-12-05"
RESIZERS = ("area", "bicubic", "bilinear", "lanczos3")
_SIZE = 299
_KERAS_FILE = "inception_v3_weights_tf_dim_ordering_tf_kernels.h5"
_GRAPH_FILE = "classify_image_graph_def.pb"
# Its operations that are used.
_INPUT, _FEATURES, _LOGITS = "ExpandDims", "pool_3", "softmax/logits/MatMul"


def inception_network(path):
    """Returns the network of a file of weights, a `FeatureNetwork`.

    Args:
      path: of "classify_image_graph_def.pb", or any .pb, for `inception_2015`; of
        "inception_v3_weights_tf_dim_ordering_tf_kernels.h5", or any .h5, for
        `keras_inception`.

    Raises:
      ValueError: if the file ends otherwise, is not there or cannot be used.
    """
    networks = {".pb": inception_2015, ".h5": keras_inception}
    suffix = pathlib.Path(path).suffix
    if suffix not in networks:
        raise ValueError(
            f"{path}: must be the path of {_GRAPH_FILE} or of {_KERAS_FILE}"
        )
    return networks[suffix](path)


def keras_inception(weights=None, *, resizer="bilinear"):
    """Returns InceptionV3 of Keras with its ImageNet weights, a `FeatureNetwork`.

    Features are the 2,048 of "avg_pool", probabilities those of 1,000 classes. Grey
    images become grey images of three channels.

    Args:
      weights: the path of "inception_v3_weights_tf_dim_ordering_tf_kernels.h5"; by
        default where Keras keeps it once it has downloaded it.
      resizer: how images are scaled to 299x299, a method of `tf.image.resize`,
        smoothed where they get smaller.

    Raises:
      ValueError: if there are no weights or they are others', or the resizer is
        unknown.
    """
    if resizer not in RESIZERS:
        raise ValueError(
            f"resizer must be one of {', '.join(RESIZERS)}, got {resizer!r}"
        )
    if weights is None:
        weights = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras"))
        weights = weights / "models" / _KERAS_FILE
    path = _existing(weights, _KERAS_FILE)
    policy = keras.config.dtype_policy()
    # Features must not depend on the precision in which a model is trained.
    keras.config.set_dtype_policy("float32")
    try:
        model = keras.applications.InceptionV3(weights=str(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not the weights of InceptionV3: {error}") from error
    finally:
        keras.config.set_dtype_policy(policy)
    outputs = [model.get_layer("avg_pool").output, model.output]
    network = keras.Model(model.input, outputs)

    def run(images):
        images = tf.image.resize(
            _coloured(images), [_SIZE, _SIZE], method=resizer, antialias=True
        )
        return network(images, training=False)

    return FeatureNetwork(
        "InceptionV3 of Keras",
        run,
        hash_of(model.get_weights()),
        resizer=f"{resizer} with antialias",
    )


def inception_2015(graph):
    """Returns the network of published FID and Inception scores, a `FeatureNetwork`.

    Features are the 2,048 of "pool_3". Probabilities are those of 1,008 classes, from
    logits without their biases, as Salimans et al. (arXiv:1606.03498) computed them.

    Args:
      graph: the path of "classify_image_graph_def.pb".

    Raises:
      ValueError: if there is no such file, or it holds something else.
    """
    path = _existing(graph, _GRAPH_FILE)
    content = path.read_bytes()
    try:
        graph_def = tf.compat.v1.GraphDef.FromString(content)
    except DecodeError:
        graph_def = tf.compat.v1.GraphDef()
    names = {node.name for node in graph_def.node}
    if not names.issuperset((_INPUT, _FEATURES, _LOGITS)):
        raise ValueError(
            f"{path}: it is not the graph of 2015, which has the operations {_INPUT}, "
            f"{_FEATURES} and {_LOGITS}; give the path of {_GRAPH_FILE}"
        )

    def run(images):
        # Its input is what follows decoding: brightness from 0 to 255, of any size.
        pool, logits = tf.graph_util.import_graph_def(
            graph_def,
            input_map={f"{_INPUT}:0": 127.5 * (_coloured(images) + 1.0)},
            return_elements=[f"{_FEATURES}:0", _LOGITS],
        )
        weights = logits.inputs[1]
        # The graph is for one image: the shapes that it states are not to be trusted.
        features = tf.reshape(pool, [tf.shape(images)[0], tf.shape(weights)[0]])
        return features, tf.nn.softmax(tf.matmul(features, weights))

    return FeatureNetwork(
        PUBLISHED,
        run,
        hashlib.sha256(content).hexdigest()[:16],
        resizer="bilinear of TensorFlow 1",
    )


def _existing(path, name):
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; give the path of {name}")
    return path


def _coloured(images):
    """Returns images [B, H, W, 3] of grey or coloured ones."""
    images = tf.repeat(images, 3 // tf.shape(images)[-1], axis=-1)
    return tf.ensure_shape(images, [None, None, None, 3])
