"""FlattenedOptimizer: the same steps as of the optimizer in it, by fewer operations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.optimizers import FlattenedOptimizer

OPTIMIZERS = {
    "SGD": {"momentum": 0.9, "nesterov": True},
    "RMSprop": {"momentum": 0.5, "centered": True},
    "Adagrad": {},
    "Adadelta": {"learning_rate": 1.0},
    "Adam": {"amsgrad": True, "global_clipnorm": 0.5},
    "AdamW": {"weight_decay": 0.1, "clipvalue": 0.3},
    "Adamax": {},
    "Nadam": {},
    "Lion": {},
    "Ftrl": {},
}
SHAPES = ((3, 4), (4,), (4, 2), (2,), ())


def make_optimizer(name, **options):
    options = {"learning_rate": 0.05, **OPTIMIZERS[name], **options}
    return getattr(keras.optimizers, name)(**options)


def make_variables(dtype="float32"):
    rng = np.random.default_rng(0)
    return [keras.Variable(rng.normal(size=s), dtype=dtype) for s in SHAPES]


def gradients_of_step(step):
    rng = np.random.default_rng(step + 1)
    return [tf.constant(rng.normal(size=s), tf.float32) for s in SHAPES]


def steps(optimizer, variables, num_steps=6):
    for step in range(num_steps):
        optimizer.apply(gradients_of_step(step), variables)
    return [v.numpy() for v in variables]


def make_model(seed=1, **options):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(1)]
    )
    model.compile(loss="mse", **options)
    return model


def make_data():
    x = np.random.default_rng(2).normal(size=(64, 3)).astype("float32")
    return x, np.sin(x.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_the_inner_optimizer(name):
    expected = steps(make_optimizer(name), make_variables())
    ours = steps(FlattenedOptimizer(make_optimizer(name)), make_variables())
    for start, mine, theirs in zip(make_variables(), ours, expected, strict=True):
        assert np.abs(theirs - start.numpy()).max() > 1e-3
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_graph_and_xla_are_as_eager(jit_compile):
    expected = steps(FlattenedOptimizer(make_optimizer("Adam")), make_variables())
    variables = make_variables()
    optimizer = FlattenedOptimizer(make_optimizer("Adam"))
    optimizer.build(variables)
    apply = tf.function(
        lambda grads: optimizer.apply(grads, variables), jit_compile=jit_compile
    )
    for step in range(6):
        apply(gradients_of_step(step))
    for mine, theirs in zip(variables, expected, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-5, atol=1e-6)


def test_a_step_has_the_operations_of_one_variable():
    def count(optimizer, num):
        variables = [keras.Variable(tf.ones([2, 2])) for _ in range(num)]
        optimizer.build(variables)

        @tf.function
        def apply():
            optimizer.apply([tf.ones([2, 2])] * num, variables)

        return len(apply.get_concrete_function().graph.get_operations())

    plain = count(make_optimizer("Adam"), 24)
    flattened = count(FlattenedOptimizer(make_optimizer("Adam")), 24)
    assert flattened < plain / 3


def test_schedules_and_accumulation_are_the_inner_optimizers():
    def make():
        schedule = keras.optimizers.schedules.PolynomialDecay(0.1, 5, 0.0)
        return make_optimizer(
            "Adam", learning_rate=schedule, gradient_accumulation_steps=2
        )

    flattened = FlattenedOptimizer(make())
    ours, expected = (steps(x, make_variables()) for x in (flattened, make()))
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    assert float(flattened.learning_rate) == pytest.approx(0.0)
    assert int(flattened.iterations) == 6


def test_a_loss_scale_is_divided_out():
    expected = steps(make_optimizer("SGD"), make_variables())
    optimizer = FlattenedOptimizer(make_optimizer("SGD", loss_scale_factor=8.0))
    assert float(optimizer.scale_loss(tf.constant(2.0))) == 16.0
    variables = make_variables()
    for step in range(6):
        optimizer.apply([8.0 * g for g in gradients_of_step(step)], variables)
    for mine, theirs in zip(variables, expected, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-5, atol=1e-6)


def test_stock_fit_saves_and_goes_on(tmp_path):
    x, y = make_data()
    options = {"batch_size": 16, "verbose": 0, "shuffle": False}
    plain = make_model(optimizer=make_optimizer("Adam"))
    plain.fit(x, y, epochs=4, **options)

    model = make_model(optimizer=FlattenedOptimizer(make_optimizer("Adam")))
    model.fit(x, y, epochs=2, **options)
    model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(model.optimizer, FlattenedOptimizer)
    model.fit(x, y, epochs=2, **options)
    for mine, theirs in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_sparse_and_missing_gradients():
    table, idle = keras.Variable(tf.ones([4, 2])), keras.Variable([3.0])
    optimizer = FlattenedOptimizer(keras.optimizers.SGD(1.0))
    slices = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([2]), tf.constant([4, 2]))
    optimizer.apply([slices, None], [table, idle])
    np.testing.assert_array_equal(table.numpy()[:, 0], [1, 1, 0, 1])
    np.testing.assert_array_equal(idle.numpy(), [3.0])
    with pytest.raises(ValueError, match="no variable has a gradient"):
        optimizer.apply([None, None])


def test_constraints_hold():
    layer = keras.layers.Dense(2, kernel_constraint=keras.constraints.NonNeg())
    layer.build((None, 3))
    optimizer = FlattenedOptimizer(keras.optimizers.SGD(100.0))
    variables = layer.trainable_variables
    optimizer.apply([tf.ones(v.shape) for v in variables], variables)
    np.testing.assert_array_equal(layer.kernel.numpy(), np.zeros((3, 2)))
    np.testing.assert_array_equal(layer.bias.numpy(), [-100, -100])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: keras.optimizers.Lamb(), "Lamb is not known"),
        (lambda: keras.optimizers.Adam(clipnorm=1.0), "use global_clipnorm"),
        (lambda: keras.optimizers.Adam(use_ema=True), "use_ema would average"),
    ],
)
def test_optimizers_that_look_at_variables_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        FlattenedOptimizer(make())


def test_wrong_use_is_refused():
    used = make_optimizer("SGD")
    used.build(make_variables())
    with pytest.raises(ValueError, match="is in use already"):
        FlattenedOptimizer(used)
    optimizer = FlattenedOptimizer(make_optimizer("SGD"))
    with pytest.raises(ValueError, match="must be of one dtype"):
        optimizer.build([keras.Variable(1.0), keras.Variable(1.0, dtype="float64")])
    with pytest.raises(ValueError, match="needs build"):
        optimizer.apply(gradients_of_step(0))
    variables = make_variables()
    optimizer.build(variables)
    with pytest.raises(ValueError, match="in the same order"):
        optimizer.apply(gradients_of_step(0)[:2], variables[:2])
    with pytest.raises(ValueError, match="there are 1 gradients for 5"):
        optimizer.apply(gradients_of_step(0)[:1])
    with pytest.raises(ValueError, match="can be excluded"):
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    inner = make_optimizer("AdamW")
    inner.exclude_from_weight_decay(var_names=["bias"])
    with pytest.raises(ValueError, match="can be excluded"):
        FlattenedOptimizer(inner)
    devices = tf.config.list_logical_devices("CPU")
    if len(devices) > 1:
        strategy = tf.distribute.MirroredStrategy(
            devices=["CPU:0", "CPU:1"],
            cross_device_ops=tf.distribute.ReductionToOneDevice(),
        )
        with strategy.scope(), pytest.raises(ValueError, match="on one device"):
            FlattenedOptimizer(make_optimizer("SGD")).build(make_variables())
