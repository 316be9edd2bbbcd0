"""Small networks and batches that several tests share."""

import keras
import numpy as np
import tensorflow as tf

from tfzoo.optimizers.output_distributions import (
    BernoulliOutputs,
    CategoricalOutputs,
    GaussianOutputs,
)

DISTRIBUTIONS = {
    "categorical": CategoricalOutputs(),
    "bernoulli": BernoulliOutputs(),
    "gaussian": GaussianOutputs(0.5),
}
BATCH, INPUTS, OUTPUTS = 7, 3, 4


def mlp(activation="tanh", outputs=OUTPUTS, units=5, seed=0, final=None):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.layers.Input([INPUTS]),
            keras.layers.Dense(units, activation),
            keras.layers.Dense(outputs, final, bias_initializer="random_normal"),
        ]
    )


def inputs(batch=BATCH, seed=1):
    return tf.constant(
        np.random.default_rng(seed).normal(size=[batch, INPUTS]), tf.float32
    )
