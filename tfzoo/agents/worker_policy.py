"""The policy of an agent as worker processes have it, which never import TensorFlow."""

import keras
import numpy as np

from tfzoo.environments import NumpyPolicy
from tfzoo.layers import DiagonalGaussianHead, NarrowDense


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
    log_stddev = None
    for layer in policy.layers:
        if isinstance(layer, DiagonalGaussianHead):
            log_stddev = layer.log_stddev.numpy()
    dense, activation = dense_stack(policy)
    return NumpyPolicy(
        [(layer.kernel.numpy(), layer.bias.numpy()) for layer in dense],
        activation,
        log_stddev=log_stddev,
        **normalization_statistics(agent),
    )


def normalization_statistics(agent):
    """Returns the arguments of `NumpyPolicy` that normalise observations."""
    normalization = agent.observation_normalization
    if normalization is None:
        return {}
    return {
        "mean": np.ravel(normalization.mean),
        "variance": np.ravel(normalization.variance),
        "epsilon": normalization.epsilon,
        "clip": normalization.clip,
    }


def dense_stack(network):
    """Returns the dense layers of a network that has no others, and their activation.

    Raises:
      ValueError: if it has others, or they are of another form than `NumpyPolicy` has.
    """
    dense = []
    # Its operations, of which layers are some: `x + y` is one as well.
    for layer in network.operations:
        if isinstance(layer, DiagonalGaussianHead):
            layer = layer.mean
        if type(layer) in (keras.layers.Dense, NarrowDense):
            dense.append(layer)
        elif not isinstance(layer, (keras.layers.InputLayer, keras.layers.Flatten)):
            raise ValueError(
                f"worker processes can act with dense layers only, and {layer.name} is "
                f'a {type(layer).__name__}; use vectorization="async"'
            )
    if len(set(map(id, dense))) < len(dense) or any(
        len(layer._inbound_nodes) > 1 for layer in network.operations
    ):
        raise ValueError("worker processes cannot act with layers that are used twice")
    if dense[-1].activation is not keras.activations.linear:
        raise ValueError(
            "worker processes can act with a linear last layer only, and that of "
            f"{dense[-1].name} is {_name(dense[-1].activation)}"
        )
    activations = {_name(layer.activation) for layer in dense[:-1]}
    if len(activations) > 1 or not all(layer.use_bias for layer in dense):
        raise ValueError(
            "worker processes can act with dense layers of one activation and with "
            f"biases only, got {sorted(activations)}"
        )
    return dense, activations.pop() if activations else "tanh"


def _name(activation):
    """Returns the name of an activation, which may be a layer."""
    return getattr(activation, "__name__", type(activation).__name__)
