"""Episodes as pictures."""

import numpy as np

from tfzoo.environments.gymnasium_recipe import missing_packages_named, recipe_for
from tfzoo.environments.spaces import action_map, delivered_dtype


def record_episode(
    id,
    policy,
    *,
    seed,
    max_episode_steps=None,
    action_bounds="clip",
    **environment_kwargs,
):
    """Plays one episode in the Gymnasium environment and keeps what it looks like.

    Args:
      id: a registered Gymnasium id.
      policy: a function from an observation [1, ...] to an action [1, ...].
      seed: an integer; seeds the environment.
      max_episode_steps: the time limit, or None for the registered one.
      action_bounds: "clip", "rescale" or "none"; see `Environment`.
      **environment_kwargs: arguments of the Gymnasium environment itself.

    Returns:
      (frames, episode return): a list of uint8 [H, W, 3], from the first state to the
      last, and a float.

    Raises:
      UnknownEnvironmentError, UnsupportedSpaceError, MissingPackageError: as `make`.
    """
    recipe = recipe_for(
        id, max_episode_steps, **{"render_mode": "rgb_array", **environment_kwargs}
    )
    with missing_packages_named(id, recipe.spec):
        environment = recipe.make()
    try:
        dtype = delivered_dtype(environment.observation_space)
        to_environment = action_map(environment.action_space, action_bounds, np)
        observation, _ = environment.reset(seed=int(seed))
        with missing_packages_named(id, recipe.spec):
            frames = [environment.render()]
        episode_return, done = 0.0, False
        while not done:
            action = policy(np.asarray(observation, dtype)[np.newaxis])
            observation, reward, terminated, truncated, _ = environment.step(
                to_environment(np.asarray(action))[0]
            )
            frames.append(environment.render())
            episode_return += float(reward)
            done = terminated or truncated
    finally:
        environment.close()
    return frames, episode_return
