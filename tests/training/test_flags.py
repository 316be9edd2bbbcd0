import sys

import pytest
from absl import flags

from tfzoo.training import (
    UserError,
    define_training_flags,
    environment_flags_of_run,
    environment_options,
    open_run_directory,
    parse_flags,
)

PROGRAM = "experiments/ppo.py"


def new_flags():
    values = flags.FlagValues()
    define_training_flags(
        env="CartPole-v1",
        num_envs=8,
        steps=1000,
        learning_rate=3e-4,
        flag_values=values,
    )
    flags.DEFINE_integer("epochs", 4, "Epochs.", lower_bound=1, flag_values=values)
    flags.DEFINE_float("kl_stop", None, "Ends learning.", flag_values=values)
    flags.DEFINE_boolean("animation", True, "Animates.", flag_values=values)
    flags.DEFINE_integer("evaluation_episodes", 9, "Plays.", flag_values=values)
    return values


def parsed(*arguments):
    values = new_flags()
    parse_flags([PROGRAM, *arguments], values, module=__name__)
    return values


def non_defaults(values):
    defaults = new_flags()
    return {
        name: values[name].value
        for name in values
        if values[name].value != defaults[name].default
    }


@pytest.fixture
def start_run(tmp_path, monkeypatch):
    """Returns a function from flags to the directory of a run that has begun."""
    monkeypatch.setattr(sys, "argv", [PROGRAM])

    def start(*arguments):
        path = tmp_path / "run"
        values = parsed(f"--run_dir={path}", *arguments)
        run = open_run_directory(values.env, values, module=__name__)
        run.write_flags()
        (run.checkpoints / "step-000000000000").mkdir(parents=True)
        return path

    return start


@pytest.mark.parametrize(
    "argument",
    [
        "--learning_rate=-0.1",
        "--learning_rate=0",
        "--learning_rate=nan",
        "--learning_rate=inf",
        "--steps=0",
        "--steps=-5",
        "--steps=1e6",
        "--num_envs=0",
        "--seed=-1",
        "--threads=-1",
        "--checkpoint_every=0",
        "--epochs=0",
        "--jit_compile=maybe",
        "--distribute=everywhere",
        "--action_bounds=shrink",
        "--vectorization=gpu",
        "--env_arguments=gravity",
    ],
)
def test_a_bad_value_is_refused_with_the_name_of_its_flag(argument):
    name = argument.partition("=")[0]
    with pytest.raises(flags.Error, match=rf"^flag {name}=") as caught:
        parsed(argument)
    assert "\n" not in str(caught.value)


def test_what_is_no_flag_is_refused():
    with pytest.raises(UserError, match="unexpected argument 'CartPole-v1'"):
        parsed("CartPole-v1")
    with pytest.raises(flags.Error, match="Did you mean: learning_rate"):
        parsed("--learning_rat=1")


@pytest.mark.parametrize(
    ("text", "value"),
    [("auto", "auto"), ("true", True), ("False", False), ("TRUE", True)],
)
def test_jit_compile_is_what_keras_takes(text, value):
    assert parsed(f"--jit_compile={text}").jit_compile is value


def test_environment_arguments_are_python_values_or_text():
    values = parsed("--env_arguments=gravity=9.8,wind=True,mode=dark,n=None")
    assert environment_options(values) == {
        "action_bounds": "clip",
        "gravity": 9.8,
        "wind": True,
        "mode": "dark",
        "n": None,
    }


@pytest.mark.parametrize("name", ["num_envs", "reward_transform", "render_mode"])
def test_what_the_environment_itself_does_not_take_is_refused(name):
    values = parsed(f"--env_arguments={name}=human")
    with pytest.raises(UserError, match=f"--env_arguments={name}=human: {name} is no"):
        environment_options(values)


def test_the_flags_belong_to_the_module_that_asks_for_them():
    keys = {flag.name for flag in new_flags().get_key_flags_for_module(__name__)}
    assert {"env", "steps", "learning_rate", "resume", "epochs"} <= keys


def test_the_flagfile_repeats_the_run(start_run):
    given = [
        "--learning_rate=0.00010000001",
        "--steps=5_000",
        "--mixed_precision",
        "--jit_compile=false",
        "--env_arguments=a=1,b=x",
        "--epochs=7",
    ]
    path = start_run(*given)
    text = (path / "flags.txt").read_text()
    assert "run_dir" not in text.partition("--")[2]
    assert "resume" not in text
    assert "num_envs=8" in text, "defaults are written, too: they may change"
    repeated = parsed(f"--flagfile={path}/flags.txt")
    assert non_defaults(repeated) == non_defaults(parsed(*given))


def test_resume_needs_no_flag_but_the_directory(start_run):
    path = start_run("--learning_rate=0.1", "--seed=3", "--mixed_precision")
    values = parsed("--resume", f"--run_dir={path}")
    assert non_defaults(values) == {
        "learning_rate": 0.1,
        "seed": 3,
        "mixed_precision": True,
        "run_dir": str(path),
        "resume": True,
    }


def test_more_steps_may_be_asked_for_and_are_remembered(start_run):
    path = start_run("--seed=3")
    values = parsed("--resume", f"--run_dir={path}", "--steps=2000", "--seed=3")
    assert (values.steps, values.seed) == (2000, 3)
    open_run_directory(values.env, values, module=__name__).write_flags()
    assert parsed("--resume", f"--run_dir={path}").steps == 2000


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--noanimation", False),
        ("--evaluation_episodes=3", 3),
        ("--threads=2", 2),
        ("--checkpoint_every=5", 5),
    ],
)
def test_what_does_not_change_learning_may_change(start_run, argument, value):
    path = start_run()
    values = parsed("--resume", f"--run_dir={path}", argument)
    name = argument.partition("=")[0].lstrip("-").removeprefix("no")
    assert values[name].value == value


@pytest.mark.parametrize(
    ("argument", "stored"),
    [
        ("--learning_rate=0.2", "--learning_rate=0.1"),
        ("--env=Pendulum-v1", "--env=CartPole-v1"),
        ("--epochs=5", "--epochs=4"),
        ("--kl_stop=0.1", "--kl_stop=None"),
        ("--nomixed_precision", "--mixed_precision=True"),
    ],
)
def test_a_flag_that_contradicts_the_run_is_refused(start_run, argument, stored):
    path = start_run("--learning_rate=0.1", "--mixed_precision")
    name = argument.partition("=")[0].replace("--no", "--")
    with pytest.raises(UserError, match=f"{name}=.* contradicts {stored} of the run"):
        parsed("--resume", f"--run_dir={path}", argument)


def test_what_cannot_be_resumed_is_said(start_run, tmp_path):
    with pytest.raises(UserError, match="--resume: give the run"):
        parsed("--resume")
    with pytest.raises(UserError, match="there is no run to resume"):
        parsed("--resume", f"--run_dir={tmp_path}/nowhere")
    path = start_run()
    with pytest.raises(UserError, match="this is a run of ppo, not of a2c"):
        parse_flags(["a2c.py", "--resume", f"--run_dir={path}"], new_flags())
    with open(path / "flags.txt", "a") as file:
        file.write("--of_old=1\n")
    with pytest.raises(UserError, match=r"flags.txt: Unknown command line flag"):
        parsed("--resume", f"--run_dir={path}")


def test_a_run_tells_which_environment_it_was_in(start_run):
    path = start_run("--env=Reacher-v5", "--action_bounds=none", "--seed=4")
    argv = ["evaluate.py", "--seed=1", "--video=x.gif", "--action_bounds=rescale"]
    values = environment_flags_of_run(path / "flags.txt", argv)
    assert (values.env, values.action_bounds) == ("Reacher-v5", "rescale")
