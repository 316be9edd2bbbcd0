"""Products of curvature matrices with vectors, without ever building a matrix.

With weights w, network outputs f(w) of a batch, J = df/dw and a loss L(f):

  Hessian        H v = d/dw (dL/dw . v)
  Gauss-Newton   G v = J^T (d^2 L / df^2) J v
  Fisher         F v = J^T (d^2 KL(f0 || f) / df^2) J v

(Pearlmutter 1994, doi:10.1162/neco.1994.6.1.147; Schraudolph 2002,
doi:10.1162/08997660260028683; Martens 2014, arXiv:1412.1193.)

The last two take the second derivative of a small function of the outputs only, and
are positive semidefinite. Each function here runs the network once and returns a
`matvec`, a function of a vector (a list of tensors shaped like the weights), that
reuses what was computed: call it as often as wanted, in a `tf.while_loop` too.
"""

import keras
import tensorflow as tf

from tfzoo.optimizers.vectors import flatten, unflatten

_ZERO = tf.UnconnectedGradients.ZERO


class Linearization:
    """The outputs of a network and products with its Jacobian, at the present weights.

    J^T u is one backward pass. It is linear in u, so that its derivative with respect
    to u in the direction v is J v: a second backward pass through the first.

    Args:
      output_function: a function without arguments that returns the outputs, a tensor
        of floats.
      variables: the weights, a list of variables.
      loss_function: a function of the outputs that returns a scalar, or None. It may
        also depend on the weights otherwise, as regularisation does.

    Attributes:
      outputs: what `output_function` returned.
      loss: what `loss_function` returned, if there is one.
      gradients: the gradients of the loss, a list of tensors shaped like the weights.
    """

    def __init__(self, output_function, variables, loss_function=None):
        self._variables = tensorflow_variables(variables)
        with tf.GradientTape(persistent=True) as self._backward_tape:
            with tf.GradientTape(persistent=True) as self._tape:
                self.outputs = output_function()
                if loss_function is not None:
                    self.loss = loss_function(self.outputs)
            self._dummy = tf.zeros_like(self.outputs)
            self._backward_tape.watch(self._dummy)
            self._backward = self.vjp(self._dummy)
        if loss_function is not None:
            self.gradients = [
                tf.convert_to_tensor(gradient)
                for gradient in self._tape.gradient(
                    self.loss, self._variables, unconnected_gradients=_ZERO
                )
            ]

    def vjp(self, u, sources=None):
        """Returns J^T u, a list of tensors shaped like the weights.

        Args:
          u: a tensor shaped like the outputs.
          sources: tensors that were computed on the way from the weights to the
            outputs, to take J by instead of the weights.
        """
        products = self._tape.gradient(
            self.outputs,
            self._variables if sources is None else sources,
            output_gradients=u,
            unconnected_gradients=_ZERO,
        )
        return [tf.convert_to_tensor(product) for product in products]

    def jvp(self, v):
        """Returns J v, a tensor shaped like the outputs.

        Args:
          v: a list of tensors shaped like the weights.
        """
        return self._backward_tape.gradient(
            self._backward, self._dummy, output_gradients=v, unconnected_gradients=_ZERO
        )


def hessian_product(loss_function, variables):
    """Returns the function v -> H v of the Hessian of a loss.

      matvec = hessian_product(lambda: loss(y, model(x)), model.trainable_variables)

    Args:
      loss_function: a function without arguments that returns a scalar.
      variables: the weights, a list of variables.
    """
    variables = tensorflow_variables(variables)
    with tf.GradientTape(persistent=True) as tape:
        with tf.GradientTape() as inner_tape:
            loss = loss_function()
        # Within the tape: gradients of embeddings are sparse.
        gradients = [
            tf.convert_to_tensor(gradient)
            for gradient in inner_tape.gradient(
                loss, variables, unconnected_gradients=_ZERO
            )
        ]

    def matvec(v):
        products = tape.gradient(
            gradients, variables, output_gradients=v, unconnected_gradients=_ZERO
        )
        return [tf.convert_to_tensor(product) for product in products]

    return matvec


def gauss_newton_product(output_function, loss_of_outputs, variables):
    """Returns the function v -> G v of the generalised Gauss-Newton matrix.

    Args:
      output_function: a function without arguments that returns the outputs of the
        network, a tensor of floats.
      loss_of_outputs: a function of the outputs that returns a scalar.
      variables: the weights, a list of variables.
    """
    linear = Linearization(output_function, variables)
    return _sandwich(linear, loss_of_outputs)


def fisher_product(output_function, output_distribution, variables):
    """Returns the function v -> F v of the Fisher information, a mean over the batch.

    Args:
      output_function: a function without arguments that returns the outputs of the
        network, [B, ...].
      output_distribution: what the outputs mean: an object with
        `kl_divergence(outputs_p, outputs_q) -> [B, ...]`, as the classes of
        `output_distributions` and the policies of `tfzoo.losses` have it.
      variables: the weights, a list of variables.
    """
    return linear_fisher_product(
        Linearization(output_function, variables), output_distribution
    )


def linear_fisher_product(linear, output_distribution, weights=None):
    """Returns the function v -> F v; see `fisher_product`.

    Args:
      linear: the `Linearization` of the network.
      output_distribution: see `fisher_product`.
      weights: see `mean_kl_divergence`.
    """
    fixed = tf.stop_gradient(linear.outputs)
    return _sandwich(
        linear,
        lambda outputs: mean_kl_divergence(
            output_distribution, fixed, outputs, weights
        ),
    )


def mean_kl_divergence(output_distribution, outputs_p, outputs_q, weights=None):
    """Returns KL(p || q) in nats, summed over all but the first axis, averaged over it.

    Args:
      output_distribution: see `fisher_product`.
      outputs_p, outputs_q: [B, ...].
      weights: what each divergence is multiplied with, in their shape, or None.

    Raises:
      ValueError: if the weights are of another rank than the divergences.
    """
    divergences = output_distribution.kl_divergence(outputs_p, outputs_q)
    if weights is not None:
        if weights.shape.rank != divergences.shape.rank:
            raise ValueError(
                f"weights must have the shape of the divergences, {divergences.shape}, "
                f"got {weights.shape}"
            )
        divergences *= weights
    divergences = tf.reshape(divergences, [tf.shape(outputs_p)[0], -1])
    return tf.reduce_mean(tf.reduce_sum(divergences, axis=1))


def _sandwich(linear, function):
    """Returns v -> J^T (d^2 function / df^2) J v."""
    output_product = output_hessian_product(function, linear.outputs)
    return lambda v: linear.vjp(output_product(linear.jvp(v)))


def output_hessian_product(function, outputs):
    """Returns u -> (d^2 function / df^2) u at f = outputs.

    Args:
      function: a function of the outputs that returns a scalar.
      outputs: a tensor.
    """
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(outputs)
        with tf.GradientTape() as inner_tape:
            inner_tape.watch(outputs)
            value = function(outputs)
        gradient = inner_tape.gradient(value, outputs, unconnected_gradients=_ZERO)
    return lambda u: tape.gradient(
        gradient, outputs, output_gradients=u, unconnected_gradients=_ZERO
    )


def tensorflow_variables(variables):
    """Returns the `tf.Variable`s behind Keras variables, which tapes know."""
    return [v.value if isinstance(v, keras.Variable) else v for v in variables]


def dense_matrix(matvec, like):
    """Returns the matrix [n, n] behind a `matvec`: for small models.

    Args:
      matvec: a function of a vector.
      like: a vector of n elements, such as the weights; it gives the shapes.
    """
    like = [tf.convert_to_tensor(tensor) for tensor in tf.nest.flatten(like)]
    size = sum(tensor.shape.num_elements() for tensor in like)
    columns = tf.map_fn(
        lambda unit: flatten(matvec(unflatten(unit, like))),
        tf.eye(size, dtype=like[0].dtype),
    )
    return tf.transpose(columns)


def dense_fisher(output_function, output_distribution, variables):
    """Returns the Fisher information [n, n] from whole Jacobians: for small models.

    It shares nothing with `fisher_product` but the divergence, and serves as its
    reference: the mean over the batch of J_b^T F_b J_b, with J_b [K, n] and F_b [K, K],
    the Hessian of KL(f_b || f) at f = f_b.

    Args:
      output_function: see `fisher_product`; the outputs are [B, K].
      output_distribution, variables: see `fisher_product`.
    """
    variables = tensorflow_variables(variables)
    with tf.GradientTape() as tape:
        outputs = output_function()
    num_samples, width = outputs.shape
    jacobians = tape.jacobian(outputs, variables, unconnected_gradients=_ZERO)
    jacobian = tf.concat(
        [tf.reshape(j, [num_samples, width, -1]) for j in jacobians], axis=2
    )
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        with tf.GradientTape() as inner_tape:
            inner_tape.watch(outputs)
            divergences = output_distribution.kl_divergence(
                tf.stop_gradient(outputs), outputs
            )
        gradient = inner_tape.gradient(divergences, outputs)
    output_fishers = tape.batch_jacobian(gradient, outputs)
    return tf.einsum("bkn,bkl,blm->nm", jacobian, output_fishers, jacobian) / float(
        num_samples
    )
