"""An optimizer around another one that updates all variables as one long vector.

A step is the inner optimizer's, of the gradients one after the other,

  w = (w_1, ..., w_n),  g = (g_1, ..., g_n),  w <- step of the inner optimizer with g.

For an optimizer that treats each number of a variable alike and by itself, such as
Adam, this is the same step, up to rounding in the norm of all gradients. The graph has
the operations of one variable instead of those of n: it is traced and compiled sooner,
and runs faster where variables are many and small, as those of agents are.
"""

import copy

import keras
import tensorflow as tf

# Those that do to a number of a variable what its gradient says, whatever the others.
_ELEMENTWISE = (
    keras.optimizers.SGD,
    keras.optimizers.RMSprop,
    keras.optimizers.Adagrad,
    keras.optimizers.Adadelta,
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.Adamax,
    keras.optimizers.Nadam,
    keras.optimizers.Lion,
    keras.optimizers.Ftrl,
)


_NO_EXCLUSIONS = (
    "FlattenedOptimizer has one vector for all variables, so that none can be excluded "
    "from weight decay; use the inner optimizer by itself"
)


@keras.saving.register_keras_serializable(package="tfzoo")
class FlattenedOptimizer(keras.optimizers.Optimizer):
    """Updates all variables at once, as one vector.

      optimizer = FlattenedOptimizer(keras.optimizers.Adam(1e-3, global_clipnorm=0.5))
      model.compile(optimizer, loss=...)

    Learning rate, its schedule, weight decay, clipping by the norm of all gradients or
    by value, loss scale and gradient accumulation are the inner optimizer's. Sparse
    gradients become dense, and a variable without a gradient has one of zeros. Weights
    are held once more, in the vector.

    Args:
      inner_optimizer: a new Keras optimizer, or its name: SGD, RMSprop, Adagrad,
        Adadelta, Adam, AdamW, Adamax, Nadam, Lion or Ftrl.
      name: the name of the optimizer.

    Attributes:
      wrapped_optimizer: the inner optimizer.

    Raises:
      ValueError: if the inner optimizer is another, is in use already, or clips or
        averages variable by variable (`clipnorm`, `use_ema`) or leaves some out of
        weight decay; from `build` on, if the
        variables differ in dtype or there are several replicas.
    """

    def __init__(self, inner_optimizer, *, name=None):
        inner_optimizer = keras.optimizers.get(inner_optimizer)
        if type(inner_optimizer) not in _ELEMENTWISE:
            names = ", ".join(kind.__name__ for kind in _ELEMENTWISE)
            raise ValueError(
                f"{type(inner_optimizer).__name__} is not known to treat every number "
                f"of a variable by itself; {names} are"
            )
        if inner_optimizer.built:
            raise ValueError(
                f"inner_optimizer {inner_optimizer.name!r} is in use already; give "
                "a new one"
            )
        if inner_optimizer.clipnorm:
            raise ValueError(
                "clipnorm goes variable by variable, and here they are one; use "
                "global_clipnorm"
            )
        if hasattr(inner_optimizer, "_exclude_from_weight_decay"):
            raise ValueError(_NO_EXCLUSIONS)
        if inner_optimizer.use_ema:
            raise ValueError(
                "use_ema would average the vector, and never give that back to the "
                "variables; use the inner optimizer by itself"
            )
        super().__init__(learning_rate=0.0, name=name)  # the inner optimizer's is used
        # Not of the name of the argument: callbacks of Keras unwrap that.
        self.wrapped_optimizer = inner_optimizer

    def build(self, variables):
        """Makes the vector, and the variables of the inner optimizer."""
        if self.built:
            return
        variables = list(variables)
        dtypes = sorted({keras.backend.standardize_dtype(v.dtype) for v in variables})
        if len(dtypes) != 1:
            raise ValueError(f"the variables must be of one dtype, got {dtypes}")
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            raise ValueError("FlattenedOptimizer works on one device, without replicas")
        size = sum(v.shape.num_elements() for v in map(_tensor_of, variables))
        self._vector = keras.Variable(
            shape=(size,), initializer="zeros", dtype=dtypes[0], name="flattened"
        )
        self.wrapped_optimizer.build([self._vector])
        super().build(variables)

    def apply(self, grads, trainable_variables=None):
        """Takes one step.

        Args:
          grads: gradients, each a tensor, `tf.IndexedSlices` or None.
          trainable_variables: their variables, those of `build` in its order.

        Raises:
          ValueError: if the variables are others, or none has a gradient.
        """
        if not self.built:
            if trainable_variables is None:
                raise ValueError("apply(grads) without variables needs build() before")
            self.build(trainable_variables)
        known = self._trainable_variables
        variables = known if trainable_variables is None else list(trainable_variables)
        if list(map(self._var_key, variables)) != list(map(self._var_key, known)):
            raise ValueError(
                "FlattenedOptimizer updates all variables that it was built with, in "
                "the same order"
            )
        grads = list(grads)
        if len(grads) != len(known):
            raise ValueError(
                f"there are {len(grads)} gradients for {len(known)} variables"
            )
        if all(g is None for g in grads):
            raise ValueError("no variable has a gradient")
        weights = [_tensor_of(v) for v in known]
        self._vector.assign(_flat(weights))
        self.wrapped_optimizer.apply(
            [
                _flat(
                    tf.zeros_like(w) if g is None else tf.convert_to_tensor(g)
                    for g, w in zip(grads, weights, strict=True)
                )
            ],
            [self._vector],
        )
        sizes = [w.shape.num_elements() for w in weights]
        parts = tf.split(self._vector.value, sizes)
        for variable, part in zip(known, parts, strict=True):
            value = tf.reshape(part, variable.shape)
            constraint = getattr(variable, "constraint", None)
            variable.assign(value if constraint is None else constraint(value))
        self._iterations.assign_add(1)

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

    def scale_loss(self, loss):
        """Returns the loss, scaled as the inner optimizer wants it."""
        return self.wrapped_optimizer.scale_loss(loss)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Refuses to exclude variables, which are one here.

        Raises:
          ValueError: always.
        """
        raise ValueError(_NO_EXCLUSIONS)

    def get_config(self):
        """Returns the arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "inner_optimizer": serialize(self.wrapped_optimizer),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes an optimizer from its configuration."""
        # Optimizers of Keras change the configuration that they are made from.
        config = copy.deepcopy(config)
        inner = keras.saving.deserialize_keras_object(
            config.pop("inner_optimizer"), custom_objects
        )
        return cls(inner, **config)


def _tensor_of(variable):
    """Returns the `tf.Variable` in a variable."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def _flat(tensors):
    """Returns tensors one after the other, as a vector."""
    return tf.concat([tf.reshape(x, [-1]) for x in tensors], axis=0)
