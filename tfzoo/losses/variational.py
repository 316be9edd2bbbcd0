"""Variational bounds and their parts, in nats.

With an encoder q(z|x) = N(mean, diag exp(log_variance)), a prior p(z) = N(0, I) and a
decoder p(x|z),

    ELBO(x)   = E_q log p(x|z) - KL(q(z|x) || p(z))             <= log p(x)
    IWAE_K(x) = E_q log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x)    from ELBO (K = 1) up

(Kingma and Welling 2013, arXiv:1312.6114; Burda et al. 2015, arXiv:1509.00519). With

    beta:      KL is weighted (Higgins et al. 2017, "beta-VAE");
    free bits: KL counts for no less than lambda in each latent number, over a batch
               (Kingma et al. 2016, arXiv:1606.04934, equation 15).

A bound as a loss needs what the decoder and what the encoder say in one `y_pred`. They
travel as the columns of one float32 tensor, P being a channel's parameters:

    ELBO:       decoder outputs | means | log-variances     [B, H W P C + 2 D]
    IWAE, of K: decoder outputs | log p(z_k) - log q(z_k|x) [B, K, H W P C + 1]
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


def pack_variational(decoder_outputs, mean, log_variance):
    """Packs what a decoder and an encoder say into one tensor, for `ELBOLoss`.

    It takes the symbolic tensors of a `keras.Model` too.

    Args:
      decoder_outputs: of z drawn from q(z|x), [B, H, W, P C].
      mean, log_variance: of q(z|x), [B, D].

    Returns:
      float32 [B, H W P C + 2 D].

    Raises:
      ValueError: if a shape is wrong.
    """
    if not tf.TensorShape(mean.shape).is_compatible_with(log_variance.shape):
        raise ValueError(
            "mean and log_variance must have the same shape, got "
            f"{list(mean.shape)} and {list(log_variance.shape)}"
        )
    columns = {"mean": mean, "log_variance": log_variance}
    return _pack(decoder_outputs, columns, ("B",))


def pack_importance_samples(decoder_outputs, log_ratio):
    """Packs what samples of z lead to into one tensor, for `ImportanceWeightedLoss`.

    It takes the symbolic tensors of a `keras.Model` too.

    Args:
      decoder_outputs: of K samples z_k of q(z|x) for each image, [B, K, H, W, P C].
      log_ratio: log p(z_k) - log q(z_k|x) in nats, [B, K]; see `gaussian_log_ratio`.

    Returns:
      float32 [B, K, H W P C + 1].

    Raises:
      ValueError: if a shape is wrong.
    """
    if len(log_ratio.shape) != 2:
        raise ValueError(
            f"log_ratio must have shape [B, K], got {list(log_ratio.shape)}"
        )
    return _pack(decoder_outputs, {"log_ratio": log_ratio[..., None]}, ("B", "K"))


def _pack(decoder_outputs, columns, axes):
    """Packs decoder outputs [..., H, W, P C] and a dict of columns [..., N] after them.

    `axes` names the first ones.
    """
    outputs = keras.ops.cast(decoder_outputs, "float32")
    shape = list(outputs.shape)
    if len(shape) != len(axes) + 3 or None in shape[1:]:
        raise ValueError(
            f"decoder_outputs must have shape [{', '.join(axes)}, H, W, P C], all but "
            f"B known, got {shape}"
        )
    for name, x in columns.items():
        if not tf.TensorShape(x.shape).is_compatible_with([*shape[:-3], None]):
            raise ValueError(
                f"{name} must have {', '.join(axes)} of decoder_outputs, "
                f"{shape[:-3]}, as its first axes, got shape {list(x.shape)}"
            )
    flat = keras.ops.reshape(outputs, [-1, *shape[1:-3], math.prod(shape[-3:])])
    others = [keras.ops.cast(x, "float32") for x in columns.values()]
    return keras.ops.concatenate([flat, *others], axis=-1)


class _LikelihoodLoss(keras.losses.Loss):
    """A loss of images [B, H, W, C] that has log p(x|z) in it."""

    def __init__(self, distribution="bernoulli", **kwargs):
        super().__init__(**kwargs)
        self.distribution = pixel_distribution(distribution)

    def _log_likelihood(self, images, outputs):
        """Returns log p(x|z), [...], of decoder outputs [..., H, W, P C]."""
        expected = self.distribution.num_parameters * images.shape[-1]
        if outputs.shape[-1] != expected:
            raise ValueError(
                f"{type(self.distribution).__name__} takes {expected} outputs for a "
                f"pixel of {images.shape[-1]} channels, got {outputs.shape[-1]}"
            )
        return self.distribution.log_prob(outputs, tf.cast(images, outputs.dtype))

    def _unpack(self, images, packed):
        """Returns decoder outputs [..., H, W, P C] and the columns after them."""
        shape = self._decoder_shape(images)
        num = math.prod(shape)
        shape = tf.concat([tf.shape(packed)[:-1], shape], axis=0)
        return tf.reshape(packed[..., :num], shape), packed[..., num:]

    def _decoder_shape(self, images):
        """Returns (H, W, P C)."""
        shape = list(images.shape)
        if len(shape) != 4 or None in shape[1:]:
            raise ValueError(
                f"y_true must be images [B, H, W, C], all but B known, got {shape}"
            )
        _, height, width, channels = shape
        return height, width, self.distribution.num_parameters * channels

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
class ReconstructionLoss(_LikelihoodLoss):
    """-log p(x|z) in nats, summed over pixels and channels.

    `y_true` is images [B, H, W, C] from 0 to 1, `y_pred` the decoder's outputs
    [B, H, W, P C].

    Args:
      distribution: see `pixel_distribution`.
      **kwargs: see `keras.losses.Loss`.

    Raises:
      ValueError: if the distribution is unknown, or the widths do not go together.
    """

    def call(self, y_true, y_pred):
        """Returns -log p(x|z), [B]."""
        return -self._log_likelihood(y_true, y_pred)


@keras.saving.register_keras_serializable(package="tfzoo")
class ELBOLoss(_LikelihoodLoss):
    """-ELBO in nats, -log p(x|z) + beta KL(N(mean, exp(log_variance)) || N(0, I)).

    `y_true` is images [B, H, W, C] from 0 to 1, `y_pred` what `pack_variational`
    packed, with one sample of z for each image (Kingma and Welling 2013,
    arXiv:1312.6114). D shows in the width alone, so the distribution must be the one
    that the decoder was made for.

    Args:
      distribution: see `pixel_distribution`.
      beta: the weight of KL, at least 0.
      free_bits: lambda in nats, at least 0; see `with_free_bits`.
      **kwargs: see `keras.losses.Loss`.

    Raises:
      ValueError: if the distribution is unknown, an argument is out of its range, or
        the shapes do not go together.

    Example, with layers of your own:

        images = keras.Input((28, 28, 1))
        mean, log_variance = encoder(images)
        outputs = decoder(draw([mean, log_variance]))
        packed = pack_variational(outputs, mean, log_variance)
        model = keras.Model(images, packed)
        model.compile("adam", loss=ELBOLoss())
        model.fit(x, x)
    """

    def __init__(self, distribution="bernoulli", *, beta=1.0, free_bits=0.0, **kwargs):
        super().__init__(distribution, **kwargs)
        self.beta, self.free_bits = _kl_options(beta, free_bits)

    def call(self, y_true, y_pred):
        """Returns -ELBO, [B]."""
        num = math.prod(self._decoder_shape(y_true))
        width = y_pred.shape[-1] if len(y_pred.shape) == 2 else None
        if width is None or width <= num or (width - num) % 2:
            raise ValueError(
                f"y_pred must have shape [B, {num} + 2 D] ({num} decoder outputs, D "
                f"means, D log-variances), got {list(y_pred.shape)}; make it with "
                "pack_variational"
            )
        outputs, posterior = self._unpack(y_true, y_pred)
        return -elbo(
            self._log_likelihood(y_true, outputs),
            gaussian_kl_divergence(*tf.split(posterior, 2, axis=-1)),
            beta=self.beta,
            free_bits=self.free_bits,
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "beta": self.beta,
            "free_bits": self.free_bits,
        }


@keras.saving.register_keras_serializable(package="tfzoo")
class ImportanceWeightedLoss(_LikelihoodLoss):
    """-log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x) in nats, of K samples for each image.

    `y_true` is images [B, H, W, C] from 0 to 1, `y_pred` what
    `pack_importance_samples` packed (Burda et al. 2015, arXiv:1509.00519).

    Args:
      distribution: see `pixel_distribution`.
      **kwargs: see `keras.losses.Loss`.

    Raises:
      ValueError: if the distribution is unknown, or the shapes do not go together.

    Example, with layers of your own:

        images = keras.Input((28, 28, 1))
        latent, log_ratio = draw_samples(encoder(images))
        packed = pack_importance_samples(decoder(latent), log_ratio)
        model = keras.Model(images, packed)
        model.compile("adam", loss=ImportanceWeightedLoss())
        model.fit(x, x)
    """

    def call(self, y_true, y_pred):
        """Returns minus the bound, [B]."""
        num = math.prod(self._decoder_shape(y_true))
        if len(y_pred.shape) != 3 or y_pred.shape[-1] != num + 1:
            raise ValueError(
                f"y_pred must have shape [B, K, {num + 1}] ({num} decoder outputs, 1 "
                f"log-ratio), got {list(y_pred.shape)}; make it with "
                "pack_importance_samples"
            )
        outputs, log_ratio = self._unpack(y_true, y_pred)
        images = tf.tile(y_true[:, None], [1, tf.shape(y_pred)[1], 1, 1, 1])
        log_weights = self._log_likelihood(images, outputs) + log_ratio[..., 0]
        return -importance_weighted_bound(tf.transpose(log_weights))


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
        self.beta, self.free_bits = _kl_options(beta, free_bits)

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


def _kl_options(beta, free_bits):
    """Returns both as floats, if they are in their ranges."""
    for name, value in (("beta", beta), ("free_bits", free_bits)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be at least 0, got {value}")
    return float(beta), float(free_bits)
