"""The wrapper: which variables a rule sees, how far they move, and what lasts."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.devices import two_devices
from tfzoo.optimizers.layer_transforms import (
    GradientCentralization,
    LARSScaling,
    LayerTransform,
    LayerwiseClipping,
    OrthogonalizedMomentum,
)
from tfzoo.optimizers.layerwise import (
    LayerwiseOptimizer,
    layer_of,
    paths_when_built,
    unique_paths,
)
from tfzoo.optimizers.shampoo import Shampoo

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 6, 6, 2)).astype("float32")
Y = RNG.integers(0, 3, 32)
MODES = {
    "eager": {"run_eagerly": True},
    "graph": {"jit_compile": False},
    "xla": {"jit_compile": True},
}
PATHS = [
    f"net/{layer}/{name}"
    for layer in ("conv", "hidden", "head")
    for name in ("kernel", "bias")
]


def make_model(layers=None):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        layers
        or [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(3, 3, strides=2, activation="relu", name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation="relu", name="hidden"),
            keras.layers.Dense(3, name="head"),
        ],
        name="net",
    )


def train(model, optimizer=None, epochs=1, batch_size=8, **options):
    """Trains a model, newly compiled if an optimizer is given; returns its weights."""
    if optimizer is not None:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, **options)
    model.fit(X, Y, batch_size, epochs, shuffle=False, verbose=0)
    return model.get_weights()


def make_variables():
    shapes = {"enc/kernel": (4, 3), "enc/bias": (3,), "dec/kernel": (3, 2)}
    return [
        tf.Variable(RNG.normal(size=shape).astype("float32"), name=name)
        for name, shape in shapes.items()
    ]


def make_gradients(variables):
    return [tf.constant(RNG.normal(size=v.shape), v.dtype) for v in variables]


def assert_equal(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def assert_close(actual, expected, **tolerance):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), **tolerance)


@keras.saving.register_keras_serializable(package="test_layerwise")
class Spy(LayerTransform):
    """Notes what it is given, counts its steps, and adds up gradients."""

    def __init__(self, name="spy"):
        self.name = name
        self.calls = []

    def make_slots(self, variables, add_slot):
        return add_slot("steps", [], dtype="int32"), [
            add_slot("sum", v.shape) for v in variables
        ]

    def __call__(self, gradients, variables, slots):
        self.calls.append([getattr(v, "path", v.name) for v in variables])
        steps, sums = slots
        steps.assign_add(1)
        for total, gradient in zip(sums, gradients, strict=True):
            total.assign_add(gradient)
        return gradients

    def get_config(self):
        return {"name": self.name}


# What a transform sees.


@pytest.mark.parametrize("mode", MODES)
def test_a_transform_sees_each_layer_whole_and_once_a_step(mode):
    spy = Spy()
    model = make_model()
    optimizer = LayerwiseOptimizer(keras.optimizers.SGD(0.1), {"conv|head": spy})
    # In the first step it would make variables, which TensorFlow traces twice.
    optimizer.build(model.trainable_variables)
    before = model.get_weights()
    after = train(model, optimizer, epochs=3, **MODES[mode])
    layers = [PATHS[:2], PATHS[4:]]
    if mode == "eager":
        assert spy.calls == layers * 12  # 3 epochs of 4 batches
    else:
        assert spy.calls == layers  # one trace
    steps = {v.path: v.numpy() for v in optimizer.variables if "steps" in v.path}
    assert sorted(steps.values()) == [12, 12]
    assert int(optimizer.iterations) == 12
    # Plain gradient descent: the sum of the gradients is the way that was gone.
    sums = [v.numpy() for v in optimizer.variables if "sum" in v.path]
    for index, total in zip([0, 1, 4, 5], sums, strict=True):
        np.testing.assert_allclose(
            before[index] - 0.1 * total, after[index], rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize(
    ("selector", "groups"),
    [
        (".", [[0, 1], [2, 3], [4, 5]]),
        ("kernel$", [[0], [2], [4]]),
        (r"\bhead/", [[4, 5]]),
        ("d(en)?/", [[2, 3], [4, 5]]),
        (lambda model: model.layers[0], [[0, 1]]),
        (lambda model: model, [[0, 1, 2, 3, 4, 5]]),
        (lambda model: model.layers[2].bias, [[3]]),
        (lambda model: [model.layers[3].bias, model.layers[0].kernel], [[5, 0]]),
        (["net/hidden/bias", "net/conv/bias"], [[3, 1]]),
    ],
)
def test_selectors(selector, groups):
    model = make_model()
    spy = Spy()
    if callable(selector):
        selector = selector(model)
    optimizer = LayerwiseOptimizer("sgd", [(selector, spy)])
    optimizer.build(model.trainable_variables)
    optimizer.apply(make_gradients(model.trainable_variables))
    assert spy.calls == [[PATHS[i] for i in group] for group in groups]


def test_a_layer_inside_a_layer_is_a_layer():
    attention = keras.layers.MultiHeadAttention(2, 3, name="attention")
    attention.build((1, 4, 3), (1, 4, 3))
    spies = Spy(), Spy()
    optimizer = LayerwiseOptimizer("sgd", [("kernel", spies[0]), (attention, spies[1])])
    optimizer.build(attention.trainable_variables)
    optimizer.apply(make_gradients(attention.trainable_variables))
    assert [len(call) for call in spies[0].calls] == [1, 1, 1, 1]
    assert [len(call) for call in spies[1].calls] == [8]


def test_rules_apply_in_order():
    class Affine(LayerTransform):
        def __init__(self, factor, offset):
            self.factor, self.offset = factor, offset

        def __call__(self, gradients, variables, slots):
            return [self.factor * g + self.offset for g in gradients]

    variables = make_variables()
    before = [v.numpy() for v in variables]
    gradients = make_gradients(variables)
    rules = [("enc", Affine(2.0, 1.0)), ("kernel", Affine(3.0, 0.0))]
    LayerwiseOptimizer(keras.optimizers.SGD(1.0), rules).apply(gradients, variables)
    expected = [3 * (2 * gradients[0] + 1), 2 * gradients[1] + 1, 3 * gradients[2]]
    for variable, start, step in zip(variables, before, expected, strict=True):
        np.testing.assert_allclose(variable, start - step, rtol=1e-5, atol=1e-5)


def test_a_missing_gradient_enters_as_zeros_and_stays_missing():
    variables = make_variables()
    before = [v.numpy() for v in variables]
    kernel, _, other = make_gradients(variables)
    spy = Spy()
    optimizer = LayerwiseOptimizer(
        keras.optimizers.SGD(1.0, weight_decay=0.5),
        [(".", spy), ("enc", LayerwiseClipping(0.1))],
    )
    with pytest.warns(UserWarning, match="enc/bias"):
        optimizer.apply([kernel, None, other], variables)
    assert spy.calls[0] == ["enc/kernel:0", "enc/bias:0"]
    np.testing.assert_array_equal(variables[1], before[1])
    np.testing.assert_allclose(
        variables[0],
        0.5 * before[0] - 0.1 * kernel / tf.norm(kernel),
        rtol=1e-5,
        atol=1e-6,
    )
    # A layer without any gradient is not transformed.
    with pytest.warns(UserWarning, match="enc/kernel"):
        optimizer.apply([None, None, other])
    assert spy.calls[2:] == [["dec/kernel:0"]]


def test_sparse_gradients_become_dense_where_they_are_transformed():
    tables = [tf.Variable(tf.ones([4, 2]), name=f"{name}/table") for name in "ab"]
    gradient = tf.IndexedSlices(tf.constant([[3.0, 4.0], [3.0, 4.0]]), [1, 1], [4, 2])
    optimizer = LayerwiseOptimizer(
        keras.optimizers.SGD(1.0), {"a/": LayerwiseClipping(5.0)}, {"b/": 0.5}
    )
    optimizer.apply([gradient, gradient], tables)
    np.testing.assert_allclose(tables[0][1], [1 - 3.0, 1 - 4.0], rtol=1e-6)
    np.testing.assert_allclose(tables[1][1], [1 - 3.0, 1 - 4.0], rtol=1e-6)
    np.testing.assert_array_equal(tables[1][0], [1.0, 1.0])


@pytest.mark.parametrize(
    ("dtype", "seen"),
    [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")],
)
def test_transforms_compute_in_float32_or_more(dtype, seen):
    dtypes = []

    class Note(LayerTransform):
        def make_slots(self, variables, add_slot):
            return add_slot("note", [])

        def __call__(self, gradients, variables, slots):
            dtypes.append((slots.dtype, *(g.dtype.name for g in gradients)))
            return gradients

    kernel = keras.Variable(np.ones((3, 2)), dtype=dtype, name="kernel")
    optimizer = LayerwiseOptimizer(
        keras.optimizers.SGD(1.0),
        [(kernel, Note()), (kernel, OrthogonalizedMomentum()), (kernel, Shampoo())],
        [(kernel, 0.5)],
    )
    optimizer.apply([tf.cast(tf.eye(3, 2), dtype)], [kernel])
    assert dtypes == [(seen, seen)]
    assert kernel.dtype == dtype
    assert np.all(np.isfinite(np.asarray(kernel, "float32")))
    assert np.abs(np.asarray(kernel, "float32") - 1).max() > 0.01


# How far variables move.


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(keras.optimizers.SGD, 0.1, momentum=0.9, nesterov=True),
        functools.partial(keras.optimizers.Adam, 0.01),
        functools.partial(keras.optimizers.AdamW, 0.01, weight_decay=0.3),
        functools.partial(keras.optimizers.RMSprop, 0.01, clipnorm=0.1),
    ],
    ids=["sgd", "adam", "adamw", "rmsprop"],
)
def test_a_multiplier_scales_the_update(make):
    variables = make_variables()
    before = [v.numpy() for v in variables]
    gradients = make_gradients(variables)
    make().apply(gradients, variables)
    plain = [v.numpy() - b for v, b in zip(variables, before, strict=True)]

    multipliers = [0.1, 3.0, 0.0]
    for variable, start in zip(variables, before, strict=True):
        variable.assign(start)
    rules = [("enc", 3.0), ("enc/kernel", 0.1), (variables[2], 0)]
    LayerwiseOptimizer(make(), multipliers=rules).apply(gradients, variables)
    for v, start, m, step in zip(variables, before, multipliers, plain, strict=True):
        np.testing.assert_allclose(v - start, m * step, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(variables[2], before[2])


@pytest.mark.parametrize("mode", MODES)
def test_a_frozen_variable_keeps_its_bits(mode):
    model = make_model()
    hidden = model.get_layer("hidden")
    # A constraint that it does not meet would move it.
    hidden.kernel.constraint = keras.constraints.UnitNorm()
    before = model.get_weights()
    optimizer = LayerwiseOptimizer(
        keras.optimizers.AdamW(0.01, weight_decay=0.1),
        [(".", Spy())],
        [(hidden, 0.0), ("head/bias", 0.0)],
        use_ema=True,
        ema_momentum=0.7,
        ema_overwrite_frequency=2,
    )
    after = train(model, optimizer, epochs=2, **MODES[mode])
    assert_equal([after[i] for i in (2, 3, 5)], [before[i] for i in (2, 3, 5)])
    assert all(np.abs(after[i] - before[i]).max() > 1e-3 for i in (0, 1, 4))
    slots = [v.path for v in optimizer.variables if "hidden" in v.path]
    assert all(path.endswith("average") for path in slots)


def test_constraints_hold_after_scaling():
    kernel = keras.Variable(np.eye(3, 2, dtype="float32"))
    kernel.constraint = keras.constraints.UnitNorm()
    optimizer = LayerwiseOptimizer(
        keras.optimizers.SGD(1.0), multipliers=[(kernel, 2.5)]
    )
    optimizer.apply([tf.constant(RNG.normal(size=(3, 2)), tf.float32)], [kernel])
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), [1.0, 1.0], rtol=1e-5)


# What a Keras optimizer can.


def test_without_rules_it_is_the_inner_optimizer():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)
    make = functools.partial(
        keras.optimizers.AdamW, schedule, weight_decay=0.1, global_clipnorm=0.5
    )
    plain = train(make_model(), make())
    wrapped = train(make_model(), LayerwiseOptimizer(make()))
    assert_close(wrapped, plain, rtol=1e-6, atol=1e-8)


def make_everything(model):
    """One rule of each transform, by all kinds of selectors."""
    return LayerwiseOptimizer(
        keras.optimizers.SGD(0.05, momentum=0.9, weight_decay=1e-3),
        [
            (".", LayerwiseClipping(1.0)),
            (model.get_layer("conv"), GradientCentralization()),
            ("hidden/kernel", OrthogonalizedMomentum()),
            (model.get_layer("head").kernel, Shampoo(update_every=3, damping=1e-3)),
            ("^net/conv/", LARSScaling(0.1)),
            ("head", Spy()),
        ],
        [("bias$", 2.0), (model.get_layer("head").bias, 0.0)],
    )


def test_the_same_eagerly_in_a_graph_and_through_xla():
    weights = {}
    for mode, options in MODES.items():
        model = make_model()
        weights[mode] = train(model, make_everything(model), **options)
    # Four steps in which Newton-Schulz spreads what rounding there is.
    assert_close(weights["graph"], weights["eager"], rtol=1e-3, atol=1e-3)
    assert_close(weights["xla"], weights["eager"], rtol=1e-3, atol=1e-3)


def test_a_checkpoint_holds_every_slot(tmp_path):
    uninterrupted = make_model()
    optimizer = make_everything(uninterrupted)
    train(uninterrupted, optimizer, epochs=2)
    path = tf.train.Checkpoint(model=uninterrupted, optimizer=optimizer).save(
        str(tmp_path / "checkpoint")
    )
    saved = [v.numpy() for v in optimizer.variables]
    expected = train(uninterrupted)

    for built in (True, False):  # before the checkpoint is restored
        resumed = make_model()
        optimizer = make_everything(resumed)
        if built:
            optimizer.build(resumed.trainable_variables)
        checkpoint = tf.train.Checkpoint(model=resumed, optimizer=optimizer)
        status = checkpoint.restore(path)
        if built:
            status.assert_consumed()
            assert_equal(optimizer.variables, saved)
        assert_equal(train(resumed, optimizer), expected)
        status.assert_consumed()


def test_a_keras_file_holds_rules_and_slots(tmp_path):
    model = make_model()
    optimizer = make_everything(model)
    train(model, optimizer, epochs=2)
    paths = [str(tmp_path / f"{number}.keras") for number in range(2)]
    model.save(paths[0])
    # Loaded, the paths have lost "net/", which a rule asks for: twice, to be sure.
    keras.models.load_model(paths[0]).save(paths[1])
    loaded = keras.models.load_model(paths[1])
    assert loaded.trainable_variables[0].path == "conv/kernel"
    assert_equal(loaded.optimizer.variables, optimizer.variables)
    assert loaded.optimizer.get_config() == optimizer.get_config()
    assert_equal(train(loaded), train(model))


def test_configuration():
    model = make_model()
    optimizer = make_everything(model)
    with pytest.raises(ValueError, match="once the optimizer is built"):
        keras.optimizers.serialize(optimizer)
    optimizer.build(model.trainable_variables)
    config = keras.optimizers.serialize(optimizer)
    assert config["config"]["transforms"][1][0] == PATHS[:2]
    assert config["config"]["transforms"][2][0] == "hidden/kernel"
    copy = keras.optimizers.deserialize(config)
    assert keras.optimizers.serialize(optimizer) == config  # which is left as it was
    other = make_model()
    assert_equal(train(other, copy), train(model, optimizer))


def test_patterns_have_a_configuration_before_the_optimizer_is_built():
    optimizer = LayerwiseOptimizer(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 10)),
        {"kernel": LayerwiseClipping(1.0)},
        {"bias": 2},
        use_ema=True,
        ema_momentum=0.5,
        ema_overwrite_frequency=3,
        gradient_accumulation_steps=2,
        loss_scale_factor=8.0,
        name="mine",
    )
    config = keras.optimizers.serialize(optimizer)
    copy = keras.optimizers.deserialize(config)
    assert keras.optimizers.serialize(copy) == config
    assert copy.name == "mine"
    assert copy.gradient_accumulation_steps == 2
    assert isinstance(
        copy.wrapped_optimizer._learning_rate, keras.optimizers.schedules.CosineDecay
    )


def test_saved_paths_hold_where_they_fit():
    variables = make_variables()
    saved = ["m/enc/kernel:0", "m/enc/bias:0", "m/dec/kernel:0"]
    assert paths_when_built(variables, saved) == saved
    for other in (None, saved[:2], ["m/enc/kernel:0", "m/bias:0", "m/dec/kernel:0"]):
        assert paths_when_built(variables, other) == unique_paths(variables)


def test_layers_of_one_name_are_told_apart():
    inputs = keras.Input((3,))
    towers = [
        keras.Model(inputs, keras.layers.Dense(2, name="fc")(inputs)) for _ in range(2)
    ]
    variables = [v for tower in towers for v in tower.trainable_variables]
    paths = unique_paths(variables)
    assert paths == ["fc/kernel", "fc/bias", "fc/kernel#2", "fc/bias#2"]
    assert [layer_of(p) for p in paths] == ["fc", "fc", "fc#2", "fc#2"]
    spy = Spy()
    rules = [("bias$|kernel$", spy), (towers[1], spy)]
    optimizer = LayerwiseOptimizer("sgd", rules)
    optimizer.build(variables)
    optimizer.apply(make_gradients(variables))
    assert [len(call) for call in spy.calls] == [2, 2, 2]
    assert optimizer.get_config()["transforms"][1][0] == ["fc/kernel#2", "fc/bias#2"]


def test_a_callback_swaps_the_averages_in_beside_a_frozen_layer():
    model = make_model()
    optimizer = LayerwiseOptimizer(
        keras.optimizers.SGD(0.1), (), [("hidden", 0.0)], use_ema=True, ema_momentum=0.5
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, run_eagerly=True)
    hidden = model.get_layer("hidden")
    frozen, head = hidden.get_weights(), model.get_layer("head")
    seen, average = [], None

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            nonlocal average
            now = head.kernel.numpy()
            average = now if average is None else 0.5 * average + 0.5 * now

        def on_test_batch_begin(self, batch, logs=None):
            seen.append(head.kernel.numpy())

    model.fit(
        X,
        Y,
        batch_size=16,
        validation_data=(X, Y),
        validation_batch_size=32,
        callbacks=[Watch(), keras.callbacks.SwapEMAWeights()],
        verbose=0,
    )
    assert len(seen) == 1
    np.testing.assert_allclose(seen[0], average, rtol=1e-5)
    assert_equal(hidden.get_weights(), frozen)


def test_variables_are_excluded_from_the_inner_optimizers_weight_decay():
    kernel, bias = (
        keras.Variable(np.ones([3], "float32"), name=name)
        for name in ("kernel", "bias")
    )
    optimizer = LayerwiseOptimizer(keras.optimizers.SGD(1.0, weight_decay=0.5))
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.apply([tf.zeros([3])] * 2, [kernel, bias])
    np.testing.assert_allclose(kernel, 0.5)
    np.testing.assert_array_equal(bias, 1.0)


def test_the_learning_rate_is_the_inner_optimizers():
    optimizer = LayerwiseOptimizer(keras.optimizers.Adam(0.25))
    assert float(optimizer.learning_rate) == 0.25
    optimizer.learning_rate = 0.125
    assert float(optimizer.wrapped_optimizer.learning_rate) == 0.125
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    model = make_model()
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(X, Y, epochs=2, callbacks=[halve], verbose=0)
    assert float(optimizer.learning_rate) == 0.125 / 4


def test_moving_averages_follow_the_scaled_updates():
    (variable,) = variables = make_variables()[:1]
    values = [variable.numpy()]
    optimizer = LayerwiseOptimizer(
        keras.optimizers.SGD(0.1),
        multipliers={".": 0.5},
        use_ema=True,
        ema_momentum=0.6,
    )
    for _ in range(3):
        gradients = make_gradients(variables)
        optimizer.apply(gradients, variables)
        values.append(values[-1] - 0.05 * gradients[0].numpy())
    np.testing.assert_allclose(variable, values[-1], rtol=1e-5, atol=1e-6)
    average = values[1]
    for value in values[2:]:
        average = 0.6 * average + 0.4 * value
    optimizer.finalize_variable_values(variables)
    np.testing.assert_allclose(variable, average, rtol=1e-5, atol=1e-6)


def test_accumulated_gradients_are_transformed_once():
    rules = {".": LayerwiseClipping(0.1)}
    make = functools.partial(keras.optimizers.SGD, 1.0)
    whole = train(make_model(), LayerwiseOptimizer(make(), rules), batch_size=16)
    optimizer = LayerwiseOptimizer(make(), rules, gradient_accumulation_steps=2)
    parts = train(make_model(), optimizer, batch_size=8)
    assert_close(parts, whole, rtol=1e-4, atol=1e-6)
    assert int(optimizer.iterations) == int(optimizer.wrapped_optimizer.iterations) == 2


@pytest.mark.parametrize("how", ["inside", "around"])
def test_gradients_are_unscaled_before_they_are_transformed(how):
    rules = {".": LayerwiseClipping(0.1)}
    plain = train(make_model(), LayerwiseOptimizer(keras.optimizers.SGD(1.0), rules))
    optimizer = LayerwiseOptimizer(
        keras.optimizers.SGD(1.0),
        rules,
        loss_scale_factor=64.0 if how == "inside" else None,
    )
    if how == "around":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    assert_close(train(make_model(), optimizer), plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("clipnorm", [None, 0.01])
def test_two_devices_take_the_steps_of_one(clipnorm):
    def train_everything():
        model = make_model()
        optimizer = make_everything(model)
        optimizer.wrapped_optimizer.clipnorm = clipnorm
        return train(model, optimizer, batch_size=16), optimizer

    one, single = train_everything()
    with two_devices().scope():
        two, mirrored = train_everything()
    assert_close(two, one, rtol=1e-3, atol=1e-3)
    for a, b in zip(mirrored.variables, single.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-3, atol=1e-3)


# What is refused.


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            {"transforms": {"hiden/": LayerwiseClipping(1.0)}},
            f"pattern 'hiden/' matches none of the variables: {', '.join(PATHS)}",
        ),
        ({"multipliers": {"^head": 0.1}}, r"pattern '\^head' matches none of the"),
        (
            {"multipliers": [(keras.layers.Dense(2, name="other"), 0.1)]},
            "layer 'other' has none of the variables: net/conv/kernel",
        ),
        (
            {"multipliers": [(tf.Variable(1.0, name="x"), 0.1)]},
            "'x:0' is none of the variables: net/conv/kernel",
        ),
        ({"multipliers": [(["conv/kernel"], 0.1)]}, "'conv/kernel' is none of the"),
        ({"multipliers": {".": 0}}, "the multipliers are 0 for all variables"),
    ],
)
def test_a_rule_that_selects_nothing_is_refused_when_the_optimizer_is_built(
    rules, message
):
    model = make_model()
    with pytest.raises(ValueError, match=message):
        train(model, LayerwiseOptimizer("adam", **rules))


def used_optimizer():
    optimizer = keras.optimizers.SGD(0.1, name="old")
    optimizer.build([keras.Variable(1.0)])
    return optimizer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {
                "inner_optimizer": keras.optimizers.LossScaleOptimizer(
                    keras.optimizers.SGD()
                )
            },
            r"use LossScaleOptimizer\(LayerwiseOptimizer",
        ),
        ({"inner_optimizer": used_optimizer()}, "'old' is in use already; give a new"),
        (
            {"inner_optimizer": keras.optimizers.SGD(use_ema=True)},
            "use_ema must be given to LayerwiseOptimizer, not to its inner_optimizer",
        ),
        (
            {"inner_optimizer": keras.optimizers.SGD(gradient_accumulation_steps=2)},
            "gradient_accumulation_steps must be given to LayerwiseOptimizer",
        ),
        ({"transforms": {"kernel": "clip"}}, "must be LayerTransform objects, got 'cl"),
        ({"transforms": ["kernel"]}, r"transforms must be \(selector, value\) pairs"),
        (
            {"multipliers": {"(": 1.0}},
            r"'\(' in multipliers is not a regular expression",
        ),
        ({"multipliers": [(3, 1.0)]}, "multipliers are chosen by a pattern, a layer"),
        ({"multipliers": [([], 1.0)]}, "multipliers are chosen by a pattern, a layer"),
        ({"multipliers": {"kernel": -1.0}}, "must be finite and at least 0, got -1.0"),
        ({"multipliers": {"kernel": float("nan")}}, "finite and at least 0, got nan"),
        ({"multipliers": {"kernel": "fast"}}, "finite and at least 0, got fast"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LayerwiseOptimizer(**{"inner_optimizer": "sgd", **arguments})


def test_gradients_must_fit_the_variables():
    variables = make_variables()
    optimizer = LayerwiseOptimizer("sgd")
    with pytest.raises(ValueError, match="without variables needs build"):
        optimizer.apply(make_gradients(variables))
    with pytest.raises(ValueError, match="2 gradients for 3 variables"):
        optimizer.apply(make_gradients(variables)[:2], variables)
    optimizer.apply(make_gradients(variables), variables)
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.apply(make_gradients(variables), make_variables())
