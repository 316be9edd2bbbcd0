"""An optimizer around another one: gradients transformed by layer, updates scaled.

A step is

  g  <- transform(g, w, slots)    for each rule, all variables of a layer at once
  w' <- step of the inner optimizer with g, its weight decay and clipping included
  w  <- w + multiplier (w' - w)   for each variable

The multiplier scales the update and not the gradient: optimizers such as Adam divide
by the size of the gradient, so that a factor on the gradient changes nothing. A
variable with multiplier 0 never reaches the inner optimizer.
"""

import collections
import copy
import math
import numbers
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfzoo.optimizers.layer_transforms import LayerTransform


def unique_paths(variables):
    """Returns the path of each variable, such as "sequential/dense/kernel".

    Layers in two parts of a model can have the same name. The second variable of a
    path is then "dense/kernel#2", and so on.

    Args:
      variables: `keras.Variable`s, or `tf.Variable`s, whose path is their name.
    """
    paths, counts = [], collections.Counter()
    for variable in variables:
        path = getattr(variable, "path", variable.name)
        counts[path] += 1
        paths.append(path if counts[path] == 1 else f"{path}#{counts[path]}")
    return paths


def layer_of(path):
    """Returns the layer of a unique path: all but its last part.

    What belongs to no layer is one of its own.
    """
    path, mark, count = path.partition("#")
    layer, slash, name = path.rpartition("/")
    return (layer if slash else name) + mark + count


def paths_when_built(variables, saved_paths):
    """Returns the unique paths that rules go by: the saved ones, if these fit.

    Keras loads a model with shorter paths, such as "dense/kernel" for
    "sequential/dense/kernel". A rule has to find the same variables there.

    Args:
      variables: all variables that are trained.
      saved_paths: the unique paths in a configuration, or None.
    """

    def fit(saved, current):
        saved, current = ("/" + path.partition("#")[0] for path in (saved, current))
        return saved.endswith(current) or current.endswith(saved)

    paths = unique_paths(variables)
    if saved_paths is None or len(saved_paths) != len(paths):
        return paths
    if not all(map(fit, saved_paths, paths)):
        return paths
    return list(saved_paths)


def select(selector, variables, paths):
    """Returns the variables that a selector means, by layer.

    Args:
      selector: a regular expression, which is searched for in the paths (`re.search`),
        its matches grouped by layer; or a `keras.Layer`, all of whose variables are
        one group, those of the layers inside it included; or a variable; or a list of
        variables and unique paths, which is one group.
      variables: all variables that are trained.
      paths: their unique paths.

    Returns:
      A list of groups, each a list of indices into `variables`.

    Raises:
      ValueError: if nothing is selected, or a variable of a list is not there.
    """
    known = ", ".join(paths)
    if isinstance(selector, str):
        groups = collections.defaultdict(list)
        for index, path in enumerate(paths):
            if re.search(selector, path.partition("#")[0]):
                groups[layer_of(path)].append(index)
        if not groups:
            raise ValueError(
                f"pattern {selector!r} matches none of the variables: {known}"
            )
        return list(groups.values())
    if isinstance(selector, keras.layers.Layer):
        own = {id(v) for v in selector.variables}
        group = [index for index, v in enumerate(variables) if id(v) in own]
        if not group:
            raise ValueError(
                f"layer {selector.name!r} has none of the variables: {known}"
            )
        return [group]
    wanted = selector if isinstance(selector, (list, tuple)) else [selector]
    group = []
    for each in wanted:
        found = [
            index
            for index, (path, variable) in enumerate(zip(paths, variables, strict=True))
            if variable is each or (isinstance(each, str) and path == each)
        ]
        if not found:
            path = each if isinstance(each, str) else unique_paths([each])[0]
            raise ValueError(f"{path!r} is none of the variables: {known}")
        group += found
    return [list(dict.fromkeys(group))]


def _checked_pairs(rules, name):
    """Returns rules as a list of (selector, value), with selectors that can be."""
    pairs = list(rules.items()) if isinstance(rules, Mapping) else list(rules)
    for pair in pairs:
        if not (isinstance(pair, (list, tuple)) and len(pair) == 2):
            raise ValueError(f"{name} must be (selector, value) pairs, got {pair!r}")
        selector = pair[0]
        if isinstance(selector, str):
            try:
                re.compile(selector)
            except re.error as error:
                raise ValueError(
                    f"{selector!r} in {name} is not a regular expression: {error}"
                ) from error
            continue
        if isinstance(selector, (list, tuple)):
            parts, kinds = selector, (keras.Variable, tf.Variable, str)
        else:
            parts, kinds = [selector], (keras.Variable, tf.Variable, keras.layers.Layer)
        if not parts or not all(isinstance(part, kinds) for part in parts):
            raise ValueError(
                f"{name} are chosen by a pattern, a layer, a variable, or a list of "
                f"variables or their paths, got {selector!r}"
            )
    return [tuple(pair) for pair in pairs]


class _Group(NamedTuple):
    """The variables of one layer that one rule selects."""

    transform: LayerTransform
    indices: list  # among the variables that the optimizer is built with
    dtype: tf.DType
    slots: Any


class _Rules:
    """What was asked for, and what it means for the variables, once they are known.

    In an object of its own, which neither Keras nor TensorFlow looks into for layers
    and variables to save.
    """

    def __init__(self, transforms, multipliers):
        self.saved_paths = None
        self.transforms = _checked_pairs(transforms, "transforms")
        self.multipliers = _checked_pairs(multipliers, "multipliers")
        for _, transform in self.transforms:
            if not isinstance(transform, LayerTransform):
                raise ValueError(
                    f"transforms must be LayerTransform objects, got {transform!r}"
                )
        for _, multiplier in self.multipliers:
            if not (
                isinstance(multiplier, numbers.Real) and 0 <= multiplier < math.inf
            ):
                raise ValueError(
                    f"multipliers must be finite and at least 0, got {multiplier}"
                )
        # Known once the optimizer is built.
        self.variables = None
        self.paths = None
        self.multiplier_of_key = {}
        self.groups = []

    def select(self, selector):
        """As the function `select`."""
        return select(selector, self.variables, self.paths)

    def serializable(self, selector):
        """Returns a selector with paths in the place of objects."""
        if isinstance(selector, str):
            return selector
        if isinstance(selector, (list, tuple)) and all(
            isinstance(each, str) for each in selector
        ):
            return list(selector)
        if self.variables is None:
            raise ValueError(
                "rules for layer and variable objects have a configuration once the "
                "optimizer is built; call build(variables), or give patterns"
            )
        (group,) = self.select(selector)
        return [self.paths[index] for index in group]


@keras.saving.register_keras_serializable(package="tfzoo")
class LayerwiseOptimizer(keras.optimizers.Optimizer):
    """Transforms gradients layer by layer, and scales updates variable by variable.

      optimizer = LayerwiseOptimizer(
          keras.optimizers.Adam(1e-3),
          transforms=[
              (r"kernel$", GradientCentralization()),
              (model.get_layer("head"), LayerwiseClipping(1.0)),
          ],
          multipliers={r"^encoder/": 0.1, r"^embedding/": 0.0},
      )
      model.compile(optimizer, loss=...)

    A selector is one of

    - a regular expression that is searched for in the path of each variable, such as
      "sequential/dense/kernel": "kernel$", or r"\\bdense/", where "dense" alone would
      find "dense_1" too. What matches is grouped by layer: the path but for its last
      part. A transform sees of a layer what the pattern matches;
    - a Keras layer or model: all its variables together, those of inner layers too;
    - a variable, or a list of variables or paths: these together.

    Learning rate, weight decay and clipping are the inner optimizer's; they follow the
    transforms, and the update that is scaled includes them. A schedule of the learning
    rate counts updates. A constraint of a variable is applied again after scaling. An
    inner optimizer that keeps copies of the weights (`ScheduleFreeAdamW`) does not see
    the scaling: give it no multipliers but 0 and 1.

    A gradient that is sparse (of an embedding) becomes dense where it is transformed.
    Under `tf.distribute`, gradients are summed over the replicas before. With half
    precision, `compile` puts `keras.optimizers.LossScaleOptimizer` around this one.

    Args:
      inner_optimizer: a new Keras optimizer, or its name.
      transforms: (selector, `LayerTransform`) pairs or a dict, applied in this order;
        a variable can be in several.
      multipliers: (selector, number) pairs or a dict. Where several select a variable,
        the last one counts; where none does, it is 1. A variable with 0 is frozen: it
        keeps its bits, has no slots (but a moving average, which Keras has of all), and
        transforms do not see it.
      use_ema, ema_momentum, ema_overwrite_frequency, loss_scale_factor,
        gradient_accumulation_steps: as in any Keras optimizer. They belong here and
        not to the inner optimizer, for they act before the transforms or after the
        scaling.
      name: the name of the optimizer.

    Attributes:
      wrapped_optimizer: the inner optimizer.

    Raises:
      ValueError: if an argument cannot be, and from `build` on, if a rule selects
        nothing or all variables are frozen.
    """

    def __init__(
        self,
        inner_optimizer,
        transforms=(),
        multipliers=(),
        *,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name=None,
    ):
        inner_optimizer = keras.optimizers.get(inner_optimizer)
        if isinstance(inner_optimizer, keras.optimizers.LossScaleOptimizer):
            raise ValueError(
                "transforms need unscaled gradients: use LossScaleOptimizer("
                "LayerwiseOptimizer(...)), not the other way round"
            )
        if inner_optimizer.built:
            raise ValueError(
                f"inner_optimizer {inner_optimizer.name!r} is in use already; give "
                "a new one"
            )
        for option in ("use_ema", "loss_scale_factor", "gradient_accumulation_steps"):
            if getattr(inner_optimizer, option):
                raise ValueError(
                    f"{option} must be given to LayerwiseOptimizer, not to its "
                    "inner_optimizer"
                )
        super().__init__(
            learning_rate=0.0,  # the inner optimizer's is used
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            name=name,
        )
        # Not of the name of the argument: callbacks of Keras unwrap that.
        self.wrapped_optimizer = inner_optimizer
        self._rules = _Rules(transforms, multipliers)

    def build(self, variables):
        """Resolves the rules, and makes the variables of both optimizers."""
        if self.built:
            return
        rules, variables = self._rules, list(variables)
        rules.variables = variables
        rules.paths = paths_when_built(variables, rules.saved_paths)
        multipliers = [1.0] * len(variables)
        for selector, multiplier in rules.multipliers:
            for group in rules.select(selector):
                for index in group:
                    multipliers[index] = float(multiplier)
        rules.multiplier_of_key = {
            self._var_key(v): m for v, m in zip(variables, multipliers, strict=True)
        }
        trained = self._without_frozen(variables)
        if not trained:
            raise ValueError("the multipliers are 0 for all variables: none is trained")
        groups = [
            (number, transform, [index for index in group if multipliers[index] != 0])
            for number, (selector, transform) in enumerate(rules.transforms)
            for group in rules.select(selector)
        ]
        self.wrapped_optimizer.build(trained)
        # Moving averages go with all variables, as callbacks of Keras expect.
        super().build(variables if self.use_ema else trained)
        rules.groups = [self._make_group(*group) for group in groups if group[-1]]

    def _make_group(self, number, transform, indices):
        """Makes the slots of one layer."""
        variables = [self._rules.variables[index] for index in indices]
        float64 = any(v.dtype == "float64" for v in variables)
        layer = layer_of(self._rules.paths[indices[0]])

        def add_slot(name, shape, initializer="zeros", dtype=None):
            return self.add_variable(
                shape,
                initializer,
                dtype or ("float64" if float64 else "float32"),
                # Every replica computes the same value.
                aggregation="only_first_replica",
                name=re.sub(r"\W", "_", f"{layer}_{number}_{name}"),
            )

        return _Group(
            transform,
            [self._get_variable_index(v) for v in variables],
            tf.float64 if float64 else tf.float32,
            transform.make_slots(variables, add_slot),
        )

    def _multiplier(self, variable):
        return self._rules.multiplier_of_key.get(self._var_key(variable), 1.0)

    def _without_frozen(self, variables):
        return [v for v in variables if self._multiplier(v) != 0]

    def apply(self, grads, trainable_variables=None):
        """Takes one step.

        Args:
          grads: gradients, each a tensor, `tf.IndexedSlices` or None.
          trainable_variables: their variables; all of them by default.
        """
        if trainable_variables is None:
            if not self.built:
                raise ValueError("apply(grads) without variables needs build() before")
            trainable_variables = self._rules.variables
        grads, trainable_variables = list(grads), list(trainable_variables)
        if len(grads) != len(trainable_variables):
            raise ValueError(
                f"there are {len(grads)} gradients for {len(trainable_variables)} "
                "variables"
            )
        if not self.built:
            self.build(trainable_variables)
        kept = [
            (gradient, variable)
            for gradient, variable in zip(grads, trainable_variables, strict=True)
            if self._multiplier(variable) != 0
        ]
        super().apply([g for g, _ in kept], [v for _, v in kept])

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        """Transforms gradients, steps the inner optimizer, and scales its update."""
        del learning_rate  # is the inner optimizer's
        replica = tf.distribute.get_replica_context()
        replicas = 1 if replica is None else replica.num_replicas_in_sync
        if replicas > 1:
            grads = replica.all_reduce(tf.distribute.ReduceOp.SUM, grads)
        grads = self._transform(grads, trainable_variables)
        if replicas > 1:
            # The inner optimizer clips what each replica brings, and then sums: it is
            # given equal shares of what is clipped already.
            grads = self.wrapped_optimizer._clip_gradients(grads)
            grads = [tf.math.scalar_mul(1.0 / replicas, g) for g in grads]

        scaled = [v for v in trainable_variables if self._multiplier(v) != 1]
        before = [tf.identity(v) for v in scaled]
        self.wrapped_optimizer.apply(grads, trainable_variables)
        self._scale_updates(scaled, before)

    def _transform(self, grads, trainable_variables):
        """Returns the gradients after all rules."""
        indices = [self._get_variable_index(v) for v in trainable_variables]
        current = dict(zip(indices, grads, strict=True))
        for transform, members, dtype, slots in self._rules.groups:
            if not any(index in current for index in members):
                continue
            variables = [self._trainable_variables[index] for index in members]
            gradients = [
                tf.cast(tf.convert_to_tensor(current[index]), dtype)
                if index in current
                else tf.zeros(variable.shape, dtype)
                for index, variable in zip(members, variables, strict=True)
            ]
            transformed = transform(gradients, variables, slots)
            for index, gradient in zip(members, transformed, strict=True):
                if index in current:
                    current[index] = gradient
        return [
            gradient if gradient is current[index] else tf.cast(current[index], v.dtype)
            for index, gradient, v in zip(
                indices, grads, trainable_variables, strict=True
            )
        ]

    def _scale_updates(self, variables, before):
        """Moves each variable to before + multiplier (now - before)."""
        multipliers = [self._multiplier(v) for v in variables]

        def scale_update(variable, start, multiplier):
            variable.assign(start + multiplier * (variable - start))

        def on_all_replicas(strategy, variables, before):
            for variable, start, multiplier in zip(
                variables, before, multipliers, strict=True
            ):
                strategy.extended.update(
                    variable, scale_update, args=(start, multiplier), group=False
                )

        # As Keras itself updates variables, which may be mirrored.
        tf.__internal__.distribute.interim.maybe_merge_call(
            on_all_replicas,
            self._distribution_strategy,
            [v.value if isinstance(v, keras.Variable) else v for v in variables],
            before,
        )

    @property
    def variables(self):
        """The variables of both optimizers."""
        return self._variables + self.wrapped_optimizer.variables

    @property
    def learning_rate(self):
        """The learning rate of the inner optimizer, at this step of its schedule."""
        return self.wrapped_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.wrapped_optimizer.learning_rate = learning_rate

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Excludes variables from the weight decay of the inner optimizer.

        Args:
          var_list: a list of variables.
          var_names: a list of strings: what to search for in the names of variables.

        Raises:
          ValueError: if the optimizer is built.
        """
        self.wrapped_optimizer.exclude_from_weight_decay(var_list, var_names)

    def _update_model_variables_moving_average(self, trainable_variables):
        super()._update_model_variables_moving_average(trainable_variables)
        if not self.use_ema:
            return
        # An average of equal numbers need not be that number.
        for variable, average in zip(
            trainable_variables, self._model_variables_moving_average, strict=True
        ):
            if self._multiplier(variable) == 0:
                average.assign(variable)

    def get_config(self):
        """Returns the arguments, with paths in the place of layers and variables.

        Beside them, "paths" of all variables, None before `build`.

        Raises:
          ValueError: if there are rules for objects and the optimizer is not built.
        """
        serialize = keras.saving.serialize_keras_object
        rules = self._rules
        return {
            "name": self.name,
            "inner_optimizer": serialize(self.wrapped_optimizer),
            "transforms": [
                [rules.serializable(selector), serialize(transform)]
                for selector, transform in rules.transforms
            ],
            "multipliers": [
                [rules.serializable(selector), float(multiplier)]
                for selector, multiplier in rules.multipliers
            ],
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "ema_overwrite_frequency": self.ema_overwrite_frequency,
            "loss_scale_factor": self.loss_scale_factor,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "paths": rules.paths,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes an optimizer from its configuration."""

        def deserialize(value):
            return keras.saving.deserialize_keras_object(value, custom_objects)

        # Optimizers of Keras change the configuration that they are made from.
        config = copy.deepcopy(config)
        paths = config.pop("paths")
        config["inner_optimizer"] = deserialize(config["inner_optimizer"])
        config["transforms"] = [
            (selector, deserialize(transform))
            for selector, transform in config["transforms"]
        ]
        optimizer = cls(**config)
        optimizer._rules.saved_paths = paths
        return optimizer
