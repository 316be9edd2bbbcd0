"""Policy distributions: what the raw outputs of a policy network mean.

Each class reads tensors of network outputs [..., K] as the parameters of a
distribution over actions and is otherwise stateless, so that one object serves acting,
losses and export. `distribution` gives the `tensorflow_probability` object; the other
methods are closed forms of the same distribution, which the tests hold against it. They
compile to fewer operations, and programs that only train need not import TFP, which
takes longer than compiling a training step.

All are computed in float32. Outputs are finite, except that a logit of -inf rules out
an action of a categorical policy.
"""

import abc
import math

import keras
import tensorflow as tf

# float32 counts integers exactly up to here, and `packing` stores indices as float32.
MAX_INDEX = 2**24

# Standard deviations between 2e-9 and 5e8 keep densities, divergences and their
# gradients finite in float32, and leave any range that a policy has a use for.
MAX_ABS_LOG_STDDEV = 20.0


class PolicyDistribution(abc.ABC):
    """The interface of all policy distributions; shapes are `[..., K]` throughout.

    Attributes:
      name: what losses and configurations call it.
      num_outputs: K, the width of the network's output.
      num_action_columns: the width of packed actions; see `pack_policy_targets`.
      action_dtype: tf.int32 or tf.float32.
    """

    name: str
    num_outputs: int
    num_action_columns: int
    action_dtype = tf.int32

    @property
    def action_widths(self):
        """The numbers of columns that `actions_from_columns` accepts, a tuple."""
        return (self.num_action_columns,)

    @abc.abstractmethod
    def distribution(self, outputs):
        """Returns the `tfp.distributions.Distribution` with batch shape [...]."""

    @abc.abstractmethod
    def log_prob(self, outputs, actions):
        """Returns the log-probability or log-density of actions in nats, [...]."""

    @abc.abstractmethod
    def entropy(self, outputs):
        """Returns the (differential) entropy in nats, [...]."""

    @abc.abstractmethod
    def kl_divergence(self, outputs_p, outputs_q):
        """Returns KL(p || q) in nats, [...]."""

    @abc.abstractmethod
    def mode(self, outputs):
        """Returns the most probable, greedy actions."""

    @abc.abstractmethod
    def sample(self, outputs, noise):
        """Returns actions drawn with the given randomness.

        Args:
          outputs: [..., K].
          noise: float32 of shape `noise_shape([...])`, uniform in [0, 1).
        """

    @abc.abstractmethod
    def actions_from_columns(self, columns):
        """Returns actions from their packed float32 columns, [..., action width]."""

    def noise_shape(self, batch_shape):
        """Returns the shape of the noise that `sample` needs.

        Args:
          batch_shape: a list of integers, or an int32 tensor.
        """
        if tf.is_tensor(batch_shape):
            return tf.concat([batch_shape, [self._noise_width]], axis=0)
        return [*batch_shape, self._noise_width]

    @property
    def _noise_width(self):
        return self.num_outputs

    def _outputs(self, outputs):
        """Returns the outputs as a float32 tensor of the right width."""
        outputs = tf.cast(outputs, tf.float32)
        if outputs.shape[-1] not in (None, self.num_outputs):
            raise ValueError(
                f"{self} needs {self.num_outputs} network outputs, got "
                f"{outputs.shape[-1]}"
            )
        return outputs

    def _actions(self, outputs, actions):
        """Returns the actions as a tensor that will not broadcast against outputs."""
        actions = tf.cast(actions, self.action_dtype)
        expected = [*outputs.shape[:-1], *self._action_shape]
        if not actions.shape.is_compatible_with(expected):
            raise ValueError(
                f"{self} needs actions of shape {expected} for outputs of shape "
                f"{list(outputs.shape)}, got {list(actions.shape)}"
            )
        return actions

    @property
    def _action_shape(self):
        return (self.num_action_columns,)

    @abc.abstractmethod
    def get_config(self):
        """Returns the constructor's arguments."""

    @classmethod
    def from_config(cls, config):
        """Returns the policy distribution that `get_config` described."""
        return cls(**config)

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash(repr(self))

    def __repr__(self):
        arguments = ", ".join(f"{k}={v}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


@keras.saving.register_keras_serializable(package="tfzoo")
class CategoricalPolicy(PolicyDistribution):
    """One of A actions; the network outputs A logits.

    Actions are int32 [...]. Packed, they are one column with the index, or A columns
    one-hot.

    Args:
      num_actions: A, 1 <= A <= 2**24.

    Raises:
      ValueError: if `num_actions` is not in that range.
    """

    name = "categorical"
    num_action_columns = 1
    _action_shape = ()

    def __init__(self, num_actions):
        _check_count("num_actions", num_actions)
        self.num_outputs = self.num_actions = int(num_actions)

    @property
    def action_widths(self):
        """One column with the index, or a one-hot row."""
        return (1, self.num_actions) if self.num_actions > 1 else (1,)

    def distribution(self, outputs):
        """Returns a `tfd.Categorical`."""
        return _tfd().Categorical(logits=self._outputs(outputs))

    def log_prob(self, outputs, actions):
        """Returns logits[action] - logsumexp(logits), [...].

        An index out of range raises an error on a CPU and gives NaN under XLA.
        """
        outputs = self._outputs(outputs)
        actions = self._actions(outputs, actions)
        return -tf.nn.sparse_softmax_cross_entropy_with_logits(actions, outputs)

    def entropy(self, outputs):
        """Returns -sum_a pi(a) log pi(a), [...]."""
        log_probs = tf.nn.log_softmax(self._outputs(outputs))
        return -_expectation(tf.exp(log_probs), log_probs)

    def kl_divergence(self, outputs_p, outputs_q):
        """Returns sum_a p(a) (log p(a) - log q(a)), [...]."""
        log_p = tf.nn.log_softmax(self._outputs(outputs_p))
        log_q = tf.nn.log_softmax(self._outputs(outputs_q))
        return _expectation(tf.exp(log_p), log_p - log_q)

    def mode(self, outputs):
        """Returns the index of the largest logit, int32 [...]."""
        return tf.argmax(self._outputs(outputs), axis=-1, output_type=tf.int32)

    def sample(self, outputs, noise):
        """Returns int32 [...], by the Gumbel-max trick."""
        outputs = self._outputs(outputs)
        gumbel = -tf.math.log(-tf.math.log(_open_interval(noise)))
        return tf.argmax(outputs + gumbel, axis=-1, output_type=tf.int32)

    def probabilities(self, outputs):
        """Returns the probability of each action, [..., A]."""
        return tf.nn.softmax(self._outputs(outputs))

    def actions_from_columns(self, columns):
        """Returns int32 [...] from an index [..., 1] or a one-hot row [..., A]."""
        if columns.shape[-1] == 1:
            return tf.cast(columns[..., 0], tf.int32)
        return tf.argmax(columns, axis=-1, output_type=tf.int32)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"num_actions": self.num_actions}


@keras.saving.register_keras_serializable(package="tfzoo")
class DiagonalGaussianPolicy(PolicyDistribution):
    """D real numbers; the network outputs D means and then D log standard deviations.

    Actions are float32 [..., D]. Log standard deviations are clipped to [-20, 20]
    wherever they are read, so that nothing overflows.

    Args:
      num_dimensions: D, at least 1.

    Raises:
      ValueError: if `num_dimensions` is not a positive integer.
    """

    name = "diagonal_gaussian"
    action_dtype = tf.float32

    def __init__(self, num_dimensions):
        _check_count("num_dimensions", num_dimensions)
        self.num_dimensions = self.num_action_columns = int(num_dimensions)
        self.num_outputs = 2 * self.num_dimensions

    @property
    def _noise_width(self):
        return self.num_dimensions

    def mean_and_log_stddev(self, outputs):
        """Returns the mean and the clipped log standard deviation, each [..., D]."""
        mean, log_stddev = tf.split(self._outputs(outputs), 2, axis=-1)
        limit = MAX_ABS_LOG_STDDEV
        return mean, tf.clip_by_value(log_stddev, -limit, limit)

    def distribution(self, outputs):
        """Returns a `tfd.MultivariateNormalDiag`."""
        mean, log_stddev = self.mean_and_log_stddev(outputs)
        return _tfd().MultivariateNormalDiag(mean, tf.exp(log_stddev))

    def log_prob(self, outputs, actions):
        """Returns -1/2 sum_d (z_d^2 + 2 log stddev_d + log 2 pi), [...]."""
        outputs = self._outputs(outputs)
        actions = self._actions(outputs, actions)
        mean, log_stddev = self.mean_and_log_stddev(outputs)
        z = (actions - mean) * tf.exp(-log_stddev)
        return -0.5 * tf.reduce_sum(
            tf.square(z) + 2.0 * log_stddev + math.log(2.0 * math.pi), axis=-1
        )

    def entropy(self, outputs):
        """Returns sum_d (log stddev_d + 1/2 log 2 pi e), [...]."""
        _, log_stddev = self.mean_and_log_stddev(outputs)
        return tf.reduce_sum(
            log_stddev + 0.5 * math.log(2.0 * math.pi * math.e), axis=-1
        )

    def kl_divergence(self, outputs_p, outputs_q):
        """Returns sum_d of log(s_q/s_p) + (s_p^2 + (m_p - m_q)^2) / 2 s_q^2 - 1/2."""
        mean_p, log_p = self.mean_and_log_stddev(outputs_p)
        mean_q, log_q = self.mean_and_log_stddev(outputs_q)
        z = (mean_p - mean_q) * tf.exp(-log_q)
        # expm1 keeps the digits of the divergence between nearly equal policies.
        log_ratio = log_p - log_q
        return tf.reduce_sum(
            0.5 * (tf.math.expm1(2.0 * log_ratio) + tf.square(z)) - log_ratio, axis=-1
        )

    def mode(self, outputs):
        """Returns the mean, float32 [..., D]."""
        mean, _ = self.mean_and_log_stddev(outputs)
        return mean

    def sample(self, outputs, noise):
        """Returns mean + stddev z, float32 [..., D], with z by inverting the CDF."""
        mean, log_stddev = self.mean_and_log_stddev(outputs)
        return mean + tf.exp(log_stddev) * tf.math.ndtri(_open_interval(noise))

    def actions_from_columns(self, columns):
        """Returns the columns as they are, float32 [..., D]."""
        return columns

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"num_dimensions": self.num_dimensions}


@keras.saving.register_keras_serializable(package="tfzoo")
class MultiCategoricalPolicy(PolicyDistribution):
    """C independent choices; the network outputs the logits of one after the other.

    Actions are int32 [..., C].

    Args:
      nvec: the number of actions of each choice, a list of C integers.

    Raises:
      ValueError: if `nvec` is empty or holds anything but positive integers.
    """

    name = "multi_categorical"

    def __init__(self, nvec):
        self.nvec = [int(n) for n in nvec]
        if not self.nvec:
            raise ValueError("nvec must hold at least one number of actions, got []")
        self._choices = [CategoricalPolicy(n) for n in nvec]
        self.num_outputs = sum(self.nvec)
        self.num_action_columns = len(self.nvec)

    def _split(self, outputs):
        return tf.split(self._outputs(outputs), self.nvec, axis=-1)

    def _each(self, method, *parts):
        """Returns a method of `CategoricalPolicy` applied to each choice, a list."""
        return [method(*each) for each in zip(self._choices, *parts, strict=True)]

    def distribution(self, outputs):
        """Returns a `tfd.Blockwise` of one `tfd.Categorical` a choice."""
        choices = self._each(CategoricalPolicy.distribution, self._split(outputs))
        return _tfd().Blockwise(choices)

    def log_prob(self, outputs, actions):
        """Returns the sum over the choices' log-probabilities, [...]."""
        outputs = self._outputs(outputs)
        actions = tf.unstack(self._actions(outputs, actions), axis=-1)
        return tf.add_n(
            self._each(CategoricalPolicy.log_prob, self._split(outputs), actions)
        )

    def entropy(self, outputs):
        """Returns the sum over the choices' entropies, [...]."""
        return tf.add_n(self._each(CategoricalPolicy.entropy, self._split(outputs)))

    def kl_divergence(self, outputs_p, outputs_q):
        """Returns the sum over the choices' divergences, [...]."""
        p, q = self._split(outputs_p), self._split(outputs_q)
        return tf.add_n(self._each(CategoricalPolicy.kl_divergence, p, q))

    def mode(self, outputs):
        """Returns each choice's largest logit, int32 [..., C]."""
        modes = self._each(CategoricalPolicy.mode, self._split(outputs))
        return tf.stack(modes, axis=-1)

    def sample(self, outputs, noise):
        """Returns int32 [..., C], each choice by the Gumbel-max trick."""
        parts = self._split(outputs), self._split(noise)
        return tf.stack(self._each(CategoricalPolicy.sample, *parts), axis=-1)

    def probabilities(self, outputs):
        """Returns the probabilities of one choice after the other, [..., sum(nvec)]."""
        return tf.concat(
            [tf.nn.softmax(logits) for logits in self._split(outputs)], axis=-1
        )

    def actions_from_columns(self, columns):
        """Returns int32 [..., C] from one index a column."""
        return tf.cast(columns, tf.int32)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"nvec": self.nvec}


@keras.saving.register_keras_serializable(package="tfzoo")
class BernoulliPolicy(PolicyDistribution):
    """N independent bits; the network outputs the logit of each being 1.

    Actions are int32 [..., N] of zeros and ones.

    Args:
      num_bits: N, at least 1.

    Raises:
      ValueError: if `num_bits` is not a positive integer.
    """

    name = "bernoulli"

    def __init__(self, num_bits):
        _check_count("num_bits", num_bits)
        self.num_outputs = self.num_action_columns = self.num_bits = int(num_bits)

    def distribution(self, outputs):
        """Returns a `tfd.Independent` of `tfd.Bernoulli`."""
        tfd = _tfd()
        return tfd.Independent(tfd.Bernoulli(logits=self._outputs(outputs)), 1)

    def log_prob(self, outputs, actions):
        """Returns the sum over the bits' log-probabilities, [...]."""
        outputs = self._outputs(outputs)
        actions = self._actions(outputs, actions)
        labels = tf.cast(actions, tf.float32)
        return -tf.reduce_sum(
            tf.nn.sigmoid_cross_entropy_with_logits(labels, outputs), axis=-1
        )

    def entropy(self, outputs):
        """Returns the sum over the bits' entropies, [...]."""
        outputs = self._outputs(outputs)
        return tf.reduce_sum(
            tf.sigmoid(outputs) * tf.nn.softplus(-outputs)
            + tf.sigmoid(-outputs) * tf.nn.softplus(outputs),
            axis=-1,
        )

    def kl_divergence(self, outputs_p, outputs_q):
        """Returns the sum over the bits' divergences, [...]."""
        outputs_p, outputs_q = self._outputs(outputs_p), self._outputs(outputs_q)
        # log sigmoid(x) = -softplus(-x).
        log_ratio_1 = tf.nn.softplus(-outputs_q) - tf.nn.softplus(-outputs_p)
        log_ratio_0 = tf.nn.softplus(outputs_q) - tf.nn.softplus(outputs_p)
        return tf.reduce_sum(
            tf.sigmoid(outputs_p) * log_ratio_1 + tf.sigmoid(-outputs_p) * log_ratio_0,
            axis=-1,
        )

    def mode(self, outputs):
        """Returns 1 where that is more probable than 0, int32 [..., N]."""
        return tf.cast(self._outputs(outputs) > 0.0, tf.int32)

    def sample(self, outputs, noise):
        """Returns int32 [..., N], each bit by inverting its CDF."""
        outputs = self._outputs(outputs)
        uniform = _open_interval(noise)
        return tf.cast(uniform < tf.sigmoid(outputs), tf.int32)

    def probabilities(self, outputs):
        """Returns the probability of each bit being 1, [..., N]."""
        return tf.sigmoid(self._outputs(outputs))

    def actions_from_columns(self, columns):
        """Returns int32 [..., N] from one bit a column."""
        return tf.cast(columns, tf.int32)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"num_bits": self.num_bits}


def policy_distribution(identifier, num_outputs):
    """Returns the policy distribution for a network with so many outputs.

    Args:
      identifier: a `PolicyDistribution`, or "categorical", "diagonal_gaussian" or
        "bernoulli", whose size then follows from `num_outputs`.
      num_outputs: the width of the network's output.

    Raises:
      ValueError: if the name is unknown or the width does not fit.
    """
    if isinstance(identifier, PolicyDistribution):
        if identifier.num_outputs != num_outputs:
            raise ValueError(
                f"{identifier} needs {identifier.num_outputs} network outputs, got "
                f"{num_outputs}"
            )
        return identifier
    if identifier == CategoricalPolicy.name:
        return CategoricalPolicy(num_outputs)
    if identifier == BernoulliPolicy.name:
        return BernoulliPolicy(num_outputs)
    if identifier == DiagonalGaussianPolicy.name:
        if num_outputs % 2:
            raise ValueError(
                "a diagonal Gaussian needs an even number of network outputs (means, "
                f"then log standard deviations), got {num_outputs}"
            )
        return DiagonalGaussianPolicy(num_outputs // 2)
    raise ValueError(
        "distribution must be 'categorical', 'diagonal_gaussian', 'bernoulli' or a "
        f"PolicyDistribution such as MultiCategoricalPolicy([3, 2]), got {identifier!r}"
    )


def _check_count(name, count):
    if int(count) != count or not 1 <= count <= MAX_INDEX:
        raise ValueError(
            f"{name} must be an integer of at least 1 and at most {MAX_INDEX}, got "
            f"{count}"
        )


def _tfd():
    # Imported at the place of use: it takes 1.5 s, which training never needs.
    import tensorflow_probability as tfp

    return tfp.distributions


def _expectation(probs, values):
    """Returns sum(probs values, -1), where 0 times infinity counts as 0."""
    return tf.reduce_sum(probs * tf.where(probs > 0.0, values, 0.0), axis=-1)


def _open_interval(noise):
    """Moves uniform noise off 0 and 1, where logarithms and quantiles are infinite."""
    return tf.clip_by_value(tf.cast(noise, tf.float32), 2.0**-25, 1.0 - 2.0**-24)
