"""Settings for all tests."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

import pytest
import tensorflow as tf

from tests.programs import Programs

# Two logical devices, to test what is spread over several.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)


@pytest.fixture(scope="session")
def programs():
    """Runs the experiments as programs; see `Programs`."""
    server = Programs()
    yield server
    server.close()


@pytest.fixture(scope="module", autouse=True)
def _few_objects_to_collect():
    """Keeps the garbage collector from the graphs of modules that are done.

    They stay as long as the process does, and it would look through all of them again
    and again.
    """
    yield
    gc.collect()
    gc.freeze()
