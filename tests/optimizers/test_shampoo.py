"""Shampoo against closed forms, and against its algorithm in NumPy."""

import keras
import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf

from tfzoo.optimizers.shampoo import (
    Shampoo,
    apply_to_rows,
    block_shape,
    graft,
    inverse_root,
)

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.normal(size=shape).astype("float32")


def draw_definite(n, condition=10.0):
    """A symmetric matrix with eigenvalues from 1 to `condition`."""
    q, _ = np.linalg.qr(RNG.normal(size=(n, n)))
    return (q * np.geomspace(1.0, condition, n)) @ q.T


def numpy_root(matrix, p, damping=0.0):
    eigenvalues, vectors = np.linalg.eigh(matrix.astype("float64"))
    damped = np.maximum(eigenvalues, 0) + damping * eigenvalues.max()
    return (vectors * damped ** (-1 / p)) @ vectors.T


class Layer:
    """One layer under a transform, without an optimizer."""

    def __init__(self, transform, *shapes, dtype="float32"):
        self.transform = transform
        self.weights = [tf.Variable(tf.zeros(shape, dtype)) for shape in shapes]
        self.slots = transform.make_slots(self.weights, self.add_slot)
        self.dtype = dtype

    def add_slot(self, name, shape, initializer="zeros", dtype=None):
        return keras.Variable(
            shape=shape, initializer=initializer, dtype=dtype or self.weights[0].dtype
        )

    def __call__(self, *gradients):
        gradients = [tf.convert_to_tensor(g, self.dtype) for g in gradients]
        return [g.numpy() for g in self.transform(gradients, self.weights, self.slots)]


def same_direction(a, b, atol):
    """Asserts that a and b differ by a positive factor only."""
    np.testing.assert_allclose(a / np.linalg.norm(a), b / np.linalg.norm(b), atol=atol)


@pytest.mark.parametrize("p", [1, 2, 4])
def test_inverse_root_of_a_definite_matrix(p):
    matrix = draw_definite(6)
    expected = scipy.linalg.fractional_matrix_power(matrix, -1 / p)
    root = inverse_root(tf.constant(matrix), p)
    assert root.dtype == tf.float64
    np.testing.assert_allclose(root, expected, atol=1e-10)
    single = inverse_root(tf.constant(matrix, tf.float32), p)
    np.testing.assert_allclose(single, expected, atol=1e-5)


def test_damping_is_relative_to_the_largest_eigenvalue():
    x = RNG.normal(size=(5, 3))
    matrix = x @ x.T  # of rank 3
    damped = matrix + 0.01 * np.linalg.eigvalsh(matrix).max() * np.eye(5)
    expected = scipy.linalg.fractional_matrix_power(damped, -1 / 4)
    for scale in (1.0, 1e-8):
        root = inverse_root(tf.constant(scale * matrix), 4, damping=0.01)
        np.testing.assert_allclose(scale**0.25 * root, expected, atol=1e-8)


def test_roots_of_a_batch_with_a_zero_and_a_broken_matrix():
    good = draw_definite(3)
    broken = np.full((3, 3), np.nan)
    endless = np.diag([1.0, np.inf, 1.0])
    roots = inverse_root(
        tf.constant(np.stack([good, 0 * good, broken, endless])), 4, damping=1e-6
    ).numpy()
    np.testing.assert_allclose(roots[0], numpy_root(good, 4, 1e-6), atol=1e-8)
    np.testing.assert_allclose(roots[1], np.eye(3), atol=1e-12)
    assert np.isnan(roots[2:]).all()


def test_one_gradient_becomes_orthogonal():
    """L = G G^T and R = G^T G: L^-1/4 U S V^T R^-1/4 = U V^T."""
    gradient = draw(4, 6)
    u, _, vt = np.linalg.svd(gradient, full_matrices=False)
    (direction,) = Layer(Shampoo(damping=1e-12), (4, 6), dtype="float64")(gradient)
    expected = u @ vt * np.linalg.norm(gradient) / 2.0  # |U V^T| = sqrt(4)
    np.testing.assert_allclose(direction, expected, atol=1e-4)


@pytest.mark.parametrize("root", [2, 4])
def test_on_a_quadratic_of_kronecker_structure_the_factors_are_exact(root):
    """f(W) = tr(A W B W^T) / 2 has the gradient A W B and the Hessian A x B.

    Summed over all unit matrices W, L = tr(B^2) A^2 and R = tr(A^2) B^2. Fourth roots
    make A^1/2 W B^1/2 of the gradient; square roots make W, the step of Newton.
    """
    a, b = draw_definite(3), draw_definite(4)
    layer = Layer(
        Shampoo(decay=1, update_every=1, damping=1e-12, root=root),
        (3, 4),
        dtype="float64",
    )
    for unit in np.eye(12).reshape(12, 3, 4):
        layer(a @ unit @ b)
    ((left, right),) = layer.slots[1]
    np.testing.assert_allclose(left.statistics[0], np.trace(b @ b) * a @ a, rtol=1e-9)
    np.testing.assert_allclose(right.statistics[0], np.trace(a @ a) * b @ b, rtol=1e-9)

    # A small gradient, which leaves the sums as they are.
    w = RNG.normal(size=(3, 4))
    (direction,) = layer(1e-6 * a @ w @ b)
    power = 1 - 2 / root
    expected = (
        scipy.linalg.fractional_matrix_power(a, power)
        @ w
        @ scipy.linalg.fractional_matrix_power(b, power)
    )
    same_direction(direction, expected, atol=1e-8)
    np.testing.assert_allclose(
        np.linalg.norm(direction), 1e-6 * np.linalg.norm(a @ w @ b), rtol=1e-9
    )


@pytest.mark.parametrize(
    ("shape", "max_dimension"),
    [((6, 4), 1024), ((3, 2, 2, 5), 1024), ((7, 4), 3)],
    ids=["dense", "conv", "blocks"],
)
def test_five_steps_are_those_of_the_algorithm(shape, max_dimension):
    transform = Shampoo(0.9, update_every=2, damping=1e-3, max_dimension=max_dimension)
    layer = Layer(transform, shape, shape[-1:])
    rows, columns = np.prod(shape[:-1]), shape[-1]
    masks = []
    for dimension in (rows, columns):
        block = np.arange(dimension) // block_shape(dimension, max_dimension)[1]
        masks.append(block[:, None] == block)
    left, right = np.zeros((rows, rows)), np.zeros((columns, columns))

    def root(statistics, mask):
        """The roots of the blocks on the diagonal."""
        result = np.zeros_like(statistics)
        for block in np.unique(mask, axis=0):
            piece = np.ix_(block, block)
            result[piece] = numpy_root(statistics[piece], 4, 1e-3)
        return result

    for step in range(5):
        kernel, bias = draw(*shape), draw(shape[-1])
        new_kernel, new_bias = layer(kernel, bias)
        g = kernel.reshape(rows, columns).astype("float64")
        left = 0.9 * left + 0.1 * masks[0] * (g @ g.T)
        right = 0.9 * right + 0.1 * masks[1] * (g.T @ g)
        if step % 2 == 0:
            left_root, right_root = root(left, masks[0]), root(right, masks[1])
        expected = left_root @ g @ right_root
        expected *= np.linalg.norm(g) / np.linalg.norm(expected)
        np.testing.assert_allclose(new_kernel, expected.reshape(shape), atol=2e-4)
        np.testing.assert_array_equal(new_bias, bias)


@pytest.mark.parametrize(
    ("dimension", "max_dimension", "expected"),
    [
        (5, 5, (1, 5)),
        (6, 5, (2, 3)),
        (7, 3, (3, 3)),
        (784, 512, (2, 392)),
        (1, 1, (1, 1)),
    ],
)
def test_block_shape(dimension, max_dimension, expected):
    assert block_shape(dimension, max_dimension) == expected


def test_a_block_diagonal_factor():
    blocks = draw(3, 3, 3)
    matrix = draw(7, 4)
    whole = scipy.linalg.block_diag(*blocks)[:7, :7]
    np.testing.assert_allclose(
        apply_to_rows(tf.constant(blocks), tf.constant(matrix)),
        whole @ matrix,
        atol=1e-5,
    )


def test_grafting_keeps_the_norm():
    direction, gradient = draw(3, 4), draw(3, 4)
    grafted = graft(tf.constant(direction), tf.constant(gradient)).numpy()
    np.testing.assert_allclose(
        np.linalg.norm(grafted), np.linalg.norm(gradient), rtol=1e-6
    )
    same_direction(grafted, direction, 1e-6)
    zeros = tf.zeros([3, 4])
    np.testing.assert_array_equal(graft(zeros, tf.constant(gradient)), zeros)


def test_gradients_that_are_zero_or_broken():
    layer = Layer(Shampoo(update_every=3), (3, 2))
    np.testing.assert_array_equal(layer(np.zeros([3, 2]))[0], np.zeros([3, 2]))
    # Until the roots are computed again they are the identity.
    gradient = draw(3, 2)
    np.testing.assert_allclose(layer(gradient)[0], gradient, rtol=1e-5)
    broken = Layer(Shampoo(), (3, 2))(np.full([3, 2], np.nan))
    assert np.isnan(broken).all()


def test_the_same_eagerly_in_a_graph_and_through_xla():
    gradients = [draw(5, 4) for _ in range(4)]
    results = []
    for wrap in (
        lambda f: f,
        tf.function,
        lambda f: tf.function(f, jit_compile=True),
    ):
        transform = Shampoo(update_every=2, damping=1e-4, max_dimension=3)
        layer = Layer(transform, (5, 4))
        step = wrap(lambda g, layer=layer: layer.transform([g], None, layer.slots)[0])
        results.append([step(tf.constant(g)).numpy() for g in gradients])
    np.testing.assert_allclose(results[1], results[0], atol=1e-5)
    np.testing.assert_allclose(results[2], results[0], atol=1e-4)


def test_it_descends_where_the_gradient_crawls():
    """A quadratic of condition 1e4, with the best of a grid of step sizes for each."""
    a, b = draw_definite(6, 100.0), draw_definite(5, 100.0)
    start = RNG.normal(size=(6, 5))

    def share_left(make_direction, rate, steps=50):
        """f(end) / f(start), as the step size goes to 0."""
        w, direction = start.copy(), make_direction()
        for step in range(steps):
            w -= rate * (1 - step / steps) * direction(a @ w @ b)
        return np.trace(a @ w @ b @ w.T) / np.trace(a @ start @ b @ start.T)

    def best(make_direction):
        return min(
            share_left(make_direction, rate) for rate in np.geomspace(1e-5, 1e-3, 7)
        )

    def make_shampoo():
        layer = Layer(Shampoo(update_every=5), (6, 5))
        return lambda gradient: layer(gradient)[0]

    plain, whitened = best(lambda: lambda gradient: gradient), best(make_shampoo)
    assert whitened < 0.5 * plain


def test_configuration():
    transform = Shampoo(0.9, 5, 1e-4, 64, 2)
    config = keras.saving.serialize_keras_object(transform)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is Shampoo
    assert copy.get_config() == transform.get_config() == vars(transform)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": 0.0}, r"decay must be in \(0, 1\], got 0.0"),
        ({"update_every": 0}, "update_every must be at least 1, got 0"),
        ({"damping": 0.0}, "damping must be greater than 0, got 0.0"),
        ({"max_dimension": 0}, "max_dimension must be at least 1, got 0"),
        ({"root": 3}, "root must be 2 or 4, got 3"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Shampoo(**arguments)
