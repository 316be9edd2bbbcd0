"""How the steps of an update and the radius of the trust region change in a run.

The adaptive rules are those of K. Frans' parallel TRPO (2016). After every ten updates
the sum of their mean returns is compared with that of the ten before:

  not improved:  steps <- steps + a  while below the largest
                 delta <- delta - b  while above the smallest
  improved:      steps <- steps - a  while above the smallest
                 delta <- delta + b  while below the largest

With a margin m it is an improvement to exceed the last sum by m times its size. The
first ten updates are compared with nothing and count as an improvement. An update in
which no episode ended has no mean return; it counts with that of the update before.

Linear and exponential schedules go from the first values to the last ones as training
goes on.
"""

import tensorflow as tf

from tfzoo.environments.errors import check_positive_integer

KINDS = (
    "fixed",
    "linear",
    "exponential",
    "adaptive_steps",
    "adaptive_kl",
    "adaptive_both",
)


class TrustRegionSchedule(tf.Module):
    """The steps of the next update and the radius of its trust region, in nats.

    Args:
      kind: one of `KINDS`.
      steps: environment steps of an update, over all copies; where they start.
      kl_radius: delta, in nats; where it starts.
      last_steps, last_kl_radius: where linear and exponential schedules end; by default
        where they start.
      total_steps: the environment steps over which those go.
      margin: m, at least 0.
      compare_every: updates between two comparisons.
      change_of_steps: a.
      change_of_kl_radius: b, in nats.
      range_of_steps: (smallest, largest).
      range_of_kl_radius: (smallest, largest), in nats.

    Attributes:
      steps: float32 variable, of the next update.
      kl_radius: float32 variable, of the next update.

    Raises:
      ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        kind="fixed",
        *,
        steps,
        kl_radius,
        last_steps=None,
        last_kl_radius=None,
        total_steps=None,
        margin=0.0,
        compare_every=10,
        change_of_steps=300,
        change_of_kl_radius=5e-4,
        range_of_steps=(1200, 20_000),
        range_of_kl_radius=(1e-3, 1e-2),
    ):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(
                f"schedule must be one of {', '.join(KINDS)}, got {kind!r}"
            )
        check_positive_integer("steps", steps)
        check_positive_integer("compare_every", compare_every)
        last_steps = steps if last_steps is None else last_steps
        check_positive_integer("last_steps", last_steps)
        last_kl_radius = kl_radius if last_kl_radius is None else last_kl_radius
        for name, radius in (
            ("kl_radius", kl_radius),
            ("last_kl_radius", last_kl_radius),
        ):
            if not radius > 0:
                raise ValueError(f"{name} must be positive, got {radius}")
        if not margin >= 0:
            raise ValueError(f"margin must be at least 0, got {margin}")
        if kind in ("linear", "exponential"):
            if not total_steps:
                raise ValueError(
                    f"schedule={kind} needs total_steps, got {total_steps}"
                )
            if (steps, kl_radius) == (last_steps, last_kl_radius):
                raise ValueError(
                    f"schedule={kind} needs last_steps (--last_num_steps) or "
                    "last_kl_radius, which differ from where they start"
                )
        for name, (low, high) in (
            ("range_of_steps", range_of_steps),
            ("range_of_kl_radius", range_of_kl_radius),
        ):
            if not 0 < low <= high:
                raise ValueError(
                    f"{name} must be positive and in order, got {low}, {high}"
                )
        if range_of_steps[0] <= change_of_steps:
            raise ValueError(
                f"range_of_steps={range_of_steps} (--smallest_steps) must begin above "
                f"change_of_steps={change_of_steps}: steps may fall that far below it"
            )
        self.kind = kind
        self.first, self.last = (steps, kl_radius), (last_steps, last_kl_radius)
        self.total_steps = total_steps
        self.margin = margin
        self.compare_every = compare_every
        self.change_of_steps = change_of_steps
        self.change_of_kl_radius = change_of_kl_radius
        self.range_of_steps = range_of_steps
        self.range_of_kl_radius = range_of_kl_radius

        def variable(value):
            return tf.Variable(value, dtype=tf.float32, trainable=False)

        self.steps = variable(steps)
        self.kl_radius = variable(kl_radius)
        self._updates = variable(0.0)
        self._mean_return = variable(float("nan"))
        self._sum = variable(0.0)
        self._last_sum = variable(float("-inf"))

    @property
    def changes_steps(self):
        """Whether updates may differ in their steps."""
        if self.kind in ("linear", "exponential"):
            return self.first[0] != self.last[0]
        return self.kind in ("adaptive_steps", "adaptive_both")

    @property
    def smallest_steps(self):
        """The fewest steps that an update may have."""
        if self.kind in ("adaptive_steps", "adaptive_both"):
            return min(self.first[0], self.range_of_steps[0] - self.change_of_steps + 1)
        return min(self.first[0], self.last[0])

    @property
    def largest_steps(self):
        """The most steps that an update may have."""
        if self.kind in ("adaptive_steps", "adaptive_both"):
            return max(self.first[0], self.range_of_steps[1] + self.change_of_steps)
        return max(self.first[0], self.last[0])

    def update(self, mean_return, env_steps):
        """Chooses the steps and the radius of the next update; a graph function.

        Args:
          mean_return: float32 scalar, of the episodes that ended in this update, or
            NaN where none did.
          env_steps: integer scalar, the environment steps of the run so far.
        """
        if self.kind in ("linear", "exponential"):
            self._interpolate(tf.cast(env_steps, tf.float32) / self.total_steps)
        elif self.kind != "fixed":
            self._compare(tf.cast(mean_return, tf.float32))

    def _interpolate(self, fraction):
        fraction = tf.clip_by_value(fraction, 0.0, 1.0)
        for variable, first, last in zip(
            (self.steps, self.kl_radius), self.first, self.last, strict=True
        ):
            if self.kind == "linear":
                variable.assign(first + fraction * (last - first))
            else:
                variable.assign(first * (last / first) ** fraction)

    def _compare(self, mean_return):
        known = tf.where(
            tf.math.is_nan(mean_return), self._mean_return.read_value(), mean_return
        )
        self._mean_return.assign(known)
        # Before the first episode has ended there is nothing to compare.
        counts = tf.cast(~tf.math.is_nan(known), tf.float32)
        updates = self._updates.read_value() + counts
        total = self._sum.read_value() + tf.where(counts > 0, known, 0.0)
        due = updates >= self.compare_every
        last = self._last_sum.read_value()
        # An infinite last sum times a margin of 0 is not a number.
        bar = tf.where(tf.math.is_finite(last), last + self.margin * tf.abs(last), last)
        improved = total > bar

        def moved(value, up, change, limits):
            low, high = limits
            new = tf.where(up & (value < high), value + change, value)
            return tf.where(~up & (value > low), value - change, new)

        if self.kind in ("adaptive_steps", "adaptive_both"):
            steps = self.steps.read_value()
            new = moved(steps, ~improved, self.change_of_steps, self.range_of_steps)
            self.steps.assign(tf.where(due, new, steps))
        if self.kind in ("adaptive_kl", "adaptive_both"):
            radius = self.kl_radius.read_value()
            new = moved(
                radius, improved, self.change_of_kl_radius, self.range_of_kl_radius
            )
            # Rounding must not carry the radius out of its range.
            low, high = self.range_of_kl_radius
            low, high = min(low, self.first[1]), max(high, self.first[1])
            new = tf.clip_by_value(new, low, high)
            self.kl_radius.assign(tf.where(due, new, radius))
        self._last_sum.assign(tf.where(due, total, last))
        self._sum.assign(tf.where(due, 0.0, total))
        self._updates.assign(tf.where(due, 0.0, updates))
