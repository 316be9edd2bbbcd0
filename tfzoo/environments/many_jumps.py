"""A plane that is crossed in jumps, of which there are thousands.

Made for agents of large discrete action sets (Dulac-Arnold et al. 2015,
arXiv:1512.07679): actions have a structure that a policy can use, and flaws that it
must look for among similar ones.
"""

import math

import numpy as np
import tensorflow as tf
from gymnasium import spaces

from tfzoo import random
from tfzoo.environments.in_graph import InGraphEnvironment

_NUM_ACTIONS = 2908
_LONGEST = 0.3
_BROKEN = 0.3  # the share of jumps that fail
_COST = 0.5  # of one that fails
_REACHED = 0.03


def _jumps():
    """Returns the jumps [A, 2], spread evenly over a disc, and which fail, [A]."""
    # Vogel's spiral: equal areas, turned by the golden angle.
    rank = np.arange(_NUM_ACTIONS)
    radius = _LONGEST * np.sqrt((rank + 0.5) / _NUM_ACTIONS)
    angle = rank * math.pi * (3.0 - math.sqrt(5.0))
    jumps = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    fails = np.random.default_rng(2908).random(_NUM_ACTIONS) < _BROKEN
    return jumps.astype(np.float32), fails


class ManyJumps(InGraphEnvironment):
    """Reach a goal on the plane, by one of 2,908 jumps in each step.

    The physics and the observation are float32 [N, 4]: the position and the goal, in
    [-1, 1]. A step costs the distance to the goal after it, and 0.5 where the jump was
    one of the 30 % that fail, which do not move; the goal is reached, with a reward of
    1, within 0.03 of it. The best policy needs some four jumps.

    Attributes:
      action_embedding: float32 [2908, 3], of each action the jump, and 0.02 where it
        fails, else 0: so little that the nearest action to another may well fail.
    """

    id = "ManyJumps-v0"
    max_episode_steps = 50
    observation_space = spaces.Box(-1.0, 1.0, (4,))
    action_space = spaces.Discrete(_NUM_ACTIONS)
    _JUMPS, _FAILS = _jumps()
    action_embedding = np.concatenate(
        [_JUMPS, 0.02 * _FAILS[:, np.newaxis]], axis=1
    ).astype(np.float32)

    def initial(self, seed):
        """Draws position and goal uniformly."""
        return random.uniform([self.num_envs, 4], seed, -1.0, 1.0)

    def transition(self, physics, action):
        """Jumps, or fails to."""
        position, goal = tf.split(physics, 2, axis=1)
        fails = tf.gather(tf.constant(self._FAILS), action)
        jump = tf.gather(tf.constant(self._JUMPS), action)
        moved = tf.clip_by_value(position + jump, -1.0, 1.0)
        position = tf.where(fails[:, tf.newaxis], position, moved)
        distance = tf.norm(position - goal, axis=1)
        reached = distance < _REACHED
        reward = -distance - _COST * tf.cast(fails, tf.float32)
        reward += tf.cast(reached, tf.float32)
        return tf.concat([position, goal], axis=1), reward, reached
