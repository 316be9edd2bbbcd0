"""K-FAC: its blocks against the dense Fisher matrix, its steps, its modes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.optimizers.networks import DISTRIBUTIONS, inputs, mlp
from tests.optimizers.test_natural_gradient import CROSSENTROPY, batch, train, weights
from tfzoo.optimizers.curvature_products import (
    Linearization,
    dense_fisher,
    mean_kl_divergence,
)
from tfzoo.optimizers.kfac import KFAC, damped_inverses, factors, recording
from tfzoo.optimizers.second_order_model import second_order


def sampled_factors(model, x, distribution, seed=(1, 2)):
    """(A, G) of each layer of a model, on a batch."""
    layers = [layer for layer in model.layers if layer.weights]
    with recording(layers) as records:
        linear = Linearization(lambda: model(x), model.trainable_variables)
    scores = linear.vjp(
        distribution.sample_score(linear.outputs, seed),
        [records[id(layer)].preactivation for layer in layers],
    )
    return [
        factors(layer, records[id(layer)].inputs, score)
        for layer, score in zip(layers, scores, strict=True)
    ]


def dense_blocks(model, x, distribution):
    """The diagonal block [kernel; bias] of each layer in the dense Fisher matrix."""
    variables = model.trainable_variables
    fisher = dense_fisher(lambda: model(x), distribution, variables).numpy()
    sizes = [v.shape.num_elements() for v in (tf.zeros(v.shape) for v in variables)]
    ends = np.cumsum(sizes)
    starts = ends - sizes
    # Kernel and bias of a layer are neighbours.
    return [
        fisher[starts[i] : ends[i + 1], starts[i] : ends[i + 1]]
        for i in range(0, len(sizes), 2)
    ]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_blocks_of_one_input_are_those_of_the_dense_fisher(name):
    """With one input A is not random, and A (x) G is the block itself."""
    model, distribution = mlp(units=4), DISTRIBUTIONS[name]
    x = inputs(batch=1)
    blocks = dense_blocks(model, x, distribution)
    many = tf.repeat(x, 40_000, axis=0)
    for (a, g), block in zip(
        sampled_factors(model, many, distribution), blocks, strict=True
    ):
        scale = abs(block).max()
        np.testing.assert_allclose(np.kron(a, g) / scale, block / scale, atol=0.03)


def test_the_block_of_the_last_layer_is_exact_for_a_gaussian():
    """Its G does not depend on the input."""
    model, distribution = mlp(), DISTRIBUTIONS["gaussian"]
    x = inputs(batch=5)
    block = dense_blocks(model, x, distribution)[-1]
    a, g = sampled_factors(model, tf.repeat(x, 10_000, axis=0), distribution)[-1]
    scale = abs(block).max()
    np.testing.assert_allclose(np.kron(a, g) / scale, block / scale, atol=0.03)


def test_the_blocks_of_many_inputs_are_near_the_dense_fisher():
    model, distribution = mlp(), DISTRIBUTIONS["categorical"]
    x = inputs(batch=300)
    blocks = dense_blocks(model, x, distribution)
    estimates = sampled_factors(model, tf.repeat(x, 100, axis=0), distribution)
    for (a, g), block in zip(estimates, blocks, strict=True):
        kron = np.kron(a, g)
        assert np.linalg.norm(kron - block) < 0.5 * np.linalg.norm(block)
        cosine = np.sum(kron * block) / np.linalg.norm(kron) / np.linalg.norm(block)
        assert cosine > 0.9


def test_a_convolution_of_one_place_is_a_dense_layer():
    """A kernel as large as the image: the same factors, and so the same block."""
    keras.utils.set_random_seed(0)
    convolution = keras.Sequential(
        [
            keras.layers.Input([3, 3, 2]),
            keras.layers.Conv2D(4, 3, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    dense = keras.Sequential(
        [
            keras.layers.Input([18]),
            keras.layers.Dense(4, "tanh"),
            keras.layers.Dense(3),
        ]
    )
    kernel, *others = convolution.get_weights()
    dense.set_weights([kernel.reshape(18, 4), *others])
    x = np.random.default_rng(0).normal(size=[50, 3, 3, 2]).astype("float32")
    got = sampled_factors(convolution, x, DISTRIBUTIONS["categorical"])
    expected = sampled_factors(dense, x.reshape(50, 18), DISTRIBUTIONS["categorical"])
    for ours, theirs in zip(got, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_patches_times_the_kernel_are_the_convolution(padding):
    """A is made of the very a of z = W^T a, in the order of the kernel."""
    layer = keras.layers.Conv2D(4, (3, 2), strides=2, padding=padding)
    x = tf.constant(np.random.default_rng(0).normal(size=[2, 7, 6, 3]), tf.float32)
    z = layer(x)
    a, _ = factors(layer, x, z)
    matrix = np.vstack([np.reshape(layer.kernel, [-1, 4]), layer.bias])
    rows = z.shape[1] * z.shape[2] * 2
    np.testing.assert_allclose(
        matrix.T @ a.numpy() @ matrix * rows,
        np.einsum("bhwi,bhwj->ij", z, z),
        rtol=1e-3,
        atol=1e-3,
    )


def test_the_block_of_a_convolution_of_many_places_is_exact_for_a_gaussian():
    """With every place an output, the sum over places is E[a a^T] (x) T / variance."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Input([4, 5, 2]),
            keras.layers.Conv2D(3, (2, 3), strides=(1, 2), bias_initializer="normal"),
            keras.layers.Flatten(),
        ]
    )
    distribution = DISTRIBUTIONS["gaussian"]
    x = np.random.default_rng(0).normal(size=[3, 4, 5, 2]).astype("float32")
    (block,) = dense_blocks(model, x, distribution)
    ((a, g),) = sampled_factors(model, np.tile(x, [3000, 1, 1, 1]), distribution)
    scale = abs(block).max()
    np.testing.assert_allclose(np.kron(a, g) / scale, block / scale, atol=0.03)
    places = model.layers[0].output.shape[1] * model.layers[0].output.shape[2]
    np.testing.assert_allclose(g, places / 0.5 * np.eye(3), atol=0.03 * places / 0.5)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_g_is_the_sum_over_places_and_the_mean_over_samples(padding):
    layer = keras.layers.Conv2D(4, 3, strides=2, padding=padding)
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=[5, 7, 6, 3]), tf.float32)
    scores = rng.normal(size=layer(x).shape).astype("float32")
    expected = np.zeros([4, 4])
    for sample in scores:
        for row in sample:
            for place in row:
                expected += np.outer(place, place) / len(scores)
    np.testing.assert_allclose(factors(layer, x, scores)[1], expected, rtol=1e-4)


def test_convolutions_are_trained_through_xla():
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=[64, 6, 6, 2]).astype("float32")
    y = np.int32(x[:, :3].sum(axis=(1, 2, 3)) > x[:, 3:].sum(axis=(1, 2, 3)))
    model = keras.Sequential(
        [
            keras.layers.Input([6, 6, 2]),
            keras.layers.Conv2D(3, 3, strides=2, padding="same", activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    _, _, history = train(KFAC(), model, data=(x, y), epochs=10, jit_compile=True)
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def test_damped_inverses_are_numpy_s():
    rng = np.random.default_rng(0)
    a, g = (
        np.float32(m @ m.T) for m in (rng.normal(size=[6, 3]), rng.normal(size=[4, 4]))
    )
    gamma = 0.3
    got = damped_inverses(tf.constant(a), tf.constant(g), gamma)
    pi = np.sqrt((np.trace(a) / 6) / (np.trace(g) / 4))
    expected = (
        np.linalg.inv(a + pi * gamma * np.eye(6)),
        np.linalg.inv(g + gamma / pi * np.eye(4)),
    )
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_one_layer_of_regression_is_solved_in_one_step():
    """F = A (x) I is exact there, and the step size makes up for what is damped."""
    x = inputs(200)
    y = np.asarray(x) @ np.random.default_rng(0).normal(size=[3, 2]) + [3.0, -1.0]
    model = keras.Sequential([keras.layers.Input([3]), keras.layers.Dense(2)])
    model, _, history = train(KFAC(damping=1e-6), model, "mse", (x, y), epochs=2)
    assert history["loss"][1] < 3e-3 * history["loss"][0]


@pytest.mark.parametrize("rate", [1.0, 0.3, 0.1])
def test_what_the_model_promises_is_promised_of_the_step_that_is_taken(rate):
    """The loss of a linear model is its quadratic model: it keeps its promise."""
    x = inputs(100)
    y = np.asarray(x) @ np.random.default_rng(0).normal(size=[3, 2]) + [3.0, -1.0]
    model = keras.Sequential([keras.layers.Input([3]), keras.layers.Dense(2)])
    old = model(x)
    optimizer = KFAC(rate, damping=0.01, damping_every=1)
    model, _, history = train(optimizer, model, "mse", (x, y), run_eagerly=True)
    np.testing.assert_allclose(optimizer.damping, 0.01 * 19 / 20, rtol=1e-5)
    measured = mean_kl_divergence(DISTRIBUTIONS["gaussian"], old, model(x))
    np.testing.assert_allclose(history["kl"], [measured], rtol=1e-3)


@pytest.mark.parametrize("run_eagerly", [True, False])
def test_what_is_not_finite_changes_nothing(run_eagerly):
    x, y = batch()
    optimizer = KFAC()
    model, _, _ = train(optimizer, data=(x, y), run_eagerly=run_eagerly)
    factor_values = [np.array(f) for f in optimizer._factors]
    before = weights(model)
    broken = np.array(x)
    broken[0, 0] = np.nan
    history = model.fit(broken, y, batch_size=64, verbose=0).history
    assert np.isnan(history["kl"]).all()
    assert history["step_size"] == [0.0]
    np.testing.assert_array_equal(weights(model), before)
    for factor, value in zip(optimizer._factors, factor_values, strict=True):
        np.testing.assert_array_equal(factor, value)
    losses = model.fit(x, y, batch_size=64, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_layers_of_the_same_name_have_factors_of_their_own():
    def part(width, units):
        x = keras.Input([width])
        return keras.Model(x, keras.layers.Dense(units, "tanh", name="dense")(x))

    keras.utils.set_random_seed(0)
    x = keras.Input([3])
    model = keras.Model(x, part(5, 4)(part(3, 5)(x)))
    _, _, history = train(KFAC(), model, epochs=3, run_eagerly=True)
    assert history["loss"][-1] < history["loss"][0]


def test_it_needs_fewer_steps_than_gradient_descent():
    data = batch(400)
    _, _, kfac = train(KFAC(), data=data, epochs=20)
    _, _, adam = train(keras.optimizers.Adam(0.03), data=data, epochs=20)
    assert kfac["loss"][-1] < 0.5 * adam["loss"][-1]
    assert kfac["momentum"][0] == 0.0
    assert kfac["momentum"][-1] > 0.0


def test_eager_graph_and_xla_take_the_same_steps():
    # Sampled targets are TensorFlow's random numbers, which XLA changes; of a Gaussian
    # they come only into G, and with many samples hardly.
    x = inputs(20_000)
    y = np.tanh(np.asarray(x) @ np.random.default_rng(0).normal(size=[3, 4]))
    results = []
    for arguments in (
        {"run_eagerly": True},
        {"jit_compile": False},
        {"jit_compile": True},
    ):
        model, _, history = train(
            KFAC(0.5), loss="mse", data=(x, y), epochs=4, **arguments
        )
        results.append((weights(model), history["loss"]))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-3, atol=1e-4)
    for got, losses in results[1:]:
        np.testing.assert_allclose(losses, results[0][1], rtol=0.03)
        np.testing.assert_allclose(got, results[0][0], atol=0.05)


def test_checkpoints_and_keras_files_continue_the_run(tmp_path):
    x, y = batch(100)

    def fit(model, epochs):
        return model.fit(x, y, batch_size=50, epochs=epochs, shuffle=False, verbose=0)

    whole = second_order(mlp())
    whole.compile(optimizer=KFAC(), loss=CROSSENTROPY)
    fit(whole, 3)
    path = tf.train.Checkpoint(model=whole, optimizer=whole.optimizer).write(
        str(tmp_path / "checkpoint")
    )
    whole.save(tmp_path / "model.keras")
    fit(whole, 2)
    restored = second_order(mlp())
    restored.compile(optimizer=KFAC(), loss=CROSSENTROPY)
    restored.optimizer.build(restored.trainable_variables)
    tf.train.Checkpoint(model=restored, optimizer=restored.optimizer).read(path)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for model in (restored, loaded):
        fit(model, 2)
        np.testing.assert_allclose(weights(model), weights(whole), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ["tanh", keras.layers.LeakyReLU()])
def test_recording_leaves_the_layers_as_they_were(activation):
    model, x = mlp(activation), inputs()
    before = model(x)
    layers = [layer for layer in model.layers if layer.weights]
    activations = [layer.activation for layer in layers]
    sampled_factors(model, x, DISTRIBUTIONS["categorical"])
    assert [layer.activation for layer in layers] == activations
    assert not any("call" in vars(layer) for layer in layers)
    assert len(list(layers[0]._flatten_layers(include_self=False))) <= 1
    np.testing.assert_array_equal(model(x), before)


def test_config_round_trip():
    optimizer = KFAC(
        0.5,
        damping=0.3,
        damping_every=2,
        decay=0.9,
        inverse_every=7,
        momentum=False,
        output_distribution=DISTRIBUTIONS["gaussian"],
        seed=3,
    )
    config = keras.optimizers.serialize(optimizer)
    assert keras.optimizers.serialize(keras.optimizers.deserialize(config)) == config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"damping": 0.0}, "damping must be positive, got 0.0"),
        ({"decay": 1.0}, r"decay must be in \[0, 1\), got 1.0"),
        ({"inverse_every": 0}, "inverse_every must be at least 1, got 0"),
        ({"damping_every": -1}, "damping_every must be at least 0, got -1"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        KFAC(**arguments)


def test_layers_without_factors_are_refused():
    with_statistics = keras.Sequential(
        [
            keras.layers.Input([3]),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(4),
        ]
    )
    with pytest.raises(ValueError, match=r"no factors for .*norm/gamma; it"):
        train(KFAC(), with_statistics)
    with_weights = keras.Sequential(
        [
            keras.layers.Input([3]),
            keras.layers.Dense(4, activation=keras.layers.PReLU(name="slope")),
        ]
    )
    with pytest.raises(ValueError, match=r"no factors for .*slope/alpha; it"):
        train(KFAC(), with_weights)
    x = keras.Input([3])
    twice = keras.layers.Dense(3, name="twice")
    shared = keras.Model(x, keras.layers.Dense(4)(twice(twice(x))))
    with pytest.raises(ValueError, match="the layer twice is used twice"):
        train(KFAC(), shared)
    stock = mlp()
    stock.compile(optimizer=KFAC(), loss=CROSSENTROPY)
    with pytest.raises(ValueError, match="KFAC needs the forward pass"):
        stock.fit(*batch(), verbose=0)
