"""Marks for tests of environments whose packages are extras."""

import importlib.util

import pytest


def _needs(extra, *modules):
    installed = all(importlib.util.find_spec(module) for module in modules)
    return pytest.mark.skipif(not installed, reason=f"tfzoo[{extra}] is not installed")


needs_mujoco = _needs("mujoco", "mujoco")
needs_atari = _needs("atari", "ale_py", "cv2")
