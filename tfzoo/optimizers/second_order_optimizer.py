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
      output_distribution: what the network's outputs mean, an `OutputDistribution`, or
        None where it is to follow from the loss.
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
        """Creates the damping."""
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
        """Returns the `Likelihood` of the outputs [B, ...]."""
        if self.output_distribution is not None:
            return Likelihood(self.output_distribution, 1.0)
        return forward_pass.likelihood(outputs)

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
        distribution = self.output_distribution
        if distribution is not None:
            distribution = keras.saving.serialize_keras_object(distribution)
        return {
            "name": config["name"],
            "learning_rate": config["learning_rate"],
            "damping": self.initial_damping,
            "output_distribution": distribution,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Returns the optimizer that `get_config` described."""
        config = dict(config)
        config["output_distribution"] = keras.saving.deserialize_keras_object(
            config["output_distribution"], custom_objects=custom_objects
        )
        return super().from_config(config, custom_objects=custom_objects)


def check_ranges(*checks):
    """Raises ValueError for the first (argument, value, whether it fits, range) that
    does not fit.
    """
    for argument, value, fits, fitting in checks:
        if not fits:
            raise ValueError(f"{argument} must be {fitting}, got {value}")
