"""Curvature products against dense matrices that are built in another way."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.optimizers.networks import BATCH, DISTRIBUTIONS, OUTPUTS, inputs, mlp
from tfzoo.losses import DiagonalGaussianPolicy
from tfzoo.optimizers.conjugate_gradient import conjugate_gradient
from tfzoo.optimizers.curvature_products import (
    Linearization,
    dense_fisher,
    dense_matrix,
    fisher_product,
    gauss_newton_product,
    hessian_product,
    mean_kl_divergence,
)
from tfzoo.optimizers.vectors import flatten, unflatten


def random_like(variables, seed=3):
    rng = np.random.default_rng(seed)
    return [tf.constant(rng.normal(size=v.shape), tf.float32) for v in variables]


def rosenbrock(x):
    return tf.reduce_sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def test_hessian_product_is_the_closed_form():
    x = tf.Variable([0.5, -1.0], dtype=tf.float64)
    expected = [[1200 * 0.25 + 400 + 2, -200.0], [-200.0, 200.0]]
    matrix = dense_matrix(hessian_product(lambda: rosenbrock(x), [x]), [x])
    np.testing.assert_allclose(matrix, expected)


def test_hessian_product_is_the_difference_of_gradients():
    model, x = mlp(), inputs()
    variables = model.trainable_variables

    def loss():
        return tf.reduce_mean(tf.math.softplus(model(x)) ** 2)

    def gradients():
        with tf.GradientTape() as tape:
            value = loss()
        return flatten(tape.gradient(value, [v.value for v in variables])).numpy()

    direction = random_like(variables)
    product = flatten(hessian_product(loss, variables)(direction))
    epsilon, difference = 1e-2, 0.0
    for sign in (1, -1):
        for variable, d in zip(variables, direction, strict=True):
            variable.assign_add(sign * epsilon * d)
        difference = difference + sign * gradients()
        for variable, d in zip(variables, direction, strict=True):
            variable.assign_sub(sign * epsilon * d)
    np.testing.assert_allclose(
        product, difference / (2 * epsilon), rtol=2e-2, atol=2e-4
    )


def test_hessian_product_of_an_embedding_with_repeated_ids():
    table = tf.Variable(np.random.default_rng(0).normal(size=[4, 2]), dtype=tf.float64)
    ids = [0, 0, 1, 3]

    def looked_up():
        return tf.reduce_sum(tf.gather(table, ids) ** 3) * tf.reduce_sum(table[0])

    def multiplied():
        rows = tf.matmul(tf.one_hot(ids, 4, dtype=tf.float64), table)
        return tf.reduce_sum(rows**3) * tf.reduce_sum(table[0])

    expected = dense_matrix(hessian_product(multiplied, [table]), [table])
    product = hessian_product(looked_up, [table])
    np.testing.assert_allclose(dense_matrix(product, [table]), expected)
    np.testing.assert_allclose(
        tf.function(lambda: dense_matrix(product, [table]))(), expected
    )


def test_jacobian_products_are_adjoint_and_those_of_the_jacobian():
    model, x = mlp("relu"), inputs()
    variables = model.trainable_variables
    linear = Linearization(lambda: model(x), variables)
    v = random_like(variables)
    u = tf.constant(np.random.default_rng(0).normal(size=[BATCH, OUTPUTS]), tf.float32)
    np.testing.assert_allclose(
        tf.reduce_sum(linear.jvp(v) * u),
        tf.reduce_sum(flatten(v) * flatten(linear.vjp(u))),
        rtol=1e-4,
    )
    with tf.GradientTape() as tape:
        outputs = model(x)
    jacobians = tape.jacobian(outputs, [v.value for v in variables])
    expected = sum(
        tf.tensordot(j, d, axes=d.shape.rank) for j, d in zip(jacobians, v, strict=True)
    )
    np.testing.assert_allclose(linear.jvp(v), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_fisher_product_is_the_dense_fisher_in_all_modes(name):
    model, x = mlp(), inputs()
    distribution, variables = DISTRIBUTIONS[name], model.trainable_variables
    expected = dense_fisher(lambda: model(x), distribution, variables)

    def matrix():
        return dense_matrix(
            fisher_product(lambda: model(x), distribution, variables), variables
        )

    for mode in (matrix, tf.function(matrix), tf.function(matrix, jit_compile=True)):
        np.testing.assert_allclose(mode(), expected, rtol=1e-3, atol=1e-6)
    # Symmetric and positive semidefinite.
    np.testing.assert_allclose(expected, tf.transpose(expected), atol=1e-7)
    assert np.linalg.eigvalsh(expected).min() > -1e-6


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_fisher_is_the_mean_of_outer_products_of_scores(name):
    """Its definition, by sampling from the model: E[s s^T] over targets and inputs."""
    outputs = mlp()(inputs(batch=1))
    distribution = DISTRIBUTIONS[name]
    samples = 40_000
    score = distribution.sample_score(tf.repeat(outputs, samples, axis=0), [1, 2])
    sampled = tf.matmul(score, score, transpose_a=True) / samples
    variable = tf.Variable(outputs)
    expected = dense_fisher(lambda: tf.identity(variable), distribution, [variable])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(sampled / scale, expected / scale, atol=0.03)
    np.testing.assert_allclose(tf.reduce_mean(score, 0) / scale, 0, atol=0.03)


def test_gauss_newton_without_residuals_is_fisher_and_hessian():
    model, x = mlp(), inputs()
    variables = model.trainable_variables
    target = model(x)

    def loss(outputs):
        return tf.reduce_mean((outputs - target) ** 2)

    gauss_newton = dense_matrix(
        gauss_newton_product(lambda: model(x), loss, variables), variables
    )
    fisher = dense_fisher(lambda: model(x), DISTRIBUTIONS["gaussian"], variables)
    np.testing.assert_allclose(gauss_newton, fisher / OUTPUTS, rtol=1e-3, atol=1e-6)
    hessian = dense_matrix(
        hessian_product(lambda: loss(model(x)), variables), variables
    )
    np.testing.assert_allclose(gauss_newton, hessian, rtol=1e-3, atol=1e-5)


def test_fisher_product_with_a_policy_of_the_losses():
    model, x = mlp(), inputs()
    policy, variables = DiagonalGaussianPolicy(2), model.trainable_variables
    expected = dense_fisher(lambda: model(x), policy, variables)
    product = dense_matrix(
        fisher_product(lambda: model(x), policy, variables), variables
    )
    np.testing.assert_allclose(product, expected, rtol=1e-3, atol=1e-6)


def test_kl_is_half_the_quadratic_form_for_small_steps():
    model, x = mlp(), inputs()
    variables, distribution = model.trainable_variables, DISTRIBUTIONS["categorical"]
    old = model(x)
    step = [0.02 * d for d in random_like(variables)]
    product = fisher_product(lambda: model(x), distribution, variables)(step)
    expected = 0.5 * tf.reduce_sum(flatten(step) * flatten(product))
    for variable, d in zip(variables, step, strict=True):
        variable.assign_add(d)
    kl = mean_kl_divergence(distribution, old, model(x))
    np.testing.assert_allclose(kl, expected, rtol=0.05)


def test_exact_inverse_and_conjugate_gradients_agree():
    model, x = mlp(), inputs(batch=50)
    variables, distribution = model.trainable_variables, DISTRIBUTIONS["categorical"]
    gradient = random_like(variables)
    fisher = dense_fisher(lambda: model(x), distribution, variables).numpy()
    damping = 1e-2
    expected = np.linalg.solve(
        fisher.astype(float) + damping * np.eye(len(fisher)), flatten(gradient)
    )

    @tf.function(jit_compile=True)
    def solve(gradient):
        return conjugate_gradient(
            fisher_product(lambda: model(x), distribution, variables),
            gradient,
            damping=damping,
            max_iterations=200,
            tolerance=1e-6,
        ).solution

    np.testing.assert_allclose(
        flatten(solve(gradient)), expected, rtol=1e-2, atol=1e-3 * abs(expected).max()
    )


def test_unused_weights_and_linear_losses_have_zero_curvature():
    x, unused = tf.Variable([1.0, 2.0]), tf.Variable([3.0])
    for matvec in (
        hessian_product(lambda: tf.reduce_sum(3 * x), [x, unused]),
        gauss_newton_product(
            lambda: tf.reshape(x, [1, 2]), lambda f: tf.reduce_sum(3 * f), [x, unused]
        ),
    ):
        np.testing.assert_array_equal(
            dense_matrix(matvec, [x, unused]), np.zeros([3, 3])
        )


def test_convolutions():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Input([6, 6, 1]),
            keras.layers.Conv2D(2, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    x = tf.constant(np.random.default_rng(0).normal(size=[4, 6, 6, 1]), tf.float32)
    variables, distribution = model.trainable_variables, DISTRIBUTIONS["categorical"]
    expected = dense_fisher(lambda: model(x), distribution, variables)
    v = random_like(variables)

    @tf.function(jit_compile=True)
    def product(v):
        return fisher_product(lambda: model(x), distribution, variables)(v)

    np.testing.assert_allclose(
        flatten(product(v)),
        tf.linalg.matvec(expected, flatten(v)),
        rtol=1e-3,
        atol=1e-5,
    )


def test_vectors_round_trip():
    like = [tf.zeros([2, 3]), tf.zeros([]), tf.zeros([4])]
    flat = tf.range(11.0)
    np.testing.assert_array_equal(flatten(unflatten(flat, like)), flat)
