"""What the agents' tests share: a linear actor-critic, worked out by hand in NumPy.

    pi(a|s) = softmax(s W + b)_a,    V(s) = s w + c

With it come the data that it learns from.
"""

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from tfzoo.agents import Trajectory

NUM_ACTIONS = 3
SPACES = (gym.spaces.Box(-np.inf, np.inf, (2,)), gym.spaces.Discrete(NUM_ACTIONS))

# Six steps of three copies. The first copy ends by termination, truncation and, with
# the last step, termination; the second is cut off twice, the second time with the last
# step; the third terminates, then does so at the time limit, and is left under way.
TERMINATED = np.array(
    [[0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 1], [1, 0, 0]], bool
)
TRUNCATED = np.array(
    [[0, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]], bool
)
DONE = TERMINATED | TRUNCATED


def make_trajectory(seed=0, num_features=2, num_actions=NUM_ACTIONS):
    """A `Trajectory` of arrays [6, 3, ...] that ends as above."""
    rng = np.random.default_rng(seed)
    final_observation = rng.normal(size=(*DONE.shape, num_features)).astype("float32")
    observation = rng.normal(size=final_observation.shape).astype("float32")
    # Within an episode, what follows an action is what is seen next.
    observation[1:] = np.where(
        DONE[:-1, :, None], observation[1:], final_observation[:-1]
    )
    return Trajectory(
        observation=observation,
        action=rng.integers(0, num_actions, DONE.shape).astype("int32"),
        reward=rng.normal(1.0, 2.0, DONE.shape).astype("float32"),
        terminated=TERMINATED,
        truncated=TRUNCATED,
        final_observation=final_observation,
    )


def as_tensors(trajectory):
    return tf.nest.map_structure(tf.constant, trajectory)


def linear_network(
    seed=0, num_features=2, num_actions=NUM_ACTIONS, kernel_regularizer=None
):
    """A `keras.Model` with the weights W, b, w, c, in this order."""
    features = keras.Input((num_features,))
    outputs, values = (
        keras.layers.Dense(width, kernel_regularizer=kernel_regularizer)(features)
        for width in (num_actions, 1)
    )
    network = keras.Model(features, (outputs, values))
    rng = np.random.default_rng(seed)
    network.set_weights([rng.normal(0.0, 0.7, w.shape) for w in network.weights])
    return network


def log_softmax(logits):
    return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))


class LinearActorCritic:
    """The formulas at the top in float64, from the weights of a `linear_network`."""

    def __init__(self, network):
        self.weights = [np.array(w, np.float64) for w in network.get_weights()]

    def log_probs(self, observation):
        """log pi(.|s), [..., A]."""
        return log_softmax(observation @ self.weights[0] + self.weights[1])

    def values(self, observation):
        """V(s), [...]."""
        return (observation @ self.weights[2] + self.weights[3])[..., 0]

    def descend(self, learning_rate, observation, by_logits, by_values):
        """One step of gradient descent, given the loss's gradients by the outputs.

        Args:
          observation: [B, D].
          by_logits: [B, A], the gradient by the logits of each sample.
          by_values: [B], the gradient by the values.
        """
        by_values = by_values[:, None]
        gradients = (
            observation.T @ by_logits,
            by_logits.sum(axis=0),
            observation.T @ by_values,
            by_values.sum(axis=0),
        )
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight -= learning_rate * gradient


def one_hot(action):
    return np.eye(NUM_ACTIONS)[action]


def entropy(log_probs):
    return -np.sum(np.exp(log_probs) * log_probs, axis=-1)


def entropy_by_logits(log_probs):
    """dH / d logits = -pi (log pi + H)."""
    return -np.exp(log_probs) * (log_probs + entropy(log_probs)[..., None])


def lambda_returns(rewards, final_values, discount, gae_lambda):
    """The value targets of a trajectory that ends as above, [T, N], from V(s'_t).

    R_t = r_t + discount ((1 - lambda) V(s'_t) + lambda R_{t+1}), with V(s'_t) alone
    where an episode is cut off or nothing follows, and 0 where it has terminated.
    """
    returns = np.zeros(rewards.shape)
    num_steps, num_envs = rewards.shape
    for n in range(num_envs):
        for t in reversed(range(num_steps)):
            following = final_values[t, n]
            if TERMINATED[t, n]:
                following = 0.0
            elif not TRUNCATED[t, n] and t + 1 < num_steps:
                following += gae_lambda * (returns[t + 1, n] - following)
            returns[t, n] = rewards[t, n] + discount * following
    return returns


def standardized(advantage):
    return (advantage - advantage.mean()) / advantage.std()


def flat(x):
    """[T, N, ...] to [T N, ...]."""
    return x.reshape(-1, *x.shape[2:])


def assert_same_weights(network, expected, rtol=1e-4, atol=1e-6):
    for got, weight in zip(network.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, weight, rtol=rtol, atol=atol)
