"""The natural gradient, by conjugate gradients.

S. Amari, "Natural gradient works efficiently in learning" (1998,
doi:10.1162/089976698300017746); solved without a matrix as in Martens 2010
("Deep learning via Hessian-free optimization") and, with a radius and a line search, in
TRPO (Schulman et al. 2015, arXiv:1502.05477). With the gradient g of the loss, its
curvature C = scale * F, F the Fisher information of the network's outputs, and a
damping lambda, a step is

  x = (C + lambda I)^-1 g                             by conjugate gradients
  w <- w - eta s x,   s = 1                           or, with a radius delta,
                      s = sqrt(2 delta / (x . F x))   so that KL(old || new) = delta

to second order. With a line search, s is then shortened until the loss falls by at
least a fraction of what its gradient promises, and the KL divergence, if there is a
radius, is at most delta; if no try will do, no step is taken. A try is beta times the
one before. Where only the divergence was too large, it is sqrt(delta / KL) less two per
cent, if that is more than beta: divergences are nearly quadratic, so that the full step
often has a little too much, and the next try then uses nearly all of the radius.

Damping follows the rule of Levenberg and Marquardt, if asked to: with rho the fall of
the loss over that of its quadratic model, lambda grows by 3/2 where rho < 1/4, and
shrinks by as much where rho > 3/4 (Martens 2010, section 4.1).
"""

import keras
import tensorflow as tf

from tfzoo.optimizers.conjugate_gradient import conjugate_gradient
from tfzoo.optimizers.curvature_products import (
    Linearization,
    linear_fisher_product,
    mean_kl_divergence,
    tensorflow_variables,
)
from tfzoo.optimizers.second_order_optimizer import (
    SecondOrderOptimizer,
    check_ranges,
)
from tfzoo.optimizers.vectors import add_scaled, inner_product, norm, scale


@keras.saving.register_keras_serializable(package="tfzoo")
class NaturalGradient(SecondOrderOptimizer):
    """Steps along the natural gradient; see the formulas of this module.

      model = second_order(keras.Sequential([...]))
      model.compile(optimizer=NaturalGradient(0.5), loss="mse")
      model.fit(x, y, batch_size=1000)

    It needs the forward pass, which `second_order` or the mixin `SecondOrderTraining`
    give it; batches should be large, as each is solved for.

    Args:
      learning_rate: eta, a float or a schedule.
      kl_radius: delta in nats, or None for steps of the length that the solution has.
      damping: lambda, at least 0; where it starts, if it adapts.
      adaptive_damping: whether lambda follows the rule of Levenberg and Marquardt.
      cg_iterations: the bound on the iterations of conjugate gradients.
      cg_tolerance: their relative tolerance.
      warm_start: conjugate gradients start from this times the last solution; 0 from
        zero. In [0, 1).
      line_search_steps: how many lengths are tried; 0 takes the full step untested,
        save that with `adaptive_damping` it is tried once.
      backtracking: beta, in (0, 1): what a try is of the one before, at least.
      acceptance: the fraction of the promised fall of the loss that will do, in [0, 1).
      curvature_fraction: which part of the batch F is taken from, in (0, 1].
      output_distribution: what the network's outputs mean, an `OutputDistribution`; or
        a `Likelihood`, which has the scale of the loss too, else that is 1; by default
        both follow from the loss.
      name: of the optimizer.

    Attributes:
      damping: float32 variable, lambda.
      kl_radius: float32 variable, delta, or None.
      metric_names: what `minimize` reports.

    Raises:
      ValueError: if a number is out of range; in use, if the loss has no known output
        distribution or the forward pass is missing.
    """

    metric_names = (
        "kl",
        "damping",
        "cg_iterations",
        "cg_residual",
        "line_search_failures",
    )

    def __init__(
        self,
        learning_rate=1.0,
        *,
        kl_radius=None,
        damping=1e-3,
        adaptive_damping=False,
        cg_iterations=10,
        cg_tolerance=1e-10,
        warm_start=0.0,
        line_search_steps=0,
        backtracking=0.5,
        acceptance=0.1,
        curvature_fraction=1.0,
        output_distribution=None,
        name="natural_gradient",
    ):
        check_ranges(
            ("kl_radius", kl_radius, kl_radius is None or kl_radius > 0, "positive"),
            ("damping", damping, damping >= 0, "at least 0"),
            ("cg_iterations", cg_iterations, cg_iterations >= 1, "at least 1"),
            ("cg_tolerance", cg_tolerance, cg_tolerance >= 0, "at least 0"),
            ("warm_start", warm_start, 0 <= warm_start < 1, "in [0, 1)"),
            (
                "line_search_steps",
                line_search_steps,
                line_search_steps >= 0,
                "at least 0",
            ),
            ("backtracking", backtracking, 0 < backtracking < 1, "in (0, 1)"),
            ("acceptance", acceptance, 0 <= acceptance < 1, "in [0, 1)"),
            (
                "curvature_fraction",
                curvature_fraction,
                0 < curvature_fraction <= 1,
                "in (0, 1]",
            ),
        )
        super().__init__(
            learning_rate,
            damping=damping,
            output_distribution=output_distribution,
            name=name,
        )
        self.initial_kl_radius = kl_radius
        self.kl_radius = None
        self.adaptive_damping = adaptive_damping
        self.cg_iterations = cg_iterations
        self.cg_tolerance = cg_tolerance
        self.warm_start = warm_start
        self.line_search_steps = line_search_steps
        # The rule for the damping wants to know what the step does, and rejects it.
        self._tries = max(line_search_steps, int(adaptive_damping))
        self.backtracking = backtracking
        self.acceptance = acceptance
        self.curvature_fraction = curvature_fraction

    def build(self, variables):
        """Creates the damping, the radius and, for warm starts, the last solution."""
        if self.built:
            return
        super().build(variables)
        if self.initial_kl_radius is not None:
            self.kl_radius = self.add_variable(
                shape=(),
                initializer=keras.initializers.Constant(self.initial_kl_radius),
                dtype="float32",
                name="kl_radius",
            )
        if self.warm_start:
            self._solution = self.add_optimizer_variables(variables, "solution")

    def minimize(self, forward_pass, variables):
        """Takes one step.

        Args:
          forward_pass: a `ForwardPass`.
          variables: the weights to move, a list of Keras variables.

        Returns:
          (the loss before the step, the outputs before the step [B, ...], a dict of
          float32 scalars). "kl" is KL(old || new) in nats, from the line search if
          there is one and else to second order; it is NaN, and no step is taken, where
          a product with F was not finite. "cg_residual" is |residual| / |g|.
          "line_search_failures" is 1 if no length would do.
        """
        if not self.built:
            self.build(variables)
        if self.warm_start:
            self.check_variables(variables)
        linear = Linearization(forward_pass.outputs, variables, forward_pass.loss)
        gradients = linear.gradients
        likelihood = self.likelihood(forward_pass, linear.outputs)
        part, likelihood_of_part = linear, likelihood
        if self.curvature_fraction < 1:
            part = Linearization(
                lambda: forward_pass.outputs_of_fraction(self.curvature_fraction),
                variables,
            )
            likelihood_of_part = self.likelihood(forward_pass, part.outputs)
        distribution, loss_scale, weights = likelihood_of_part
        fisher = linear_fisher_product(part, distribution, weights)
        damping = tf.convert_to_tensor(self.damping)
        solved = conjugate_gradient(
            lambda v: scale(loss_scale, fisher(v)),
            gradients,
            x0=self._first_guess(),
            damping=damping,
            max_iterations=self.cg_iterations,
            tolerance=self.cg_tolerance,
        )
        direction = solved.solution
        # x . F x without another product: (C + lambda I) x = g - residual.
        curvature_along = inner_product(
            direction,
            add_scaled(
                add_scaled(gradients, -1.0, solved.residual), -damping, direction
            ),
        )
        # Where all weights are 0, the scale is.
        squared_length = tf.math.divide_no_nan(
            tf.maximum(curvature_along, 0.0), loss_scale
        )
        length = tf.cast(self.learning_rate, tf.float32)
        if self.kl_radius is not None:
            length *= tf.sqrt(2.0 * self.kl_radius / tf.maximum(squared_length, 1e-30))
            # A direction that does not change the outputs has no such length.
            length = tf.where(squared_length > 0, length, 0.0)
        slope = inner_product(gradients, direction)
        is_finite = tf.math.is_finite(solved.curvature) & tf.math.is_finite(slope)
        length = tf.where(is_finite & (slope > 0), length, 0.0)

        kl = 0.5 * length**2 * squared_length
        failed = tf.constant(False)
        if self._tries:
            length, kl, loss_after, failed = self._line_search(
                forward_pass, likelihood, variables, linear, direction, length, slope
            )
        step = tf.nest.map_structure(
            # Infinite times 0 is not 0.
            lambda x: tf.where(length > 0, -length * x, 0.0),
            direction,
        )
        self.move(variables, step)
        if self.warm_start:
            for slot, x in zip(self._solution, direction, strict=True):
                slot.assign(tf.where(is_finite, x, tf.zeros_like(x)))
        if self.adaptive_damping:
            promised = length * slope - 0.5 * length**2 * (
                curvature_along + damping * inner_product(direction, direction)
            )
            self.adapt_damping((linear.loss - loss_after) / promised, 1.5)
        scalars = {
            "kl": tf.where(is_finite, kl, float("nan")),
            "damping": damping,
            "cg_iterations": tf.cast(solved.iterations, tf.float32),
            "cg_residual": norm(solved.residual) / tf.maximum(norm(gradients), 1e-30),
            "line_search_failures": tf.cast(failed, tf.float32),
        }
        return linear.loss, linear.outputs, scalars

    def _first_guess(self):
        if not self.warm_start:
            return None
        return [self.warm_start * tf.convert_to_tensor(x) for x in self._solution]

    def _line_search(
        self, forward_pass, likelihood, variables, linear, direction, length, slope
    ):
        """Shortens the step until loss and divergence allow it.

        The weights are left as they were.

        Returns:
          (length, KL divergence, loss, whether no length would do); 0, 0 and the old
          loss in the last case.
        """
        variables = tensorflow_variables(variables)
        before = [tf.identity(variable) for variable in variables]

        def place(length):
            for variable, old, x in zip(variables, before, direction, strict=True):
                variable.assign(old - length * x)

        def attempt(count, length, *_):
            place(length)
            outputs = forward_pass.outputs()
            loss = forward_pass.loss(outputs)
            kl = mean_kl_divergence(
                likelihood.distribution, linear.outputs, outputs, likelihood.weights
            )
            accepted = linear.loss - loss >= self.acceptance * length * slope
            factor = tf.constant(self.backtracking)
            if self.kl_radius is not None:
                fitting = 0.98 * tf.sqrt(self.kl_radius / kl)
                factor = tf.where(accepted & (fitting > factor), fitting, factor)
                accepted &= kl <= self.kl_radius
            else:
                accepted &= tf.math.is_finite(kl)
            shorter = tf.where(accepted, length, factor * length)
            return count + 1, shorter, kl, loss, accepted

        _, length, kl, loss, accepted = tf.while_loop(
            lambda count, length, kl, loss, accepted: ~accepted & (length > 0),
            attempt,
            (0, length, tf.zeros_like(linear.loss), linear.loss, tf.constant(False)),
            maximum_iterations=self._tries,
        )
        for variable, old in zip(variables, before, strict=True):
            variable.assign(old)
        return (
            tf.where(accepted, length, 0.0),
            tf.where(accepted, kl, 0.0),
            tf.where(accepted, loss, linear.loss),
            ~accepted,
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "kl_radius": self.initial_kl_radius,
            "adaptive_damping": self.adaptive_damping,
            "cg_iterations": self.cg_iterations,
            "cg_tolerance": self.cg_tolerance,
            "warm_start": self.warm_start,
            "line_search_steps": self.line_search_steps,
            "backtracking": self.backtracking,
            "acceptance": self.acceptance,
            "curvature_fraction": self.curvature_fraction,
        }
