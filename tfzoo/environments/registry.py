"""Environments by name."""

import os

from tfzoo.environments.acrobot import Acrobot
from tfzoo.environments.cartpole import (
    CartPole,
    CartPoleFlickering,
    CartPolePositions,
    CartPoleV0,
)
from tfzoo.environments.gymnasium_recipe import find_spec
from tfzoo.environments.host import VECTORIZATIONS, HostEnvironment
from tfzoo.environments.many_jumps import ManyJumps
from tfzoo.environments.mountain_car import MountainCar, MountainCarContinuous
from tfzoo.environments.parallel_rollouts import ParallelRollouts
from tfzoo.environments.pendulum import Pendulum

IN_GRAPH_ENVIRONMENTS = {
    "Acrobot-v1": Acrobot,
    "CartPoleFlickering-v1": CartPoleFlickering,
    "CartPolePositions-v1": CartPolePositions,
    "CartPole-v0": CartPoleV0,
    "CartPole-v1": CartPole,
    "ManyJumps-v0": ManyJumps,
    "MountainCar-v0": MountainCar,
    "MountainCarContinuous-v0": MountainCarContinuous,
    "Pendulum-v1": Pendulum,
}


def make(
    id,
    num_envs=1,
    *,
    vectorization="auto",
    num_workers=None,
    action_bounds="clip",
    reward_transform=None,
    max_episode_steps=None,
    **environment_kwargs,
):
    """Makes an environment.

      environment = make("CartPole-v1", num_envs=8)
      environment = make("Reacher-v5", 4, reward_control_weight=1)

    Args:
      id: a registered Gymnasium id.
      num_envs: N, the number of copies.
      vectorization: "in_graph", "sync" (copies in this process), "async" (each in a
        process, stepped one by one), "workers" (in processes that act by themselves,
        see `ParallelRollouts`), or "auto": in the graph where there is such a form,
        else "sync".
      num_workers: the processes of "workers"; by default as many as there are cores,
        but no more than copies.
      action_bounds: "clip", "rescale" or "none"; see `Environment`.
      reward_transform: what agents do to rewards before they learn from them; see
        `Environment`.
      max_episode_steps: the time limit, or None for the registered one.
      **environment_kwargs: arguments of the Gymnasium environment itself; in-graph
        forms take none.

    Returns:
      An InGraphEnvironment or a HostEnvironment.

    Raises:
      UnknownEnvironmentError: if no such environment is registered.
      UnsupportedSpaceError: if agents cannot handle one of its spaces.
      MissingPackageError: if a package that it needs is missing.
      ValueError: if another argument is not one of the above.
    """
    known = ("auto", "in_graph", *VECTORIZATIONS, "workers")
    if vectorization not in known:
        raise ValueError(
            f"vectorization must be one of {', '.join(map(repr, known))}, got "
            f"{vectorization!r}"
        )
    if num_workers is not None and vectorization != "workers":
        raise ValueError(
            f'num_workers={num_workers} goes with vectorization="workers", got '
            f"{vectorization!r}"
        )
    has_in_graph_form = id in IN_GRAPH_ENVIRONMENTS and not environment_kwargs
    in_graph = has_in_graph_form and vectorization in ("auto", "in_graph")
    if id == ManyJumps.id and not in_graph:
        raise ValueError(f"{id} has an in-graph form only, which takes no arguments")
    if vectorization == "in_graph" and not has_in_graph_form:
        if id not in IN_GRAPH_ENVIRONMENTS:
            find_spec(id)  # An unknown id is told with its nearest matches.
        raise ValueError(
            f"{id} with the arguments {environment_kwargs} has no in-graph form; "
            f"without arguments, {', '.join(IN_GRAPH_ENVIRONMENTS)} have one"
        )
    options = {
        "action_bounds": action_bounds,
        "reward_transform": reward_transform,
        "max_episode_steps": max_episode_steps,
    }
    if in_graph:
        return IN_GRAPH_ENVIRONMENTS[id](num_envs, **options)
    if vectorization == "workers":
        if num_workers is None:
            num_workers = min(os.cpu_count() or 1, num_envs)
        return ParallelRollouts(
            id, num_envs, num_workers, **options, **environment_kwargs
        )
    if vectorization == "auto":
        vectorization = "sync"
    return HostEnvironment(
        id, num_envs, vectorization=vectorization, **options, **environment_kwargs
    )
