"""Generative models: `keras.Model`s whose training step is the algorithm."""

from tfzoo.models.draw import DRAW
from tfzoo.models.generative_model import GenerativeModel
from tfzoo.models.made import MADE
from tfzoo.models.vae import VAE

__all__ = ["DRAW", "MADE", "VAE", "GenerativeModel"]
