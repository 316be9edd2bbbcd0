"""Layers whose kernels are divided by their largest singular value."""

import keras
import tensorflow as tf


def spectral_norm(kernel, u):
    """Returns an estimate of a kernel's largest singular value, and the next u.

    One step of the power method on W, the kernel as a matrix [I, O]:

      v = W u / |W u|,    u' = W^T v / |W^T v|,    sigma = v^T W u'

    Args:
      kernel: [..., O].
      u: [O]; kept from one step to the next, it comes close to the singular vector.
        Sigma has a gradient with respect to the kernel, with u' and v held fixed.
    """
    matrix = tf.reshape(tf.cast(kernel, tf.float32), [-1, kernel.shape[-1]])
    v = tf.math.l2_normalize(tf.linalg.matvec(matrix, u))
    u = tf.math.l2_normalize(tf.linalg.matvec(matrix, v, transpose_a=True))
    u, v = tf.stop_gradient(u), tf.stop_gradient(v)
    return tf.reduce_sum(v * tf.linalg.matvec(matrix, u)), u


class _SpectralKernel:
    """A kernel that is divided by its largest singular value.

    Spectral normalisation (Miyato et al. 2018, arXiv:1802.05957, algorithm 1), which
    makes a layer Lipschitz with a constant of 1 (a convolution about so). The kernel is
    trained as it is, and divided where it is used, so that the gradient is that of the
    paper; `keras.layers.SpectralNormalization` overwrites the kernel in each call, and
    its gradient leaves sigma out. The state, u, moves in a call in training.
    """

    def build(self, input_shape):
        """Creates the variables."""
        super().build(input_shape)
        self.u = self.add_weight(
            name="u",
            shape=(self.kernel.shape[-1],),
            initializer=keras.initializers.RandomNormal(stddev=1.0, seed=0),
            dtype="float32",
            trainable=False,
            autocast=False,
        )

    def normalized_kernel(self, training=False):
        """Returns the kernel over its largest singular value."""
        kernel = keras.ops.convert_to_tensor(self.kernel)
        sigma, u = spectral_norm(kernel, self.u.value)
        if training:
            self.u.assign(u)
        # A kernel of zeros stays one.
        normalized = tf.cast(kernel, tf.float32) / tf.maximum(sigma, 1e-12)
        return tf.cast(normalized, kernel.dtype)


@keras.saving.register_keras_serializable(package="tfzoo")
class SpectralConv2D(_SpectralKernel, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with spectral normalisation of its kernel."""

    def call(self, inputs, training=False):
        """Returns the convolution with the normalised kernel."""
        outputs = self.convolution_op(inputs, self.normalized_kernel(training))
        if self.use_bias:
            outputs = outputs + keras.ops.convert_to_tensor(self.bias)
        return self.activation(outputs)


@keras.saving.register_keras_serializable(package="tfzoo")
class SpectralDense(_SpectralKernel, keras.layers.Dense):
    """`keras.layers.Dense` with spectral normalisation of its kernel."""

    def call(self, inputs, training=False):
        """Returns the product with the normalised kernel."""
        outputs = keras.ops.matmul(inputs, self.normalized_kernel(training))
        if self.use_bias:
            outputs = outputs + keras.ops.convert_to_tensor(self.bias)
        return self.activation(outputs)
