"""Installs tfzoo; the dependency ranges are those that the tests have been run with."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "tfzoo" / "__init__.py").read_text("utf8")
).group(1)

EXTRAS = {
    "gpu": ["tensorflow[and-cuda]==2.21.*"],
    "mujoco": ["gymnasium[mujoco]>=1.2,<2"],
    "atari": ["ale-py>=0.11,<1", "opencv-python-headless>=4.8"],
    "box2d": ["gymnasium[box2d]>=1.2,<2"],
    "video": ["imageio[ffmpeg]>=2.34,<3"],
    "bench": [
        "gymnasium[mujoco]>=1.2,<2",
        "sb3-contrib>=2.7,<3",
        "stable-baselines3>=2.7,<3",
        "torch>=2.6,<3",
    ],
    "dev": [
        "ale-py>=0.11,<1",
        "gymnasium[mujoco]>=1.2,<2",
        "hypothesis>=6.100,<7",
        "imageio[ffmpeg]>=2.34,<3",
        "opencv-python-headless>=4.8",
        "pytest>=8",
        "pytest-xdist>=3.5",
        "ruff==0.17.*",
        "scipy>=1.11",
    ],
}

setup(
    name="tfzoo",
    version=VERSION,
    description=(
        "A static-graph TensorFlow/Keras zoo of reinforcement-learning agents and "
        "generative models: one XLA program each, measured, resumable, servable."
    ),
    long_description=(ROOT / "README.md").read_text("utf8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["tfzoo", "tfzoo.*"]),
    python_requires=">=3.10,<3.14",
    install_requires=[
        "absl-py>=2.1,<3",
        "cloudpickle>=2.2,<4",
        "gymnasium[classic-control]>=1.2,<2",
        "imageio>=2.34,<3",
        "keras>=3.12,<4",
        "matplotlib>=3.8,<4",
        # tensorflow-datasets imports it to download, and does not ask for it
        # (tensorflow/datasets#11212).
        "importlib_resources>=6,<8",
        "numpy>=1.26,<3",
        "pillow>=10,<14",
        "scikit-learn>=1.4,<2",
        "scipy>=1.11,<2",
        "tensorboard>=2.20,<3",
        "tensorflow==2.21.*",
        "tensorflow-datasets>=4.9.8,<5",
        "tensorflow-probability[tf]==0.25.*",
    ],
    extras_require=EXTRAS,
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
