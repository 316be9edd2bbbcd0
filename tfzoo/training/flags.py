"""The flags that experiments share, and how a run is repeated and resumed from them.

An experiment calls `define_training_flags` with its defaults where it defines its own
flags; they then are the experiment's, in its `--helpshort`, too.
"""

import ast
import math
import pathlib
import sys

from absl import flags

from tfzoo.training.devices import describe_devices
from tfzoo.training.errors import UserError
from tfzoo.training.run_directory import RunDirectory, new_default_path

# The flags below belong to the module that calls the functions below.
flags.disclaim_key_flags()

# A flagfile that repeats a run must not name the directory of that run.
_NOT_STORED = ("run_dir", "resume")
# These may differ from the stored ones when a run is resumed.
_MAY_CHANGE = (
    "animation",
    "cache_dir",
    "checkpoint_every",
    "data_dir",
    "evaluation_episodes",
    "inception",
    "num_epochs",
    "num_workers",
    "pictures_every",
    "steps",
    "threads",
)
_EXPERIMENT = "# experiment: "
# Arguments of `make` that are no arguments of an environment.
_NOT_THE_ENVIRONMENTS = (
    "id",
    "num_envs",
    "num_workers",
    "vectorization",
    "action_bounds",
    "reward_transform",
    "render_mode",
)


def define_environment_flags(*, env, flag_values=flags.FLAGS):
    """Defines --env, --env_arguments, --action_bounds and --vectorization.

    Args:
      env: the default environment, or None.
      flag_values: where to define them.
    """
    flags.DEFINE_string(
        "env", env, "Environment: a Gymnasium id.", flag_values=flag_values
    )
    flags.DEFINE_list(
        "env_arguments",
        [],
        "Arguments of the environment, as name=value,name=value.",
        flag_values=flag_values,
    )
    flags.register_validator(
        "env_arguments",
        lambda pairs: all("=" in pair for pair in pairs),
        message="must be name=value,name=value",
        flag_values=flag_values,
    )
    flags.DEFINE_enum(
        "action_bounds",
        "clip",
        ["clip", "rescale", "none"],
        "What happens to continuous actions: clipped to the bounds of the space, "
        "[-1, 1] rescaled onto them, or passed as they are.",
        flag_values=flag_values,
    )
    flags.DEFINE_enum(
        "vectorization",
        "auto",
        ["auto", "in_graph", "sync", "async", "workers"],
        "Where the copies run: in the graph, in this process, each in a process of its "
        "own, or in --num_workers processes that act by themselves; auto takes the "
        "graph where it can.",
        flag_values=flag_values,
    )


def define_training_flags(
    *,
    env,
    num_envs,
    steps,
    learning_rate,
    checkpoint_every=100_000,
    threads=1,
    distribute="none",
    steps_help="Environment steps to train for, over all copies.",
    flag_values=flags.FLAGS,
):
    """Defines the flags of all experiments with agents.

    Args:
      env: the default of --env, as the next are those of flags of their names.
      num_envs: see --num_envs.
      steps: see --steps.
      learning_rate: see --learning_rate.
      checkpoint_every: see --checkpoint_every.
      threads: see --threads.
      distribute: see --distribute; None defines no such flag.
      steps_help: what --helpshort says about --steps.
      flag_values: where to define them.
    """
    define_environment_flags(env=env, flag_values=flag_values)
    define_run_flags(
        learning_rate=learning_rate,
        checkpoint_every=checkpoint_every,
        checkpoint_help="Environment steps between checkpoints.",
        threads=threads,
        distribute=distribute,
        default_run_dir="runs/EXPERIMENT-ENVIRONMENT-TIME",
        longer="--steps",
        flag_values=flag_values,
    )

    def integer(name, default, help, lower_bound=1):
        flags.DEFINE_integer(
            name, default, help, lower_bound=lower_bound, flag_values=flag_values
        )

    integer("num_envs", num_envs, "Copies of the environment.")
    integer(
        "num_workers",
        None,
        "Processes of --vectorization=workers; by default one a core. The run does not "
        "depend on their number.",
        lower_bound=0,
    )
    integer("steps", steps, steps_help)


def define_run_flags(
    *,
    learning_rate,
    checkpoint_every,
    checkpoint_help,
    threads,
    distribute,
    default_run_dir,
    longer,
    flag_values=flags.FLAGS,
):
    """Defines the flags that all experiments share.

    Args:
      learning_rate: the default of --learning_rate, as the next are those of flags of
        their names; None defines no such flag.
      checkpoint_every: see --checkpoint_every.
      checkpoint_help: what --helpshort says about --checkpoint_every.
      threads: see --threads.
      distribute: see --distribute; None defines no such flag.
      default_run_dir: what --helpshort says about it.
      longer: the flag of which more may be given when a run is resumed.
      flag_values: where to define them.
    """

    def integer(name, default, help, lower_bound=1):
        flags.DEFINE_integer(
            name, default, help, lower_bound=lower_bound, flag_values=flag_values
        )

    integer("seed", 0, "The same seed gives the same run.", lower_bound=0)
    integer("checkpoint_every", checkpoint_every, checkpoint_help)
    integer(
        "threads",
        threads,
        "Threads within one operation; small networks are fastest on one. 0 lets "
        "TensorFlow choose.",
        lower_bound=0,
    )
    if learning_rate is not None:
        flags.DEFINE_float(
            "learning_rate", learning_rate, "Learning rate.", flag_values=flag_values
        )
        flags.register_validator(
            "learning_rate",
            lambda rate: 0 < rate < math.inf,
            message="must be a positive number",
            flag_values=flag_values,
        )
    flags.DEFINE_string(
        "run_dir",
        None,
        f"Where to put the run; by default {default_run_dir}.",
        flag_values=flag_values,
    )
    flags.DEFINE_boolean(
        "resume",
        False,
        "Go on with the run in --run_dir. Its flags are read from there; more "
        f"{longer} may be given.",
        flag_values=flag_values,
    )
    flags.DEFINE(
        _AutoOrBoolean(),
        "jit_compile",
        "auto",
        "Whether XLA compiles the work: auto, true or false.",
        flag_values=flag_values,
        serializer=flags.ArgumentSerializer(),
    )
    flags.DEFINE_boolean(
        "mixed_precision",
        False,
        "Compute in bfloat16; variables stay float32.",
        flag_values=flag_values,
    )
    if distribute is not None:
        flags.DEFINE_enum(
            "distribute",
            distribute,
            ["none", "mirrored"],
            "Whether to split the work over all visible devices.",
            flag_values=flag_values,
        )


def define_fraction(name, default, help):
    """Defines the flag of a number from 0 to 1.

    Args:
      name: of the flag.
      default: a number, or None.
      help: what --helpshort says about it.
    """
    flags.DEFINE_float(name, default, help)
    flags.register_validator(
        name,
        lambda value: value is None or 0 <= value <= 1,
        message="must be between 0 and 1",
    )


def define_at_least_zero(name, default, help):
    """Defines the flag of a number that is finite and not negative.

    (absl's own bounds let NaN pass, and infinity.)

    Args:
      name: of the flag.
      default: a number, or None.
      help: what --helpshort says about it.
    """
    flags.DEFINE_float(name, default, help)
    flags.register_validator(
        name,
        lambda value: value is None or 0 <= value < math.inf,
        message="must be finite and not negative",
    )


def define_widths(name, help):
    """Defines the flag of a list of positive integers, which is None by default.

    Args:
      name: of the flag.
      help: what --helpshort says about it.
    """
    flags.DEFINE_list(name, None, help)
    flags.register_validator(
        name,
        lambda texts: all(t.isdecimal() and int(t) > 0 for t in texts or ()),
        message="must be positive integers, as 64,64",
    )


def widths(name, flag_values=flags.FLAGS):
    """Returns the integers of a flag of `define_widths` as a tuple, or None."""
    texts = flag_values[name].value
    return texts and tuple(map(int, texts))


class _AutoOrBoolean(flags.ArgumentParser):
    """Parses auto, true or false to "auto", True or False."""

    def parse(self, argument):
        values = {"auto": "auto", "true": True, "false": False}
        key = str(argument).lower()
        if key not in values:
            raise ValueError("must be auto, true or false")
        return values[key]

    def flag_type(self):
        return "auto or bool"


def environment_options(flag_values=flags.FLAGS):
    """Returns the arguments that `make` and `record_episode` share, as a dict."""
    options = {"action_bounds": flag_values.action_bounds}
    for pair in flag_values.env_arguments:
        name, _, text = pair.partition("=")
        if name in _NOT_THE_ENVIRONMENTS:
            raise UserError(
                f"--env_arguments={pair}: {name} is no argument of the environment "
                "itself; other flags set it"
            )
        try:
            options[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[name] = text
    return options


def environment_flags_of_run(flags_file, argv):
    """Returns the environment flags of a run, those given in `argv` taking precedence.

    Args:
      flags_file: the `flags.txt` of the run.
      argv: as `sys.argv`; other flags are passed over.

    Returns:
      An `absl.flags.FlagValues` with what `define_environment_flags` defines.
    """
    values = flags.FlagValues()
    define_environment_flags(env=None, flag_values=values)
    values([argv[0], f"--flagfile={flags_file}", *argv[1:]], known_only=True)
    return values


def parse_flags(argv, flag_values=flags.FLAGS, module="__main__"):
    """Parses the command line; `--resume` stands for all flags of the run to resume.

    Args:
      argv: as `sys.argv`.
      flag_values: what to parse into.
      module: the name of the module whose flags are the experiment's.

    Returns:
      The arguments that are no flags, the program's name first.

    Raises:
      absl.flags.Error: if a flag is unknown or its value wrong.
      UserError: if there is an argument that is no flag, or if a run cannot be resumed
        with these flags.
    """
    arguments = flag_values(argv)
    if len(arguments) > 1:
        raise UserError(
            f"unexpected argument {arguments[1]!r}; flags are written --name=value"
        )
    if "resume" in flag_values and flag_values.resume:
        own_flags = flag_values.get_key_flags_for_module(module)
        _parse_stored(argv[0], flag_values, own_flags)
    return arguments


def _parse_stored(program, flag_values, own_flags):
    if flag_values.run_dir is None:
        raise UserError("--resume: give the run to go on with as --run_dir=DIRECTORY")
    file = pathlib.Path(flag_values.run_dir, "flags.txt")
    try:
        first_line = file.read_text("utf8").partition("\n")[0]
    except OSError as error:
        raise UserError(
            f"--run_dir={flag_values.run_dir}: there is no run to resume, {file} "
            f"cannot be read: {error.strerror}"
        ) from error
    if first_line != _EXPERIMENT + _experiment(program):
        raise UserError(
            f"--run_dir={flag_values.run_dir}: this is a run of "
            f"{first_line.removeprefix(_EXPERIMENT)}, not of {_experiment(program)}"
        )
    given = {flag.name: flag.value for flag in own_flags if flag.present}
    for name in given:
        flag_values[name].unparse()
    try:
        flag_values([program, f"--flagfile={file}"])
    except flags.Error as error:
        raise UserError(f"{file}: {error}") from error
    for name, value in given.items():
        stored = flag_values[name].value
        if name not in (*_NOT_STORED, *_MAY_CHANGE) and value != stored:
            raise UserError(
                f"--{name}={value} contradicts --{name}={stored} of the run in "
                f"{file.parent}; leave it out, or start a new run in another directory"
            )
        flag_values[name].value = value


def open_run_directory(subject, flag_values=flags.FLAGS, module="__main__"):
    """Returns the `RunDirectory` that --run_dir and --resume ask for.

    Its `flags.txt` will hold every flag of the experiment, with its value.

    Args:
      subject: what the run is about, such as --env; it names the default directory.
      flag_values: where the flags are.
      module: the name of the module whose flags are the experiment's.

    Raises:
      UserError: as `RunDirectory` does.
    """
    program = sys.argv[0]
    path = flag_values.run_dir
    if path is None:
        path = new_default_path(_experiment(program), subject)
    lines = [
        _EXPERIMENT + _experiment(program),
        f"# to repeat: python {program} --flagfile={path}/flags.txt",
        f"# {describe_devices()}",
    ]
    experiment_flags = flag_values.get_key_flags_for_module(module)
    for flag in sorted(experiment_flags, key=lambda flag: flag.name):
        if flag.name not in _NOT_STORED and flag.value is not None:
            lines.append(flag.serialize())
    resume = flag_values.resume if "resume" in flag_values else None
    return RunDirectory(path, resume=resume, flags="\n".join(lines) + "\n")


def _experiment(program):
    return pathlib.Path(program).stem
