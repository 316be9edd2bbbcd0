"""Keras layers that the field needs and Keras lacks."""

from tfzoo.layers.diagonal_gaussian_head import DiagonalGaussianHead
from tfzoo.layers.masked_dense import MaskedDense
from tfzoo.layers.noisy_dense import NoisyDense
from tfzoo.layers.running_normalization import RunningNormalization

__all__ = ["DiagonalGaussianHead", "MaskedDense", "NoisyDense", "RunningNormalization"]
