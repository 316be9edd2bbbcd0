"""What every generative model is put through."""

import functools
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo import random
from tfzoo.models import DRAW, GAN, MADE, VAE, VAEGAN, make_gan

SHAPE = (8, 8, 1)
MODELS = {
    "vae": lambda: VAE(SHAPE, latent_size=3, hidden_units=(16,), seed=1),
    "convolutional vae of levels": lambda: VAE(
        SHAPE,
        network="conv",
        latent_size=3,
        hidden_units=(4, 6),
        distribution="discretized_logistic",
        warm_up_steps=4,
        free_bits=0.1,
        beta=0.5,
    ),
    "made of masks and orders": lambda: MADE(
        SHAPE, hidden_units=(16, 16), num_masks=2, num_orders=2, direct=True
    ),
    "draw": lambda: DRAW(
        SHAPE, num_glimpses=3, hidden_units=16, latent_size=3, read_size=2, write_size=3
    ),
    "draw without attention": lambda: DRAW(
        SHAPE,
        num_glimpses=3,
        hidden_units=16,
        latent_size=3,
        read_size=None,
        write_size=None,
        beta=0.5,
    ),
}
# Those of which a network's loss depends on the others'.
PLAYERS = {
    "vae-gan": lambda: VAEGAN(SHAPE, latent_size=3, hidden_units=(4, 6)),
    "began": lambda: make_gan("began", SHAPE, base_channels=4),
    "infogan": lambda: make_gan("infogan", SHAPE, base_channels=4),
    "sngan": lambda: make_gan("sngan", SHAPE, base_channels=4, critic_steps=1),
    "wgan-gp": lambda: make_gan("wgan_gp", SHAPE, base_channels=4, critic_steps=2),
}
# The losses of these are the same whatever the random numbers are.
WITHOUT_NOISE = ("made of masks and orders",)


def images(num=16, seed=0):
    """Bright halves, left or right."""
    rng = np.random.default_rng(seed)
    left = rng.integers(0, 2, (num, 1, 1, 1))
    columns = np.arange(8)[None, None, :, None] < 4
    return np.where(columns == left, 1.0, np.zeros((1, 8, 1, 1))).astype(np.float32)


def make(name, optimizer=keras.optimizers.Adam, **options):
    model = {**MODELS, **PLAYERS}[name]()
    num_optimizers = 2 if isinstance(model, GAN) else 1
    optimizers = [optimizer(1e-2) for _ in range(num_optimizers)]
    model.compile(*optimizers, **options)
    return model


def fit(model, num_epochs=1, **options):
    options = {"batch_size": 16, "shuffle": False, "verbose": 0, **options}
    return model.fit(images(), epochs=num_epochs, **options).history


@functools.cache
def fitted(name):
    """Returns a model after 60 steps in a graph, its losses, and its traces' number."""
    model = make(name, jit_compile=False)
    count = 0
    step = model.train_step

    def counted(data):
        nonlocal count
        count += 1
        return step(data)

    model.train_step = counted
    return model, fit(model, 60), count


def weights(model):
    return [w.numpy() for w in model.trainable_variables]


@pytest.mark.parametrize(
    ("make_model", "expected"),
    [
        (lambda: VAE((8, 8, 1)), True),
        (lambda: VAE((8, 8, 1), network="conv"), False),
        (lambda: VAEGAN((8, 8, 1), network="mlp"), False),
        (lambda: MADE((8, 8, 1)), True),
        (lambda: DRAW((8, 8, 1)), True),
        (lambda: make_gan("dcgan", (8, 8, 1)), False),
    ],
    ids=["vae", "vae conv", "vae_gan", "made", "draw", "dcgan"],
)
def test_by_default_xla_compiles_what_it_makes_faster(make_model, expected):
    model = make_model()
    num_optimizers = 2 if isinstance(model, GAN) else 1
    model.compile(*[keras.optimizers.SGD() for _ in range(num_optimizers)])
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    assert model.jit_compile == (expected or on_gpu)


@pytest.fixture(params=[*MODELS, *PLAYERS])
def name(request):
    return request.param


@pytest.fixture(params=MODELS)
def likelihood_model(request):
    return request.param


def test_steps_are_the_same_eagerly_in_a_graph_and_through_xla(name):
    modes = {"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}
    runs = []
    # Adam makes steps of the rate of gradients that are nothing but rounding.
    optimizer = keras.optimizers.SGD if name in PLAYERS else keras.optimizers.Adam
    for mode in modes:
        model = make(name, optimizer, **mode)
        runs.append((fit(model), weights(model)))
    for history, changed in runs[1:]:
        for metric, values in history.items():
            np.testing.assert_allclose(values, runs[0][0][metric], rtol=1e-4)
        for one, two in zip(changed, runs[0][1], strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)


def test_a_step_is_traced_once(name):
    _, _, num_traces = fitted(name)
    assert num_traces == 1


def test_steps_on_a_fixed_batch_lower_the_loss(likelihood_model):
    losses = fitted(likelihood_model)[1]["loss"]
    assert np.mean(losses[-5:]) < losses[0] - 5


def test_a_checkpoint_in_the_middle_goes_on_with_the_same_losses(name, tmp_path):
    whole, resumed = fitted(name)[0], make(name, jit_compile=False)
    path = tf.train.Checkpoint(model=whole).write(str(tmp_path / "state"))
    expected = fit(whole, 2)
    tf.train.Checkpoint(model=resumed).read(path).assert_existing_objects_matched()
    assert fit(resumed, 2) == expected
    for one, two in zip(weights(whole), weights(resumed), strict=True):
        np.testing.assert_array_equal(one, two)
    # As it was for the other tests.
    tf.train.Checkpoint(model=whole).read(path)


def test_evaluation_is_the_same_each_time(name):
    model = fitted(name)[0]
    results = [model.evaluate(images(), batch_size=5, verbose=0) for _ in range(2)]
    assert results[0] == results[1]


def test_mixed_precision_runs(name):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = make(name, jit_compile=False)
        history = fit(model, 20)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert model.trainable_variables[0].dtype == "float32"
    assert all(np.isfinite(values).all() for values in history.values())
    if name in MODELS:
        assert history["loss"][-1] < history["loss"][0]


def test_two_devices_have_their_own_noise_and_the_gradients_of_one(likelihood_model):
    name = likelihood_model
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        model = MODELS[name]()
        model.compile(keras.optimizers.SGD(1e-2), jit_compile=False)
    one = MODELS[name]()
    one.compile(keras.optimizers.SGD(1e-2), run_eagerly=True)
    batch = tf.constant(images(8))
    dataset = tf.data.Dataset.from_tensors(batch).unbatch().batch(8)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    model.fit(dataset.with_options(options), verbose=0)

    # What each of two replicas does, with its half and its noise, on one device.
    step_seed = random.fold_in(random.make_seed(one.seed), 0)
    losses = []
    with tf.GradientTape() as tape:
        for replica in range(2):
            loss, _ = one.batch_loss(
                batch[4 * replica : 4 * replica + 4],
                random.fold_in(step_seed, replica),
                training=True,
            )
            losses.append(loss)
        total = (losses[0] + losses[1]) / 2
    variables = [v.value for v in one.trainable_variables]
    one.optimizer.apply(tape.gradient(total, variables), one.trainable_variables)
    for mirrored, expected in zip(weights(model), weights(one), strict=True):
        np.testing.assert_allclose(mirrored, expected, rtol=1e-4, atol=1e-6)
    same, _ = one.batch_loss(batch[:4], random.fold_in(step_seed, 1), training=True)
    other, _ = one.batch_loss(batch[:4], random.fold_in(step_seed, 0), training=True)
    assert (float(same) != float(other)) == (name not in WITHOUT_NOISE)


_CLIENT = """
import json, pathlib, sys
import numpy as np, tensorflow as tf
folder = pathlib.Path(sys.argv[1])
images = np.load(folder / "images.npy")
results = {}
for path in folder.glob("*/saved_model.pb"):
    served = tf.saved_model.load(str(path.parent))
    results[path.parent.name] = calls = {}
    for name, signature in served.signatures.items():
        for num in (1, 3):
            values = {"images": images[:num], "num": num, "seed": [5, 0]}
            inputs = {
                key: tf.constant(
                    values.get(key, np.zeros([num, *spec.shape[1:]])), spec.dtype
                )
                for key, spec in signature.structured_input_signature[1].items()
            }
            outputs = signature(**inputs)
            calls[f"{name} {num}"] = {k: v.numpy().tolist() for k, v in outputs.items()}
assert "tfzoo" not in sys.modules
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The models, and what their exports return in a process that knows no tfzoo."""
    folder = tmp_path_factory.mktemp("served")
    np.save(folder / "images.npy", images())
    models = {}
    for name in (*MODELS, *PLAYERS):
        models[name] = fitted(name)[0]
        models[name].export(folder / name)
    output = subprocess.run(
        [sys.executable, "-c", _CLIENT, folder],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return models, json.loads(output.splitlines()[-1])


def test_the_saved_model_is_served_without_keras_or_tfzoo(name, served):
    models, results = served
    model, results = models[name], results[name]
    names = {key.split()[0] for key in results}
    assert {"serving_default", "sample"} <= names
    for num in (1, 3):
        drawn = results[f"sample {num}"]["images"]
        np.testing.assert_allclose(drawn, model.sample(num, seed=5), atol=1e-5)
        if "reconstruct" in names:
            np.testing.assert_allclose(
                results[f"reconstruct {num}"]["images"],
                model.reconstruct(images()[:num]),
                atol=1e-5,
            )
        if "log_prob" in names:
            np.testing.assert_allclose(
                results[f"log_prob {num}"]["log_prob"],
                model.log_prob(images()[:num]),
                atol=1e-4,
            )


def test_only_a_saved_model_can_be_exported(tmp_path):
    with pytest.raises(ValueError, match="format must be 'tf_saved_model'"):
        make("vae").export(tmp_path / "other", format="onnx")
