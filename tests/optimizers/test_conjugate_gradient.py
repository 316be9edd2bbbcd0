"""Conjugate gradients against SciPy's and against dense solves."""

import numpy as np
import pytest
import scipy.sparse.linalg
import tensorflow as tf

from tfzoo.optimizers.conjugate_gradient import conjugate_gradient
from tfzoo.optimizers.vectors import flatten, unflatten

N = 30


@pytest.fixture(scope="module")
def matrix():
    """Symmetric, positive definite, of condition about 100."""
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(N, N)))
    return (q * np.geomspace(0.1, 10, N)) @ q.T


@pytest.fixture(scope="module")
def b():
    return np.random.default_rng(1).normal(size=N)


def solve(matrix, b, **arguments):
    a = tf.constant(matrix)
    return conjugate_gradient(
        lambda v: tf.linalg.matvec(a, v), tf.constant(b), **arguments
    )


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_each_iterate_is_scipy_s(matrix, b, iterations):
    iterates = []
    scipy.sparse.linalg.cg(
        matrix, b, rtol=0, maxiter=iterations, callback=lambda x: iterates.append(+x)
    )
    result = solve(matrix, b, max_iterations=iterations, tolerance=0)
    np.testing.assert_allclose(result.solution, iterates[-1], rtol=1e-8)
    np.testing.assert_allclose(
        result.residual, b - matrix @ iterates[-1], rtol=1e-6, atol=1e-9
    )
    assert int(result.iterations) == iterations
    assert float(result.curvature) > 0


@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_converged_it_is_the_dense_solution(matrix, b, damping):
    result = solve(matrix, b, damping=damping, max_iterations=200, tolerance=1e-12)
    expected = np.linalg.solve(matrix + damping * np.eye(N), b)
    np.testing.assert_allclose(result.solution, expected, rtol=1e-8)
    # The tolerance ends it long before the bound.
    assert int(result.iterations) < 80


def test_a_list_of_tensors_is_the_flat_vector_in_all_modes(matrix, b):
    a = tf.constant(matrix, tf.float32)
    shapes = [(2, 3), (4,), (20,)]
    like = [tf.zeros(shape) for shape in shapes]
    parts = unflatten(tf.constant(b, tf.float32), like)

    def matvec(v):
        return unflatten(tf.linalg.matvec(a, flatten(v)), like)

    def run(*parts):
        return conjugate_gradient(matvec, list(parts), max_iterations=8, damping=0.1)

    flat = solve(
        matrix.astype(np.float32), b.astype(np.float32), max_iterations=8, damping=0.1
    )
    for mode in (run, tf.function(run), tf.function(run, jit_compile=True)):
        result = mode(*parts)
        assert [tuple(x.shape) for x in result.solution] == shapes
        np.testing.assert_allclose(
            flatten(result.solution), flat.solution, rtol=1e-3, atol=1e-5
        )
        assert int(result.iterations) == int(flat.iterations) == 8


def test_a_warm_start_goes_on_and_a_solution_needs_no_iteration(matrix, b):
    exact = np.linalg.solve(matrix, b)
    near = exact + 1e-3
    cold = solve(matrix, b, max_iterations=5)
    warm = solve(matrix, b, max_iterations=5, x0=tf.constant(near))
    error = [np.linalg.norm(r.solution - exact) for r in (cold, warm)]
    assert error[1] < error[0] / 100
    done = solve(matrix, b, x0=tf.constant(exact), tolerance=1e-9)
    assert int(done.iterations) == 0
    np.testing.assert_array_equal(done.solution, exact)


def test_a_preconditioner_that_is_the_inverse_needs_one_iteration(matrix, b):
    inverse = tf.constant(np.linalg.inv(matrix))
    result = solve(
        matrix,
        b,
        preconditioner=lambda r: tf.linalg.matvec(inverse, r),
        tolerance=1e-8,
    )
    assert int(result.iterations) == 1
    np.testing.assert_allclose(result.solution, np.linalg.solve(matrix, b), rtol=1e-7)


def test_preconditioned_iterates_are_scipy_s(matrix, b):
    diagonal = 1 / np.diag(matrix)
    iterates = []
    scipy.sparse.linalg.cg(
        matrix,
        b,
        rtol=0,
        maxiter=6,
        M=np.diag(diagonal),
        callback=lambda x: iterates.append(+x),
    )
    result = solve(
        matrix, b, max_iterations=6, preconditioner=lambda r: r * diagonal, tolerance=0
    )
    np.testing.assert_allclose(result.solution, iterates[-1], rtol=1e-8)


def test_it_ends_at_negative_curvature_with_what_it_has(matrix, b):
    indefinite = matrix - 0.5 * np.eye(N)
    result = solve(indefinite, b, max_iterations=100)
    assert float(result.curvature) < 0
    assert np.all(np.isfinite(result.solution))
    assert np.dot(b, result.solution) > 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_product_that_is_not_finite_is_reported(b, bad):
    result = conjugate_gradient(lambda v: v * bad, tf.constant(b))
    assert np.isnan(result.curvature)
    np.testing.assert_array_equal(result.solution, np.zeros(N))
    assert int(result.iterations) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_first_product_that_is_not_finite_is_reported_too(b, bad):
    x0 = np.r_[0.0, np.ones(N - 1)]

    def matvec(v):
        # Infinite only where x0 is 0.
        return tf.concat([[bad], v[1:]], axis=0)

    result = conjugate_gradient(matvec, tf.constant(b), x0=tf.constant(x0))
    assert np.isnan(result.curvature)
    assert int(result.iterations) == 0
    np.testing.assert_array_equal(result.solution, x0)


def test_zero_has_the_solution_zero(matrix):
    result = solve(matrix, np.zeros(N))
    np.testing.assert_array_equal(result.solution, np.zeros(N))
    assert int(result.iterations) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"damping": -0.1}, "damping must be at least 0, got -0.1"),
        ({"max_iterations": 0}, "max_iterations must be at least 1, got 0"),
        ({"tolerance": -1.0}, "tolerance must be at least 0, got -1.0"),
    ],
)
def test_bad_input(matrix, b, arguments, message):
    with pytest.raises(ValueError, match=message):
        solve(matrix, b, **arguments)
