"""Shampoo: Kronecker-factored whitening from gradients alone.

Gupta et al. 2018, arXiv:1802.09568, algorithm 1, for a kernel's gradient G [m, n]:

  L <- beta L + (1 - beta) G G^T     R <- beta R + (1 - beta) G^T G
  direction = L^(-1/4) G R^(-1/4)

From Anil et al. 2020, arXiv:2002.09018: decaying averages, roots that are computed
every few steps, damping relative to the largest eigenvalue, blocks for large
dimensions, and grafting: the direction gets the norm of G, so that the learning rate
of the inner optimizer keeps its meaning.

What differs: a convolution's kernel is taken as one matrix [height * width * inputs,
outputs] and not as a tensor of four factors. Of a dimension that is cut into blocks,
L or R is the block diagonal; Anil et al. cut the gradient, with two factors for each
piece, which costs more eigendecompositions.
"""

import math
from typing import NamedTuple

import keras
import tensorflow as tf

from tfzoo.optimizers.layer_transforms import LayerTransform, as_matrix, is_kernel


def inverse_root(matrix, p, damping=0.0):
    """Returns (A + damping lambda_max I)^(-1/p), by eigendecomposition.

    Args:
      matrix: A, symmetric positive semidefinite, [..., n, n].
      p: at least 1.
      damping: relative to the largest eigenvalue of each A; greater than 0 unless A
        is definite.

    Returns:
      [..., n, n]; the identity where A is 0; NaN where A is not finite.
    """
    # Eigendecomposition refuses what is not finite, with an error in place of a loss
    # that shows what happened.
    finite = tf.reduce_all(tf.math.is_finite(matrix), axis=[-2, -1], keepdims=True)
    eigenvalues, vectors = tf.linalg.eigh(tf.where(finite, matrix, 0.0))
    eigenvalues = tf.maximum(eigenvalues, 0.0)  # less by rounding
    largest = tf.reduce_max(eigenvalues, axis=-1, keepdims=True)
    damped = tf.where(largest > 0, eigenvalues + damping * largest, 1.0)
    powers = tf.where(finite[..., 0], damped ** (-1.0 / p), float("nan"))
    return tf.matmul(vectors * powers[..., None, :], vectors, transpose_b=True)


def block_shape(dimension, max_dimension):
    """Returns how many equal blocks of at most `max_dimension`, and their size."""
    blocks = -(-dimension // max_dimension)
    return blocks, -(-dimension // blocks)


def to_row_blocks(matrix, blocks, size):
    """Returns the rows of [m, n] as [blocks, size, n], filled up with zeros."""
    rows, columns = matrix.shape
    matrix = tf.pad(matrix, [[0, blocks * size - rows], [0, 0]])
    return tf.reshape(matrix, [blocks, size, columns])


def apply_to_rows(factor, matrix):
    """Returns F M, for a block diagonal F.

    Args:
      factor: the blocks of F, [blocks, size, size].
      matrix: M, [m, n], with (blocks - 1) size < m <= blocks size.
    """
    rows, columns = matrix.shape
    product = tf.matmul(factor, to_row_blocks(matrix, *factor.shape[:2]))
    return tf.reshape(product, [-1, columns])[:rows]


def graft(direction, gradient):
    """Returns the direction with the norm of the gradient; zero where it is zero."""
    return direction * tf.math.divide_no_nan(tf.norm(gradient), tf.norm(direction))


class KroneckerFactor(NamedTuple):
    """L or R of one kernel, cut into blocks [blocks, size, size]."""

    statistics: keras.Variable
    root: keras.Variable


@keras.saving.register_keras_serializable(package="tfzoo")
class Shampoo(LayerTransform):
    """Whitens the gradients of kernels by Kronecker factors.

    Kernels are variables of two or more dimensions, as in Dense and Conv2D; the rest
    is left as it is. Momentum, if any, is the inner optimizer's:

      sgd = keras.optimizers.SGD(0.1, momentum=0.9)
      optimizer = LayerwiseOptimizer(sgd, {"kernel$": Shampoo()})

    Args:
      decay: beta, in (0, 1); or 1 for sums in place of averages, as in Gupta et al.
      update_every: the roots are computed anew every so many steps, at least 1.
      damping: added to the eigenvalues, relative to the largest one; greater than 0.
        In float32, the small eigenvalues of a large factor are wrong by about 1e-6.
      max_dimension: a larger dimension is cut into equal blocks, at least 1.
      root: 4, as in the paper; 2 whitens entirely what has a Kronecker product as its
        covariance (Morwani et al. 2024, arXiv:2406.17748), and is more sensitive to
        noise.
    """

    def __init__(
        self, decay=0.95, update_every=10, damping=1e-5, max_dimension=1024, root=4
    ):
        if not 0 < decay <= 1:
            raise ValueError(f"decay must be in (0, 1], got {decay}")
        if update_every < 1:
            raise ValueError(f"update_every must be at least 1, got {update_every}")
        if not damping > 0:
            raise ValueError(f"damping must be greater than 0, got {damping}")
        if max_dimension < 1:
            raise ValueError(f"max_dimension must be at least 1, got {max_dimension}")
        if root not in (2, 4):
            raise ValueError(f"root must be 2 or 4, got {root}")
        self.decay = decay
        self.update_every = update_every
        self.damping = damping
        self.max_dimension = max_dimension
        self.root = root

    def make_slots(self, variables, add_slot):
        """Makes the step counter, and (L, R) for each kernel, None for the rest."""

        def make_factor(side, dimension):
            blocks, size = block_shape(dimension, self.max_dimension)
            return KroneckerFactor(
                add_slot(f"{side}_statistics", [blocks, size, size]),
                add_slot(f"{side}_root", [blocks, size, size]),
            )

        def make_factors(variable):
            if not is_kernel(variable):
                return None
            *inputs, outputs = variable.shape
            return make_factor("left", math.prod(inputs)), make_factor("right", outputs)

        step = add_slot("step", [], dtype="int32")
        return step, [make_factors(variable) for variable in variables]

    def __call__(self, gradients, variables, slots):
        """Returns whitened gradients for kernels."""
        del variables
        step, factors = slots
        refresh = tf.equal(step.value % self.update_every, 0)
        step.assign_add(1)
        return [
            gradient if pair is None else self._precondition(gradient, *pair, refresh)
            for gradient, pair in zip(gradients, factors, strict=True)
        ]

    def _precondition(self, gradient, left, right, refresh):
        matrix = as_matrix(gradient)
        left_root = self._update(left, matrix, refresh)
        right_root = self._update(right, tf.transpose(matrix), refresh)
        direction = apply_to_rows(left_root, matrix)
        direction = tf.transpose(apply_to_rows(right_root, tf.transpose(direction)))
        return tf.reshape(graft(direction, matrix), gradient.shape)

    def _update(self, factor, matrix, refresh):
        """Adds M M^T to the statistics of a factor, and returns its inverse root."""
        rows = to_row_blocks(matrix, *factor.root.shape[:2])
        weight = 1.0 if self.decay == 1 else 1.0 - self.decay
        statistics = self.decay * factor.statistics.value
        statistics += weight * tf.matmul(rows, rows, transpose_b=True)
        root = tf.cond(
            refresh,
            lambda: inverse_root(statistics, self.root, self.damping),
            lambda: tf.identity(factor.root.value),
        )
        factor.statistics.assign(statistics)
        factor.root.assign(root)
        return root

    def get_config(self):
        """Returns the arguments that the transform was made with."""
        return {
            "decay": self.decay,
            "update_every": self.update_every,
            "damping": self.damping,
            "max_dimension": self.max_dimension,
            "root": self.root,
        }
