"""Variational bounds and their parts, in nats.

With an encoder q(z|x) = N(mean, diag exp(log_variance)), a prior p(z) = N(0, I) and a
decoder p(x|z),

    ELBO(x)   = E_q log p(x|z) - KL(q(z|x) || p(z))             <= log p(x)
    IWAE_K(x) = E_q log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x)    from ELBO (K = 1) up

(Kingma and Welling 2013, arXiv:1312.6114; Burda et al. 2015, arXiv:1509.00519). With

    beta:      KL is weighted (Higgins et al. 2017, "beta-VAE");
    free bits: KL counts for no less than lambda in each latent number, over a batch
               (Kingma et al. 2016, arXiv:1606.04934, equation 15).
"""

import math

import keras
import tensorflow as tf

from tfzoo.losses.pixel_distributions import gaussian_log_prob, pixel_distribution


def gaussian_kl_divergence(mean, log_variance):
    """Returns KL(N(mean, exp(log_variance)) || N(0, 1)) in nats, element by element."""
    return 0.5 * (tf.square(mean) + tf.exp(log_variance) - 1.0 - log_variance)


def gaussian_log_ratio(latent, mean, log_variance):
    """Returns log p(z) - log q(z|x) in nats, [...].

    Args:
      latent: z, [..., D].
      mean, log_variance: of q(z|x), of the same shape.
    """
    log_prior = gaussian_log_prob(latent, 0.0, 0.0)
    log_posterior = gaussian_log_prob(latent, mean, 0.5 * log_variance)
    return tf.reduce_sum(log_prior - log_posterior, axis=-1)


def elbo(log_likelihood, kl, *, beta=1.0, free_bits=0.0):
    """Returns the evidence lower bound, or what is maximised in its place, [B].

    Args:
      log_likelihood: log p(x|z) with z from q, [B].
      kl: by latent numbers, [B, D].
      beta: the weight of KL; with 1, and no free bits, this is the bound.
      free_bits: lambda, in nats.
    """
    return log_likelihood - beta * with_free_bits(kl, free_bits)


def with_free_bits(kl, free_bits):
    """Returns the sums of KL over latent numbers, [B], with lambda nats of each free.

    Where the mean of a latent number's KL over the batch is below lambda, lambda
    stands in its place, which has no gradient.

    Args:
      kl: [B, D].
      free_bits: lambda, in nats; 0 changes nothing.
    """
    if not free_bits:
        return tf.reduce_sum(kl, axis=-1)
    counts = tf.reduce_mean(kl, axis=0, keepdims=True) >= free_bits
    return tf.reduce_sum(tf.where(counts, kl, free_bits), axis=-1)


def importance_weighted_bound(log_weights):
    """Returns log 1/K sum_k w_k in nats, [B].

    Args:
      log_weights: log p(x|z_k) + log p(z_k) - log q(z_k|x), [K, B].
    """
    num = tf.cast(tf.shape(log_weights)[0], log_weights.dtype)
    return tf.reduce_logsumexp(log_weights, axis=0) - tf.math.log(num)


@keras.saving.register_keras_serializable(package="tfzoo")
class ReconstructionLoss(keras.losses.Loss):
    """-log p(x|z) in nats, summed over pixels and channels.

    `y_true` is images [B, H, W, C] from 0 to 1, `y_pred` the decoder's outputs
    [B, H, W, K C].

    Args:
      distribution: see `pixel_distribution`.
      **kwargs: see `keras.losses.Loss`.

    Raises:
      ValueError: if the distribution is unknown, or the widths do not go together.
    """

    def __init__(self, distribution="bernoulli", **kwargs):
        super().__init__(**kwargs)
        self.distribution = pixel_distribution(distribution)

    def call(self, y_true, y_pred):
        """Returns -log p(x|z), [B]."""
        expected = self.distribution.num_parameters * y_true.shape[-1]
        if y_pred.shape[-1] != expected:
            raise ValueError(
                f"{type(self.distribution).__name__} takes {expected} outputs for a "
                f"pixel of {y_true.shape[-1]} channels, got {y_pred.shape[-1]}"
            )
        return -self.distribution.log_prob(y_pred, tf.cast(y_true, y_pred.dtype))

    def get_config(self):
        """Returns the constructor's arguments."""
        distribution = keras.saving.serialize_keras_object(self.distribution)
        return {**super().get_config(), "distribution": distribution}

    @classmethod
    def from_config(cls, config):
        """Makes a loss from its configuration."""
        config = dict(config)
        config["distribution"] = keras.saving.deserialize_keras_object(
            config["distribution"]
        )
        return cls(**config)


@keras.saving.register_keras_serializable(package="tfzoo")
class GaussianKLLoss(keras.losses.Loss):
    """beta KL(N(mean, exp(log_variance)) || N(0, I)) in nats, summed over the latent.

    `y_pred` is [B, 2 D]: the means, then the logarithms of the variances. `y_true` is
    not looked at; anything with B rows does.

    Args:
      beta: the weight, at least 0.
      free_bits: lambda in nats, at least 0; see `with_free_bits`.
      **kwargs: see `keras.losses.Loss`.

    Raises:
      ValueError: if an argument is out of its range, or the outputs have no halves.
    """

    def __init__(self, *, beta=1.0, free_bits=0.0, **kwargs):
        super().__init__(**kwargs)
        for name, value in (("beta", beta), ("free_bits", free_bits)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0, got {value}")
        self.beta = float(beta)
        self.free_bits = float(free_bits)

    def call(self, y_true, y_pred):
        """Returns beta KL, [B]."""
        del y_true
        if y_pred.shape[-1] % 2:
            raise ValueError(
                "GaussianKLLoss needs means and logarithms of variances, an even "
                f"number of outputs, got {y_pred.shape[-1]}"
            )
        kl = gaussian_kl_divergence(*tf.split(y_pred, 2, axis=-1))
        return self.beta * with_free_bits(kl, self.free_bits)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "beta": self.beta,
            "free_bits": self.free_bits,
        }
