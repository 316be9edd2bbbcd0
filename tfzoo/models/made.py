"""MADE, the masked autoencoder for distribution estimation.

Germain et al. 2015 (arXiv:1502.03509). The D brightnesses of an image are put in an
order; in one pass a network gives each its distribution, given those before it:

    log p(x) = sum_d log p(x_d | x_<d)

Masks on the weights see to it. Each unit has a degree m: that of an input is its place
in the order, from 1 to D; that of a hidden unit, how far along the order it may look,
is drawn uniformly from the least degree of the layer below to D - 1. Then

    unit k feeds unit k' of the next hidden layer where           m(k) <= m(k'),
    and the output for the input of place d where                 m(k) <  d.

Degrees may be drawn several times (connectivity-agnostic training) and for several
orders (order-agnostic training), with the same weights. What comes of it is an ensemble
of M distributions, of which each training step takes the next in turn, and

    p(x) = 1/M sum_m p_m(x)

is scored and sampled from. It is the probabilities of whole images that are averaged,
as in the authors' code. The mean of what members say of each input, given those before
it, would make a distribution only of members of one order; that of logits over several
orders makes none.

Unlike the paper's, inputs may have more than two levels. Its conditioning weights,
which tell hidden units what masks they have, are left out: the authors' commands for
their best results have none.
"""

import itertools
import math

import keras
import numpy as np
import tensorflow as tf

from tfzoo import random
from tfzoo.layers.masked_dense import MaskedDense
from tfzoo.losses import bernoulli_log_prob
from tfzoo.models.generative_model import GenerativeModel, weight_seeds


class MADE(GenerativeModel):
    """Masked autoencoder for distribution estimation.

      model = MADE((28, 28, 1))
      model.compile(keras.optimizers.Adam(1e-3))
      model.fit(batches, steps_per_epoch=600, epochs=10)
      nats = model.log_prob(images)
      images = model.sample(64, seed=0)

    `fit` shows "log_prob", the mean log-probability of an image in nats: in training
    that of the step's member of the ensemble, in evaluation that of all together.
    Training step s takes member s mod M, so that each gets as many steps; the replicas
    of a `tf.distribute` strategy take the same. There is no noise in it.

    Images are rounded to the nearest level, so that what is given is always the
    probability of an image that could be drawn.

    Args:
      image_shape: (H, W, C); images are from 0 to 1, and D is H W C.
      hidden_units: widths of the hidden layers, at least one.
      levels: K, how many brightnesses there are, evenly from 0 to 1; with 2 each is
        Bernoulli, with more it is categorical, by a softmax of K outputs.
      num_masks: how often degrees of hidden units are drawn for each order.
      num_orders: how many orders there are, drawn uniformly.
      orders: orders to take in place of drawn ones, [num_orders, D]; each row has the
        indices of the inputs, 0 to D - 1, as they follow each other. The rows, columns
        and channels of an image are in the order of memory, so that [range(D)] is the
        order of reading.
      direct: whether inputs are also connected to the outputs of those after them.
      seed: an integer; of the first weights, orders and masks.

    Attributes:
      num_members: M, which is num_masks num_orders; member m has order m // num_masks.
      orders: int32 array [num_orders, D].
      degrees: int32 arrays [M, D] of the inputs and [M, units] of each hidden layer.

    Raises:
      ValueError: if an argument is out of its range.
    """

    metric_names = ("log_prob",)
    has_faster_xla_on_cpu = True

    def __init__(
        self,
        image_shape,
        *,
        hidden_units=(500,),
        levels=2,
        num_masks=1,
        num_orders=1,
        orders=None,
        direct=False,
        seed=0,
    ):
        image_shape, hidden_units = tuple(image_shape), tuple(hidden_units)
        if len(image_shape) != 3 or not all(map(_is_count, image_shape)):
            raise ValueError(
                f"image_shape must be three positive integers, got {image_shape}"
            )
        if not hidden_units or not all(map(_is_count, hidden_units)):
            raise ValueError(
                f"hidden_units must be one or more positive integers, got "
                f"{hidden_units}"
            )
        if not _is_count(levels) or levels < 2:
            raise ValueError(f"levels must be an integer of at least 2, got {levels}")
        for name, value in ("num_masks", num_masks), ("num_orders", num_orders):
            if not _is_count(value):
                raise ValueError(f"{name} must be a positive integer, got {value}")
        super().__init__(image_shape, seed=seed)
        # Half precision would take several levels for one, where there are many.
        self.autocast = False
        self._num_inputs = num_inputs = math.prod(image_shape)
        self.levels = levels
        self.num_masks = num_masks
        generator = np.random.default_rng((seed, 1))
        if orders is None:
            orders = [generator.permutation(num_inputs) for _ in range(num_orders)]
        self.orders = _checked_orders(orders, num_inputs)
        if num_orders not in (1, len(self.orders)):
            raise ValueError(
                f"num_orders must be left out where there are orders, or be how many "
                f"there are, {len(self.orders)}; got {num_orders}"
            )
        self.degrees = _draw_degrees(self.orders, num_masks, hidden_units, generator)
        self.num_members = num_masks * len(self.orders)

        seeds = weight_seeds(seed, 0)

        def dense(width, units, activation=None, **options):
            initializer = keras.initializers.GlorotUniform(next(seeds))
            layer = MaskedDense(
                units, activation, kernel_initializer=initializer, **options
            )
            layer.build((None, width))
            return layer

        num_outputs = num_inputs * self._outputs_of_input
        widths = itertools.pairwise((num_inputs, *hidden_units))
        self.hidden_layers = [dense(width, units, "relu") for width, units in widths]
        self.output_layer = dense(hidden_units[-1], num_outputs)
        self.direct_layer = None
        if direct:
            self.direct_layer = dense(num_inputs, num_outputs, use_bias=False)
        self.built = True

    @property
    def _outputs_of_input(self):
        return 1 if self.levels == 2 else self.levels

    def connectivity(self, member):
        """Returns the masks of a member of the ensemble, bool [I, O] each.

        Those of the hidden layers, of the outputs and of the direct connections, the
        last whether there are any or not.

        Args:
          member: an integer or int32 scalar, from 0 to M - 1.
        """
        units = [tf.gather(degrees, member) for degrees in self.degrees]
        outputs = tf.repeat(units[0], self._outputs_of_input)
        hidden = [k[:, None] <= above for k, above in itertools.pairwise(units)]
        return [*hidden, units[-1][:, None] < outputs, units[0][:, None] < outputs]

    def conditionals(self, brightness, member):
        """Returns what a member says of each input, given those before it.

        Args:
          brightness: [B, D], the inputs.
          member: an integer or int32 scalar, from 0 to M - 1.

        Returns:
          Logits, float32: [B, D, 1] of brightness 1 if there are two levels, else of
          each level, [B, D, K].
        """
        *hidden, output, direct = self.connectivity(member)
        features = brightness
        for layer, mask in zip(self.hidden_layers, hidden, strict=True):
            features = layer(features, mask)
        logits = tf.cast(self.output_layer(features, output), tf.float32)
        if self.direct_layer is not None:
            logits += tf.cast(self.direct_layer(brightness, direct), tf.float32)
        return tf.reshape(logits, [-1, self._num_inputs, self._outputs_of_input])

    def member_log_prob(self, images, member):
        """Returns log p_m(image) in nats of one member m, float32 [B].

        Args:
          images: [B, H, W, C], from 0 to 1.
          member: an integer or int32 scalar, from 0 to M - 1.
        """
        brightness = tf.reshape(tf.cast(images, tf.float32), [-1, self._num_inputs])
        level = tf.round(brightness * (self.levels - 1))
        logits = self.conditionals(level / (self.levels - 1), member)
        if self.levels == 2:
            log_probs = bernoulli_log_prob(level, logits[:, :, 0])
        else:
            log_probs = -tf.nn.sparse_softmax_cross_entropy_with_logits(
                tf.cast(level, tf.int32), logits
            )
        return tf.reduce_sum(log_probs, axis=-1)

    def log_prob(self, images):
        """Returns log p(image) in nats, exactly; float32 [B].

        Args:
          images: [B, H, W, C], from 0 to 1.
        """
        log_probs = tf.map_fn(
            lambda member: self.member_log_prob(images, member),
            tf.range(self.num_members),
            fn_output_signature=tf.float32,
            parallel_iterations=1,
        )
        return tf.reduce_logsumexp(log_probs, axis=0) - math.log(self.num_members)

    def call(self, images):
        """Returns log p(image) in nats, [B]; see `log_prob`."""
        return self.log_prob(images)

    def sample(self, num, seed=0):
        """Returns images [num, H, W, C] drawn from p, float32 from 0 to 1.

        Args:
          num: how many.
          seed: an integer.
        """
        return self._sample_in_graph(num, random.make_seed(seed))

    @tf.function(
        input_signature=[tf.TensorSpec([], tf.int32), tf.TensorSpec([2], tf.int32)],
        autograph=False,
    )
    def _sample_in_graph(self, num, seed):
        return self.sample_from(num, seed)

    def sample_from(self, num, seed):
        """Returns what `sample` does, of tensors: `num` int32 and `seed` int32 [2].

        Each image has a member of the ensemble for itself, and its inputs are drawn one
        after the other. No mask is needed, as nothing is there to be seen too early: a
        hidden unit is 0 until the last input that it may see, that of its degree, has
        been drawn, and is not changed after. An input costs the first layer one row of
        its weights and the last one column. It is float32 under mixed precision, too,
        where p itself is then rounded otherwise.
        """
        member_seed, noise_seed = tf.unstack(random.split(seed, 2))
        member = random.integers([num], member_seed, self.num_members)
        order = tf.gather(self.orders, member // self.num_masks)
        degrees = [tf.gather(degrees, member) for degrees in self.degrees[1:]]
        num_inputs = self._num_inputs
        noise = random.uniform([num, num_inputs], noise_seed)
        first, *others = self.hidden_layers
        output_weights = self._weights_by_input(self.output_layer)
        output_bias = tf.reshape(self.output_layer.bias.value, [num_inputs, -1])
        if self.direct_layer is not None:
            direct_weights = self._weights_by_input(self.direct_layer)

        def draw_input(place, brightness, sums, hidden):
            index = tf.gather(order, place, axis=1)
            logits = tf.gather(output_bias, index) + _products(
                hidden[-1], tf.gather(output_weights, index)
            )
            if self.direct_layer is not None:
                logits += _products(brightness, tf.gather(direct_weights, index))
            drawn = self._draw(logits, tf.gather(noise, place, axis=1))[:, None]
            brightness += drawn * tf.one_hot(index, num_inputs)

            sums += drawn * tf.gather(first.kernel.value, index)
            features = first.activation(sums)
            now = [tf.where(degrees[0] == place + 1, features, hidden[0])]
            for layer, degree, old in zip(others, degrees[1:], hidden[1:], strict=True):
                features = layer.activation(
                    tf.matmul(now[-1], layer.kernel.value) + layer.bias.value
                )
                now.append(tf.where(degree == place + 1, features, old))
            return place + 1, brightness, sums, now

        _, brightness, _, _ = tf.while_loop(
            lambda place, *_: place < num_inputs,
            draw_input,
            (
                0,
                tf.zeros([num, num_inputs]),
                tf.tile(first.bias.value[None], [num, 1]),
                [tf.zeros([num, layer.units]) for layer in self.hidden_layers],
            ),
            maximum_iterations=num_inputs,
            parallel_iterations=1,
        )
        return tf.reshape(brightness, [num, *self.image_shape])

    def _weights_by_input(self, layer):
        """Returns the weights of the outputs of each input, [D, K or 1, units]."""
        shape = [self._num_inputs, self._outputs_of_input, layer.kernel.shape[0]]
        return tf.reshape(tf.transpose(layer.kernel.value), shape)

    def _draw(self, logits, noise):
        """Returns brightnesses [B], given uniform noise [B]; logits as above."""
        if self.levels == 2:
            return tf.cast(noise < tf.sigmoid(logits[:, 0]), tf.float32)
        cumulative = tf.cumsum(tf.nn.softmax(logits), axis=-1)[:, :-1]
        passed = tf.cast(noise[:, None] >= cumulative, tf.float32)
        return tf.reduce_sum(passed, axis=-1) / (self.levels - 1)

    @property
    def served_networks(self):
        """The layers that `endpoints` use."""
        direct = [] if self.direct_layer is None else [self.direct_layer]
        return [*self.hidden_layers, self.output_layer, *direct]

    def endpoints(self):
        """Returns what `export` serves.

        "log_prob", which is the default, takes `images` [B, H, W, C] and returns
        `log_prob` [B] in nats. "sample" takes `num`, int32, and `seed`, int32 [2], and
        returns `images`.
        """

        def log_prob(images):
            return {"log_prob": self.log_prob(images)}

        served = log_prob, [self.images_spec]
        return {**super().endpoints(), "serving_default": served, "log_prob": served}

    def batch_loss(self, images, seed, training):
        """Returns minus the mean log-probability, and that itself; see the base."""
        del seed
        if training:
            member = tf.cast(
                self.step_counter.read_value() % self.num_members, tf.int32
            )
            log_prob = tf.reduce_mean(self.member_log_prob(images, member))
        else:
            log_prob = tf.reduce_mean(self.log_prob(images))
        return -log_prob, {"log_prob": log_prob}


def _draw_degrees(orders, num_masks, hidden_units, generator):
    """Returns the degrees of the inputs and of each hidden layer, int32 [M, units].

    Args:
      orders: [num_orders, D].
      num_masks: how often those of hidden units are drawn for each order.
      hidden_units: their widths.
      generator: a NumPy random generator.
    """
    degrees = [np.repeat(np.argsort(orders, axis=1) + 1, num_masks, axis=0)]
    # With a single input there is nothing to look at; 1 is what no output sees.
    end = max(orders.shape[1], 2)
    for units in hidden_units:
        least = degrees[-1].min(axis=1, keepdims=True)
        degrees.append(generator.integers(least, end, (len(least), units)))
    return tuple(layer.astype(np.int32) for layer in degrees)


def _checked_orders(orders, num_inputs):
    """Returns orders as an int32 array [num_orders, D].

    Raises:
      ValueError: if they are not permutations of the inputs.
    """
    orders = np.asarray(orders)
    if orders.ndim != 2 or not len(orders) or orders.shape[1] != num_inputs:
        raise ValueError(
            f"orders must be [num_orders, {num_inputs}], got {list(orders.shape)}"
        )
    for number, order in enumerate(orders):
        if not np.array_equal(np.sort(order), np.arange(num_inputs)):
            raise ValueError(
                f"each row of orders must have each of 0 to {num_inputs - 1} once, row "
                f"{number} has not"
            )
    return orders.astype(np.int32)


def _products(features, weights):
    """Returns [B, K], given features [B, units] and weights [B, K, units]."""
    return tf.linalg.matvec(weights, features)


def _is_count(value):
    """Whether a value is a positive integer."""
    return (
        isinstance(value, (int, np.integer))
        and not isinstance(value, bool)
        and value >= 1
    )
