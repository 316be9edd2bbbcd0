"""The policy of an agent as worker processes have it, which never import TensorFlow."""

import keras
import numpy as np

from tfzoo.environments import NumpyPolicy
from tfzoo.layers import DiagonalGaussianHead


def worker_policy(agent):
    """Returns the present policy of an agent in NumPy, with its normalisation.

    Args:
      agent: an `OnPolicyAgent` whose policy is a stack of dense layers, as
        `actor_critic` builds it for vectors.

    Returns:
      A `NumpyPolicy`.

    Raises:
      ValueError: if the policy is of another form.
    """
    policy = keras.Model(agent.network.input, agent.network.outputs[0])
    dense, log_stddev = [], None
    for layer in policy.layers:
        if isinstance(layer, DiagonalGaussianHead):
            log_stddev, layer = layer.log_stddev.numpy(), layer.mean
        if isinstance(layer, keras.layers.Dense):
            dense.append(layer)
        elif not isinstance(layer, (keras.layers.InputLayer, keras.layers.Flatten)):
            raise ValueError(
                f"worker processes can act with dense layers only, and {layer.name} is "
                f'a {type(layer).__name__}; use vectorization="async"'
            )
    if dense[-1].activation is not keras.activations.linear:
        raise ValueError(
            "worker processes can act with a linear last layer only, and that of "
            f"{dense[-1].name} is {dense[-1].activation.__name__}"
        )
    activations = {layer.activation.__name__ for layer in dense[:-1]}
    if len(activations) > 1 or not all(layer.use_bias for layer in dense):
        raise ValueError(
            "worker processes can act with dense layers of one activation and with "
            f"biases only, got {sorted(activations)}"
        )
    statistics = {}
    normalization = agent.observation_normalization
    if normalization is not None:
        statistics = {
            "mean": np.ravel(normalization.mean),
            "variance": np.ravel(normalization.variance),
            "epsilon": normalization.epsilon,
            "clip": normalization.clip,
        }
    return NumpyPolicy(
        [(layer.kernel.numpy(), layer.bias.numpy()) for layer in dense],
        activations.pop() if activations else "tanh",
        log_stddev=log_stddev,
        **statistics,
    )
