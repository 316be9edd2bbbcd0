"""What generative adversarial networks minimise.

A discriminator has logits D(x); `real` is 1 for an image from the data and 0 for a fake
one. Over both kinds it minimises the mean of

    non-saturating:  -real log s(D) - (1 - real) log(1 - s(D)),  s the logistic function
                     (Goodfellow et al. 2014, arXiv:1406.2661)
    least squares:   1/2 (D - real)^2  (Mao et al. 2016, arXiv:1611.04076)
    Wasserstein:     (1 - 2 real) D  (Arjovsky et al. 2017, arXiv:1701.07875)
    hinge:           max(0, 1 + (1 - 2 real) D)  (Lim and Ye 2017, arXiv:1705.02894)

and the generator the same of its images, as if they were real; with the hinge it
minimises -D, as with Wasserstein. Means over real and over fake images are added up.

A critic of the Wasserstein distance must be Lipschitz: by clipping its weights, or by
`gradient_penalty` (Gulrajani et al. 2017, arXiv:1704.00028). The functions at the end
are the parts of BEGAN (Berthelot et al. 2017, arXiv:1703.10717) and of InfoGAN (Chen et
al. 2016, arXiv:1606.03657).
"""

import math
from typing import NamedTuple

import keras
import tensorflow as tf

# Below the square root of a gradient's squared norm, whose derivative is infinite at 0.
_SMALLEST_SQUARE = 1e-12


def non_saturating_loss(real, logits):
    """Returns the cross-entropy of `real` and s(logits) in nats, element by element."""
    return real * tf.nn.softplus(-logits) + (1.0 - real) * tf.nn.softplus(logits)


def least_squares_loss(real, logits):
    """Returns half the squared distance of logits and `real`, element by element."""
    return 0.5 * tf.square(logits - real)


def wasserstein_loss(real, logits):
    """Returns -logits where real, and logits where fake, element by element."""
    return (1.0 - 2.0 * real) * logits


def hinge_loss(real, logits):
    """Returns how far logits are on the wrong side of the margin, by elements."""
    return real * tf.nn.relu(1.0 - logits) + (1.0 - real) * tf.nn.relu(1.0 + logits)


class AdversarialLoss(keras.losses.Loss):
    """The loss of one player.

    `y_true` is 1 where an image is real, or shall seem so, and 0 where it is fake, [B]
    or [B, 1]; numbers between, such as 0.9 for real (Salimans et al. 2016,
    arXiv:1606.03498, section 3.4), weigh the two. `y_pred` is logits [B, ...], of which
    the mean over all but the batch is taken.
    """

    def of_logits(self, real, logits):
        """Returns the loss of each logit.

        Args:
          real: [B, 1].
          logits: [B, N].
        """
        raise NotImplementedError

    def call(self, y_true, y_pred):
        """Returns the loss, [B]."""
        logits = tf.reshape(y_pred, [tf.shape(y_pred)[0], -1])
        real = tf.reshape(tf.cast(y_true, logits.dtype), [-1, 1])
        return tf.reduce_mean(self.of_logits(real, logits), axis=-1)


@keras.saving.register_keras_serializable(package="tfzoo")
class NonSaturatingGANLoss(AdversarialLoss):
    """See `non_saturating_loss`."""

    def of_logits(self, real, logits):
        """Returns the cross-entropy, [B, N]."""
        return non_saturating_loss(real, logits)


@keras.saving.register_keras_serializable(package="tfzoo")
class LeastSquaresGANLoss(AdversarialLoss):
    """See `least_squares_loss`."""

    def of_logits(self, real, logits):
        """Returns half the squared error, [B, N]."""
        return least_squares_loss(real, logits)


@keras.saving.register_keras_serializable(package="tfzoo")
class WassersteinGANLoss(AdversarialLoss):
    """See `wasserstein_loss`."""

    def of_logits(self, real, logits):
        """Returns the logits with their sign, [B, N]."""
        return wasserstein_loss(real, logits)


@keras.saving.register_keras_serializable(package="tfzoo")
class HingeGANLoss(AdversarialLoss):
    """See `hinge_loss`; of the discriminator, as the generator's has no margin."""

    def of_logits(self, real, logits):
        """Returns the hinge loss, [B, N]."""
        return hinge_loss(real, logits)


class AdversarialLosses(NamedTuple):
    """What the two players minimise.

    Attributes:
      discriminator: an `AdversarialLoss` of real and of fake images.
      generator: an `AdversarialLoss` of fake images, called with 1: they shall seem
        real.
    """

    discriminator: AdversarialLoss
    generator: AdversarialLoss


_LOSSES = {
    "non_saturating": (NonSaturatingGANLoss, NonSaturatingGANLoss),
    "least_squares": (LeastSquaresGANLoss, LeastSquaresGANLoss),
    "wasserstein": (WassersteinGANLoss, WassersteinGANLoss),
    "hinge": (HingeGANLoss, WassersteinGANLoss),
}


def adversarial_losses(name):
    """Returns the `AdversarialLosses` of a name.

    Args:
      name: "non_saturating", "least_squares", "wasserstein" or "hinge"; or
        `AdversarialLosses`, which are returned as they are.

    Raises:
      ValueError: if there are none of that name.
    """
    if isinstance(name, AdversarialLosses):
        return name
    if name not in _LOSSES:
        raise ValueError(
            f"loss must be AdversarialLosses or one of {', '.join(_LOSSES)}, got "
            f"{name!r}"
        )
    return AdversarialLosses(*(make() for make in _LOSSES[name]))


def gradient_penalty(critic, real, fake, epsilon):
    """Returns (||dD/dx|| - 1)^2, [B], at a point between each real and fake image.

      x = epsilon real + (1 - epsilon) fake,    epsilon uniform in [0, 1)

    One epsilon for a whole image, and the norm over all numbers of an image. It has a
    gradient with respect to the critic's weights, also where dD/dx is 0.

    Args:
      critic: a function of images [B, ...] to logits [B, 1] which treats each image by
        itself: with batch normalisation dD/dx is not the gradient of one image.
      real, fake: images [B, ...].
      epsilon: [B].
    """
    epsilon = tf.reshape(epsilon, [-1] + [1] * (len(real.shape) - 1))
    points = epsilon * real + (1.0 - epsilon) * fake
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(points)
        # The sum over the batch has for each image the gradient of its own logit.
        total = tf.reduce_sum(critic(points))
    gradient = tf.cast(tape.gradient(total, points), tf.float32)
    square = tf.reduce_sum(tf.square(gradient), axis=list(range(1, len(real.shape))))
    return tf.square(tf.sqrt(square + _SMALLEST_SQUARE) - 1.0)


def equilibrium_weight(k, real_error, fake_error, *, gamma=0.5, rate=0.001):
    """Returns BEGAN's next k_t, the weight of fake images in its critic's loss.

      k_t+1 = k_t + lambda_k (gamma L(x) - L(G(z))), clipped to [0, 1]

    Args:
      k: k_t, a scalar.
      real_error, fake_error: L(x) and L(G(z)), scalars: how badly the autoencoder
        rebuilds real and fake images.
      gamma: the ratio of the errors that is held; smaller for sharper images that are
        less diverse.
      rate: lambda_k.
    """
    return tf.clip_by_value(k + rate * (gamma * real_error - fake_error), 0.0, 1.0)


def convergence_measure(real_error, fake_error, *, gamma=0.5):
    """Returns BEGAN's M = L(x) + |gamma L(x) - L(G(z))|; see `equilibrium_weight`."""
    return real_error + tf.abs(gamma * real_error - fake_error)


def categorical_information(logits, codes):
    """Returns log Q(c|x) + H(c) in nats, [B], at most log K.

    Its mean is a lower bound on the mutual information of a uniform categorical code c
    and an image, and minus the cross-entropy but for the constant log K.

    Args:
      logits: of Q(c|x), [B, K].
      codes: c, one-hot, [B, K].
    """
    log_prob = tf.reduce_sum(codes * tf.nn.log_softmax(logits), axis=-1)
    return log_prob + math.log(logits.shape[-1])


def continuous_information(mean, codes):
    """Returns log Q(c|x) + H(c) in nats, [B], with Q(c|x) = N(mean, I).

    Its mean is a lower bound on the mutual information of codes that are uniform in
    [-1, 1] and an image. As the standard deviation is fixed, it is half the squared
    error but for a constant, and never above D (log 2 - log(2 pi) / 2) = -0.23 D.

    Args:
      mean: [B, D].
      codes: c, [B, D].
    """
    log_prob = -0.5 * (tf.square(codes - mean) + math.log(2.0 * math.pi))
    return tf.reduce_sum(log_prob + math.log(2.0), axis=-1)
