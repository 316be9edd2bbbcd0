"""What the outputs of a network mean: the distribution whose Fisher matrix is taken.

`likelihood_of` finds it for the losses of Keras that are negative log-likelihoods:

  loss                             distribution of the target          scale
  (Sparse)CategoricalCrossentropy  one of K classes                    1
  BinaryCrossentropy               K independent bits                  1 / K
  MeanSquaredError                 Gaussians of mean f, variance 1/2   1 / K

where loss = scale * negative log-likelihood + constant: Keras averages over outputs,
a likelihood is a product over them. Natural-gradient steps solve with scale * F, the
curvature of the loss itself; KL divergences are those of the distribution. Weights of
samples and masks, which Keras puts into the loss, are in the curvature and in averages
of divergences too: see `weighted_likelihood`.

Any object with `kl_divergence(outputs_p, outputs_q) -> [B]` will do as a distribution;
the policy distributions of `tfzoo.losses` have it.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf


class OutputDistribution:
    """The interface; outputs are [B, ..., K]."""

    def kl_divergence(self, outputs_p, outputs_q):
        """Returns KL(p || q) in nats, [B, ...]."""
        raise NotImplementedError

    def sample_score(self, outputs, seed):
        """Returns d(-log p(y)) / d outputs for targets y drawn from p, [B, ..., K].

        Args:
          outputs: [B, ..., K].
          seed: int32 [2].
        """
        raise NotImplementedError

    def get_config(self):
        """Returns the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config):
        """Returns the object that `get_config` described."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="tfzoo")
class CategoricalOutputs(OutputDistribution):
    """One of K classes.

    Args:
      from_logits: whether outputs are logits, or else probabilities.
    """

    def __init__(self, from_logits=True):
        self.from_logits = from_logits

    def _log_probs(self, outputs):
        if self.from_logits:
            return tf.nn.log_softmax(outputs)
        return tf.math.log(tf.maximum(outputs, keras.config.epsilon()))

    def kl_divergence(self, outputs_p, outputs_q):
        """Returns KL(p || q) in nats, [B, ...]."""
        log_p, log_q = self._log_probs(outputs_p), self._log_probs(outputs_q)
        return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)

    def sample_score(self, outputs, seed):
        """Returns d(-log p(y)) / d outputs for y drawn from p, [B, ..., K]."""
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            log_probs = self._log_probs(outputs)
            flat = tf.reshape(log_probs, [-1, outputs.shape[-1]])
            drawn = tf.random.stateless_categorical(flat, 1, seed)[:, 0]
            one_hot = tf.one_hot(drawn, outputs.shape[-1], dtype=outputs.dtype)
            loss = -tf.reduce_sum(one_hot * flat)
        return tape.gradient(loss, outputs)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"from_logits": self.from_logits}


@keras.saving.register_keras_serializable(package="tfzoo")
class BernoulliOutputs(OutputDistribution):
    """K independent bits.

    Args:
      from_logits: whether outputs are logits, or else probabilities.
    """

    def __init__(self, from_logits=True):
        self.from_logits = from_logits

    def _logits(self, outputs):
        if self.from_logits:
            return outputs
        epsilon = keras.config.epsilon()
        outputs = tf.clip_by_value(outputs, epsilon, 1.0 - epsilon)
        return tf.math.log(outputs) - tf.math.log1p(-outputs)

    def kl_divergence(self, outputs_p, outputs_q):
        """Returns KL(p || q) in nats, [B, ...]."""
        p, q = self._logits(outputs_p), self._logits(outputs_q)
        # Of the probabilities log s(x) = x - softplus(x) and log s(-x) = -softplus(x).
        divergences = (
            tf.sigmoid(p) * (p - q) - tf.math.softplus(p) + tf.math.softplus(q)
        )
        return tf.reduce_sum(divergences, axis=-1)

    def sample_score(self, outputs, seed):
        """Returns d(-log p(y)) / d outputs for y drawn from p, [B, ..., K]."""
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            logits = self._logits(outputs)
            noise = tf.random.stateless_uniform(
                tf.shape(logits), seed, dtype=logits.dtype
            )
            bits = tf.cast(noise < tf.sigmoid(logits), logits.dtype)
            loss = tf.reduce_sum(tf.math.softplus(logits) - bits * logits)
        return tape.gradient(loss, outputs)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"from_logits": self.from_logits}


@keras.saving.register_keras_serializable(package="tfzoo")
class GaussianOutputs(OutputDistribution):
    """K independent Gaussians of one fixed variance; outputs are their means.

    Args:
      variance: positive.
    """

    def __init__(self, variance=1.0):
        if not variance > 0:
            raise ValueError(f"variance must be greater than 0, got {variance}")
        self.variance = variance

    def kl_divergence(self, outputs_p, outputs_q):
        """Returns KL(p || q) in nats, [B, ...]."""
        return tf.reduce_sum(
            tf.square(outputs_p - outputs_q) / (2.0 * self.variance), axis=-1
        )

    def sample_score(self, outputs, seed):
        """Returns d(-log p(y)) / d outputs for y drawn from p, [B, ..., K]."""
        noise = tf.random.stateless_normal(tf.shape(outputs), seed, dtype=outputs.dtype)
        return noise / self.variance**0.5

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"variance": self.variance}


class Likelihood(NamedTuple):
    """How a loss is a negative log-likelihood.

    Attributes:
      distribution: an `OutputDistribution`, or another object that has
        `kl_divergence`.
      scale: loss = scale * negative log-likelihood + constant, of which the likelihood
        is averaged over the batch and summed over all else.
      weights: what the likelihood of each of the distributions is multiplied with,
        [B, ...], or None for 1.
    """

    distribution: Any
    scale: Any
    weights: Any = None


def likelihood_of(loss, outputs):
    """Returns the `Likelihood` behind a loss.

    Args:
      loss: what `model.compile(loss=...)` takes: a `keras.losses.Loss`, a loss function
        of Keras or its name, or a list or dict of one of these; or a loss with a method
        `policy(outputs)`, as the policy losses of `tfzoo.losses` have it.
      outputs: what it is applied to, [B, ..., K].

    Raises:
      ValueError: if the loss is none of these, is not a mean over the batch, or has an
        axis other than the last or a class that it ignores.
    """
    losses = tf.nest.flatten(loss)
    if len(losses) != 1:
        raise ValueError(f"a model with one output needs one loss, got {len(losses)}")
    (loss,) = losses
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    kind = _KINDS.get(loss if callable(loss) and loss in _KINDS else type(loss))
    is_known = kind is not None or hasattr(loss, "policy")
    name = getattr(loss, "__name__", None) or type(loss).__name__
    if not is_known or getattr(loss, "reduction", _MEAN) != _MEAN:
        raise ValueError(
            f"the loss {name} has no known output distribution; categorical and binary "
            "cross-entropy and mean squared error, averaged over the batch, and the "
            "policy losses have one; for others give output_distribution="
        )
    if hasattr(loss, "policy"):
        return Likelihood(loss.policy(outputs), 1.0)
    if getattr(loss, "axis", -1) not in (-1, outputs.shape.rank - 1):
        raise ValueError(
            f"{name} must have the classes on the last axis, got axis={loss.axis}; "
            "transpose the outputs"
        )
    if getattr(loss, "ignore_class", None) is not None:
        raise ValueError(
            f"{name} has ignore_class={loss.ignore_class}, which the curvature does "
            "not see; give these targets a sample_weight of 0 instead"
        )
    from_logits = getattr(loss, "from_logits", False)
    if kind == "categorical":
        return Likelihood(CategoricalOutputs(from_logits), 1.0 / _size(outputs, 1, -1))
    if kind == "bernoulli":
        return Likelihood(BernoulliOutputs(from_logits), 1.0 / _size(outputs, 1))
    return Likelihood(GaussianOutputs(0.5), 1.0 / _size(outputs, 1))


def _size(tensor, start, end=None):
    """Returns the product of the sizes of some axes: a tensor if one is not known."""
    sizes = tensor.shape[start:end]
    if sizes.is_fully_defined():
        return float(np.prod(sizes.as_list()))
    return tf.cast(tf.reduce_prod(tf.shape(tensor)[start:end]), tf.float32)


def weighted_likelihood(likelihood, outputs, sample_weight=None, loss_weight=None):
    """Returns the `Likelihood` of a loss whose samples Keras weights.

    With the weights w that Keras multiplies the losses of outputs by, of samples b at
    places p, the averages of samples are

      sum_bp w_bp x_bp / sum_b max_p w_bp

    so that neither a factor of all weights nor places that are masked out change them;
    the scale contains what the weights then lack. Weights that are 0 everywhere give 0.
    Of negative weights, as advantages are, it takes the size, which keeps the curvature
    positive.

    Args:
      likelihood: a `Likelihood` of the loss without weights.
      outputs: [B, ..., K], with the mask that Keras attached to them, if there is one.
      sample_weight: as `fit` takes it, one for each of the outputs' places [B, ...], or
        None.
      loss_weight: a number that the loss is multiplied with, or None.

    Raises:
      ValueError: if the shape of the sample weights is another.
    """
    if loss_weight is not None:
        likelihood = likelihood._replace(scale=abs(loss_weight) * likelihood.scale)
    if sample_weight is None and getattr(outputs, "_keras_mask", None) is None:
        return likelihood
    weights = tf.abs(_keras_weights(outputs, sample_weight))
    places = list(range(1, weights.shape.rank))
    mean = tf.reduce_mean(tf.reduce_max(weights, axis=places))
    return likelihood._replace(
        scale=mean * likelihood.scale, weights=tf.math.divide_no_nan(weights, mean)
    )


class _MeanOfTargets(keras.losses.Loss):
    """The mean of the targets, weighted and masked as Keras does it."""

    def __init__(self):
        super().__init__(name="mean_of_targets")

    def call(self, y_true, y_pred):
        return y_true


def _keras_weights(outputs, sample_weight):
    """Returns what Keras multiplies the losses of outputs by, [B, ...]."""
    ones = tf.ones_like(outputs[..., 0])
    if sample_weight is not None:
        places, given = ones.shape, tf.convert_to_tensor(sample_weight).shape
        fits = given.rank == places.rank
        fits |= given.rank == places.rank - 1 and places[-1] == 1
        fits |= given.rank == places.rank + 1 and given[-1] == 1
        if not fits:
            raise ValueError(
                "sample_weight must have one weight for each place of the outputs, "
                f"{places}, got {given}"
            )
    with tf.GradientTape() as tape:
        tape.watch(ones)
        mean = _MeanOfTargets()(ones, outputs, sample_weight)
    return tape.gradient(mean, ones) * tf.cast(tf.size(ones), tf.float32)


_MEAN = "sum_over_batch_size"
_KINDS = {
    keras.losses.CategoricalCrossentropy: "categorical",
    keras.losses.SparseCategoricalCrossentropy: "categorical",
    keras.losses.BinaryCrossentropy: "bernoulli",
    keras.losses.MeanSquaredError: "gaussian",
    keras.losses.categorical_crossentropy: "categorical",
    keras.losses.sparse_categorical_crossentropy: "categorical",
    keras.losses.binary_crossentropy: "bernoulli",
    keras.losses.mean_squared_error: "gaussian",
}
