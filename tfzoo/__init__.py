"""tfzoo: a static-graph TensorFlow/Keras zoo of reinforcement learning and generative models."""

__version__ = "0.1.0"
