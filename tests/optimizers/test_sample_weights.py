"""Weights of samples, classes and losses, and masks: the curvature contains them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.optimizers.networks import inputs, mlp
from tests.optimizers.test_natural_gradient import CROSSENTROPY, batch, weights
from tfzoo.optimizers.curvature_products import mean_kl_divergence
from tfzoo.optimizers.kfac import KFAC
from tfzoo.optimizers.natural_gradient import NaturalGradient
from tfzoo.optimizers.output_distributions import GaussianOutputs
from tfzoo.optimizers.second_order_model import second_order

BATCH, STEPS = 60, 4
RANDOM = np.random.default_rng(3).uniform(0.1, 2.0, size=BATCH)
HALF = np.repeat([1.0, 0.0], BATCH // 2)
# In one layer with one output, the factors of K-FAC are the whole curvature.
OPTIMIZERS = {
    "natural": lambda: NaturalGradient(
        damping=0.0, cg_iterations=100, cg_tolerance=1e-7
    ),
    "kfac": lambda: KFAC(damping=1e-6),
}


def train(model, optimizer, data, loss="mse", epochs=1, **arguments):
    """Fits on one batch, (x, y) or (x, y, sample_weight); returns (model, history)."""
    options = {"run_eagerly": True, **arguments}
    model = second_order(model)
    model.compile(optimizer=optimizer, loss=loss, **options)
    x, y, w = (*data, None)[:3]
    history = model.fit(
        x,
        y,
        sample_weight=w,
        batch_size=len(x),
        epochs=epochs,
        shuffle=False,
        verbose=0,
    )
    return model, history.history


def regression(shape):
    """Noisy targets, so that the weights decide where the minimum is."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=[*shape, 3])
    y = x @ [[1.0], [2.0], [-1.0]] + 3 + rng.normal(size=[*shape, 1])
    return x.astype("float32"), y.astype("float32")


def least_squares(x, y, w):
    x, y, root = x.reshape(-1, 3), y.reshape(-1), np.sqrt(np.ravel(w))
    design = np.c_[x, np.ones(len(x))]
    return np.linalg.lstsq(root[:, None] * design, root * y, rcond=None)[0]


CASES = {
    "none": (None, None),
    "tenth": (np.full(BATCH, 0.1), None),
    "ten": (np.full(BATCH, 10.0), None),
    "half": (HALF, None),
    "random": (RANDOM, None),
    "column": (RANDOM[:, None], None),
    "loss tenth": (None, 0.1),
    "loss ten": (None, 10.0),
    "random, loss tenth": (RANDOM, 0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("case", CASES)
def test_one_step_is_the_weighted_least_squares(case, optimizer):
    sample_weight, loss_weight = CASES[case]
    x, y = regression([BATCH])
    model = keras.Sequential([keras.layers.Input([3]), keras.layers.Dense(1)])
    model, _ = train(
        model,
        OPTIMIZERS[optimizer](),
        (x, y, sample_weight),
        loss_weights=loss_weight,
    )
    w = np.ones(BATCH) if sample_weight is None else sample_weight
    np.testing.assert_allclose(weights(model), least_squares(x, y, w), atol=2e-3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("with_sample_weight", [False, True])
def test_one_step_with_masked_places_is_the_least_squares_of_the_others(
    with_sample_weight, optimizer
):
    rng = np.random.default_rng(1)
    x, y = regression([BATCH, STEPS])
    valid = np.arange(STEPS) < rng.integers(1, STEPS, size=[BATCH, 1])
    x = x * valid[..., None]
    w = rng.uniform(0.1, 2.0, size=[BATCH, STEPS]) if with_sample_weight else None
    model = keras.Sequential(
        [
            keras.layers.Input([STEPS, 3]),
            keras.layers.Masking(),
            keras.layers.Dense(1),
        ]
    )
    model, _ = train(model, OPTIMIZERS[optimizer](), (x, y, w))
    expected = least_squares(x, y, valid * (1.0 if w is None else w))
    np.testing.assert_allclose(weights(model), expected, atol=2e-3)


def test_the_fraction_of_the_curvature_is_weighted_by_its_own_weights():
    x, y = regression([BATCH])
    w = np.linspace(0.1, 2.0, BATCH)
    model = keras.Sequential([keras.layers.Input([3]), keras.layers.Dense(1)])
    optimizer = NaturalGradient(
        damping=0.0, cg_iterations=100, cg_tolerance=1e-7, curvature_fraction=0.5
    )
    # Both halves are the same, so that the curvature of one is that of the whole.
    twice = (np.r_[x, x], np.r_[y, y], np.r_[w, w])
    model, _ = train(model, optimizer, twice)
    np.testing.assert_allclose(weights(model), least_squares(x, y, w), atol=2e-3)


@pytest.mark.parametrize("make", [NaturalGradient, KFAC])
def test_a_constant_weight_only_scales_the_loss(make):
    """With the damping scaled as the loss is, steps and divergences are the same."""
    x, y = batch()
    options = {} if make is KFAC else {"kl_radius": 0.05, "line_search_steps": 5}

    def run(factor, sample_weight):
        optimizer = make(damping=0.1 * factor, **options)
        model, history = train(
            mlp(), optimizer, (x, y, sample_weight), CROSSENTROPY, epochs=3
        )
        return weights(model), history

    expected, plain = run(1.0, None)
    got, scaled = run(0.1, np.full(len(x), 0.1))
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(scaled["kl"], plain["kl"], rtol=1e-3)
    np.testing.assert_allclose(scaled["loss"], 0.1 * np.array(plain["loss"]), rtol=1e-3)


def test_samples_of_weight_zero_are_as_if_they_were_not_there():
    x, y = batch()
    half = len(x) // 2

    def run(damping, *data):
        optimizer = NaturalGradient(
            kl_radius=0.05, damping=damping, line_search_steps=5, cg_iterations=5
        )
        model, history = train(mlp(), optimizer, data, CROSSENTROPY, epochs=2)
        return weights(model), history["kl"]

    expected, kl = run(0.1, x[:half], y[:half])
    # The loss is divided by the size of the batch, and so is half.
    got, weighted_kl = run(0.05, x, y, np.repeat([1.0, 0.0], half))
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(weighted_kl, kl, rtol=1e-3)


def test_padding_changes_nothing():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=[20, 3, 3]), rng.integers(0, 4, size=[20, 3])

    def run(padding):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.layers.Input([3 + padding, 3]),
                keras.layers.Masking(),
                keras.layers.Dense(4),
            ]
        )
        optimizer = NaturalGradient(kl_radius=0.05, damping=0.01, line_search_steps=5)
        padded = [
            np.pad(x, [(0, 0), (0, padding), (0, 0)]),
            np.pad(y, [(0, 0), (0, padding)]),
        ]
        model, history = train(model, optimizer, padded, CROSSENTROPY)
        return weights(model), history["kl"]

    (expected, kl), (got, padded_kl) = run(0), run(4)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(padded_kl, kl, rtol=1e-3)


@pytest.mark.parametrize("optimizer", [NaturalGradient(0.1), KFAC(0.1)])
def test_kl_is_the_weighted_average(optimizer):
    x, y = regression([BATCH])
    model = keras.Sequential([keras.layers.Input([3]), keras.layers.Dense(1)])
    old = model(x).numpy()
    model, history = train(model, optimizer, (x, y, RANDOM))
    # Of Gaussians of variance 1/2.
    divergences = (model(x).numpy() - old)[:, 0] ** 2
    expected = np.average(divergences, weights=RANDOM)
    np.testing.assert_allclose(history["kl"], [expected], rtol=1e-3)


@pytest.mark.parametrize(
    "optimizer", [NaturalGradient(kl_radius=0.1, line_search_steps=2), KFAC()]
)
def test_weights_of_zero_everywhere_take_no_step(optimizer):
    model = mlp()
    before = weights(model)
    x, y = batch()
    model, history = train(model, optimizer, (x, y, np.zeros(len(x))), CROSSENTROPY)
    np.testing.assert_array_equal(weights(model), before)
    assert history["kl"] == [0.0]


@pytest.mark.parametrize("make", [NaturalGradient, KFAC])
def test_negative_weights_have_the_curvature_of_their_size(make):
    # A policy gradient weighs its samples by advantages.
    x, y = batch()
    advantages = np.random.default_rng(0).normal(size=len(x))
    radius = {"kl_radius": 0.01} if make is NaturalGradient else {}
    model = mlp()
    before = weights(model)
    model, history = train(
        model, make(damping=0.1, **radius), (x, y, advantages), CROSSENTROPY, epochs=2
    )
    assert np.isfinite(history["kl"]).all()
    assert min(history["kl"]) > 0
    assert history["loss"][1] < history["loss"][0]
    assert 0 < np.abs(weights(model) - before).max() < 10


def test_a_radius_without_curvature_takes_no_step():
    x, y = batch()
    model = keras.Sequential(
        [keras.layers.Input([3]), keras.layers.Dense(4, kernel_regularizer="l2")]
    )
    before = weights(model)
    optimizer = NaturalGradient(kl_radius=0.01)
    model, _ = train(model, optimizer, (x, y, np.zeros(len(x))), CROSSENTROPY)
    np.testing.assert_array_equal(weights(model), before)


def test_weights_of_classes_are_weights_of_samples():
    x, y = batch()
    of_class = {0: 0.5, 1: 2.0, 2: 1.0, 3: 0.0}
    results = []
    for arguments in (
        {"class_weight": of_class},
        {"sample_weight": np.array([of_class[c] for c in y])},
    ):
        model = second_order(mlp())
        model.compile(optimizer=NaturalGradient(), loss=CROSSENTROPY)
        model.fit(x, y, batch_size=len(x), verbose=0, **arguments)
        results.append(weights(model))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4, atol=1e-5)


def test_eager_graph_and_xla_weigh_the_same():
    x, y = regression([BATCH, STEPS])
    x[:, -1] = 0.0
    w = np.tile(RANDOM[:, None], STEPS)
    results = []
    for arguments in (
        {},
        {"run_eagerly": False, "jit_compile": False},
        {"run_eagerly": False, "jit_compile": True},
    ):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.layers.Input([STEPS, 3]),
                keras.layers.Masking(),
                keras.layers.Dense(1),
            ]
        )
        optimizer = NaturalGradient(0.5, curvature_fraction=0.5)
        model, history = train(model, optimizer, (x, y, w), **arguments)
        results.append((weights(model), history["kl"]))
    for got, kl in results[1:]:
        np.testing.assert_allclose(got, results[0][0], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(kl, results[0][1], rtol=1e-3)


def test_what_has_no_weights_in_the_curvature_is_refused():
    x, y = batch()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    with pytest.raises(ValueError, match="ignore_class=0, which the curvature does"):
        train(mlp(), NaturalGradient(), (x, y), loss)
    # Keras has no meaning for weights that are one to a row of places.
    x, y = regression([BATCH, STEPS])
    model = keras.Sequential([keras.layers.Input([STEPS, 3]), keras.layers.Dense(1)])
    optimizer = NaturalGradient(output_distribution=GaussianOutputs())

    def loss_of_samples(y_true, y_pred):
        return tf.reduce_mean((y_true - y_pred) ** 2, axis=[1, 2])

    with pytest.raises(ValueError, match=r"one weight for each place .*\(60, 4\)"):
        train(model, optimizer, (x, y, RANDOM), loss_of_samples)
    with pytest.raises(ValueError, match=r"shape of the divergences, \(7,\), got"):
        mean_kl_divergence(
            GaussianOutputs(), tf.zeros([7, 2]), tf.zeros([7, 2]), tf.ones([7, 2])
        )
    # The first layer has other places than the outputs.
    other_places = keras.Sequential(
        [
            keras.layers.Input([3]),
            keras.layers.Dense(8, name="first"),
            keras.layers.Reshape([4, 2]),
            keras.layers.Dense(2),
        ]
    )
    data = (inputs(BATCH), tf.zeros([BATCH, 4, 2]), np.ones([BATCH, 4]))
    with pytest.raises(ValueError, match="but the layer first has the places"):
        train(other_places, KFAC(), data)
    train(other_places, NaturalGradient(), data)
