"""The sum tree against a plain cumulative sum."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.agents.sum_tree import SumTree

SIZE = 11
UPDATES = st.lists(
    st.lists(
        # Sixteenths, whose sums are exact in float32.
        st.tuples(
            st.integers(0, SIZE - 1), st.integers(0, 2**10).map(lambda n: n / 16)
        ),
        min_size=1,
        max_size=SIZE,
        unique_by=lambda pair: pair[0],
    ),
    min_size=1,
    max_size=8,
)


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(updates=UPDATES)
def test_it_is_the_cumulative_sum_after_any_updates(updates):
    tree, values = SumTree(SIZE), np.zeros(SIZE, np.float32)
    for update in updates:
        index, value = np.array(update, np.float32).T
        index = index.astype(np.int32)
        tree.set(tf.constant(index), tf.constant(value))
        values[index] = value
    np.testing.assert_array_equal(tree.get(tf.range(SIZE)), values)
    assert float(tree.total) == values.sum()
    if values.any():
        fraction = np.arange(64, dtype=np.float32) / 64
        expected = np.searchsorted(
            np.cumsum(values), fraction * values.sum(), side="right"
        )
        np.testing.assert_array_equal(tree.draw(tf.constant(fraction)), expected)


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_rounding_never_draws_what_has_no_value(size):
    rng = np.random.default_rng(size)
    tree = SumTree(size)
    # Of very different sizes, so that sums are rounded.
    values = np.where(rng.random(size) < 0.5, 0, 10.0 ** rng.uniform(-8, 8, size))
    values[0] = 1.0
    tree.set(tf.range(size), tf.constant(values, tf.float32))
    fraction = np.append(rng.random(5000), [0.0, 1.0 - 2.0**-24])
    drawn = tree.draw(tf.constant(fraction, tf.float32)).numpy()
    assert drawn.min() >= 0
    assert drawn.max() < size
    assert (values[drawn] > 0).all()


def test_sums_stay_exact_over_many_updates():
    tree, rng = SumTree(8), np.random.default_rng(0)
    for _ in range(300):
        value = tf.constant(rng.uniform(0, 1e6, 8), tf.float32)
        tree.set(tf.range(8), value)
    small = np.full(8, 1e-3, np.float32)
    tree.set(tf.range(8), tf.constant(small))
    # Differences added to the nodes above would have left their rounding there.
    np.testing.assert_allclose(tree.total, small.sum(), rtol=1e-6)


def test_the_same_in_all_modes():
    index, value = tf.constant([3, 1, 6]), tf.constant([0.5, 2.0, 1.25])
    fraction = tf.constant([0.0, 0.3, 0.6, 0.99])
    results = []
    for options in (None, {"jit_compile": False}, {"jit_compile": True}):
        tree = SumTree(7)

        def change_and_draw(tree=tree):
            tree.set(index, value)
            return tree.draw(fraction), tree.total

        if options is not None:
            change_and_draw = tf.function(change_and_draw, autograph=False, **options)
        results.append([x.numpy() for x in change_and_draw()])
    for drawn, total in results:
        np.testing.assert_array_equal(drawn, [1, 1, 3, 6])
        assert total == 3.75
