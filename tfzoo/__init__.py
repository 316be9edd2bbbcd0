"""A static-graph TensorFlow/Keras zoo of agents and generative models."""

__version__ = "0.1.0"
