"""The NumPy policy against the Keras networks that it is a copy of."""

import itertools

import keras
import numpy as np
import pytest
import scipy.stats

from tfzoo.agents.networks import actor_critic
from tfzoo.environments.numpy_policy import NumpyPolicy
from tfzoo.layers import RunningNormalization
from tfzoo.losses import CategoricalPolicy, DiagonalGaussianPolicy

FEATURES, OUTPUTS = 11, 3


def layers(*widths, seed=0):
    generator = np.random.default_rng(seed)
    return [
        (generator.normal(size=(i, o)), generator.normal(size=o))
        for i, o in itertools.pairwise(widths)
    ]


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "relu", "elu", "silu", "sigmoid"])
@pytest.mark.parametrize("distribution", [CategoricalPolicy, DiagonalGaussianPolicy])
def test_agrees_with_keras(distribution, activation, normalized):
    generator = np.random.default_rng(1)
    distribution = distribution(OUTPUTS)
    network = actor_critic(
        (FEATURES,),
        distribution,
        activation=activation,
        hidden_units=(64, 32),
        shared=True,
    )
    for variable in network.trainable_variables:
        value = generator.normal(size=variable.shape)
        variable.assign(0.2 * value)
    dense = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
    head, log_stddev = network.get_layer("policy"), None
    if distribution.name == "diagonal_gaussian":
        head, log_stddev = head.mean, head.log_stddev.numpy()
    hidden = [layer for layer in dense if layer.name not in ("policy", "value")]
    assert len(hidden) == 2
    normalization = RunningNormalization(clip=1.5)
    normalization.build((None, FEATURES))
    observations = (3.0 + 2.0 * generator.normal(size=(50, FEATURES))).astype("float32")
    inputs, statistics = observations, {}
    if normalized:
        normalization.update(observations)
        inputs = normalization(observations)
        assert np.abs(inputs).max() == 1.5
        statistics = {
            "mean": normalization.mean.numpy(),
            "variance": normalization.variance.numpy(),
            "epsilon": normalization.epsilon,
            "clip": normalization.clip,
        }
    policy = NumpyPolicy(
        [(layer.kernel.numpy(), layer.bias.numpy()) for layer in (*hidden, head)],
        activation,
        log_stddev=log_stddev,
        **statistics,
    )
    assert policy.num_features == FEATURES
    assert policy.num_outputs == OUTPUTS
    assert policy.is_gaussian == (log_stddev is not None)

    outputs, _ = network(inputs)
    result = policy(observations)
    assert result.dtype == np.float32
    uniform = generator.uniform(0.01, 0.99, size=(50, OUTPUTS)).astype("float32")
    if policy.is_gaussian:
        np.testing.assert_allclose(result, outputs[:, :OUTPUTS], rtol=0, atol=1e-5)
        noise = np.exp(log_stddev) * scipy.stats.norm.ppf(uniform)
        assert policy.act(observations, noise.astype("float32")).dtype == np.float32
    else:
        np.testing.assert_allclose(result, outputs, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(
            policy.act(observations, np.zeros_like(uniform)), distribution.mode(outputs)
        )
        noise = -np.log(-np.log(uniform))
    np.testing.assert_allclose(
        policy.act(observations, noise.astype("float32")),
        distribution.sample(outputs, uniform),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("width", [1, 64, 256])
def test_rows_do_not_depend_on_each_other(width):
    policy = NumpyPolicy(
        layers(FEATURES, width, width, OUTPUTS),
        "tanh",
        mean=np.ones(FEATURES),
        variance=np.full(FEATURES, 2.0),
    )
    features = np.random.default_rng(2).normal(size=(13, FEATURES)).astype("float32")
    whole = policy(features)
    for parts in (np.split(features, 13), np.array_split(features, 3)):
        np.testing.assert_array_equal(whole, np.concatenate([*map(policy, parts)]))


def test_gaussian_noise_has_the_standard_deviations():
    log_stddev = np.array([-1.0, 0.0, 30.0])
    policy = NumpyPolicy(layers(FEATURES, OUTPUTS), "tanh", log_stddev=log_stddev)
    noise = policy.noise(np.random.default_rng(0), 20_000)
    assert noise.dtype == np.float32
    # Clipped as in `tfzoo.losses`. Four standard errors of a deviation are 2 %.
    np.testing.assert_allclose(noise.std(0), np.exp([-1.0, 0.0, 20.0]), rtol=0.02)
    for column in (noise / np.exp([-1.0, 0.0, 20.0])).T:
        assert scipy.stats.kstest(column, "norm").pvalue > 0.001


def test_categorical_actions_have_the_probabilities():
    policy = NumpyPolicy(layers(FEATURES, OUTPUTS), "tanh")
    features = np.random.default_rng(0).normal(size=(1, FEATURES)).astype("float32")
    noise = policy.noise(np.random.default_rng(0), 20_000)
    assert noise.dtype == np.float32
    actions = policy.act(np.repeat(features, len(noise), axis=0), noise)
    expected = len(noise) * scipy.special.softmax(policy(features)[0])
    counts = np.bincount(actions, minlength=OUTPUTS)
    assert scipy.stats.chisquare(counts, expected, sum_check=False).pvalue > 0.001


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "gelu"}, "activation must be one of 'elu', .*, got 'gelu'"),
        ({"layers": []}, "at least one"),
        ({"layers": [*layers(4, 5), *layers(6, 3)]}, r"kernel of layer 1 .* \(5, 3\)"),
        ({"layers": [(np.ones(4), np.ones(4))]}, r"kernel of layer 0 .* got \(4,\)"),
        ({"layers": [(np.ones([4, 3]), np.ones(4))]}, r"bias of layer 0 .* \(3,\)"),
        (
            {"log_stddev": np.zeros(2)},
            r"log_stddev must be of shape \(3,\), got \(2,\)",
        ),
        ({"mean": np.zeros(4)}, "mean and variance must be given together"),
        ({"mean": np.zeros(3), "variance": np.ones(4)}, r"mean must be .* \(4,\)"),
        ({"mean": np.zeros(4), "variance": np.ones(1)}, r"variance must be .* \(4,\)"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    arguments = {"layers": layers(4, 3), "activation": "tanh", **arguments}
    with pytest.raises(ValueError, match=message):
        NumpyPolicy(**arguments)
