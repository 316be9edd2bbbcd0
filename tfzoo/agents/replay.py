"""A replay buffer whose storage and operations are in the graph.

Each copy of the environment has a ring of rows, written in the order of time:

    ... | o_t a_t r_t | o_t+1 a_t+1 r_t+1 | o_t+2, end | o'_0 a'_0 r'_0 | ...

An observation is stored once: what follows an action is in the next row. Where an
episode ends, a row of its own holds the last observation, so that an episode that was
cut off can be bootstrapped from it. The row at the head, where the next step will be
written, is such a row, too, so that nothing reads beyond the newest step. Frames that
observations share are stored once as well, and stacked again where they are read.

Priorities are those of Schaul et al. 2015 (arXiv:1511.05952), proportional variant:

    P(i) = p_i / sum_k p_k,  p_i = (|delta_i| + epsilon)^alpha,
    w_i = (N P(i))^-beta / max_j w_j
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfzoo import random
from tfzoo.agents.sum_tree import SumTree
from tfzoo.environments.errors import check_positive_integer

# What a row holds.
_STEP, _TERMINATED, _END = 0, 1, 2
# Drawn for each step to sample.
_CANDIDATES = 3


class Transitions(NamedTuple):
    """n steps each, seen from the first of them; every field is [B, ...].

    Attributes:
      observation: where the first action was taken.
      action: the first action.
      returns: float32, r_0 + gamma r_1 + ... of the m <= n steps until the end of the
        episode or of what is stored.
      discount: float32, gamma^m, or 0 where the episode terminated.
      next_observation: after the m steps.
    """

    observation: tf.Tensor
    action: tf.Tensor
    returns: tf.Tensor
    discount: tf.Tensor
    next_observation: tf.Tensor


class Sequences(NamedTuple):
    """L steps each, in order; fields are [L, B, ...] where nothing else is said.

    Attributes:
      observation: [L + 1, B, ...], with what followed the last step.
      action: int32 [L, B] or float32 [L, B, D].
      reward: float32.
      terminated: bool, the episode terminated with this step.
      mask: bool, the step is of the episode that the sequence began in; a prefix.
      goes_on: whether the episode is still under way, and will have more steps than
        are there now, bool [B].
      memory: what the agent remembered before the first step, [B, ...].
    """

    observation: tf.Tensor
    action: tf.Tensor
    reward: tf.Tensor
    terminated: tf.Tensor
    mask: tf.Tensor
    goes_on: tf.Tensor
    memory: Any


class ReplayBuffer(tf.Module):
    """Remembers the last steps of N environment copies.

      replay = ReplayBuffer(10_000, 8, tf.TensorSpec([4]), tf.TensorSpec([], tf.int32))
      replay.add(trajectory)
      index, weight = replay.sample(64, seed)
      batch = replay.transitions(index, n_step=3, discount=0.99)

    All methods can be called eagerly, in a graph and through XLA, which in a loop
    changes the storage in place.

    Args:
      capacity: the rows, over all copies; an episode of n steps takes n + 1 of them.
      num_envs: N.
      observation: the `tf.TensorSpec` of one observation.
      action: the `tf.TensorSpec` of one action.
      memory: the `tf.TensorSpec`s of what a recurrent agent remembers, nested as it
        is; stored with each step.
      frame_stack: how many frames the last axis of an observation holds, the oldest
        first, of which the environment adds one in each step; each is stored once.
      priority_exponent: alpha, at least 0; None for uniform sampling.

    Attributes:
      num_added: int64 variable, the steps added so far.

    Raises:
      ValueError: if a number is wrong, or the last axis is no multiple of
        `frame_stack`.
    """

    def __init__(
        self,
        capacity,
        num_envs,
        observation,
        action,
        *,
        memory=(),
        frame_stack=1,
        priority_exponent=None,
    ):
        super().__init__()
        for name, value in (
            ("capacity", capacity),
            ("num_envs", num_envs),
            ("frame_stack", frame_stack),
        ):
            check_positive_integer(name, value)
        if priority_exponent is not None and not 0 <= priority_exponent < np.inf:
            raise ValueError(
                f"priority_exponent must be at least 0, got {priority_exponent}"
            )
        frame = observation.shape.as_list()
        if frame_stack > 1:
            if not frame or frame[-1] % frame_stack:
                raise ValueError(
                    f"frame_stack={frame_stack} must divide the last axis of "
                    f"observations, whose shape is {frame}"
                )
            frame[-1] //= frame_stack
        self.num_envs = num_envs
        self.frame_stack = frame_stack
        # The rows of one copy.
        self.length = capacity // num_envs
        if self.length < 4 + frame_stack:
            raise ValueError(
                f"capacity={capacity} leaves {self.length} rows to each of {num_envs} "
                f"copies; at least {4 + frame_stack} are needed"
            )
        rows = self.length * num_envs

        def storage(spec, shape=None):
            shape = spec.shape.as_list() if shape is None else shape
            return tf.Variable(tf.zeros([rows, *shape], spec.dtype), trainable=False)

        self._observation = storage(observation, frame)
        self._action = storage(action)
        self._reward = storage(tf.TensorSpec([]))
        self._kind = tf.Variable(tf.fill([rows], np.uint8(_END)), trainable=False)
        self._memory = tf.nest.map_structure(storage, memory)
        self._head = tf.Variable(tf.zeros([num_envs], tf.int32), trainable=False)
        # The rows before the head that are still what was written.
        self._filled = tf.Variable(tf.zeros([num_envs], tf.int32), trainable=False)
        self.num_added = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.priority_exponent = priority_exponent
        self.tree = None
        if priority_exponent is not None:
            self.tree = SumTree(rows)
            self.max_priority = tf.Variable(1.0, trainable=False)

    @property
    def nbytes(self):
        """The bytes of all that is stored."""
        return sum(v.dtype.size * v.shape.num_elements() for v in self.variables)

    # Writing.

    def add(self, trajectory):
        """Appends T steps of all copies.

        Args:
          trajectory: a `Trajectory` [T, N, ...]; its `memory` is what the agent
            remembered before each step.

        Raises:
          ValueError: if T is so large that steps would overwrite each other.
        """
        num_steps = trajectory.reward.shape[0]
        self.check_num_steps(num_steps)
        advance = 1 + tf.cast(trajectory.done, tf.int32)
        head = self._head.read_value()
        position = head + tf.cumsum(advance, axis=0, exclusive=True)
        step, after = self._rows(position), self._rows(position + 1)

        def write(variable, rows, values):
            values = tf.cast(values, variable.dtype)
            values = tf.reshape(values, [-1, *variable.shape[1:]])
            variable.scatter_nd_update(tf.reshape(rows, [-1, 1]), values)

        # What follows each step; all but the last observations of episodes, and those
        # at the heads, are the first half of the steps after them.
        newest = trajectory.final_observation[..., self._newest_frame]
        write(self._observation, after, newest)
        write(self._kind, after, tf.fill(tf.shape(after), _END))
        newest = trajectory.observation[..., self._newest_frame]
        write(self._observation, step, newest)
        write(self._kind, step, tf.where(trajectory.terminated, _TERMINATED, _STEP))
        write(self._action, step, trajectory.action)
        write(self._reward, step, trajectory.reward)
        tf.nest.map_structure(
            lambda variable, values: write(variable, step, values),
            self._memory,
            trajectory.memory,
        )
        self._advance(tf.reduce_sum(advance, axis=0), 2 * num_steps)
        self.num_added.assign_add(tf.size(trajectory.reward, tf.int64))

    def check_num_steps(self, num_steps):
        """Refuses more steps at once than there are rows for.

        Raises:
          ValueError: if some of them would overwrite others.
        """
        if 2 * num_steps + self.frame_stack > self.length:
            raise ValueError(
                f"{num_steps} steps may take {2 * num_steps} of the {self.length} rows "
                f"that each of {self.num_envs} copies has; give a larger "
                "replay_capacity"
            )

    def cut(self):
        """Ends the episodes under way, as if they were truncated; no step follows."""
        before = tf.gather(self._kind, self._rows(self._head - 1))
        self._advance(tf.cast(before != _END, tf.int32), 1)

    @property
    def _newest_frame(self):
        """The part of the last axis of an observation that is stored."""
        if self.frame_stack == 1:
            return slice(None)
        return slice(-self._observation.shape[-1], None)

    def _rows(self, position):
        """Returns the rows of positions [..., N] along the rings of the copies."""
        return position % self.length + self.length * tf.range(self.num_envs)

    def _advance(self, by, at_most):
        """Moves the heads [N] on by `by` [N] rows, from 0 to `at_most`."""
        head = self._head.read_value()
        if self.tree is not None:
            # New steps have the largest priority; what lost its frames has none.
            offset = tf.range(at_most + self.frame_stack)[:, None]
            rows = self._rows(head + offset)
            kind = tf.gather(self._kind, rows)
            value = tf.where(kind == _END, 0.0, self.max_priority.read_value())
            value = tf.where(offset < by, value, 0.0)
            value = tf.where(offset < by + self.frame_stack, value, self.tree.get(rows))
            self.tree.set(tf.reshape(rows, [-1]), tf.reshape(value, [-1]))
        self._head.assign((head + by) % self.length)
        self._filled.assign(tf.minimum(self._filled + by, self.length - 1))

    # Reading.

    def sample(self, batch_size, seed, beta=1.0):
        """Draws steps, by priority or uniformly from all that are stored.

        Args:
          batch_size: B.
          seed: int32 [2].
          beta: float, how far the weights make up for the priorities, 0 to 1.

        Returns:
          (index int32 [B], weight float32 [B]); weights are 1 without priorities. At
          least one step must have been added.
        """
        if self.tree is None:
            return self._sample_uniformly(batch_size, seed), tf.ones([batch_size])
        # One draw from each of B equal parts of the total (appendix B.2.1).
        fraction = tf.range(batch_size, dtype=tf.float32) + random.uniform(
            [batch_size], seed
        )
        index = self.tree.draw(fraction / batch_size)
        # The factors (N / total)^-beta cancel with that of the largest weight.
        weight = tf.pow(self.tree.get(index), -beta)
        return index, weight / tf.reduce_max(weight)

    def _sample_uniformly(self, batch_size, seed):
        # Steps whose first frame is overwritten cannot be stacked.
        lost = tf.where(self._filled == self.length - 1, self.frame_stack - 1, 0)
        intact = self._filled - lost
        oldest = tf.reduce_max(intact)

        def draw(attempt, index, accepted):
            # Several for each, of which the first that is a step is taken: one attempt
            # is nearly always enough.
            copy, age = self._draw_copy_and_age(
                [_CANDIDATES, batch_size],
                # Far from its neighbours, should the seed be one of a row.
                random.numbered(seed, 0, attempt * 2**20),
                tf.maximum(oldest, 1),
            )
            position = (tf.gather(self._head, copy) - age) % self.length
            new = position + self.length * copy
            valid = (age <= tf.gather(intact, copy)) & (
                tf.gather(self._kind, new) != _END
            )
            for i in range(_CANDIDATES):
                index = tf.where(accepted, index, new[i])
                accepted |= valid[i]
            return attempt + 1, index, accepted

        # Rows that are no steps are drawn again; there are few.
        _, index, _ = tf.while_loop(
            lambda attempt, index, accepted: ~tf.reduce_all(accepted),
            draw,
            (0, tf.zeros([batch_size], tf.int32), tf.zeros([batch_size], tf.bool)),
            maximum_iterations=10_000,
        )
        return index

    def _draw_copy_and_age(self, shape, seed, oldest):
        """Returns int32 numbers of copies, and from 1 to `oldest`, uniformly.

        Uniform but for N * `oldest` / 2**32 (Lemire 2019, arXiv:1805.10941): of the
        product of 32 random bits and N the upper half is the copy, and the lower half
        is random bits again.
        """

        def scale(bits, num):
            product = tf.cast(bits, tf.uint64) * tf.cast(num, tf.uint64)
            upper = tf.bitwise.right_shift(product, tf.constant(32, tf.uint64))
            return tf.cast(upper, tf.int32), tf.cast(product, tf.uint32)

        copy, rest = scale(random.bits(shape, seed), self.num_envs)
        age, _ = scale(rest, oldest)
        return copy, 1 + age

    def transitions(self, index, *, n_step=1, discount=0.99):
        """Returns the `Transitions` that begin at rows [B]."""
        rows = self._following(index, n_step + 1)  # [n + 1, B]
        if n_step == 1:
            terminated = tf.gather(self._kind, index) == _TERMINATED
            return Transitions(
                observation=self._observations(index),
                action=tf.gather(self._action, index),
                returns=tf.gather(self._reward, index),
                discount=tf.where(terminated, 0.0, discount),
                next_observation=self._observations(rows[1]),
            )
        kind = tf.gather(self._kind, rows)
        reward = tf.gather(self._reward, rows[:-1])
        # Whether step i is of the same episode; the first always is.
        same = tf.math.cumprod(tf.cast(kind[:-1] != _END, tf.float32), axis=0)
        power = discount ** tf.range(n_step, dtype=tf.float32)[:, None]
        num_steps = tf.cast(tf.reduce_sum(same, axis=0), tf.int32)
        last = tf.gather(tf.transpose(kind), num_steps - 1, batch_dims=1)
        following = tf.gather(tf.transpose(rows), num_steps, batch_dims=1)
        return Transitions(
            observation=self._observations(index),
            action=tf.gather(self._action, index),
            returns=tf.reduce_sum(same * power * reward, axis=0),
            discount=tf.where(
                last == _TERMINATED, 0.0, discount ** tf.cast(num_steps, tf.float32)
            ),
            next_observation=self._observations(following),
        )

    def sequences(self, index, length):
        """Returns the `Sequences` of `length` steps that begin at rows [B]."""
        rows = self._following(index, length + 1)
        kind = tf.gather(self._kind, rows[:-1])
        same = tf.math.cumprod(tf.cast(kind != _END, tf.int32), axis=0)
        # The row at the head of a copy is where its episode under way goes on.
        head = tf.gather(self._rows(self._head), index // self.length)
        before = tf.concat([tf.ones_like(same[:1]), same[:-1]], axis=0)
        return Sequences(
            observation=self._observations(rows),
            action=tf.gather(self._action, rows[:-1]),
            reward=tf.gather(self._reward, rows[:-1]),
            terminated=kind == _TERMINATED,
            mask=tf.cast(same, tf.bool),
            goes_on=tf.reduce_any((rows[:-1] == head) & (before == 1), axis=0),
            memory=tf.nest.map_structure(lambda v: tf.gather(v, index), self._memory),
        )

    def _following(self, index, num):
        """Returns the rows from `index` [B] on, int32 [num, B]."""
        copy = index // self.length
        position = index % self.length + tf.range(num)[:, None]
        return position % self.length + copy * self.length

    def _observations(self, rows):
        """Returns the observations of rows [...], with their frames stacked."""
        if self.frame_stack == 1:
            return tf.gather(self._observation, rows)
        copy, position = rows // self.length, rows % self.length
        frames, row, newer = [tf.gather(self._observation, rows)], rows, rows
        for age in range(1, self.frame_stack):
            before = (position - age) % self.length + copy * self.length
            # Before its first frame, an episode has that one.
            goes_on = (row == newer) & (tf.gather(self._kind, before) != _END)
            row, newer = tf.where(goes_on, before, row), before
            frames.append(tf.gather(self._observation, row))
        return tf.concat(frames[::-1], axis=-1)

    # Priorities.

    def update_priorities(self, index, error):
        """Sets the priorities of steps by their errors.

        Args:
          index: int32 [B], as `sample` gave it.
          error: float32 [B], temporal-difference errors or losses. In a graph, those
            that are not finite change nothing.

        Raises:
          ValueError: if one is not finite, where it can be seen eagerly.
        """
        if tf.executing_eagerly() and not np.all(np.isfinite(error)):
            raise ValueError(
                "priorities must be finite, got "
                f"{np.asarray(error)[~np.isfinite(error)][0]}"
            )
        priority = tf.pow(tf.abs(error) + _EPSILON, self.priority_exponent)
        old = self.tree.get(index)
        priority = tf.where(tf.math.is_finite(priority), priority, old)
        self.tree.set(index, priority)
        self.max_priority.assign(tf.maximum(self.max_priority, tf.reduce_max(priority)))


# Keeps steps without an error from never being drawn again.
_EPSILON = 1e-2
