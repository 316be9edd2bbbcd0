"""The networks that agents have where they are not given one.

Any functional `keras.Model` from a batch of features, [B, ...], to the same outputs can
take their place: the pair (policy outputs [B, K], values [B, 1]) for `actor_critic`,
action values [B, A] or [B, A, K] for `q_network`.
"""

import keras
import numpy as np

from tfzoo.layers import DiagonalGaussianHead, NarrowDense, NoisyDense

# The most outputs of a `NarrowDense`, which was faster with 2.
_NARROW = 8


class _Seeds:
    """A new seed for each initializer."""

    def __init__(self, seed):
        self.seeds = np.random.SeedSequence(seed)

    def seed(self):
        """Returns a new seed."""
        (child,) = self.seeds.spawn(1)
        return int(child.generate_state(1)[0])


class _Orthogonal(_Seeds):
    """Orthogonal initializers (Saxe et al. 2013, arXiv:1312.6120)."""

    def __call__(self, gain):
        return keras.initializers.Orthogonal(gain, seed=self.seed())


class _FanInUniform(_Seeds):
    """Uniform in +- 1/sqrt(inputs) (Lillicrap et al. 2015, arXiv:1509.02971, sec. 7).

    Values that bootstrap from each other start small, and stay stable, where those of
    larger weights diverge: tried with DQN on CartPole.
    """

    def __call__(self, gain):
        del gain
        return keras.initializers.VarianceScaling(
            1 / 3, "fan_in", "uniform", seed=self.seed()
        )


def _mlp(features, hidden_units, activation, initializer):
    features = keras.layers.Flatten()(features)
    for units in hidden_units:
        features = keras.layers.Dense(
            units, activation, kernel_initializer=initializer(2**0.5)
        )(features)
    return features


def _atari_cnn(features, hidden_units, activation, initializer):
    """The convolutions of Mnih et al. 2015 (doi:10.1038/nature14236)."""
    for filters, kernel_size, strides in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
        features = keras.layers.Conv2D(
            filters,
            kernel_size,
            strides,
            activation=activation,
            kernel_initializer=initializer(2**0.5),
        )(features)
    return _mlp(features, hidden_units, activation, initializer)


# What the three convolutions leave one pixel of.
_SMALLEST_IMAGE = 36

_TORSOS = {"mlp": _mlp, "atari_cnn": _atari_cnn}


def _torso_for(torso, feature_shape):
    """Returns the name of the torso, and whether it is a CNN."""
    torso = torso or ("atari_cnn" if len(feature_shape) == 3 else "mlp")
    if torso not in _TORSOS:
        raise ValueError(f"torso must be one of {sorted(_TORSOS)}, got {torso!r}")
    is_cnn = torso == "atari_cnn"
    if is_cnn and (len(feature_shape) != 3 or min(feature_shape[:2]) < _SMALLEST_IMAGE):
        raise ValueError(
            f"torso=atari_cnn needs images of {_SMALLEST_IMAGE} pixels a side or more, "
            f"got observations of shape {tuple(feature_shape)}; torso=mlp takes any"
        )
    return torso, is_cnn


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
    torso, is_cnn = _torso_for(torso, feature_shape)
    hidden_units = (
        ((512,) if is_cnn else (64, 64)) if hidden_units is None else hidden_units
    )
    activation = activation or ("relu" if is_cnn else "tanh")
    shared = is_cnn if shared is None else shared
    orthogonal = _Orthogonal(seed)

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


def q_network(
    feature_shape,
    num_actions,
    *,
    num_atoms=None,
    dueling=False,
    noisy=False,
    torso=None,
    hidden_units=None,
    activation="relu",
    seed=0,
):
    """Builds the network of a value-based agent.

    Args:
      feature_shape: the shape of one observation, without the batch dimension.
      num_actions: A.
      num_atoms: K, the outputs of each action's value distribution; None for a value.
      dueling: whether the last hidden layer is there twice, for the value of the
        state and for the advantages of the actions, Q = V + D - mean D (Wang et al.
        2015, arXiv:1511.06581, eq. 9).
      noisy: whether the last hidden layer and the output layer are noisy; their noise
        counts where the network is called with `training=True`.
      torso: "mlp" or "atari_cnn"; by default the latter for image-shaped observations.
      hidden_units: widths of the dense layers, at least one; (64, 64) for an MLP,
        (512,) for a CNN.
      activation: of all layers but the last.
      seed: an integer; the same seed gives the same weights.

    Returns:
      A `keras.Model` from float32 [B, *feature_shape] to float32 [B, A], or [B, A, K].

    Raises:
      ValueError: if `torso` is not one of those named, or the images are too small.
    """
    torso, is_cnn = _torso_for(torso, feature_shape)
    if hidden_units is None:
        hidden_units = (512,) if is_cnn else (64, 64)
    if not hidden_units:
        raise ValueError("hidden_units must have at least one width")
    initializer = _FanInUniform(seed)
    observation = keras.Input(feature_shape, name="observation")
    features = _TORSOS[torso](observation, hidden_units[:-1], activation, initializer)

    def dense(units, name, activation=None, dtype=None):
        if noisy:
            return NoisyDense(
                units, activation, seed=initializer.seed(), name=name, dtype=dtype
            )
        layer = NarrowDense if units <= _NARROW else keras.layers.Dense
        return layer(
            units,
            activation,
            kernel_initializer=initializer(2**0.5 if activation else 1.0),
            name=name,
            dtype=dtype,
        )

    def stream(name, outputs):
        hidden = dense(hidden_units[-1], f"{name}_hidden", activation)(features)
        out = dense(outputs * (num_atoms or 1), name, dtype="float32")(hidden)
        if num_atoms is None:
            return out
        return keras.layers.Reshape(
            (outputs, num_atoms), dtype="float32", name=f"{name}_by_action"
        )(out)

    if not dueling:
        return keras.Model(observation, stream("values", num_actions), name="q_network")
    value, advantage = stream("value", 1), stream("advantage", num_actions)
    mean = keras.ops.mean(advantage, axis=1, keepdims=True)
    return keras.Model(observation, value + advantage - mean, name="q_network")


def recurrent_q_network(
    feature_shape,
    num_actions,
    *,
    previous_action=False,
    dueling=False,
    lstm_units=64,
    hidden_units=(64,),
    activation="relu",
    seed=0,
):
    """Builds the network of a recurrent value-based agent.

    Args:
      feature_shape: the shape of one observation, without batch and time.
      num_actions: A.
      previous_action: whether the LSTM sees the action before each observation, too.
      dueling: whether values are V + D - mean D; see `q_network`.
      lstm_units: U.
      hidden_units: widths of the dense layers before the LSTM.
      activation: of these.
      seed: an integer; the same seed gives the same weights.

    Returns:
      A `keras.Model` from (features float32 [B, L, *feature_shape], hidden [B, U], cell
      [B, U]) to (values float32 [B, L, A], hidden, cell), the state after L steps. With
      `previous_action`, one-hot actions [B, L, A] come after the features.
    """
    initializer = _FanInUniform(seed)
    features = keras.Input((None, *feature_shape), name="observation")
    hidden, cell = (keras.Input((lstm_units,), name=n) for n in ("hidden", "cell"))
    outputs = features
    if len(feature_shape) > 1:
        outputs = keras.layers.TimeDistributed(keras.layers.Flatten())(outputs)
    for units in hidden_units:
        outputs = keras.layers.Dense(
            units, activation, kernel_initializer=initializer(2**0.5)
        )(outputs)
    inputs = [features]
    if previous_action:
        inputs.append(keras.Input((None, num_actions), name="previous_action"))
        outputs = keras.layers.Concatenate()([outputs, inputs[1]])
    outputs, *state = keras.layers.LSTM(
        lstm_units,
        return_sequences=True,
        return_state=True,
        # Of cuDNN's there is no form for XLA.
        use_cudnn=False,
        # States are stored and come back.
        dtype="float32",
        kernel_initializer=initializer(1.0),
        recurrent_initializer=initializer(1.0),
    )(outputs, initial_state=[hidden, cell])

    def head(units, name):
        return keras.layers.Dense(
            units, kernel_initializer=initializer(1.0), dtype="float32", name=name
        )(outputs)

    if dueling:
        advantage = head(num_actions, "advantage")
        mean = keras.ops.mean(advantage, axis=-1, keepdims=True)
        values = head(1, "value") + advantage - mean
    else:
        values = head(num_actions, "values")
    return keras.Model(
        [*inputs, hidden, cell], [values, *state], name="recurrent_q_network"
    )


def deterministic_actor(
    feature_shape,
    num_outputs,
    *,
    hidden_units=(256, 256),
    activation="relu",
    output_activation="tanh",
    seed=0,
):
    """Builds the network of a policy over real numbers.

    Args:
      feature_shape: the shape of one observation, without the batch dimension.
      num_outputs: D, the numbers of an action, or 2 D for a mean and a deviation.
      hidden_units: widths of the dense layers.
      activation: of all layers but the last.
      output_activation: of the last; tanh keeps actions in [-1, 1].
      seed: an integer; the same seed gives the same weights.

    Returns:
      A `keras.Model` from float32 [B, *feature_shape] to float32 [B, D].
    """
    initializer = _FanInUniform(seed)
    observation = keras.Input(feature_shape, name="observation")
    features = _mlp(observation, hidden_units, activation, initializer)
    action = keras.layers.Dense(
        num_outputs,
        output_activation,
        # Small, so that no action starts where tanh is flat (arXiv:1509.02971).
        kernel_initializer=keras.initializers.RandomUniform(
            -3e-3, 3e-3, seed=initializer.seed()
        ),
        dtype="float32",
        name="action",
    )(features)
    return keras.Model(observation, action, name="actor")


def action_critic(
    feature_shape,
    num_dimensions,
    *,
    num_critics=1,
    hidden_units=(256, 256),
    activation="relu",
    seed=0,
):
    """Builds the networks of critics of observations and actions.

    Args:
      feature_shape: the shape of one observation, without the batch dimension.
      num_dimensions: D, the numbers of an action.
      num_critics: C, how many independent critics there are.
      hidden_units: widths of the dense layers of each.
      activation: of all layers but the last.
      seed: an integer; the same seed gives the same weights.

    Returns:
      A `keras.Model` from [features [B, *feature_shape], actions [B, D]] to values
      float32 [B, C].
    """
    initializer = _FanInUniform([seed, 1])
    observation = keras.Input(feature_shape, name="observation")
    action = keras.Input((num_dimensions,), name="action")
    inputs = keras.layers.Concatenate()([keras.layers.Flatten()(observation), action])
    values = [
        keras.layers.Dense(1, kernel_initializer=initializer(1.0), dtype="float32")(
            _mlp(inputs, hidden_units, activation, initializer)
        )
        for _ in range(num_critics)
    ]
    if num_critics > 1:
        values = [keras.layers.Concatenate(dtype="float32")(values)]
    return keras.Model([observation, action], values[0], name="critic")


def check_functional(network):
    """Refuses a network that is not a functional model.

    Raises:
      ValueError: if its inputs and outputs are not known before it is called.
    """
    # Those of others are not known before the first call.
    if not getattr(network, "inputs", None) or not hasattr(network, "output_shape"):
        raise ValueError(
            "the network must be a functional keras.Model, or a keras.Sequential with "
            f"an Input, got {type(network).__name__}"
        )


def copy_of(network):
    """Returns a copy of a network that no optimizer moves."""
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    copy.trainable = False
    return copy
