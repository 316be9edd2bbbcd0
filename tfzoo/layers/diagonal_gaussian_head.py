"""The output layer of a Gaussian policy with a state-independent standard deviation."""

import keras


@keras.saving.register_keras_serializable(package="tfzoo")
class DiagonalGaussianHead(keras.layers.Layer):
    """Maps features to the mean of a Gaussian and appends its log standard deviation.

    The mean is a linear function of the features; the logarithm of the standard
    deviation is one trainable vector that does not depend on them (Schulman et al.
    2015, arXiv:1502.05477, appendix D).

    Args:
      dimensions: D, the number of dimensions of the Gaussian.
      initial_log_stddev: the value that each log standard deviation starts from.
      kernel_initializer: initializer of the kernel of the mean.

    Input: features, [B, F]. Output: [B, 2 D], the mean and then the log standard
    deviation.
    """

    def __init__(
        self,
        dimensions,
        *,
        initial_log_stddev=0.0,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.dimensions = dimensions
        self.initial_log_stddev = initial_log_stddev
        self.mean = keras.layers.Dense(
            dimensions, kernel_initializer=kernel_initializer, dtype=self.dtype_policy
        )

    def build(self, input_shape):
        """Creates the variables."""
        self.mean.build(input_shape)
        self.log_stddev = self.add_weight(
            name="log_stddev",
            shape=(self.dimensions,),
            initializer=keras.initializers.Constant(self.initial_log_stddev),
        )

    def call(self, features):
        """Returns the mean and log standard deviation, [B, 2 D]."""
        mean = self.mean(features)
        log_stddev = keras.ops.broadcast_to(self.log_stddev, keras.ops.shape(mean))
        return keras.ops.concatenate([mean, log_stddev], axis=-1)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the output."""
        return (*input_shape[:-1], 2 * self.dimensions)

    def get_config(self):
        """Returns the arguments that the layer was made with."""
        return {
            **super().get_config(),
            "dimensions": self.dimensions,
            "initial_log_stddev": self.initial_log_stddev,
            "kernel_initializer": keras.initializers.serialize(
                self.mean.kernel_initializer
            ),
        }
