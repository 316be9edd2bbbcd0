"""Runs scripts as programs of their own, without the seconds of an import each.

One process imports TensorFlow, which it does not start, and all of tfzoo, and forks for
each program. A program that exits ends without taking down the modules of the process
that it comes from, which would take as long as the imports.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]

_SERVER = """
import atexit, gc, json, os, runpy, sys, threading
import matplotlib.pyplot
import tensorflow as tf
import tensorflow_probability
import tests.training.fake_agent
import tfzoo.agents
import tfzoo.metrics
import tfzoo.models
import tfzoo.training.model_experiment
import tfzoo.training.off_policy_experiment
import tfzoo.training.policy_gradient_experiment

gc.collect()
gc.freeze()
for line in sys.stdin:
    argv, stdout, stderr, devices = json.loads(line)
    child = os.fork()
    if child == 0:
        for path, descriptor in (stdout, 1), (stderr, 2):
            os.dup2(os.open(path, os.O_WRONLY), descriptor)
        if devices > 1:
            tf.config.set_logical_device_configuration(
                tf.config.list_physical_devices("CPU")[0],
                [tf.config.LogicalDeviceConfiguration()] * devices,
            )
        sys.argv = argv
        sys.path.insert(0, os.path.dirname(argv[0]))
        status = 0
        try:
            runpy.run_path(argv[0], run_name="__main__")
        except SystemExit as exit:
            status = exit.code or 0
            if isinstance(status, str):
                print(status, file=sys.stderr)
                status = 1
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def wait_until(condition, pid):
    """Waits until `condition()` holds, or the process has ended."""
    while not condition():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.0005)


def signal_when(condition, number=signal.SIGKILL, *, seconds_later=0.0):
    """Returns a `meanwhile` that sends a signal some time after `condition()` holds."""

    def meanwhile(pid):
        wait_until(condition, pid)
        time.sleep(seconds_later)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    return meanwhile


class Result(NamedTuple):
    status: int
    stdout: str
    stderr: str


class Programs:
    """Runs one program after the other."""

    def __init__(self):
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            cwd=ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, script, *flags, meanwhile=lambda pid: None, devices=1):
        """Runs a script, given by its path in the project, to its end.

        `meanwhile` is called with the id of the process, while it runs; `devices` is
        the number of logical CPU devices that the script sees.
        """
        with tempfile.TemporaryDirectory() as directory:
            out, err = pathlib.Path(directory, "out"), pathlib.Path(directory, "err")
            out.touch()
            err.touch()
            request = [[script, *map(str, flags)], str(out), str(err), devices]
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            meanwhile(int(self._server.stdout.readline()))
            status = int(self._server.stdout.readline())
            return Result(status, out.read_text(), err.read_text())

    def close(self):
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()
