"""Packing against the columns written out, and unpacking as its inverse."""

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.losses import pack_policy_targets, unpack_policy_targets

ADVANTAGES = np.array([0.5, -0.5], np.float32)
OLD_LOG_PROBS = np.array([-1.0, -2.0], np.float32)
OLD_OUTPUTS = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)


@pytest.mark.parametrize("shape", [(2,), (2, 1)], ids=["vectors", "columns"])
def test_the_columns_and_their_order(shape):
    packed = pack_policy_targets(
        np.array([7, 8]).reshape(shape),
        ADVANTAGES.reshape(shape),
        OLD_LOG_PROBS.reshape(shape),
        OLD_OUTPUTS,
    )
    np.testing.assert_array_equal(
        packed,
        [[7.0, 0.5, -1.0, 1.0, 2.0, 3.0], [8.0, -0.5, -2.0, 4.0, 5.0, 6.0]],
    )
    assert packed.dtype == np.float32


@pytest.mark.parametrize(
    "actions",
    [
        np.array([2, 0]),
        np.array([[2], [0]], np.int32),
        np.eye(3)[[2, 0]],
        np.array([[0.25, -0.5], [1.0, 2.0]]),
        np.array([[True, False], [False, False]]),
        [3, 4],
    ],
    ids=["index", "index column", "one-hot", "real", "bits", "list"],
)
def test_unpacking_gives_back_what_was_packed(actions):
    columns = np.reshape(np.asarray(actions, np.float32), [2, -1])
    packed = pack_policy_targets(actions, ADVANTAGES, OLD_LOG_PROBS, OLD_OUTPUTS)
    targets = unpack_policy_targets(
        packed, columns.shape[1], num_old_outputs=3, with_old_log_prob=True
    )
    np.testing.assert_array_equal(targets.actions, columns)
    np.testing.assert_array_equal(targets.advantage, ADVANTAGES)
    np.testing.assert_array_equal(targets.old_log_prob, OLD_LOG_PROBS)
    np.testing.assert_array_equal(targets.old_outputs, OLD_OUTPUTS)


def test_optional_parts_are_none():
    targets = unpack_policy_targets(pack_policy_targets([1, 0], ADVANTAGES), 1)
    assert targets.old_log_prob is None
    assert targets.old_outputs is None
    packed = pack_policy_targets([1, 0], ADVANTAGES, old_outputs=OLD_OUTPUTS)
    targets = unpack_policy_targets(packed, 1, num_old_outputs=3)
    assert targets.old_log_prob is None
    np.testing.assert_array_equal(targets.old_outputs, OLD_OUTPUTS)


def test_arrays_give_an_array_and_tensors_a_tensor_in_every_mode():
    array = pack_policy_targets([1, 0], ADVANTAGES, OLD_LOG_PROBS)
    assert isinstance(array, np.ndarray)
    tensors = [tf.constant(x) for x in ([1, 0], ADVANTAGES, OLD_LOG_PROBS)]
    for jit_compile in (False, True):
        function = tf.function(
            lambda *x: unpack_policy_targets(
                pack_policy_targets(*x), 1, with_old_log_prob=True
            )[:3],
            autograph=False,
            jit_compile=jit_compile,
        )
        for x, y in zip(
            function(*tensors),
            unpack_policy_targets(array, 1, with_old_log_prob=True)[:3],
            strict=True,
        ):
            np.testing.assert_array_equal(x, y)
    mixed = pack_policy_targets([1, 0], tf.constant(ADVANTAGES), OLD_LOG_PROBS)
    np.testing.assert_array_equal(mixed, array)


def test_every_index_below_two_to_the_24_is_exact():
    largest = np.array([2**24 - 1, 2**24 - 2])
    np.testing.assert_array_equal(
        pack_policy_targets(largest, ADVANTAGES)[:, 0].astype(int), largest
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([2**24, 0], ADVANTAGES), "actions must be less than 16777216 .* 16777216"),
        ((np.zeros([2, 1, 3]), ADVANTAGES), r"actions must .*got \[2, 1, 3\]"),
        ((tf.zeros([]), ADVANTAGES), r"actions must have shape .*got \[\]"),
        (([0, 1], OLD_OUTPUTS), r"advantages must .*\[B, 1\], got \[2, 3\]"),
        (
            ([0, 1], ADVANTAGES, OLD_OUTPUTS),
            r"old_log_probs must .*\[B, 1\], got \[2, 3\]",
        ),
        (([0, 1, 0], ADVANTAGES), "advantages must .* batch size of actions, 3, got 2"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        pack_policy_targets(*arguments)


def test_a_wrong_width_is_named():
    packed = pack_policy_targets([1, 0], ADVANTAGES)
    message = (
        r"y_true must have 7 columns \(2 of actions, 1 advantage, "
        r"1 old log-probability, 3 old outputs\), got 2"
    )
    with pytest.raises(ValueError, match=message):
        unpack_policy_targets(packed, 2, num_old_outputs=3, with_old_log_prob=True)
