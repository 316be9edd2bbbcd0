"""Stateless random numbers that are the same eagerly, in a graph and through XLA.

`tf.random.stateless_uniform` promises only that one device and one compiler repeat
themselves: the floats that it makes under `jit_compile=True` differ from the eager
ones. The raw 32-bit integers of its Philox generator (Salmon et al. 2011, "Parallel
random numbers: as easy as 1, 2, 3") do not, so everything here is made from them.

A seed is an int32 tensor of shape [2]. Nothing here holds state: the same seed gives
the same numbers. `fold_in` and `split` derive seeds for parts of a computation.
"""

import numpy as np
import tensorflow as tf

_FEISTEL_ROUNDS = 6


def make_seed(seed):
    """Returns the int32 seed tensor of shape [2] for a Python integer.

    Args:
      seed: an integer, 0 <= seed < 2**62, or a seed tensor, which is returned.

    Raises:
      ValueError: if `seed` is not an integer in that range.
    """
    if isinstance(seed, tf.Tensor) and seed.shape == [2] and seed.dtype == tf.int32:
        return seed
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise ValueError(f"seed must be an integer, got {seed!r}")
    if not 0 <= seed < 2**62:
        raise ValueError(f"seed must be at least 0 and less than 2**62, got {seed}")
    seed = int(seed)
    return tf.constant([seed & 0x7FFFFFFF, seed >> 31], tf.int32)


def bits(shape, seed):
    """Returns uniform uint32 numbers of `shape`, over the full range.

    Args:
      shape: a list of integers or an int32 tensor.
      seed: int32 [2].
    """
    return tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )


def fold_in(seed, data):
    """Returns a new seed, int32 [2], that depends on `seed` and the integer `data`."""
    data = tf.cast(data, tf.int32)
    mixed = tf.stack([seed[0] ^ data * 0x2545F491, seed[1] + data])
    return tf.bitcast(bits([2], mixed), tf.int32)


def numbered(seed, row, number=0):
    """Returns the seed, int32 [2], at the integers (`row`, `number`) of a table.

    The seeds of a table are distinct, and none costs a draw, as each of `fold_in` does.
    The seed at (5, 0) is the first of row 5: `numbered(numbered(seed, 5), 0, 3)` is the
    one at (5, 3). Rows of a row would be other rows of the table.
    """
    row, number = tf.cast(row, tf.int32), tf.cast(number, tf.int32)
    # Another factor than that of `fold_in`, whose seeds would else be met.
    return tf.stack([seed[0] ^ row * 0x61C88647, seed[1] + number])


def split(seed, num):
    """Returns `num` new seeds as one int32 tensor [num, 2]; unstack it to use them."""
    return tf.bitcast(bits([num, 2], seed), tf.int32)


def uniform(shape, seed, minval=0.0, maxval=1.0):
    """Returns float32 numbers, uniform in [minval, maxval) but for rounding."""
    # 24 bits fill the mantissa of a float32, so each value below 1 is exact.
    mantissa = tf.bitwise.right_shift(bits(shape, seed), tf.constant(8, tf.uint32))
    return minval + (maxval - minval) * tf.cast(mantissa, tf.float32) * 2.0**-24


def normal(shape, seed):
    """Returns float32 standard normal numbers, by inverting their CDF."""
    # The middle of each of the 2**24 cells: never 0, of which the inverse is infinite.
    return tf.math.ndtri(tf.minimum(uniform(shape, seed) + 2.0**-25, 1.0 - 2.0**-24))


def integers(shape, seed, maxval):
    """Returns int32 numbers from 0 to `maxval` - 1, uniform but for maxval / 2**32.

    Args:
      shape: a list of integers or an int32 tensor.
      seed: int32 [2].
      maxval: an integer or an int32 tensor that broadcasts to `shape`, at least 1.
    """
    return tf.cast(bits(shape, seed) % tf.cast(maxval, tf.uint32), tf.int32)


def permutation(num, seed):
    """Returns a random permutation of range(num), int32 [num].

    A Feistel network over the smallest power of four that holds `num`, walked along
    its cycles until every value is below `num` (Black and Rogaway 2002, "Ciphers with
    arbitrary finite domains"). It draws from a large subset of the permutations, not
    from all of them, and costs a few element-wise operations where a sort of random
    keys costs as much as several gradient steps.

    Args:
      num: a Python integer, 1 <= num < 2**30.
      seed: int32 [2].

    Raises:
      ValueError: if `num` is not in that range.
    """
    if not 1 <= num < 2**30:
        raise ValueError(f"num must be at least 1 and less than 2**30, got {num}")
    half = max(1, ((num - 1).bit_length() + 1) // 2)
    keys = tf.unstack(bits([_FEISTEL_ROUNDS], seed))
    mask = tf.constant((1 << half) - 1, tf.uint32)

    def shifted(x, places):
        return tf.bitwise.right_shift(x, tf.constant(places, tf.uint32))

    def encrypt(x):
        left, right = shifted(x, half), x & mask
        for key in keys:
            # The finaliser of MurmurHash3 mixes the half-block with the round's key.
            mixed = (right ^ key) * tf.constant(0x85EBCA6B, tf.uint32)
            mixed = (mixed ^ shifted(mixed, 13)) * tf.constant(0xC2B2AE35, tf.uint32)
            left, right = right, left ^ (shifted(mixed, 16) & mask)
        return tf.bitwise.left_shift(left, tf.constant(half, tf.uint32)) | right

    indices = encrypt(tf.cast(tf.range(num), tf.uint32))
    if num != 1 << 2 * half:
        (indices,) = tf.while_loop(
            lambda x: tf.reduce_any(x >= num),
            lambda x: (tf.where(x < num, x, encrypt(x)),),
            (indices,),
        )
    return tf.cast(indices, tf.int32)
