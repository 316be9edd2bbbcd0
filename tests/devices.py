"""The two logical CPU devices that conftest.py makes."""

import tensorflow as tf


def two_devices():
    """Returns a strategy over both."""
    # TensorFlow numbers the collective operations of every strategy of a process from
    # the same start, and aborts where two of a number differ in shape. This has none.
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
    )
