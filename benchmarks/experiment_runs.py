"""Experiments that a benchmark needs, as programs of their own."""

import json
import pathlib
import subprocess
import sys

from tfzoo.training import UserError

_EXPERIMENTS = pathlib.Path(__file__).parents[1] / "experiments"
CONFIGS = _EXPERIMENTS / "configs"


def finished_experiment(name, directory, flags):
    """Runs, resumes or finds an experiment; returns its evaluation, a dict.

    Args:
      name: of the file in experiments.
      directory: its run directory.
      flags: those of a run that is begun, a list. A run that is there must have been
        begun with the same; what is in a flagfile is not compared.

    Raises:
      UserError: if the run that is there has other flags, or the experiment fails.
    """
    directory = pathlib.Path(directory).absolute()
    evaluation = directory / "evaluation.json"
    check_flags(directory, flags)
    if (directory / "flags.txt").exists():
        flags = ["--resume"]
    if not evaluation.exists():
        command = [sys.executable, str(_EXPERIMENTS / f"{name}.py"), *flags]
        command += [f"--run_dir={directory}"]
        status = subprocess.run(command, stdout=sys.stderr).returncode
        if status:
            raise UserError(f"{directory}: its experiment ended with status {status}")
    return json.loads(evaluation.read_text("utf8"))


def check_flags(directory, flags):
    """Raises `UserError` if a run that is there was begun with other flags.

    Args:
      directory, flags: see `finished_experiment`.
    """
    path = directory / "flags.txt"
    if not path.exists():
        return
    lines = path.read_text("utf8").splitlines()
    recorded = dict(line.split("=", 1) for line in lines if "=" in line)
    for flag in flags:
        name, _, value = flag.partition("=")
        if name in recorded and _number(value) != _number(recorded[name]):
            raise UserError(
                f"{directory}: it was begun with {name}={recorded[name]}, not {flag}; "
                "move it away, or name another folder by --runs"
            )


def _number(text):
    try:
        return float(text)
    except ValueError:
        return text
