"""The bridge against Gymnasium's single environments."""

import contextlib
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from tests.environments.optional_packages import needs_atari, needs_mujoco
from tfzoo.environments import HostEnvironment, UnsupportedSpaceError
from tfzoo.environments.gymnasium_recipe import recipe_for
from tfzoo.environments.gymnasium_wrappers import ending_with_a_life

VECTORIZATIONS = ("sync", "async")


@contextlib.contextmanager
def registered(observation_space, action_space):
    """Registers a world of these spaces, whose reward is the sum of the action.

    Its observations are drawn from the space; an episode terminates after 3 steps.
    """

    # A local class is pickled by value, so that worker processes need not find it.
    class World(gym.Env):
        def __init__(self):
            self.observation_space = observation_space
            self.action_space = action_space

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            if seed is not None:
                self.observation_space.seed(seed)
            self.num_steps = 0
            return self.observation_space.sample(), {}

        def step(self, action):
            assert self.action_space.contains(action), action
            self.num_steps += 1
            reward = float(np.sum(action))
            done = self.num_steps == 3
            return self.observation_space.sample(), reward, done, False, {}

    gym.register("World-v0", World)
    yield "World-v0"
    del gym.registry["World-v0"]


BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)


def seeds_of_copies(seed, num_envs):
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(num_envs)]


@pytest.mark.parametrize("vectorization", VECTORIZATIONS)
@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
def test_steps_equal_single_environments(id, vectorization):
    num_envs, num_steps, seed, limit = 3, 60, 11, 25
    singles = [gym.make(id, max_episode_steps=limit) for _ in range(num_envs)]
    singles[0].action_space.seed(0)
    environment = HostEnvironment(
        id, num_envs, vectorization=vectorization, max_episode_steps=limit
    )
    assert environment.observation_space == singles[0].observation_space
    assert environment.action_space == singles[0].action_space
    assert environment.max_episode_steps == limit
    episodes = 0
    with environment:
        observation = environment.reset(seed)
        expected = [
            single.reset(seed=s)[0]
            for single, s in zip(singles, seeds_of_copies(seed, num_envs), strict=True)
        ]
        np.testing.assert_array_equal(observation, expected)
        for _ in range(num_steps):
            action = np.stack([singles[0].action_space.sample() for _ in singles])
            step = environment.step(action)
            for i, single in enumerate(singles):
                final, reward, terminated, truncated, _ = single.step(action[i])
                after = final
                if terminated or truncated:
                    after, _ = single.reset()
                    episodes += 1
                np.testing.assert_array_equal(step.observation[i], after)
                np.testing.assert_array_equal(step.final_observation[i], final)
                assert step.reward[i] == np.float32(reward)
                assert step.terminated[i] == terminated
                assert step.truncated[i] == truncated
    assert episodes > num_envs


def test_each_step_gives_arrays_of_its_own():
    with HostEnvironment("Pendulum-v1", 2, max_episode_steps=2) as environment:
        results = [environment.reset(0)]
        copies = [results[0].copy()]
        for _ in range(4):
            step = environment.step(np.zeros([2, 1], np.float32))
            results.extend(step)
            copies.extend(array.copy() for array in step)
        for result, copy in zip(results, copies, strict=True):
            np.testing.assert_array_equal(result, copy)


@pytest.mark.parametrize("vectorization", VECTORIZATIONS)
@pytest.mark.parametrize(
    ("space", "dtype"),
    [
        (spaces.Discrete(5), np.int32),
        (spaces.Box(-np.inf, np.inf, (3,), np.float64), np.float32),
        (spaces.Box(0, 255, (6, 5, 3), np.uint8), np.uint8),
    ],
    ids=str,
)
def test_observations(space, dtype, vectorization):
    with (
        registered(space, spaces.Discrete(2)) as id,
        HostEnvironment(id, 2, vectorization=vectorization) as environment,
    ):
        observations = [environment.reset(3)]
        for _ in range(4):
            step = environment.step(np.array([0, 1], np.int32))
            observations += [step.observation, step.final_observation]
            assert step.reward.dtype == np.float32
            assert step.terminated.dtype == step.truncated.dtype == bool
        for observation in observations:
            assert observation.dtype == dtype
            assert observation.shape == (2, *(space.shape or ()))
            for copy in observation:
                assert environment.observation_space.contains(copy)
        # The seeds draw the observations.
        for i, seed in enumerate(seeds_of_copies(3, 2)):
            space.seed(seed)
            np.testing.assert_array_equal(
                observations[0][i], np.asarray(space.sample(), dtype)
            )


@pytest.mark.parametrize(
    ("space", "action", "sums"),
    [
        (spaces.Discrete(3), [0, 2], [0, 2]),
        (spaces.Discrete(3, start=5), [0, 2], [5, 7]),
        (BOX, [[0.5, 0.25], [9.0, 0.0]], [0.75, 1.0]),
        (spaces.MultiDiscrete([2, 4]), [[1, 3], [0, 2]], [4, 2]),
        (spaces.MultiDiscrete([2, 4], start=[1, 1]), [[1, 3], [0, 2]], [6, 4]),
        (spaces.MultiBinary(3), [[1, 1, 1], [0, 1, 0]], [3, 1]),
    ],
    ids=str,
)
def test_actions(space, action, sums):
    dtype = np.float32 if isinstance(space, spaces.Box) else np.int32
    with registered(BOX, space) as id, HostEnvironment(id, 2) as environment:
        environment.reset(0)
        step = environment.step(np.array(action, dtype))
        np.testing.assert_array_equal(step.reward, np.float32(sums))


@pytest.mark.parametrize("vectorization", VECTORIZATIONS)
@pytest.mark.parametrize(
    ("observation_space", "action_space"),
    [
        (spaces.Dict(a=spaces.Discrete(2)), spaces.Discrete(2)),
        (spaces.Sequence(spaces.Discrete(2)), spaces.Discrete(2)),
        (BOX, spaces.Box(-1.0, 1.0, (2, 2))),
        (BOX, spaces.Tuple([spaces.Discrete(2)])),
    ],
    ids=str,
)
def test_unsupported_spaces_are_refused(observation_space, action_space, vectorization):
    with (
        registered(observation_space, action_space) as id,
        pytest.raises(UnsupportedSpaceError, match=r"of World-v0 is .* supported are"),
    ):
        HostEnvironment(id, vectorization=vectorization)


def test_unknown_vectorization_is_refused():
    with pytest.raises(ValueError, match='must be "sync" or "async"'):
        HostEnvironment("CartPole-v1", vectorization="auto")


def test_with_num_envs_keeps_everything_else():
    def halved(reward):
        return reward / 2

    environment = HostEnvironment(
        "Pendulum-v1",
        4,
        max_episode_steps=17,
        action_bounds="rescale",
        reward_transform=halved,
        g=3.0,
    )
    with environment, environment.with_num_envs(2) as other:
        assert (environment.num_envs, other.num_envs) == (4, 2)
        assert other.vectorization == "sync"
        assert other.max_episode_steps == 17
        assert other.action_bounds == "rescale"
        assert other.reward_transform is halved
        assert other.environment_kwargs == {"g": 3.0}
        assert other.reset(0).shape == (2, 3)


def test_the_registered_time_limit_is_reported():
    assert HostEnvironment("CartPole-v0").max_episode_steps == 200
    assert HostEnvironment("FrozenLake-v1").max_episode_steps == 100


@pytest.mark.parametrize("vectorization", VECTORIZATIONS)
def test_close_may_be_called_again(vectorization):
    environment = HostEnvironment("CartPole-v1", 2, vectorization=vectorization)
    environment.reset(0)
    environment.close()
    environment.close()


def test_workers_never_import_tensorflow(tmp_path):
    # The script imports TensorFlow and has no guard for __name__: a worker that
    # imported it, as spawned processes do, would have TensorFlow, or never end.
    script = tmp_path / "script.py"
    script.write_text(
        """
import sys

import gymnasium as gym
import numpy as np
import tensorflow as tf

from tfzoo.environments import make


class Modules(gym.Env):
    observation_space = gym.spaces.Box(0.0, 1.0, (2,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        names = ("tensorflow", "numpy")
        return np.float32([name in sys.modules for name in names]), {}

    def step(self, action):
        return self.reset()[0], 0.0, False, False, {}


gym.register("Modules-v0", Modules)
with make("Modules-v0", 2, vectorization="async") as environment:
    print(environment.reset(0).tolist())
assert sys.modules["__main__"].__file__ == __file__
"""
    )
    result = subprocess.run(
        [sys.executable, str(script)],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout.strip() == "[[0.0, 1.0], [0.0, 1.0]]"


@needs_mujoco
def test_mujoco_gives_float32():
    with HostEnvironment("HalfCheetah-v5", 2) as environment:
        assert environment.observation_space.dtype == np.float32
        assert environment.max_episode_steps == 1000
        assert environment.reset(0).dtype == np.float32
        step = environment.step(np.zeros([2, 6], np.float32))
        assert step.observation.dtype == step.final_observation.dtype == np.float32


@needs_mujoco
@pytest.mark.parametrize(("action_bounds", "charged"), [("none", 3.0), ("clip", 1.0)])
def test_reacher_charges_for_the_action_that_it_is_given(action_bounds, charged):
    # The simulator itself clips; only the cost, weight * |action|^2, shows the rest.
    action, rewards = np.full([1, 2], 3.0, np.float32), []
    for weight in (0.0, 1.0):
        with HostEnvironment(
            "Reacher-v5", action_bounds=action_bounds, reward_control_weight=weight
        ) as environment:
            environment.reset(0)
            rewards.append(environment.step(action).reward[0])
    assert rewards[0] - rewards[1] == pytest.approx(2 * charged**2, rel=1e-5)


class Lives(gym.Env):
    """A game of three lives, one of which ends in every second step; at 6 it is over.

    An observation is the number of steps since the game began.
    """

    observation_space = spaces.Discrete(100)
    action_space = spaces.Discrete(2)

    class ale:
        """What Atari games tell of themselves."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.num_steps = 0
        self.ale.lives = lambda: 3 - self.num_steps // 2
        return 0, {}

    def step(self, action):
        self.num_steps += 1
        return self.num_steps, 1.0, self.num_steps >= 6, False, {}


def test_an_episode_ends_with_a_life_and_the_game_goes_on():
    environment = ending_with_a_life()(Lives())
    assert environment.reset(seed=0)[0] == 0
    ends = []
    for _ in range(2):
        observations = []
        terminated = False
        while not terminated:
            observation, _, terminated, truncated, _ = environment.step(1)
            assert not truncated
            observations.append(observation)
        ends.append(observations)
        # The next episode begins with a step that does nothing.
        begun, _ = environment.reset()
        assert begun == observations[-1] + 1
    assert ends == [[1, 2], [4]]
    # The last life: the game is over, and begins anew.
    assert environment.step(1)[2]
    assert environment.reset()[0] == 0
    # A seed begins a new game as well.
    environment.step(1)
    assert environment.reset(seed=1)[0] == 0


@needs_atari
def test_agents_are_evaluated_on_whole_games():
    with HostEnvironment("ALE/Breakout-v5", life_loss=True) as environment:
        with environment.with_num_envs(2) as copies:
            assert "life_loss" not in copies.environment_kwargs
        assert environment.environment_kwargs["life_loss"]


@needs_atari
@pytest.mark.parametrize("probability", [0.0, 0.25])
def test_actions_stick_with_the_probability_that_is_given(probability):
    recipe = recipe_for("ALE/Pong-v5", repeat_action_probability=probability)
    game = recipe.make().unwrapped
    assert game.ale.getFloat("repeat_action_probability") == probability


@needs_atari
@pytest.mark.parametrize("vectorization", VECTORIZATIONS)
def test_atari(vectorization):
    with HostEnvironment(
        "ALE/Pong-v5", 2, vectorization=vectorization, repeat_action_probability=0.0
    ) as environment:
        assert environment.frame_stack == 4
        observation = environment.reset(0)
        for t in range(5):
            step = environment.step(np.array([t % 3, 2], np.int32))
            assert step.observation.shape == (2, 84, 84, 4)
            assert step.observation.dtype == np.uint8
        assert environment.observation_space.contains(observation[0])
        assert not np.array_equal(step.observation, observation)
