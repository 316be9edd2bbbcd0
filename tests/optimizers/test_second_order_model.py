"""What models with the mixin give an optimizer, whatever the model is."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.devices import two_devices
from tests.optimizers.networks import inputs, mlp
from tests.optimizers.test_natural_gradient import CROSSENTROPY, batch, train, weights
from tfzoo.optimizers.kfac import KFAC
from tfzoo.optimizers.natural_gradient import NaturalGradient
from tfzoo.optimizers.second_order_model import (
    SecondOrderModel,
    SecondOrderTraining,
    second_order,
)


class Subclassed(SecondOrderTraining, keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(5, "tanh")
        self.head = keras.layers.Dense(4)

    def call(self, inputs):
        return self.head(self.hidden(inputs))


@pytest.mark.parametrize("optimizer", ["natural", "kfac"])
@pytest.mark.parametrize("build", [False, True])
def test_a_subclassed_model_is_built_with_the_first_batch(build, optimizer):
    def make():
        if optimizer == "kfac":
            return KFAC()
        return NaturalGradient(0.5, warm_start=0.5, damping=0.1, cg_iterations=3)

    x, y = batch()
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(5, "tanh"), keras.layers.Dense(4)]
    functional = keras.Sequential([keras.layers.Input([3]), *layers])
    keras.utils.set_random_seed(0)
    subclassed = Subclassed()
    if build:
        subclassed.build([None, 3])
    results = []
    for model in (subclassed, second_order(functional)):
        model.compile(optimizer=make(), loss=CROSSENTROPY, jit_compile=False)
        model.fit(x, y, batch_size=64, epochs=2, shuffle=False, verbose=0)
        results.append(weights(model))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-3, atol=1e-4)


def test_a_model_that_is_not_built_is_compiled():
    model, (x, y) = Subclassed(), batch()
    model.compile(optimizer=NaturalGradient(0.5), loss=CROSSENTROPY, jit_compile=True)
    losses = model.fit(x, y, batch_size=32, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def normalized():
    """Statistics without weights, so that K-FAC takes it too."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.layers.Input([3]),
            keras.layers.Dense(6, "tanh"),
            keras.layers.BatchNormalization(center=False, scale=False, momentum=0.5),
            keras.layers.Dense(4),
        ]
    )


STEPS = {
    "rejected": lambda: NaturalGradient(
        1e4, damping=1e-6, line_search_steps=2, backtracking=0.9, cg_iterations=30
    ),
    "accepted": lambda: NaturalGradient(0.5, line_search_steps=3),
    "fraction": lambda: NaturalGradient(0.5, curvature_fraction=0.25),
    "kfac": lambda: KFAC(damping_every=1),
}


@pytest.mark.parametrize(
    ("kind", "run_eagerly"),
    [*((kind, True) for kind in STEPS), ("rejected", False), ("kfac", False)],
)
def test_a_step_leaves_the_statistics_of_the_batch_at_the_old_weights(
    kind, run_eagerly
):
    optimizer = STEPS[kind]()
    model, (x, y) = normalized(), batch()
    hidden = model.layers[0](x).numpy()
    model, _, history = train(
        optimizer, model, data=(x, y), run_eagerly=run_eagerly, jit_compile=False
    )
    statistics = model.layers[2]
    np.testing.assert_allclose(
        statistics.moving_mean, 0.5 * hidden.mean(axis=0), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        statistics.moving_variance, 0.5 + 0.5 * hidden.var(axis=0), rtol=1e-4
    )
    if kind == "rejected":
        assert history["line_search_failures"] == [1.0]


def test_a_class_of_the_user_is_refused():
    class Mine(keras.Model):
        def compute_loss(self, *args, **kwargs):
            return 7.0 * super().compute_loss(*args, **kwargs)

    x = keras.Input([3])
    message = r"Mine is a class of your own, .* class Mine\(SecondOrderTraining"
    with pytest.raises(ValueError, match=message):
        second_order(Mine(x, keras.layers.Dense(4)(x)))

    class MySequential(keras.Sequential):
        pass

    with pytest.raises(ValueError, match="MySequential is a class of your own"):
        second_order(MySequential([keras.layers.Input([3]), keras.layers.Dense(4)]))


def test_inputs_and_outputs_keep_their_structure(tmp_path):
    x, y = batch()
    a, b = keras.Input([3], name="a"), keras.Input([3], name="b")
    keras.utils.set_random_seed(0)
    added = keras.layers.Add()([keras.layers.Dense(4)(a), keras.layers.Dense(4)(b)])
    stock = keras.Model({"b": b, "a": a}, {"logits": added})
    model = second_order(stock)
    assert isinstance(model, SecondOrderModel)
    data = {"a": x, "b": 2 * x}
    outputs = model(data)
    np.testing.assert_array_equal(outputs["logits"], stock(data)["logits"])
    model.compile(
        run_eagerly=True,
        optimizer=NaturalGradient(0.5, line_search_steps=2),
        loss={"logits": CROSSENTROPY},
        metrics={"logits": "accuracy"},
    )
    history = model.fit(
        data, {"logits": y}, batch_size=64, epochs=3, verbose=0, sample_weight=None
    ).history
    assert history["loss"][-1] < history["loss"][0]
    assert "accuracy" in history
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(data)["logits"], model(data)["logits"])


def test_a_list_of_one_loss_is_that_loss():
    model, _, _ = train(
        NaturalGradient(0.5, cg_iterations=3), loss=[CROSSENTROPY], run_eagerly=True
    )
    expected, _, _ = train(NaturalGradient(0.5, cg_iterations=3), run_eagerly=True)
    np.testing.assert_allclose(weights(model), weights(expected), rtol=1e-4)


@pytest.mark.parametrize("make", [NaturalGradient, KFAC])
def test_places_of_unknown_number_are_as_those_of_a_known_one(make):
    x = tf.reshape(inputs(40), [8, 5, 3])
    y = np.random.default_rng(0).integers(0, 4, size=[8, 5])

    def run(places, dataset):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Input([places, 3]), keras.layers.Dense(4)]
        model = second_order(keras.Sequential(layers))
        model.compile(optimizer=make(0.5), loss=CROSSENTROPY, jit_compile=False)
        model.fit(dataset, verbose=0)
        return weights(model)

    fixed = tf.data.Dataset.from_tensors((x, y))
    varying = tf.data.Dataset.from_generator(
        lambda: iter([(x, y)]),
        output_signature=(
            tf.TensorSpec([None, None, 3]),
            tf.TensorSpec([None, None], tf.int64),
        ),
    )
    np.testing.assert_allclose(run(None, varying), run(5, fixed), rtol=1e-4, atol=1e-5)


@pytest.fixture
def dtype_policy():
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    "optimizer",
    [
        NaturalGradient(0.5),
        NaturalGradient(kl_radius=0.1, line_search_steps=5, adaptive_damping=True),
        KFAC(damping_every=1),
    ],
    ids=["plain", "radius", "kfac"],
)
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains(policy, optimizer, dtype_policy):
    optimizer = type(optimizer).from_config(optimizer.get_config())
    dtype_policy(policy)
    model, _, history = train(
        optimizer, epochs=2, run_eagerly=True, auto_scale_loss=False
    )
    assert model(batch()[0]).dtype == policy.partition("_")[2]
    assert history["loss"][1] < history["loss"][0]
    assert np.isfinite(history["kl"]).all()


def test_half_precision_keeps_the_mask(dtype_policy):
    dtype_policy("mixed_bfloat16")
    x = np.ones([4, 3, 2], "float32")
    x[:, 1:] = 0.0
    model = keras.Sequential(
        [keras.layers.Input([3, 2]), keras.layers.Masking(), keras.layers.Dense(1)]
    )
    y = np.concatenate([np.ones([4, 1, 1]), np.full([4, 2, 1], 9.0)], axis=1)
    _, _, history = train(
        NaturalGradient(damping=1e-3), model, "mse", (x, y), 2, run_eagerly=True
    )
    assert history["loss"][1] < 1e-3


def test_what_it_cannot_do_is_refused(dtype_policy):
    x, y = batch()
    with two_devices().scope():
        model = second_order(mlp())
        model.compile(optimizer=NaturalGradient(), loss=CROSSENTROPY)
    with pytest.raises(ValueError, match="on one device, got a strategy of 2 replicas"):
        model.fit(x, y, batch_size=64, verbose=0)

    class Spread(keras.metrics.Mean):
        def update_state(self, y_true, y_pred, sample_weight=None):
            super().update_state(y_pred)

    with pytest.raises(ValueError, match="a metric is called 'kl', as a scalar of"):
        train(NaturalGradient(), metrics=[Spread(name="kl")], run_eagerly=True)

    float64 = keras.Sequential(
        [keras.layers.Input([3]), keras.layers.Dense(4, dtype="float64", name="wide")]
    )
    with pytest.raises(ValueError, match=r"needs float32 variables, .* is float64"):
        train(NaturalGradient(), float64)

    dtype_policy("mixed_float16")
    with pytest.raises(ValueError, match=r"KFAC cannot .* auto_scale_loss=False"):
        train(KFAC())


def test_a_state_for_other_variables_is_refused():
    for optimizer in (NaturalGradient(warm_start=0.5), KFAC()):
        model, _, _ = train(optimizer, run_eagerly=True)
        model.layers[1].trainable = False
        model.compile(optimizer=optimizer, loss=CROSSENTROPY, run_eagerly=True)
        with pytest.raises(ValueError, match=r"built for \(4\), got others \(2\)"):
            model.fit(*batch(), verbose=0)
    # Without a state of each variable, fewer of them are no matter.
    optimizer = NaturalGradient()
    model, _, _ = train(optimizer, run_eagerly=True)
    model.layers[1].trainable = False
    model.compile(optimizer=optimizer, loss=CROSSENTROPY, run_eagerly=True)
    model.fit(*batch(), verbose=0)
