"""Worlds: in-graph environments and the bridge to Gymnasium."""

from tfzoo.environments.acrobot import Acrobot
from tfzoo.environments.cartpole import (
    CartPole,
    CartPoleFlickering,
    CartPolePositions,
    CartPoleV0,
)
from tfzoo.environments.environment import Environment, TimeStep
from tfzoo.environments.errors import (
    MissingPackageError,
    UnknownEnvironmentError,
    UnsupportedSpaceError,
)
from tfzoo.environments.host import HostEnvironment
from tfzoo.environments.in_graph import InGraphEnvironment, State
from tfzoo.environments.many_jumps import ManyJumps
from tfzoo.environments.mountain_car import MountainCar, MountainCarContinuous
from tfzoo.environments.numpy_policy import NumpyPolicy
from tfzoo.environments.parallel_rollouts import ParallelRollouts, RolloutWorkerError
from tfzoo.environments.pendulum import Pendulum
from tfzoo.environments.recording import record_episode
from tfzoo.environments.registry import IN_GRAPH_ENVIRONMENTS, make

__all__ = [
    "IN_GRAPH_ENVIRONMENTS",
    "Acrobot",
    "CartPole",
    "CartPoleFlickering",
    "CartPolePositions",
    "CartPoleV0",
    "Environment",
    "HostEnvironment",
    "InGraphEnvironment",
    "ManyJumps",
    "MissingPackageError",
    "MountainCar",
    "MountainCarContinuous",
    "NumpyPolicy",
    "ParallelRollouts",
    "Pendulum",
    "RolloutWorkerError",
    "State",
    "TimeStep",
    "UnknownEnvironmentError",
    "UnsupportedSpaceError",
    "make",
    "record_episode",
]
