"""Experiments that a benchmark needs, as programs of their own."""

import json
import pathlib
import subprocess
import sys

from tfzoo.training import UserError

_ROOT = pathlib.Path(__file__).parents[1]


def finished_experiment(name, directory, flags):
    """Runs, resumes or finds an experiment; returns its evaluation, a dict.

    What is finished is taken as it is: where flags change, the folder is to be emptied
    or another one named.

    Args:
      name: of the file in experiments.
      directory: its run directory.
      flags: those of a run that is begun, a list.

    Raises:
      UserError: if the experiment fails.
    """
    directory = pathlib.Path(directory).absolute()
    evaluation = directory / "evaluation.json"
    if not evaluation.exists():
        if (directory / "flags.txt").exists():
            flags = ["--resume"]
        command = [sys.executable, f"experiments/{name}.py", *flags]
        command += [f"--run_dir={directory}"]
        status = subprocess.run(command, cwd=_ROOT, stdout=sys.stderr).returncode
        if status:
            raise UserError(f"{directory}: its experiment ended with status {status}")
    return json.loads(evaluation.read_text("utf8"))
