"""TRPO: its step, its critic, its modes, with worker processes and without."""

import functools

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.devices import two_devices
from tfzoo import environments, random
from tfzoo.agents import TRPO, TrustRegionSchedule, actor_critic, policy_for
from tfzoo.agents.trpo import spread
from tfzoo.optimizers import NaturalGradient, dense_fisher
from tfzoo.optimizers.vectors import flatten
from tfzoo.training import NonFiniteError, StopOnNaN, list_checkpoints


def build(environment, *, seed=0, policy_optimizer=None, compile_arguments=None, **kw):
    spaces = environment.observation_space, environment.action_space
    kw = {"num_steps": 32, "value_epochs": 2, "value_minibatches": 2, **kw}
    network = actor_critic(
        spaces[0].shape, policy_for(spaces[1]), hidden_units=(8,), seed=seed
    )
    agent = TRPO(*spaces, network=network, seed=seed, **kw)
    agent.compile(
        keras.optimizers.Adam(0.01),
        policy_optimizer=policy_optimizer,
        # XLA takes seconds to compile; one test is enough to hold it to the rest.
        **(compile_arguments or {"jit_compile": False}),
    )
    return agent


def collected(agent, environment, seed=1):
    agent.prepare(environment)
    trajectory, _, _ = agent.collect(
        environment, agent.read_carried(), random.make_seed(seed)
    )
    return trajectory


def weights(agent):
    return [np.array(w) for w in agent.get_weights()]


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_the_step_is_the_dense_solution_on_the_boundary(env_id):
    """Without a line search: (F + lambda I)^-1 g, of the length of the radius."""
    environment = environments.make(env_id, 4)
    radius, damping = 1e-3, 0.05
    agent = build(
        environment,
        policy_optimizer=NaturalGradient(
            kl_radius=radius, damping=damping, cg_iterations=300, cg_tolerance=1e-7
        ),
    )
    trajectory = collected(agent, environment)
    batch = agent.estimate(trajectory)
    features = agent.preprocess(batch.observation)
    # At the old policy the gradient of the surrogate is that of -mean(log pi * A).
    advantage = np.asarray(batch.advantage)
    advantage = (advantage - advantage.mean()) / advantage.std()
    variables = agent.policy_variables
    with tf.GradientTape() as tape:
        log_prob = agent.policy.log_prob(agent.policy_network(features), batch.action)
        loss = -tf.reduce_mean(log_prob * advantage)
    gradient = flatten(tape.gradient(loss, [v.value for v in variables])).numpy()
    fisher = dense_fisher(
        lambda: agent.policy_network(features), agent.policy, variables
    ).numpy()
    direction = np.linalg.solve(fisher + damping * np.eye(len(fisher)), gradient)
    length = np.sqrt(2 * radius / (direction @ fisher @ direction))
    before = flatten([tf.convert_to_tensor(v) for v in variables]).numpy()
    metrics = agent.improve_policy(batch)
    after = flatten([tf.convert_to_tensor(v) for v in variables]).numpy()
    expected = -length * direction
    np.testing.assert_allclose(
        after - before, expected, atol=0.01 * abs(expected).max()
    )
    divergence = agent.policy.kl_divergence(
        batch.old_outputs, agent.policy_outputs(batch.observation)
    )
    np.testing.assert_allclose(np.mean(divergence), radius, rtol=0.1)
    np.testing.assert_allclose(metrics["kl"], radius, rtol=1e-3)


def test_the_line_search_keeps_both_promises():
    """Whatever the radius: the surrogate falls and the divergence is within it."""
    environment = environments.make("CartPole-v1", 4)
    for radius in (1e-3, 0.05, 0.5):
        agent = build(
            environment,
            policy_optimizer=NaturalGradient(kl_radius=radius, line_search_steps=15),
        )
        batch = agent.estimate(collected(agent, environment))
        metrics = agent.improve_policy(batch)
        outputs = agent.policy_outputs(batch.observation)
        kl = np.mean(agent.policy.kl_divergence(batch.old_outputs, outputs))
        assert 0 < kl <= radius * 1.001
        np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-3)
        advantage = np.asarray(batch.advantage)
        advantage = (advantage - advantage.mean()) / advantage.std()
        ratio = np.exp(
            agent.policy.log_prob(outputs, batch.action) - batch.old_log_prob
        )
        surrogate = -np.mean(ratio * advantage)
        assert surrogate < -np.mean(advantage)
        np.testing.assert_allclose(
            metrics["policy_loss"], surrogate, rtol=1e-3, atol=1e-5
        )


def test_a_failed_line_search_leaves_the_policy_and_counts():
    environment = environments.make("CartPole-v1", 4)
    agent = build(
        environment,
        policy_optimizer=NaturalGradient(
            kl_radius=1e3, damping=1e-6, line_search_steps=1
        ),
    )
    batch = agent.estimate(collected(agent, environment))
    before = [np.array(v) for v in agent.policy_variables]
    metrics = agent.improve_policy(batch)
    for a, b in zip(before, agent.policy_variables, strict=True):
        np.testing.assert_array_equal(a, b)
    assert float(metrics["line_search_failures"]) == 1.0
    assert float(metrics["kl"]) == 0.0


def test_policy_and_critic_are_moved_apart():
    environment = environments.make("CartPole-v1", 4)
    agent = build(environment)
    batch = agent.estimate(collected(agent, environment))
    policy, critic = agent.policy_variables, agent.value_variables
    assert len(policy) + len(critic) == len(agent.trainable_variables)
    before = [np.array(v) for v in critic]
    agent.improve_policy(batch)
    for a, b in zip(before, critic, strict=True):
        np.testing.assert_array_equal(a, b)
    before = [np.array(v) for v in policy]
    agent.learn_batch(batch, random.make_seed(0), ("value_loss",))
    for a, b in zip(before, policy, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_ridge_baseline_is_numpy_s():
    environment = environments.make("CartPole-v1", 3)
    agent = build(environment, baseline="ridge", num_steps=40)
    agent.prepare(environment)
    rng = np.random.default_rng(0)
    agent.episode_steps.assign([5.0, 0.0, 80.0])
    trajectory = collected(agent, environment)
    done = rng.uniform(size=[40, 3]) < 0.1
    trajectory = trajectory._replace(truncated=tf.constant(done))
    time = np.zeros([41, 3])
    time[0] = [5, 0, 80]
    for t in range(40):
        finished = done[t] | np.asarray(trajectory.terminated[t])
        time[t + 1] = np.where(finished, 0, time[t] + 1)
    np.testing.assert_array_equal(agent.steps_before(trajectory), time[:-1])
    np.testing.assert_array_equal(agent.steps_into_episode(trajectory), time[1:])

    o, t = np.asarray(trajectory.observation, float), time[:-1, :, None] / 100
    x = np.concatenate([o, o**2, t, t**2, np.ones_like(t)], -1).reshape(120, -1)
    target = rng.normal(size=120).astype("float32")
    expected = np.linalg.solve(x.T @ x + 2.0 * np.eye(x.shape[1]), x.T @ target)
    loss = agent.fit_ridge(trajectory, tf.constant(target))
    np.testing.assert_allclose(agent.coefficients, expected, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(
        loss, 0.5 * np.mean((x @ expected - target) ** 2), rtol=1e-3
    )
    _, values, final_values = agent.outputs_and_values(trajectory)
    np.testing.assert_allclose(values, (x @ expected).reshape(40, 3), atol=0.01)
    o, t = np.asarray(trajectory.final_observation, float), t + 0.01
    x = np.concatenate([o, o**2, t, t**2, np.ones_like(t)], -1)
    np.testing.assert_allclose(final_values, x @ expected, atol=0.01)


@pytest.mark.parametrize("baseline", ["network", "ridge"])
def test_eager_graph_and_xla_learn_the_same(baseline):
    environment = environments.make("Pendulum-v1", 4)
    results = []
    for arguments in (
        {"run_eagerly": True},
        {"jit_compile": False},
        {"jit_compile": True},
    ):
        agent = build(
            environment,
            baseline=baseline,
            num_steps=8,
            normalize_observations=True,
            # So few iterations that rounding does not grow.
            policy_optimizer=NaturalGradient(
                kl_radius=0.01, damping=0.1, cg_iterations=4, line_search_steps=5
            ),
            compile_arguments=arguments,
        )
        history = agent.fit(environment, 2 * 32, verbose=0).history
        results.append((weights(agent), history))
    for got, history in results[1:]:
        for a, b in zip(got, results[0][0], strict=True):
            np.testing.assert_allclose(a, b, rtol=5e-3, atol=1e-3)
        for name in ("kl", "value_loss"):
            np.testing.assert_allclose(history[name], results[0][1][name], rtol=2e-2)


@pytest.mark.parametrize("kind", ["in_graph", "adaptive"])
def test_one_trace_same_seed_same_run_and_exact_resume(kind, tmp_path):
    environment = environments.make("CartPole-v1", 4)
    schedule = None
    if kind == "adaptive":
        schedule = functools.partial(
            TrustRegionSchedule,
            "adaptive_kl",
            steps=128,
            kl_radius=0.005,
            compare_every=2,
        )

    def make(seed=0):
        return build(environment, seed=seed, schedule=schedule and schedule())

    agent = make()
    agent.fit(environment, 5 * 128, steps_per_epoch=128, verbose=0)
    path = tf.train.Checkpoint(agent=agent).write(str(tmp_path / "checkpoint"))
    first = agent.fit(environment, 9 * 128, initial_step=5 * 128, verbose=0).history
    assert agent._train_function.experimental_get_tracing_count() == 1
    resumed = make()
    resumed.prepare(environment)
    tf.train.Checkpoint(agent=resumed).read(path).assert_consumed()
    second = resumed.fit(environment, 9 * 128, initial_step=5 * 128, verbose=0).history
    for a, b in zip(weights(agent), weights(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in set(first) - {"seconds", "steps_per_second"}:
        np.testing.assert_array_equal(first[name], second[name])
    if kind == "adaptive":
        assert float(agent.schedule.kl_radius) != pytest.approx(0.005)


def test_the_number_of_workers_changes_nothing():
    runs = []
    for num_workers in (0, 1, 3):
        with environments.make(
            "Pendulum-v1", 6, vectorization="workers", num_workers=num_workers
        ) as environment:
            agent = build(environment, normalize_observations=True)
            history = agent.fit(environment, 3 * 192, verbose=0).history
            runs.append((weights(agent), history))
    for got, history in runs[1:]:
        for a, b in zip(got, runs[0][0], strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(history["kl"], runs[0][1]["kl"])
    assert all(s > 0 for s in runs[0][1]["collect_seconds"])
    assert all(s > 0 for s in runs[0][1]["learn_seconds"])


@pytest.mark.parametrize("baseline", ["network", "ridge"])
def test_steps_that_change_need_one_trace(baseline):
    schedule = TrustRegionSchedule(
        "linear", steps=40, last_steps=400, kl_radius=0.01, total_steps=1500
    )
    with environments.make(
        "CartPole-v1", 4, vectorization="workers", num_workers=0
    ) as environment:
        agent = build(environment, baseline=baseline, schedule=schedule)
        learn = []
        compile_learn_function = agent.compile_learn_function

        def recorded(*arguments):
            learn.append(compile_learn_function(*arguments))
            return learn[-1]

        agent.compile_learn_function = recorded
        history = agent.fit(environment, 1500, verbose=0).history
    taken = np.diff([0, *history["steps"]])
    assert taken[0] == 40
    # True counts: whole steps of the four copies.
    assert all(n % 4 == 0 for n in taken)
    assert np.all(np.diff(taken) >= 0)
    assert taken[-1] > 300
    (function,) = learn
    assert function.experimental_get_tracing_count() == 1


def test_learns_cartpole():
    environment = environments.make("CartPole-v1", 8)
    agent = build(environment, num_steps=128, value_epochs=5, value_minibatches=4)
    before = agent.evaluate(environment, 20)["mean"]
    agent.fit(environment, 40 * 1024, verbose=0)
    assert agent.evaluate(environment, 20)["mean"] > max(150, 3 * before)


def test_a_part_of_the_samples_is_spread_over_copies_and_times():
    for num_copies in (1, 4, 8, 20):
        samples = tf.zeros([num_copies * 100, 1])
        for fraction in (0.1, 0.25, 0.4, 0.7, 1.0):
            indices = spread(samples, fraction).numpy()
            assert len(indices) == int(fraction * len(samples))
            assert len(np.unique(indices)) == len(indices)
            assert 0 <= indices.min() <= indices.max() < len(samples)
            copies = np.bincount(indices % num_copies, minlength=num_copies)
            assert copies.min() > 0.5 * copies.mean()
    assert len(spread(tf.zeros([10, 1]), 1e-3)) == 1
    # In a graph whose samples have no fixed number, the same.
    anew = tf.function(spread).get_concrete_function(tf.TensorSpec([None, 1]), 0.25)
    np.testing.assert_array_equal(anew(samples), spread(samples, 0.25))


def test_curvature_of_a_part_of_the_samples():
    environment = environments.make("CartPole-v1", 4)
    radius = {"kl_radius": 0.01, "line_search_steps": 10}
    kl = [
        build(
            environment,
            policy_optimizer=NaturalGradient(curvature_fraction=fraction, **radius),
        )
        .fit(environment, 128, verbose=0)
        .history["kl"][0]
        for fraction in (1.0, 0.25)
    ]
    # The divergence is measured on all samples, the curvature on a part.
    assert kl[0] != kl[1]
    assert all(0.002 < x <= 0.01 for x in kl)


def test_new_episodes_begin_where_training_does():
    with environments.make(
        "Pendulum-v1", 2, vectorization="workers", num_workers=0
    ) as environment:
        arguments = {"num_steps": 30, "baseline": "ridge", "normalize_rewards": True}
        first = build(environment, **arguments)
        first.fit(environment, 120, verbose=0)
        np.testing.assert_array_equal(first.episode_steps, [60, 60])
        # Another agent on the same copies, and one restored, as a resumed run is.
        again = build(environment, **arguments)
        again.fit(environment, 120, verbose=0)
        for a, b in zip(weights(first), weights(again), strict=True):
            np.testing.assert_array_equal(a, b)
        resumed = build(environment, **arguments)
        resumed.prepare(environment)
        resumed.episode_steps.assign([60, 60])
        resumed.fit(environment, 60, verbose=0)
        np.testing.assert_array_equal(resumed.episode_steps, [30, 30])


def test_a_fisher_product_that_is_not_finite_stops_with_a_saved_state(tmp_path):
    environment = environments.make("CartPole-v1", 4)
    agent = build(environment)
    kl_divergence = type(agent.policy).kl_divergence

    class Broken(type(agent.policy)):
        def kl_divergence(self, p, q):
            return kl_divergence(self, p, q) * float("inf")

    agent.policy = Broken(2)
    agent.prepare(environment)
    before = [np.array(v) for v in agent.policy_variables]
    stop = StopOnNaN(tf.train.Checkpoint(agent=agent), tmp_path)
    with pytest.raises(NonFiniteError, match=r"kl became nan .* larger --damping"):
        agent.fit(environment, 512, callbacks=[stop], verbose=0)
    assert len(list_checkpoints(tmp_path)) == 1
    for a, b in zip(before, agent.policy_variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_bad_input():
    environment = environments.make("CartPole-v1", 4)
    spaces = environment.observation_space, environment.action_space
    for arguments, message in (
        ({"baseline": "mean"}, "baseline must be 'network' or 'ridge', got 'mean'"),
        ({"ridge": 0.0}, "ridge must be positive, got 0.0"),
        ({"value_epochs": 0}, "value_epochs must be a positive integer"),
        ({"entropy_coefficient": -1.0}, "entropy_coefficient must be at least 0"),
        ({"network_options": {"shared": True}}, "their networks share 4 variables"),
    ):
        with pytest.raises(ValueError, match=message):
            TRPO(*spaces, **arguments)
    with pytest.raises(ValueError, match="value_minibatches=3 must divide the 128 st"):
        build(environment, value_minibatches=3).fit(environment, 128)
    changing = TrustRegionSchedule("adaptive_steps", steps=128, kl_radius=0.01)
    with pytest.raises(ValueError, match='need vectorization="workers"'):
        build(environment, schedule=changing).fit(environment, 128)
    for minibatches, message in (
        (1, "may come to 4 steps of an update, fewer than the 6 copies"),
        (8, "may come to 7 steps of an update, fewer than the 8 value_minibatches"),
    ):
        small = TrustRegionSchedule(
            "linear",
            steps=128,
            last_steps=4 if minibatches == 1 else 7,
            kl_radius=0.01,
            total_steps=1000,
        )
        with environments.make(
            "CartPole-v1", 6, vectorization="workers", num_workers=0
        ) as workers:
            agent = build(workers, schedule=small, value_minibatches=minibatches)
            with pytest.raises(ValueError, match=message):
                agent.fit(workers, 128)
    fixed = TrustRegionSchedule(steps=128, kl_radius=0.01)
    with pytest.raises(ValueError, match="needs a policy_optimizer with a kl_radius"):
        build(environment, schedule=fixed, policy_optimizer=NaturalGradient()).prepare(
            environment
        )
    with pytest.raises(ValueError, match='goes with vectorization="workers"'):
        environments.make("CartPole-v1", 4, num_workers=2)
    strategy = two_devices()
    with strategy.scope():
        distributed = build(environment)
    with pytest.raises(ValueError, match="TRPO cannot be distributed"):
        distributed.fit(environment, 128)
    images = gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)
    with pytest.raises(ValueError, match="networks share"):
        TRPO(images, spaces[1])
