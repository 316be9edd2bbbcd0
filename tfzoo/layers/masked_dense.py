"""A dense layer of which a mask, given with the inputs, takes connections away."""

import keras


@keras.saving.register_keras_serializable(package="tfzoo")
class MaskedDense(keras.layers.Layer):
    """A dense layer that is told, in each call, which of its connections are there.

      y = activation(x (W * connectivity) + b)

    As the mask is an input and not a part of the layer, one layer serves any number of
    masks without being traced again, and holds none of them. Weights that a mask takes
    away have no gradient.

    Args:
      units: O, the width of the output.
      activation: as for `keras.layers.Dense`.
      use_bias: whether there is b.
      kernel_initializer: as for `keras.layers.Dense`.

    Inputs: x [B, I], and `connectivity` [I, O], bool or numbers of 0 and 1; row i says
    which units input i is connected to. Output: [B, O].
    """

    def __init__(
        self,
        units,
        activation=None,
        *,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        """Creates the variables."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.units),
            initializer=self.kernel_initializer,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(self.units,), initializer="zeros"
            )

    def call(self, inputs, connectivity):
        """Returns the output for inputs [B, I] through the connections [I, O]."""
        connectivity = keras.ops.cast(connectivity, self.compute_dtype)
        outputs = keras.ops.matmul(inputs, self.kernel * connectivity)
        if self.bias is not None:
            outputs += self.bias
        return self.activation(outputs)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the output."""
        return (*input_shape[:-1], self.units)

    def get_config(self):
        """Returns the arguments that the layer was made with."""
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
