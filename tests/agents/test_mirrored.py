"""Two devices learn what one learns from the same data."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo import environments, random
from tfzoo.agents import A2C, PPO, REINFORCE, actor_critic, policy_for
from tfzoo.agents.mirrored import MirroredTraining


@pytest.fixture(scope="module")
def strategy():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def build(make, environment, optimizer=None, **options):
    agent = make(environment.observation_space, environment.action_space, seed=3)
    agent.compile(optimizer() if optimizer else keras.optimizers.SGD(0.1), **options)
    return agent


@pytest.mark.parametrize("optimizer", ["plain", "clipping"])
@pytest.mark.parametrize(
    "make",
    [
        functools.partial(
            PPO,
            num_steps=8,
            epochs=2,
            minibatches=4,
            normalize_observations=True,
            normalize_rewards=True,
        ),
        functools.partial(A2C, num_steps=5, normalize_advantages=True),
    ],
    ids=["ppo", "a2c"],
)
def test_two_devices_learn_what_one_learns_from_the_same_data(
    strategy, make, optimizer
):
    # Plain gradient descent shows any factor that is wrong; Adam would hide it.
    make_optimizer = functools.partial(
        keras.optimizers.SGD,
        0.1,
        global_clipnorm=0.05 if optimizer != "plain" else None,
    )
    environment = environments.make("CartPole-v1", 4)
    one = build(make, environment, make_optimizer)
    one.prepare(environment)
    trajectory, _, _ = one.collect(environment, one.read_carried(), random.make_seed(1))
    start = [np.array(w) for w in one.get_weights()]
    metrics = one.learn(trajectory, random.make_seed(2))

    with strategy.scope():
        two = build(make, environment, make_optimizer)
    two.prepare(environment)
    training = MirroredTraining(two, environment, strategy)
    both = training.learn(trajectory, random.make_seed(2))

    for name in metrics:
        np.testing.assert_allclose(both[name], metrics[name], rtol=1e-4, atol=1e-5)
    after = one.get_weights()
    assert max(np.abs(a - b).max() for a, b in zip(start, after, strict=True)) > 1e-3
    for a, b in zip(after, two.get_weights(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=2e-6)


def test_fit_over_two_devices_learns(strategy):
    environment = environments.make("CartPole-v1", 8)
    with strategy.scope():
        agent = build(
            functools.partial(PPO, num_steps=32, epochs=4, minibatches=2),
            environment,
            functools.partial(keras.optimizers.Adam, 3e-3),
        )
    before = agent.evaluate(environment, 20)["mean"]
    history = agent.fit(environment, 256 * 15, verbose=0).history
    assert history["steps"][-1] == agent.env_steps == 256 * 15
    assert history["episodes"][0] > 0
    assert agent.evaluate(environment, 20)["mean"] > before + 20


def test_two_devices_run_eagerly_as_in_the_graph(strategy):
    environment = environments.make("CartPole-v1", 4)
    trained = []
    for run_eagerly in (False, True):
        with strategy.scope():
            agent = build(
                functools.partial(PPO, num_steps=4, epochs=1, minibatches=2),
                environment,
                run_eagerly=run_eagerly,
            )
        assert not agent.jit_compile
        agent.fit(environment, 32, verbose=0)
        trained.append(agent.get_weights())
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)


def test_xla_on_two_devices_is_refused(strategy):
    environment = environments.make("CartPole-v1", 4)
    with strategy.scope():
        agent = build(A2C, environment, jit_compile=True)
    with pytest.raises(ValueError, match="jit_compile=True cannot be had on several"):
        agent.fit(environment, 1000, verbose=0)


@pytest.mark.parametrize(
    ("make", "env", "num_envs", "message"),
    [
        (functools.partial(A2C, num_steps=4), "in_graph", 3, "num_envs=3 cannot be"),
        (A2C, "sync", 2, "only in-graph environments"),
        (REINFORCE, "in_graph", 4, "REINFORCE cannot be"),
    ],
)
def test_what_cannot_be_split_is_refused(strategy, make, env, num_envs, message):
    environment = environments.make("CartPole-v1", num_envs, vectorization=env)
    with strategy.scope():
        agent = build(make, environment)
    with pytest.raises(ValueError, match=message):
        agent.fit(environment, 1000, verbose=0)


def test_a_weight_that_the_loss_does_not_use_stays(strategy):
    environment = environments.make("CartPole-v1", 4)
    shape = environment.observation_space.shape

    def make(*spaces, **options):
        network = actor_critic(shape, policy_for(spaces[1]), hidden_units=(4,))
        unused = keras.layers.Dense(3, name="unused")
        unused(network.inputs[0])
        network.unused = unused
        return PPO(*spaces, network=network, num_steps=4, minibatches=2, **options)

    with strategy.scope():
        agent = build(make, environment)
    before = np.array(agent.network.unused.kernel)
    agent.fit(environment, 32, verbose=0)
    np.testing.assert_array_equal(agent.network.unused.kernel, before)
