"""experiments/evaluate.py plays whole episodes with nothing but a SavedModel."""

import os
import re
import shutil

import gymnasium as gym
import imageio.v3
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

SCRIPT = "experiments/evaluate.py"


def save_policy(path, act, observation_shape, dtype=tf.float32):
    """Writes a SavedModel whose action is a function of the observation."""
    module = tf.Module()
    module.variable = tf.Variable(0)
    spec = tf.TensorSpec([None, *observation_shape], dtype, name="observation")

    def respond(observation):
        answer = act(observation)
        return answer if isinstance(answer, dict) else {"action": answer}

    module.act = tf.function(respond, input_signature=[spec])
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
    for copy, seed in enumerate(np.random.SeedSequence(7).generate_state(16)):
        environment = gym.make("CartPole-v1")
        observation, _ = environment.reset(seed=int(seed))
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
        (["--model={run}", "--env=Acrobot-v1"], "observations are Box(6,), those of"),
        (["--model={run}", "--video=play.avi"], "must end in .gif or .mp4"),
        (["--model={run}", "--env_arguments=render_mode=human"], "=render_mode=human:"),
    ],
)
def test_what_it_cannot_play_is_said_in_one_line(programs, run, flags, message):
    result = programs.run(SCRIPT, *(flag.format(run=run) for flag in flags))
    assert result.status == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("evaluate.py: ")
    assert message in line


def without_flags(run):
    (run / "flags.txt").unlink()


def with_a_wrong_flag(run):
    (run / "flags.txt").write_text("--env=CartPole-v1\n--vectorization=gpu\n")


def with_half_a_graph(run):
    path = run / "saved_model" / "saved_model.pb"
    os.truncate(path, path.stat().st_size // 2)


def without_variables(run):
    shutil.rmtree(run / "saved_model" / "variables")


def with_half_the_variables(run):
    (path,) = (run / "saved_model" / "variables").glob("variables.data*")
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_flags, "flags.txt, which names the environment, is missing; give"),
        (with_a_wrong_flag, "flags.txt: flag --vectorization=gpu: value should be"),
        (with_half_a_graph, "it cannot be loaded: Cannot parse file"),
        (without_variables, "it cannot be loaded: "),
        (with_half_the_variables, "it cannot be loaded: "),
    ],
)
def test_what_is_damaged_is_said_in_one_line(programs, run, tmp_path, damage, message):
    path = tmp_path / "run"
    shutil.copytree(run, path)
    damage(path)
    result = programs.run(SCRIPT, f"--model={path}")
    assert result.status == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"evaluate.py: --model={path}: ")
    assert message in line


@pytest.fixture(scope="module")
def on_ice(tmp_path_factory):
    """A run directory of FrozenLake, of 4 x 4 states."""
    path = tmp_path_factory.mktemp("on_ice")

    def act(observation):
        tf.debugging.assert_less(observation, 16)
        probabilities = tf.one_hot(0 * observation + 2, 4)
        return {"action": 0 * observation + 2, "action_probabilities": probabilities}

    save_policy(path / "saved_model", act, [], tf.int32)
    (path / "flags.txt").write_text("# experiment: ppo\n--env=FrozenLake-v1\n")
    return path


def test_an_environment_of_the_same_spaces_may_be_played_in(programs, on_ice):
    flags = ("--env_arguments=is_slippery=False", "--episodes=3")
    result = programs.run(SCRIPT, f"--model={on_ice}", *flags)
    # To the right three times, and against the wall until the time is up.
    assert result.stdout.startswith("FrozenLake-v1: 3 episodes of 100.0 steps")


@pytest.mark.parametrize(
    ("model", "flags", "message"),
    [
        ("run", ["--env=FrozenLake8x8-v1"], "--env=FrozenLake8x8-v1: its observations"),
        ("run", ["--env_arguments=map_name=8x8"], "are Discrete(64), those of"),
        ("run", ["--env=CliffWalking-v1"], "are Discrete(48), those of FrozenLake-v1"),
        ("run/saved_model", ["--env=FrozenLake8x8-v1"], "in which --model="),
        ("elsewhere", ["--env=FrozenLake8x8-v1"], "not take the last observation of"),
        ("elsewhere", ["--env=Blackjack-v1"], "Tuple"),
        (
            "actions",
            ["--env=Acrobot-v1"],
            "it has observations of shape (None,), those",
        ),
        ("actions", ["--env=FrozenLake-v1"], "it has 2 actions, those of FrozenLake"),
    ],
)
def test_an_environment_of_another_size_is_refused(
    programs, on_ice, tmp_path, model, flags, message
):
    shutil.copytree(on_ice, tmp_path / "run")
    shutil.copytree(on_ice / "saved_model", tmp_path / "elsewhere")
    save_policy(
        tmp_path / "actions",
        lambda o: {"action": 0 * o, "action_probabilities": tf.one_hot(o, 2)},
        [],
        tf.int32,
    )
    result = programs.run(SCRIPT, f"--model={tmp_path / model}", *flags)
    assert result.status == 1
    (line,) = result.stderr.splitlines()
    assert message in line


def test_a_folder_is_not_overwritten_by_a_video(programs, run, tmp_path):
    (tmp_path / "play.gif").mkdir()
    (tmp_path / "play.gif" / "thesis.txt").write_text("years of work")
    result = programs.run(SCRIPT, f"--model={run}", f"--video={tmp_path}/play.gif")
    assert result.status == 1
    (line,) = result.stderr.splitlines()
    assert "play.gif cannot be written: it is a folder" in line
    assert (tmp_path / "play.gif" / "thesis.txt").read_text() == "years of work"
