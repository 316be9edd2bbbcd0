"""What generative models share: training steps, random numbers, metrics."""

import keras
import numpy as np
import tensorflow as tf

from tfzoo import random
from tfzoo.training.saved_model import export_saved_model


class GenerativeModel(keras.Model):
    """A `keras.Model` that learns what images are like.

    It is compiled with an optimizer and fitted to batches of images, as any Keras
    model is; a subclass gives `batch_loss`. Labels, where batches have them, are left
    alone.

    All random numbers follow from `seed` and from a counter of training steps, which a
    `tf.train.Checkpoint` of the model holds (and `save_weights` does not), so that
    training goes on as if it had not been stopped. Evaluation has random numbers of its
    own, which are the same each time. Under a `tf.distribute` strategy each replica has
    its own, too. Batches to train on must be such that replicas get equally many
    images there, as their gradients count alike; those to test on may be of any size.

    Args:
      image_shape: (H, W, C) of what it is fitted to.
      seed: an integer.

    Attributes:
      metric_names: what `fit` and `evaluate` show, besides the loss.
      value_range: (black, white) of its images.
      remedy: what to try where training left the finite numbers, as flags.
      has_faster_xla_on_cpu: whether XLA makes training steps faster on a CPU.
      steps: an int, the training steps so far.
      step_counter: int64 variable, the same, which checkpoints hold.
    """

    metric_names: tuple[str, ...] = ()
    value_range = (0.0, 1.0)
    remedy = "a lower --learning_rate"
    has_faster_xla_on_cpu = False

    def __init__(self, image_shape, *, seed=0):
        super().__init__()
        self.image_shape = tuple(image_shape)
        self.seed = seed
        self._base_seed = random.make_seed(seed)
        self.step_counter, self._test_steps = (
            tf.Variable(
                0,
                dtype=tf.int64,
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            for _ in range(2)
        )
        self._make_means(("loss", *self.metric_names))

    @property
    def steps(self):
        """The training steps so far; an integer."""
        return int(self.step_counter.read_value())

    def compile(self, optimizer, *, jit_compile="auto", **kwargs):
        """Configures training; see `keras.Model.compile`.

        Args:
          optimizer: a `keras.optimizers.Optimizer`.
          jit_compile: whether XLA compiles a step; "auto" for one device: on a GPU, and
            on a CPU where `has_faster_xla_on_cpu`.
          **kwargs: `run_eagerly`, `steps_per_execution`.
        """
        jit_compile = self._with_xla(jit_compile, kwargs.get("run_eagerly", False))
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        # Here, as a step that makes variables would be traced twice.
        self.optimizer.build(self.trainable_variables)

    def _with_xla(self, jit_compile, eagerly):
        """Returns whether XLA compiles a step; see `compile`."""
        if jit_compile != "auto":
            return jit_compile
        one_device = tf.distribute.get_strategy().num_replicas_in_sync == 1
        on_gpu = bool(tf.config.list_physical_devices("GPU"))
        return one_device and not eagerly and (on_gpu or self.has_faster_xla_on_cpu)

    def batch_loss(self, images, seed, training):
        """Returns the loss of a batch, a scalar, and a dict of scalars to show.

        Args:
          images: float32 [B, H, W, C].
          seed: int32 [2].
          training: whether this is learned from.
        """
        raise NotImplementedError

    def sample_from(self, num, seed):
        """Returns images [num, H, W, C] of tensors: `num` int32, `seed` int32 [2]."""
        raise NotImplementedError

    def endpoints(self):
        """Returns what `export` serves.

        "sample", which is the default, takes `num`, int32, and `seed`, int32 [2], and
        returns `images`.

        Returns:
          A dict of names to (function, list of `tf.TensorSpec`s). Others than "sample"
          take a batch of any size.
        """

        def sample(num, seed):
            return {"images": self.sample_from(num, seed)}

        inputs = [
            tf.TensorSpec([], tf.int32, name="num"),
            tf.TensorSpec([2], tf.int32, name="seed"),
        ]
        return {"serving_default": (sample, inputs), "sample": (sample, inputs)}

    @property
    def images_spec(self):
        """The `tf.TensorSpec` of a batch of any size, as endpoints take it."""
        return tf.TensorSpec([None, *self.image_shape], tf.float32, name="images")

    def export(self, filepath, format="tf_saved_model", verbose=None):
        """Exports the model for serving, with the signatures of `endpoints`.

        An earlier export at `filepath` is replaced only once the new one is complete.

        Args:
          filepath: a directory.
          format: "tf_saved_model".
          verbose: whether Keras prints the signatures.

        Raises:
          ValueError: if `format` is another, or if there is something else at
            `filepath`.
        """
        if format != "tf_saved_model":
            raise ValueError(f"format must be 'tf_saved_model', got {format!r}")
        export_saved_model(filepath, self.endpoints(), self.served_networks, verbose)

    @property
    def served_networks(self):
        """The networks that `endpoints` use."""
        raise NotImplementedError

    @property
    def metrics(self):
        """The means that `fit` and `evaluate` show."""
        return list(self._means.values())

    def train_step(self, data):
        """Takes a step down `batch_loss`; returns the means of the epoch so far."""
        images = images_of(data)
        seed = self._seed_of_replica(self.step_counter.read_value())
        variables = [v.value for v in self.trainable_variables]
        with tf.GradientTape() as tape:
            loss, metrics = self.batch_loss(images, seed, training=True)
            if self.losses:
                loss += tf.add_n(self.losses)
            # Gradients of replicas are added up.
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            scaled = self.optimizer.scale_loss(loss / replicas)
        self.optimizer.apply(tape.gradient(scaled, variables), self.trainable_variables)
        self.step_counter.assign_add(1)
        return self._show({"loss": loss, **metrics})

    def test_step(self, data):
        """Evaluates a batch; returns the means of all so far."""
        images = images_of(data)
        seed = self._seed_of_replica(-1 - self._test_steps.read_value())
        loss, metrics = self.batch_loss(at_least_one(images), seed, training=False)
        self._test_steps.assign_add(1)
        return self._show({"loss": loss, **metrics}, len_of=images)

    def reset_metrics(self):
        """Forgets the means so far; see `keras.Model`."""
        super().reset_metrics()
        self._test_steps.assign(0)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Under a strategy, Keras would look at the mean of what replicas get, which
        # fails where that differs in size; and there is nothing left to build.
        del iterator, data_batch

    def _make_means(self, names):
        self._means = {name: keras.metrics.Mean(name=name) for name in names}

    def _seed_of_replica(self, number):
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group if context else 0
        return random.fold_in(random.fold_in(self._base_seed, number), replica)

    def _show(self, metrics, len_of=None):
        weight = None if len_of is None else tf.cast(tf.shape(len_of)[0], tf.float32)
        if metrics.keys() != self._means.keys():
            raise ValueError(
                f"the metrics must be {', '.join(self._means)}, got "
                f"{', '.join(metrics)}"
            )
        for name, value in metrics.items():
            self._means[name].update_state(value, sample_weight=weight)
        return {name: mean.result() for name, mean in self._means.items()}


def images_of(data):
    """Returns the images [B, H, W, C] of a batch, float32."""
    images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
    return tf.cast(images, tf.float32)


def at_least_one(batch):
    """Returns a batch, with a row of zeros if a replica is left without any.

    Convolutions refuse a batch of none, and the mean of none is no number.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return batch
    missing = tf.cast(tf.equal(tf.shape(batch)[0], 0), tf.int32)
    return tf.pad(batch, [[0, missing], *[[0, 0]] * (len(batch.shape) - 1)])


def autoencoder_endpoints(model, reconstruct, latent_shape):
    """Returns what an autoencoder serves, for `GenerativeModel.endpoints`.

    "encode" takes `images` [B, H, W, C] and returns `mean` and `log_variance` of the
    latent numbers; "decode" takes `latent` and returns `images`, the means;
    "reconstruct", which is the default, takes and returns `images`.

    Args:
      model: with `encode` and `decode`.
      reconstruct: a function from images to images.
      latent_shape: of the latent numbers of an image.
    """

    def encode(images):
        return dict(zip(("mean", "log_variance"), model.encode(images), strict=True))

    def decode(latent):
        return {"images": model.decode(latent)}

    def rebuild(images):
        return {"images": reconstruct(images)}

    images = model.images_spec
    latent = tf.TensorSpec([None, *latent_shape], tf.float32, name="latent")
    return {
        "serving_default": (rebuild, [images]),
        "reconstruct": (rebuild, [images]),
        "encode": (encode, [images]),
        "decode": (decode, [latent]),
    }


def weight_seeds(*key):
    """Yields a new integer for each initializer; the same for the same integers."""
    sequence = np.random.SeedSequence(key)
    while True:
        (child,) = sequence.spawn(1)
        yield int(child.generate_state(1)[0])
