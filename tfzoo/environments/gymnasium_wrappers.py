"""Wrappers of Gymnasium environments, for the recipes.

The functions here return functions that are made in them, and so are pickled by value:
worker processes, which unpickle them, must not import this package.
"""

import gymnasium as gym
import numpy as np


def ending_with_a_life():
    """Returns what lets an Atari episode terminate with a life, and the game go on."""

    class EndsWithALife(gym.Wrapper):
        """Terminates where a life is lost; the game goes on with the next episode."""

        lives, game_is_over = 0, True

        def step(self, action):
            observation, reward, terminated, truncated, info = self.env.step(action)
            self.game_is_over = terminated or truncated
            lives = self.unwrapped.ale.lives()
            terminated |= 0 < lives < self.lives
            self.lives = lives
            return observation, reward, terminated, truncated, info

        def reset(self, *, seed=None, options=None):
            if self.game_is_over or seed is not None:
                observation, info = self.env.reset(seed=seed, options=options)
            else:
                observation, _, terminated, truncated, info = self.env.step(0)
                if terminated or truncated:
                    observation, info = self.env.reset(options=options)
            self.game_is_over = False
            self.lives = self.unwrapped.ale.lives()
            return observation, info

    return lambda environment: EndsWithALife(environment)


def positions():
    """Returns what shows position and angle of CartPole, and hides the velocities."""

    def wrap(environment):
        space = environment.observation_space
        return gym.wrappers.TransformObservation(
            environment,
            lambda observation: observation[[0, 2]],
            gym.spaces.Box(space.low[[0, 2]], space.high[[0, 2]]),
        )

    return wrap


def flickering():
    """Returns what replaces every second observation, at random, by zeros."""

    def wrap(environment):
        def flicker(observation):
            is_shown = environment.unwrapped.np_random.random() < 0.5
            return observation if is_shown else np.zeros_like(observation)

        return gym.wrappers.TransformObservation(
            environment, flicker, environment.observation_space
        )

    return wrap
