"""MADE against its definition, NumPy, and the sums and frequencies that must follow."""

import itertools

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from tfzoo import random
from tfzoo.models.made import MADE

RNG = np.random.default_rng(0)
# Ten inputs of two levels, or six of three.
BINARY, TERNARY = (2, 5, 1), (1, 2, 3)
MODELS = {
    "one layer": lambda: make_made(BINARY, hidden_units=(12,)),
    "reading order": lambda: make_made(BINARY, orders=[range(10)]),
    "one unit": lambda: make_made(BINARY, hidden_units=(1,)),
    "three layers": lambda: make_made(BINARY, hidden_units=(15, 4, 30)),
    "direct": lambda: make_made(BINARY, direct=True),
    "masks": lambda: make_made(BINARY, num_masks=3),
    "orders": lambda: make_made(BINARY, num_orders=3),
    "masks and orders": lambda: make_made(
        BINARY, hidden_units=(9, 11), num_masks=2, num_orders=3, direct=True
    ),
    "levels": lambda: make_made(TERNARY, levels=3),
    "levels, masks and orders": lambda: make_made(
        TERNARY, levels=3, hidden_units=(9, 11), num_masks=2, num_orders=2, direct=True
    ),
    "one input": lambda: make_made((1, 1, 1), levels=4, direct=True),
}


def make_made(shape, **options):
    made = MADE(shape, **{"hidden_units": (20,), "seed": 3, **options})
    # So that no bias is 0, and no state as likely as another.
    rng = np.random.default_rng(1)
    for weight in made.trainable_variables:
        weight.assign(weight + rng.normal(size=weight.shape))
    return made


def all_states(made):
    """Every image that there is, [K^D, H, W, C]."""
    brightnesses = np.arange(made.levels) / (made.levels - 1)
    num_inputs = int(np.prod(made.image_shape))
    states = list(itertools.product(brightnesses, repeat=num_inputs))
    return np.array(states, np.float32).reshape(-1, *made.image_shape)


def masks_by_definition(made, member):
    """The masks of the paper, one connection at a time."""
    order = made.orders[member // made.num_masks].tolist()
    degrees = [[order.index(d) + 1 for d in range(len(order))]]
    degrees += [layer[member].tolist() for layer in made.degrees[1:]]
    repeats = 1 if made.levels == 2 else made.levels
    outputs = [d for d in degrees[0] for _ in range(repeats)]
    masks = []
    for below, above in itertools.pairwise(degrees):
        masks.append([[1.0 if i <= j else 0.0 for j in above] for i in below])
    for below in degrees[-1], degrees[0]:
        masks.append([[1.0 if i < j else 0.0 for j in outputs] for i in below])
    return [np.array(mask) for mask in masks]


def log_prob_by_numpy(made, images, member):
    *hidden, output, direct = masks_by_definition(made, member)
    x = features = images.reshape(len(images), -1).astype(np.float64)
    for layer, mask in zip(made.hidden_layers, hidden, strict=True):
        kernel, bias = layer.kernel.numpy(), layer.bias.numpy()
        features = np.maximum(features @ (kernel * mask) + bias, 0)
    kernel, bias = made.output_layer.kernel.numpy(), made.output_layer.bias.numpy()
    logits = features @ (kernel * output) + bias
    if made.direct_layer is not None:
        logits += x @ (made.direct_layer.kernel.numpy() * direct)
    logits = logits.reshape(*x.shape, -1)
    if made.levels == 2:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    log_probs = scipy.special.log_softmax(logits, axis=-1)
    level = np.round(x * (made.levels - 1)).astype(int)[..., None]
    return np.take_along_axis(log_probs, level, axis=-1).sum(axis=(1, 2))


@pytest.fixture(params=MODELS)
def made(request):
    return MODELS[request.param]()


def test_degrees_are_those_of_the_paper(made):
    num_inputs = int(np.prod(made.image_shape))
    assert len(made.degrees) == 1 + len(made.hidden_layers)
    inputs, *hidden = made.degrees
    assert inputs.shape == (made.num_members, num_inputs)
    for member in range(made.num_members):
        order = made.orders[member // made.num_masks]
        np.testing.assert_array_equal(inputs[member, order], 1 + np.arange(num_inputs))
    below = inputs
    for layer, degrees in zip(made.hidden_layers, hidden, strict=True):
        assert degrees.shape == (made.num_members, layer.units)
        assert (degrees >= below.min(axis=1, keepdims=True)).all()
        assert degrees.max() <= max(num_inputs - 1, 1)
        below = degrees


def test_degrees_take_each_value_as_often_and_follow_from_the_seed():
    (_, hidden), (_, same), (_, other) = (
        MADE(BINARY, hidden_units=(9000,), num_masks=2, seed=seed).degrees
        for seed in (5, 5, 6)
    )
    for degrees in hidden:
        counts = np.bincount(degrees)
        assert counts[0] == 0
        assert len(counts) == 10
        assert scipy.stats.chisquare(counts[1:]).pvalue > 1e-3
    np.testing.assert_array_equal(hidden, same)
    assert (hidden != other).any()
    assert (hidden[0] != hidden[1]).any()


def test_orders_are_those_given_or_drawn():
    given = [range(10), [*range(9, -1, -1)]]
    np.testing.assert_array_equal(MADE(BINARY, orders=given).orders, given)
    drawn = MADE(BINARY, num_orders=4).orders
    assert len({tuple(order) for order in drawn.tolist()}) == 4


def test_masks_are_those_of_the_paper(made):
    for member in range(made.num_members):
        ours = made.connectivity(member)
        for one, two in zip(ours, masks_by_definition(made, member), strict=True):
            np.testing.assert_array_equal(one, two)


def test_an_output_depends_on_inputs_before_it_alone(made):
    num_inputs = int(np.prod(made.image_shape))
    brightness = tf.constant(RNG.uniform(size=(6, num_inputs)), tf.float32)
    for member in range(made.num_members):
        with tf.GradientTape() as tape:
            tape.watch(brightness)
            logits = made.conditionals(brightness, member)
        jacobian = tape.batch_jacobian(logits, brightness).numpy()
        depends = (jacobian != 0).any(axis=(0, 2))
        place = made.degrees[0][member]
        before = place[None, :] < place[:, None]
        assert not (depends & ~before).any()
        if made.direct_layer is not None:
            np.testing.assert_array_equal(depends, before)
        elif made.hidden_layers[-1].units > 1:
            assert depends.sum() > before.sum() / 3


def test_probabilities_of_all_states_add_up_to_one(made):
    log_probs = made.log_prob(all_states(made))
    assert float(tf.reduce_sum(tf.exp(log_probs))) == pytest.approx(1, abs=1e-5)
    assert np.ptp(log_probs) > 1


def test_log_probabilities_are_those_of_a_forward_pass(made):
    images = all_states(made)[::7]
    members = [log_prob_by_numpy(made, images, m) for m in range(made.num_members)]
    for member, expected in enumerate(members):
        ours = made.member_log_prob(images, member)
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
    expected = scipy.special.logsumexp(members, axis=0) - np.log(len(members))
    np.testing.assert_allclose(made.log_prob(images), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(made(images), made.log_prob(images))


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (2, 2, 1)},
        {"shape": (2, 2, 1), "hidden_units": (7, 9, 8), "num_masks": 2},
        {"shape": (1, 2, 2), "num_orders": 3, "direct": True},
        {
            "shape": (1, 1, 3),
            "levels": 3,
            "hidden_units": (8, 9),
            "num_masks": 2,
            "num_orders": 2,
            "direct": True,
        },
    ],
    ids=["one", "masks", "orders", "levels"],
)
def test_states_are_drawn_as_often_as_they_are_likely(options):
    made = make_made(**options)
    states = all_states(made)
    drawn = made.sample(20_000, seed=4).numpy()
    assert drawn.shape[1:] == made.image_shape
    powers = made.levels ** np.arange(states[0].size)[::-1]
    numbers = np.rint(drawn.reshape(len(drawn), -1) * (made.levels - 1)) @ powers
    counts = np.bincount(numbers.astype(int), minlength=len(states))
    expected = np.exp(made.log_prob(states).numpy().astype(np.float64))
    # Those that are too rare for a count to be nearly Gaussian are counted together.
    order = np.argsort(expected)
    rare = 1 + np.sum(expected * len(drawn) < 10)
    counts, expected = (
        np.array([values[order[:rare]].sum(), *values[order[rare:]]])
        for values in (counts, expected / expected.sum() * len(drawn))
    )
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-3
    assert scipy.stats.chisquare(counts).pvalue < 1e-6


@pytest.mark.parametrize("name", ["masks and orders", "levels, masks and orders"])
def test_draws_and_scores_are_the_same_eagerly_in_a_graph_and_through_xla(name):
    made = MODELS[name]()
    seed = random.make_seed(8)
    images = all_states(made)[::50]

    def run():
        return made.sample_from(50, seed), made.log_prob(images)

    drawn, log_probs = run()
    np.testing.assert_array_equal(drawn, made.sample(50, seed=8))
    assert np.abs(drawn - made.sample(50, seed=9)).max() > 0
    for jit_compile in False, True:
        compiled = tf.function(run, autograph=False, jit_compile=jit_compile)()
        np.testing.assert_array_equal(drawn, compiled[0])
        np.testing.assert_allclose(log_probs, compiled[1], rtol=1e-5)


def test_members_are_trained_in_turn_and_evaluated_together():
    made = MODELS["masks and orders"]()
    images = all_states(made)[100:108]
    made.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    history = made.fit(images, batch_size=8, epochs=7, shuffle=False, verbose=0).history
    expected = [
        np.mean(log_prob_by_numpy(made, images, member % 6)) for member in range(7)
    ]
    np.testing.assert_allclose(history["log_prob"], expected, rtol=1e-4)
    np.testing.assert_allclose(history["loss"], np.negative(expected), rtol=1e-4)
    assert len(set(history["log_prob"])) == 6
    result = made.evaluate(images, batch_size=3, verbose=0, return_dict=True)
    together = np.mean(made.log_prob(images))
    assert result["log_prob"] == pytest.approx(together, rel=1e-5)
    assert result["loss"] == pytest.approx(-together, rel=1e-5)


def test_brightnesses_are_rounded_to_the_nearest_level():
    made = MODELS["levels"]()
    images = RNG.uniform(size=(20, *TERNARY)).astype(np.float32)
    rounded = np.rint(2 * images) / 2
    np.testing.assert_array_equal(made.log_prob(images), made.log_prob(rounded))


def test_probabilities_add_up_to_one_in_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        made = MODELS["levels, masks and orders"]()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    # Half precision changes what each input is thought to be, and no more than that.
    log_probs = made(all_states(made))
    assert made.hidden_layers[0].compute_dtype == "bfloat16"
    assert log_probs.dtype == tf.float32
    assert float(tf.reduce_sum(tf.exp(log_probs))) == pytest.approx(1, abs=1e-5)


def test_fine_levels_are_told_apart_in_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        made = make_made((1, 1, 1), levels=1000)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    # bfloat16 has 128 numbers from a half to 1 and no more.
    log_probs = made(all_states(made))
    np.testing.assert_allclose(
        log_probs, tf.nn.log_softmax(made.output_layer.bias.value), rtol=5e-3
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": (4, 4)}, r"three positive integers, got \(4, 4\)"),
        ({"image_shape": (4, 0, 1)}, "image_shape must be three positive integers"),
        ({"hidden_units": ()}, r"hidden_units must be one or more .* got \(\)"),
        ({"hidden_units": (5, 0)}, r"hidden_units must be .* got \(5, 0\)"),
        ({"hidden_units": (2.5,)}, "hidden_units must be one or more positive"),
        ({"levels": 1}, "levels must be an integer of at least 2, got 1"),
        ({"num_masks": 0}, "num_masks must be a positive integer, got 0"),
        ({"num_orders": 1.5}, "num_orders must be a positive integer, got 1.5"),
        ({"orders": []}, r"orders must be \[num_orders, 10\], got \[0\]"),
        ({"orders": range(10)}, r"orders must be \[num_orders, 10\], got \[10\]"),
        (
            {"orders": [range(10), [0] * 10]},
            "each row of orders must have each of 0 to 9 once, row 1 has not",
        ),
        (
            {"orders": [range(10)], "num_orders": 2},
            "num_orders must be left out .* be how many there are, 1; got 2",
        ),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MADE(**{"image_shape": BINARY, **arguments})
