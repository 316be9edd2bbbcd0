"""Normalisation by statistics of all data seen so far."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfzoo")
class RunningNormalization(keras.layers.Layer):
    """Subtracts the running mean, divides by the running standard deviation, clips.

    Unlike `keras.layers.Normalization`, the statistics are updated as data comes in,
    by `update`; unlike batch normalisation, they weigh all data equally. They are
    merged by the parallel rule of Chan, Golub and LeVeque (1979). Calling the layer
    never changes them.

    Args:
      center: whether the mean is subtracted; without it data is only scaled.
      clip: values are clipped to [-clip, clip] after scaling; None leaves them.
      epsilon: added to the variance before its square root.

    Input and output: float32, [..., *shape], where `shape` is what `build` was given
    after the batch dimension.
    """

    def __init__(self, *, center=True, clip=10.0, epsilon=1e-8, **kwargs):
        # Statistics of rewards and observations need more than half precision.
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.center = center
        self.clip = clip
        self.epsilon = epsilon

    def build(self, input_shape):
        """Creates the variables."""
        shape = tuple(input_shape[1:])

        def statistic(name, shape, initializer, dtype="float32"):
            return self.add_weight(
                name=name,
                shape=shape,
                dtype=dtype,
                initializer=initializer,
                trainable=False,
                autocast=False,
            )

        self.mean = statistic("mean", shape, "zeros")
        self.variance = statistic("variance", shape, "ones")
        # In float32 a count above 2**24 would no longer grow one by one.
        self.count = statistic("count", (), "zeros", "float64")

    def update(self, data, mask=None):
        """Merges the statistics of data into those so far.

        Args:
          data: float [..., *shape].
          mask: bool [...], which of it counts, at least one; by default all.
        """
        rank = len(self.mean.shape)
        data = tf.reshape(tf.cast(data, tf.float32), [-1, *self.mean.shape])
        weight = tf.ones(tf.shape(data)[:1])
        if mask is not None:
            weight = tf.cast(tf.reshape(mask, [-1]), tf.float32)
        mean, variance = tf.nn.weighted_moments(
            data, axes=[0], frequency_weights=tf.reshape(weight, [-1] + [1] * rank)
        )
        new = tf.cast(tf.reduce_sum(weight), tf.float64)
        total = self.count.value + new
        share = tf.cast(new / total, tf.float32)
        delta = mean - self.mean.value
        spread = (1.0 - share) * self.variance.value + share * variance
        self.variance.assign(spread + tf.square(delta) * share * (1.0 - share))
        self.mean.assign_add(delta * share)
        self.count.assign(total)

    def call(self, data):
        """Returns the data normalised by the statistics as they are."""
        data = tf.cast(data, tf.float32)
        if self.center:
            data -= self.mean.value
        data *= tf.math.rsqrt(self.variance.value + self.epsilon)
        if self.clip is not None:
            data = tf.clip_by_value(data, -self.clip, self.clip)
        return data

    def compute_output_shape(self, input_shape):
        """Returns the shape of the output."""
        return input_shape

    def get_config(self):
        """Returns the arguments that the layer was made with."""
        return {
            **super().get_config(),
            "center": self.center,
            "clip": self.clip,
            "epsilon": self.epsilon,
        }
