"""A layer that tells a discriminator how close the images of a batch are."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfzoo")
class MinibatchDiscrimination(keras.layers.Layer):
    """Appends to the features of each sample how close the others of the batch are.

      M_i = f(x_i) T,    o_b(x_i) = sum_j!=i exp(-||M_i,b - M_j,b||_1)

    Minibatch discrimination (Salimans et al. 2016, arXiv:1606.03498, section 3.2), by
    which a discriminator sees that a generator makes one image over and over. The
    paper's formula counts the sample itself, which adds 1; its authors' code, and this
    layer, leave it out. As o is a sum, it grows with the batch; samples of a
    `tf.distribute` replica are compared with each other.

    Args:
      num_kernels: B, the numbers that are appended.
      kernel_size: C, the numbers that are compared for each.
      kernel_initializer: initializer of T.

    Input: [N, A]. Output: [N, A + B], the features and then o.

    Raises:
      ValueError: if a size is not positive.
    """

    def __init__(
        self,
        num_kernels=100,
        kernel_size=5,
        *,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        for name, value in (("num_kernels", num_kernels), ("kernel_size", kernel_size)):
            if value != int(value) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value}")
        super().__init__(**kwargs)
        self.num_kernels = num_kernels
        self.kernel_size = kernel_size
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        """Creates T, [A, B C]."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.num_kernels * self.kernel_size),
            initializer=self.kernel_initializer,
        )

    def call(self, features):
        """Returns the features and how close the others are, [N, A + B]."""
        rows = keras.ops.matmul(features, self.kernel)
        rows = keras.ops.reshape(rows, [-1, self.num_kernels, self.kernel_size])
        # The sum of up to N exponentials needs more than half precision.
        rows = keras.ops.cast(rows, "float32")
        distance = tf.reduce_sum(tf.abs(rows[:, None] - rows[None]), axis=-1)
        others = 1.0 - tf.eye(tf.shape(rows)[0])
        closeness = tf.reduce_sum(tf.exp(-distance) * others[..., None], axis=1)
        closeness = keras.ops.cast(closeness, features.dtype)
        return keras.ops.concatenate([features, closeness], axis=-1)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the output."""
        return (*input_shape[:-1], input_shape[-1] + self.num_kernels)

    def get_config(self):
        """Returns the arguments that the layer was made with."""
        return {
            **super().get_config(),
            "num_kernels": self.num_kernels,
            "kernel_size": self.kernel_size,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
