"""Generative models, ours and the same in PyTorch, on the same machine in one run.

  python benchmarks/generative.py                          # everything
  python benchmarks/generative.py --parts=vae_conv,made --repeats=5
  python benchmarks/generative.py --check    # that both are the same models

Each measurement is a process of its own, pinned to one core, with one host thread. The
two take turns. Images are of the size and number of MNIST's, but of noise; batches of
100, for GANs 64; Adam; the models are those of the experiments:

  vae_mlp     784-512-512-20 and back
  vae_conv    convolutions of 32 and 64 channels, 20 latent numbers
  made        784-500-784 with direct connections, one mask
  draw        10 glimpses of 5 x 5, LSTMs of 256, 10 latent numbers; gradients clipped
  draw_plain  the same without attention
  dcgan       convolutions of 64 and 128 channels, averaged weights

Ours alone, with and without XLA, are

  vae_gan     convolutions of 32 and 64 channels on every side
  wgan_gp, sngan, began, infogan
              convolutions of 32 and 64 channels; a step of the first two is five
              updates of the critic and one of the generator

Ours trains with `fit` from the batches of an `ImageDataset`, which prepares each anew;
the peer, eager and in channels_last (benchmarks/torch_generative.py), takes images
that are prepared beforehand. The first steps are left out. Ours is measured with and
without XLA; "training steps a second" is with the model's default. It prints a Markdown
table; the ratio is ours over theirs.
"""

import math
import time

import numpy as np
import side_by_side
from absl import app, flags

FLAGS = flags.FLAGS

_GANS = ("dcgan", "wgan_gp", "sngan", "began", "infogan")
_COMPARED = ("vae_mlp", "vae_conv", "made", "draw", "draw_plain", "dcgan")
_PARTS = (*_COMPARED, "vae_gan", *_GANS[1:])
_IMAGE_SHAPE = (28, 28, 1)
_NUM_IMAGES = 60_000
_SKIPPED_STEPS = 20
_MEASURED_SECONDS = 8.0

side_by_side.define_flags(_PARTS)
flags.DEFINE_boolean(
    "check", False, "Compare weights and losses of the two instead of their speed."
)


def batch_size(part):
    """Returns the images of an update."""
    return 64 if part in (*_GANS, "vae_gan") else 100


def make_tfzoo(part, seed):
    """Returns our model and its optimizers."""
    import keras

    from tfzoo.models import DRAW, MADE, VAE, VAEGAN, gan_optimizers, make_gan

    if part in _GANS:
        channels = 64 if part == "dcgan" else 32
        model = make_gan(part, _IMAGE_SHAPE, base_channels=channels, seed=seed)
        return model, gan_optimizers(part)
    if part == "vae_gan":
        model = VAEGAN(_IMAGE_SHAPE, seed=seed)
        return model, [keras.optimizers.Adam(2e-4, beta_1=0.5)]
    model = {
        "vae_mlp": lambda: VAE(_IMAGE_SHAPE, seed=seed),
        "vae_conv": lambda: VAE(_IMAGE_SHAPE, network="conv", seed=seed),
        "made": lambda: MADE(_IMAGE_SHAPE, direct=True, seed=seed),
        "draw": lambda: _draw(5, seed),
        "draw_plain": lambda: _draw(None, seed),
    }[part]()
    clipnorm = 5.0 if isinstance(model, DRAW) else None
    return model, [keras.optimizers.Adam(1e-3, global_clipnorm=clipnorm)]


def _draw(patch_size, seed):
    from tfzoo.models import DRAW

    return DRAW(
        _IMAGE_SHAPE,
        num_glimpses=10,
        hidden_units=256,
        latent_size=10,
        read_size=patch_size,
        write_size=patch_size,
        seed=seed,
    )


def measure_tfzoo(part, seed):
    """Trains ours; returns steps a second and seconds to compile, of both settings."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras

    from tfzoo.datasets.image_dataset import ImageDataset, ImageSplit

    split = ImageSplit(noise_images(_NUM_IMAGES, seed), None)
    dataset = ImageDataset("noise", split, split)

    class Speed(keras.callbacks.Callback):
        """Stops training once it has been measured."""

        def on_train_begin(self, logs=None):
            self.began = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            now = time.perf_counter()
            if batch == 0:
                self.first = now - self.began
            if batch <= _SKIPPED_STEPS:
                self.skipped = now
            elif now - self.skipped > _MEASURED_SECONDS:
                self.rate = (batch - _SKIPPED_STEPS) / (now - self.skipped)
                self.model.stop_training = True

    figures = {}
    # In turns, too: another goes first in the next measurement.
    first = bool(seed % 2)
    for jit_compile in (first, not first):
        model, optimizers = make_tfzoo(part, seed)
        model.compile(*optimizers, jit_compile=jit_compile)
        batches = dataset.batches(
            batch_size(part) * getattr(model, "critic_steps", 1),
            value_range=model.value_range,
            binarize="static" if batch_size(part) == 100 else None,
            seed=seed,
        )
        speed = Speed()
        history = model.fit(
            batches, steps_per_epoch=1_000_000, callbacks=[speed], verbose=0
        ).history
        _check_finite(*(values[-1] for values in history.values()))
        name = "xla" if jit_compile else "graph"
        figures[name] = speed.rate
        figures[f"{name}_compile"] = speed.first - 1.0 / speed.rate
    name = "xla" if model.has_faster_xla_on_cpu else "graph"
    return {"rate": figures[name], **figures}


def measure_torch(part, seed):
    """The same with the peer; nothing of a part that it does not have."""
    if part not in _COMPARED:
        return {}
    import torch
    import torch_generative

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    images = noise_images(_NUM_IMAGES, seed).transpose(0, 3, 1, 2)
    images = torch.from_numpy(images).float() / 255.0
    images = 2.0 * images - 1.0 if part == "dcgan" else torch.bernoulli(images)
    images = images.contiguous(memory_format=torch.channels_last)
    trainer = torch_generative.TRAINERS[part]()
    total = torch.zeros([])
    size = batch_size(part)
    steps_per_epoch = _NUM_IMAGES // size

    def endless_batches():
        while True:
            order = torch.randperm(_NUM_IMAGES)[: steps_per_epoch * size]
            for indices in order.split(size):
                yield images[indices]

    batches = endless_batches()

    def train(steps):
        for _ in range(steps):
            total.add_(trainer.step(next(batches)))

    train(_SKIPPED_STEPS)
    rate, _ = side_by_side.rate(train, _SKIPPED_STEPS, _MEASURED_SECONDS)
    _check_finite(total.item())
    return {"rate": rate}


def noise_images(num, seed):
    """Returns images of noise, uint8."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (num, *_IMAGE_SHAPE), np.uint8)


def _check_finite(*values):
    if not all(map(math.isfinite, values)):
        raise FloatingPointError(f"training has left the finite numbers: {values}")


def rows(part):
    """Returns the rows of a part in the table."""
    del part
    return (
        ("training steps a second", "rate", ",.1f"),
        ("the same with XLA", "xla", ",.1f"),
        ("the same without XLA", "graph", ",.1f"),
        ("seconds to trace and compile with XLA", "xla_compile", ".1f"),
        ("seconds to trace without", "graph_compile", ".1f"),
    )


def tfzoo_losses(model, images, noise_shape):
    """Returns our losses of a batch, and the noise that they come of, two lists.

    Args:
      model: a `GenerativeModel`.
      images: [B, H, W, C].
      noise_shape: of the noise, but for a GAN.
    """
    import tensorflow as tf

    from tfzoo import random
    from tfzoo.models.gan import GAN

    images = tf.constant(images)
    first, second = random.make_seed(1), random.make_seed(2)
    if not isinstance(model, GAN):
        loss, _ = model.batch_loss(images, first, training=True)
        return [loss], [random.normal(noise_shape, first)]
    losses = [
        model.discriminator_loss(images, None, first, training=True)[0],
        model.generator_loss(len(images), None, second, training=True)[0],
    ]
    seeds = random.split(first, 2)[0], second
    return losses, [model.draw_latent(len(images), seed) for seed in seeds]


def check(part, seed=0):
    """Compares the two on the same weights, images and noise.

    Raises:
      AssertionError: if they are not the same.
    """
    import torch
    import torch_generative

    model, _ = make_tfzoo(part, seed)
    # Biases start from 0, where they would show nothing.
    rng = np.random.default_rng(seed)
    for weight in model.trainable_variables:
        weight.assign_add(0.05 * rng.standard_normal(weight.shape))
    weights = [weight.numpy() for weight in model.trainable_variables]
    trainer = torch_generative.TRAINERS[part]()
    if part == "made":
        masks = [torch.from_numpy(mask.numpy().T) for mask in model.connectivity(0)]
        trainer = torch_generative.made(masks)
    elif part == "draw":
        # The peer's products leave the images and their errors side by side.
        kernel = weights[5]
        seen = kernel[:50].reshape(5, 5, 2, -1).swapaxes(1, 2).reshape(50, -1)
        weights[5] = np.concatenate([seen, kernel[50:]])
    torch_generative.load_weights(trainer, weights)

    low, high = model.value_range
    images = np.round(noise_images(batch_size(part), seed) / np.float32(255.0))
    images = low + (high - low) * images
    shape = None if part == "dcgan" else trainer.model.draw_noise(len(images)).shape
    ours, noise = tfzoo_losses(model, images, shape)
    theirs = trainer.losses(
        torch.from_numpy(images.transpose(0, 3, 1, 2)),
        [torch.from_numpy(numbers.numpy()) for numbers in noise],
    )
    ours, theirs = [float(x) for x in ours], [x.item() for x in theirs]
    num_weights = torch_generative.num_weights(trainer)
    print(f"{part}: {num_weights:,} weights; losses {ours}, PyTorch's {theirs}")
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def main(argv):
    """Measures the parts in turns and prints a table."""
    del argv
    if FLAGS.check:
        for part in FLAGS.parts:
            if part in _COMPARED:
                check(part)
        return
    side_by_side.main(
        _PARTS,
        measure_tfzoo,
        ("PyTorch", measure_torch),
        rows,
        ("tensorflow", "keras", "torch"),
    )


if __name__ == "__main__":
    app.run(main)
