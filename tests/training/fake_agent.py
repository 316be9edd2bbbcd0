"""An agent that learns nothing, in milliseconds, by the interface of real ones."""

import math
import time

import keras
import tensorflow as tf

STEPS_PER_EPOCH = 10


class FakeAgent(keras.Model):
    """Each epoch is 10 steps and one update of a chaotic map of its weights.

    So that only a run that goes on from the very state gives the same metrics.

    Args:
      width: of the network.
      nan_at: the step at which the loss is NaN, if any.
      on_epoch: called with the steps done before each epoch.
    """

    remedy = "a lower --learning_rate"

    def __init__(self, width=4, *, nan_at=None, on_epoch=lambda steps: None):
        super().__init__()
        initializer = keras.initializers.RandomUniform(seed=0)
        self.network = keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(
                    width, kernel_initializer=initializer, name="hidden"
                ),
                keras.layers.Dense(2, kernel_initializer=initializer, name="policy"),
            ],
            name="actor",
        )
        self.env_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.chaos = tf.Variable(0.3, dtype=tf.float64, trainable=False)
        self.nan_at = nan_at
        self.on_epoch = on_epoch
        self.compile(optimizer=keras.optimizers.Adam(1e-2))

    @property
    def steps(self):
        return self.env_steps

    def steps_per_iteration(self, environment):
        return STEPS_PER_EPOCH

    def prepare(self, environment):
        self.optimizer.build(self.trainable_variables)

    def fit(
        self,
        environment,
        steps,
        *,
        initial_step=0,
        callbacks=None,
        steps_per_epoch=None,
        verbose="auto",
    ):
        if (steps - initial_step) % STEPS_PER_EPOCH:
            raise ValueError(f"steps={steps} must be a multiple of {STEPS_PER_EPOCH}")
        callbacks = keras.callbacks.CallbackList(
            callbacks, add_history=True, model=self, verbose=0
        )
        self.stop_training = False
        start = time.perf_counter()
        callbacks.on_train_begin()
        epoch, logs = 0, {}
        while self.env_steps < steps and not self.stop_training:
            self.on_epoch(int(self.env_steps))
            callbacks.on_epoch_begin(epoch)
            self.chaos.assign(3.9 * self.chaos * (1 - self.chaos))
            gradients = [tf.ones_like(v) * float(self.chaos) for v in self.variables]
            self.optimizer.apply(gradients, self.trainable_variables)
            self.env_steps.assign_add(STEPS_PER_EPOCH)
            done = int(self.env_steps)
            logs = {
                "steps": done,
                "episode_return": float(self.chaos) if done % 20 else math.nan,
                "policy_loss": math.nan if done == self.nan_at else float(self.chaos),
                "steps_per_second": 1000.0,
                "seconds": time.perf_counter() - start,
            }
            callbacks.on_epoch_end(epoch, logs)
            epoch += 1
        callbacks.on_train_end(logs)
        return self.history
