"""Models whose training step gives the optimizer the forward pass.

A Keras optimizer is given gradients only. An optimizer that uses curvature has to run
the network: for products with its Jacobian, and to try a step before it is taken. So
`SecondOrderTraining` overrides `train_step`, the place that Keras documents for it, and
hands a `ForwardPass` to the optimizer; with any other optimizer it does nothing. All
else is stock: `compile`, `fit`, metrics, callbacks, `jit_compile`, saving.

  model = second_order(keras.Sequential([...]))
  model.compile(optimizer=NaturalGradient(), loss="sparse_categorical_crossentropy")
  model.fit(x, y)
"""

import math
import types
from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from tfzoo.optimizers.output_distributions import likelihood_of


class ForwardPass(NamedTuple):
    """A batch, as an optimizer that uses curvature sees it.

    Attributes:
      outputs: a function without arguments: the outputs of the network at the present
        weights, [B, ...]. It may be called often, and gives the same each time.
      loss: a function of the outputs: the loss, a scalar.
      likelihood: a function of the outputs: the `Likelihood`, what they mean.
      outputs_of_fraction: a function of a fraction in (0, 1]: as `outputs`, for the
        first samples only, so many of the batch.
      layers: the Keras layers of the network, those inside of others included.
    """

    outputs: Callable
    loss: Callable
    likelihood: Callable
    outputs_of_fraction: Callable
    layers: list


class SecondOrderTraining:
    """A mixin for a `keras.Model`: its `train_step` hands over the forward pass.

      class MyModel(SecondOrderTraining, keras.Model): ...

    Optimizers with a method `minimize(forward_pass, variables)`, which returns the
    loss, the outputs before the step and a dict of scalars, are given it; `fit` shows
    the scalars, as means over an epoch. Others are trained with as Keras does.
    """

    _scalars = types.SimpleNamespace(trackers={})

    def train_step(self, data):
        """Takes one step of the optimizer on a batch; see `keras.Model.train_step`."""
        if not hasattr(self.optimizer, "minimize"):
            return super().train_step(data)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        forward_pass = self._forward_pass(x, y, sample_weight)
        loss, outputs, scalars = self.optimizer.minimize(
            forward_pass, self.trainable_variables
        )
        logs = dict(self.compute_metrics(x, y, outputs, sample_weight=sample_weight))
        size = tf.shape(tf.nest.flatten(x)[0])[0]
        for tracker in self.metrics:
            if tracker.name == "loss":
                tracker.update_state(loss, sample_weight=size)
                logs["loss"] = tracker.result()
        for name, value in scalars.items():
            tracker = self._scalars.trackers[name]
            tracker.update_state(value)
            logs[name] = tracker.result()
        return logs

    def make_train_function(self, force=False):
        """Makes what `fit` calls; see `keras.Model.make_train_function`."""
        # Variables that a compiled step would create make it be traced twice.
        if hasattr(self.optimizer, "minimize") and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        if self.train_function is not None and not force:
            return self.train_function
        # In an object that Keras does not look into: as metrics of the model they would
        # be reported by `evaluate` too.
        self._scalars = types.SimpleNamespace(
            trackers={
                name: keras.metrics.Mean(name=name)
                for name in getattr(self.optimizer, "metric_names", ())
            }
        )
        return super().make_train_function(force)

    def reset_metrics(self):
        """Resets all metrics, those of the optimizer included."""
        super().reset_metrics()
        for tracker in self._scalars.trackers.values():
            tracker.reset_state()

    def _forward_pass(self, x, y, sample_weight):
        # Random layers, and those that keep statistics, begin each evaluation where the
        # first began: the outputs are the same each time, and one step counts once.
        of_metrics = {id(v) for v in self.metrics_variables}
        kept = [v for v in self.non_trainable_variables if id(v) not in of_metrics]
        before = [tf.identity(v.value) for v in kept]

        def outputs_of(x):
            for variable, value in zip(kept, before, strict=True):
                variable.assign(value)
            outputs = self(x, training=True)
            if len(tf.nest.flatten(outputs)) != 1:
                raise ValueError(
                    f"{type(self.optimizer).__name__} needs a model with one output, "
                    f"{self.name} has {len(tf.nest.flatten(outputs))}"
                )
            return tf.nest.flatten(outputs)[0]

        def loss(outputs):
            return self.compute_loss(
                x=x, y=y, y_pred=outputs, sample_weight=sample_weight, training=True
            )

        def outputs_of_fraction(fraction):
            def part(tensor):
                size = tensor.shape[0]
                if size is None:
                    size = tf.cast(tf.shape(tensor)[0], tf.float32)
                    return tensor[: tf.cast(tf.math.ceil(fraction * size), tf.int32)]
                return tensor[: math.ceil(fraction * size)]

            return outputs_of(tf.nest.map_structure(part, x))

        return ForwardPass(
            outputs=lambda: outputs_of(x),
            loss=loss,
            likelihood=lambda outputs: likelihood_of(self.loss, outputs),
            outputs_of_fraction=outputs_of_fraction,
            layers=_all_layers(self),
        )


def _all_layers(model):
    """Returns the layers of a model, and of models in it, without those."""
    layers = []
    for layer in model.layers:
        layers += _all_layers(layer) if hasattr(layer, "layers") else [layer]
    return layers


@keras.saving.register_keras_serializable(package="tfzoo")
class SecondOrderModel(SecondOrderTraining, keras.Model):
    """`keras.Model(inputs, outputs)` whose optimizer may be a second-order one."""


def second_order(model):
    """Returns a model that shares all layers, and can be trained by second order.

    Args:
      model: a `keras.Sequential` with known input shape, or a functional `keras.Model`.
        A model that is a class of its own takes the mixin `SecondOrderTraining`.

    Raises:
      ValueError: if the model has no inputs and outputs yet.
    """
    if isinstance(model, SecondOrderTraining):
        return model
    if getattr(model, "inputs", None) is None:
        raise ValueError(
            f"{model.name} has no inputs yet; give it a keras.Input, or for a class of "
            "your own: class MyModel(SecondOrderTraining, keras.Model)"
        )
    inputs, outputs = model.inputs, model.outputs
    return SecondOrderModel(
        inputs[0] if len(inputs) == 1 else inputs,
        outputs[0] if len(outputs) == 1 else outputs,
        name=model.name,
    )
