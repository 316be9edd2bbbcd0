"""Generative models: `keras.Model`s whose training step is the algorithm."""

from tfzoo.models.generative_model import GenerativeModel
from tfzoo.models.vae import VAE

__all__ = ["VAE", "GenerativeModel"]
