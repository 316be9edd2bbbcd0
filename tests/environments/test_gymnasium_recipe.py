"""Ids are found or explained, and workers can unpickle a recipe without TensorFlow."""

import subprocess
import sys

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest

from tests.environments.optional_packages import needs_atari
from tfzoo.environments import MissingPackageError, UnknownEnvironmentError, make
from tfzoo.environments.gymnasium_recipe import missing_packages_named, recipe_for


@pytest.mark.parametrize(
    ("id", "expected"),
    [
        ("CartPol-v1", "CartPole-v1"),
        ("cartpole-v1", "CartPole-v1"),
        ("CartPole-v9", "CartPole-v1"),
        ("CartPole", "CartPole-v1"),
        ("HalfCheeta-v5", "HalfCheetah-v5"),
        ("Xyzzy", "gymnasium.pprint_registry()"),
        (None, "unknown environment None"),
    ],
)
def test_unknown_ids_get_the_nearest(id, expected):
    with pytest.raises(UnknownEnvironmentError) as error:
        recipe_for(id)
    message = str(error.value)
    assert message.startswith(f"unknown environment {id!r}; ")
    assert expected in message
    assert "\n" not in message


def test_older_versions_stay_available_without_a_warning(recwarn):
    recipe_for("CartPole-v0").make()
    assert not recwarn.list


def test_a_module_is_imported_for_its_ids():
    assert recipe_for("gymnasium:CartPole-v1").spec.id == "CartPole-v1"
    with pytest.raises(MissingPackageError, match="No module named 'no_such_module'"):
        recipe_for("no_such_module:World-v0")


def test_arguments_and_time_limit_arrive():
    environment = recipe_for("Pendulum-v1", 3, g=0.0).make()
    assert environment.unwrapped.g == 0.0
    environment.reset(seed=0)
    truncated = [environment.step(np.float32([0.0]))[3] for _ in range(3)]
    assert truncated == [False, False, True]


@pytest.mark.parametrize(
    ("id", "package", "extra"),
    [
        ("HalfCheetah-v5", "mujoco", "mujoco"),
        ("LunarLander-v3", "Box2D", "box2d"),
        ("ALE/Pong-v5", "ale_py", "atari"),
        ("ALE/Pong-v5", "cv2", "atari"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, id, package, extra):
    # A module that is None in sys.modules cannot be imported; those that have it
    # already are imported anew, and left as they were afterwards.
    for module in list(sys.modules):
        if module.startswith(("gymnasium.envs.mujoco", "gymnasium.envs.box2d")):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError) as error:
        make(id)
    assert str(error.value) == (
        f"{id} needs a package that is not installed; run: pip install 'tfzoo[{extra}]'"
    )


def test_other_failed_imports_keep_their_reason():
    spec = gym.spec("HalfCheetah-v5")
    with (
        pytest.raises(MissingPackageError, match=r"cannot be made: moved elsewhere$"),
        missing_packages_named("Old-v0", spec),
    ):
        raise ImportError("moved elsewhere\nand more")
    spec = gym.spec("CartPole-v1")
    with (
        pytest.raises(MissingPackageError, match="cannot be made: No module named 'x'"),
        missing_packages_named("New-v0", spec),
    ):
        raise ModuleNotFoundError("No module named 'x'")


@needs_atari
def test_atari_games_are_preprocessed():
    environment = recipe_for("ALE/Pong-v5", 5, repeat_action_probability=0.0).make()
    assert environment.observation_space == gym.spaces.Box(
        0, 255, (84, 84, 4), np.uint8
    )
    assert environment.unwrapped._frameskip == 1
    assert environment.unwrapped.spec.kwargs["repeat_action_probability"] == 0.0
    images, _ = environment.reset(seed=0)
    # All four are the first image.
    np.testing.assert_array_equal(
        images, np.broadcast_to(images[..., :1], images.shape)
    )
    before, frames = images, environment.unwrapped.ale.getEpisodeFrameNumber()
    for t in range(1, 6):
        images, _, _, truncated, _ = environment.step(t % 3)
        # The newest image comes last, and the others move up.
        np.testing.assert_array_equal(images[..., :3], before[..., 1:])
        before = images
    assert environment.unwrapped.ale.getEpisodeFrameNumber() - frames == 20
    # The limit counts the agent's steps, not frames.
    assert truncated


@needs_atari
def test_an_atari_game_goes_on_after_an_episode_that_ended_with_a_life():
    environment = recipe_for("ALE/Breakout-v5", life_loss=True).make()
    ale = environment.unwrapped.ale
    environment.reset(seed=0)
    lives, frames = [], []
    while len(lives) < 6:
        _, _, terminated, truncated, _ = environment.step(1)
        assert not truncated
        if terminated:
            lives.append(ale.lives())
            environment.reset()
            frames.append(ale.getEpisodeFrameNumber())
    # Five lives, of which the fifth ends the game; then a new one begins.
    assert lives == [4, 3, 2, 1, 0, 4]
    assert frames[:4] == sorted(frames[:4])
    assert frames[4] < frames[0]
    with make("ALE/Breakout-v5", life_loss=True) as learning:
        assert learning.with_num_envs(1).environment_kwargs == {}


@needs_atari
def test_atari_frame_skip_is_not_the_environment_s():
    with pytest.raises(ValueError, match="frame-skip"):
        recipe_for("ALE/Pong-v5", frameskip=4).make()


@needs_atari
def test_atari_memory_is_left_as_it_is():
    environment = recipe_for("ALE/Pong-v5", obs_type="ram").make()
    assert environment.observation_space.shape == (128,)


@pytest.mark.parametrize(
    ("id", "arguments"),
    [
        ("CartPole-v1", {}),
        ("CartPolePositions-v1", {}),
        pytest.param("ALE/Pong-v5", {"life_loss": True}, marks=needs_atari),
    ],
)
def test_a_recipe_s_copy_is_made_without_tensorflow(id, arguments, tmp_path):
    path = tmp_path / "recipe.pickle"
    recipe = recipe_for(id, **arguments)
    path.write_bytes(cloudpickle.dumps(tuple(recipe)))
    program = (
        "import pickle, sys, gymnasium\n"
        f"spec, arguments, wrappers, _ = pickle.load(open({str(path)!r}, 'rb'))\n"
        "environment = gymnasium.make(spec, **arguments)\n"
        "for wrapper in wrappers: environment = wrapper(environment)\n"
        "environment.reset(seed=0)\n"
        "assert not {'tensorflow', 'keras', 'tfzoo'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
