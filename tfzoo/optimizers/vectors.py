"""Lists of tensors as one vector: what iterative solvers do with weights and gradients.

A vector is a tensor, or a list or tuple of tensors shaped like the weights of a model.
All functions are pure and take either.
"""

import tensorflow as tf


def inner_product(a, b):
    """Returns the sum over all elements of a * b, a scalar."""
    products = [
        tf.reduce_sum(x * y)
        for x, y in zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True)
    ]
    return tf.add_n(products)


def norm(a):
    """Returns the Euclidean norm, a scalar."""
    return tf.sqrt(inner_product(a, a))


def scale(factor, a):
    """Returns factor * a."""
    return tf.nest.map_structure(lambda x: factor * x, a)


def add_scaled(a, factor, b):
    """Returns a + factor * b."""
    return tf.nest.map_structure(lambda x, y: x + factor * y, a, b)


def zeros_like(a):
    """Returns the zero vector of the same shapes."""
    return tf.nest.map_structure(tf.zeros_like, a)


def flatten(a):
    """Returns all elements as one tensor [n]."""
    return tf.concat([tf.reshape(x, [-1]) for x in tf.nest.flatten(a)], axis=0)


def unflatten(flat, like):
    """Returns the elements of `flat` [n], shaped like the vector `like`.

    Args:
      flat: [n].
      like: a vector of n elements, of static shapes.
    """
    parts = tf.nest.flatten(like)
    pieces = tf.split(flat, [part.shape.num_elements() for part in parts])
    pieces = [tf.reshape(p, x.shape) for p, x in zip(pieces, parts, strict=True)]
    return tf.nest.pack_sequence_as(like, pieces)


def select(condition, a, b):
    """Returns a where the scalar `condition` holds, else b."""
    return tf.nest.map_structure(lambda x, y: tf.where(condition, x, y), a, b)
