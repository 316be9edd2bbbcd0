"""The replay buffer against lists of episodes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfzoo import random
from tfzoo.agents import Trajectory
from tfzoo.agents.replay import ReplayBuffer

MODES = {
    "eager": lambda function: function,
    "graph": lambda function: tf.function(function, autograph=False),
    "xla": lambda function: tf.function(function, autograph=False, jit_compile=True),
}
ACTION = tf.TensorSpec([], tf.int32)


class Streams:
    """Made-up episodes of N copies, and all transitions of them in a plain list.

    An observation is (copy, episode, step): nothing is there twice. With `frames`, it
    is the stack of the last steps' triples.
    """

    def __init__(self, num_envs, seed=0, frames=1, terminates=0.2, cuts=0.15):
        self.rng = np.random.default_rng(seed)
        self.num_envs, self.frames = num_envs, frames
        self.probabilities = terminates, cuts
        self.episode, self.step = np.zeros((2, num_envs), int)
        # Of each copy: lists of (observation, action, reward, terminated, next one).
        self.episodes = [[[]] for _ in range(num_envs)]

    def observe(self):
        stacks = [
            np.concatenate(
                [
                    [i, self.episode[i], max(self.step[i] - age, 0)]
                    for age in range(self.frames - 1, -1, -1)
                ]
            )
            for i in range(self.num_envs)
        ]
        return np.array(stacks, np.float32)

    def trajectory(self, num_steps):
        rows = []
        for _ in range(num_steps):
            observation = self.observe()
            action = self.rng.integers(0, 100, self.num_envs)
            reward = self.rng.integers(-8, 8, self.num_envs).astype(np.float32)
            self.step += 1
            final_observation = self.observe()
            draw = self.rng.random((2, self.num_envs))
            terminated = draw[0] < self.probabilities[0]
            truncated = draw[1] < self.probabilities[1]
            for i in range(self.num_envs):
                self.episodes[i][-1].append(
                    (
                        observation[i],
                        action[i],
                        reward[i],
                        terminated[i],
                        final_observation[i],
                    )
                )
                if terminated[i] or truncated[i]:
                    self.episode[i] += 1
                    self.step[i] = 0
                    self.episodes[i].append([])
            rows.append(
                (observation, action, reward, terminated, truncated, final_observation)
            )
        fields = [np.stack(x) for x in zip(*rows, strict=True)]
        fields[1] = fields[1].astype(np.int32)
        return tf.nest.map_structure(tf.constant, Trajectory(*fields))

    def cut(self):
        for i in range(self.num_envs):
            if self.step[i]:
                self.episode[i] += 1
                self.step[i] = 0
                self.episodes[i].append([])

    def find(self, observation):
        """Returns the episode of an observation, from it on."""
        copy, episode, step = observation[-3:].astype(int)
        return self.episodes[copy][episode][step:]

    def n_step(self, observation, n, discount):
        """Returns action, return, discount and next observation, by the definition."""
        steps = self.find(observation)[:n]
        returns = sum(discount**i * step[2] for i, step in enumerate(steps))
        last = steps[-1]
        rest = 0.0 if last[3] else discount ** len(steps)
        return steps[0][1], returns, rest, last[4]

    def stored(self, length, lost=0):
        """Returns the observations that rings of `length` rows must still have."""
        kept = []
        for episodes in self.episodes:
            rows = []
            for episode in episodes:
                rows += [step[0] for step in episode]
                rows += [None] if episode is not episodes[-1] else []
            # The row at the head is no step.
            intact = rows[-(length - 1) :]
            if len(rows) >= length - 1:
                intact = intact[lost:]
            kept += [tuple(row) for row in intact if row is not None]
        return set(kept)


def make(streams, capacity, **options):
    observation = tf.TensorSpec([3 * streams.frames])
    return ReplayBuffer(
        capacity,
        streams.num_envs,
        observation,
        ACTION,
        frame_stack=streams.frames,
        **options,
    )


def draw_all(replay, num=4000, seed=0):
    index, _ = replay.sample(num, random.make_seed(seed))
    return tf.constant(np.unique(index.numpy()))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_steps", [1, 5])
@pytest.mark.parametrize(("priority_exponent", "n"), [(None, 1), (None, 3), (0.7, 3)])
def test_every_step_is_read_as_it_was_until_it_is_overwritten(
    mode, num_steps, priority_exponent, n
):
    streams = Streams(3)
    replay = make(streams, 60, priority_exponent=priority_exponent)
    add = MODES[mode](replay.add)
    read = MODES[mode](lambda index: replay.transitions(index, n_step=n, discount=0.5))
    shapes = [] if mode == "eager" else [tf.TensorSpec([None], tf.int32)]
    if shapes:
        read = tf.function(
            read.python_function, input_signature=shapes, autograph=False
        )
    for iteration in range(40 // num_steps):
        add(streams.trajectory(num_steps))
        if iteration == 20 // num_steps:
            replay.cut()
            streams.cut()
        if iteration % 3:
            continue
        batch = tf.nest.map_structure(lambda x: x.numpy(), read(draw_all(replay)))
        assert {tuple(o) for o in batch.observation} == streams.stored(20)
        for b in range(len(batch.action)):
            action, returns, rest, after = streams.n_step(batch.observation[b], n, 0.5)
            assert batch.action[b] == action
            assert batch.returns[b] == returns
            assert batch.discount[b] == rest
            # Nothing is bootstrapped where the episode terminated.
            if rest:
                np.testing.assert_array_equal(batch.next_observation[b], after)
    assert int(replay.num_added) == 3 * (40 // num_steps * num_steps)


@pytest.mark.parametrize("priority_exponent", [None, 0.7])
def test_frames_are_stored_once_and_stacked_again(priority_exponent):
    streams = Streams(2, frames=4, terminates=0.05, cuts=0.05)
    replay = make(streams, 64, priority_exponent=priority_exponent)
    assert replay._observation.shape == [64, 3]
    for _ in range(15):
        replay.add(streams.trajectory(6))
        index = draw_all(replay)
        batch = tf.nest.map_structure(
            lambda x: x.numpy(), replay.transitions(index, n_step=2, discount=0.5)
        )
        assert {tuple(o) for o in batch.observation} == streams.stored(32, lost=3)
        for b in range(len(batch.action)):
            _, _, rest, after = streams.n_step(batch.observation[b], 2, 0.5)
            if rest:
                np.testing.assert_array_equal(batch.next_observation[b], after)


def test_sequences_end_with_their_episode():
    streams = Streams(2, terminates=0.1, cuts=0.1)
    replay = make(streams, 80)
    for _ in range(12):
        replay.add(streams.trajectory(5))
    batch = tf.nest.map_structure(
        lambda x: x.numpy(), replay.sequences(draw_all(replay), 6)
    )
    assert batch.observation.shape[0] == 7
    assert batch.mask.shape[0] == 6
    for b in range(batch.mask.shape[1]):
        steps = streams.find(batch.observation[0, b])[:6]
        np.testing.assert_array_equal(batch.mask[:, b], np.arange(6) < len(steps))
        for t, (observation, action, reward, terminated, after) in enumerate(steps):
            np.testing.assert_array_equal(batch.observation[t, b], observation)
            np.testing.assert_array_equal(batch.observation[t + 1, b], after)
            assert batch.action[t, b] == action
            assert batch.reward[t, b] == reward
            assert batch.terminated[t, b] == terminated
        # The last episode of a copy is under way.
        copy, episode, _ = batch.observation[0, b][-3:].astype(int)
        last = episode == len(streams.episodes[copy]) - 1
        assert batch.goes_on[b] == (
            last and len(streams.find(batch.observation[0, b])) < 6
        )


def test_memory_is_that_before_the_first_step():
    spec = {"hidden": tf.TensorSpec([2])}
    replay = ReplayBuffer(40, 2, tf.TensorSpec([3]), ACTION, memory=spec)
    streams = Streams(2)
    trajectory = streams.trajectory(6)
    hidden = np.random.default_rng(0).normal(size=(6, 2, 2)).astype(np.float32)
    replay.add(trajectory._replace(memory={"hidden": hidden}))
    batch = replay.sequences(draw_all(replay), 2)
    flat = trajectory.observation.numpy().reshape(-1, 3).tolist()
    rows = [flat.index(o) for o in batch.observation[0].numpy().tolist()]
    np.testing.assert_array_equal(batch.memory["hidden"], hidden.reshape(-1, 2)[rows])


def test_images_stay_bytes_and_memory_is_what_the_arithmetic_says():
    capacity, num_envs = 1000, 4
    image = tf.TensorSpec([84, 84, 4], tf.uint8)
    replay = ReplayBuffer(capacity, num_envs, image, ACTION, frame_stack=4)
    # A frame, the action, the reward and a byte a row; a head and a count a copy.
    row = 84 * 84 + 4 + 4 + 1
    assert replay.nbytes == capacity * row + num_envs * 8 + 8
    vector = ReplayBuffer(
        capacity, num_envs, tf.TensorSpec([17]), tf.TensorSpec([6]), priority_exponent=1
    )
    row = 4 * (17 + 6 + 1) + 1
    tree = 2 * 1024 * 4
    assert vector.nbytes == capacity * row + num_envs * 8 + 8 + tree + 4
    rng = np.random.default_rng(0)
    shape = (3, num_envs)
    frames = rng.integers(0, 256, (*shape, 84, 84, 4), dtype=np.uint8)
    flags = np.zeros(shape, bool)
    replay.add(
        Trajectory(
            tf.constant(frames),
            tf.zeros(shape, tf.int32),
            tf.zeros(shape),
            tf.constant(flags),
            tf.constant(~flags),
            tf.constant(frames[::-1].copy()),
        )
    )
    batch = replay.transitions(draw_all(replay))
    assert batch.observation.dtype == tf.uint8
    # Episodes of one step: four times its only frame.
    newest = {frame[..., -1:].tobytes() for frame in frames.reshape(-1, 84, 84, 4)}
    for observation in batch.observation.numpy():
        assert observation[..., -1:].tobytes() in newest
        np.testing.assert_array_equal(observation, observation[..., -1:].repeat(4, -1))


_MEMORY = """
import pathlib, sys
import tensorflow as tf
from tfzoo import random
from tfzoo.agents import Trajectory
from tfzoo.agents.replay import ReplayBuffer

def peak():
    # That of `resource` begins with the peak of the process that started this one.
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if "VmHWM" in line)

def grown(capacity):
    # How much the peak rises by a buffer that is filled and read, and its size.
    before = peak()
    replay = ReplayBuffer(
        capacity, 2, tf.TensorSpec([128]), tf.TensorSpec([], tf.int32)
    )

    @tf.function(jit_compile=sys.argv[1] == "xla")
    def turn(seed):
        shape, flags = [8, 2], tf.zeros([8, 2], tf.bool)
        observation = random.normal([*shape, 128], seed)
        replay.add(
            Trajectory(
                observation,
                tf.zeros(shape, tf.int32),
                tf.zeros(shape),
                flags,
                flags,
                observation,
            )
        )
        indices, _ = replay.sample(32, seed)
        return tf.reduce_sum(replay.transitions(indices).observation)

    for number in range(20):
        turn(random.make_seed(number))
    return peak() - before, replay.nbytes

grown(1_000)
print(*grown(400_000))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="not Linux")
@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_memory_is_that_of_what_is_stored(mode):
    output = subprocess.run(
        [sys.executable, "-c", _MEMORY, mode],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    growth, nbytes = map(int, output.split())
    assert nbytes > 200e6
    assert 0.9 * nbytes < growth < 1.5 * nbytes


@pytest.mark.parametrize("mode", MODES)
def test_uniform_sampling_is_uniform(mode):
    # Copies whose episodes end at different rates, and a ring that has wrapped.
    streams = Streams(3, terminates=0.3)
    replay = make(streams, 60)
    for _ in range(10):
        replay.add(streams.trajectory(5))
    sample = MODES[mode](lambda seed: replay.sample(30_000, seed))
    index, weight = sample(random.make_seed(3))
    np.testing.assert_array_equal(weight, 1.0)
    rows, counts = np.unique(index.numpy(), return_counts=True)
    assert len(rows) == len(streams.stored(20))
    assert scipy.stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("mode", MODES)
def test_prioritised_sampling_has_the_frequencies_and_weights_of_the_paper(mode):
    streams = Streams(2)
    replay = make(streams, 24, priority_exponent=0.6)
    replay.add(streams.trajectory(5))
    rows = draw_all(replay)
    error = tf.constant(np.random.default_rng(1).normal(size=len(rows)), tf.float32)
    MODES[mode](replay.update_priorities)(rows, error)
    priority = (np.abs(error, dtype=np.float64) + 1e-2) ** 0.6
    expected = priority / priority.sum()
    # Stratified, so that counts vary less than chi-square allows; two draws each, in
    # strata of half the total, are nearly independent.
    sample = MODES[mode](lambda seed: replay.sample(2, seed, 0.4))
    num = 400 if mode == "eager" else 3000
    index, weight = zip(*(sample(random.make_seed(i)) for i in range(num)), strict=True)
    index, weight = np.array(index), np.array(weight)
    counts = (index.reshape(-1, 1) == rows.numpy()).sum(0)
    assert scipy.stats.chisquare(counts, 2 * num * expected).pvalue > 0.01
    by_row = dict(zip(rows.numpy(), expected, strict=True))
    plain = np.vectorize(by_row.get)(index) ** -0.4
    np.testing.assert_allclose(
        weight, plain / plain.max(axis=1, keepdims=True), rtol=1e-4
    )
    # A stratum of half the total each.
    large = replay.sample(512, random.make_seed(0))[0].numpy()
    counts = (large[:, None] == rows.numpy()).sum(0)
    assert np.abs(counts - 512 * expected).max() < 2.0


def test_new_steps_have_the_largest_priority_and_ends_none():
    streams = Streams(1, terminates=0.3)
    replay = make(streams, 12, priority_exponent=1.0)
    replay.add(streams.trajectory(3))
    replay.update_priorities(
        draw_all(replay), tf.constant(np.full(3, 4.99), tf.float32)
    )
    for _ in range(7):
        replay.add(streams.trajectory(1))
        values = replay.tree.get(tf.range(12)).numpy()
        steps = replay._kind.numpy() != 2
        steps[int(replay._head[0])] = False
        np.testing.assert_allclose(values, np.where(steps, 5.0, 0.0), rtol=1e-6)


def test_errors_that_are_not_finite_are_refused():
    streams = Streams(1)
    replay = make(streams, 12, priority_exponent=1.0)
    replay.add(streams.trajectory(3))
    rows = draw_all(replay)
    before = replay.tree.get(rows).numpy()
    bad = tf.constant([1.0, np.nan, np.inf])
    with pytest.raises(ValueError, match="priorities must be finite, got nan"):
        replay.update_priorities(rows, bad)
    tf.function(replay.update_priorities)(rows, bad)
    np.testing.assert_allclose(
        replay.tree.get(rows), [1.01, before[1], before[2]], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"capacity": 0}, "capacity must be a positive integer"),
        ({"capacity": 9, "num_envs": 2}, "leaves 4 rows to each of 2 copies"),
        ({"frame_stack": 2}, "frame_stack=2 must divide the last axis"),
        ({"priority_exponent": -1.0}, "priority_exponent must be at least 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    arguments = {"capacity": 100, "num_envs": 1, **arguments}
    with pytest.raises(ValueError, match=message):
        ReplayBuffer(
            arguments.pop("capacity"),
            arguments.pop("num_envs"),
            tf.TensorSpec([3]),
            ACTION,
            **arguments,
        )


def test_too_many_steps_at_once_are_refused():
    streams = Streams(1)
    replay = make(streams, 12)
    with pytest.raises(ValueError, match="6 steps may take 12 of the 12 rows"):
        replay.add(streams.trajectory(6))


def test_a_checkpoint_holds_all_of_it(tmp_path):
    streams = Streams(2)
    replay, other = (make(streams, 40, priority_exponent=0.6) for _ in range(2))
    for _ in range(6):
        replay.add(streams.trajectory(4))
    path = tf.train.Checkpoint(replay=replay).write(str(tmp_path / "replay"))
    tf.train.Checkpoint(replay=other).read(path).assert_consumed()
    trajectory = streams.trajectory(4)
    for one in (replay, other):
        one.add(trajectory)
    seed = random.make_seed(5)
    for one, two in zip(replay.sample(64, seed), other.sample(64, seed), strict=True):
        np.testing.assert_array_equal(one, two)
    index = replay.sample(64, seed)[0]
    for one, two in zip(
        replay.transitions(index, n_step=2),
        other.transitions(index, n_step=2),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)
