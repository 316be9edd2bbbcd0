"""K-FAC: natural-gradient steps with a Kronecker-factored Fisher matrix.

J. Martens and R. Grosse, "Optimizing neural networks with Kronecker-factored
approximate curvature" (2015, arXiv:1503.05671); for convolutions, R. Grosse and J.
Martens (2016, arXiv:1602.01573). Of a layer z = W^T a, with a the inputs and a 1 for
the bias, and g = d(-log p(y)) / dz for targets y drawn from the network's own outputs,
the block of the Fisher matrix is taken to be

  F_layer = A (x) G,    A = E[a a^T],  G = E[g g^T]

as moving averages over batches. With the gradient V of [W; b], damping lambda, gamma =
sqrt(lambda) and pi^2 = (tr A / dim A) / (tr G / dim G), the direction of a layer is

  D = -(A + pi gamma I)^-1 V (G + gamma / pi I)^-1

The step alpha D + mu d, with d the step before, minimises the quadratic model of the
loss whose curvature is the exact Fisher matrix of the batch plus lambda I: two numbers,
from products with the Jacobian (section 7 there: momentum and a learning rate that
choose themselves). Lambda follows the rule of Levenberg and Marquardt. With a learning
rate r, the step is r times that, and the quadratic model and the divergence are taken
of the step so shortened.

A convolution's a are the patches, at T places, that are taken as independent of each
other: G is the sum over places, A the mean. Where the samples have weights w, g is
multiplied by sqrt(w), and A is the mean with the weights w.

Differences from the paper: gamma is tied to lambda instead of searched for, the weight
decay is the losses' own, and there is no averaging of iterates.
"""

import contextlib
import math

import keras
import tensorflow as tf

from tfzoo.optimizers.curvature_products import (
    Linearization,
    mean_kl_divergence,
    output_hessian_product,
)
from tfzoo.optimizers.second_order_optimizer import (
    SecondOrderOptimizer,
    check_ranges,
)
from tfzoo.optimizers.vectors import inner_product


@keras.saving.register_keras_serializable(package="tfzoo")
class KFAC(SecondOrderOptimizer):
    """Kronecker-factored approximate curvature, for Dense and Conv2D layers.

      model = second_order(keras.Sequential([...]))
      model.compile(optimizer=KFAC(), loss="binary_crossentropy")
      model.fit(x, y, batch_size=1000)

    It needs the forward pass; see `second_order` and `SecondOrderTraining`. The loss
    must be a likelihood; see `output_distributions`.

    Args:
      learning_rate: multiplies the step, which has the right length by itself; a float
        or a schedule. Below 1 where batches are small.
      damping: lambda, positive; where it starts.
      damping_every: the steps between two changes of lambda; 0 leaves it as it is.
      decay: of the moving averages of A and G, in [0, 1).
      inverse_every: the steps between two inversions of A and G.
      momentum: whether the step before is part of the step.
      output_distribution: what the network's outputs mean, an `OutputDistribution`; or
        a `Likelihood`, which has the scale of the loss too, else that is 1; by default
        both follow from the loss.
      seed: an integer, for the targets that are drawn.
      name: of the optimizer.

    Attributes:
      damping: float32 variable, lambda.
      metric_names: what `minimize` reports.

    Raises:
      ValueError: if a number is out of range; in use, if a layer with weights is
        neither Dense nor Conv2D, or if there are weights for each place of the outputs
        and a layer has other places.
    """

    metric_names = ("kl", "damping", "step_size", "momentum")

    def __init__(
        self,
        learning_rate=1.0,
        *,
        damping=0.1,
        damping_every=5,
        decay=0.95,
        inverse_every=20,
        momentum=True,
        output_distribution=None,
        seed=0,
        name="kfac",
    ):
        check_ranges(
            ("damping", damping, damping > 0, "positive"),
            ("damping_every", damping_every, damping_every >= 0, "at least 0"),
            ("decay", decay, 0 <= decay < 1, "in [0, 1)"),
            ("inverse_every", inverse_every, inverse_every >= 1, "at least 1"),
        )
        super().__init__(
            learning_rate,
            damping=damping,
            output_distribution=output_distribution,
            name=name,
        )
        self.damping_every = damping_every
        self.decay = decay
        self.inverse_every = inverse_every
        self.momentum = momentum
        self.seed = seed

    def build(self, variables):
        """Creates the damping, the factors and their inverses, and the last step."""
        if self.built:
            return
        super().build(variables)
        self._step = self.add_optimizer_variables(variables, "step")
        self._factors, self._inverses = [], []
        for kernel, bias in _kernels_and_biases(variables):
            rows = math.prod(kernel.shape[:-1]) + (bias is not None)
            for kind, size in (("inputs", rows), ("gradients", kernel.shape[-1])):
                name = f"{kernel.path.replace('/', '_')}_{kind}"
                for store, what in (
                    (self._factors, "factor"),
                    (self._inverses, "inverse"),
                ):
                    store.append(
                        self.add_variable(
                            (size, size), dtype="float32", name=f"{name}_{what}"
                        )
                    )

    def minimize(self, forward_pass, variables):
        """Takes one step; see `NaturalGradient.minimize`.

        Args:
          forward_pass: a `ForwardPass`.
          variables: the weights to move, a list of Keras variables.

        Returns:
          (the loss before the step, the outputs before the step [B, ...], a dict of
          float32 scalars). "step_size" and "momentum" are alpha and mu; "kl" is
          KL(old || new) in nats to second order; it is NaN, and no step is taken, where
          a gradient, a factor or a product with F was not finite.
        """
        layers = _layers_of(forward_pass.layers, variables)
        if not self.built:
            self.build(variables)
        self.check_variables(variables)
        with recording(layers) as records:
            linear = Linearization(forward_pass.outputs, variables, forward_pass.loss)
        likelihood = self.likelihood(forward_pass, linear.outputs)
        is_finite = self._update_factors(linear, likelihood, layers, records)
        self._update_inverses()
        direction = self._direction(layers, variables, linear.gradients)

        damping = tf.convert_to_tensor(self.damping)
        previous = [tf.convert_to_tensor(s) for s in self._step]
        rate = tf.cast(self.learning_rate, tf.float32)
        alpha, mu, promised, kl = self._step_sizes(
            linear, likelihood, damping, direction, previous, rate, is_finite
        )
        step = [
            # Not a number times 0 is not 0.
            tf.where(tf.math.is_finite(kl), rate * (alpha * d + mu * p), 0.0)
            for d, p in zip(direction, previous, strict=True)
        ]
        for slot, value in zip(self._step, step, strict=True):
            slot.assign(value)
        self.move(variables, step)
        if self.damping_every:

            def adapt():
                fall = linear.loss - forward_pass.loss(forward_pass.outputs())
                # The paper's 19/20 for each of the steps.
                self.adapt_damping(fall / promised, (20 / 19) ** self.damping_every)
                return fall

            due = tf.equal(tf.math.floormod(self._count(), self.damping_every), 0)
            tf.cond(due, adapt, lambda: tf.constant(0.0))
        scalars = {"kl": kl, "damping": damping, "step_size": alpha, "momentum": mu}
        return linear.loss, linear.outputs, scalars

    def _count(self):
        return tf.cast(tf.convert_to_tensor(self.iterations), tf.int32)

    def _update_factors(self, linear, likelihood, layers, records):
        """Averages A and G with those of this batch, if these are finite.

        Returns:
          Whether they and the gradients are.
        """
        distribution, loss_scale, weights = likelihood
        seed = tf.stack([self.seed, self._count()])
        output_scores = distribution.sample_score(linear.outputs, seed)
        if weights is not None:
            output_scores *= tf.sqrt(weights)[..., tf.newaxis]
        scores = linear.vjp(
            output_scores, [records[id(layer)].preactivation for layer in layers]
        )
        count = tf.cast(self._count(), tf.float32)
        keep = tf.minimum(1.0 - 1.0 / (count + 1.0), self.decay)
        new = []
        for layer, score in zip(layers, scores, strict=True):
            inputs, gradients = factors(
                layer, records[id(layer)].inputs, score, weights
            )
            new += [inputs, loss_scale * gradients]
        # A sum of squares is on each diagonal.
        sizes = [tf.linalg.trace(value) for value in new]
        sizes.append(inner_product(linear.gradients, linear.gradients))
        is_finite = tf.math.is_finite(tf.add_n(sizes))
        for factor, value in zip(self._factors, new, strict=True):
            average = keep * factor + (1.0 - keep) * value
            factor.assign(tf.where(is_finite, average, factor))
        return is_finite

    def _update_inverses(self):
        """Inverts the damped factors, if it is time."""

        def invert():
            gamma = tf.sqrt(tf.convert_to_tensor(self.damping))
            for i in range(0, len(self._factors), 2):
                a, g = (tf.convert_to_tensor(f) for f in self._factors[i : i + 2])
                for inverse, value in zip(
                    self._inverses[i : i + 2], damped_inverses(a, g, gamma), strict=True
                ):
                    inverse.assign(value)
            return tf.constant(0)

        count = self._count()
        due = tf.equal(tf.math.floormod(count, self.inverse_every), 0) | (count < 3)
        tf.cond(due, invert, lambda: tf.constant(0))

    def _direction(self, layers, variables, gradients):
        """Returns D for all variables, in their order."""
        of_variable = {id(v): g for v, g in zip(variables, gradients, strict=True)}
        direction = {}
        for i, layer in enumerate(layers):
            a, g = (tf.convert_to_tensor(f) for f in self._inverses[2 * i : 2 * i + 2])
            shape = layer.kernel.shape
            matrix = tf.reshape(of_variable[id(layer.kernel)], [-1, shape[-1]])
            if layer.use_bias:
                bias = of_variable[id(layer.bias)][tf.newaxis]
                matrix = tf.concat([matrix, bias], axis=0)
            matrix = -tf.matmul(tf.matmul(a, matrix), g)
            if layer.use_bias:
                direction[id(layer.bias)] = matrix[-1]
                matrix = matrix[:-1]
            direction[id(layer.kernel)] = tf.reshape(matrix, shape)
        return [direction[id(v)] for v in variables]

    def _step_sizes(
        self, linear, likelihood, damping, direction, previous, rate, is_finite
    ):
        """Minimises the quadratic model over the plane of two directions.

        Returns:
          (alpha, mu, the fall of the loss that the model promises of `rate` times that
          step, its KL divergence to second order), scalars: 0, 0 and twice NaN if
          something is not finite.
        """
        distribution, loss_scale, weights = likelihood
        vectors = [direction, previous] if self.momentum else [direction]
        moved = [linear.jvp(v) for v in vectors]
        fixed = tf.stop_gradient(linear.outputs)
        output_fisher = output_hessian_product(
            lambda outputs: mean_kl_divergence(distribution, fixed, outputs, weights),
            linear.outputs,
        )
        fishers = [output_fisher(m) for m in moved]
        fisher = tf.stack(
            [tf.stack([tf.reduce_sum(m * f) for f in fishers]) for m in moved]
        )
        squares = tf.stack(
            [tf.stack([inner_product(v, w) for w in vectors]) for v in vectors]
        )
        slope = tf.stack([inner_product(linear.gradients, v) for v in vectors])
        curvature = loss_scale * fisher + damping * squares
        # The first step has no step before: the least change makes it solvable.
        scale = tf.maximum(tf.linalg.trace(curvature), 1e-30)
        identity = tf.eye(len(vectors))
        # A matrix that is not finite cannot be solved with.
        is_finite &= tf.math.is_finite(tf.reduce_sum(curvature) + tf.reduce_sum(slope))
        solvable = tf.where(is_finite, curvature + 1e-7 * scale * identity, identity)
        sizes = -tf.linalg.solve(solvable, slope[:, tf.newaxis])[:, 0]
        quadratic = tf.reduce_sum(sizes * tf.linalg.matvec(curvature, sizes))
        promised = -(
            rate * tf.reduce_sum(sizes * slope) + 0.5 * rate * rate * quadratic
        )
        kl = 0.5 * rate * rate * tf.reduce_sum(sizes * tf.linalg.matvec(fisher, sizes))
        promised, kl = (tf.where(is_finite, x, float("nan")) for x in (promised, kl))
        sizes = tf.where(is_finite, sizes, 0.0)
        return sizes[0], sizes[1] if self.momentum else tf.constant(0.0), promised, kl

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "damping_every": self.damping_every,
            "decay": self.decay,
            "inverse_every": self.inverse_every,
            "momentum": self.momentum,
            "seed": self.seed,
        }


class Record:
    """What a layer was given, `inputs`, and what it gave its activation."""

    inputs = None
    preactivation = None


@contextlib.contextmanager
def recording(layers):
    """Records the inputs and preactivations of Dense and Conv2D layers.

    Args:
      layers: those that are recorded.

    Yields:
      A dict from the ids of the layers to `Record`s, which a forward pass fills.

    Raises:
      ValueError: if a layer is called twice.
    """
    records = {id(layer): Record() for layer in layers}

    def call_of(layer, record):
        call = layer.call

        def recorded(inputs, *args, **kwargs):
            if record.inputs is not None:
                raise ValueError(
                    f"the layer {layer.name} is used twice in the model; KFAC has no "
                    "factors for weights that are shared"
                )
            record.inputs = tf.convert_to_tensor(inputs)
            return call(inputs, *args, **kwargs)

        return recorded

    def activation_of(layer, record):
        activation = layer.activation

        def recorded(preactivation):
            record.preactivation = preactivation
            return preactivation if activation is None else activation(preactivation)

        return recorded

    replaced = []
    try:
        for layer in layers:
            record = records[id(layer)]
            replaced.append((layer, layer.activation))
            # Past Keras, which would keep an activation that is a layer twice.
            vars(layer)["activation"] = activation_of(layer, record)
            vars(layer)["call"] = call_of(layer, record)
        yield records
    finally:
        for layer, activation in replaced:
            vars(layer)["activation"] = activation
            del vars(layer)["call"]


def factors(layer, inputs, scores, weights=None):
    """Returns the Kronecker factors of a layer on a batch, (A, G).

    Args:
      layer: a Dense or Conv2D layer.
      inputs: what it was given, [B, ..., features] or [B, H, W, channels].
      scores: d(-log p) / d preactivation, one for each sample, [B, ..., units], in
        which the weights are.
      weights: of the samples [B], or of the places of the outputs [B, ...], or None.

    Raises:
      ValueError: if there are weights of places, and the layer has others.
    """
    if isinstance(layer, keras.layers.Conv2D):
        inputs = tf.image.extract_patches(
            inputs,
            sizes=[1, *layer.kernel_size, 1],
            strides=[1, *layer.strides, 1],
            rates=[1, *layer.dilation_rate, 1],
            padding=layer.padding.upper(),
        )
    samples = tf.cast(tf.shape(inputs)[0], tf.float32)
    if weights is not None:
        weights = _weights_of_places(layer, inputs, weights)
    inputs = tf.cast(tf.reshape(inputs, [-1, inputs.shape[-1]]), tf.float32)
    scores = tf.cast(tf.reshape(scores, [-1, scores.shape[-1]]), tf.float32)
    rows = tf.cast(tf.shape(inputs)[0], tf.float32)
    if layer.use_bias:
        inputs = tf.concat([inputs, tf.ones_like(inputs[:, :1])], axis=1)
    weighted = inputs
    if weights is not None:
        weighted = weights[:, tf.newaxis] * inputs
        rows = tf.reduce_sum(weights)
    a = tf.matmul(inputs, weighted, transpose_a=True)
    g = tf.matmul(scores, scores, transpose_a=True)
    # Where all weights are 0, so is A.
    return tf.math.divide_no_nan(a, rows), g / samples


def _weights_of_places(layer, inputs, weights):
    """Returns the weights of a layer's places, flat; see `factors`."""
    places = inputs.shape[:-1]
    if weights.shape.rank == 1:
        weights = tf.reshape(weights, [-1] + [1] * (places.rank - 1))
    elif not weights.shape.is_compatible_with(places):
        raise ValueError(
            f"KFAC has weights for the places of the outputs, {weights.shape}, but "
            f"the layer {layer.name} has the places {places}; give one weight for "
            "each sample, or use NaturalGradient"
        )
    return tf.reshape(tf.broadcast_to(weights, tf.shape(inputs)[:-1]), [-1])


def damped_inverses(a, g, gamma):
    """Returns (A + pi gamma I)^-1 and (G + gamma / pi I)^-1.

    Args:
      a, g: the factors, symmetric and positive semidefinite.
      gamma: a positive scalar.
    """
    smallest = 1e-12
    mean_a = tf.linalg.trace(a) / a.shape[0] + smallest
    mean_g = tf.linalg.trace(g) / g.shape[0] + smallest
    pi = tf.sqrt(mean_a / mean_g)

    def inverse(matrix, damping):
        identity = tf.eye(matrix.shape[0])
        root = tf.linalg.cholesky(matrix + damping * identity)
        return tf.linalg.cholesky_solve(root, identity)

    return inverse(a, pi * gamma), inverse(g, gamma / pi)


def _kernels_and_biases(variables):
    """Pairs the variables of layers: [(kernel, bias or None)], in their order.

    Raises:
      ValueError: if one is neither.
    """
    pairs = []
    for variable in variables:
        name = variable.path.rpartition("/")[2]
        if name == "bias" and pairs and pairs[-1][1] is None:
            pairs[-1] = (pairs[-1][0], variable)
        elif name == "kernel":
            pairs.append((variable, None))
        else:
            raise _no_factors(variable)
    return pairs


def _no_factors(variable):
    return ValueError(
        f"KFAC has no factors for {variable.path}; it knows Dense and Conv2D (one "
        "group, channels last): freeze the layer, or use NaturalGradient"
    )


def _layers_of(layers, variables):
    """Returns the layers that own the variables, in the order of these.

    Raises:
      ValueError: if one is not the kernel or bias of a Dense or Conv2D, or belongs to
        a Conv2D of an unusual form.
    """
    owners = {id(v): layer for layer in layers for v in layer.trainable_variables}
    found = []
    for variable in variables:
        layer = owners.get(id(variable))
        usual = isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D))
        if isinstance(layer, keras.layers.Conv2D):
            usual = layer.groups == 1 and layer.data_format == "channels_last"
        # An activation can have weights of its own.
        if not usual or all(variable is not v for v in (layer.kernel, layer.bias)):
            raise _no_factors(variable)
        if layer not in found:
            found.append(layer)
    return found
