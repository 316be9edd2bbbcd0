"""The VAE-GAN: a variational autoencoder whose errors a discriminator's features count.

Larsen et al. 2015 (arXiv:1512.09300). Where a VAE has p(x|z) of pixels, which blurs
what it is not sure of, here it is the l-th layer of a discriminator that is Gaussian:

    L_llike = -log N(D_l(x); D_l(x~), I)    x~ = the decoder's image of z from q(z|x)
    L_prior = KL(q(z|x) || N(0, I))
    L_GAN   = log D(x) + log(1 - D(x~)) + log(1 - D(x_p)),  x_p that of z from the prior

Algorithm 1: from one pass, each network takes a step of its own,

    encoder:        down   L_prior + L_llike
    decoder:        down   gamma L_llike - L_GAN
    discriminator:  up     L_GAN, of which alone it learns

Instead of -L_GAN the decoder goes down -log D(x~) - log D(x_p), which does not
saturate.
"""

import math

import keras
import tensorflow as tf

from tfzoo import random
from tfzoo.losses import GaussianPixels, gaussian_kl_divergence, non_saturating_loss
from tfzoo.models.gan import run_network
from tfzoo.models.generative_model import images_of, weight_seeds
from tfzoo.models.vae import VAE


class VAEGAN(VAE):
    """Variational autoencoder with a learned similarity.

      model = VAEGAN((28, 28, 1))
      model.compile(keras.optimizers.Adam(2e-4, beta_1=0.5))
      model.fit(batches, steps_per_epoch=600, epochs=10)
      images = model.sample(64, seed=0)

    `fit` shows "elbo", the evidence lower bound in nats if pixels were Gaussian with a
    standard deviation of 1, which is not what is trained; "loss", the encoder's, and
    its parts "kl" and "feature_error", both in nats; and what the two players of the
    GAN minimise, "discriminator_loss" and "generator_loss".

    Args:
      image_shape: (H, W, C); images are from 0 to 1.
      discriminator: a `keras.Model` from images to features [B, ...] and logits [B, 1];
        by default convolutions.
      gamma: the weight of the features' error in the decoder's loss, at least 0.
      network: "conv" or "mlp"; see `VAE`. The decoder of "conv" has batch
        normalisation.
      **options: of `VAE`: `latent_size`, `hidden_units`, `encoder`, `decoder`, `seed`.
        The decoder's outputs are logits of brightness, [B, H, W, C].

    One optimizer moves all three networks: clip gradients by `clipnorm`, weight by
    weight, if at all, as `global_clipnorm` would mix the players. The methods `elbo`
    and `importance_weighted_bound` are of the same Gaussian pixels as the metric.

    Raises:
      ValueError: if an argument is out of its range, or a network has outputs of
        another shape.
    """

    metric_names = (
        "elbo",
        "kl",
        "feature_error",
        "discriminator_loss",
        "generator_loss",
    )
    remedy = "a lower --learning_rate or --gamma"
    # Without it, logits run away to where the sigmoid is flat and images stay black.
    _decoder_batch_norm = True

    def __init__(
        self, image_shape, *, discriminator=None, gamma=0.01, network="conv", **options
    ):
        if not 0 <= gamma < math.inf:
            raise ValueError(f"gamma must be at least 0, got {gamma}")
        for name in ("beta", "distribution", "free_bits", "warm_up_steps"):
            if name in options:
                raise ValueError(f"VAEGAN has a loss of its own and takes no {name}")
        # Of pixels, only the means are used.
        super().__init__(
            image_shape, network=network, distribution=GaussianPixels(1.0), **options
        )
        # The discriminator's convolutions are slower with it.
        self.has_faster_xla_on_cpu = False
        self.gamma = gamma
        self.discriminator = discriminator or feature_discriminator(
            image_shape, seed=self.seed
        )
        shapes = self.discriminator.output_shape
        if not isinstance(shapes, list) or len(shapes) != 2 or shapes[1] != (None, 1):
            raise ValueError(
                "the discriminator must have outputs (features, logits [B, 1]), got "
                f"{shapes}"
            )

    def train_step(self, data):
        """Lets each network take its step; returns the means of the epoch so far."""
        images = images_of(data)
        seed = self._seed_of_replica(self.step_counter.read_value())
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        with tf.GradientTape(persistent=True) as tape:
            losses, metrics = self.player_losses(images, seed, True)
            scaled = {}
            for name, loss in losses.items():
                loss = tf.add_n([loss, *getattr(self, name).losses])
                scaled[name] = self.optimizer.scale_loss(loss / replicas)
        gradients = {}
        for name, loss in scaled.items():
            variables = getattr(self, name).trainable_variables
            values = tape.gradient(loss, [v.value for v in variables])
            gradients.update(zip(map(id, variables), values, strict=True))
        self.optimizer.apply(
            [gradients[id(v)] for v in self.trainable_variables],
            self.trainable_variables,
        )
        self.step_counter.assign_add(1)
        return self._show({"loss": losses["encoder"], **metrics})

    def batch_loss(self, images, seed, training):
        """Returns what the encoder minimises, and what to show; see the base."""
        losses, metrics = self.player_losses(images, seed, training)
        return losses["encoder"], metrics

    def player_losses(self, images, seed, training):
        """Returns a dict of what each network minimises, and a dict of what to show.

        Args:
          images: float32 [B, H, W, C].
          seed: int32 [2].
          training: whether this is learned from.
        """
        posterior_seed, prior_seed = tf.unstack(random.split(seed, 2))
        mean, log_variance = self.encode(images, training=training)
        latent = self.draw_latent(mean, log_variance, posterior_seed)
        prior = random.normal(tf.shape(latent), prior_seed)
        # The decoder sees both kinds of z in one batch, as it has one set of moving
        # statistics to serve with.
        outputs = self.decoder_outputs(tf.concat([latent, prior], 0), training=training)
        fakes = self.distribution.mean(outputs)
        rebuilt, drawn = tf.split(fakes, 2)
        # The discriminator sees each kind alone: in a batch of real images and fakes,
        # batch normalisation would tell them apart. Moving statistics are those of real
        # images.
        real_features, real_logits = self.judge(images, training, keep_state=False)
        rebuilt_features, rebuilt_logits = self.judge(rebuilt, training)
        _, drawn_logits = self.judge(drawn, training)
        fake_logits = tf.concat([rebuilt_logits, drawn_logits], 0)

        kl = tf.reduce_mean(
            tf.reduce_sum(gaussian_kl_divergence(mean, log_variance), axis=-1)
        )
        log_likelihood = self.distribution.log_prob(tf.split(outputs, 2)[0], images)
        feature_error = 0.5 * tf.reduce_mean(
            tf.reduce_sum(tf.square(real_features - rebuilt_features), axis=-1)
        )
        # Two kinds of fakes, whose means are added up.
        discriminator = tf.reduce_mean(non_saturating_loss(1.0, real_logits))
        discriminator += 2.0 * tf.reduce_mean(non_saturating_loss(0.0, fake_logits))
        generator = 2.0 * tf.reduce_mean(non_saturating_loss(1.0, fake_logits))
        losses = {
            "encoder": kl + feature_error,
            "decoder": self.gamma * feature_error + generator,
            "discriminator": discriminator,
        }
        return losses, {
            "elbo": tf.reduce_mean(log_likelihood) - kl,
            "kl": kl,
            "feature_error": feature_error,
            "discriminator_loss": discriminator,
            "generator_loss": generator,
        }

    def judge(self, images, training=False, keep_state=True):
        """Returns the features [B, F] and the logits [B, 1] of images [B, H, W, C].

        Args:
          images: float32.
          training, keep_state: see `GAN.generate`.
        """
        features, logits = run_network(
            self.discriminator, images, training=training, keep_state=keep_state
        )
        return tf.reshape(features, [tf.shape(images)[0], -1]), logits


def feature_discriminator(image_shape, *, hidden_units=(32, 64), seed=0):
    """Returns a network from images to features and logits [B, 1].

    Batch normalisation, after all convolutions but the first, slows the discriminator
    down as in DCGAN, and keeps the features' scale near 1, and with it what their error
    weighs. While training, means and scales of the channels are those of each batch: in
    these, images and what is made of them cannot differ.

    Args:
      image_shape: (H, W, C).
      hidden_units: the channels of the convolutions, which halve height and width each;
        the features are the last one's.
      seed: an integer.
    """
    image = outputs = keras.Input(image_shape, name="image")
    # DCGAN's initial weights.
    initializers = (
        keras.initializers.RandomNormal(stddev=0.02, seed=number)
        for number in weight_seeds(seed, 2)
    )
    for number, channels in enumerate(hidden_units):
        outputs = keras.layers.Conv2D(
            channels,
            4,
            2,
            "same",
            use_bias=number == 0,
            kernel_initializer=next(initializers),
        )(outputs)
        if number > 0:
            outputs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(
                outputs
            )
        outputs = keras.layers.LeakyReLU(0.2)(outputs)
    features = outputs
    outputs = keras.layers.Dense(256, kernel_initializer=next(initializers))(
        keras.layers.Flatten()(outputs)
    )
    outputs = keras.layers.LeakyReLU(0.2)(outputs)
    logits = keras.layers.Dense(1, kernel_initializer=next(initializers))(outputs)
    return keras.Model(image, [features, logits], name="discriminator")
