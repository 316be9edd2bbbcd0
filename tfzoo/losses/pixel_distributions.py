"""Distributions of images, given what a decoder says of each channel of each pixel.

Images are float32 [..., H, W, C] from 0 to 1. Where a distribution has K parameters for
a channel, the decoder's outputs are [..., H, W, K C]: all channels of the first, then
all of the second. Log-probabilities are in nats and sum over pixels and channels.
"""

import math

import keras
import tensorflow as tf

# As a scale below this is a point, and one above e^7 is flat on [0, 1].
_MIN_LOG_SCALE, _MAX_LOG_SCALE = -7.0, 7.0


def bernoulli_log_prob(x, logits):
    """Returns x log p + (1 - x) log(1 - p), p = sigmoid(logits), element by element.

    Args:
      x: 0 or 1; a brightness between them is taken as the mean of such.
      logits: of the same shape.
    """
    return -tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits)


def gaussian_log_prob(x, mean, log_stddev):
    """Returns log N(x; mean, stddev^2), element by element."""
    x = tf.convert_to_tensor(x)
    log_stddev = tf.convert_to_tensor(log_stddev, x.dtype)
    scaled = (x - mean) * tf.exp(-log_stddev)
    return -0.5 * tf.square(scaled) - log_stddev - 0.5 * math.log(2.0 * math.pi)


def discretized_logistic_log_prob(x, mean, log_scale, levels=256):
    """Returns the log-probability of the level that x is, element by element.

    The logistic distribution's mass from half a level below x to half a level above, or
    all beyond for the first and the last level (Kingma et al. 2016, arXiv:1606.04934).
    With a and b those ends in units of the scale,

        sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^(b - a)),

    whose logarithm loses nothing to rounding, however small the mass is.

    Args:
      x: one of 0, 1 / (levels - 1), ..., 1.
      mean, log_scale: of the logistic, of the same shape.
      levels: how many brightnesses there are.
    """
    half = 0.5 / (levels - 1)
    inverse_scale = tf.exp(-log_scale)
    above = (x - mean + half) * inverse_scale
    below = (x - mean - half) * inverse_scale
    first, last = tf.math.log_sigmoid(above), tf.math.log_sigmoid(-below)
    inside = first + last + tf.math.log(-tf.math.expm1(-2.0 * half * inverse_scale))
    return tf.where(x < half, first, tf.where(x > 1.0 - half, last, inside))


class PixelDistribution:
    """A distribution of images; see the module.

    Attributes:
      num_parameters: K, the decoder's outputs for a channel.
    """

    num_parameters = 1

    def log_prob(self, outputs, images):
        """Returns log p(image) in nats, [...], of images [..., H, W, C]."""
        raise NotImplementedError

    def mean(self, outputs):
        """Returns the mean image, [..., H, W, C], from 0 to 1."""
        raise NotImplementedError

    def sample(self, outputs, noise):
        """Returns images [..., H, W, C], given uniform noise [0, 1) of their shape."""
        raise NotImplementedError

    def get_config(self):
        """Returns the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config):
        """Makes a distribution from its configuration."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="tfzoo")
class BernoulliPixels(PixelDistribution):
    """Each channel of a pixel is 0 or 1, of probability sigmoid(output)."""

    def log_prob(self, outputs, images):
        """Returns log p(image) in nats, [...]."""
        return _sum(bernoulli_log_prob(images, outputs))

    def mean(self, outputs):
        """Returns the probabilities of 1."""
        return tf.sigmoid(outputs)

    def sample(self, outputs, noise):
        """Returns images of 0 and 1, given uniform noise of their shape."""
        return tf.cast(noise < tf.sigmoid(outputs), tf.float32)


@keras.saving.register_keras_serializable(package="tfzoo")
class GaussianPixels(PixelDistribution):
    """Each channel of a pixel is Gaussian, with a mean of sigmoid(output).

    Args:
      stddev: the standard deviation of all, on the scale of 0 to 1; by default the
        decoder gives its logarithm for each, as a second parameter.

    Raises:
      ValueError: if `stddev` is not positive.
    """

    def __init__(self, stddev=None):
        if stddev is not None and not 0 < stddev < math.inf:
            raise ValueError(f"stddev must be a positive number, got {stddev}")
        self.stddev = stddev
        self.num_parameters = 2 if stddev is None else 1

    def _parameters(self, outputs):
        if self.stddev is not None:
            return tf.sigmoid(outputs), tf.fill([], math.log(self.stddev))
        mean, log_stddev = tf.split(outputs, 2, axis=-1)
        return tf.sigmoid(mean), _limited(log_stddev)

    def log_prob(self, outputs, images):
        """Returns the log-density of the image, [...]."""
        return _sum(gaussian_log_prob(images, *self._parameters(outputs)))

    def mean(self, outputs):
        """Returns the means."""
        return self._parameters(outputs)[0]

    def sample(self, outputs, noise):
        """Returns images, kept from 0 to 1, given uniform noise of their shape."""
        mean, log_stddev = self._parameters(outputs)
        normal = tf.math.ndtri(_inside(noise))
        return tf.clip_by_value(mean + tf.exp(log_stddev) * normal, 0.0, 1.0)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"stddev": self.stddev}


@keras.saving.register_keras_serializable(package="tfzoo")
class DiscretizedLogisticPixels(PixelDistribution):
    """Each channel of a pixel is one of some levels; see
    `discretized_logistic_log_prob`.

    Args:
      levels: how many brightnesses there are, at least 2.

    Raises:
      ValueError: if there are fewer.
    """

    num_parameters = 2

    def __init__(self, levels=256):
        if levels != int(levels) or levels < 2:
            raise ValueError(f"levels must be an integer of at least 2, got {levels}")
        self.levels = int(levels)

    def _parameters(self, outputs):
        mean, log_scale = tf.split(outputs, 2, axis=-1)
        return tf.sigmoid(mean), _limited(log_scale)

    def log_prob(self, outputs, images):
        """Returns log p(image) in nats, [...]."""
        return _sum(
            discretized_logistic_log_prob(
                images, *self._parameters(outputs), self.levels
            )
        )

    def mean(self, outputs):
        """Returns the middles of the logistics.

        They are not the means near 0 and 1, where a tail belongs to the last level.
        """
        return self._parameters(outputs)[0]

    def sample(self, outputs, noise):
        """Returns images of the levels, given uniform noise of their shape."""
        mean, log_scale = self._parameters(outputs)
        noise = _inside(noise)
        logistic = tf.math.log(noise) - tf.math.log1p(-noise)
        drawn = tf.clip_by_value(mean + tf.exp(log_scale) * logistic, 0.0, 1.0)
        return tf.round(drawn * (self.levels - 1)) / (self.levels - 1)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"levels": self.levels}


_BY_NAME = {
    "bernoulli": BernoulliPixels,
    "gaussian": GaussianPixels,
    "discretized_logistic": DiscretizedLogisticPixels,
}


def pixel_distribution(distribution):
    """Returns a `PixelDistribution`, given one or its name.

    Args:
      distribution: a `PixelDistribution`, or "bernoulli", "gaussian" or
        "discretized_logistic".

    Raises:
      ValueError: if it is neither.
    """
    if isinstance(distribution, PixelDistribution):
        return distribution
    if distribution not in _BY_NAME:
        raise ValueError(
            f"distribution must be a PixelDistribution or one of "
            f"{', '.join(_BY_NAME)}, got {distribution!r}"
        )
    return _BY_NAME[distribution]()


def _limited(log_scale):
    return tf.clip_by_value(log_scale, _MIN_LOG_SCALE, _MAX_LOG_SCALE)


def _inside(noise):
    """Returns noise from [0, 1) in (0, 1)."""
    return tf.clip_by_value(noise, 2.0**-25, 1.0 - 2.0**-24)


def _sum(values):
    """Returns the sums over pixels and channels, [...]."""
    return tf.reduce_sum(values, axis=[-3, -2, -1])
