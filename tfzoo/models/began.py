"""The boundary equilibrium GAN, whose critic is an autoencoder.

Berthelot et al. 2017 (arXiv:1703.10717). With L(v) = |v - D(v)|, the mean absolute
error over the pixels of an image that the autoencoder D rebuilds,

    L_D = L(x) - k_t L(G(z_D))
    L_G = L(G(z_G))
    k_t+1 = k_t + lambda_k (gamma L(x) - L(G(z_G)))

where k_0 = 0. The measure of convergence is M = L(x) + |gamma L(x) - L(G(z_G))|: the
lower, the better, which can be said of no other GAN's losses. The players step one
after the other here, at once in the paper.
"""

import math

import tensorflow as tf

from tfzoo.losses import convergence_measure, equilibrium_weight
from tfzoo.models.gan import GAN


class BEGAN(GAN):
    """Boundary equilibrium GAN.

    `fit` shows, besides the losses, "reconstruction_error", L(x), "k" and
    "convergence", M.

    Args:
      image_shape: (H, W, C); images are from -1 to 1.
      generator: see `GAN`.
      discriminator: a `keras.Model` from images to images, the autoencoder D.
      gamma: the ratio of the errors of fake and real images that is held, in [0, 1].
      k_rate: lambda_k, at least 0.
      **options: of `GAN`, but for `loss`, `penalty_weight` and `weight_clip`.

    Attributes:
      k: float32 variable, k_t.

    Raises:
      ValueError: if an argument is out of its range, or a network has other inputs or
        outputs.
    """

    metric_names = (*GAN.metric_names, "reconstruction_error", "k", "convergence")

    def __init__(
        self,
        image_shape,
        generator,
        discriminator,
        *,
        gamma=0.5,
        k_rate=0.001,
        **options,
    ):
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma must be in [0, 1], got {gamma}")
        if not 0 <= k_rate < math.inf:
            raise ValueError(f"k_rate must be at least 0, got {k_rate}")
        for name in {"loss", "penalty_weight", "weight_clip"} & options.keys():
            raise ValueError(f"BEGAN has a loss of its own and takes no {name}")
        if discriminator.output_shape[1:] != tuple(image_shape):
            raise ValueError(
                f"BEGAN's discriminator must have outputs {tuple(image_shape)}, got "
                f"{discriminator.output_shape[1:]}"
            )
        super().__init__(image_shape, generator, discriminator, **options)
        self.gamma = gamma
        self.k_rate = k_rate
        self.k = tf.Variable(
            0.0, trainable=False, aggregation=tf.VariableAggregation.MEAN
        )

    def reconstruct(self, images, classes=None, training=False, keep_state=True):
        """Returns D(images), [B, H, W, C]; see `GAN.generate`."""
        return super().judge(images, classes, training, keep_state)

    def judge(self, images, classes, training, keep_state=True):
        """Returns L of images, [B, 1], in the place of logits; see `GAN.generate`."""
        rebuilt = self.reconstruct(images, classes, training, keep_state)
        error = tf.reduce_mean(tf.abs(images - rebuilt), axis=[1, 2, 3])
        return error[:, None]

    def endpoints(self):
        """Returns what `export` serves.

        See `GAN.endpoints`; the `logits` of "discriminate" are L, the error by which D
        rebuilds an image: the lower, the more real. "reconstruct" takes `images`, and
        of a conditional GAN `labels`, and returns `images`, D(images).
        """
        endpoints = super().endpoints()

        def reconstruct(images, labels=None):
            classes = None if labels is None else tf.one_hot(labels, self.num_classes)
            return {"images": self.reconstruct(images, classes)}

        _, inputs = endpoints["discriminate"]
        return {**endpoints, "reconstruct": (reconstruct, inputs)}

    def discriminator_loss(self, images, classes, seed, training):
        """Returns L_D, and L(x) to show; see the base."""
        latent = self.draw_latent(tf.shape(images)[0], seed)
        fakes = tf.stop_gradient(self.generate(latent, classes, training))
        fake_error = tf.reduce_mean(self.judge(fakes, classes, training))
        real_error = tf.reduce_mean(
            self.judge(images, classes, training, keep_state=False)
        )
        loss = real_error - self.k.read_value() * fake_error
        return loss, {"reconstruction_error": real_error}

    def generator_loss(self, num, classes, seed, training):
        """Returns L_G; see the base."""
        latent = self.draw_latent(num, seed)
        fakes = self.generate(latent, classes, training, keep_state=False)
        return tf.reduce_mean(self.judge(fakes, classes, training)), {}

    def finish_step(self, metrics, training):
        """Moves k in training; returns the metrics with k and M; see the base."""
        errors = metrics["reconstruction_error"], metrics["generator_loss"]
        if training and tf.distribute.get_strategy().num_replicas_in_sync > 1:
            # The mean, and not the mean of what would be clipped for each.
            context = tf.distribute.get_replica_context()
            errors = context.all_reduce(tf.distribute.ReduceOp.MEAN, list(errors))
        if training:
            self.k.assign(
                equilibrium_weight(
                    self.k.read_value(), *errors, gamma=self.gamma, rate=self.k_rate
                )
            )
        return {
            **metrics,
            "k": self.k.read_value(),
            "convergence": convergence_measure(*errors, gamma=self.gamma),
        }
