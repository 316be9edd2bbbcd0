"""A dense layer with trainable noise on its weights, for exploration."""

import keras
import tensorflow as tf

from tfzoo import random


@keras.saving.register_keras_serializable(package="tfzoo")
class NoisyDense(keras.layers.Layer):
    """A dense layer whose weights have noise of a trainable scale.

      y = activation(x (W + S_W * f(e) f(e')^T) + b + S_b * f(e')),
      f(e) = sgn(e) |e|^1/2

    Noisy networks with factorised Gaussian noise (Fortunato et al. 2017,
    arXiv:1706.10295, eq. 9 to 11): the scales S_W and S_b are trained with the
    weights, so that the network learns how much to explore. The noise e [I], e' [O] is
    there in training only; it is zero at first, and kept until `resample` draws
    another.

    Args:
      units: O, the width of the output.
      activation: as for `keras.layers.Dense`.
      initial_scale: sigma_0; each scale starts from sigma_0 / sqrt(I).
      seed: an integer for the weights, or None.

    Input: [B, I]. Output: [B, O].
    """

    def __init__(
        self, units, activation=None, *, initial_scale=0.5, seed=None, **kwargs
    ):
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.initial_scale = initial_scale
        self.seed = seed

    def build(self, input_shape):
        """Creates the variables."""
        width = input_shape[-1]
        bound = width**-0.5
        scale = keras.initializers.Constant(self.initial_scale * bound)

        def uniform(offset):
            seed = None if self.seed is None else self.seed + offset
            return keras.initializers.RandomUniform(-bound, bound, seed=seed)

        def noise(name, shape):
            return self.add_weight(
                name=name, shape=shape, initializer="zeros", trainable=False
            )

        self.kernel = self.add_weight(
            name="kernel", shape=(width, self.units), initializer=uniform(0)
        )
        self.bias = self.add_weight(
            name="bias", shape=(self.units,), initializer=uniform(1)
        )
        self.kernel_scale = self.add_weight(
            name="kernel_scale", shape=(width, self.units), initializer=scale
        )
        self.bias_scale = self.add_weight(
            name="bias_scale", shape=(self.units,), initializer=scale
        )
        self.input_noise = noise("input_noise", (width,))
        self.output_noise = noise("output_noise", (self.units,))

    def resample(self, seed):
        """Draws the noise anew.

        Args:
          seed: int32 [2].
        """
        seeds = tf.unstack(random.split(seed, 2))
        for variable, one in zip(
            (self.input_noise, self.output_noise), seeds, strict=True
        ):
            e = random.normal(variable.shape, one)
            variable.assign(tf.sign(e) * tf.sqrt(tf.abs(e)))

    def call(self, inputs, training=False):
        """Returns the output for inputs [B, I]; only in training with the noise."""
        mean = keras.ops.matmul(inputs, self.kernel) + self.bias
        if not training:
            return self.activation(mean)
        # (x * e) S e' is x (S * e e'^T): two small products, and no noisy copy of W.
        noisy = keras.ops.matmul(inputs * self.input_noise, self.kernel_scale)
        return self.activation(mean + (noisy + self.bias_scale) * self.output_noise)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the output."""
        return (*input_shape[:-1], self.units)

    def get_config(self):
        """Returns the arguments that the layer was made with."""
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "initial_scale": self.initial_scale,
            "seed": self.seed,
        }
