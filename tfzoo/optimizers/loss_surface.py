"""The loss along one direction, or over a plane of two, through the present weights.

  f(a) = L(w + a d)        f(a, b) = L(w + a d + b e)

A random direction says little of its own: a network whose weights are twice as large
may compute the same function, and looks twice as flat. Directions whose filters have
the norms of the weights' own filters can be compared (Li et al. 2018,
arXiv:1712.09913). Eigenvectors of the Hessian are good directions too: the curvature of
f at 0 is then the eigenvalue.
"""

from typing import NamedTuple

import tensorflow as tf

from tfzoo.optimizers.spectrum import gaussian_vector


class LossSurfaceSlice(NamedTuple):
    """Losses on an even grid around the weights.

    Attributes:
      coordinates: [m], from -radius to radius; for an odd m the middle is exactly 0.
      losses: [m] for one direction; [m, m] for two, the first along the first axis.
    """

    coordinates: tf.Tensor
    losses: tf.Tensor


def filter_normalized_direction(weights, seed):
    """Returns a random direction whose filters have the norms of the weights'.

    A filter is what leads to one output unit: a slice at one index of the last axis, as
    in the kernels of Dense and Conv layers. Weights with less than two axes, which are
    biases and the parameters of normalisation, stay as they are: zero.

    Args:
      weights: a list of variables or tensors of floats.
      seed: int32 [2].

    Returns:
      A list of tensors shaped like `weights`.
    """
    weights = [tf.convert_to_tensor(w) for w in weights]
    return [
        _with_norms_of(w, d) if w.shape.rank >= 2 else tf.zeros_like(w)
        for w, d in zip(weights, gaussian_vector(weights, seed), strict=True)
    ]


def loss_surface_slice(loss_function, variables, directions, radius=1.0, num_points=25):
    """Evaluates a loss on a line or a plane through the present weights.

      direction = filter_normalized_direction(model.trainable_variables, seed=[0, 1])
      surface = loss_surface_slice(
          lambda: loss(y, model(x)), model.trainable_variables, [direction]
      )

    The evaluations are one graph. The variables hold the points of the grid in turn,
    and in the end what they held before, bit for bit, also where `loss_function`
    raises (but for an error at run time inside a `tf.function` of the caller, which
    nothing can follow). What else the loss function changes, such as moving averages
    in training mode, stays changed.

    Args:
      loss_function: a function without arguments that returns a scalar.
      variables: the weights, a list of variables.
      directions: a list of one or two vectors shaped like `variables`.
      radius: greater than 0; the grid reaches from -radius to radius times the
        direction.
      num_points: m, along each direction, at least 3.

    Returns:
      LossSurfaceSlice

    Raises:
      ValueError: if a number is out of range, the directions do not fit the variables
        or the loss is not a scalar.
    """
    if not radius > 0:
        raise ValueError(f"radius must be greater than 0, got {radius}")
    if num_points < 3:
        raise ValueError(f"num_points must be at least 3, got {num_points}")
    directions = _as_vectors(directions, variables)
    half = (num_points - 1) / 2
    coordinates = (tf.range(num_points, dtype=tf.float32) - half) * (radius / half)
    axes = tf.meshgrid(*[coordinates] * len(directions), indexing="ij")
    points = tf.stack([tf.reshape(axis, [-1]) for axis in axes], axis=1)
    originals = [tf.convert_to_tensor(variable) for variable in variables]

    def loss_at(point):
        steps = tf.unstack(point, len(directions))
        for variable, value, *parts in zip(
            variables, originals, *directions, strict=True
        ):
            for step, part in zip(steps, parts, strict=True):
                value += tf.cast(step, value.dtype) * part
            variable.assign(value)
        loss = tf.convert_to_tensor(loss_function())
        if not loss.shape.is_compatible_with([]):
            raise ValueError(
                f"loss_function must return a scalar, got shape {loss.shape}"
            )
        return tf.cast(loss, tf.float32)

    @tf.function
    def sweep():
        # One at a time, as all of them go through the same variables. Not by tf.map_fn:
        # where its function raises, TensorFlow can make no strategy's scope afterwards.
        size = points.shape[0]
        _, losses = tf.while_loop(
            lambda i, losses: i < size,
            lambda i, losses: (i + 1, losses.write(i, loss_at(points[i]))),
            (0, tf.TensorArray(tf.float32, size)),
            parallel_iterations=1,
        )
        return losses.stack()

    try:
        losses = sweep()
    finally:
        for variable, original in zip(variables, originals, strict=True):
            variable.assign(original)
    return LossSurfaceSlice(
        coordinates, tf.reshape(losses, [num_points] * len(directions))
    )


def draw_loss_surface(
    surface,
    path,
    *,
    title="",
    labels=("step along the first direction", "step along the second direction"),
):
    """Draws a curve or contours; a line or a dot marks the present weights.

    Args:
      surface: the `LossSurfaceSlice`.
      path: of the figure, in a folder that exists; its suffix says which format.
      title: of the figure.
      labels: of the directions.
    """
    # Without pyplot there is no window system to choose, and no state to clean up.
    from matplotlib.figure import Figure

    coordinates = surface.coordinates.numpy()
    losses = surface.losses.numpy()
    width = 6.4 if losses.ndim == 1 else 5.2
    figure = Figure(figsize=(width, 4.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    if losses.ndim == 1:
        axes.plot(coordinates, losses, color="#0072B2", linewidth=1.8)
        axes.axvline(0.0, color="#D55E00", linewidth=0.8)
        axes.set_ylabel("loss")
        axes.grid(alpha=0.3, linewidth=0.6)
    else:
        # Contours have the first axis of an array upwards.
        contours = axes.contourf(coordinates, coordinates, losses.T, levels=20)
        figure.colorbar(contours, ax=axes, label="loss")
        axes.plot(0.0, 0.0, "o", color="#D55E00")
        axes.set_ylabel(labels[1])
        axes.set_aspect("equal")
    axes.set_xlabel(labels[0])
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _with_norms_of(w, d):
    """Returns `d` with each of its filters scaled to the norm of that of `w`."""
    axes = list(range(w.shape.rank - 1))
    w_squares = tf.reduce_sum(w**2, axis=axes, keepdims=True)
    d_squares = tf.reduce_sum(d**2, axis=axes, keepdims=True)
    return d * tf.sqrt(tf.math.divide_no_nan(w_squares, d_squares))


def _as_vectors(directions, variables):
    """Returns each direction as a list of tensors, after checking the shapes."""
    if not isinstance(directions, (list, tuple)) or len(directions) not in (1, 2):
        raise ValueError("directions must be a list of one or two vectors")
    shapes = [tuple(variable.shape) for variable in variables]
    vectors = []
    for direction in directions:
        parts = tf.nest.flatten(direction)
        given = [tuple(part.shape) for part in parts]
        if given != shapes:
            raise ValueError(
                f"directions must be shaped like the variables, {shapes}, got {given}"
            )
        vectors.append(
            [
                tf.cast(part, variable.dtype)
                for part, variable in zip(parts, variables, strict=True)
            ]
        )
    return vectors
