"""The actor-critic networks of the policy-gradient agents.

Any `keras.Model` that maps a batch of observations, [B, ...], to the pair
(policy outputs [B, K], values [B, 1]) can take their place.
"""

import keras
import numpy as np

from tfzoo.layers.diagonal_gaussian_head import DiagonalGaussianHead


class _Initializers:
    """Orthogonal initializers (Saxe et al. 2013, arXiv:1312.6120), a seed for each."""

    def __init__(self, seed):
        self.seeds = np.random.SeedSequence(seed)

    def __call__(self, gain):
        (child,) = self.seeds.spawn(1)
        return keras.initializers.Orthogonal(gain, seed=int(child.generate_state(1)[0]))


def _mlp(features, hidden_units, activation, orthogonal):
    features = keras.layers.Flatten()(features)
    for units in hidden_units:
        features = keras.layers.Dense(
            units, activation, kernel_initializer=orthogonal(2**0.5)
        )(features)
    return features


def _atari_cnn(features, hidden_units, activation, orthogonal):
    """The convolutions of Mnih et al. 2015 (doi:10.1038/nature14236)."""
    for filters, kernel_size, strides in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
        features = keras.layers.Conv2D(
            filters,
            kernel_size,
            strides,
            activation=activation,
            kernel_initializer=orthogonal(2**0.5),
        )(features)
    return _mlp(features, hidden_units, activation, orthogonal)


# What the three convolutions leave one pixel of.
_SMALLEST_IMAGE = 36

_TORSOS = {"mlp": _mlp, "atari_cnn": _atari_cnn}


def actor_critic(
    feature_shape,
    policy,
    *,
    torso=None,
    hidden_units=None,
    activation=None,
    shared=None,
    initial_log_stddev=0.0,
    seed=0,
):
    """Builds the usual actor-critic network.

    Args:
      feature_shape: the shape of one observation, without the batch dimension.
      policy: the policy distribution, of `tfzoo.losses`, whose outputs the actor gives.
      torso: "mlp" or "atari_cnn"; by default the latter for image-shaped observations.
      hidden_units: widths of the dense layers; (64, 64) for an MLP, (512,) for a CNN.
      activation: of the torso; by default tanh for an MLP, relu for a CNN.
      shared: whether actor and critic share the torso; by default a CNN is shared and
        an MLP is not.
      initial_log_stddev: where a Gaussian policy's log standard deviation starts.
      seed: an integer; the same seed gives the same weights.

    Returns:
      A `keras.Model` from float32 [B, *feature_shape] to (policy outputs [B, K],
      values [B, 1]), both float32.

    Raises:
      ValueError: if `torso` is not one of those named, or the images are too small.
    """
    torso = torso or ("atari_cnn" if len(feature_shape) == 3 else "mlp")
    if torso not in _TORSOS:
        raise ValueError(f"torso must be one of {sorted(_TORSOS)}, got {torso!r}")
    is_cnn = torso == "atari_cnn"
    if is_cnn and (len(feature_shape) != 3 or min(feature_shape[:2]) < _SMALLEST_IMAGE):
        raise ValueError(
            f"torso=atari_cnn needs images of {_SMALLEST_IMAGE} pixels a side or more, "
            f"got observations of shape {tuple(feature_shape)}; torso=mlp takes any"
        )
    hidden_units = (
        ((512,) if is_cnn else (64, 64)) if hidden_units is None else hidden_units
    )
    activation = activation or ("relu" if is_cnn else "tanh")
    shared = is_cnn if shared is None else shared
    orthogonal = _Initializers(seed)

    observation = keras.Input(feature_shape, name="observation")
    actor = _TORSOS[torso](observation, hidden_units, activation, orthogonal)
    critic = (
        actor
        if shared
        else _TORSOS[torso](observation, hidden_units, activation, orthogonal)
    )
    # A small last layer makes the first policy nearly uniform, whatever it sees.
    if policy.name == "diagonal_gaussian":
        policy_head = DiagonalGaussianHead(
            policy.num_dimensions,
            initial_log_stddev=initial_log_stddev,
            kernel_initializer=orthogonal(0.01),
            dtype="float32",
            name="policy",
        )
    else:
        policy_head = keras.layers.Dense(
            policy.num_outputs,
            kernel_initializer=orthogonal(0.01),
            dtype="float32",
            name="policy",
        )
    value_head = keras.layers.Dense(
        1, kernel_initializer=orthogonal(1.0), dtype="float32", name="value"
    )
    return keras.Model(
        observation, (policy_head(actor), value_head(critic)), name="actor_critic"
    )
