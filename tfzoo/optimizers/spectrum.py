"""The spectrum of a symmetric matrix that is known only by its products with vectors.

With a start q_1 of norm 1, Lanczos' iteration (1950, doi:10.6028/jres.045.026) builds
an orthonormal basis Q, a row q_j a step, in which the matrix A is tridiagonal:

  w = A q_j        alpha_j = q_j . w        w <- w - Q^T Q w
  beta_j = |w|     q_{j+1} = w / beta_j     T = tridiagonal(beta, alpha, beta)

The eigenvalues of T approach those of A, from the ends of the spectrum inwards; with
the squared first components of T's eigenvectors as weights they are a quadrature for
the whole spectrum. Trace and diagonal are means over random signs z, for which
E[z z^T] = I: those of z . A z and of z * A z.

A is anything with a `matvec`, such as the functions of `curvature_products` return. All
functions work on flat vectors within, of the floating-point type of the weights, and
run eagerly, in a `tf.function` and through XLA, on the same random numbers.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfzoo.optimizers.vectors import flatten, inner_product, norm, unflatten

# How far the grid of a density reaches beyond the spectrum, in standard deviations.
_MARGIN = 5.0


class Tridiagonalization(NamedTuple):
    """Q A Q^T = T for k steps on a matrix of n rows.

    Attributes:
      diagonal: [k], the alpha.
      off_diagonal: [k - 1], the beta: at least 0.
      basis: [k, n], Q: orthonormal rows.
    """

    diagonal: tf.Tensor
    off_diagonal: tf.Tensor
    basis: tf.Tensor


class TopEigenvalues(NamedTuple):
    """The eigenvalues that are largest in magnitude, in descending order of value.

    Attributes:
      eigenvalues: [count].
      eigenvectors: a list of `count` vectors of norm 1, each shaped like the weights;
        the signs mean nothing.
      residuals: [count], |A v - eigenvalue v|: some eigenvalue of A is at most that far
        away. Those that are not small have not converged: take more steps.
    """

    eigenvalues: tf.Tensor
    eigenvectors: list
    residuals: tf.Tensor


class SpectralDensity(NamedTuple):
    """How many eigenvalues are where, as a density that integrates to 1.

    Attributes:
      eigenvalues: [num_points], an even grid that covers the spectrum.
      density: [num_points], of the eigenvalues, smoothed by a Gaussian.
      nodes: [num_probes, num_steps], the eigenvalues of each T.
      weights: [num_probes, num_steps], what share of the spectrum is there; the sum
        over a probe is 1. The mean over probes of sum(weights * f(nodes)) estimates
        the mean of f over the spectrum, without any smoothing.
    """

    eigenvalues: tf.Tensor
    density: tf.Tensor
    nodes: tf.Tensor
    weights: tf.Tensor


class Estimate(NamedTuple):
    """A mean over random samples.

    Attributes:
      mean: what is estimated.
      standard_error: of the mean, in the same shapes.
    """

    mean: Any
    standard_error: Any


def lanczos(matvec, like, num_steps, seed):
    """Makes a symmetric matrix tridiagonal, with full reorthogonalisation.

    Where the vectors found so far span a subspace that A does not leave, the iteration
    goes on in a random direction beside it, with beta = 0. So there are always k
    orthonormal vectors, and n steps find every eigenvalue as often as A has it.

    Args:
      matvec: a function of a vector v that returns A v.
      like: a vector of n elements, such as the weights; it gives the shapes.
      num_steps: k, from 1 to n. It takes k products and memory for k * n numbers.
      seed: int32 [2], of the start.

    Returns:
      Tridiagonalization

    Raises:
      ValueError: if `num_steps` is out of range or `like` is not of floats.
    """
    product, _, zeros = _flat_product(matvec, like)
    size, dtype = zeros.shape[0], zeros.dtype
    if not 1 <= num_steps <= size:
        raise ValueError(
            f"num_steps must be from 1 to the number of weights {size}, got {num_steps}"
        )
    seeds = _split(seed, num_steps + 1)

    def orthogonalize(w, basis):
        # Once leaves rounding errors of the size of w, which may be large beside what
        # remains of it; twice is enough (Parlett 1998, "The Symmetric Eigenvalue
        # Problem", section 6.9).
        for _ in range(2):
            w -= tf.linalg.matvec(basis, tf.linalg.matvec(basis, w), transpose_a=True)
        return w

    def step(j, q, size_of_a, diagonal, off_diagonal, basis):
        basis = tf.tensor_scatter_nd_update(basis, [[j]], [q])
        w = product(q)
        size_of_a = tf.maximum(size_of_a, norm(w))
        alpha = inner_product(q, w)
        w = orthogonalize(w, basis)
        beta = norm(w)
        # Products have rounding errors of this size, in whatever direction.
        exhausted = beta <= 10.0 * np.finfo(dtype.as_numpy_dtype).eps * size_of_a
        w = tf.cond(
            exhausted,
            lambda: orthogonalize(gaussian_vector(w, seeds[j + 1]), basis),
            lambda: w,
        )
        # After n steps nothing is left to go on with, and nothing is needed.
        q = tf.math.divide_no_nan(w, norm(w))
        beta = tf.where(exhausted, tf.zeros_like(beta), beta)
        diagonal = tf.tensor_scatter_nd_update(diagonal, [[j]], [alpha])
        off_diagonal = tf.tensor_scatter_nd_update(off_diagonal, [[j]], [beta])
        return j + 1, q, size_of_a, diagonal, off_diagonal, basis

    start = gaussian_vector(zeros, seeds[0])
    _, _, _, diagonal, off_diagonal, basis = tf.while_loop(
        lambda j, *_: j < num_steps,
        step,
        (
            0,
            start / norm(start),
            tf.zeros([], dtype),
            tf.zeros([num_steps], dtype),
            tf.zeros([num_steps], dtype),
            tf.zeros([num_steps, size], dtype),
        ),
        maximum_iterations=num_steps,
    )
    return Tridiagonalization(diagonal, off_diagonal[:-1], basis)


def top_eigenvalues(matvec, like, count=5, *, num_steps, seed):
    """Finds the eigenvalues that are largest in magnitude, and their eigenvectors.

      top = top_eigenvalues(
          hessian_product(loss_function, model.trainable_variables),
          model.trainable_variables,
          num_steps=40,
          seed=[0, 1],
      )

    Args:
      matvec: a function of a vector v that returns A v.
      like: a vector of n elements, such as the weights; it gives the shapes.
      count: how many, from 1 to `num_steps`.
      num_steps: of `lanczos`, at most n. It takes num_steps + count products.
      seed: int32 [2].

    Returns:
      TopEigenvalues

    Raises:
      ValueError: if a number is out of range or `like` is not of floats.
    """
    if not 1 <= count <= num_steps:
        raise ValueError(
            f"count must be from 1 to num_steps, got count {count} and num_steps "
            f"{num_steps}"
        )
    product, like, zeros = _flat_product(matvec, like)
    tridiagonal = lanczos(matvec, like, num_steps, seed)
    values, coefficients = _eigh(tridiagonal)
    _, largest = tf.math.top_k(tf.abs(values), count)
    chosen = tf.sort(largest, direction="DESCENDING")

    def ritz_vector(index):
        # A sum, as a product of float32 matrices may have only ten bits on a GPU.
        v = tf.reduce_sum(
            coefficients[:, index, tf.newaxis] * tridiagonal.basis, axis=0
        )
        v /= norm(v)
        return v, norm(product(v) - values[index] * v)

    vectors, residuals = tf.map_fn(
        ritz_vector,
        chosen,
        fn_output_signature=(
            tf.TensorSpec(zeros.shape, zeros.dtype),
            tf.TensorSpec([], zeros.dtype),
        ),
    )
    eigenvectors = [unflatten(v, like) for v in tf.unstack(vectors, count)]
    return TopEigenvalues(tf.gather(values, chosen), eigenvectors, residuals)


def spectral_density(
    matvec, like, *, num_steps, num_probes, seed, num_points=1000, width=0.01
):
    """Estimates the density of all eigenvalues by stochastic Lanczos quadrature.

    Each of several random starts gives a quadrature, the eigenvalues of its T and their
    weights; their average is smoothed by a Gaussian (Ghorbani, Krishnan and Xiao 2019,
    arXiv:1901.10159).

    Args:
      matvec: a function of a vector v that returns A v.
      like: a vector of n elements, such as the weights; it gives the shapes.
      num_steps: of `lanczos`, at most n.
      num_probes: how many starts. It takes num_probes * num_steps products.
      seed: int32 [2].
      num_points: of the grid.
      width: the standard deviation of the Gaussian, as a share of the largest
        eigenvalue's magnitude.

    Returns:
      SpectralDensity

    Raises:
      ValueError: if a number is out of range, the grid is too coarse for `width`, or
        `like` is not of floats.
    """
    if num_probes < 1:
        raise ValueError(f"num_probes must be at least 1, got {num_probes}")
    if not width > 0:
        raise ValueError(f"width must be greater than 0, got {width}")
    # The widest spectrum reaches from -1 to 1 times the largest magnitude.
    fewest = math.ceil((2.0 + 2.0 * _MARGIN * width) / width) + 1
    if num_points < fewest:
        raise ValueError(
            f"num_points must be at least {fewest} for width {width}, got {num_points}"
        )

    def quadrature(probe_seed):
        nodes, vectors = _eigh(lanczos(matvec, like, num_steps, probe_seed))
        return nodes, vectors[0] ** 2

    _, _, zeros = _flat_product(matvec, like)
    spec = tf.TensorSpec([num_steps], zeros.dtype)
    nodes, weights = tf.map_fn(
        quadrature, _split(seed, num_probes), fn_output_signature=(spec, spec)
    )
    largest = tf.reduce_max(tf.abs(nodes))
    deviation = width * tf.where(largest > 0, largest, tf.ones_like(largest))
    lowest = tf.reduce_min(nodes) - _MARGIN * deviation
    highest = tf.reduce_max(nodes) + _MARGIN * deviation
    steps = tf.range(num_points, dtype=nodes.dtype) / (num_points - 1)
    grid = lowest + (highest - lowest) * steps
    distance = (grid[:, tf.newaxis, tf.newaxis] - nodes) / deviation
    heights = tf.reduce_sum(weights * tf.exp(-0.5 * distance**2), axis=[1, 2])
    density = heights / (num_probes * math.sqrt(2.0 * math.pi) * deviation)
    return SpectralDensity(grid, density, nodes, weights)


def hutchinson_trace(matvec, like, num_samples, seed):
    """Estimates the trace, the mean of z . A z over random signs z.

    The variance of a sample is twice the sum of the squares off the diagonal: a
    diagonal matrix takes one sample (Hutchinson 1990,
    doi:10.1080/03610919008812866).

    Args:
      matvec: a function of a vector v that returns A v.
      like: a vector of n elements, such as the weights; it gives the shapes.
      num_samples: at least 2. It takes as many products.
      seed: int32 [2].

    Returns:
      Estimate of two scalars.

    Raises:
      ValueError: if `num_samples` is out of range or `like` is not of floats.
    """
    product, _, zeros = _flat_product(matvec, like)

    def sample(sample_seed):
        z = rademacher_vector(zeros, sample_seed)
        return inner_product(z, product(z))

    return _average(sample, tf.zeros([], zeros.dtype), num_samples, seed)


def hutchinson_diagonal(matvec, like, num_samples, seed):
    """Estimates the diagonal, the mean of z * A z over random signs z.

    The variance of a sample is, in each row, the sum of the squares off the diagonal
    (Bekas, Kokiopoulou and Saad 2007, doi:10.1016/j.apnum.2007.01.003).

    Args:
      matvec, like, num_samples, seed: see `hutchinson_trace`.

    Returns:
      Estimate of two vectors shaped like the weights.

    Raises:
      ValueError: if `num_samples` is out of range or `like` is not of floats.
    """
    product, like, zeros = _flat_product(matvec, like)

    def sample(sample_seed):
        z = rademacher_vector(zeros, sample_seed)
        return z * product(z)

    mean, standard_error = _average(sample, zeros, num_samples, seed)
    return Estimate(unflatten(mean, like), unflatten(standard_error, like))


def rademacher_vector(like, seed):
    """Returns random signs, -1 or 1, as a vector like `like`.

    Args:
      like: a vector of floats.
      seed: int32 [2].
    """
    size = flatten(like).shape[0]
    signs = 1.0 - 2.0 * tf.cast(_bits([size], seed) & 1, tf.float32)
    return unflatten(tf.cast(signs, tf.nest.flatten(like)[0].dtype), like)


def gaussian_vector(like, seed):
    """Returns standard normal numbers as a vector like `like`.

    Args:
      like: a vector of floats.
      seed: int32 [2].
    """
    size = flatten(like).shape[0]
    # Box and Muller (1958), on 24 bits, which a float32 holds exactly.
    integers = tf.bitwise.right_shift(_bits([2, size], seed), tf.constant(8, tf.uint32))
    uniform = tf.cast(integers, tf.float32) * 2.0**-24
    radius = tf.sqrt(-2.0 * tf.math.log(1.0 - uniform[0]))
    normal = radius * tf.cos(2.0 * math.pi * uniform[1])
    return unflatten(tf.cast(normal, tf.nest.flatten(like)[0].dtype), like)


def _flat_product(matvec, like):
    """Returns `matvec` on flat vectors [n], `like` as tensors, and zeros [n]."""
    like = tf.nest.map_structure(tf.convert_to_tensor, like)
    dtypes = {tensor.dtype for tensor in tf.nest.flatten(like)}
    if len(dtypes) != 1 or not next(iter(dtypes)).is_floating:
        names = ", ".join(sorted(dtype.name for dtype in dtypes))
        raise ValueError(f"like must be floats of one type, got {names or 'nothing'}")

    def product(v):
        return flatten(matvec(unflatten(v, like)))

    return product, like, tf.zeros_like(flatten(like))


def _eigh(tridiagonal):
    """Returns the eigenvalues [k], ascending, and eigenvectors [k, k] of T."""
    matrix = tf.linalg.diag(tridiagonal.diagonal)
    if tridiagonal.off_diagonal.shape[0]:
        matrix += tf.linalg.diag(tridiagonal.off_diagonal, k=1)
        matrix += tf.linalg.diag(tridiagonal.off_diagonal, k=-1)
    values, vectors = tf.linalg.eigh(matrix)
    # Of the two signs, the one that agrees with the start.
    return values, vectors * tf.cast(tf.where(vectors[0] < 0, -1, 1), values.dtype)


def _average(sample, zeros, num_samples, seed):
    """Returns the Estimate from samples shaped like `zeros`."""
    if num_samples < 2:
        raise ValueError(f"num_samples must be at least 2, got {num_samples}")
    seeds = _split(seed, num_samples)

    def add(i, mean, squares):
        # Welford (1962): the sum of squares about the mean, without cancellation.
        x = sample(seeds[i])
        delta = x - mean
        mean += delta / tf.cast(i + 1, zeros.dtype)
        return i + 1, mean, squares + delta * (x - mean)

    _, mean, squares = tf.while_loop(
        lambda i, *_: i < num_samples,
        add,
        (0, zeros, zeros),
        maximum_iterations=num_samples,
    )
    return Estimate(mean, tf.sqrt(squares / (num_samples * (num_samples - 1))))


def _bits(shape, seed):
    """Returns uniform uint32 numbers: unlike floats, they are the same through XLA."""
    return tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )


def _split(seed, num):
    """Returns new seeds, int32 [num, 2]."""
    return tf.bitcast(_bits([num, 2], seed), tf.int32)
