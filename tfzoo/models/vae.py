"""The variational autoencoder.

Kingma and Welling 2013 (arXiv:1312.6114). An encoder gives q(z|x) = N(mean, diag
exp(log_variance)), a decoder p(x|z), the prior is p(z) = N(0, I). What is maximised is

    ELBO(x) = log p(x|z) - KL(q(z|x) || p(z)),    z = mean + exp(log_variance / 2) e,

with e ~ N(0, I) and the KL in closed form. Its weight beta may rise from 0 to its value
over the first training steps ("warm-up", Bowman et al. 2016, arXiv:1511.06349, section
3.1), and some nats of each latent number may be free. Importance weights give a tighter
bound (see `tfzoo.losses.variational`).
"""

import functools
import math

import keras
import tensorflow as tf

from tfzoo import random
from tfzoo.layers import NarrowConv2DTranspose
from tfzoo.losses import (
    elbo,
    gaussian_kl_divergence,
    gaussian_log_ratio,
    importance_weighted_bound,
    pixel_distribution,
)
from tfzoo.models.generative_model import (
    GenerativeModel,
    autoencoder_endpoints,
    weight_seeds,
)

# Exponents beyond this make no difference but overflow.
_MAX_LOG_VARIANCE = 20.0


class VAE(GenerativeModel):
    """Variational autoencoder.

      model = VAE((28, 28, 1))
      model.compile(keras.optimizers.Adam(1e-3))
      model.fit(batches, steps_per_epoch=600, epochs=10)
      images = model.sample(64, seed=0)

    `fit` shows "elbo", the evidence lower bound in nats (whatever beta and free bits
    are), and its parts, "log_likelihood" and "kl".

    Args:
      image_shape: (H, W, C); images are from 0 to 1.
      latent_size: D.
      network: "mlp" or "conv", the encoder and decoder made where none is given.
      hidden_units: widths of the dense layers of "mlp", or channels of the
        convolutions of "conv", which halve height and width each; the decoder has them
        the other way round.
      encoder: a `keras.Model` from images to [B, 2 D], means and log-variances.
      decoder: a `keras.Model` from z [B, D] to [B, H, W, K C]; see `distribution`.
      distribution: p(x|z); a `tfzoo.losses.PixelDistribution` of K parameters, or
        "bernoulli", "gaussian" or "discretized_logistic".
      beta: the weight of KL, at least 0.
      free_bits: lambda, the nats of each latent number that cost nothing.
      warm_up_steps: the training steps over which beta rises from 0.
      seed: an integer; of the first weights and all noise.

    Raises:
      ValueError: if an argument is out of its range, or a network has outputs of
        another shape.
    """

    metric_names = ("elbo", "log_likelihood", "kl")
    # Whether "conv" has batch normalisation in its decoder.
    _decoder_batch_norm = False

    def __init__(
        self,
        image_shape,
        *,
        latent_size=20,
        network="mlp",
        hidden_units=None,
        encoder=None,
        decoder=None,
        distribution="bernoulli",
        beta=1.0,
        free_bits=0.0,
        warm_up_steps=0,
        seed=0,
    ):
        for name, value in (
            ("beta", beta),
            ("free_bits", free_bits),
            ("warm_up_steps", warm_up_steps),
        ):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0, got {value}")
        if latent_size != int(latent_size) or latent_size < 1:
            raise ValueError(
                f"latent_size must be a positive integer, got {latent_size}"
            )
        if network not in ("mlp", "conv"):
            raise ValueError(f"network must be 'mlp' or 'conv', got {network!r}")
        super().__init__(image_shape, seed=seed)
        # Convolutions are slower with XLA.
        self.has_faster_xla_on_cpu = network == "mlp" and not (encoder or decoder)
        self.latent_size = latent_size
        self.distribution = pixel_distribution(distribution)
        self.beta = beta
        self.free_bits = free_bits
        self.warm_up_steps = warm_up_steps
        outputs = self.distribution.num_parameters
        make_encoder, make_decoder = {
            "mlp": (mlp_encoder, mlp_decoder),
            "conv": (
                conv_encoder,
                functools.partial(conv_decoder, batch_norm=self._decoder_batch_norm),
            ),
        }[network]
        options = {"seed": seed}
        if hidden_units is not None:
            options["hidden_units"] = tuple(hidden_units)
        self.encoder = encoder or make_encoder(image_shape, latent_size, **options)
        self.decoder = decoder or make_decoder(
            latent_size, image_shape, num_parameters=outputs, **options
        )
        height, width, channels = self.image_shape
        for name, network, shape in (
            ("encoder", self.encoder, (2 * latent_size,)),
            ("decoder", self.decoder, (height, width, outputs * channels)),
        ):
            if network.output_shape[1:] != shape:
                raise ValueError(
                    f"the {name} must have outputs {list(shape)} for an image, got "
                    f"{list(network.output_shape[1:])}"
                )
        self.built = True

    def encode(self, images, training=False):
        """Returns mean and log-variance of q(z|x), [B, D] each, of images."""
        outputs = tf.cast(self.encoder(images, training=training), tf.float32)
        mean, log_variance = tf.split(outputs, 2, axis=-1)
        limit = _MAX_LOG_VARIANCE
        return mean, tf.clip_by_value(log_variance, -limit, limit)

    def draw_latent(self, mean, log_variance, seed):
        """Returns z drawn from q(z|x), of the shape of its mean."""
        noise = random.normal(tf.shape(mean), seed)
        return mean + tf.exp(0.5 * log_variance) * noise

    def decoder_outputs(self, latent, training=False):
        """Returns the parameters of p(x|z), [B, H, W, K C], of z [B, D]."""
        return tf.cast(self.decoder(latent, training=training), tf.float32)

    def decode(self, latent):
        """Returns the mean images [B, H, W, C] of p(x|z), of z [B, D]."""
        return self.distribution.mean(self.decoder_outputs(latent))

    def call(self, images, training=False):
        """Returns the mean images [B, H, W, C] of p(x|z), with z the mean of q(z|x)."""
        mean, _ = self.encode(images, training=training)
        return self.distribution.mean(self.decoder_outputs(mean, training=training))

    def reconstruct(self, images):
        """Returns the mean images [B, H, W, C] of p(x|z), with z the mean of q(z|x)."""
        return self(images)

    def sample(self, num, seed=0):
        """Returns the mean images [num, H, W, C] of p(x|z), with z from the prior.

        Args:
          num: how many.
          seed: an integer.
        """
        return self.sample_from(num, random.make_seed(seed))

    def sample_from(self, num, seed):
        """Returns what `sample` does, of tensors: `num` int32 and `seed` int32 [2]."""
        return self.decode(random.normal([num, self.latent_size], seed))

    @property
    def served_networks(self):
        """The networks that `endpoints` use."""
        return [self.encoder, self.decoder]

    def endpoints(self):
        """Returns what `export` serves.

        "sample" takes `num`, int32, and `seed`, int32 [2], and returns `images`.
        "encode" takes `images` [B, H, W, C] and returns `mean` and `log_variance`
        [B, D]; "decode" takes `latent` [B, D] and returns `images`, the means;
        "reconstruct", which is the default, takes and returns `images`.
        """
        served = autoencoder_endpoints(self, self, (self.latent_size,))
        return {**super().endpoints(), **served}

    def bound_parts(self, images, seed, training=False):
        """Returns (log p(x|z) [B] with z from q(z|x), KL by latent numbers [B, D])."""
        images = tf.cast(images, tf.float32)
        mean, log_variance = self.encode(images, training=training)
        latent = self.draw_latent(mean, log_variance, seed)
        outputs = self.decoder_outputs(latent, training=training)
        log_likelihood = self.distribution.log_prob(outputs, images)
        return log_likelihood, gaussian_kl_divergence(mean, log_variance)

    def latent_kl(self, images):
        """Returns the mean KL of each latent number in nats, [D]; 0 if it is unused."""
        return tf.reduce_mean(gaussian_kl_divergence(*self.encode(images)), axis=0)

    def elbo(self, images, seed=0):
        """Returns the evidence lower bound in nats, [B], of images [B, H, W, C]."""
        return elbo(*self.bound_parts(images, random.make_seed(seed)))

    def importance_weighted_bound(self, images, num_samples=100, seed=0):
        """Returns a bound on log p(x) in nats, [B], tighter with more samples.

        Args:
          images: [B, H, W, C].
          num_samples: K.
          seed: an integer.
        """
        images = tf.cast(images, tf.float32)
        mean, log_variance = self.encode(images)
        seed = random.make_seed(seed)

        def log_weight(k):
            latent = self.draw_latent(mean, log_variance, random.fold_in(seed, k))
            log_likelihood = self.distribution.log_prob(
                self.decoder_outputs(latent), images
            )
            return log_likelihood + gaussian_log_ratio(latent, mean, log_variance)

        return importance_weighted_bound(
            tf.map_fn(
                log_weight,
                tf.range(num_samples),
                fn_output_signature=tf.float32,
                parallel_iterations=1,
            )
        )

    def present_beta(self):
        """Returns the weight of KL at this training step."""
        if not self.warm_up_steps:
            return tf.constant(self.beta, tf.float32)
        share = tf.cast(self.step_counter.read_value(), tf.float32) / self.warm_up_steps
        return self.beta * tf.minimum(share, 1.0)

    def batch_loss(self, images, seed, training):
        """Returns minus the bound that is maximised, and its parts; see the base."""
        log_likelihood, kl = self.bound_parts(images, seed, training)
        maximised = elbo(
            log_likelihood, kl, beta=self.present_beta(), free_bits=self.free_bits
        )
        log_likelihood = tf.reduce_mean(log_likelihood)
        kl = tf.reduce_mean(tf.reduce_sum(kl, axis=-1))
        return -tf.reduce_mean(maximised), {
            "elbo": log_likelihood - kl,
            "log_likelihood": log_likelihood,
            "kl": kl,
        }


def mlp_encoder(image_shape, latent_size, *, hidden_units=(512, 512), seed=0):
    """Returns a network from images to means and log-variances, [B, 2 D]."""
    image = keras.Input(image_shape, name="image")
    outputs = keras.layers.Flatten()(image)
    seeds = weight_seeds(seed, 0)
    for units in hidden_units:
        outputs = _dense(units, seeds, "relu")(outputs)
    return keras.Model(image, _dense(2 * latent_size, seeds)(outputs), name="encoder")


def mlp_decoder(
    latent_size, image_shape, *, num_parameters=1, hidden_units=(512, 512), seed=0
):
    """Returns a network from z to the parameters of pixels, [B, H, W, K C]."""
    latent = outputs = keras.Input((latent_size,), name="latent")
    seeds = weight_seeds(seed, 1)
    for units in hidden_units[::-1]:
        outputs = _dense(units, seeds, "relu")(outputs)
    height, width, channels = image_shape
    shape = height, width, num_parameters * channels
    outputs = keras.layers.Reshape(shape)(_dense(math.prod(shape), seeds)(outputs))
    return keras.Model(latent, outputs, name="decoder")


def conv_encoder(image_shape, latent_size, *, hidden_units=(32, 64), seed=0):
    """Returns a network from images to means and log-variances, [B, 2 D]."""
    image = outputs = keras.Input(image_shape, name="image")
    seeds = weight_seeds(seed, 0)
    for channels in hidden_units:
        outputs = keras.layers.Conv2D(
            channels,
            4,
            2,
            "same",
            activation="relu",
            kernel_initializer=keras.initializers.HeNormal(next(seeds)),
        )(outputs)
    outputs = keras.layers.Flatten()(outputs)
    return keras.Model(image, _dense(2 * latent_size, seeds)(outputs), name="encoder")


def conv_decoder(
    latent_size,
    image_shape,
    *,
    num_parameters=1,
    hidden_units=(32, 64),
    batch_norm=False,
    seed=0,
):
    """Returns a network from z to the parameters of pixels, [B, H, W, K C].

    With `batch_norm`, there is batch normalisation before every ReLU.

    Raises:
      ValueError: if height and width cannot be halved once for each width.
    """
    height, width, channels = image_shape
    factor = 2 ** len(hidden_units)
    if height % factor or width % factor:
        raise ValueError(
            f"images of {height}x{width} cannot be halved {len(hidden_units)} times"
        )
    latent = keras.Input((latent_size,), name="latent")
    seeds = weight_seeds(seed, 1)
    *others, last = hidden_units
    shape = height // factor, width // factor, last

    def activation(outputs):
        if batch_norm:
            outputs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(
                outputs
            )
        return keras.layers.ReLU()(outputs)

    dense = _dense(math.prod(shape), seeds, use_bias=not batch_norm)
    outputs = activation(dense(latent))
    outputs = keras.layers.Reshape(shape)(outputs)
    widths = [*others[::-1], num_parameters * channels]
    for number, width in enumerate(widths, start=1):
        is_last = number == len(widths)
        layer = NarrowConv2DTranspose if is_last else keras.layers.Conv2DTranspose
        outputs = layer(
            width,
            4,
            2,
            "same",
            use_bias=not batch_norm or is_last,
            kernel_initializer=keras.initializers.GlorotUniform(next(seeds)),
        )(outputs)
        if not is_last:
            outputs = activation(outputs)
    return keras.Model(latent, outputs, name="decoder")


def _dense(units, seeds, activation=None, use_bias=True):
    return keras.layers.Dense(
        units,
        activation,
        use_bias,
        kernel_initializer=keras.initializers.GlorotUniform(next(seeds)),
    )
