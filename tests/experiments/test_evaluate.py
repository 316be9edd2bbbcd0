"""experiments/evaluate.py plays whole episodes with nothing but a SavedModel."""

import re

import gymnasium as gym
import imageio.v3
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

SCRIPT = "experiments/evaluate.py"


def save_policy(path, act, observation_shape):
    """Writes a SavedModel whose action is a function of the observation."""
    module = tf.Module()
    spec = tf.TensorSpec([None, *observation_shape], tf.float32, name="observation")
    module.act = tf.function(
        lambda observation: {"action": act(observation)}, input_signature=[spec]
    )
    tf.saved_model.save(module, str(path), {"serving_default": module.act})
    return path


def lean(observation):
    """Pushes the cart to where the pole falls."""
    return tf.cast(observation[:, 2] > 0, tf.int32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory as far as evaluate.py is concerned."""
    path = tmp_path_factory.mktemp("run")
    save_policy(path / "saved_model", lean, [4])
    (path / "flags.txt").write_text(
        "# experiment: ppo\n--env=CartPole-v1\n--epochs=3\n"
    )
    return path


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]


def test_it_plays_in_the_environment_of_the_run(programs, run, tmp_path):
    video = tmp_path / "play.gif"
    result = programs.run(SCRIPT, f"--model={run}", "--episodes=40", f"--video={video}")
    assert result.status == 0, result.stderr
    first, second, third = result.stdout.splitlines()
    assert first.startswith("CartPole-v1: 40 episodes of ")
    mean, deviation, low, high = numbers(second.replace("95 %", ""))
    # This policy keeps the pole up for 42 steps on average, give or take 9.
    assert 35 < mean < 50
    assert numbers(first) == [pytest.approx(mean, abs=0.06)]
    student = scipy.stats.t.ppf(0.975, 39)
    expected = student * deviation / np.sqrt(40)
    np.testing.assert_allclose([high - mean, mean - low], expected, atol=0.02)
    (episode_return,) = numbers(third.rpartition(" ")[2])
    # Equal frames are stored as one that stays longer, in hundredths of a second.
    frames = range(imageio.v3.improps(video).n_images)
    durations = [imageio.v3.immeta(video, index=i)["duration"] for i in frames]
    assert sum(durations) == pytest.approx(30 * (episode_return + 1), rel=0.02)


def test_each_copy_plays_the_episodes_assigned_to_it(programs, run):
    """21 episodes in 16 copies: five of the copies play two, in their order."""
    result = programs.run(
        SCRIPT, f"--model={run}", "--vectorization=sync", "--episodes=21", "--seed=7"
    )
    lengths = []
    for copy in range(16):
        environment = gym.make("CartPole-v1")
        observation, _ = environment.reset(seed=7 + copy)
        for _ in range(2 if copy < 5 else 1):
            length, done = 0, False
            while not done:
                observation, _, *ends, _ = environment.step(int(observation[2] > 0))
                length, done = length + 1, any(ends)
            lengths.append(length)
            observation, _ = environment.reset()
    mean, deviation, *_ = numbers(result.stdout.splitlines()[1])
    assert mean == pytest.approx(np.mean(lengths), abs=0.006)
    assert deviation == pytest.approx(np.std(lengths, ddof=1), abs=0.006)


def test_it_plays_continuous_actions(programs, tmp_path):
    path = save_policy(tmp_path / "model", lambda o: 0.0 * o[:, :1], [3])
    flags = (f"--model={path}", "--env=Pendulum-v1", "--episodes=10")
    result = programs.run(SCRIPT, *flags)
    assert result.stdout.startswith("Pendulum-v1: 10 episodes of 200.0 steps")
    # Doing nothing gets -1,210 on average in Gymnasium, give or take 363.
    assert -1700 < numbers(result.stdout.splitlines()[1])[0] < -800


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--model: give"),
        (["--model=/nowhere"], "--model=/nowhere: no SavedModel is there"),
        (["--model={run}/saved_model"], "--env: give an environment"),
        (["--model={run}", "--env=Acrobot-v1"], "has observations of shape (None, 4)"),
        (["--model={run}", "--video=play.avi"], "must end in .gif or .mp4"),
    ],
)
def test_what_it_cannot_play_is_said_in_one_line(programs, run, flags, message):
    result = programs.run(SCRIPT, *(flag.format(run=run) for flag in flags))
    assert result.status == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("evaluate.py: ")
    assert message in line
