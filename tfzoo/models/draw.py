"""DRAW, a variational autoencoder that draws an image in T glimpses.

Gregor et al. 2015 (arXiv:1502.04623). An encoder and a decoder, both LSTMs, take turns
at a canvas c, from learned c_0, h_0^enc and h_0^dec: for t = 1 ... T,

    x^_t    = x - sigmoid(c_t-1)                            (3)
    r_t     = read(x, x^_t, h_t-1^dec)                      (4)
    h_t^enc = LSTM^enc(h_t-1^enc, [r_t, h_t-1^dec])         (5)
    z_t     ~ Q(z_t | h_t^enc) = N(mean, diag variance)     (1, 2, 6)
    h_t^dec = LSTM^dec(h_t-1^dec, z_t)                      (7)
    c_t     = c_t-1 + write(h_t^dec)                        (8)

and the canvas at the end is what p(x|z) is of. What is maximised is the bound

    log p(x | c_T) - sum_t KL(Q(z_t | h_t^enc) || N(0, I))  (9 to 12)

With attention, reading and writing are at N x N filters whose place follows from
h^dec (`tfzoo.layers.gaussian_attention`); without, reading gives [x, x^] and writing is
a linear map (17, 18).

The paper has canvases of Bernoulli pixels. Here the canvas holds whatever parameters
the pixels' distribution has, and sigmoid(c) is its mean. The LSTMs have no peepholes,
and a forget bias of 1 at first; what their cells remember before the first glimpse is
learned with c_0, h_0^enc and h_0^dec, all from 0.
"""

import copy
import math
from typing import NamedTuple

import keras
import tensorflow as tf

from tfzoo import random
from tfzoo.layers.gaussian_attention import attention_parameters, read, write
from tfzoo.losses import (
    elbo,
    gaussian_kl_divergence,
    gaussian_log_ratio,
    importance_weighted_bound,
    pixel_distribution,
)
from tfzoo.models.generative_model import (
    GenerativeModel,
    autoencoder_endpoints,
    weight_seeds,
)

# Exponents beyond this make no difference but overflow.
_MAX_LOG_VARIANCE = 20.0


class DRAW(GenerativeModel):
    """Deep recurrent attentive writer.

      model = DRAW((28, 28, 1), num_glimpses=10)
      model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=5.0))
      model.fit(batches, steps_per_epoch=600, epochs=10)
      images = model.sample(64, seed=0)
      frames = model.sample_canvases(64, seed=0)["images"]

    `fit` shows "elbo", the evidence lower bound in nats (whatever beta is), and its
    parts, "log_likelihood" and "kl", the sum over glimpses.

    Args:
      image_shape: (H, W, C); images are from 0 to 1.
      num_glimpses: T.
      hidden_units: the width of the encoder's and of the decoder's LSTM.
      latent_size: D, the numbers of z_t.
      read_size: N of reading, or None to read the whole image without attention.
      write_size: N of writing, or None to write the whole image without attention.
      distribution: p(x|z); a `tfzoo.losses.PixelDistribution` of K parameters, or
        "bernoulli", "gaussian" or "discretized_logistic".
      beta: the weight of KL, at least 0.
      seed: an integer; of the first weights and all noise.

    Raises:
      ValueError: if an argument is out of its range.
    """

    metric_names = ("elbo", "log_likelihood", "kl")
    has_faster_xla_on_cpu = True

    def __init__(
        self,
        image_shape,
        *,
        num_glimpses=64,
        hidden_units=256,
        latent_size=100,
        read_size=2,
        write_size=5,
        distribution="bernoulli",
        beta=1.0,
        seed=0,
    ):
        if len(image_shape) != 3 or any(n != int(n) or n < 1 for n in image_shape):
            raise ValueError(
                f"image_shape must be three positive integers, got {image_shape}"
            )
        for name, value in (
            ("num_glimpses", num_glimpses),
            ("hidden_units", hidden_units),
            ("latent_size", latent_size),
        ):
            if value != int(value) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value}")
        for name, value in (("read_size", read_size), ("write_size", write_size)):
            if value is not None and (value != int(value) or value < 1):
                raise ValueError(
                    f"{name} must be a positive integer, or None for no attention, "
                    f"got {value}"
                )
        if not 0 <= beta < math.inf:
            raise ValueError(f"beta must be at least 0, got {beta}")
        super().__init__(image_shape, seed=seed)
        # Errors are differences of brightness, which half precision is too coarse for.
        self.autocast = False
        self.num_glimpses = num_glimpses
        self.hidden_units = hidden_units
        self.latent_size = latent_size
        self.read_size = read_size
        self.write_size = write_size
        self.distribution = pixel_distribution(distribution)
        self.beta = beta

        height, width, channels = self.image_shape
        self._canvas_shape = (
            height,
            width,
            self.distribution.num_parameters * channels,
        )
        self._written_shape = (
            self._canvas_shape
            if write_size is None
            else (write_size, write_size, self._canvas_shape[-1])
        )
        seen = height * width if read_size is None else read_size**2
        seeds = weight_seeds(seed, 0)
        self.start = _Start(self._canvas_shape, hidden_units)
        self.encoder = _lstm(2 * channels * seen + hidden_units, hidden_units, seeds)
        self.posterior = _dense(hidden_units, 2 * latent_size, seeds)
        self.decoder = _lstm(latent_size, hidden_units, seeds)
        self.writer = _dense(hidden_units, math.prod(self._written_shape), seeds)
        self.read_attention, self.write_attention = (
            None if size is None else _dense(hidden_units, 5, seeds)
            for size in (read_size, write_size)
        )
        self.built = True

    @property
    def served_networks(self):
        """The layers that `endpoints` use."""
        layers = [self.start, self.encoder, self.posterior, self.decoder, self.writer]
        attention = self.read_attention, self.write_attention
        return layers + [layer for layer in attention if layer is not None]

    def encode(self, images):
        """Returns the mean and the log-variance of Q(z_t), [B, T, D] each, of images.

        Q(z_t) depends on z_1 to z_t-1, for which their means are taken.
        """
        noise = tf.zeros(self._noise_shape(tf.shape(images)[0]))
        _, q = self._reproduce(images, noise, ("mean", "log_variance"))
        return _swapped(q["mean"]), _swapped(q["log_variance"])

    def decode(self, latent):
        """Returns the mean images [B, H, W, C] of p(x|z), of z [B, T, D].

        Raises:
          ValueError: if T or D are others than the model's.
        """
        latent = tf.cast(latent, tf.float32)
        shape = self.num_glimpses, self.latent_size
        if tuple(latent.shape[1:]) != shape:
            raise ValueError(
                f"latent must have shape [B, {shape[0]}, {shape[1]}], got "
                f"{list(latent.shape)}"
            )
        state, _ = self._draw(_swapped(latent))
        return self.distribution.mean(state.canvas)

    def call(self, images):
        """Returns what `reconstruct` does."""
        return self.reconstruct(images)

    def reconstruct(self, images):
        """Returns mean images [B, H, W, C] of p(x|z), each z_t the mean of Q."""
        zeros = tf.zeros(self._noise_shape(tf.shape(images)[0]))
        state, _ = self._reproduce(images, zeros)
        return self.distribution.mean(state.canvas)

    def sample(self, num, seed=0):
        """Returns mean images [num, H, W, C] of p(x|z), with z_t from the prior.

        Args:
          num: how many.
          seed: an integer.
        """
        return self.sample_from(num, random.make_seed(seed))

    def sample_from(self, num, seed):
        """Returns what `sample` does, of tensors: `num` int32 and `seed` int32 [2]."""
        state, _ = self._draw(random.normal(self._noise_shape(num), seed))
        return self.distribution.mean(state.canvas)

    def canvases(self, images, seed=None):
        """Returns how images are read and drawn again, glimpse by glimpse.

        Args:
          images: [B, H, W, C].
          seed: an integer, of the noise in z_t; by default each z_t is the mean of Q,
            and the last canvas is what `reconstruct` returns.

        Returns:
          A dict: "images" [T, B, H, W, C], the mean images of c_1 to c_T; "read" and
          "write", each where there is such an attention, [T, B, 5], its
          `attention_parameters`. What is read at glimpse t is the image and its
          difference from c_t-1, what is written there makes c_t.
        """
        shape = self._noise_shape(tf.shape(images)[0])
        noise = tf.zeros(shape)
        if seed is not None:
            noise = random.normal(shape, random.make_seed(seed))
        return self._as_pictures(self._reproduce(images, noise, self._kept))

    def sample_canvases(self, num, seed=0):
        """Returns how samples are drawn, glimpse by glimpse.

        Args:
          num: how many.
          seed: an integer; the last canvases are what `sample` returns for it.

        Returns:
          A dict: "images" [T, num, H, W, C], the mean images of c_1 to c_T, and with
          attention "write" [T, num, 5], its `attention_parameters`.
        """
        kept = [name for name in self._kept if name != "read"]
        latent = random.normal(self._noise_shape(num), random.make_seed(seed))
        return self._as_pictures(self._draw(latent, kept))

    def endpoints(self):
        """Returns what `export` serves.

        "sample" takes `num`, int32, and `seed`, int32 [2], and returns `images`.
        "encode" takes `images` [B, H, W, C] and returns `mean` and `log_variance`
        [B, T, D]; "decode" takes `latent` [B, T, D] and returns `images`, the means;
        "reconstruct", which is the default, takes and returns `images`; "canvases"
        takes `images` and returns what the method of that name does.
        """

        def canvases(images):
            return self.canvases(images)

        latent_shape = self.num_glimpses, self.latent_size
        return {
            **super().endpoints(),
            **autoencoder_endpoints(self, self.reconstruct, latent_shape),
            "canvases": (canvases, [self.images_spec]),
        }

    def bound_parts(self, images, seed):
        """Returns (log p(x|c_T) [B] with z_t from Q, KL by glimpses [B, T]), in nats.

        Args:
          images: float32 [B, H, W, C].
          seed: int32 [2].
        """
        images = tf.cast(images, tf.float32)
        noise = random.normal(self._noise_shape(tf.shape(images)[0]), seed)
        state, q = self._reproduce(images, noise, ("mean", "log_variance"))
        kl = gaussian_kl_divergence(q["mean"], q["log_variance"])
        return (
            self.distribution.log_prob(state.canvas, images),
            tf.transpose(tf.reduce_sum(kl, axis=-1)),
        )

    def elbo(self, images, seed=0):
        """Returns the evidence lower bound in nats, [B], of images [B, H, W, C]."""
        return elbo(*self.bound_parts(images, random.make_seed(seed)))

    def importance_weighted_bound(self, images, num_samples=100, seed=0):
        """Returns a bound on log p(x) in nats, [B], tighter with more samples.

        As what is read depends on what was drawn, each sample is a pass of its own.

        Args:
          images: [B, H, W, C].
          num_samples: K.
          seed: an integer.
        """
        images = tf.cast(images, tf.float32)
        seed = random.make_seed(seed)
        shape = self._noise_shape(tf.shape(images)[0])

        def log_weight(k):
            noise = random.normal(shape, random.fold_in(seed, k))
            state, q = self._reproduce(images, noise, ("mean", "log_variance"))
            mean, log_variance = q["mean"], q["log_variance"]
            latent = mean + tf.exp(0.5 * log_variance) * noise
            log_ratio = gaussian_log_ratio(latent, mean, log_variance)
            log_likelihood = self.distribution.log_prob(state.canvas, images)
            return log_likelihood + tf.reduce_sum(log_ratio, axis=0)

        return importance_weighted_bound(
            tf.map_fn(
                log_weight,
                tf.range(num_samples),
                fn_output_signature=tf.float32,
                parallel_iterations=1,
            )
        )

    def batch_loss(self, images, seed, training):
        """Returns minus the bound, with beta, and its parts; see the base."""
        del training
        log_likelihood, kl = self.bound_parts(images, seed)
        maximised = elbo(log_likelihood, kl, beta=self.beta)
        log_likelihood = tf.reduce_mean(log_likelihood)
        kl = tf.reduce_mean(tf.reduce_sum(kl, axis=-1))
        return -tf.reduce_mean(maximised), {
            "elbo": log_likelihood - kl,
            "log_likelihood": log_likelihood,
            "kl": kl,
        }

    def _reproduce(self, images, noise, kept=()):
        """Runs encoder and decoder; returns the last state, and what is kept, [T, B].

        Args:
          images: [B, H, W, C].
          noise: z_t = mean + stddev noise_t, [T, B, D].
          kept: names of "mean", "log_variance", "canvas", "read" and "write".
        """
        images = tf.cast(images, tf.float32)
        networks = self._networks()
        if self.read_size is None:
            # All of x is read at each glimpse, but need be multiplied only once.
            encoder = networks.encoder.given(_flat(images))
            networks = networks._replace(encoder=encoder)

        def glimpse(t, state):
            state, reading = self._read(networks, state, images)
            stddev = tf.exp(0.5 * reading["log_variance"])
            latent = reading["mean"] + stddev * noise[t]
            state, writing = self._write(networks, state, latent)
            return state, {**reading, **writing}

        state = self.start.repeated(tf.shape(images)[0])
        return _repeat(glimpse, state, self.num_glimpses, kept)

    def _draw(self, latent, kept=()):
        """Runs the decoder on z, [T, B, D]; see `_reproduce`."""
        networks = self._networks()

        def glimpse(t, state):
            return self._write(networks, state, latent[t])

        state = self.start.repeated(tf.shape(latent)[1])
        return _repeat(glimpse, state, self.num_glimpses, kept)

    def _read(self, networks, state, images):
        """Returns the state with that of the encoder, and a dict; equations 1 to 5."""
        seen = error = images - self.distribution.mean(state.canvas)
        reading = {}
        if self.read_size is not None:
            reading["read"] = attention_parameters(
                networks.read_attention(state.decoder),
                self.image_shape[:2],
                self.read_size,
            )
            pair = tf.concat([images, error], axis=-1)
            seen = read(pair, reading["read"], self.read_size)
        gates = networks.encoder(_flat(seen), state.decoder, state.encoder)
        output, cell = _lstm_step(gates, state.encoder_cell)
        mean, log_variance = tf.split(networks.posterior(output), 2, axis=-1)
        limit = _MAX_LOG_VARIANCE
        reading["mean"] = mean
        reading["log_variance"] = tf.clip_by_value(log_variance, -limit, limit)
        return state._replace(encoder=output, encoder_cell=cell), reading

    def _write(self, networks, state, latent):
        """Returns the state after the decoder and its writing, and a dict; 7 and 8."""
        gates = networks.decoder(latent, state.decoder)
        output, cell = _lstm_step(gates, state.decoder_cell)
        written = tf.reshape(networks.writer(output), [-1, *self._written_shape])
        writing = {}
        if self.write_size is not None:
            writing["write"] = attention_parameters(
                networks.write_attention(output),
                self.image_shape[:2],
                self.write_size,
            )
            written = write(written, writing["write"], self.image_shape[:2])
        canvas = writing["canvas"] = state.canvas + written
        state = state._replace(canvas=canvas, decoder=output, decoder_cell=cell)
        return state, writing

    @property
    def _kept(self):
        """What pictures are of."""
        sizes = {"read": self.read_size, "write": self.write_size}
        return ["canvas", *(name for name, size in sizes.items() if size is not None)]

    def _as_pictures(self, run):
        _, values = run
        return {"images": self.distribution.mean(values.pop("canvas")), **values}

    def _noise_shape(self, num):
        return [self.num_glimpses, num, self.latent_size]

    def _networks(self):
        """Reads the weights, once for all glimpses."""
        return _Networks(
            *(
                None if layer is None else _Affine(layer)
                for layer in (
                    self.encoder,
                    self.posterior,
                    self.decoder,
                    self.writer,
                    self.read_attention,
                    self.write_attention,
                )
            )
        )


class _State(NamedTuple):
    """What goes from glimpse to glimpse.

    Attributes:
      canvas: c_t, [B, H, W, K C].
      encoder, encoder_cell: h_t^enc and what its LSTM remembers, [B, U].
      decoder, decoder_cell: h_t^dec and what its LSTM remembers, [B, U].
    """

    canvas: tf.Tensor
    encoder: tf.Tensor
    encoder_cell: tf.Tensor
    decoder: tf.Tensor
    decoder_cell: tf.Tensor


class _Affine:
    """An affine function, with the weights of a dense layer or of an LSTM's gates.

    It reads, casts and joins the weights when it is made, and not in the loop.
    """

    def __init__(self, layer):
        self.dtype = layer.compute_dtype
        self.kernel = tf.cast(layer.kernel, self.dtype)
        if isinstance(layer, keras.layers.LSTMCell):
            recurrent_kernel = tf.cast(layer.recurrent_kernel, self.dtype)
            self.kernel = tf.concat([self.kernel, recurrent_kernel], axis=0)
        self.bias = tf.cast(layer.bias, self.dtype)

    def __call__(self, *inputs):
        """Returns outputs float32 [B, O], of inputs [B, ...] that are concatenated."""
        inputs = tf.cast(tf.concat(inputs, axis=-1), self.dtype)
        return tf.cast(tf.matmul(inputs, self.kernel) + self.bias, tf.float32)

    def given(self, first):
        """Returns the function of all inputs but the first, which stays [B, I]."""
        width = first.shape[-1]
        of_others = copy.copy(self)
        of_others.kernel = self.kernel[width:]
        of_others.bias += tf.matmul(tf.cast(first, self.dtype), self.kernel[:width])
        return of_others


class _Networks(NamedTuple):
    encoder: _Affine
    posterior: _Affine
    decoder: _Affine
    writer: _Affine
    read_attention: _Affine | None
    write_attention: _Affine | None


class _Start(keras.layers.Layer):
    """The learned state before the first glimpse, for any number of images."""

    def __init__(self, canvas_shape, hidden_units):
        # Canvases are sums, which need more than half precision.
        super().__init__(name="start", dtype="float32")

        def zeros(name, *shape):
            return self.add_weight(name=name, shape=shape, initializer="zeros")

        self.canvas = zeros("canvas", *canvas_shape)
        self.encoder = zeros("encoder", hidden_units)
        self.encoder_cell = zeros("encoder_cell", hidden_units)
        self.decoder = zeros("decoder", hidden_units)
        self.decoder_cell = zeros("decoder_cell", hidden_units)
        self.built = True

    def repeated(self, num):
        """Returns the `_State` of `num` images."""
        return _State(
            *(
                tf.broadcast_to(weight, [num, *weight.shape])
                for weight in (getattr(self, name) for name in _State._fields)
            )
        )


def _repeat(step, state, num, kept):
    """Repeats `state, values = step(t, state)`; returns the last, and values stacked.

    Args:
      step: a function of t, from 0 to `num` - 1, and the state.
      state: a tuple of tensors.
      num: an integer.
      kept: the names of the values to keep.

    Returns:
      (state, a dict of tensors [num, ...] by the names in `kept`).
    """
    arrays = {name: tf.TensorArray(tf.float32, num) for name in kept}

    def body(t, state, arrays):
        state, values = step(t, state)
        written = {name: arrays[name].write(t, values[name]) for name in arrays}
        return t + 1, state, written

    # XLA has gradients only of loops whose length is known beforehand.
    _, state, arrays = tf.while_loop(
        lambda t, *_: t < num,
        body,
        (tf.constant(0), state, arrays),
        maximum_iterations=num,
    )
    return state, {name: array.stack() for name, array in arrays.items()}


def _swapped(latent):
    """Returns [B, T, D] of [T, B, D], and the other way round."""
    return tf.transpose(latent, [1, 0, 2])


def _flat(images):
    return tf.reshape(images, [-1, math.prod(images.shape[1:])])


def _lstm_step(gates, cell):
    """Returns the output and the cell of an LSTM, [B, U], of gates [B, 4 U]."""
    to_input, to_forget, new, to_output = tf.split(gates, 4, axis=-1)
    cell = tf.sigmoid(to_forget) * cell + tf.sigmoid(to_input) * tf.tanh(new)
    return tf.sigmoid(to_output) * tf.tanh(cell), cell


def _lstm(width, units, seeds):
    layer = keras.layers.LSTMCell(
        units,
        kernel_initializer=keras.initializers.GlorotUniform(next(seeds)),
        recurrent_initializer=keras.initializers.Orthogonal(seed=next(seeds)),
        unit_forget_bias=True,
    )
    layer.build((None, width))
    return layer


def _dense(width, units, seeds):
    layer = keras.layers.Dense(
        units, kernel_initializer=keras.initializers.GlorotUniform(next(seeds))
    )
    layer.build((None, width))
    return layer
