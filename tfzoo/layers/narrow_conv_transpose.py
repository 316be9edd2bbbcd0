"""A transposed convolution with few outputs."""

import keras
import numpy as np
import tensorflow as tf


@tf.custom_gradient
def _narrow_conv_transpose(inputs, kernel):
    """Returns [B, s H, s W, C] of [B, H, W, I] and a kernel [2 s, 2 s, C, I].

    An input covers two by two blocks of s by s outputs. Its products with the kernel
    are summed block by block.
    """
    stride = kernel.shape[0] // 2
    channels, size = kernel.shape[2:]

    def gradient(upstream):
        for_kernel = tf.raw_ops.Conv2DBackpropFilter(
            input=upstream,
            filter_sizes=kernel.shape,
            out_backprop=inputs,
            strides=[1, stride, stride, 1],
            padding="SAME",
        )
        return tf.nn.conv2d(upstream, kernel, stride, "SAME"), for_kernel

    # Half precision is summed in float32, as products of matrices are.
    dtype = tf.float32 if inputs.dtype.size < 4 else inputs.dtype
    blocks = tf.reshape(tf.cast(kernel, dtype), [2, stride, 2, stride, channels, size])
    blocks = tf.transpose(blocks, [5, 0, 2, 1, 3, 4])
    blocks = tf.reshape(blocks, [size, 4 * stride * stride * channels])
    products = tf.split(tf.tensordot(tf.cast(inputs, dtype), blocks, 1), 4, axis=-1)
    outputs = tf.add_n(
        [
            tf.pad(block, [(0, 0), (row, 1 - row), (column, 1 - column), (0, 0)])
            for (row, column), block in zip(np.ndindex(2, 2), products, strict=True)
        ]
    )
    outputs = tf.nn.depth_to_space(tf.cast(outputs, inputs.dtype), stride)
    # "Same" padding leaves one block out, half of it before and half after.
    edge = stride // 2
    return outputs[:, edge : edge - stride, edge : edge - stride], gradient


@keras.saving.register_keras_serializable(package="tfzoo")
class NarrowConv2DTranspose(keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` to a handful of channels, such as an image's.

    Inputs [B, H, W, I], outputs [B, s H, s W, C]. Values and gradients are the same.
    The library that TensorFlow calls on CPU pads the channels of outputs to the width
    of its vectors: without XLA it takes three to four times as long for one channel as
    what is done here, a product of matrices that is summed block by block; for eight
    it takes half as long again, for sixteen it is faster.

    Args:
      filters: C.
      kernel_size: twice the stride.
      strides: s, at least 2.
      padding: "same" alone.
      **options: of the base.

    Raises:
      ValueError: if a kernel, stride, padding or layout is another.
    """

    def __init__(self, filters, kernel_size=4, strides=2, padding="same", **options):
        super().__init__(filters, kernel_size, strides, padding, **options)
        (height, width), (stride, other) = self.kernel_size, self.strides
        if stride < 2 or not height == width == 2 * stride == 2 * other:
            raise ValueError(
                "the stride must be at least 2 and the kernel twice as large, got "
                f"strides {self.strides} and kernel_size {self.kernel_size}"
            )
        layout = self.padding, self.data_format, self.output_padding
        if layout != ("same", "channels_last", None):
            raise ValueError(
                "padding must be 'same', data_format 'channels_last', output_padding "
                f"None, got {', '.join(map(repr, layout))}"
            )

    def call(self, inputs):
        """Returns the outputs [B, s H, s W, C] of inputs [B, H, W, I]."""
        outputs = _narrow_conv_transpose(inputs, tf.convert_to_tensor(self.kernel))
        if self.bias is not None:
            outputs = outputs + self.bias
        return self.activation(outputs)
