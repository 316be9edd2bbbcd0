"""Conjugate gradients (Hestenes and Stiefel 1952, doi:10.6028/jres.049.044).

Solves (A + damping I) x = b for a symmetric positive definite A that is known only by
its products with vectors. With a preconditioner M^-1 close to A^-1, in each iteration

  alpha = (r . z) / (p . A p)     x <- x + alpha p     r <- r - alpha A p
  z = M^-1 r     beta = (r' . z') / (r . z)     p <- z' + beta p
"""

from typing import Any, NamedTuple

import tensorflow as tf

from tfzoo.optimizers.vectors import add_scaled, inner_product, norm, select, zeros_like


class ConjugateGradientResult(NamedTuple):
    """What was found.

    Attributes:
      solution: x, a vector like b.
      residual: b - (A + damping I) x, a vector like b, as the recurrence has it.
      iterations: int32 scalar, products with A, less the one that `x0` takes.
      curvature: scalar, p . (A + damping I) p of the last iteration: positive where
        all is well, else what ended the iteration; NaN if a product was not finite,
        that of `x0` included.
    """

    solution: Any
    residual: Any
    iterations: tf.Tensor
    curvature: tf.Tensor


def conjugate_gradient(
    matvec,
    b,
    *,
    x0=None,
    damping=0.0,
    preconditioner=None,
    max_iterations=10,
    tolerance=1e-10,
):
    """Solves (A + damping I) x = b.

      result = conjugate_gradient(fisher_product(...), gradients, damping=1e-3)

    The best x so far is returned where the iteration meets a direction in which A is
    not positive, or a product that is not finite: it ends there.

    Args:
      matvec: a function of a vector v that returns A v.
      b: a tensor, or a list of tensors shaped like the weights.
      x0: where to start from, a vector like b; zero by default.
      damping: a number or scalar tensor, at least 0, added to the diagonal of A.
      preconditioner: a function of a vector r that returns M^-1 r, for a symmetric
        positive definite M; the identity by default.
      max_iterations: the bound on the iterations.
      tolerance: the end is at |residual| <= tolerance * |b|.

    Returns:
      ConjugateGradientResult

    Raises:
      ValueError: if a number is out of range.
    """
    if isinstance(damping, (int, float)) and not damping >= 0:
        raise ValueError(f"damping must be at least 0, got {damping}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0, got {tolerance}")
    b = tf.nest.map_structure(tf.convert_to_tensor, b)

    def like_b(v):
        return tf.nest.pack_sequence_as(b, tf.nest.flatten(v))

    def precondition(r):
        return r if preconditioner is None else like_b(preconditioner(r))

    def damped_matvec(v):
        return add_scaled(like_b(matvec(v)), damping, v)

    x, residual, start = zeros_like(b), b, 1.0
    if x0 is not None:
        x = like_b(tf.nest.map_structure(tf.convert_to_tensor, x0))
        product = damped_matvec(x)
        residual = add_scaled(b, -1.0, product)
        is_finite = tf.math.is_finite(inner_product(x, product))
        start = tf.where(is_finite, 1.0, float("nan"))
    z = precondition(residual)
    target = tolerance * norm(b)

    def unfinished(iterations, curvature, x, residual, p, rz):
        del iterations, x, p
        return (curvature > 0) & (norm(residual) > target) & (rz > 0)

    def iterate(iterations, curvature, x, residual, p, rz):
        ap = damped_matvec(p)
        curvature = inner_product(p, ap)
        usable = (curvature > 0) & tf.math.is_finite(curvature)
        alpha = rz / tf.where(usable, curvature, 1.0)
        new_residual = add_scaled(residual, -alpha, ap)
        z = precondition(new_residual)
        new_rz = inner_product(new_residual, z)
        return (
            iterations + 1,
            tf.where(tf.math.is_inf(curvature), float("nan"), curvature),
            select(usable, add_scaled(x, alpha, p), x),
            select(usable, new_residual, residual),
            add_scaled(z, new_rz / rz, p),
            new_rz,
        )

    rz = inner_product(residual, z)
    iterations, curvature, x, residual, _, _ = tf.while_loop(
        unfinished,
        iterate,
        (0, tf.cast(start, rz.dtype), x, residual, z, rz),
        maximum_iterations=max_iterations,
    )
    return ConjugateGradientResult(x, residual, iterations, curvature)
