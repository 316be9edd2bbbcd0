"""What optimizers that use curvature share."""

import keras
import tensorflow as tf

from tfzoo.optimizers.output_distributions import Likelihood

_DAMPING_RANGE = (1e-8, 1e8)


class SecondOrderOptimizer(keras.optimizers.Optimizer):
    """An optimizer that is given the forward pass, and not gradients alone.

    A subclass gives `minimize`, and `metric_names`.

    Args:
      learning_rate: a float or a schedule.
      damping: lambda, what is added to the diagonal of the curvature; where it starts.
      output_distribution: what the network's outputs mean, an `OutputDistribution`; or
        a `Likelihood`, which has the scale of the loss too, else that is 1; or None
        where both are to follow from the loss.
      name: of the optimizer.

    Attributes:
      damping: float32 variable, lambda.
    """

    metric_names = ()

    def __init__(self, learning_rate, *, damping, output_distribution, name):
        super().__init__(learning_rate=learning_rate, name=name)
        self.initial_damping = damping
        self.output_distribution = output_distribution

    def build(self, variables):
        """Creates the damping.

        Raises:
          ValueError: if a variable is not float32.
        """
        for variable in variables:
            if variable.dtype != "float32":
                raise ValueError(
                    f"{type(self).__name__} needs float32 variables, {variable.path} "
                    f"is {variable.dtype}"
                )
        super().build(variables)
        self.damping = self.add_variable(
            shape=(),
            initializer=keras.initializers.Constant(self.initial_damping),
            dtype="float32",
            name="damping",
        )

    def minimize(self, forward_pass, variables):
        """Takes one step.

        Args:
          forward_pass: a `ForwardPass`.
          variables: the weights to move, a list of Keras variables.

        Returns:
          (the loss before the step, the outputs before the step [B, ...], a dict of
          float32 scalars named by `metric_names`).
        """
        raise NotImplementedError

    def likelihood(self, forward_pass, outputs):
        """Returns the `Likelihood` of the outputs [B, ...], with the loss's weights."""
        likelihood = self.output_distribution
        if likelihood is None:
            likelihood = forward_pass.likelihood(outputs)
        elif not isinstance(likelihood, Likelihood):
            likelihood = Likelihood(likelihood, 1.0)
        return forward_pass.weighted(likelihood, outputs)

    def check_variables(self, variables):
        """Refuses other variables than those of `build`, which the state belongs to.

        Raises:
          ValueError: if there is another number of them, or another order.
        """
        if [id(v) for v in variables] != [id(v) for v in self._trainable_variables]:
            raise ValueError(
                f"this {type(self).__name__} keeps a state for the variables that it "
                f"was built for ({len(self._trainable_variables)}), got others "
                f"({len(variables)}); compile with a new one"
            )

    def move(self, variables, step):
        """Adds the step to the variables, and counts it."""
        super().apply(step, variables)

    def update_step(self, gradient, variable, learning_rate):
        """Adds the step, which Keras calls gradient; it contains the learning rate."""
        del learning_rate
        self.assign_add(variable, gradient)

    def adapt_damping(self, reduction_ratio, factor):
        """Changes lambda by the rule of Levenberg and Marquardt.

        Args:
          reduction_ratio: the fall of the loss over what the quadratic model promised;
            not a number where there was no step, which counts as a failure.
          factor: greater than 1: the growth where the ratio is below 1/4; above 3/4
            lambda shrinks by as much.
        """
        change = tf.where(reduction_ratio > 0.75, 1.0 / factor, 1.0)
        change = tf.where(reduction_ratio >= 0.25, change, factor)
        damping = tf.convert_to_tensor(self.damping) * change
        self.damping.assign(tf.clip_by_value(damping, *_DAMPING_RANGE))

    def apply(self, grads, trainable_variables=None):
        """Raises: gradients are not enough.

        Raises:
          ValueError: always.
        """
        raise ValueError(
            f"{type(self).__name__} needs the forward pass, not gradients alone; train "
            "a model that was wrapped: second_order(model), or a class with the mixin "
            "SecondOrderTraining"
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        config = super().get_config()
        serialize = keras.saving.serialize_keras_object
        distribution = self.output_distribution
        if isinstance(distribution, Likelihood):
            distribution = [serialize(distribution.distribution), distribution.scale]
        elif distribution is not None:
            distribution = serialize(distribution)
        return {
            "name": config["name"],
            "learning_rate": config["learning_rate"],
            "damping": self.initial_damping,
            "output_distribution": distribution,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Returns the optimizer that `get_config` described."""

        def deserialize(value):
            return keras.saving.deserialize_keras_object(value, custom_objects)

        distribution = config["output_distribution"]
        if isinstance(distribution, (list, tuple)):
            distribution = Likelihood(deserialize(distribution[0]), distribution[1])
        else:
            distribution = deserialize(distribution)
        config = {**config, "output_distribution": distribution}
        return super().from_config(config, custom_objects=custom_objects)


def check_ranges(*checks):
    """Raises ValueError for the first (argument, value, whether it fits, range) that
    does not fit.
    """
    for argument, value, fits, fitting in checks:
        if not fits:
            raise ValueError(f"{argument} must be {fitting}, got {value}")
