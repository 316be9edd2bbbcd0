"""Environments by name."""

from tfzoo.environments.acrobot import Acrobot
from tfzoo.environments.cartpole import CartPole, CartPoleV0
from tfzoo.environments.gymnasium_recipe import find_spec
from tfzoo.environments.host import VECTORIZATIONS, HostEnvironment
from tfzoo.environments.mountain_car import MountainCar, MountainCarContinuous
from tfzoo.environments.pendulum import Pendulum

IN_GRAPH_ENVIRONMENTS = {
    "Acrobot-v1": Acrobot,
    "CartPole-v0": CartPoleV0,
    "CartPole-v1": CartPole,
    "MountainCar-v0": MountainCar,
    "MountainCarContinuous-v0": MountainCarContinuous,
    "Pendulum-v1": Pendulum,
}


def make(
    id,
    num_envs=1,
    *,
    vectorization="auto",
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
      vectorization: "in_graph", "sync" (copies in this process), "async" (in worker
        processes), or "auto": in the graph where there is such a form, else "sync".
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
    known = ("auto", "in_graph", *VECTORIZATIONS)
    if vectorization not in known:
        raise ValueError(
            f"vectorization must be one of {', '.join(map(repr, known))}, got "
            f"{vectorization!r}"
        )
    has_in_graph_form = id in IN_GRAPH_ENVIRONMENTS and not environment_kwargs
    if vectorization == "in_graph" and not has_in_graph_form:
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
    if has_in_graph_form and vectorization in ("auto", "in_graph"):
        return IN_GRAPH_ENVIRONMENTS[id](num_envs, **options)
    if vectorization == "auto":
        vectorization = "sync"
    return HostEnvironment(
        id, num_envs, vectorization=vectorization, **options, **environment_kwargs
    )
