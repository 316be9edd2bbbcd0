"""A layer of ours beside that of Keras: values and gradients in every mode."""

import numpy as np
import tensorflow as tf

MODES = {
    "eager": lambda function: function,
    "graph": tf.function(autograph=False),
    "xla": tf.function(autograph=False, jit_compile=True),
}


def assert_same_values_and_gradients(ours, theirs, x, weight, mode, **tolerance):
    """Compares outputs and gradients of their sum weighted by `weight`.

    Args:
      ours, theirs: layers of the same variables.
      x: inputs.
      weight: of the shape of the outputs.
      mode: of `MODES`.
      **tolerance: of `np.testing.assert_allclose`.
    """

    def gradients(layer):
        @MODES[mode]
        def both(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x)
                loss = tf.reduce_sum(weight * y)
            return y, tape.gradient(loss, [x, *layer.trainable_variables])

        y, rest = both(x)
        assert y.shape == weight.shape
        return [y, *rest]

    for value, expected in zip(gradients(ours), gradients(theirs), strict=True):
        np.testing.assert_allclose(value, expected, **tolerance)
