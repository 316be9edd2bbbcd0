"""The networks and settings of published GANs.

    type     loss            discriminator            n  prior       Adam(rate, beta_1)
    dcgan    non-saturating  batch normalisation      1  uniform     2e-4, 0.5
    lsgan    least squares   batch normalisation      1  uniform     2e-4, 0.5
    wgan     Wasserstein     batch normalisation,     5  normal      RMSprop(5e-5)
                             weights in [-.01, .01]
    wgan_gp  Wasserstein     gradient penalty 10,     5  normal      1e-4, 0 (.9)
                             layer normalisation
    sngan    hinge           spectral normalisation   5  normal      2e-4, 0 (.9)
    began    of its own      an autoencoder,          1  uniform     1e-3 and 2e-4, 0.5
                             batch normalisation
    infogan  non-saturating  batch normalisation,     1  uniform     1e-3 and 2e-4, 0.5
                             Q head

(Radford et al. 2015, arXiv:1511.06434; Mao et al. 2016, arXiv:1611.04076; Arjovsky et
al. 2017, arXiv:1701.07875; Gulrajani et al. 2017, arXiv:1704.00028; Miyato et al. 2018,
arXiv:1802.05957; Berthelot et al. 2017, arXiv:1703.10717; Chen et al. 2016,
arXiv:1606.03657). Losses, settings and normalisation are the papers', but for InfoGAN
and BEGAN; the networks are DCGAN's for all, so that losses can be compared: a
convolution of stride 2 for each halving of the image, twice as many channels after
each, and the generator the other way round. Kernels are 4x4, which a stride of 2 covers
evenly, and the deepest images at least 4x4 where halving twice leaves as many.

WGAN's critic has batch normalisation, as in its authors' code: without it little comes
through layers of weights that are so small. InfoGAN's networks have a dense layer more
between convolutions and noise or logits, as in its paper: without it the codes do not
find the digits. They find more of them with a tenth of the paper's weight of the
information. BEGAN's autoencoder goes through DCGAN's discriminator and generator, with
a code between: with batch normalisation, which the paper does without, it learns MNIST,
and without it all samples come out alike.
"""

import math

import keras

from tfzoo.layers import (
    MinibatchDiscrimination,
    NarrowConv2DTranspose,
    SpectralConv2D,
    SpectralDense,
)
from tfzoo.models.began import BEGAN
from tfzoo.models.gan import GAN
from tfzoo.models.generative_model import weight_seeds
from tfzoo.models.infogan import InfoGAN

NORMALIZATIONS = ("batch", "layer", "spectral", "none")
_MAX_WIDENING = 8
# The paper's 1024 units to 64 channels.
_INFOGAN_WIDENING = 16


def make_gan(
    gan_type,
    image_shape,
    *,
    base_channels=64,
    latent_size=None,
    num_classes=None,
    minibatch_kernels=0,
    seed=0,
    **options,
):
    """Returns a `GAN` of a published type, to be compiled with `gan_optimizers`.

    Args:
      gan_type: "dcgan", "lsgan", "wgan", "wgan_gp", "sngan", "began" or "infogan".
      image_shape: (H, W, C), H and W divisible by 4.
      base_channels: of the networks' outermost convolutions; up to 8 times as many
        within.
      latent_size: D, for InfoGAN that of the noise without codes; by default the
        type's.
      num_classes: for a conditional GAN.
      minibatch_kernels: B of minibatch discrimination, 0 for none; the paper has 100.
        Not with a gradient penalty or spectral normalisation, which are for critics
        that judge each image by itself.
      seed: an integer; of the first weights and all noise.
      **options: of `GAN`, `BEGAN` or `InfoGAN`, in the place of the type's.

    Raises:
      ValueError: if the type is unknown or an argument is out of its range.
    """
    settings = {**_settings(gan_type), **options}
    if latent_size is None:
        latent_size = settings["latent_size"]
    if latent_size < 1:
        raise ValueError(f"latent_size must be a positive integer, got {latent_size}")
    normalization = settings["normalization"]
    del settings["latent_size"], settings["normalization"]
    shared = {
        "base_channels": base_channels,
        "num_classes": num_classes,
        "seed": seed,
    }
    settings |= {"num_classes": num_classes, "seed": seed}
    if minibatch_kernels and (
        settings.get("penalty_weight") is not None or normalization == "spectral"
    ):
        raise ValueError(
            f"minibatch_kernels={minibatch_kernels}: {gan_type} needs a critic that "
            "judges each image by itself"
        )
    if gan_type == "began":
        if minibatch_kernels:
            raise ValueError("BEGAN's autoencoder takes no minibatch_kernels")
        if "normalization" in options:
            raise ValueError("BEGAN's autoencoder takes no other normalization")
        return BEGAN(
            image_shape,
            dcgan_generator(image_shape, latent_size, **shared),
            began_discriminator(image_shape, latent_size, **shared),
            **settings,
        )
    shared_critic = {
        "normalization": normalization,
        "minibatch_kernels": minibatch_kernels,
    }
    if gan_type == "infogan":
        if num_classes is not None:
            raise ValueError("InfoGAN finds classes by itself and takes no num_classes")
        del settings["num_classes"]
        shared["hidden_units"] = _INFOGAN_WIDENING * base_channels
        num_codes = settings["num_categories"] + settings["num_continuous"]
        return InfoGAN(
            image_shape,
            dcgan_generator(image_shape, latent_size + num_codes, **shared),
            dcgan_discriminator(
                image_shape, num_codes=num_codes, **shared, **shared_critic
            ),
            **settings,
        )
    return GAN(
        image_shape,
        dcgan_generator(image_shape, latent_size, **shared),
        dcgan_discriminator(image_shape, **shared, **shared_critic),
        **settings,
    )


def gan_optimizers(gan_type):
    """Returns the generator's and the discriminator's optimizer of a published type.

    Args:
      gan_type: see `make_gan`.

    Raises:
      ValueError: if the type is unknown.
    """
    _settings(gan_type)
    if gan_type == "wgan":
        # No momentum: the critic's loss changes too much from step to step for it.
        return tuple(keras.optimizers.RMSprop(5e-5) for _ in range(2))
    rates = {"wgan_gp": (1e-4, 1e-4), "began": (1e-3, 2e-4), "infogan": (1e-3, 2e-4)}
    betas = (0.0, 0.9) if gan_type in ("wgan_gp", "sngan") else (0.5, 0.999)
    return tuple(
        keras.optimizers.Adam(rate, *betas)
        for rate in rates.get(gan_type, (2e-4, 2e-4))
    )


_SETTINGS = {
    "dcgan": {
        "latent_size": 100,
        "latent_prior": "uniform",
        "normalization": "batch",
        "loss": "non_saturating",
    },
    "lsgan": {
        "latent_size": 100,
        "latent_prior": "uniform",
        "normalization": "batch",
        "loss": "least_squares",
    },
    "wgan": {
        "latent_size": 100,
        "normalization": "batch",
        "loss": "wasserstein",
        "critic_steps": 5,
        "weight_clip": 0.01,
    },
    "wgan_gp": {
        "latent_size": 128,
        "normalization": "layer",
        "loss": "wasserstein",
        "critic_steps": 5,
        "penalty_weight": 10.0,
    },
    "sngan": {
        "latent_size": 128,
        "normalization": "spectral",
        "loss": "hinge",
        "critic_steps": 5,
    },
    "began": {
        "latent_size": 64,
        "latent_prior": "uniform",
        "normalization": "batch",
        "gamma": 0.75,
    },
    "infogan": {
        "latent_size": 62,
        "latent_prior": "uniform",
        "normalization": "batch",
        "loss": "non_saturating",
        "num_categories": 10,
        "num_continuous": 2,
        "information_weight": 0.1,
    },
}
GAN_TYPES = tuple(_SETTINGS)


def _settings(gan_type):
    if gan_type not in _SETTINGS:
        raise ValueError(
            f"the type must be one of {', '.join(GAN_TYPES)}, got {gan_type!r}"
        )
    return _SETTINGS[gan_type]


def dcgan_generator(
    image_shape,
    latent_size,
    *,
    base_channels=64,
    hidden_units=None,
    num_classes=None,
    seed=0,
):
    """Returns a network from z [B, D] (and classes [B, K]) to images [B, H, W, C].

    Args:
      image_shape: (H, W, C).
      latent_size: D.
      base_channels: of the last convolution but one.
      hidden_units: of a dense layer before the convolutions, or None for none.
      num_classes: K, or None.
      seed: an integer.
    """
    inputs = latent = keras.Input((latent_size,), name="latent")
    if num_classes is not None:
        inputs = [latent, keras.Input((num_classes,), name="classes")]
        latent = keras.layers.Concatenate()(inputs)
    initializers = _initializers(seed, 0)
    if hidden_units is not None:
        latent = keras.layers.Dense(
            hidden_units, use_bias=False, kernel_initializer=next(initializers)
        )(latent)
        latent = _batch_norm_relu(latent)
    outputs = _images(latent, image_shape, base_channels, initializers)
    return keras.Model(inputs, outputs, name="generator")


def dcgan_discriminator(
    image_shape,
    *,
    base_channels=64,
    hidden_units=None,
    normalization="batch",
    num_classes=None,
    num_codes=0,
    minibatch_kernels=0,
    seed=0,
):
    """Returns a network from images [B, H, W, C] (and classes [B, K]) to logits [B, 1].

    Classes are compared with the features by an inner product (Miyato and Koyama 2018,
    arXiv:1802.05637).

    Args:
      image_shape: (H, W, C).
      base_channels: of the first convolution.
      hidden_units: of a dense layer after the convolutions, or None for none.
      normalization: "batch", "layer", which treats each image by itself, "spectral" or
        "none".
      num_classes: K, or None.
      num_codes: how many outputs a second head has, InfoGAN's Q, or 0.
      minibatch_kernels: see `MinibatchDiscrimination`, or 0.
      seed: an integer.

    Raises:
      ValueError: if the normalisation is unknown or the image cannot be halved twice.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"normalization must be one of {', '.join(NORMALIZATIONS)}, got "
            f"{normalization!r}"
        )
    dense = SpectralDense if normalization == "spectral" else keras.layers.Dense
    initializers = _initializers(seed, 1)
    inputs = image = keras.Input(image_shape, name="image")
    features = _features(image, base_channels, normalization, initializers)
    if hidden_units is not None:
        features = dense(hidden_units, kernel_initializer=next(initializers))(features)
        features = _normalized(features, normalization)
        features = keras.layers.LeakyReLU(0.2)(features)
    if minibatch_kernels:
        features = MinibatchDiscrimination(
            minibatch_kernels, kernel_initializer=next(initializers)
        )(features)
    logits = dense(1, kernel_initializer=next(initializers))(features)
    if num_classes is not None:
        classes = keras.Input((num_classes,), name="classes")
        inputs = [image, classes]
        directions = dense(
            features.shape[-1], use_bias=False, kernel_initializer=next(initializers)
        )(classes)
        logits += keras.layers.Dot(axes=1)([directions, features])
    if not num_codes:
        return keras.Model(inputs, logits, name="discriminator")
    hidden = keras.layers.Dense(
        128, use_bias=False, kernel_initializer=next(initializers)
    )(features)
    hidden = keras.layers.LeakyReLU(0.1)(_batch_norm()(hidden))
    codes = keras.layers.Dense(num_codes, kernel_initializer=next(initializers))(hidden)
    return keras.Model(inputs, [logits, codes], name="discriminator")


def began_discriminator(
    image_shape, latent_size, *, base_channels=64, num_classes=None, seed=0
):
    """Returns an autoencoder from images [B, H, W, C] (and classes [B, K]) to images.

    DCGAN's discriminator up to its logits, a code with batch normalisation and ReLU,
    and DCGAN's generator. Classes join the code.

    Args:
      image_shape: (H, W, C).
      latent_size: D, of the code.
      base_channels: of the first and of the last convolution but one.
      num_classes: K, or None.
      seed: an integer.
    """
    initializers = _initializers(seed, 1)
    inputs = image = keras.Input(image_shape, name="image")
    features = _features(image, base_channels, "batch", initializers)
    code = keras.layers.Dense(
        latent_size, use_bias=False, kernel_initializer=next(initializers)
    )(features)
    code = _batch_norm_relu(code)
    if num_classes is not None:
        classes = keras.Input((num_classes,), name="classes")
        inputs = [image, classes]
        code = keras.layers.Concatenate()([code, classes])
    outputs = _images(code, image_shape, base_channels, initializers)
    return keras.Model(inputs, outputs, name="discriminator")


def _features(image, base_channels, normalization, initializers):
    """Returns the features [B, F] of images, of convolutions that halve them."""
    spectral = normalization == "spectral"
    convolution = SpectralConv2D if spectral else keras.layers.Conv2D
    features = image
    widths = _widths(base_channels, _halvings(image.shape[1:]))
    for number, width in enumerate(widths):
        features = convolution(
            width, 4, 2, "same", kernel_initializer=next(initializers)
        )(features)
        if number > 0:
            features = _normalized(features, normalization)
        features = keras.layers.LeakyReLU(0.2)(features)
    return keras.layers.Flatten()(features)


def _images(latent, image_shape, base_channels, initializers):
    """Returns the images [B, H, W, C] that transposed convolutions make of [B, D]."""
    height, width, channels = image_shape
    halvings = _halvings(image_shape)
    widths = _widths(base_channels, halvings)[::-1]
    shape = height >> halvings, width >> halvings, widths[0]
    outputs = keras.layers.Dense(
        math.prod(shape), use_bias=False, kernel_initializer=next(initializers)
    )(latent)
    outputs = _batch_norm_relu(keras.layers.Reshape(shape)(outputs))
    for width in widths[1:]:
        outputs = keras.layers.Conv2DTranspose(
            width,
            4,
            2,
            "same",
            use_bias=False,
            kernel_initializer=next(initializers),
        )(outputs)
        outputs = _batch_norm_relu(outputs)
    outputs = NarrowConv2DTranspose(channels, kernel_initializer=next(initializers))(
        outputs
    )
    return keras.layers.Activation("tanh")(outputs)


def _halvings(image_shape):
    """Returns how often an image is halved: to no less than 4x4, but twice at least."""
    height, width, _ = image_shape
    if height % 4 or width % 4 or not height or not width:
        raise ValueError(
            f"height and width of images must be divisible by 4, got {height}x{width}"
        )
    halvings = 2
    while (
        height % 2 ** (halvings + 1) == 0
        and width % 2 ** (halvings + 1) == 0
        and min(height, width) >> (halvings + 1) >= 4
    ):
        halvings += 1
    return halvings


def _widths(base_channels, halvings):
    """Returns the channels of the convolutions, from the image inwards."""
    return [base_channels * min(2**i, _MAX_WIDENING) for i in range(halvings)]


def _normalized(features, normalization):
    if normalization == "batch":
        return _batch_norm()(features)
    if normalization == "layer":
        # One group: each image by itself, with a scale for each channel.
        return keras.layers.GroupNormalization(1, epsilon=1e-5)(features)
    return features


def _batch_norm():
    # DCGAN's momentum: averaged weights are sampled with statistics not much older.
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)


def _batch_norm_relu(inputs):
    return keras.layers.ReLU()(_batch_norm()(inputs))


def _initializers(*key):
    """Yields DCGAN's initializers."""
    for seed in weight_seeds(*key):
        yield keras.initializers.RandomNormal(stddev=0.02, seed=seed)
