"""Losses of a critic's values.

Each is for one sample, with v the value and R its target:

    squared:  L = (v - R)^2 / 2
    Huber:    L = (v - R)^2 / 2 where |v - R| <= delta, else delta (|v - R| - delta / 2)
    clipped:  L = max((v - R)^2, (clip(v, v_old - epsilon, v_old + epsilon) - R)^2) / 2

The clipped loss is that of OpenAI Baselines' PPO (see Engstrom et al. 2020,
arXiv:2005.12729, section 2).
"""

import keras
import tensorflow as tf


def squared_value_loss(values, value_targets):
    """Returns (v - R)^2 / 2.

    Args:
      values: v, [...].
      value_targets: R, of the same shape.

    Raises:
      ValueError: if the shapes differ.
    """
    values, value_targets = _same_shape(values=values, value_targets=value_targets)
    return 0.5 * tf.square(values - value_targets)


def huber_value_loss(values, value_targets, delta=1.0):
    """Returns (v - R)^2 / 2 near the target, and |v - R| times delta far from it.

    Args:
      values: v, [...].
      value_targets: R, of the same shape.
      delta: the error from which on the loss is linear, greater than 0.

    Raises:
      ValueError: if the shapes differ.
    """
    values, value_targets = _same_shape(values=values, value_targets=value_targets)
    error = tf.abs(values - value_targets)
    quadratic = tf.minimum(error, delta)
    return 0.5 * tf.square(quadratic) + delta * (error - quadratic)


def clipped_value_loss(values, value_targets, old_values, value_clip=0.2):
    """Returns the larger squared loss of v and of v kept within epsilon of v_old.

    Args:
      values: v, [...].
      value_targets: R, of the same shape.
      old_values: v_old, the values before the update, of the same shape.
      value_clip: epsilon, greater than 0, on the scale of the values.

    Raises:
      ValueError: if the shapes differ.
    """
    values, value_targets, old_values = _same_shape(
        values=values, value_targets=value_targets, old_values=old_values
    )
    clipped = old_values + tf.clip_by_value(
        values - old_values, -value_clip, value_clip
    )
    return tf.maximum(
        squared_value_loss(values, value_targets),
        squared_value_loss(clipped, value_targets),
    )


@keras.saving.register_keras_serializable(package="tfzoo")
class ValueLoss(keras.losses.Loss):
    """The loss (v - R)^2 / 2.

    `y_true` holds R, `y_pred` holds v; each is [B] or [B, 1].

    Args:
      **kwargs: see `keras.losses.Loss`.
    """

    def call(self, y_true, y_pred):
        """Returns the loss of each sample, [B]."""
        (value_targets,) = _columns("y_true", y_true, ["value target"])
        (values,) = _columns("y_pred", y_pred, ["value"])
        return squared_value_loss(values, value_targets)


@keras.saving.register_keras_serializable(package="tfzoo")
class HuberValueLoss(keras.losses.Loss):
    """The Huber loss of v - R.

    `y_true` holds R, `y_pred` holds v; each is [B] or [B, 1].

    Args:
      delta: the error from which on the loss is linear, greater than 0.
      **kwargs: see `keras.losses.Loss`.

    Raises:
      ValueError: if `delta` is not greater than 0.
    """

    def __init__(self, delta=1.0, **kwargs):
        super().__init__(**kwargs)
        if not delta > 0:
            raise ValueError(f"delta must be greater than 0, got {delta}")
        self.delta = float(delta)

    def call(self, y_true, y_pred):
        """Returns the loss of each sample, [B]."""
        (value_targets,) = _columns("y_true", y_true, ["value target"])
        (values,) = _columns("y_pred", y_pred, ["value"])
        return huber_value_loss(values, value_targets, self.delta)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "delta": self.delta}


@keras.saving.register_keras_serializable(package="tfzoo")
class ClippedValueLoss(keras.losses.Loss):
    """PPO's value loss, which gains nothing from moving v far from v_old.

    `y_true` holds [R, v_old], [B, 2]; `y_pred` holds v, [B] or [B, 1].

    Args:
      value_clip: epsilon, greater than 0, on the scale of the values.
      **kwargs: see `keras.losses.Loss`.

    Raises:
      ValueError: if `value_clip` is not greater than 0.
    """

    def __init__(self, value_clip=0.2, **kwargs):
        super().__init__(**kwargs)
        if not value_clip > 0:
            raise ValueError(f"value_clip must be greater than 0, got {value_clip}")
        self.value_clip = float(value_clip)

    def call(self, y_true, y_pred):
        """Returns the loss of each sample, [B]."""
        value_targets, old_values = _columns(
            "y_true", y_true, ["value target", "old value"]
        )
        (values,) = _columns("y_pred", y_pred, ["value"])
        return clipped_value_loss(values, value_targets, old_values, self.value_clip)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "value_clip": self.value_clip}


def _same_shape(**arguments):
    """Returns tensors; refuses what would broadcast: [B, 1] - [B] is [B, B]."""
    tensors = [tf.convert_to_tensor(x) for x in arguments.values()]
    if not all(x.shape.is_compatible_with(tensors[0].shape) for x in tensors):
        shapes = dict(zip(arguments, [list(x.shape) for x in tensors], strict=True))
        raise ValueError(f"the arguments must have one shape, got {shapes}")
    return tensors


def _columns(argument, x, names):
    """Returns the named columns of x, each [B]."""
    if x.shape.rank == 1 and len(names) == 1:
        return [x]
    if x.shape[-1] != len(names):
        raise ValueError(
            f"{argument} must have {len(names)} column{'s' * (len(names) > 1)} "
            f"({', '.join(names)}), got shape {list(x.shape)}"
        )
    return tf.unstack(x, axis=-1)
