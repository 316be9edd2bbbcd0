"""Slices of known functions, and the weights afterwards."""

import keras
import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.optimizers.loss_surface import (
    LossSurfaceSlice,
    draw_loss_surface,
    filter_normalized_direction,
    loss_surface_slice,
)

SHAPES = [(2, 3), (4,)]
N = 10


class Quadratic:
    """L(w) = w . A w / 2 + b . w over two variables."""

    def __init__(self, variable_class):
        rng = np.random.default_rng(0)
        noise = rng.normal(size=(N, N))
        self.a, self.b = noise + noise.T, rng.normal(size=N)
        self.variables = [
            variable_class(rng.normal(size=shape).astype("float32")) for shape in SHAPES
        ]
        self.before = [np.array(v.numpy()) for v in self.variables]
        self.directions = [
            [tf.constant(rng.normal(size=shape), tf.float32) for shape in SHAPES]
            for _ in range(2)
        ]

    def loss(self):
        w = tf.concat([tf.reshape(v, [-1]) for v in self.variables], axis=0)
        aw = tf.linalg.matvec(tf.constant(self.a, tf.float32), w)
        return tf.reduce_sum(w * (0.5 * aw + tf.constant(self.b, tf.float32)))

    def at(self, *steps):
        def flat(tensors):
            return np.concatenate([np.ravel(x) for x in tensors])

        w = flat(self.before).astype(np.float64)
        for step, direction in zip(steps, self.directions, strict=False):
            w += step * flat(direction)
        return 0.5 * w @ self.a @ w + self.b @ w

    def assert_unchanged(self):
        for variable, before in zip(self.variables, self.before, strict=True):
            assert variable.numpy().tobytes() == before.tobytes()


@pytest.fixture(params=[keras.Variable, tf.Variable], ids=["keras", "tf"])
def quadratic(request):
    return Quadratic(request.param)


def test_a_slice_of_a_quadratic_is_its_parabola(quadratic):
    surface = loss_surface_slice(
        quadratic.loss, quadratic.variables, quadratic.directions[:1], 0.7, 9
    )
    np.testing.assert_allclose(surface.coordinates, np.linspace(-0.7, 0.7, 9))
    assert surface.coordinates[4] == 0
    assert surface.losses[4] == quadratic.loss()
    expected = [quadratic.at(step) for step in surface.coordinates.numpy()]
    np.testing.assert_allclose(surface.losses, expected, rtol=1e-4, atol=1e-4)
    quadratic.assert_unchanged()


def test_a_plane_is_the_paraboloid_in_all_modes(quadratic):
    def run():
        return loss_surface_slice(
            quadratic.loss, quadratic.variables, quadratic.directions, 0.5, 4
        )

    for mode in (run, tf.function(run), tf.function(run, jit_compile=True)):
        coordinates, losses = (x.numpy() for x in mode())
        expected = [[quadratic.at(s, t) for t in coordinates] for s in coordinates]
        np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-4)
        quadratic.assert_unchanged()


def test_a_compiled_loss_function_sees_the_points(quadratic):
    compiled = tf.function(quadratic.loss)
    compiled()
    arguments = quadratic.variables, quadratic.directions[:1]
    np.testing.assert_allclose(
        loss_surface_slice(compiled, *arguments).losses,
        loss_surface_slice(quadratic.loss, *arguments).losses,
        rtol=1e-6,
    )


def test_a_loss_function_that_raises_leaves_the_weights(quadratic):
    def raises():
        raise RuntimeError("no loss")

    calls = tf.Variable(0)

    def fails_at_the_third_point():
        calls.assign_add(1)
        with tf.control_dependencies([tf.debugging.assert_less(calls, 3)]):
            return quadratic.loss()

    arguments = quadratic.variables, quadratic.directions[:1]
    with pytest.raises(RuntimeError, match="no loss"):
        loss_surface_slice(raises, *arguments)
    quadratic.assert_unchanged()
    with pytest.raises(tf.errors.InvalidArgumentError):
        loss_surface_slice(fails_at_the_third_point, *arguments)
    assert int(calls) == 3
    quadratic.assert_unchanged()


def test_weights_that_are_not_numbers_come_back_bit_for_bit():
    odd = np.array([np.nan, -0.0, np.inf, 1e-45], np.float32)
    variable = tf.Variable(odd)
    loss_surface_slice(
        lambda: tf.reduce_sum(variable), [variable], [[tf.ones([4])]], num_points=3
    )
    assert variable.numpy().tobytes() == odd.tobytes()


def test_filters_of_a_direction_have_the_norms_of_the_weights():
    rng = np.random.default_rng(0)
    shapes = [(3, 3, 2, 5), (5,), (7, 4), ()]
    weights = [tf.constant(rng.normal(size=s), tf.float32) for s in shapes]
    # A filter of zeros has a direction of zeros.
    weights[2] *= [1.0, 0.0, 10.0, 1.0]
    direction = filter_normalized_direction(weights, [0, 1])
    assert [d.shape for d in direction] == [w.shape for w in weights]
    for w, d in ((weights[0], direction[0]), (weights[2], direction[2])):
        w, d = w.numpy().reshape(-1, w.shape[-1]), d.numpy().reshape(-1, d.shape[-1])
        np.testing.assert_allclose(
            np.linalg.norm(d, axis=0), np.linalg.norm(w, axis=0), rtol=1e-5
        )
    assert not np.any(direction[1])
    assert not np.any(direction[3])
    other = filter_normalized_direction(weights, [0, 2])
    assert not np.allclose(other[0], direction[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"radius": 0.0}, "radius must be greater than 0, got 0.0"),
        ({"num_points": 2}, "num_points must be at least 3, got 2"),
        ({"directions": []}, "a list of one or two vectors"),
        ({"directions": [[tf.zeros([2, 3])]]}, r"\(4,\)\], got \[\(2, 3\)\]"),
        ({"directions": [[tf.zeros([3, 2]), tf.zeros([4])]]}, "shaped like the var"),
        (
            {"loss_function": lambda: tf.zeros([2])},
            r"return a scalar, got shape \(2,\)",
        ),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    quadratic = Quadratic(keras.Variable)
    arguments = {
        "loss_function": quadratic.loss,
        "variables": quadratic.variables,
        "directions": quadratic.directions,
    }
    with pytest.raises(ValueError, match=message):
        loss_surface_slice(**{**arguments, **changes})
    quadratic.assert_unchanged()


@pytest.mark.parametrize("dimensions", [1, 2])
def test_it_is_drawn(dimensions, tmp_path):
    coordinates = tf.linspace(-1.0, 1.0, 5)
    grid = tf.meshgrid(*[coordinates] * dimensions, indexing="ij")
    surface = LossSurfaceSlice(coordinates, tf.add_n([x**2 for x in grid]))
    path = tmp_path / "surface.png"
    draw_loss_surface(surface, path, title="a bowl")
    height, width, _ = matplotlib.image.imread(path).shape
    assert height == 600
    assert width == (960 if dimensions == 1 else 780)
