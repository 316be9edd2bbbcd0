"""Generative adversarial networks: the trainer of two players.

Goodfellow et al. 2014 (arXiv:1406.2661). A generator makes images G(z) of noise z, a
discriminator D tells them from those of the data; what each minimises is in
`tfzoo.losses.adversarial`. A training step is

    n times:  a part of the batch; new noise; D steps down its loss, G stays as it is
    once:     new noise; G steps down its loss, D stays as it is
    then:     averaged weights <- d (averaged weights) + (1 - d) (weights of G)

so that a step is one update of the generator, the step that papers count, and takes n
times the images of one update of the discriminator. The other way, a batch for each
update and the generator's turn in every n-th, needs a branch around an optimizer, which
`tf.distribute` cannot have. Images are drawn from the averaged generator (Yazıcı et al.
2018, arXiv:1806.04498), with d = min(decay, (1 + t) / (10 + t)) in step t, which
forgets the first weights soon.

A player's update changes that player alone, also what is no weight: the moving
statistics of batch normalisation and the vectors of spectral normalisation change when
the network itself steps, and the discriminator's by real images only. Real and fake
images are batches of their own in the discriminator, as in DCGAN (Radford et al. 2015,
arXiv:1511.06434).
"""

import keras
import numpy as np
import tensorflow as tf

from tfzoo import random
from tfzoo.layers import MinibatchDiscrimination
from tfzoo.losses import (
    WassersteinGANLoss,
    adversarial_losses,
    gradient_penalty,
)
from tfzoo.models.generative_model import GenerativeModel, at_least_one

LATENT_PRIORS = ("normal", "uniform")
# Layers in which images of a batch meet.
_BETWEEN_IMAGES = (keras.layers.BatchNormalization, MinibatchDiscrimination)


class GAN(GenerativeModel):
    """A generator and a discriminator that learn from each other.

      model = make_gan("dcgan", (28, 28, 1))
      model.compile(*gan_optimizers("dcgan"))
      model.fit(batches, steps_per_epoch=900, epochs=20)
      images = model.sample(64, seed=0)

    Images are from -1 to 1. A conditional GAN (`num_classes`; Mirza and Osindero 2014,
    arXiv:1411.1784) is fitted to batches of (images, labels), labels integers [B] from
    0 to K - 1 (which is not checked in the graph); others leave labels alone. Where
    one-hot classes [B, K] are asked for, the networks take them as their second input.

    `fit` shows "discriminator_loss", a mean over the n updates, and "generator_loss".
    They do not fall as other losses do: each depends on the other player. With the
    Wasserstein loss there is "wasserstein_distance", mean D(x) - mean D(G(z)), an
    estimate of the distance but for the critic's Lipschitz constant, and with a
    gradient penalty its mean, "gradient_penalty".

    Args:
      image_shape: (H, W, C).
      generator: a `keras.Model` from z [B, D] to images.
      discriminator: a `keras.Model` from images to logits [B, 1].
      loss: see `tfzoo.losses.adversarial_losses`.
      latent_prior: of z; "normal", N(0, 1), or "uniform", from -1 to 1.
      critic_steps: n; batches must be divisible by it.
      weight_clip: c; each of the discriminator's weights is kept within [-c, c].
      penalty_weight: lambda, of a gradient penalty in the discriminator's loss; the
        discriminator must then judge each image by itself.
      num_classes: K, or None.
      average_decay: d, in [0, 1).
      seed: an integer; of all noise.

    Attributes:
      averaged_generator: the generator with averaged weights; its other variables are
        copied.
      steps: an int, the updates of the generator so far.

    Raises:
      ValueError: if an argument is out of its range, or a network has other inputs or
        outputs.
    """

    metric_names = ("discriminator_loss", "generator_loss")
    value_range = (-1.0, 1.0)
    remedy = "lower learning rates"

    def __init__(
        self,
        image_shape,
        generator,
        discriminator,
        *,
        loss="non_saturating",
        latent_prior="normal",
        critic_steps=1,
        weight_clip=None,
        penalty_weight=None,
        num_classes=None,
        average_decay=0.999,
        seed=0,
    ):
        if latent_prior not in LATENT_PRIORS:
            raise ValueError(
                f"latent_prior must be one of {', '.join(LATENT_PRIORS)}, got "
                f"{latent_prior!r}"
            )
        for name, value in (
            ("critic_steps", critic_steps),
            ("num_classes", num_classes),
        ):
            if value is not None and (value != int(value) or value < 1):
                raise ValueError(f"{name} must be a positive integer, got {value}")
        for name, value in (
            ("weight_clip", weight_clip),
            ("penalty_weight", penalty_weight),
        ):
            if value is not None and not 0 < value < np.inf:
                raise ValueError(f"{name} must be None or above 0, got {value}")
        if not 0 <= average_decay < 1:
            raise ValueError(f"average_decay must be in [0, 1), got {average_decay}")
        super().__init__(image_shape, seed=seed)
        self.adversarial_losses = adversarial_losses(loss)
        self.latent_prior = latent_prior
        self.critic_steps = critic_steps
        self.weight_clip = weight_clip
        self.penalty_weight = penalty_weight
        self.num_classes = num_classes
        self.average_decay = average_decay
        self._check_networks(generator, discriminator)
        self.latent_size = _input_shapes(generator)[0][0]
        self.generator = generator
        self.discriminator = discriminator
        self.averaged_generator = keras.models.clone_model(generator)
        self.averaged_generator.trainable = False
        _copy(generator.weights, self.averaged_generator.weights)
        if isinstance(self.adversarial_losses.discriminator, WassersteinGANLoss):
            self.metric_names += ("wasserstein_distance",)
        if penalty_weight is not None:
            self.metric_names += ("gradient_penalty",)
        # There is no loss of both players.
        self._make_means(self.metric_names)
        self.built = True

    def compile(
        self,
        generator_optimizer,
        discriminator_optimizer,
        *,
        jit_compile="auto",
        **kwargs,
    ):
        """Configures training; see `GenerativeModel.compile`.

        Args:
          generator_optimizer, discriminator_optimizer: two
            `keras.optimizers.Optimizer`s.
          jit_compile: whether XLA compiles a step; "auto" for one device: on a GPU, and
            on a CPU where `has_faster_xla_on_cpu`.
          **kwargs: `run_eagerly`, `steps_per_execution`.

        Raises:
          ValueError: if they are one.
        """
        jit_compile = self._with_xla(jit_compile, kwargs.get("run_eagerly", False))
        keras.Model.compile(self, optimizer=None, jit_compile=jit_compile, **kwargs)
        self.generator_optimizer = self._with_loss_scale(generator_optimizer)
        self.discriminator_optimizer = self._with_loss_scale(discriminator_optimizer)
        if self.generator_optimizer is self.discriminator_optimizer:
            raise ValueError(
                "the generator and the discriminator need an optimizer each, got one"
            )
        # Here, as a step that makes variables would be traced twice.
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)

    def train_step(self, data):
        """Lets both players step; returns the means of the epoch so far."""
        images, classes = self._unpack(data)
        seed = self._seed_of_replica(self.step_counter.read_value())
        images, classes = self._in_parts(images), self._in_parts(classes)
        updates = [
            self._update_discriminator(*part, random.fold_in(seed, number))
            for number, part in enumerate(zip(images, classes, strict=True))
        ]
        metrics = {
            name: tf.reduce_mean([update[name] for update in updates])
            for name in updates[0]
        }
        metrics |= self._update_generator(
            tf.shape(images[-1])[0],
            classes[-1],
            random.fold_in(seed, self.critic_steps),
        )
        self._update_average()
        self.step_counter.assign_add(1)
        return self._show(self.finish_step(metrics, training=True))

    def test_step(self, data):
        """Evaluates a batch, with the generator that learns; returns the means."""
        images, classes = self._unpack(data)
        seed = self._seed_of_replica(-1 - self._test_steps.read_value())
        seeds = tf.unstack(random.split(seed, 2))
        some = at_least_one(images)
        classes = None if classes is None else at_least_one(classes)
        loss, metrics = self.discriminator_loss(some, classes, seeds[0], False)
        metrics = {"discriminator_loss": loss, **metrics}
        num = tf.shape(some)[0]
        loss, others = self.generator_loss(num, classes, seeds[1], False)
        metrics = {**metrics, "generator_loss": loss, **others}
        self._test_steps.assign_add(1)
        return self._show(self.finish_step(metrics, training=False), len_of=images)

    def discriminator_loss(self, images, classes, seed, training):
        """Returns what the discriminator minimises, and a dict of scalars to show.

        Args:
          images: float32 [B, H, W, C].
          classes: one-hot, float32 [B, K], or None.
          seed: int32 [2].
          training: whether this is learned from.
        """
        latent_seed, epsilon_seed = tf.unstack(random.split(seed, 2))
        num = tf.shape(images)[0]
        fakes = self.generate(self.draw_latent(num, latent_seed), classes, training)
        fakes = tf.stop_gradient(fakes)
        # Fakes first: what real images change then does not differ between the two.
        fake_logits = self.judge(fakes, classes, training)
        real_logits = self.judge(images, classes, training, keep_state=False)
        loss = self._mean_loss("discriminator", 1.0, real_logits)
        loss += self._mean_loss("discriminator", 0.0, fake_logits)
        metrics = {}
        metrics |= self.distance_metrics(real_logits, fake_logits)
        if self.penalty_weight is not None:
            penalty = gradient_penalty(
                lambda points: self.judge(points, classes, training),
                images,
                fakes,
                random.uniform([num], epsilon_seed),
            )
            metrics["gradient_penalty"] = tf.reduce_mean(penalty)
            loss += self.penalty_weight * metrics["gradient_penalty"]
        return loss, metrics

    def distance_metrics(self, real_logits, fake_logits):
        """Returns a dict of the critic's distance, where the loss is Wasserstein's."""
        if "wasserstein_distance" not in self.metric_names:
            return {}
        distance = tf.reduce_mean(real_logits) - tf.reduce_mean(fake_logits)
        return {"wasserstein_distance": distance}

    def generator_loss(self, num, classes, seed, training):
        """Returns what the generator minimises, and a dict of scalars to show.

        Args:
          num: B, an int32 scalar.
          classes: one-hot, float32 [B, K], or None.
          seed: int32 [2].
          training: whether this is learned from.
        """
        latent = self.draw_latent(num, seed)
        fakes = self.generate(latent, classes, training, keep_state=False)
        logits = self.judge(fakes, classes, training)
        return self._mean_loss("generator", 1.0, logits), {}

    def finish_step(self, metrics, training):
        """Returns what to show of the metrics of both players' updates.

        Args:
          metrics: a dict of scalars.
          training: whether this was learned from.
        """
        del training
        return metrics

    def draw_latent(self, num, seed):
        """Returns z from its prior, [num, D].

        Args:
          num: an int32 scalar.
          seed: int32 [2].
        """
        return draw_noise(self.latent_prior, [num, self.latent_size], seed)

    def generate(self, latent, classes, training, keep_state=True):
        """Returns images [B, H, W, C] of the generator that learns.

        Args:
          latent: z, [B, D].
          classes: one-hot, float32 [B, K], or None.
          training: whether batch normalisation takes its statistics from this batch.
          keep_state: whether moving statistics stay as they are in training, too.
        """
        return run_network(self.generator, latent, classes, training, keep_state)

    def judge(self, images, classes, training, keep_state=True):
        """Returns the discriminator's logits, [B, 1]; see `generate`."""
        return run_network(self.discriminator, images, classes, training, keep_state)

    def call(self, latent, labels=None):
        """Returns images [B, H, W, C] of the averaged generator.

        Args:
          latent: z, [B, D].
          labels: int32 [B] for a conditional GAN.
        """
        classes = None if labels is None else tf.one_hot(labels, self.num_classes)
        return run_network(self.averaged_generator, latent, classes)

    def sample(self, num, seed=0, labels=None):
        """Returns images [num, H, W, C] of the averaged generator.

        Args:
          num: how many.
          seed: an integer.
          labels: integers [num], or one for all, for a conditional GAN; by default they
            are drawn uniformly.

        Raises:
          ValueError: if labels are out of range, or the GAN is not conditional.
        """
        if labels is not None:
            labels = self._check_labels(labels, num)
        return self.sample_from(num, random.make_seed(seed), labels)

    def sample_from(self, num, seed, labels=None):
        """Returns what `sample` does, of tensors: `num` int32 and `seed` int32 [2]."""
        latent_seed, label_seed = tf.unstack(random.split(seed, 2))
        if labels is None and self.num_classes is not None:
            labels = random.integers([num], label_seed, self.num_classes)
        return self(self.draw_latent(num, latent_seed), labels)

    @property
    def served_networks(self):
        """The networks that `endpoints` use."""
        return [self.averaged_generator, self.discriminator]

    def endpoints(self):
        """Returns what `export` serves.

        "sample", which is the default, takes `num`, int32, and `seed`, int32 [2], and
        returns `images`, of drawn classes if the GAN is conditional. "generate" takes
        `latent` [B, D] and returns `images`; "discriminate" takes `images` and returns
        `logits` [B, 1]. Of a conditional GAN these two take `labels` int32 [B], too.
        """
        conditional = self.num_classes is not None
        labels = [tf.TensorSpec([None], tf.int32, name="labels")] * conditional

        def generate(latent, labels=None):
            return {"images": self(latent, labels)}

        def discriminate(images, labels=None):
            classes = None if labels is None else tf.one_hot(labels, self.num_classes)
            return {"logits": self.judge(images, classes, training=False)}

        latent = tf.TensorSpec([None, self.latent_size], tf.float32, name="latent")
        return {
            **super().endpoints(),
            "generate": (generate, [latent, *labels]),
            "discriminate": (discriminate, [self.images_spec, *labels]),
        }

    def _update_discriminator(self, images, classes, seed):
        loss, metrics = self._step(
            self.discriminator,
            self.discriminator_optimizer,
            lambda: self.discriminator_loss(images, classes, seed, True),
        )
        if self.weight_clip is not None:
            limit = self.weight_clip
            for weight in self.discriminator.trainable_variables:
                weight.assign(tf.clip_by_value(weight.value, -limit, limit))
        return {"discriminator_loss": loss, **metrics}

    def _update_generator(self, num, classes, seed):
        loss, metrics = self._step(
            self.generator,
            self.generator_optimizer,
            lambda: self.generator_loss(num, classes, seed, True),
        )
        return {"generator_loss": loss, **metrics}

    def _step(self, network, optimizer, objective):
        """Takes a step of one network; returns its loss and what to show."""
        # Gradients of replicas are added up.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        with tf.GradientTape() as tape:
            loss, metrics = objective()
            if network.losses:
                loss += tf.add_n(network.losses)
            scaled = optimizer.scale_loss(loss / replicas)
        variables = network.trainable_variables
        optimizer.apply(tape.gradient(scaled, [v.value for v in variables]), variables)
        return loss, metrics

    def _update_average(self):
        step = tf.cast(self.step_counter.read_value(), tf.float32)
        decay = tf.minimum(self.average_decay, (1.0 + step) / (10.0 + step))
        pairs = zip(
            self.generator.weights, self.averaged_generator.weights, strict=True
        )
        for present, average in pairs:
            value = present.value
            if present.trainable:
                value = decay * average.value + (1.0 - decay) * value
            average.assign(value)

    def _mean_loss(self, player, real, logits):
        # Not by calling it: under `tf.distribute` Keras divides by the replicas then.
        loss = getattr(self.adversarial_losses, player)
        real = tf.fill([tf.shape(logits)[0]], real)
        return tf.reduce_mean(loss.call(real, logits))

    def _unpack(self, data):
        """Returns images [B, H, W, C] and one-hot classes [B, K] or None."""
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        images = tf.cast(images, tf.float32)
        if self.num_classes is None:
            return images, None
        if labels is None:
            raise ValueError(
                "a conditional GAN is fitted to batches of (images, labels), got "
                "images alone"
            )
        return images, tf.one_hot(tf.cast(labels, tf.int32), self.num_classes)

    def _in_parts(self, batch):
        """Returns a list of n equal parts of a batch, or of None."""
        if batch is None:
            return [None] * self.critic_steps
        size = batch.shape[0]
        if size is not None and size % self.critic_steps:
            raise ValueError(
                f"a batch of {size} images cannot be split among critic_steps="
                f"{self.critic_steps} updates; make it a multiple of them"
            )
        return tf.unstack(tf.reshape(batch, [self.critic_steps, -1, *batch.shape[1:]]))

    def _check_labels(self, labels, num):
        """Returns labels int32 [num] of integers."""
        if self.num_classes is None:
            raise ValueError("labels are for a conditional GAN, made with num_classes")
        labels = np.broadcast_to(np.asarray(labels, np.int32), [num])
        if labels.size and not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise ValueError(
                f"labels must be from 0 to {self.num_classes - 1}, got {labels.min()} "
                f"to {labels.max()}"
            )
        return tf.constant(labels)

    def _check_networks(self, generator, discriminator):
        extra = [] if self.num_classes is None else [(self.num_classes,)]
        inputs = _input_shapes(generator)
        if inputs[1:] != extra or generator.output_shape[1:] != self.image_shape:
            raise ValueError(
                f"the generator must be from {_named(['latent', *extra])} to "
                f"{self.image_shape}, got {_named(inputs)} to "
                f"{generator.output_shape[1:]}"
            )
        inputs = _input_shapes(discriminator)
        if inputs != [self.image_shape, *extra]:
            raise ValueError(
                f"the discriminator must take {_named([self.image_shape, *extra])}, "
                f"got {_named(inputs)}"
            )

        for name, network in ("generator", generator), ("discriminator", discriminator):
            for layer in _layers(network):
                if getattr(layer, "seed_generator", None) is not None:
                    raise ValueError(
                        f"the {name} must not have layers with random numbers of their "
                        f"own, such as {type(layer).__name__}: passes would share them"
                    )
        if self.penalty_weight is not None:
            for layer in _layers(discriminator):
                if isinstance(layer, _BETWEEN_IMAGES):
                    raise ValueError(
                        "with penalty_weight the discriminator must judge each image "
                        f"by itself, and has {type(layer).__name__}"
                    )

    def _with_loss_scale(self, optimizer):
        # As `keras.Model.compile` does it for one optimizer.
        optimizer = keras.optimizers.get(optimizer)
        scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if self.dtype_policy.name == "mixed_float16" and not scales:
            return keras.optimizers.LossScaleOptimizer(optimizer)
        return optimizer


def draw_noise(prior, shape, seed):
    """Returns float32 numbers of a prior, see `GAN`."""
    if prior == "normal":
        return random.normal(shape, seed)
    return random.uniform(shape, seed, -1.0, 1.0)


def run_network(network, inputs, classes=None, training=False, keep_state=True):
    """Returns the outputs of a network, float32; see `GAN.generate`."""
    inputs = tf.convert_to_tensor(inputs)
    if classes is not None:
        inputs = [inputs, tf.convert_to_tensor(classes)]
    if training and keep_state:
        variables = network.trainable_variables, network.non_trainable_variables
        outputs, _ = network.stateless_call(*variables, inputs, training=True)
    else:
        outputs = network(inputs, training=training)
    return tf.nest.map_structure(lambda x: tf.cast(x, tf.float32), outputs)


def _layers(network):
    """Yields all layers of a network, those within layers included."""
    for layer in network.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)


def _copy(sources, targets):
    for source, target in zip(sources, targets, strict=True):
        target.assign(source.value)


def _input_shapes(network):
    """Returns the shapes of a network's inputs but for the batch, tuples."""
    return [tuple(tensor.shape[1:]) for tensor in network.inputs]


def _named(shapes):
    return " and ".join(str(shape) for shape in shapes)
