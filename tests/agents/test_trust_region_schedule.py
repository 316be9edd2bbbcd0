"""The schedules against the rules, as plain Python writes them."""

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.agents import TrustRegionSchedule


def run(schedule, returns, steps=None, **compile_arguments):
    """Feeds mean returns; returns the (steps, radius) of all updates, the first too."""
    update = schedule.update
    if compile_arguments:
        update = tf.function(update, **compile_arguments)
    chosen = [(float(schedule.steps), float(schedule.kl_radius))]
    for i, mean_return in enumerate(returns):
        done = 0 if steps is None else steps[i]
        update(tf.constant(mean_return, tf.float32), tf.constant(done, tf.int64))
        chosen.append((float(schedule.steps), float(schedule.kl_radius)))
    return np.array(chosen)


def by_the_rules(kind, returns, steps, radius, margin, high_steps=20_000):
    """Frans' rules, written from their description."""
    chosen, window, last = [(steps, radius)], [], None
    for value in returns:
        window.append(value)
        if len(window) == 10:
            total = sum(window)
            improved = last is None or total > last + margin * abs(last)
            if kind in ("adaptive_steps", "adaptive_both"):
                if improved and steps > 1200:
                    steps -= 300
                elif not improved and steps < high_steps:
                    steps += 300
            if kind in ("adaptive_kl", "adaptive_both"):
                if improved and radius < 0.01 - 1e-9:
                    radius += 0.0005
                elif not improved and radius > 0.001 + 1e-9:
                    radius -= 0.0005
            window, last = [], total
        chosen.append((steps, radius))
    return np.array(chosen)


@pytest.mark.parametrize("margin", [0.0, 0.05])
@pytest.mark.parametrize("kind", ["adaptive_steps", "adaptive_kl", "adaptive_both"])
def test_adaptive_schedules_follow_the_rules(kind, margin):
    rng = np.random.default_rng(0)
    # Falls, then rises, so that both bounds are met; negative returns, too.
    returns = np.concatenate(
        [rng.normal(-50, 1, 200), -200 + 1.5 * np.arange(400), rng.normal(0, 5, 200)]
    ).astype("float32")
    expected = by_the_rules(kind, returns, 1000, 0.001, margin)
    got = run(
        TrustRegionSchedule(kind, steps=1000, kl_radius=0.001, margin=margin), returns
    )
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert len(np.unique(got, axis=0)) > 5


def test_eager_graph_and_xla_choose_the_same():
    returns = np.random.default_rng(1).normal(size=60).cumsum()

    def chosen(**arguments):
        schedule = TrustRegionSchedule("adaptive_both", steps=3000, kl_radius=0.005)
        return run(schedule, returns, **arguments)

    expected = chosen()
    np.testing.assert_allclose(chosen(jit_compile=False), expected, rtol=1e-6)
    np.testing.assert_allclose(chosen(jit_compile=True), expected, rtol=1e-6)


def test_linear_and_exponential_go_from_the_first_to_the_last():
    def chosen(kind):
        schedule = TrustRegionSchedule(
            kind,
            steps=1000,
            kl_radius=0.01,
            last_steps=16_000,
            last_kl_radius=0.0001,
            total_steps=100,
        )
        return run(schedule, [0.0] * 5, steps=[0, 50, 100, 100, 200])[1:]

    np.testing.assert_allclose(
        chosen("linear")[:3], [(1000, 0.01), (8500, 0.00505), (16_000, 0.0001)], 1e-5
    )
    np.testing.assert_allclose(
        chosen("exponential")[:3], [(1000, 0.01), (4000, 0.001), (16_000, 0.0001)], 1e-4
    )
    np.testing.assert_allclose(chosen("linear")[-1], (16_000, 0.0001), rtol=1e-5)


def test_nothing_leaves_its_range():
    returns = np.concatenate([np.arange(1000.0), -np.arange(1000.0)])
    schedule = TrustRegionSchedule(
        "adaptive_both",
        steps=1000,
        kl_radius=0.001,
        range_of_steps=(350, 2000),
        range_of_kl_radius=(0.001, 0.02),
    )
    steps, radius = run(schedule, returns).T
    assert schedule.smallest_steps <= steps.min() < 350
    assert 2000 <= steps.max() <= schedule.largest_steps
    assert radius.min() == np.float32(0.001)
    assert radius.max() == np.float32(0.02)


def test_fixed_stays():
    got = run(TrustRegionSchedule(steps=500, kl_radius=0.02), np.arange(50.0))
    np.testing.assert_allclose(got, [(500, 0.02)] * 51)


def test_updates_without_episodes_count_with_the_return_before():
    def sums(returns):
        schedule = TrustRegionSchedule("adaptive_steps", steps=3000, kl_radius=0.01)
        return run(schedule, returns)[:, 0]

    nan = float("nan")
    # Nothing is compared until an episode has ended.
    np.testing.assert_array_equal(sums([nan] * 25), [3000] * 26)
    with_gaps = [1.0, nan] * 20
    np.testing.assert_array_equal(sums(with_gaps), sums([1.0] * 40))


def test_a_checkpoint_holds_it(tmp_path):
    returns = np.random.default_rng(2).normal(size=47).cumsum()
    whole = TrustRegionSchedule("adaptive_both", steps=3000, kl_radius=0.005)
    run(whole, returns[:25])
    path = tf.train.Checkpoint(schedule=whole).write(str(tmp_path / "checkpoint"))
    resumed = TrustRegionSchedule("adaptive_both", steps=3000, kl_radius=0.005)
    tf.train.Checkpoint(schedule=resumed).read(path).assert_consumed()
    np.testing.assert_array_equal(run(resumed, returns[25:]), run(whole, returns[25:]))


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("adaptive", {}, "schedule must be one of fixed, linear, .* got 'adaptive'"),
        ("fixed", {"steps": 0}, "steps must be a positive integer, got 0"),
        ("fixed", {"kl_radius": 0.0}, "kl_radius must be positive, got 0.0"),
        ("linear", {}, "schedule=linear needs total_steps, got None"),
        ("linear", {"last_kl_radius": -1.0}, "last_kl_radius must be positive"),
        (
            "linear",
            {"total_steps": 10**6},
            r"schedule=linear needs last_steps \(--last_num_steps\) or last_kl_radius",
        ),
        (
            "adaptive_steps",
            {"range_of_steps": (300, 2000)},
            r"range_of_steps=\(300, 2000\) \(--smallest_steps\) must begin above "
            "change_of_steps=300",
        ),
        ("adaptive_kl", {"margin": -0.1}, "margin must be at least 0, got -0.1"),
        (
            "adaptive_kl",
            {"range_of_kl_radius": (0.1, 0.01)},
            "range_of_kl_radius must be positive and in order, got 0.1, 0.01",
        ),
    ],
)
def test_bad_input(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        TrustRegionSchedule(kind, **{"steps": 1000, "kl_radius": 0.01, **arguments})
