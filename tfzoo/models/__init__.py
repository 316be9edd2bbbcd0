"""Generative models: `keras.Model`s whose training step is the algorithm."""

from tfzoo.models.began import BEGAN
from tfzoo.models.draw import DRAW
from tfzoo.models.gan import GAN
from tfzoo.models.gan_networks import GAN_TYPES, gan_optimizers, make_gan
from tfzoo.models.generative_model import GenerativeModel
from tfzoo.models.infogan import InfoGAN
from tfzoo.models.made import MADE
from tfzoo.models.vae import VAE
from tfzoo.models.vae_gan import VAEGAN

__all__ = [
    "BEGAN",
    "DRAW",
    "GAN",
    "GAN_TYPES",
    "MADE",
    "VAE",
    "VAEGAN",
    "GenerativeModel",
    "InfoGAN",
    "gan_optimizers",
    "make_gan",
]
