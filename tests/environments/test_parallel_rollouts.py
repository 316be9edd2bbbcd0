"""Rollouts of worker processes against a plain loop, and what can go wrong in them."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from tests.environments.optional_packages import needs_mujoco
from tfzoo.agents.trajectory import EPISODE_SUMS, Trajectory
from tfzoo.environments import HostEnvironment, UnsupportedSpaceError
from tfzoo.environments.numpy_policy import NumpyPolicy
from tfzoo.environments.parallel_rollouts import ParallelRollouts, RolloutWorkerError

LIMIT = 25


def policy_for(environment, seed=0):
    """A network with random weights that fits the spaces of an environment."""
    observed, acted = environment.observation_space, environment.action_space
    is_discrete = isinstance(observed, spaces.Discrete)
    num_features = int(observed.n if is_discrete else np.prod(observed.shape))
    is_gaussian = isinstance(acted, spaces.Box)
    num_outputs = int(acted.shape[0] if is_gaussian else acted.n)
    generator = np.random.default_rng(seed)
    widths = [num_features, 64, 64, num_outputs]
    return NumpyPolicy(
        [
            (generator.normal(size=(i, o)) / np.sqrt(i), generator.normal(size=o))
            for i, o in itertools.pairwise(widths)
        ],
        "tanh",
        log_stddev=np.full(num_outputs, -0.5) if is_gaussian else None,
        mean=None if is_discrete else np.full(num_features, 0.1),
        variance=None if is_discrete else np.full(num_features, 0.5),
    )


@pytest.mark.parametrize(
    ("id", "ends"),
    [
        ("Pendulum-v1", "truncated"),
        ("CartPole-v1", "terminated"),
        ("FrozenLake-v1", "terminated"),
        pytest.param("Hopper-v5", "terminated", marks=needs_mujoco),
    ],
)
def test_data_do_not_depend_on_the_number_of_workers(id, ends):
    collected = []
    for num_workers in (0, 1, 2, 4):
        with ParallelRollouts(id, 5, num_workers, max_episode_steps=LIMIT) as rollouts:
            policies = [policy_for(rollouts, seed=i) for i in range(3)]
            collected.append(
                [
                    rollouts.collect(policy, steps, (3, i))
                    for i, (policy, steps) in enumerate(
                        zip(policies, (100, 5, 198), strict=True)
                    )
                ]
            )
    first, *others = collected
    assert [len(fields["reward"]) for fields, _ in first] == [20, 1, 40]
    assert sum(fields[ends].sum() for fields, _ in first) > 5
    assert first[2][1]["episodes"] > 0
    for other in others:
        for (fields, sums), (expected_fields, expected_sums) in zip(
            other, first, strict=True
        ):
            assert fields.keys() == expected_fields.keys()
            for name, value in fields.items():
                assert value.dtype == expected_fields[name].dtype
                np.testing.assert_array_equal(value, expected_fields[name])
            for name in EPISODE_SUMS:
                assert sums[name] == expected_sums[name]


@pytest.mark.parametrize("id", ["Pendulum-v1", "CartPole-v1"])
def test_equals_a_loop_over_single_environments(id):
    num_envs, calls = 3, [(40, (5, 0)), (7, (5, 1)), (60, (5, 2))]
    with ParallelRollouts(id, num_envs, 2, max_episode_steps=LIMIT) as rollouts:
        policy = policy_for(rollouts)
        collected = [rollouts.collect(policy, num_envs * t, s) for t, s in calls]
        space = rollouts.action_space
    expected = [{name: [] for name in EPISODE_SUMS} for _ in calls]
    for i in range(num_envs):
        single = gym.make(id, max_episode_steps=LIMIT)
        reset_seed = np.random.SeedSequence((5, 0), spawn_key=(i, 1))
        now, _ = single.reset(seed=int(reset_seed.generate_state(1)[0]))
        episode_return = episode_length = 0
        for call, (num_steps, seed) in enumerate(calls):
            fields = Trajectory(**{k: v[:, i] for k, v in collected[call][0].items()})
            stream = np.random.SeedSequence(seed, spawn_key=(i, 0))
            generator = np.random.Generator(np.random.PCG64(stream))
            if policy.is_gaussian:
                noise = generator.standard_normal((num_steps, 1), np.float32)
                noise *= np.exp(np.float32(-0.5))
            else:
                noise = generator.gumbel(0.0, 1.0, (num_steps, 2)).astype(np.float32)
            for t in range(num_steps):
                np.testing.assert_array_equal(fields.observation[t], np.float32(now))
                action = policy(np.float32(now)[np.newaxis])[0] + noise[t]
                mapped = action = action if policy.is_gaussian else np.argmax(action)
                if policy.is_gaussian:
                    mapped = np.clip(action, space.low, space.high)
                np.testing.assert_array_equal(fields.action[t], action)
                now, reward, terminated, truncated, _ = single.step(mapped)
                np.testing.assert_array_equal(
                    fields.final_observation[t], np.float32(now)
                )
                assert fields.reward[t] == np.float32(reward)
                assert fields.terminated[t] == terminated
                assert fields.truncated[t] == truncated
                episode_return += float(reward)
                episode_length += 1
                if terminated or truncated:
                    assert episode_length == LIMIT or terminated
                    expected[call]["episodes"].append(1)
                    expected[call]["episode_return"].append(episode_return)
                    expected[call]["episode_length"].append(episode_length)
                    episode_return = episode_length = 0
                    now, _ = single.reset()
    assert sum(expected[0]["episodes"]) >= num_envs
    for (_, sums), ended in zip(collected, expected, strict=True):
        for name in EPISODE_SUMS:
            assert sums[name] == pytest.approx(sum(ended[name]), rel=1e-12)


def test_steps_are_counted_truly():
    with ParallelRollouts("Pendulum-v1", 4, 2, max_episode_steps=10) as rollouts:
        policy, taken, ended = policy_for(rollouts), 0, 0
        for i, (steps, true_steps) in enumerate([(4, 4), (5, 8), (100, 100), (9, 12)]):
            fields, sums = rollouts.collect(policy, steps, i)
            for name, value in fields.items():
                assert value.shape[:2] == (true_steps / 4, 4), name
            taken += true_steps
            ended += sums["episode_length"]
            # All four begin together, and have 10 steps each.
            assert ended == taken // 40 * 40
            assert sums["collect_seconds"] >= sums["acting_seconds"] > 0


def test_seeds():
    def collect(seed):
        with ParallelRollouts("Pendulum-v1", 2, 0) as rollouts:
            return rollouts.collect(policy_for(rollouts), 20, seed)[0]

    a, same, other = collect((1, 2)), collect([1, 2]), collect((1, 3))
    for name in a:
        np.testing.assert_array_equal(a[name], same[name])
    for name in ("observation", "action", "reward"):
        assert not np.isin(a[name][..., 0], other[name][..., 0]).any()
    # Nor do copies share their streams.
    assert not np.isin(a["action"][:, 0], a["action"][:, 1]).any()


# Which copy is first reset with a seed, where the first call gets 0.
COPY_OF_SEED = {
    int(np.random.SeedSequence(0, spawn_key=(i, 1)).generate_state(1)[0]): i
    for i in range(4)
}


@contextlib.contextmanager
def registered(step=lambda world, action: 0.0, **attributes):
    """Registers a world whose steps give what the function `step` returns as reward.

    Its observation is the process that it lives in, and whether that has TensorFlow. It
    knows which copy it is, by `index`, and counts its steps, by `num_steps`.
    """

    # A local class is pickled by value, so that worker processes need not find it.
    class World(gym.Env):
        observation_space = spaces.Box(0.0, np.inf, (2,))
        action_space = spaces.Discrete(2)

        num_steps = 0

        def reset(self, *, seed=None, options=None):
            if seed is not None:
                self.index = COPY_OF_SEED.get(seed)
            return np.float32([os.getpid(), "tensorflow" in sys.modules]), {}

        def step(self, action):
            self.num_steps += 1
            reward = step(self, action)
            return self.reset()[0], reward, False, False, {}

    for name, value in attributes.items():
        setattr(World, name, value)
    gym.register("World-v0", World)
    try:
        yield "World-v0"
    finally:
        del gym.registry["World-v0"]


def is_alive(pid):
    """Whether a process exists, be it as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def workers_of(rollouts):
    """The ids of the processes that the copies live in."""
    fields, _ = rollouts.collect(policy_for(rollouts), rollouts.num_envs, 0)
    return list(dict.fromkeys(map(int, fields["observation"][0, :, 0])))


def test_workers_have_no_tensorflow_and_end():
    with registered() as id:
        with ParallelRollouts(id, 3, 2) as rollouts:
            fields, _ = rollouts.collect(policy_for(rollouts), 6, 0)
            pids = workers_of(rollouts)
            assert len(pids) == 2
            assert all(map(is_alive, pids))
        assert not any(map(is_alive, pids))
        assert os.getpid() not in pids
        assert not fields["observation"][..., 1].any()
        rollouts.close()
        with pytest.raises(ValueError, match="is closed"):
            rollouts.collect(policy_for(rollouts), 6, 0)
        with ParallelRollouts(id, 3, 0) as rollouts:
            assert workers_of(rollouts) == [os.getpid()]


@pytest.mark.parametrize(
    ("action_bounds", "expected"),
    [
        ("clip", lambda action: np.clip(action, -1.0, 3.0)),
        ("rescale", lambda action: np.clip(1.0 + 2.0 * action, -1.0, 3.0)),
        ("none", lambda action: action),
    ],
)
def test_actions_meet_their_bounds(action_bounds, expected):
    box = spaces.Box(-1.0, 3.0, (1,))
    with (
        registered(lambda _, action: action[0], action_space=box) as id,
        ParallelRollouts(id, 2, 1, action_bounds=action_bounds) as rollouts,
    ):
        policy = NumpyPolicy([(np.zeros([2, 1]), [0.5])], "tanh", log_stddev=[1.0])
        fields, _ = rollouts.collect(policy, 100, 0)
        action = fields["action"][..., 0]
        assert action.min() < -1.0
        assert action.max() > 3.0
        np.testing.assert_allclose(fields["reward"], expected(action), rtol=1e-6)


def test_discrete_spaces_may_start_anywhere():
    # The world shows where it is, and each action n leads to n - 2.
    def reset(world, *, seed=None, options=None):
        return getattr(world, "position", 3), {}

    def step(world, action):
        world.position = action - 2
        return float(action)

    with (
        registered(
            step,
            reset=reset,
            observation_space=spaces.Discrete(3, start=3),
            action_space=spaces.Discrete(3, start=5),
        ) as id,
        ParallelRollouts(id, 2, 1) as rollouts,
    ):
        # From 3 to 4, from 4 to 5 and from 5 to 3, almost surely.
        kernel = 100.0 * np.roll(np.eye(3), 1, axis=1)
        fields, _ = rollouts.collect(
            NumpyPolicy([(kernel, np.zeros(3))], "tanh"), 12, 0
        )
        for i in range(2):
            assert fields["observation"][:, i].tolist() == [3, 4, 5, 3, 4, 5]
            assert fields["final_observation"][:, i].tolist() == [4, 5, 3, 4, 5, 3]
            assert fields["action"][:, i].tolist() == [1, 2, 0, 1, 2, 0]
            assert fields["reward"][:, i].tolist() == [6, 7, 5, 6, 7, 5]
        assert fields["observation"].dtype == fields["action"].dtype == np.int32


def test_with_num_envs_steps_the_same_environment():
    with (
        ParallelRollouts(
            "Pendulum-v1", 4, 2, max_episode_steps=17, action_bounds="rescale", g=3.0
        ) as rollouts,
        rollouts.with_num_envs(2) as other,
    ):
        assert isinstance(other, HostEnvironment)
        assert rollouts.max_episode_steps == other.max_episode_steps == 17
        assert other.action_bounds == "rescale"
        assert other.environment_kwargs == {"g": 3.0}
        assert other.observation_space == rollouts.observation_space
        assert other.reset(0).shape == (2, 3)


def unlucky(misfortune):
    """A world where something happens in the second step of the third copy of four."""

    def raise_error():
        raise ArithmeticError("the world\nhas ended")

    def leave_a_child():
        # The child keeps the worker's end of the connection open.
        if not os.fork():
            time.sleep(4)
        os._exit(3)

    misfortunes = {
        "raise": raise_error,
        "be killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "exit": sys.exit,
        "leave a child": leave_a_child,
    }
    happen = misfortunes[misfortune]

    def step(world, action):
        if world.num_steps == 2 and world.index == 2:
            happen()
        return 0.0

    return registered(step)


@pytest.mark.parametrize(
    ("misfortune", "message"),
    [
        ("raise", "raised ArithmeticError: the world has ended"),
        ("be killed", "ended by SIGKILL"),
        ("exit", "ended with status 0"),
        ("leave a child", "ended with status 3"),
    ],
)
def test_a_worker_that_fails(misfortune, message):
    with unlucky(misfortune) as id, ParallelRollouts(id, 4, 2) as rollouts:
        pids = workers_of(rollouts)
        with pytest.raises(RolloutWorkerError) as raised:
            rollouts.collect(policy_for(rollouts), 40, 1)
        assert str(raised.value) == f"worker 1 (copies 2 to 3 of World-v0) {message}"
        assert not any(map(is_alive, pids))
        with pytest.raises(ValueError, match="is closed"):
            rollouts.collect(policy_for(rollouts), 40, 2)


def test_the_traceback_of_a_worker_is_told():
    with unlucky("raise") as id, ParallelRollouts(id, 4, 2) as rollouts:
        with pytest.raises(RolloutWorkerError) as raised:
            rollouts.collect(policy_for(rollouts), 40, 0)
        assert "in raise_error" in str(raised.value.__cause__)


def test_errors_in_this_process_are_as_they_are():
    with unlucky("raise") as id, ParallelRollouts(id, 4, 0) as rollouts:
        with pytest.raises(ArithmeticError):
            rollouts.collect(policy_for(rollouts), 40, 0)
        with pytest.raises(ValueError, match="is closed"):
            rollouts.collect(policy_for(rollouts), 40, 1)


def test_a_worker_killed_between_two_calls():
    with registered() as id, ParallelRollouts(id, 4, 2) as rollouts:
        pids = workers_of(rollouts)
        os.kill(pids[0], signal.SIGKILL)
        with pytest.raises(RolloutWorkerError, match=r"worker 0 .* ended by SIGKILL"):
            rollouts.collect(policy_for(rollouts), 40, 1)
        assert not any(map(is_alive, pids))


def test_workers_that_hang_are_not_waited_for():
    def step(world, action):
        if world.num_steps == 2:
            if world.index == 0:
                time.sleep(60)
            raise ArithmeticError("the other sleeps")
        return 0.0

    start = time.monotonic()
    with registered(step) as id, ParallelRollouts(id, 2, 2) as rollouts:
        pids = workers_of(rollouts)
        with pytest.raises(RolloutWorkerError, match="worker 1"):
            rollouts.collect(policy_for(rollouts), 2, 0)
        assert not any(map(is_alive, pids))
    assert time.monotonic() - start < 20


def test_copies_that_cannot_be_made():
    def refuse(world):
        if "tensorflow" not in sys.modules:
            raise OSError("no licence")

    with (
        registered(__init__=refuse) as id,
        pytest.raises(
            RolloutWorkerError,
            match=r"worker \d \(copies \d to \d of World-v0\) raised OSError: no lic",
        ),
    ):
        ParallelRollouts(id, 4, 2)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_what_stops_a_job_is_left_to_its_owner(signal_number):
    with registered() as id, ParallelRollouts(id, 2, 2) as rollouts:
        pids = workers_of(rollouts)
        for pid in pids:
            os.kill(pid, signal_number)
        assert workers_of(rollouts) == pids


def test_new_episodes():
    with ParallelRollouts("CartPole-v1", 3, 0) as rollouts:
        policy = policy_for(rollouts)
        first, sums = rollouts.collect(policy, 60, seed=1)
        assert sums["episodes"]
        rollouts.collect(policy, 60, seed=2)
        again, sums_again = rollouts.collect(policy, 60, seed=1, new_episodes=True)
        for name, values in first.items():
            np.testing.assert_array_equal(again[name], values)
        for name in ("episodes", "episode_return", "episode_length"):
            assert sums[name] == sums_again[name]


@pytest.mark.parametrize(
    ("signal_number", "steps"),
    # With so many steps, only the call could end what it began.
    [(signal.SIGINT, 20_000), (signal.SIGKILL, 20_000), (signal.SIGKILL, 10**7)],
)
def test_workers_end_with_their_owner(tmp_path, signal_number, steps):
    script = tmp_path / "script.py"
    script.write_text(
        """
import os
import signal

import gymnasium as gym
import numpy as np

# A shell lets what it runs in the background ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

from tfzoo.environments.numpy_policy import NumpyPolicy
from tfzoo.environments.parallel_rollouts import ParallelRollouts


class World(gym.Env):
    observation_space = gym.spaces.Box(0.0, np.inf, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.float32([os.getpid()]), {}

    def step(self, action):
        return self.reset()[0], 0.0, False, False, {}


gym.register("World-v0", World)
policy = NumpyPolicy([(np.zeros([1, 2]), np.zeros(2))], "tanh")
with ParallelRollouts("World-v0", 2, 2) as rollouts:
    fields, _ = rollouts.collect(policy, 2, 0)
    print(*fields["observation"].ravel().astype(int), flush=True)
    for i in range(10**6):
        rollouts.collect(policy, STEPS, i)
""".replace("STEPS", str(steps))
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    try:
        pids = list(map(int, process.stdout.readline().split()))
        assert len(pids) == 2
        time.sleep(0.5)
        # As a terminal does it: to the whole group.
        os.killpg(process.pid, signal_number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == -signal_number
    deadline = time.monotonic() + 20
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, pids))
    assert errors.count("Traceback") == (signal_number == signal.SIGINT)
    assert "rollout_worker" not in errors


@pytest.mark.parametrize("num_workers", [-1, 4, 1.0, None])
def test_wrong_numbers_of_workers_are_refused(num_workers):
    with pytest.raises(ValueError, match=r"integer from 0 to .* num_envs=3, got"):
        ParallelRollouts("CartPole-v1", 3, num_workers)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 2}, "steps must be at least num_envs=3, .* got 2"),
        ({"steps": 0}, "steps must be a positive integer"),
        ({"steps": 10.5}, "steps must be a positive integer"),
        ({"seed": -1}, "seed must be a non-negative integer .* got -1"),
        ({"seed": None}, "seed must be a non-negative integer .* got None"),
        (
            {"policy": NumpyPolicy([(np.ones([3, 2]), [0, 0])], "tanh")},
            "CartPole-v1 needs a categorical policy of 4 features and 2 outputs, got a "
            "categorical policy of 3 features and 2 outputs",
        ),
        (
            {
                "policy": NumpyPolicy(
                    [(np.ones([4, 2]), [0, 0])], "tanh", log_stddev=[0, 0]
                )
            },
            "got a Gaussian policy",
        ),
    ],
)
def test_wrong_arguments_of_a_call_are_refused(given, message):
    with ParallelRollouts("CartPole-v1", 3, 0) as rollouts:
        arguments = {"policy": policy_for(rollouts), "steps": 30, "seed": 0}
        with pytest.raises(ValueError, match=message):
            rollouts.collect(**{**arguments, **given})
        # Nothing is lost by it.
        rollouts.collect(**arguments)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            {"observation_space": spaces.Box(0, 255, (84, 84, 4), np.uint8)},
            "observations of World-v0 are bytes",
        ),
        (
            {"action_space": spaces.MultiDiscrete([2, 3])},
            r"action space of World-v0 is MultiDiscrete\(\[2 3\]\); workers act in Box",
        ),
        (
            {"observation_space": spaces.Dict(a=spaces.Discrete(2))},
            "observation space of World-v0 is Dict",
        ),
    ],
)
def test_unsupported_spaces_are_refused(attributes, message):
    with (
        registered(**attributes) as id,
        pytest.raises(UnsupportedSpaceError, match=message),
    ):
        ParallelRollouts(id, 2, 1)
