"""InfoGAN, whose codes say what an image shows.

Chen et al. 2016 (arXiv:1606.03657). The generator's input is noise and codes c, one
categorical and some continuous ones, uniform in [-1, 1]. A head of the discriminator
gives Q(c|x), and both players maximise, besides the GAN's objective, a weight times

    L_I = E log Q(c|G(z, c)) + H(c)  <=  I(c; G(z, c)),

a lower bound on the mutual information of codes and images: lambda for the category,
another for continuous codes. The paper has 1 for the category and advises a smaller one
for the others. Q is categorical, and normal with variance 1 for continuous codes, as in
the authors' code for MNIST.
"""

import math

import numpy as np
import tensorflow as tf

from tfzoo import random
from tfzoo.losses import categorical_information, continuous_information
from tfzoo.models.gan import GAN, draw_noise


class InfoGAN(GAN):
    """Information-maximising GAN.

      model = make_gan("infogan", (28, 28, 1))
      model.compile(*gan_optimizers("infogan"))
      model.fit(batches, steps_per_epoch=900, epochs=50)
      probabilities, continuous = model.codes(images)
      images = model.sample(10, categories=range(10))

    `fit` shows, besides the losses, the parts of L_I in nats: "categorical_information"
    rises to log K at most, and "continuous_information", as the variance of Q is fixed,
    to -0.23 for each code.

    Args:
      image_shape: (H, W, C); images are from -1 to 1.
      generator: see `GAN`; z is noise [B, N], the category, one-hot [B, K], and the
        continuous codes [B, M], side by side.
      discriminator: a `keras.Model` from images to (logits [B, 1], codes [B, K + M]),
        the latter the logits of categories and the means of continuous codes.
      num_categories: K, at least 2.
      num_continuous: M, at least 0.
      information_weight: lambda, of the category.
      continuous_weight: that of the continuous codes.
      **options: of `GAN`, but for `num_classes` and `penalty_weight`.

    Raises:
      ValueError: if an argument is out of its range, or a network has other inputs or
        outputs.
    """

    metric_names = (
        *GAN.metric_names,
        "categorical_information",
        "continuous_information",
    )

    def __init__(
        self,
        image_shape,
        generator,
        discriminator,
        *,
        num_categories=10,
        num_continuous=2,
        information_weight=1.0,
        continuous_weight=0.1,
        **options,
    ):
        for name, value, least in (
            ("num_categories", num_categories, 2),
            ("num_continuous", num_continuous, 0),
        ):
            if value != int(value) or value < least:
                raise ValueError(
                    f"{name} must be an integer of at least {least}, got {value}"
                )
        for name, value in (
            ("information_weight", information_weight),
            ("continuous_weight", continuous_weight),
        ):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0, got {value}")
        for name in {"num_classes", "penalty_weight"} & options.keys():
            raise ValueError(f"InfoGAN takes no {name}")
        shapes = [tuple(tensor.shape[1:]) for tensor in discriminator.outputs]
        expected = [(1,), (num_categories + num_continuous,)]
        if shapes != expected:
            raise ValueError(
                f"InfoGAN's discriminator must have outputs {expected}, got {shapes}"
            )
        super().__init__(image_shape, generator, discriminator, **options)
        self.num_categories = num_categories
        self.num_continuous = num_continuous
        self.information_weights = information_weight, continuous_weight
        self.noise_size = self.latent_size - num_categories - num_continuous
        if self.noise_size < 0:
            raise ValueError(
                f"the generator's input of {self.latent_size} numbers has no room for "
                f"{num_categories} categories and {num_continuous} continuous codes"
            )

    def draw_latent(self, num, seed, categories=None, continuous=None):
        """Returns noise and codes, [num, N + K + M].

        Args:
          num: an int32 scalar.
          seed: int32 [2].
          categories: int32 [num]; drawn uniformly by default.
          continuous: [num, M]; drawn uniformly from [-1, 1] by default.
        """
        seeds = tf.unstack(random.split(seed, 3))
        noise = draw_noise(self.latent_prior, [num, self.noise_size], seeds[0])
        if categories is None:
            categories = random.integers([num], seeds[1], self.num_categories)
        if continuous is None:
            shape = [num, self.num_continuous]
            continuous = random.uniform(shape, seeds[2], -1.0, 1.0)
        one_hot = tf.one_hot(categories, self.num_categories)
        return tf.concat([noise, one_hot, continuous], axis=-1)

    def judge(self, images, classes, training, keep_state=True):
        """Returns the discriminator's logits, [B, 1]; see `GAN.generate`."""
        return super().judge(images, classes, training, keep_state)[0]

    def discriminator_loss(self, images, classes, seed, training):
        """Returns the GAN's loss less weighted L_I, and L_I's parts; see the base."""
        latent = self.draw_latent(tf.shape(images)[0], seed)
        fakes = tf.stop_gradient(self.generate(latent, classes, training))
        fake_logits, code_outputs = super().judge(fakes, classes, training)
        real_logits = self.judge(images, classes, training, keep_state=False)
        loss = self._mean_loss("discriminator", 1.0, real_logits)
        loss += self._mean_loss("discriminator", 0.0, fake_logits)
        information = self.information(code_outputs, latent)
        names = "categorical_information", "continuous_information"
        metrics = dict(zip(names, information, strict=True))
        metrics |= self.distance_metrics(real_logits, fake_logits)
        return loss - self._weighted(information), metrics

    def generator_loss(self, num, classes, seed, training):
        """Returns the GAN's loss less weighted L_I; see the base."""
        latent = self.draw_latent(num, seed)
        fakes = self.generate(latent, classes, training, keep_state=False)
        logits, code_outputs = super().judge(fakes, classes, training)
        loss = self._mean_loss("generator", 1.0, logits)
        return loss - self._weighted(self.information(code_outputs, latent)), {}

    def information(self, code_outputs, latent):
        """Returns the two parts of L_I in nats, scalars, of categories and the others.

        Args:
          code_outputs: of the discriminator for G(latent), [B, K + M].
          latent: [B, N + K + M].
        """
        sizes = [self.num_categories, self.num_continuous]
        logits, mean = tf.split(code_outputs, sizes, axis=-1)
        _, one_hot, continuous = tf.split(latent, [self.noise_size, *sizes], axis=-1)
        return [
            tf.reduce_mean(categorical_information(logits, one_hot)),
            tf.reduce_mean(continuous_information(mean, continuous)),
        ]

    def _weighted(self, information):
        return sum(
            w * i for w, i in zip(self.information_weights, information, strict=True)
        )

    def codes(self, images):
        """Returns what Q(c|x) says of images [B, H, W, C].

        Returns:
          The probabilities of categories [B, K], and the means of the continuous codes
          [B, M].
        """
        _, code_outputs = super().judge(images, None, False)
        logits = code_outputs[:, : self.num_categories]
        return tf.nn.softmax(logits), code_outputs[:, self.num_categories :]

    def sample(self, num, seed=0, categories=None, continuous=None):
        """Returns images [num, H, W, C] of the averaged generator.

        Args:
          num: how many.
          seed: an integer; the same for the same noise with other codes.
          categories: integers [num], or one for all; drawn uniformly by default.
          continuous: [num, M], or [M] for all; drawn uniformly from [-1, 1] by default.

        Raises:
          ValueError: if categories are out of range.
        """
        if categories is not None:
            categories = np.broadcast_to(np.asarray(categories, np.int32), [num])
            if not 0 <= categories.min() <= categories.max() < self.num_categories:
                raise ValueError(
                    f"categories must be from 0 to {self.num_categories - 1}, got "
                    f"{categories.min()} to {categories.max()}"
                )
        if continuous is not None:
            continuous = np.broadcast_to(
                np.asarray(continuous, np.float32), [num, self.num_continuous]
            )
        seed = random.make_seed(seed)
        latent_seed, _ = tf.unstack(random.split(seed, 2))
        return self(self.draw_latent(num, latent_seed, categories, continuous))

    def endpoints(self):
        """Returns what `export` serves.

        See `GAN.endpoints`; "codes" takes `images` and returns `probabilities` [B, K]
        and `continuous` [B, M].
        """

        def codes(images):
            names = "probabilities", "continuous"
            return dict(zip(names, self.codes(images), strict=True))

        return {**super().endpoints(), "codes": (codes, [self.images_spec])}
