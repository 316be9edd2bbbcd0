"""The spectrum against NumPy's, SciPy's and the theory of the estimators."""

import math

import keras
import numpy as np
import pytest
import scipy.sparse.linalg
import scipy.stats
import tensorflow as tf

from tfzoo.optimizers.curvature_products import dense_matrix, hessian_product
from tfzoo.optimizers.spectrum import (
    gaussian_vector,
    hutchinson_diagonal,
    hutchinson_trace,
    lanczos,
    rademacher_vector,
    spectral_density,
    top_eigenvalues,
)
from tfzoo.optimizers.vectors import flatten, unflatten

N = 24
SPECTRA = {
    "generic": np.geomspace(0.1, 10, N) * np.resize([1, 1, -1], N),
    "degenerate": np.repeat([4.0, 1.0, -2.0, 0.5], 6),
    "rank_deficient": np.concatenate([[5.0, 3.0, -2.0], np.zeros(N - 3)]),
    "identity": np.ones(N),
    "zero": np.zeros(N),
    "tiny": 1e-9 * np.repeat([4.0, 1.0, -2.0, 0.5], 6),
}
WEIGHTS = [tf.zeros([2, 4]), tf.zeros([16])]


def symmetric(spectrum):
    n = len(spectrum)
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))
    return (q * spectrum) @ q.T


def product(matrix, dtype=tf.float64):
    """The function v -> matrix v on flat vectors, and a vector like its own."""
    a = tf.constant(matrix, dtype)
    return lambda v: tf.linalg.matvec(a, v), tf.zeros([len(matrix)], dtype)


def listed_product(matrix):
    """The same in float32 on lists like WEIGHTS."""
    matvec, _ = product(matrix, tf.float32)
    return lambda v: unflatten(matvec(flatten(v)), v), WEIGHTS


@pytest.mark.parametrize("steps", [1, 5, N])
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_lanczos_is_an_orthonormal_tridiagonalization(name, steps, dtype):
    matrix = symmetric(SPECTRA[name])
    result = lanczos(*product(matrix, dtype), steps, [1, 2])
    basis = result.basis.numpy().astype(np.float64)
    diagonal, off_diagonal = result.diagonal.numpy(), result.off_diagonal.numpy()
    tridiagonal = (
        np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)
    )
    # Some tens of rounding errors.
    tolerance = 50 * np.finfo(dtype.as_numpy_dtype).eps
    size = np.abs(SPECTRA[name]).max()
    np.testing.assert_allclose(basis @ basis.T, np.eye(steps), atol=tolerance)
    np.testing.assert_allclose(
        basis @ matrix @ basis.T, tridiagonal, atol=tolerance * size
    )
    assert np.all(off_diagonal >= 0)
    if name in ("identity", "zero"):
        # Every direction is a subspace of its own.
        assert not np.any(off_diagonal)
    if steps == N:
        # Every eigenvalue as often as the matrix has it, past any breakdown.
        np.testing.assert_allclose(
            np.linalg.eigvalsh(tridiagonal),
            np.sort(SPECTRA[name]),
            atol=tolerance * size,
        )


@pytest.mark.parametrize(("count", "steps"), [(1, 60), (6, 60)])
def test_top_eigenvalues_are_scipy_s(count, steps):
    rng = np.random.default_rng(3)
    outliers = [30.0, -25.0, 21.0, 18.0, -15.0, 12.0]
    matrix = symmetric(np.concatenate([outliers, rng.normal(size=194)]))
    expected, vectors = scipy.sparse.linalg.eigsh(matrix, count, which="LM")
    top = top_eigenvalues(*product(matrix), count, num_steps=steps, seed=[0, 1])
    np.testing.assert_allclose(top.eigenvalues, expected[::-1], rtol=1e-10)
    overlaps = np.stack(top.eigenvectors) @ vectors[:, ::-1]
    np.testing.assert_allclose(np.abs(overlaps), np.eye(count), atol=1e-6)
    assert np.all(top.residuals.numpy() < 1e-5)


@pytest.mark.parametrize("name", SPECTRA)
def test_all_steps_give_all_eigenvalues_of_any_matrix(name):
    matrix, spectrum = symmetric(SPECTRA[name]), SPECTRA[name]
    top = top_eigenvalues(*product(matrix), N, num_steps=N, seed=[0, 1])
    size = np.abs(spectrum).max()
    np.testing.assert_allclose(
        top.eigenvalues, np.sort(spectrum)[::-1], atol=1e-12 * size
    )
    vectors = np.stack(top.eigenvectors)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(N), atol=1e-12)
    np.testing.assert_allclose(
        (vectors.T * top.eigenvalues) @ vectors, matrix, atol=1e-12 * size
    )


def test_residuals_bound_what_has_not_converged():
    spectrum = np.linspace(-3.0, 5.0, N)
    matrix = symmetric(spectrum)
    top = top_eigenvalues(*product(matrix), 4, num_steps=8, seed=[0, 1])
    errors = np.abs(top.eigenvalues.numpy()[:, None] - spectrum).min(axis=1)
    residuals = top.residuals.numpy()
    assert np.all(errors <= residuals)
    assert residuals.max() > 0.1
    for value, vector, residual in zip(*top, strict=True):
        difference = matrix @ vector.numpy() - value.numpy() * vector.numpy()
        np.testing.assert_allclose(np.linalg.norm(difference), residual, rtol=1e-10)


def test_the_hessian_of_a_network():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input([3]), keras.layers.Dense(4, "tanh"), keras.layers.Dense(2)]
    )
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    y = np.sin(x[:, :2])
    variables = model.trainable_variables
    matvec = hessian_product(lambda: tf.reduce_mean((model(x) - y) ** 2), variables)
    expected, vectors = np.linalg.eigh(dense_matrix(matvec, variables))
    top = top_eigenvalues(matvec, variables, 2, num_steps=15, seed=[0, 1])
    np.testing.assert_allclose(top.eigenvalues, expected[:-3:-1], rtol=1e-5)
    assert [v.shape for v in top.eigenvectors[0]] == [w.shape for w in variables]
    overlap = np.dot(flatten(top.eigenvectors[0]), vectors[:, -1])
    assert abs(overlap) == pytest.approx(1, abs=1e-5)


def test_hutchinson_is_exact_for_a_diagonal_matrix():
    diagonal = np.arange(-4.0, 20.0)
    matvec, like = listed_product(np.diag(diagonal))
    trace = hutchinson_trace(matvec, like, 2, [0, 1])
    assert float(trace.mean) == diagonal.sum()
    assert float(trace.standard_error) == 0
    estimate = hutchinson_diagonal(matvec, like, 2, [0, 1])
    np.testing.assert_array_equal(flatten(estimate.mean), diagonal)
    np.testing.assert_array_equal(flatten(estimate.standard_error), 0)
    assert [x.shape for x in estimate.mean] == [x.shape for x in WEIGHTS]


def test_hutchinson_is_within_its_standard_error_which_is_that_of_the_theory():
    matrix = symmetric(SPECTRA["generic"])
    samples = 400
    squares = matrix**2 - np.diag(np.diag(matrix) ** 2)

    trace = hutchinson_trace(*product(matrix), samples, [0, 1])
    error = math.sqrt(2 * squares.sum() / samples)
    # 400 samples give a standard deviation to about 5 %.
    assert float(trace.standard_error) == pytest.approx(error, rel=0.2)
    assert abs(float(trace.mean) - np.trace(matrix)) < 3 * error

    diagonal = hutchinson_diagonal(*product(matrix), samples, [0, 1])
    errors = np.sqrt(squares.sum(axis=1) / samples)
    np.testing.assert_allclose(diagonal.standard_error, errors, rtol=0.2)
    z_scores = (diagonal.mean.numpy() - np.diag(matrix)) / errors
    assert np.abs(z_scores).max() < 4
    assert 0.5 < z_scores.std() < 1.5


def test_the_estimates_are_mean_and_standard_error_of_the_samples():
    matvec, like = product(symmetric(SPECTRA["generic"]))
    samples = []

    def recording(z):
        az = matvec(z)
        samples.append(float(tf.reduce_sum(z * az)))
        return az

    trace = hutchinson_trace(recording, like, 5, [0, 1])
    assert len(set(samples)) == 5
    assert float(trace.mean) == pytest.approx(np.mean(samples))
    assert float(trace.standard_error) == pytest.approx(scipy.stats.sem(samples))


def moments(density):
    spacing = np.diff(density.eigenvalues)
    np.testing.assert_allclose(spacing, spacing[0], rtol=1e-6)
    mass = density.density.numpy() * spacing[0]
    grid = density.eigenvalues.numpy()
    return mass.sum(), (mass * grid).sum(), (mass * grid**2).sum()


def test_the_density_integrates_to_one_and_has_the_moments_of_the_spectrum():
    spectrum = SPECTRA["generic"]
    matvec, like = product(symmetric(spectrum))
    probes = 200
    density = spectral_density(
        matvec, like, num_steps=6, num_probes=probes, seed=[0, 1]
    )
    total, mean, second = moments(density)
    assert total == pytest.approx(1, abs=1e-6)
    # Each probe is exact for its own start, so that the error is that of the starts.
    nodes, weights = density.nodes.numpy(), density.weights.numpy()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    for power, estimate, extra in [(1, mean, 0), (2, second, 0.1**2)]:
        samples = (weights * nodes**power).sum(axis=1)
        # The Gaussian of width 0.01 * 10 adds its variance.
        assert estimate == pytest.approx(samples.mean() + extra, abs=1e-4)
        error = samples.std() / math.sqrt(probes)
        assert abs(samples.mean() - (spectrum**power).mean()) < 3 * error


def test_the_density_is_that_of_the_smoothed_spectrum():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(300, 300))
    matrix = (noise + noise.T) / math.sqrt(600)
    spectrum = np.linalg.eigvalsh(matrix)
    density = spectral_density(
        *product(matrix), num_steps=40, num_probes=10, seed=[0, 1], width=0.1
    )
    deviation = 0.1 * np.abs(density.nodes).max()
    grid = density.eigenvalues.numpy()
    exact = scipy.stats.norm.pdf(grid[:, None], spectrum, deviation).mean(axis=1)
    distance = np.abs(density.density - exact).sum() * (grid[1] - grid[0])
    # Ten starts of 300 weights: one part in the root of 3000 is 0.02.
    assert distance < 0.04


@pytest.mark.parametrize("name", ["identity", "zero"])
def test_the_density_of_a_single_eigenvalue_is_the_gaussian(name):
    density = spectral_density(
        *product(symmetric(SPECTRA[name])), num_steps=3, num_probes=2, seed=[0, 1]
    )
    expected = scipy.stats.norm.pdf(density.eigenvalues, SPECTRA[name][0], 0.01)
    np.testing.assert_allclose(density.density, expected, atol=1e-6)


def test_eager_graph_and_xla_agree():
    matvec, like = listed_product(symmetric(SPECTRA["generic"]))
    broken, _ = listed_product(symmetric(SPECTRA["degenerate"]))

    def run(seed):
        return (
            top_eigenvalues(matvec, like, 3, num_steps=16, seed=seed),
            spectral_density(matvec, like, num_steps=5, num_probes=3, seed=seed),
            hutchinson_trace(matvec, like, 10, seed),
            hutchinson_diagonal(matvec, like, 10, seed),
            lanczos(broken, like, 10, seed).basis[:4],
        )

    seed = tf.constant([3, 4])
    eager = tf.nest.flatten(run(seed))
    for mode in (tf.function(run), tf.function(run, jit_compile=True)):
        for expected, actual in zip(eager, tf.nest.flatten(mode(seed)), strict=True):
            assert actual.shape == expected.shape
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_a_seed_gives_one_result_and_another_seed_another():
    matvec, like = product(symmetric(SPECTRA["generic"]))
    first, again, other = (
        hutchinson_trace(matvec, like, 4, seed).mean
        for seed in ([0, 1], [0, 1], [0, 2])
    )
    assert first == again != other


def test_random_vectors_have_their_distributions():
    like = [tf.zeros([100, 99]), tf.zeros([100], tf.float32)]
    signs = rademacher_vector(like, [0, 1])
    assert [x.shape for x in signs] == [x.shape for x in like]
    values, counts = np.unique(flatten(signs), return_counts=True)
    assert list(values) == [-1, 1]
    assert scipy.stats.binomtest(counts[0], counts.sum()).pvalue > 0.01
    normal = flatten(gaussian_vector(like, [0, 1])).numpy()
    assert scipy.stats.kstest(normal, "norm").pvalue > 0.01
    assert gaussian_vector(tf.zeros([3], tf.float64), [0, 1]).dtype == tf.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, v: lanczos(f, v, 25, [0, 1]), "num_steps must be from 1 to .* 24"),
        (lambda f, v: lanczos(f, v, 0, [0, 1]), "num_steps must be from 1 .* got 0"),
        (lambda f, v: lanczos(f, [1, 2], 2, [0, 1]), "floats of one type, got int32"),
        (lambda f, v: lanczos(f, [], 2, [0, 1]), "floats of one type, got nothing"),
        (
            lambda f, v: lanczos(f, [v[0], tf.zeros([2], tf.float64)], 2, [0, 1]),
            "floats of one type, got float32, float64",
        ),
        (
            lambda f, v: top_eigenvalues(f, v, 5, num_steps=4, seed=[0, 1]),
            "count must be from 1 to num_steps, got count 5 and num_steps 4",
        ),
        (
            lambda f, v: top_eigenvalues(f, v, 25, num_steps=25, seed=[0, 1]),
            "number of weights 24, got 25",
        ),
        (
            lambda f, v: spectral_density(f, v, num_steps=4, num_probes=0, seed=[0, 1]),
            "num_probes must be at least 1, got 0",
        ),
        (
            lambda f, v: spectral_density(
                f, v, num_steps=4, num_probes=1, seed=[0, 1], num_points=100
            ),
            "num_points must be at least 211 for width 0.01, got 100",
        ),
        (
            lambda f, v: spectral_density(
                f, v, num_steps=4, num_probes=1, seed=[0, 1], width=0.0
            ),
            "width must be greater than 0, got 0.0",
        ),
        (lambda f, v: hutchinson_trace(f, v, 1, [0, 1]), "num_samples .* got 1"),
        (lambda f, v: hutchinson_diagonal(f, v, 0, [0, 1]), "num_samples .* got 0"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    matvec, like = listed_product(np.eye(N))
    with pytest.raises(ValueError, match=message):
        call(matvec, like)
