"""Keras layers that the field needs and Keras lacks."""

from tfzoo.layers.diagonal_gaussian_head import DiagonalGaussianHead
from tfzoo.layers.masked_dense import MaskedDense
from tfzoo.layers.minibatch_discrimination import MinibatchDiscrimination
from tfzoo.layers.narrow_conv_transpose import NarrowConv2DTranspose
from tfzoo.layers.narrow_dense import NarrowDense
from tfzoo.layers.noisy_dense import NoisyDense
from tfzoo.layers.running_normalization import RunningNormalization
from tfzoo.layers.spectral_normalization import SpectralConv2D, SpectralDense

__all__ = [
    "DiagonalGaussianHead",
    "MaskedDense",
    "MinibatchDiscrimination",
    "NarrowConv2DTranspose",
    "NarrowDense",
    "NoisyDense",
    "RunningNormalization",
    "SpectralConv2D",
    "SpectralDense",
]
