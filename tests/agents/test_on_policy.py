"""What PPO, A2C and REINFORCE share: modes, seeds, resuming, evaluation, bad input."""

import functools

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo import environments, random
from tfzoo.agents import A2C, PPO, REINFORCE, actor_critic, policy_for
from tfzoo.environments import InGraphEnvironment, UnsupportedSpaceError
from tfzoo.losses import DiagonalGaussianPolicy

AGENTS = {
    "ppo": functools.partial(PPO, num_steps=8, epochs=2, minibatches=2),
    "ppo with everything": functools.partial(
        PPO,
        num_steps=8,
        epochs=2,
        minibatches=2,
        value_clip=0.2,
        entropy_coefficient=0.01,
        kl_stop=0.05,
        normalize_observations=True,
        normalize_rewards=True,
    ),
    "ppo with a penalty": functools.partial(
        PPO, num_steps=8, epochs=2, minibatches=2, objective="kl_penalty"
    ),
    "a2c": functools.partial(A2C, num_steps=5, normalize_advantages=True),
    "reinforce": functools.partial(REINFORCE, num_steps=200),
}
# The smallest networks show the same, and compile sooner.
HIDDEN_UNITS = (8,)


def build(name, environment, *, seed=0, learning_rate=1e-2, **compile_arguments):
    spaces = environment.observation_space, environment.action_space
    policy = policy_for(spaces[1])
    shape = spaces[0].shape or (int(spaces[0].n),)
    network = actor_critic(shape, policy, hidden_units=HIDDEN_UNITS, seed=seed)
    agent = AGENTS[name](*spaces, network=network, seed=seed)
    agent.compile(keras.optimizers.Adam(learning_rate), **compile_arguments)
    return agent


def weights(agent):
    return [np.array(w) for w in agent.get_weights()]


def train(name, environment, iterations, **arguments):
    agent = build(name, environment, **arguments)
    unit = agent.steps_per_iteration(environment) or 1
    history = agent.fit(environment, unit * iterations, verbose=0)
    return agent, history


@pytest.mark.parametrize(
    ("name", "env_id"),
    [
        *((name, "CartPole-v0") for name in AGENTS),
        # 200 eager steps of it, an episode of REINFORCE, show nothing more.
        *((name, "Pendulum-v1") for name in AGENTS if name != "reinforce"),
    ],
)
def test_eager_graph_and_xla_learn_the_same(name, env_id):
    environment = environments.make(env_id, 4)
    modes = {
        "eager": {"run_eagerly": True},
        "graph": {"jit_compile": False},
        "xla": {"jit_compile": True},
    }
    results = {m: train(name, environment, 1, **a) for m, a in modes.items()}
    start = weights(build(name, environment))
    eager_agent, eager_history = results["eager"]
    # Adam divides by the root of a squared gradient: where that is nearly zero the
    # last bits of the gradient show, up to a few thousandths of the learning rate.
    for mode in ("graph", "xla"):
        agent, history = results[mode]
        assert history.history.keys() == eager_history.history.keys()
        for expected, got in zip(weights(eager_agent), weights(agent), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-4)
        np.testing.assert_allclose(
            history.history["value_loss"], eager_history.history["value_loss"], 1e-4
        )
    moved = [
        np.abs(a - b).max() for a, b in zip(start, weights(eager_agent), strict=True)
    ]
    assert max(moved) > 1e-3


@pytest.mark.parametrize(
    "name", ["ppo with everything", "ppo with a penalty", "a2c", "reinforce"]
)
def test_one_trace_same_seed_same_run_and_exact_resume(name, tmp_path):
    environment = environments.make("CartPole-v0", 4)
    agent = build(name, environment)
    unit = agent.steps_per_iteration(environment) or 500
    agent.fit(environment, 3 * unit, steps_per_epoch=unit, verbose=0)
    path = tf.train.Checkpoint(agent=agent).write(str(tmp_path / "checkpoint"))
    halfway = agent.env_steps
    first = agent.fit(
        environment, halfway + 4 * unit, initial_step=halfway, verbose=0
    ).history
    assert agent._train_function.experimental_get_tracing_count() == 1

    # The same seed, in one go where the first went in two.
    again = build(name, environment)
    again.fit(environment, 3 * unit, steps_per_epoch=unit, verbose=0)
    # Another one, made anew from the checkpoint alone.
    resumed = build(name, environment, seed=0)
    resumed.prepare(environment)
    tf.train.Checkpoint(agent=resumed).read(path).assert_consumed()
    assert resumed.env_steps == again.env_steps == halfway
    for a, b in zip(weights(again), weights(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    second = resumed.fit(
        environment, halfway + 4 * unit, initial_step=halfway, verbose=0
    ).history
    for a, b in zip(weights(agent), weights(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    for key in set(first) - {"seconds", "steps_per_second"}:
        np.testing.assert_array_equal(first[key], second[key])


def test_the_coefficient_of_the_penalty_is_in_the_checkpoint(tmp_path):
    environment = environments.make("CartPole-v0", 4)
    agent, resumed = (build("ppo with a penalty", environment) for _ in range(2))
    agent.prepare(environment)
    agent.kl_coefficient.assign(0.125)
    path = tf.train.Checkpoint(agent=agent).write(str(tmp_path / "checkpoint"))
    resumed.prepare(environment)
    tf.train.Checkpoint(agent=resumed).read(path).assert_consumed()
    assert float(resumed.policy_loss.kl_coefficient) == 0.125


def test_another_seed_is_another_run():
    environment = environments.make("CartPole-v0", 4)
    (a, _), (b, _) = (
        train("a2c", environment, 2, seed=s, jit_compile=False) for s in (0, 1)
    )
    assert any(
        np.abs(x - y).max() > 1e-3 for x, y in zip(weights(a), weights(b), strict=True)
    )


class Echo(InGraphEnvironment):
    """Shows one of two symbols; the action that repeats it is worth 1, the other 0."""

    id = "Echo"
    max_episode_steps = 10
    observation_space = gym.spaces.Discrete(2)
    action_space = gym.spaces.Discrete(2)

    def initial(self, seed):
        return tf.bitcast(random.bits([self.num_envs], seed), tf.int32)

    def transition(self, physics, action):
        reward = tf.cast(action == self.observe(physics), tf.float32)
        # A linear congruential generator, whose sixteenth bit is the symbol.
        physics = physics * 1103515245 + 12345
        return physics, reward, tf.zeros([self.num_envs], tf.bool)

    def observe(self, physics):
        return tf.bitwise.right_shift(physics, 16) & 1


@pytest.mark.parametrize(
    ("name", "steps"), [("ppo", 6400), ("ppo with a penalty", 6400), ("a2c", 8000)]
)
def test_learns_to_repeat_what_it_sees(name, steps):
    environment = Echo(16)
    agent = build(name, environment, learning_rate=2e-2)
    assert agent.evaluate(environment, 50, greedy=False)["mean"] < 8
    agent.fit(environment, steps, verbose=0)
    result = agent.evaluate(environment, 50)
    assert result["mean"] == 10
    assert agent.evaluate(environment, 50, greedy=False)["mean"] > 9


def test_episode_statistics_count_every_step_once():
    environment = Echo(8)
    agent = build("a2c", environment)
    history = agent.fit(environment, 8 * 5 * 6, steps_per_epoch=40, verbose=0).history
    # Each copy ends an episode of 10 steps in every second iteration of 5.
    assert history["episodes"] == [0, 8, 0, 8, 0, 8]
    np.testing.assert_allclose(history["episode_length"][1::2], 10)
    assert np.isnan(history["episode_return"][::2]).all()
    assert history["steps"] == [40, 80, 120, 160, 200, 240]


@pytest.mark.parametrize("vectorization", ["in_graph", "sync"])
def test_both_kinds_of_environment_are_learned(vectorization):
    """The same agent learns from either; each of its functions is traced once."""
    environment = environments.make("CartPole-v1", 4, vectorization=vectorization)
    agent = build("ppo with everything", environment)
    functions, compile_function = [], agent.compile_function

    def recorded(function, **options):
        functions.append(compile_function(function, **options))
        return functions[-1]

    agent.compile_function = recorded
    unit = agent.steps_per_iteration(environment)
    history = agent.fit(environment, 150 * unit, steps_per_epoch=unit, verbose=0)
    history = history.history
    episodes = np.array(history["episodes"])
    # Each step belongs to one episode; the last of the four are not over.
    assert 150 * unit / 500 <= episodes.sum() <= 150 * unit / 8
    total = np.nansum(episodes * np.array(history["episode_length"]))
    assert 150 * unit - 4 * 500 <= total <= 150 * unit
    returns = np.array(history["episode_return"])
    assert np.nanmean(returns[-40:]) > 2 * np.nanmean(returns[:40])
    assert functions
    assert [f.experimental_get_tracing_count() for f in functions] == [1] * len(
        functions
    )


def test_evaluation_is_the_same_for_both_kinds_and_counts_each_copy_once():
    results = []
    for vectorization in ("in_graph", "sync"):
        environment = environments.make("CartPole-v1", 4, vectorization=vectorization)
        agent = build("ppo", environment)
        results.append(agent.evaluate(environment, 60))
    for result in results:
        assert result["returns"].shape == (60,)
        np.testing.assert_array_equal(result["returns"], result["lengths"])
        assert result["mean"] == pytest.approx(result["returns"].mean())
    # The same policy from the same distribution of first states.
    difference = abs(results[0]["mean"] - results[1]["mean"])
    error = np.hypot(*(r["std"] / 60**0.5 for r in results))
    assert difference < 4 * error + 1e-6


def test_reinforce_learns_from_first_episodes_only():
    environment = environments.make("CartPole-v0", 4)
    agent = build("reinforce", environment)
    history = agent.fit(environment, 1, verbose=0).history
    assert history["episodes"] == [4]
    assert history["steps"][0] == pytest.approx(4 * history["episode_length"][0])


def test_reinforce_normalises_by_the_steps_of_its_episodes_only():
    environment = environments.make("CartPole-v0", 4)
    agent = REINFORCE(
        environment.observation_space,
        environment.action_space,
        num_steps=200,
        normalize_observations=True,
        normalize_rewards=True,
    )
    agent.compile("adam")
    agent.fit(environment, 1, verbose=0)
    assert float(agent.observation_normalization.count) == agent.env_steps
    assert float(agent.reward_normalization.count) == agent.env_steps
    # All rewards are 1: discounted returns of episodes of n steps run from 1 upwards.
    lengths = agent.env_steps / 4
    assert 0 < float(agent.reward_normalization.mean) < lengths


def test_a_reinforce_run_that_is_over_may_be_fitted_again():
    environment = environments.make("CartPole-v0", 4)
    agent = build("reinforce", environment)
    agent.fit(environment, 50, verbose=0)
    done = agent.env_steps
    assert done >= 50
    assert agent.fit(environment, 50, initial_step=done, verbose=0).history == {}
    assert agent.env_steps == done


def test_no_two_seeds_share_weights():
    policy = DiagonalGaussianPolicy(1)
    kernels = [
        np.array(w).tobytes()
        for seed in range(10)
        for w in actor_critic((3,), policy, hidden_units=(5,), seed=seed).weights
        if "kernel" in w.path
    ]
    assert len(set(kernels)) == len(kernels) == 40


def test_mixed_precision_sees_whole_observations_and_gives_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        space = gym.spaces.Box(-1e4, 1e4, (3,))
        agent = PPO(space, gym.spaces.Box(-1, 1, (2,)), normalize_observations=True)
    finally:
        keras.config.set_dtype_policy("float32")
    assert agent.network.layers[1].compute_dtype == "bfloat16"
    agent.observation_normalization.update(
        1000.0 + tf.random.stateless_normal([100, 3], [0, 1])
    )
    observation = 1000.0 + tf.random.stateless_normal([5, 3], [0, 2])
    outputs = agent.policy_outputs(observation)
    assert outputs.dtype == agent.value(observation).dtype == tf.float32
    np.testing.assert_array_equal(agent(observation), outputs[:, :2])
    assert np.abs(agent.preprocess(observation)).max() > 0.5


def test_normalisation_follows_what_was_seen():
    environment = environments.make("CartPole-v0", 4)
    agent, _ = train("ppo with everything", environment, 3)
    layer = agent.observation_normalization
    assert float(layer.count) == agent.env_steps == 96
    assert not np.allclose(layer.mean, 0)
    assert float(agent.reward_normalization.count) == 96


@pytest.mark.parametrize(
    ("space", "width"),
    [
        (gym.spaces.Discrete(3), 3),
        (gym.spaces.Box(-1, 1, (2,)), 4),
        (gym.spaces.MultiDiscrete([2, 3]), 5),
        (gym.spaces.MultiBinary(4), 4),
    ],
)
def test_policy_for_each_action_space(space, width):
    assert policy_for(space).num_outputs == width


def test_policy_for_refuses_other_spaces():
    with pytest.raises(UnsupportedSpaceError, match=r"Dict.*is not supported"):
        policy_for(gym.spaces.Dict({"a": gym.spaces.Discrete(2)}))


def test_networks():
    policy = DiagonalGaussianPolicy(2)
    image = actor_critic((84, 84, 4), policy)
    # The Nature network: 1,684,128 weights below the heads, shared by both.
    heads = 512 * 2 + 2 + 2 + 512 + 1
    assert image.count_params() == 1_684_128 + heads
    shared = actor_critic((3,), policy, shared=True)
    separate = actor_critic((3,), policy)
    assert separate.count_params() - shared.count_params() == 3 * 64 + 64 + 64 * 65
    a, b, c = (actor_critic((3,), policy, seed=s) for s in (1, 1, 2))
    for x, y, z in zip(a.weights, b.weights, c.weights, strict=True):
        np.testing.assert_array_equal(x, y)
        if "kernel" in x.path:
            assert not np.allclose(x, z)
    with pytest.raises(ValueError, match="torso must be one of"):
        actor_critic((3,), policy, torso="transformer")
    for shape in ((4,), (64,), (7, 7, 3)):
        with pytest.raises(ValueError, match="torso=atari_cnn needs images of 36"):
            actor_critic(shape, policy, torso="atari_cnn")


def test_bad_input():
    environment = environments.make("CartPole-v1", 4)
    agent = build("ppo", environment)
    with pytest.raises(ValueError, match="steps=100 must be a multiple of the 32"):
        agent.fit(environment, 100)
    with pytest.raises(ValueError, match="steps_per_epoch=33 must be"):
        agent.fit(environment, 320, steps_per_epoch=33)
    with pytest.raises(UnsupportedSpaceError, match="Pendulum-v1 is Box"):
        agent.fit(environments.make("Pendulum-v1", 4), 320)
    with pytest.raises(ValueError, match="episodes must be a positive integer"):
        agent.evaluate(environment, 0)
    spaces = environment.observation_space, environment.action_space
    with pytest.raises(ValueError, match="not compiled"):
        PPO(*spaces).fit(environment, 100)
    with pytest.raises(ValueError, match="num_steps must be a positive integer"):
        A2C(*spaces, num_steps=0)
    with pytest.raises(ValueError, match="discount must be between 0 and 1"):
        A2C(*spaces, discount=1.1)
    with pytest.raises(ValueError, match="objective must be"):
        PPO(*spaces, objective="trust")
    uneven = PPO(*spaces, num_steps=10, minibatches=3)
    uneven.compile("adam")
    with pytest.raises(ValueError, match="minibatches=3 must divide the 40 steps"):
        uneven.fit(environment, 40)
    short = REINFORCE(*spaces, num_steps=100)
    short.compile("adam")
    with pytest.raises(ValueError, match="num_steps=100 must be at least the time"):
        short.fit(environment, 100)
    images = gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)
    with pytest.raises(UnsupportedSpaceError, match="cannot be normalised"):
        PPO(images, spaces[1], normalize_observations=True)


@pytest.mark.parametrize(
    ("torso", "shape"), [("mlp", (4,)), ("atari_cnn", (36, 36, 1))]
)
def test_convolutions_on_the_cpu_are_not_left_to_xla(torso, shape):
    agent = PPO(
        gym.spaces.Box(0, 255, shape, np.uint8 if len(shape) > 1 else np.float32),
        gym.spaces.Discrete(2),
        network_options={"torso": torso},
    )
    agent.compile(keras.optimizers.Adam())
    on_gpu = bool(tf.config.get_visible_devices("GPU"))
    assert agent.jit_compile == (torso == "mlp" or on_gpu)
    agent.compile(keras.optimizers.Adam(), jit_compile=True)
    assert agent.jit_compile
