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

    blocks = tf.reshape(kernel, [2, stride, 2, stride, channels, size])
    blocks = tf.transpose(blocks, [5, 0, 2, 1, 3, 4])
    blocks = tf.reshape(blocks, [size, 4 * stride * stride * channels])
    products = tf.split(tf.tensordot(inputs, blocks, 1), 4, axis=-1)
    outputs = 0.0
    for (row, column), block in zip(np.ndindex(2, 2), products, strict=True):
        outputs += tf.pad(block, [(0, 0), (row, 1 - row), (column, 1 - column), (0, 0)])
    outputs = tf.nn.depth_to_space(outputs, stride)
    # "Same" padding leaves half a block out at every edge.
    edge = stride // 2
    return outputs[:, edge : edge - stride, edge : edge - stride], gradient


@keras.saving.register_keras_serializable(package="tfzoo")
class NarrowConv2DTranspose(keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` to a handful of channels, such as an image's.

    Inputs [B, H, W, I], outputs [B, s H, s W, C]. Values and gradients are the same.
    The library that TensorFlow calls on CPU pads the channels of outputs to the width
    of its vectors, at one channel for three times the time of what is done here:
    a product of matrices, summed block by block.

    Args:
      filters: C.
      kernel_size: twice the stride.
      strides: s, even.
      padding: "same" alone.
      **options: of the base.

    Raises:
      ValueError: if a kernel, stride, padding or layout is another.
    """

    def __init__(self, filters, kernel_size=4, strides=2, padding="same", **options):
        super().__init__(filters, kernel_size, strides, padding, **options)
        (height, width), (stride, other) = self.kernel_size, self.strides
        if stride % 2 or not height == width == 2 * stride == 2 * other:
            raise ValueError(
                "the stride must be even and the kernel twice as large, got strides "
                f"{self.strides} and kernel_size {self.kernel_size}"
            )
        if (self.padding, self.data_format) != ("same", "channels_last") or (
            self.dilation_rate != (1, 1) or self.output_padding is not None
        ):
            raise ValueError(
                "padding must be 'same', data_format 'channels_last', without dilation "
                f"or output_padding, got padding={self.padding!r}, "
                f"data_format={self.data_format!r}, "
                f"dilation_rate={self.dilation_rate}, "
                f"output_padding={self.output_padding}"
            )

    def call(self, inputs):
        """Returns the outputs [B, s H, s W, C] of inputs [B, H, W, I]."""
        outputs = _narrow_conv_transpose(inputs, tf.convert_to_tensor(self.kernel))
        if self.bias is not None:
            outputs = outputs + self.bias
        return self.activation(outputs)
