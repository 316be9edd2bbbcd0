"""Transforms of the gradients of one layer, for `LayerwiseOptimizer`.

A transform gets the gradients of all chosen variables of a layer at once, and returns
what takes their place. It keeps no state itself: what has to last from step to step
stands in slots, variables of the optimizer, so that one transform serves many layers
and checkpoints hold everything.

The pure functions are the mathematics:

  centralize                      g - mean over the inputs of each output
  trust_ratio                     eta |w| / (|g| + lambda |w|)
  newton_schulz_orthogonalize     U S V^T -> about U V^T

A kernel is any variable of two or more dimensions, its last axis the outputs, as in
Dense [inputs, outputs] and Conv2D [height, width, inputs, outputs].
"""

import abc

import keras
import tensorflow as tf

from tfzoo.optimizers.vectors import norm, scale


class LayerTransform(abc.ABC):
    """A function of the gradients of a layer, and the slots that it needs.

    For example, momentum:

      class Momentum(LayerTransform):
          def make_slots(self, variables, add_slot):
              return [add_slot("momentum", v.shape) for v in variables]

          def __call__(self, gradients, variables, slots):
              for slot, gradient in zip(slots, gradients):
                  slot.assign(0.9 * slot.value + gradient)
              return [slot.value for slot in slots]

    Register it with `keras.saving.register_keras_serializable`, and return the
    arguments of the constructor from `get_config`, to have it in `.keras` files.
    """

    def make_slots(self, variables, add_slot):
        """Makes what the transform keeps of one layer, when the optimizer is built.

        Args:
          variables: the variables of the layer.
          add_slot: a function (name, shape, initializer="zeros", dtype=None) that
            returns a new `keras.Variable` of the optimizer; by default of the dtype in
            which the gradients come.

        Returns:
          What `__call__` gets as `slots`, in any form.
        """
        del variables, add_slot

    @abc.abstractmethod
    def __call__(self, gradients, variables, slots):
        """Returns the new gradients; called once a step for each layer.

        Slots are assigned here, outside of `tf.cond` and loops, which may return the
        new values.

        Args:
          gradients: tensors shaped like the variables, all of one dtype: float64 if a
            variable has that, else float32. A variable without gradient has zeros
            here, and is left alone whatever is returned for it.
          variables: the variables of the layer, before the step.
          slots: what `make_slots` returned for this layer.
        """

    def get_config(self):
        """Returns the arguments that the transform was made with."""
        return {}

    @classmethod
    def from_config(cls, config):
        """Makes a transform from its configuration."""
        return cls(**config)


def is_kernel(variable):
    """Returns whether a variable or gradient has inputs and outputs."""
    return len(variable.shape) >= 2


def as_matrix(kernel):
    """Returns a kernel [..., outputs] as a matrix [inputs, outputs]."""
    return tf.reshape(kernel, [-1, kernel.shape[-1]])


def centralize(gradient):
    """Returns a kernel's gradient less its mean over all axes but the last.

    Args:
      gradient: [..., outputs].
    """
    inputs = list(range(len(gradient.shape) - 1))
    return gradient - tf.reduce_mean(gradient, inputs, keepdims=True)


def trust_ratio(weights, gradients, *, trust_coefficient=1.0, weight_decay=0.0):
    """Returns eta |w| / (|g| + lambda |w|), or 1 where |w| or |g| is 0; a scalar.

    Args:
      weights: w, a tensor or a list of tensors.
      gradients: g, the same shapes.
      trust_coefficient: eta.
      weight_decay: lambda, at least 0.
    """
    weights_norm, gradients_norm = norm(weights), norm(gradients)
    ratio = tf.math.divide_no_nan(
        trust_coefficient * weights_norm, gradients_norm + weight_decay * weights_norm
    )
    both = (weights_norm > 0) & (gradients_norm > 0)
    return tf.where(both, ratio, tf.ones_like(ratio))


def newton_schulz_orthogonalize(matrix, iterations=5):
    """Returns about U V^T for a matrix U S V^T.

    The quintic iteration of Jordan et al. 2024, https://kellerjordan.github.io/posts/muon,
    from X = M / |M|, its norm over all elements:

      A = X X^T     X <- a X + (b A + c A A) X     (a, b, c) = (3.4445, -4.7750, 2.0315)

    It keeps U and V as they are. Five iterations bring the singular values of X from
    [0.002, 1] to [0.68, 1.21], and a smaller one to about 480 times its value: the
    coefficients are chosen for that slope at 0, not to converge at 1.

    Args:
      matrix: [..., m, n].
      iterations: at least 1.

    Returns:
      [..., m, n]; zeros for zeros.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[-2] > matrix.shape[-1]
    if tall:  # so that A is the smaller of the two products
        matrix = tf.linalg.matrix_transpose(matrix)
    size = tf.norm(matrix, axis=[-2, -1], keepdims=True)
    x = tf.math.divide_no_nan(matrix, size)
    for _ in range(iterations):
        gram = tf.matmul(x, x, transpose_b=True)
        x = a * x + tf.matmul(b * gram + c * tf.matmul(gram, gram), x)
    return tf.linalg.matrix_transpose(x) if tall else x


@keras.saving.register_keras_serializable(package="tfzoo")
class LayerwiseClipping(LayerTransform):
    """Scales the gradients of a layer down to a norm, kernel and bias together.

    Args:
      max_norm: the largest norm that is left as it is, greater than 0.
    """

    def __init__(self, max_norm):
        if not max_norm > 0:
            raise ValueError(f"max_norm must be greater than 0, got {max_norm}")
        self.max_norm = max_norm

    def __call__(self, gradients, variables, slots):
        """Returns g min(1, max_norm / |g|)."""
        del variables, slots
        factor = self.max_norm / tf.maximum(norm(gradients), self.max_norm)
        return scale(factor, gradients)

    def get_config(self):
        """Returns the arguments that the transform was made with."""
        return {"max_norm": self.max_norm}


@keras.saving.register_keras_serializable(package="tfzoo")
class GradientCentralization(LayerTransform):
    """Takes out of a kernel's gradient the mean over the inputs of each output.

    Yong et al. 2020, arXiv:2004.01461, eq. 1. What is not a kernel is left as it is.
    """

    def __call__(self, gradients, variables, slots):
        """Returns g - mean(g) for kernels."""
        del variables, slots
        return [centralize(g) if is_kernel(g) else g for g in gradients]


@keras.saving.register_keras_serializable(package="tfzoo")
class LARSScaling(LayerTransform):
    """Makes the steps of a layer proportional to the norm of its weights.

    Layer-wise adaptive rate scaling (You et al. 2017, arXiv:1708.03888), algorithm 1:

      eta |w| / (|g| + lambda |w|) (g + lambda w)

    with the norms over all variables of the layer that the rule selects. In the paper
    a kernel and a bias have a ratio each: give each a rule. Momentum is the inner
    optimizer's, `keras.optimizers.SGD(momentum=0.9)`, and so is the learning rate;
    leave weight decay to this transform.

    Args:
      trust_coefficient: eta, greater than 0.
      weight_decay: lambda, at least 0.
    """

    def __init__(self, trust_coefficient=0.001, weight_decay=0.0):
        if not trust_coefficient > 0:
            raise ValueError(
                f"trust_coefficient must be greater than 0, got {trust_coefficient}"
            )
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay must be at least 0, got {weight_decay}")
        self.trust_coefficient = trust_coefficient
        self.weight_decay = weight_decay

    def __call__(self, gradients, variables, slots):
        """Returns the scaled gradients, with weight decay."""
        del slots
        weights = [
            tf.cast(tf.convert_to_tensor(v), g.dtype)
            for v, g in zip(variables, gradients, strict=True)
        ]
        ratio = trust_ratio(weights, gradients, **self.get_config())
        return [
            ratio * (g + self.weight_decay * w)
            for w, g in zip(weights, gradients, strict=True)
        ]

    def get_config(self):
        """Returns the arguments that the transform was made with."""
        return {
            "trust_coefficient": self.trust_coefficient,
            "weight_decay": self.weight_decay,
        }


@keras.saving.register_keras_serializable(package="tfzoo")
class OrthogonalizedMomentum(LayerTransform):
    """Momentum, then the nearest orthogonal matrix: Muon.

    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon, with the scale of
    Liu et al. 2025, arXiv:2502.16982, section 2.2:

      m <- mu m + (1 - mu) g     d = mu m + (1 - mu) g     rms sqrt(max(n, k)) U V^T

    where U S V^T = d is [n, k]. The root mean square of the elements is then `rms`,
    whatever the shape, about that of Adam's steps: Adam's learning rates suit. The
    inner optimizer should be SGD without momentum of its own.

    A convolution's kernel is taken as a matrix [height * width * inputs, outputs]. For
    what is not a kernel, d is returned as it is.

    Args:
      momentum: mu, in [0, 1).
      nesterov: whether d looks ahead as above; otherwise d = m.
      rms: the root mean square of the elements of a kernel's step at learning rate 1,
        greater than 0.
      iterations: of Newton-Schulz, at least 1.
    """

    def __init__(self, momentum=0.95, nesterov=True, rms=0.2, iterations=5):
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        if not rms > 0:
            raise ValueError(f"rms must be greater than 0, got {rms}")
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {iterations}")
        self.momentum = momentum
        self.nesterov = nesterov
        self.rms = rms
        self.iterations = iterations

    def make_slots(self, variables, add_slot):
        """Makes m for each variable."""
        return [add_slot("momentum", v.shape) for v in variables]

    def __call__(self, gradients, variables, slots):
        """Returns orthogonalised directions for kernels, momentum for the rest."""
        del variables
        directions = []
        for gradient, slot in zip(gradients, slots, strict=True):
            direction = self._average(slot.value, gradient)
            slot.assign(direction)
            if self.nesterov:
                direction = self._average(direction, gradient)
            directions.append(direction)
        return [self._orthogonalize(d) if is_kernel(d) else d for d in directions]

    def _average(self, momentum, gradient):
        return self.momentum * momentum + (1.0 - self.momentum) * gradient

    def _orthogonalize(self, kernel):
        matrix = newton_schulz_orthogonalize(as_matrix(kernel), self.iterations)
        return tf.reshape(self.rms * max(matrix.shape) ** 0.5 * matrix, kernel.shape)

    def get_config(self):
        """Returns the arguments that the transform was made with."""
        return {
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "rms": self.rms,
            "iterations": self.iterations,
        }
