"""Policy distributions against SciPy, TFP, gradients by hand and theorems."""

import itertools

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import tensorflow as tf

from tfzoo.losses import (
    BernoulliPolicy,
    CategoricalPolicy,
    DiagonalGaussianPolicy,
    MultiCategoricalPolicy,
    policy_distribution,
)

POLICIES = {
    policy.name: policy
    for policy in (
        CategoricalPolicy(4),
        DiagonalGaussianPolicy(3),
        MultiCategoricalPolicy([3, 2]),
        BernoulliPolicy(3),
    )
}
DISCRETE = ["categorical", "multi_categorical", "bernoulli"]
each_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)


def random_outputs(policy, *batch_shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*batch_shape, policy.num_outputs)).astype(np.float32)


def random_actions(policy, outputs, seed=1):
    rng = np.random.default_rng(seed)
    noise = rng.uniform(size=policy.noise_shape(outputs.shape[:-1]))
    return policy.sample(outputs, noise).numpy()


def all_actions(policy):
    """Every action of a discrete policy, in order of index."""
    choices = {
        "categorical": lambda: range(policy.num_actions),
        "multi_categorical": lambda: itertools.product(*map(range, policy.nvec)),
        "bernoulli": lambda: itertools.product([0, 1], repeat=policy.num_bits),
    }[policy.name]()
    return np.array(list(choices), np.int32)


def gradient(function, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x).numpy()


class TestAgainstSciPy:
    """log_prob and entropy against SciPy's, KL against SciPy's or by quadrature."""

    def test_categorical(self):
        policy = CategoricalPolicy(4)
        p, q = random_outputs(policy, 5), random_outputs(policy, 5, seed=2)
        actions = random_actions(policy, p)
        probs = scipy.special.softmax(p, axis=1)
        expected = np.log(probs[np.arange(5), actions])
        np.testing.assert_allclose(policy.log_prob(p, actions), expected, rtol=1e-5)
        np.testing.assert_allclose(
            policy.entropy(p), scipy.stats.entropy(probs, axis=1), rtol=1e-5
        )
        np.testing.assert_allclose(
            policy.kl_divergence(p, q),
            scipy.stats.entropy(probs, scipy.special.softmax(q, axis=1), axis=1),
            rtol=1e-5,
        )
        np.testing.assert_allclose(policy.probabilities(p), probs, rtol=1e-5)

    def test_diagonal_gaussian(self):
        policy = DiagonalGaussianPolicy(3)
        p, q = random_outputs(policy, 5), random_outputs(policy, 5, seed=2)
        actions = random_actions(policy, p)
        p_each = scipy.stats.norm(p[:, :3], np.exp(p[:, 3:]))
        np.testing.assert_allclose(
            policy.log_prob(p, actions), p_each.logpdf(actions).sum(1), rtol=1e-5
        )
        np.testing.assert_allclose(
            policy.entropy(p), p_each.entropy().sum(1), rtol=1e-5
        )

        def divergence(mean_p, mean_q, log_p, log_q):
            one = scipy.stats.norm(mean_p, np.exp(log_p))
            other = scipy.stats.norm(mean_q, np.exp(log_q))
            return scipy.integrate.quad(
                lambda x: one.pdf(x) * (one.logpdf(x) - other.logpdf(x)),
                *one.interval(1 - 1e-12),
            )[0]

        expected = np.vectorize(divergence)(p[:, :3], q[:, :3], p[:, 3:], q[:, 3:])
        np.testing.assert_allclose(
            policy.kl_divergence(p, q), expected.sum(1), rtol=1e-5
        )

    def test_multi_categorical(self):
        policy = MultiCategoricalPolicy([3, 2])
        outputs = random_outputs(policy, 5)
        actions = random_actions(policy, outputs)
        first = scipy.special.softmax(outputs[:, :3], axis=1)
        second = scipy.special.softmax(outputs[:, 3:], axis=1)
        rows = np.arange(5)
        np.testing.assert_allclose(
            policy.log_prob(outputs, actions),
            np.log(first[rows, actions[:, 0]] * second[rows, actions[:, 1]]),
            rtol=1e-5,
        )
        np.testing.assert_allclose(
            policy.probabilities(outputs), np.concatenate([first, second], 1), rtol=1e-5
        )

    def test_bernoulli(self):
        policy = BernoulliPolicy(3)
        outputs = random_outputs(policy, 5)
        actions = random_actions(policy, outputs)
        each = scipy.stats.bernoulli(scipy.special.expit(outputs))
        np.testing.assert_allclose(
            policy.log_prob(outputs, actions), each.logpmf(actions).sum(1), rtol=1e-5
        )
        np.testing.assert_allclose(
            policy.entropy(outputs), each.entropy().sum(1), rtol=1e-5
        )
        np.testing.assert_allclose(
            policy.probabilities(outputs), each.mean(), rtol=1e-5
        )


@each_policy
def test_closed_forms_are_those_of_the_tfp_distribution(policy):
    p, q = random_outputs(policy, 3, 5), random_outputs(policy, 3, 5, seed=2)
    actions = random_actions(policy, p)
    distribution = policy.distribution(p)
    assert distribution.batch_shape == (3, 5)
    np.testing.assert_allclose(
        policy.log_prob(p, actions), distribution.log_prob(actions), atol=1e-5
    )
    np.testing.assert_allclose(policy.entropy(p), distribution.entropy(), atol=1e-5)
    np.testing.assert_allclose(
        policy.kl_divergence(p, q),
        distribution.kl_divergence(policy.distribution(q)),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("name", DISCRETE)
def test_probabilities_of_all_actions_sum_to_one(name):
    policy = POLICIES[name]
    actions = all_actions(policy)
    outputs = np.repeat(random_outputs(policy, 1), len(actions), axis=0)
    total = np.exp(policy.log_prob(outputs, actions)).sum()
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)


class TestGradientsByHand:
    def test_categorical(self):
        policy = CategoricalPolicy(4)
        p, q = random_outputs(policy, 5), random_outputs(policy, 5, seed=2)
        actions = random_actions(policy, p)
        probs = scipy.special.softmax(p, axis=1)
        entropy = scipy.stats.entropy(probs, axis=1)[:, None]
        # d log pi(a) / d logits = onehot(a) - pi
        np.testing.assert_allclose(
            gradient(lambda x: policy.log_prob(x, actions), p),
            np.eye(4)[actions] - probs,
            atol=1e-6,
        )
        # d H / d logits = -pi (log pi + H)
        np.testing.assert_allclose(
            gradient(policy.entropy, p), -probs * (np.log(probs) + entropy), atol=1e-6
        )
        # d KL(p || q) / d logits of q = q - p
        np.testing.assert_allclose(
            gradient(lambda x: policy.kl_divergence(p, x), q),
            scipy.special.softmax(q, axis=1) - probs,
            atol=1e-6,
        )

    def test_diagonal_gaussian(self):
        policy = DiagonalGaussianPolicy(3)
        p, q = random_outputs(policy, 5), random_outputs(policy, 5, seed=2)
        actions = random_actions(policy, p)
        mean_p, stddev_p = p[:, :3], np.exp(p[:, 3:])
        mean_q, stddev_q = q[:, :3], np.exp(q[:, 3:])
        z = (actions - mean_p) / stddev_p
        # d log p / d mean = z / s and d log p / d log s = z^2 - 1
        np.testing.assert_allclose(
            gradient(lambda x: policy.log_prob(x, actions), p),
            np.concatenate([z / stddev_p, z**2 - 1], 1),
            rtol=1e-4,
            atol=1e-5,
        )
        # d H / d mean = 0 and d H / d log s = 1
        np.testing.assert_allclose(
            gradient(policy.entropy, p), np.repeat([[0.0] * 3 + [1.0] * 3], 5, 0)
        )
        # d KL / d m_q = (m_q - m_p) / s_q^2,
        # d KL / d log s_q = 1 - (s_p^2 + (m_p - m_q)^2) / s_q^2
        squares = (stddev_p**2 + (mean_p - mean_q) ** 2) / stddev_q**2
        np.testing.assert_allclose(
            gradient(lambda x: policy.kl_divergence(p, x), q),
            np.concatenate([(mean_q - mean_p) / stddev_q**2, 1 - squares], 1),
            rtol=1e-4,
            atol=1e-5,
        )

    def test_bernoulli(self):
        policy = BernoulliPolicy(3)
        p, q = random_outputs(policy, 5), random_outputs(policy, 5, seed=2)
        actions = random_actions(policy, p)
        probs = scipy.special.expit(p)
        # d log pi(a) / d logit = a - pi, d H / d logit = -logit pi (1 - pi)
        np.testing.assert_allclose(
            gradient(lambda x: policy.log_prob(x, actions), p),
            actions - probs,
            atol=1e-6,
        )
        np.testing.assert_allclose(
            gradient(policy.entropy, p), -p * probs * (1 - probs), atol=1e-6
        )
        # d KL(p || q) / d logit of q = q - p
        np.testing.assert_allclose(
            gradient(lambda x: policy.kl_divergence(p, x), q),
            scipy.special.expit(q) - probs,
            atol=1e-6,
        )


@each_policy
def test_eager_graph_and_xla_agree(policy):
    p, q = random_outputs(policy, 6), random_outputs(policy, 6, seed=2)
    noise = np.random.default_rng(3).uniform(size=policy.noise_shape([6]))
    noise = noise.astype(np.float32)

    def everything(p, q, noise):
        with tf.GradientTape() as tape:
            tape.watch(p)
            actions = tf.stop_gradient(policy.sample(p, noise))
            scores = (
                policy.log_prob(p, actions),
                policy.entropy(p),
                policy.kl_divergence(p, q),
            )
            total = tf.add_n([(i + 1) * score for i, score in enumerate(scores)])
        return actions, policy.mode(p), *scores, tape.gradient(total, p)

    arguments = [tf.constant(x) for x in (p, q, noise)]
    eager = everything(*arguments)
    for jit_compile in (False, True):
        function = tf.function(everything, autograph=False, jit_compile=jit_compile)
        for x, y in zip(eager, function(*arguments), strict=True):
            # XLA fuses exponentials and quantiles with other roundings.
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@each_policy
def test_leading_dimensions_are_arbitrary(policy):
    p, q = random_outputs(policy, 2, 5), random_outputs(policy, 2, 5, seed=2)
    actions = random_actions(policy, p)
    flat_p, flat_q = p.reshape(10, -1), q.reshape(10, -1)
    flat_actions = actions.reshape(10, *actions.shape[2:])
    for all_, flat in (
        (policy.log_prob(p, actions), policy.log_prob(flat_p, flat_actions)),
        (policy.entropy(p), policy.entropy(flat_p)),
        (policy.kl_divergence(p, q), policy.kl_divergence(flat_p, flat_q)),
    ):
        assert all_.shape == (2, 5)
        np.testing.assert_array_equal(np.reshape(all_, [10]), flat)


@pytest.mark.parametrize("name", DISCRETE)
def test_samples_have_the_frequencies_of_the_distribution(name):
    policy = POLICIES[name]
    num_samples = 20_000
    outputs = np.repeat(random_outputs(policy, 1), num_samples, axis=0)
    samples = random_actions(policy, outputs).reshape(num_samples, -1)
    actions = all_actions(policy)
    expected = num_samples * np.exp(policy.log_prob(outputs[: len(actions)], actions))
    observed = [
        np.all(samples == action, axis=1).sum()
        for action in actions.reshape(len(actions), -1)
    ]
    assert sum(observed) == num_samples
    assert scipy.stats.chisquare(observed, expected, sum_check=False).pvalue > 0.01


def test_gaussian_samples_are_normal():
    policy = DiagonalGaussianPolicy(2)
    outputs = np.repeat([[1.0, -2.0, 0.5, -1.0]], 20_000, axis=0).astype(np.float32)
    samples = random_actions(policy, outputs)
    z = (samples - [1.0, -2.0]) / np.exp([0.5, -1.0])
    for each in z.T:
        assert scipy.stats.kstest(each, "norm").pvalue > 0.01
    assert abs(np.corrcoef(z.T)[0, 1]) < 0.02


@each_policy
def test_noise_at_the_ends_of_its_interval_gives_actions(policy):
    outputs = random_outputs(policy, 2)
    noise = np.zeros(policy.noise_shape([2]), np.float32)
    noise[1] = np.nextafter(np.float32(1.0), np.float32(0.0))
    actions = policy.sample(outputs, noise)
    assert np.all(np.isfinite(policy.log_prob(outputs, actions)))


@each_policy
def test_noise_shape_of_a_list_and_of_a_tensor(policy):
    outputs = random_outputs(policy, 2, 5)
    shape = policy.noise_shape([2, 5])
    traced = tf.function(lambda x: policy.noise_shape(tf.shape(x)[:-1]))(outputs)
    np.testing.assert_array_equal(shape, traced)
    actions = policy.sample(outputs, np.full(shape, 0.5))
    assert actions.shape[:2] == (2, 5)
    assert actions.dtype == policy.action_dtype


@each_policy
def test_mode_is_the_most_probable_action(policy):
    outputs = random_outputs(policy, 50)
    best = policy.log_prob(outputs, policy.mode(outputs)).numpy()
    for seed in range(20):
        other = policy.log_prob(outputs, random_actions(policy, outputs, seed))
        assert np.all(best >= other.numpy())


@each_policy
def test_entropy_and_divergence_are_expectations_of_log_probabilities(policy):
    p, q = random_outputs(policy, 1), random_outputs(policy, 1, seed=2)
    p, q = np.repeat(p, 20_000, axis=0), np.repeat(q, 20_000, axis=0)
    actions = random_actions(policy, p)
    log_p, log_q = policy.log_prob(p, actions), policy.log_prob(q, actions)

    def close(samples, expected):
        error = np.std(samples) / np.sqrt(len(samples))
        return abs(np.mean(samples) - expected) < 4 * error

    assert close(-log_p.numpy(), policy.entropy(p)[0])
    assert close((log_p - log_q).numpy(), policy.kl_divergence(p, q)[0])


@each_policy
def test_divergence_is_zero_from_itself_and_positive_from_others(policy):
    p, q = random_outputs(policy, 200), random_outputs(policy, 200, seed=2)
    np.testing.assert_allclose(policy.kl_divergence(p, p), 0.0, atol=1e-6)
    assert np.all(policy.kl_divergence(p, q).numpy() > 0.0)


@pytest.mark.parametrize("name", DISCRETE)
def test_entropy_is_largest_for_the_uniform_policy(name):
    policy = POLICIES[name]
    uniform = policy.entropy(np.zeros([1, policy.num_outputs], np.float32))
    np.testing.assert_allclose(uniform, np.log(len(all_actions(policy))), rtol=1e-6)
    assert np.all(policy.entropy(random_outputs(policy, 200)) < uniform)


EXTREME_OUTPUTS = {
    "categorical": [[1e9, -1e9, 0.0, 1.0], [-1e30, 1e30, 0.0, 1e4]],
    "diagonal_gaussian": [
        [0.0, 1.0, -1.0, -1000.0, -100.0, -30.0],
        [1e3, 0.0, 1.0, 1000.0, 100.0, 30.0],
    ],
    "multi_categorical": [[1e9, -1e9, 0.0, 1e9, -1e9], [0.0, 1e30, 0.0, -1e30, 1e30]],
    "bernoulli": [[1e9, -1e9, 0.0], [-1e30, 1e30, 1e4]],
}


@each_policy
def test_extreme_outputs_give_finite_values_and_gradients(policy):
    p = tf.constant(EXTREME_OUTPUTS[policy.name])
    q = tf.reverse(p, axis=[0])

    def everything(p, q):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([p, q])
            log_prob = policy.log_prob(p, policy.mode(p))
            entropy, kl = policy.entropy(p), policy.kl_divergence(p, q)
        gradients = [tape.gradient(y, p) for y in (log_prob, entropy, kl)]
        return log_prob, entropy, kl, *gradients, tape.gradient(kl, q)

    for jit_compile in (False, True):
        function = tf.function(everything, autograph=False, jit_compile=jit_compile)
        for x in function(p, q):
            assert np.all(np.isfinite(x))


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float64])
@each_policy
def test_outputs_of_any_float_type_are_computed_in_float32(policy, dtype):
    outputs = tf.cast(random_outputs(policy, 5), dtype)
    single = tf.cast(outputs, tf.float32)
    noise = np.zeros(policy.noise_shape([5]))
    actions = policy.sample(outputs, noise)
    np.testing.assert_array_equal(actions, policy.sample(single, noise))
    log_prob = policy.log_prob(outputs, actions)
    assert log_prob.dtype == tf.float32
    np.testing.assert_array_equal(log_prob, policy.log_prob(single, actions))


def test_an_action_with_a_logit_of_minus_infinity_is_ruled_out():
    policy = CategoricalPolicy(3)
    masked = np.array([[1.0, -np.inf, 0.0]], np.float32)
    possible = CategoricalPolicy(2)
    pair = masked[:, [0, 2]]
    np.testing.assert_allclose(policy.entropy(masked), possible.entropy(pair))
    np.testing.assert_allclose(
        policy.log_prob(masked, [2]), possible.log_prob(pair, [1])
    )
    np.testing.assert_array_equal(policy.kl_divergence(masked, masked), [0.0])
    for function in (
        policy.entropy,
        lambda x: policy.log_prob(x, [2]),
        lambda x: policy.kl_divergence(masked, x),
        lambda x: policy.kl_divergence(x, masked),
    ):
        masked_gradient = gradient(function, masked)
        assert np.all(np.isfinite(masked_gradient))
        assert masked_gradient[0, 1] == 0.0
    samples = random_actions(policy, np.repeat(masked, 10_000, axis=0))
    assert set(samples) == {0, 2}


def test_an_index_out_of_range_is_never_silent():
    policy = CategoricalPolicy(3)
    outputs = tf.zeros([2, 3])
    with pytest.raises(tf.errors.InvalidArgumentError, match="outside the valid range"):
        policy.log_prob(outputs, [0, 3])
    compiled = tf.function(policy.log_prob, autograph=False, jit_compile=True)
    assert np.isnan(compiled(outputs, tf.constant([0, 3]))[1])


def test_actions_from_columns():
    one_hot = np.eye(4, dtype=np.float32)[[2, 0]]
    index = np.array([[2.0], [0.0]], np.float32)
    for columns in (one_hot, index):
        actions = CategoricalPolicy(4).actions_from_columns(columns)
        np.testing.assert_array_equal(actions, [2, 0])
        assert actions.dtype == tf.int32
    bits = BernoulliPolicy(2).actions_from_columns(tf.constant([[1.0, 0.0]]))
    assert bits.dtype == tf.int32
    real = tf.constant([[0.5, -0.5]])
    assert DiagonalGaussianPolicy(2).actions_from_columns(real) is real


@each_policy
def test_config_round_trip(policy):
    config = keras.saving.serialize_keras_object(policy)
    again = keras.saving.deserialize_keras_object(config)
    assert again == policy
    assert hash(again) == hash(policy)
    assert again != CategoricalPolicy(17)


def test_a_name_takes_its_size_from_the_outputs():
    assert policy_distribution("categorical", 4) == CategoricalPolicy(4)
    assert policy_distribution("bernoulli", 4) == BernoulliPolicy(4)
    assert policy_distribution("diagonal_gaussian", 4) == DiagonalGaussianPolicy(2)
    policy = MultiCategoricalPolicy([2, 3])
    assert policy_distribution(policy, 5) is policy


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CategoricalPolicy(0), "num_actions must be an integer of at least 1"),
        (lambda: CategoricalPolicy(2**24 + 1), "at most 16777216, got 16777217"),
        (lambda: DiagonalGaussianPolicy(1.5), "num_dimensions .* got 1.5"),
        (lambda: BernoulliPolicy(-1), "num_bits .* got -1"),
        (lambda: MultiCategoricalPolicy([]), r"nvec .* got \[\]"),
        (lambda: MultiCategoricalPolicy([2, 0]), "num_actions .* got 0"),
        (
            lambda: CategoricalPolicy(3).entropy(tf.zeros([5, 2])),
            r"CategoricalPolicy\(num_actions=3\) needs 3 network outputs, got 2",
        ),
        (
            lambda: DiagonalGaussianPolicy(1).log_prob(tf.zeros([5, 2]), tf.zeros([5])),
            r"needs actions of shape \[5, 1\] .*, got \[5\]",
        ),
        (
            lambda: CategoricalPolicy(2).log_prob(tf.zeros([5, 2]), tf.zeros([5, 1])),
            r"needs actions of shape \[5\] .*, got \[5, 1\]",
        ),
        (
            lambda: policy_distribution("diagonal_gaussian", 3),
            "even number of network outputs .* got 3",
        ),
        (
            lambda: policy_distribution(CategoricalPolicy(3), 4),
            "needs 3 network outputs, got 4",
        ),
        (
            lambda: policy_distribution("gaussian", 4),
            "must be 'categorical', 'diagonal_gaussian', .* got 'gaussian'",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
