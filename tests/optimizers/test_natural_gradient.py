"""The natural gradient: its theorems, its modes, and what it refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.optimizers.networks import inputs, mlp
from tfzoo.losses import PolicyGradientLoss, pack_policy_targets
from tfzoo.optimizers.curvature_products import dense_fisher, mean_kl_divergence
from tfzoo.optimizers.natural_gradient import NaturalGradient
from tfzoo.optimizers.output_distributions import (
    CategoricalOutputs,
    GaussianOutputs,
    Likelihood,
    likelihood_of,
)
from tfzoo.optimizers.second_order_model import second_order
from tfzoo.optimizers.vectors import flatten

CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
EXACT = {"cg_iterations": 200, "cg_tolerance": 1e-7}


def batch(size=64):
    x = inputs(size)
    y = np.argmax(np.asarray(x) @ np.random.default_rng(5).normal(size=[3, 4]), axis=1)
    return x, y


def weights(model):
    return np.concatenate([np.ravel(w) for w in model.get_weights()])


def train(optimizer, model=None, loss=CROSSENTROPY, data=None, epochs=1, **arguments):
    """Fits on one batch; returns (model, weights before, history)."""
    model = second_order(model or mlp())
    model.compile(optimizer=optimizer, loss=loss, **arguments)
    before = weights(model)
    x, y = data or batch()
    history = model.fit(x, y, batch_size=len(x), epochs=epochs, verbose=0).history
    return model, before, history


@pytest.mark.parametrize("loss", ["crossentropy", "mse", "policy"])
def test_the_step_is_the_dense_solution(loss):
    damping, rate = 1e-2, 0.3
    x, y = batch()
    scale, distribution = 1.0, CategoricalOutputs()
    if loss == "mse":
        # (f - y)^2 is -log p(y) of variance 1/2, and Keras averages four of them.
        scale, distribution = 0.25, GaussianOutputs(0.5)
        loss, y = keras.losses.MeanSquaredError(), tf.one_hot(y, 4)
    elif loss == "policy":
        advantages = np.random.default_rng(2).normal(size=len(x))
        loss, y = PolicyGradientLoss("categorical"), pack_policy_targets(y, advantages)
    else:
        loss = CROSSENTROPY
    model = mlp()
    with tf.GradientTape() as tape:
        outputs = model(x)
        value = loss(y, outputs)
    variables = [v.value for v in model.trainable_variables]
    gradient = flatten(tape.gradient(value, variables)).numpy()
    fisher = dense_fisher(lambda: model(x), distribution, model.trainable_variables)
    curvature = scale * fisher.numpy() + damping * np.eye(len(gradient))
    expected = -rate * np.linalg.solve(curvature, gradient)
    model, before, history = train(
        NaturalGradient(rate, damping=damping, **EXACT), model, loss, (x, y)
    )
    np.testing.assert_allclose(
        weights(model) - before, expected, atol=5e-3 * abs(expected).max()
    )
    np.testing.assert_allclose(history["loss"], [value], rtol=1e-5)


def reparameterised(model):
    """The same function, with tanh for sigmoid: s(z) = (1 + tanh(z / 2)) / 2."""
    (w1, b1, w2, b2), other = model.get_weights(), mlp("tanh")
    other.set_weights([w1 / 2, b1 / 2, w2 / 2, b2 + w2.sum(axis=0) / 2])
    return other


def test_the_natural_step_does_not_depend_on_the_parameters_the_plain_one_does():
    """Sigmoid or the equivalent tanh: the same step as a function, for small steps."""
    # Weights of size one and many samples make a Fisher matrix without null space.
    data = batch(400)
    sigmoid = mlp("sigmoid")
    sigmoid.set_weights([2 * w for w in sigmoid.get_weights()])
    x = data[0]
    start = tf.nn.softmax(sigmoid(x))
    np.testing.assert_allclose(
        tf.nn.softmax(reparameterised(sigmoid)(x)), start, atol=1e-5
    )

    def moves(make_optimizer):
        changes = []
        for make in (lambda: sigmoid, lambda: reparameterised(sigmoid)):
            model = keras.models.clone_model(make())
            model.set_weights(make().get_weights())
            model, _, _ = train(make_optimizer(), model, data=data)
            changes.append(np.asarray(tf.nn.softmax(model(x)) - start))
        a, b = changes
        return np.linalg.norm(a - b) / np.linalg.norm(a)

    natural = moves(lambda: NaturalGradient(1e-2, damping=1e-7, cg_iterations=500))
    plain = moves(lambda: keras.optimizers.SGD(1e-2))
    assert natural < 0.02
    assert plain > 0.3


@pytest.mark.parametrize("radius", [1e-4, 1e-3, 1e-2])
def test_a_step_of_a_kl_radius_moves_the_distribution_so_far(radius):
    x, _ = data = batch(400)
    model = mlp()
    old = model(x)
    model, _, history = train(
        NaturalGradient(kl_radius=radius, damping=1e-2, cg_iterations=50),
        model,
        data=data,
    )
    kl = mean_kl_divergence(CategoricalOutputs(), old, model(x))
    np.testing.assert_allclose(kl, radius, rtol=0.02)
    np.testing.assert_allclose(history["kl"], [radius], rtol=1e-3)


def test_a_gaussian_of_wrong_scale_is_hit_in_one_newton_step():
    """A linear model: the Gauss-Newton matrix is the Hessian: one step will do."""
    x = inputs(50)
    y = np.asarray(x) @ [[1.0], [2.0], [-1.0]] + 3
    model = keras.Sequential([keras.layers.Input([3]), keras.layers.Dense(1)])
    model, _, _ = train(
        NaturalGradient(damping=0.0, **EXACT), model, "mean_squared_error", (x, y)
    )
    np.testing.assert_allclose(weights(model), [1, 2, -1, 3], atol=1e-3)


OPTIONS = {
    "plain": {},
    "everything": {
        "kl_radius": 0.02,
        "line_search_steps": 5,
        "adaptive_damping": True,
        "warm_start": 0.9,
        "curvature_fraction": 0.5,
    },
}


def busy_model():
    """With layers that are random or keep statistics in training."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.layers.Input([3]),
            keras.layers.Dense(6, "tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(4, kernel_regularizer="l2"),
        ]
    )


@pytest.mark.parametrize(
    "options", [pytest.param("plain", marks=pytest.mark.slow), "everything"]
)
def test_eager_graph_and_xla_take_the_same_steps(options):
    # Three iterations: the rounding of one grows in conjugate gradients.
    results = []
    for arguments in ({"run_eagerly": True}, {}, {"jit_compile": True}):
        optimizer = NaturalGradient(
            0.5, damping=0.1, cg_iterations=3, **OPTIONS[options]
        )
        arguments = {"jit_compile": False, **arguments}
        model, _, history = train(optimizer, busy_model(), epochs=3, **arguments)
        results.append((weights(model), history))
    for got, history in results[1:]:
        np.testing.assert_allclose(got, results[0][0], rtol=2e-3, atol=2e-4)
        for name, values in results[0][1].items():
            np.testing.assert_allclose(history[name], values, rtol=2e-2, atol=1e-4)
    assert results[0][1]["loss"][-1] < results[0][1]["loss"][0]


def test_evaluations_of_a_step_leave_statistics_and_dropout_as_one_does():
    def moving(optimizer):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.layers.Input([3]),
                keras.layers.Dropout(0.5, seed=7),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(4),
            ]
        )
        model, _, _ = train(optimizer, model, epochs=2)
        return [v.numpy() for v in model.non_trainable_variables]

    # Learning rates so small that the weights play no part.
    expected = moving(keras.optimizers.SGD(1e-9))
    got = moving(NaturalGradient(1e-9, line_search_steps=4, curvature_fraction=0.5))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_line_search_that_fails_leaves_the_weights_and_counts():
    optimizer = NaturalGradient(
        1e4, damping=1e-8, line_search_steps=2, backtracking=0.9
    )
    model, before, history = train(optimizer)
    np.testing.assert_array_equal(weights(model), before)
    assert history["line_search_failures"] == [1.0]
    assert history["kl"] == [0.0]
    # With lengths enough it finds one.
    optimizer = NaturalGradient(1e4, damping=1e-8, line_search_steps=30)
    model, before, history = train(optimizer)
    assert history["line_search_failures"] == [0.0]
    loss = model.evaluate(*batch(), verbose=0)
    assert loss < history["loss"][0]


def test_the_radius_bounds_the_measured_divergence():
    x, _ = data = batch()
    for radius in (0.01, 0.1, 1.0):
        model = mlp()
        old = model(x)
        model, _, history = train(
            NaturalGradient(kl_radius=radius, line_search_steps=20), model, data=data
        )
        kl = float(mean_kl_divergence(CategoricalOutputs(), old, model(x)))
        assert 0 < kl <= radius * 1.0001
        np.testing.assert_allclose(history["kl"], [kl], rtol=1e-3)


def test_a_step_that_is_a_little_too_long_is_shortened_only_a_little():
    # The learning rate makes the full step 1.2 times that of the radius.
    optimizer = NaturalGradient(
        1.2, kl_radius=0.01, line_search_steps=3, backtracking=0.5
    )
    _, _, history = train(optimizer)
    assert 0.9 * 0.01 < history["kl"][0] <= 0.01
    assert history["line_search_failures"] == [0.0]


def test_damping_grows_where_the_quadratic_model_fails_and_shrinks_where_it_holds():
    def damping_after(rate):
        optimizer = NaturalGradient(
            rate, damping=1e-3, adaptive_damping=True, cg_iterations=30
        )
        train(optimizer)
        return float(optimizer.damping) / 1e-3

    np.testing.assert_allclose(damping_after(100.0), 1.5, rtol=1e-5)
    np.testing.assert_allclose(damping_after(0.01), 2 / 3, rtol=1e-5)


def test_a_fisher_product_that_is_not_finite_takes_no_step_and_says_so():
    class Broken(CategoricalOutputs):
        def kl_divergence(self, outputs_p, outputs_q):
            return super().kl_divergence(outputs_p, outputs_q) * float("inf")

    for line_search_steps in (0, 3):
        optimizer = NaturalGradient(
            output_distribution=Broken(), line_search_steps=line_search_steps
        )
        model, before, history = train(optimizer)
        np.testing.assert_array_equal(weights(model), before)
        assert np.isnan(history["kl"]).all()


@keras.saving.register_keras_serializable(package="test_natural_gradient")
class Breaking(CategoricalOutputs):
    """Divergences that can be broken between two steps."""

    def __init__(self):
        super().__init__()
        self.factor = tf.Variable(1.0)

    def kl_divergence(self, outputs_p, outputs_q):
        return super().kl_divergence(outputs_p, outputs_q) * self.factor


@pytest.mark.parametrize("line_search_steps", [0, 3])
def test_a_warm_start_does_not_hide_a_product_that_is_not_finite(line_search_steps):
    distribution = Breaking()
    optimizer = NaturalGradient(
        0.1,
        warm_start=0.9,
        line_search_steps=line_search_steps,
        output_distribution=distribution,
    )
    model, _, _ = train(optimizer, run_eagerly=True)
    before = weights(model)
    for broken in (float("inf"), 1.0):
        distribution.factor.assign(broken)
        history = model.fit(*batch(), batch_size=64, verbose=0).history
        assert np.isfinite(history["kl"]).all() == np.isfinite(broken)
        assert np.array_equal(weights(model), before) == np.isinf(broken)


def test_a_distribution_can_be_given_with_its_scale():
    x, y = batch()
    data = (x, tf.one_hot(y, 4))

    def step(output_distribution):
        optimizer = NaturalGradient(
            0.5, cg_iterations=3, output_distribution=output_distribution
        )
        model, before, _ = train(
            optimizer, loss="mse", data=data, run_eagerly=True, loss_weights=2.0
        )
        return weights(model) - before

    expected = step(None)
    # Of variance 1 the logarithm is half as large.
    for given in (
        Likelihood(GaussianOutputs(0.5), 1 / 4),
        Likelihood(GaussianOutputs(1.0), 1 / 2),
    ):
        np.testing.assert_allclose(step(given), expected, rtol=1e-3, atol=1e-5)
    assert np.abs(step(GaussianOutputs(0.5)) - expected).max() > 1e-2


@pytest.mark.parametrize("options", OPTIONS)
def test_checkpoints_and_keras_files_continue_the_run(options, tmp_path):
    def make():
        return NaturalGradient(
            keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.5), **OPTIONS[options]
        )

    x, y = batch()

    def fit(model, epochs):
        return model.fit(x, y, batch_size=64, epochs=epochs, shuffle=False, verbose=0)

    whole, _, _ = train(make(), busy_model(), epochs=1)
    fit(whole, 2)
    path = tf.train.Checkpoint(model=whole, optimizer=whole.optimizer).write(
        str(tmp_path / "checkpoint")
    )
    whole.save(tmp_path / "model.keras")
    fit(whole, 2)

    restored = second_order(busy_model())
    restored.compile(optimizer=make(), loss=CROSSENTROPY)
    restored.optimizer.build(restored.trainable_variables)
    tf.train.Checkpoint(model=restored, optimizer=restored.optimizer).read(path)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for model in (restored, loaded):
        fit(model, 2)
        np.testing.assert_allclose(weights(model), weights(whole), rtol=1e-5, atol=1e-6)


def test_config_round_trip():
    optimizer = NaturalGradient(
        0.3,
        kl_radius=0.1,
        damping=0.2,
        adaptive_damping=True,
        cg_iterations=3,
        cg_tolerance=1e-4,
        warm_start=0.5,
        line_search_steps=4,
        backtracking=0.8,
        acceptance=0.2,
        curvature_fraction=0.25,
        output_distribution=GaussianOutputs(2.0),
    )
    config = keras.optimizers.serialize(optimizer)
    again = keras.optimizers.deserialize(config)
    assert keras.optimizers.serialize(again) == config
    assert again.output_distribution.variance == 2.0
    optimizer = NaturalGradient(
        output_distribution=Likelihood(GaussianOutputs(2.0), 0.5)
    )
    config = keras.optimizers.serialize(optimizer)
    again = keras.optimizers.deserialize(config)
    assert keras.optimizers.serialize(again) == config
    assert again.output_distribution.scale == 0.5
    assert again.output_distribution.distribution.variance == 2.0


def test_one_trace():
    model = second_order(mlp())
    traces, train_step = [], model.train_step

    def counted(data):
        traces.append(data)
        return train_step(data)

    model.train_step = counted
    model.compile(optimizer=NaturalGradient(0.5), loss=CROSSENTROPY, jit_compile=True)
    x, y = batch()
    for _ in range(3):
        model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    assert len(traces) == 1


def test_other_optimizers_train_as_in_keras():
    stock = mlp()
    stock.compile(optimizer=keras.optimizers.SGD(0.1), loss=CROSSENTROPY)
    x, y = batch()
    history = stock.fit(x, y, batch_size=64, epochs=3, verbose=0).history
    model, _, ours = train(keras.optimizers.SGD(0.1), epochs=3)
    np.testing.assert_allclose(weights(model), weights(stock), rtol=1e-6)
    np.testing.assert_allclose(ours["loss"], history["loss"], rtol=1e-6)
    assert ours.keys() == history.keys()


def test_metrics_weights_and_evaluation_are_those_of_keras():
    x, y = batch()
    model = second_order(mlp())
    model.compile(
        optimizer=NaturalGradient(0.5), loss=CROSSENTROPY, metrics=["accuracy"]
    )
    history = model.fit(
        x, y, batch_size=64, epochs=8, validation_data=(x, y), verbose=0
    ).history
    assert set(NaturalGradient.metric_names) < set(history)
    assert {name for name in history if name.startswith("val_")} == {
        "val_loss",
        "val_accuracy",
    }
    assert history["val_accuracy"][-1] > 0.9
    # Weights of zero take samples out of the loss.
    half = np.r_[np.ones(32), np.zeros(32)]
    loss = model.evaluate(x, y, sample_weight=half, verbose=0)[0]
    logs = model.train_on_batch(x, y, sample_weight=half, return_dict=True)
    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"damping": -1.0}, "damping must be at least 0, got -1.0"),
        ({"kl_radius": 0.0}, "kl_radius must be positive, got 0.0"),
        ({"cg_iterations": 0}, "cg_iterations must be at least 1, got 0"),
        ({"warm_start": 1.0}, r"warm_start must be in \[0, 1\), got 1.0"),
        ({"backtracking": 1.0}, r"backtracking must be in \(0, 1\), got 1.0"),
        ({"curvature_fraction": 0.0}, "curvature_fraction must be in"),
        ({"line_search_steps": -1}, "line_search_steps must be at least 0"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NaturalGradient(**arguments)


def test_what_it_cannot_do_is_refused():
    x, y = batch()
    with pytest.raises(ValueError, match="mean_absolute_error has no known output"):
        train(NaturalGradient(), loss="mean_absolute_error", data=(x, tf.one_hot(y, 4)))
    loss = keras.losses.SparseCategoricalCrossentropy(reduction="sum")
    with pytest.raises(ValueError, match="SparseCategoricalCrossentropy has no known"):
        train(NaturalGradient(), loss=loss)
    loss = PolicyGradientLoss("categorical", reduction="sum")
    with pytest.raises(ValueError, match="PolicyGradientLoss has no known output"):
        likelihood_of(loss, tf.zeros([5, 3]))
    loss = keras.losses.CategoricalCrossentropy(axis=1)
    with pytest.raises(ValueError, match="classes on the last axis, got axis=1"):
        likelihood_of(loss, tf.zeros([5, 4, 2]))
    stock = mlp()
    stock.compile(optimizer=NaturalGradient(), loss=CROSSENTROPY)
    with pytest.raises(ValueError, match="needs the forward pass"):
        stock.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match="has no inputs yet"):
        second_order(keras.Sequential([keras.layers.Dense(3)]))
    shared = keras.Input([3])
    heads = [keras.layers.Dense(4)(shared) for _ in range(2)]
    two = second_order(keras.Model(shared, heads))
    two.compile(optimizer=NaturalGradient(), loss=[CROSSENTROPY] * 2)
    with pytest.raises(ValueError, match=r"a model with one output, .* has 2"):
        two.fit(x, [y, y], verbose=0)


@pytest.mark.parametrize(
    ("loss", "outputs", "scale"),
    [
        ("mse", [5, 4], 1 / 4),
        (keras.losses.BinaryCrossentropy(from_logits=True), [5, 2, 3], 1 / 6),
        ("sparse_categorical_crossentropy", [5, 7, 3], 1 / 7),
        (keras.losses.CategoricalCrossentropy(), [5, 3], 1.0),
    ],
)
def test_losses_are_scaled_likelihoods(loss, outputs, scale):
    assert likelihood_of(loss, tf.zeros(outputs)).scale == pytest.approx(scale)
