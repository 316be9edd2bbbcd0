"""A policy network in NumPy, for processes that must not import TensorFlow."""

import numpy as np

# As `tfzoo.losses.DiagonalGaussianPolicy` clips log standard deviations.
_MAX_ABS_LOG_STDDEV = 20.0


def _sigmoid(x):
    # Unlike 1 / (1 + exp(-x)), this overflows nowhere.
    return 0.5 + 0.5 * np.tanh(0.5 * x)


# The formulas that Keras has under these names.
_ACTIVATIONS = {
    "elu": lambda x: np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0))),
    "relu": lambda x: np.maximum(x, 0.0),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "tanh": np.tanh,
}


class NumpyPolicy:
    """Normalises observations, applies dense layers, and draws actions.

      policy = NumpyPolicy([(kernel, bias), (kernel, bias)], "tanh", log_stddev=[0.0])
      noise = policy.noise(np.random.default_rng(0), num_steps=100)  # [100, K]
      action = policy.act(features, noise[0])

    It is Gaussian where it has log standard deviations, and categorical otherwise. All
    is float32. What it computes for one row of a batch does not depend on the other
    rows, not even in the last bit.

    Args:
      layers: a list of (kernel [I, O], bias [O]); the last gives the K outputs, which
        are the means of a Gaussian or the logits of a categorical distribution.
      activation: of all layers but the last: "elu", "relu", "sigmoid", "silu" or
        "tanh".
      log_stddev: [K], the log standard deviations of a Gaussian policy, clipped to
        [-20, 20]; None for a categorical one.
      mean, variance: [F], the statistics that features are normalised by, as
        `tfzoo.layers.RunningNormalization` does it; None leaves features as they are.
      epsilon: added to the variance before its square root.
      clip: normalised features are clipped to [-clip, clip]; None leaves them.

    Attributes:
      num_features: F, the width of the input.
      num_outputs: K, the width of the output.
      is_gaussian: whether actions are numbers, [K], and not one of K indices.

    Raises:
      ValueError: if the shapes do not fit or the activation is none of those.
    """

    def __init__(
        self,
        layers,
        activation,
        *,
        log_stddev=None,
        mean=None,
        variance=None,
        epsilon=1e-8,
        clip=10.0,
    ):
        if activation not in _ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {', '.join(map(repr, _ACTIVATIONS))} where "
                f"worker processes act, got {activation!r}"
            )
        if (mean is None) != (variance is None):
            raise ValueError("mean and variance must be given together")
        self.activation = activation
        self.layers = [(_array(kernel), _array(bias)) for kernel, bias in layers]
        if not self.layers:
            raise ValueError("layers must hold at least one (kernel, bias), got none")
        self.num_features = width = self.layers[0][0].shape[0]
        for i, (kernel, bias) in enumerate(self.layers):
            _check_shape(f"kernel of layer {i}", kernel, (width, kernel.shape[-1]))
            width = kernel.shape[-1]
            _check_shape(f"bias of layer {i}", bias, (width,))
        self.num_outputs = width

        self.is_gaussian = log_stddev is not None
        if self.is_gaussian:
            limit = _MAX_ABS_LOG_STDDEV
            self._stddev = np.exp(np.clip(_array(log_stddev), -limit, limit))
            _check_shape("log_stddev", self._stddev, (width,))
        self._clip = clip
        self._mean = None
        if mean is not None:
            self._mean, variance = _array(mean), _array(variance)
            _check_shape("mean", self._mean, (self.num_features,))
            _check_shape("variance", variance, (self.num_features,))
            self._scale = 1.0 / np.sqrt(variance + np.float32(epsilon))

    def __call__(self, features):
        """Returns the means or logits, float32 [B, K], of features, float32 [B, F]."""
        if self._mean is not None:
            features = (features - self._mean) * self._scale
            if self._clip is not None:
                # `np.clip` takes longer than all the rest.
                features = np.minimum(np.maximum(features, -self._clip), self._clip)
        activation = _ACTIVATIONS[self.activation]
        # As [B, 1, F], where each row is multiplied by itself: a product of matrices
        # would round a row differently with the number of rows.
        features = features[:, np.newaxis]
        for kernel, bias in self.layers[:-1]:
            features = activation(features @ kernel + bias)
        kernel, bias = self.layers[-1]
        return (features @ kernel + bias)[:, 0]

    def noise(self, generator, num_steps):
        """Draws what `act` adds to the outputs in T steps, float32 [T, K].

        It is a normal deviate times the standard deviation, or a Gumbel deviate: the
        largest of logits + Gumbel deviates is a draw from the categorical distribution.

        Args:
          generator: a `numpy.random.Generator`.
          num_steps: T.
        """
        shape = (num_steps, self.num_outputs)
        if self.is_gaussian:
            return self._stddev * generator.standard_normal(shape, np.float32)
        return generator.gumbel(size=shape).astype(np.float32)

    def act(self, features, noise):
        """Returns actions, float32 [B, K] if Gaussian, otherwise indices [B].

        Args:
          features: float32 [B, F].
          noise: float32 [B, K], a row of `noise` for each.
        """
        outputs = self(features) + noise
        return outputs if self.is_gaussian else outputs.argmax(axis=-1)


def _array(values):
    return np.ascontiguousarray(values, np.float32)


def _check_shape(name, array, shape):
    if array.shape != shape:
        raise ValueError(f"the {name} must be of shape {shape}, got {array.shape}")
