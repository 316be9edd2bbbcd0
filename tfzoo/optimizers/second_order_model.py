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

from tfzoo.optimizers.output_distributions import likelihood_of, weighted_likelihood


def _unweighted(likelihood, outputs):
    del outputs
    return likelihood


class ForwardPass(NamedTuple):
    """A batch, as an optimizer that uses curvature sees it.

    Attributes:
      outputs: a function without arguments: the outputs of the network at the present
        weights, [B, ...]. It may be called often, and gives the same each time.
      loss: a function of the outputs: the loss, a scalar.
      likelihood: a function of the outputs: the `Likelihood`, what they mean, as the
        loss has it without weights.
      outputs_of_fraction: a function of a fraction in (0, 1]: as `outputs`, for the
        first samples only, so many of the batch.
      layers: the Keras layers of the network, those inside of others included.
      weighted: a function of a `Likelihood` and the outputs, of the batch or of a
        fraction: the `Likelihood` with the weights that the loss has.
    """

    outputs: Callable
    loss: Callable
    likelihood: Callable
    outputs_of_fraction: Callable
    layers: list
    weighted: Callable = _unweighted


class SecondOrderTraining:
    """A mixin for a `keras.Model`: its `train_step` hands over the forward pass.

      class MyModel(SecondOrderTraining, keras.Model): ...

    Optimizers with a method `minimize(forward_pass, variables)`, which returns the
    loss, the outputs before the step and a dict of scalars, are given it; `fit` shows
    the scalars, as means over an epoch. Others are trained with as Keras does.

    Weights of samples and classes, scalar loss weights and masks of the outputs are
    those of Keras; the curvature contains them. Of random layers and layers with
    statistics, a step leaves the state that its first evaluation gave, that of the
    whole batch at the old weights. Outputs of half precision become float32.
    """

    _scalars = types.SimpleNamespace(trackers={})

    def train_step(self, data):
        """Takes one step of the optimizer on a batch; see `keras.Model.train_step`.

        Raises:
          ValueError: with an optimizer that is given the forward pass: under a strategy
            of several replicas, inside of a `LossScaleOptimizer`, or if a metric has
            the name of one of its scalars.
        """
        self._check_optimizer()
        if not hasattr(self.optimizer, "minimize"):
            return super().train_step(data)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if not self.optimizer.built and not _is_built(self):
            self(x, training=False)
        evaluations = _Evaluations(self, x, y, sample_weight)
        loss, outputs, scalars = self.optimizer.minimize(
            evaluations.forward_pass(), self.trainable_variables
        )
        evaluations.restore_state()
        y_pred = evaluations.as_the_model_gives_them(outputs)
        logs = dict(self.compute_metrics(x, y, y_pred, sample_weight=sample_weight))
        size = tf.shape(tf.nest.flatten(x)[0])[0]
        for tracker in self.metrics:
            if tracker.name == "loss":
                tracker.update_state(loss, sample_weight=size)
                logs["loss"] = tracker.result()
        for name, value in scalars.items():
            if name in logs:
                raise ValueError(
                    f"a metric is called {name!r}, as a scalar of "
                    f"{type(self.optimizer).__name__} is; give it another name"
                )
            tracker = self._scalars.trackers[name]
            tracker.update_state(value)
            logs[name] = tracker.result()
        return logs

    def make_train_function(self, force=False):
        """Makes what `fit` calls; see `keras.Model.make_train_function`."""
        # Here, as an error on a replica leaves the strategy's scope open.
        self._check_optimizer()
        # Variables that a compiled step would create make it be traced twice. Where the
        # layers have none yet, its first trace creates all.
        optimizer = self.optimizer
        if hasattr(optimizer, "minimize") and not optimizer.built and _is_built(self):
            optimizer.build(self.trainable_variables)
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

    def _check_optimizer(self):
        optimizer = self.optimizer
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            optimizer = optimizer.inner_optimizer
        if not hasattr(optimizer, "minimize"):
            return
        name = type(optimizer).__name__
        if optimizer is not self.optimizer:
            raise ValueError(
                f"{name} cannot be inside of a LossScaleOptimizer, as mixed_float16 "
                "puts it there: compile(..., auto_scale_loss=False)"
            )
        replicas = self.distribute_strategy.num_replicas_in_sync
        if replicas > 1:
            raise ValueError(
                f"{name} takes its steps on one device, got a strategy of {replicas} "
                "replicas: make and compile the model outside of strategy.scope()"
            )


class _Evaluations:
    """A batch, on which a model is evaluated as often as an optimizer asks for it.

    Args:
      model: a `keras.Model` that is built.
      x, y, sample_weight: the batch.
    """

    def __init__(self, model, x, y, sample_weight):
        self.model = model
        self.x, self.y, self.sample_weight = x, y, sample_weight
        # Random layers, and those that keep statistics, begin each evaluation where the
        # first began: the outputs are the same each time, and one step counts once.
        of_metrics = {id(v) for v in model.metrics_variables}
        self.state = [
            v for v in model.non_trainable_variables if id(v) not in of_metrics
        ]
        self.state_before = [tf.identity(v.value) for v in self.state]
        self.state_after = None
        self.structure = None

    def forward_pass(self):
        """Returns the `ForwardPass` on this batch."""
        return ForwardPass(
            outputs=lambda: self.outputs_of(self.x),
            loss=self.loss,
            likelihood=lambda outputs: likelihood_of(self.model.loss, outputs),
            outputs_of_fraction=lambda fraction: self.outputs_of(
                _first_samples(self.x, fraction)
            ),
            layers=_all_layers(self.model),
            weighted=self.weighted,
        )

    def outputs_of(self, x):
        """Returns the outputs of the model in training, [B, ...]."""
        _assign(self.state, self.state_before)
        outputs = self.model(x, training=True)
        if self.state_after is None:
            self.state_after = [tf.identity(v.value) for v in self.state]
        flat = tf.nest.flatten(outputs)
        if len(flat) != 1:
            raise ValueError(
                f"{type(self.model.optimizer).__name__} needs a model with one output, "
                f"{self.model.name} has {len(flat)}"
            )
        self.structure = tf.nest.map_structure(lambda _: None, outputs)
        return _as_float32(flat[0])

    def restore_state(self):
        """Gives the model the state that the first evaluation left."""
        _assign(self.state, self.state_after)

    def as_the_model_gives_them(self, outputs):
        """Returns outputs in the dict or list that the model puts them in."""
        return tf.nest.pack_sequence_as(self.structure, [outputs])

    def loss(self, outputs):
        """Returns the loss of outputs, a scalar."""
        return self.model.compute_loss(
            x=self.x,
            y=self.y,
            y_pred=self.as_the_model_gives_them(outputs),
            sample_weight=self.sample_weight,
            training=True,
        )

    def weighted(self, likelihood, outputs):
        """Returns the `Likelihood` with the weights of the loss of outputs."""
        # Keras keeps the weight of the loss nowhere else.
        compiled = self.model._compile_loss
        (loss_weight,) = tf.nest.flatten(getattr(compiled, "_user_loss_weights", None))
        (sample_weight,) = tf.nest.flatten(self.sample_weight)
        if sample_weight is not None:
            size = outputs.shape[0]
            sample_weight = sample_weight[
                : tf.shape(outputs)[0] if size is None else size
            ]
        return weighted_likelihood(likelihood, outputs, sample_weight, loss_weight)


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _first_samples(x, fraction):
    """Returns the first samples of all tensors of x, that fraction of them."""

    def part(tensor):
        size = tensor.shape[0]
        if size is None:
            size = tf.cast(tf.shape(tensor)[0], tf.float32)
            return tensor[: tf.cast(tf.math.ceil(fraction * size), tf.int32)]
        return tensor[: math.ceil(fraction * size)]

    return tf.nest.map_structure(part, x)


def _as_float32(outputs):
    """Returns outputs of half precision as float32, with the mask that they carry."""
    if outputs.dtype not in (tf.float16, tf.bfloat16):
        return outputs
    mask = getattr(outputs, "_keras_mask", None)
    outputs = tf.cast(outputs, tf.float32)
    if mask is not None:
        outputs._keras_mask = mask
    return outputs


def _is_built(model):
    return model.built and all(layer.built for layer in _all_layers(model))


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
      ValueError: if the model is of a class of the user's own, or has no inputs and
        outputs yet.
    """
    if isinstance(model, SecondOrderTraining):
        return model
    kind = type(model)
    if kind.__module__.partition(".")[0] != "keras":
        raise ValueError(
            f"{kind.__name__} is a class of your own, of which second_order would keep "
            f"the layers only: class {kind.__name__}(SecondOrderTraining, keras.Model)"
        )
    if getattr(model, "inputs", None) is None:
        raise ValueError(
            f"{model.name} has no inputs yet; give it a keras.Input, or for a class of "
            "your own: class MyModel(SecondOrderTraining, keras.Model)"
        )
    if isinstance(model, keras.Sequential):
        inputs, outputs = model.inputs[0], model.outputs[0]
    else:
        inputs, outputs = model.input, model.output
    return SecondOrderModel(inputs, outputs, name=model.name)
