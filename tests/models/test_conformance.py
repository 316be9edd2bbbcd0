"""What every generative model is put through."""

import contextlib
import functools
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.devices import two_devices
from tfzoo import random
from tfzoo.models import DRAW, GAN, MADE, VAE, VAEGAN, make_gan

SHAPE = (8, 8, 1)


def gan(gan_type, **options):
    model = make_gan(gan_type, SHAPE, base_channels=4, **options)
    # Tiny networks with weights of 0.02 would say the same of everything.
    for weight in model.weights:
        if weight.path.endswith("kernel"):
            weight.assign(8.0 * weight)
    # Clipping what is larger would be more than a step, so it is done here.
    if (limit := model.weight_clip) is not None:
        for weight in model.discriminator.trainable_variables:
            weight.assign(np.clip(weight, -limit, limit))
    return model


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
    "dcgan of labels and minibatches": lambda: gan(
        "dcgan", num_classes=2, minibatch_kernels=3
    ),
    "lsgan": lambda: gan("lsgan"),
    "wgan of two critic steps": lambda: gan("wgan", critic_steps=2, weight_clip=0.1),
    "wgan-gp": lambda: gan("wgan_gp", critic_steps=1),
    "sngan": lambda: gan("sngan", critic_steps=1),
    "began": lambda: gan("began"),
    "infogan": lambda: gan("infogan"),
}
# Variables that no gradient moves.
STATE = ("moving_mean", "moving_variance", "u")
# The losses of these are the same whatever the random numbers are.
WITHOUT_NOISE = ("made of masks and orders",)


def images(num=16, seed=0):
    """Bright halves, left or right."""
    rng = np.random.default_rng(seed)
    left = rng.integers(0, 2, (num, 1, 1, 1))
    columns = np.arange(8)[None, None, :, None] < 4
    return np.where(columns == left, 1.0, np.zeros((1, 8, 1, 1))).astype(np.float32)


def batch_of(model, num=16):
    """The images, and which half is bright if the model learns from labels."""
    batch = images(num)
    if getattr(model, "num_classes", None) is None:
        return (batch,)
    return batch, batch[:, 0, 0, 0].astype(np.int32)


def make(name, optimizer=None, **options):
    model = {**MODELS, **PLAYERS}[name]()
    clipped = getattr(model, "weight_clip", None) is not None
    optimizer = optimizer or (
        keras.optimizers.RMSprop if clipped else keras.optimizers.Adam
    )
    num_optimizers = 2 if isinstance(model, GAN) else 1
    optimizers = [optimizer(1e-2) for _ in range(num_optimizers)]
    model.compile(*optimizers, **options)
    return model


def fit(model, num_epochs=1, **options):
    options = {"batch_size": 16, "shuffle": False, "verbose": 0, **options}
    return model.fit(*batch_of(model), epochs=num_epochs, **options).history


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


@contextlib.contextmanager
def borrowed(model, folder):
    """Puts a model that tests share back to what it was."""
    checkpoint = tf.train.Checkpoint(model=model)
    path = checkpoint.write(str(folder / "borrowed"))
    try:
        yield model
    finally:
        checkpoint.read(path)


def weights(model):
    return [w.numpy() for w in model.trainable_variables]


def difference(start, one, other, without=()):
    """The largest difference of two models, as a share of their layer's step.

    Of the state, such as moving statistics, each kind is taken by itself.
    """
    shares = []
    for layers in zip(start.layers, one.layers, other.layers, strict=True):
        for kind in ("weights", *STATE):
            if kind in without:
                continue
            groups = [
                [
                    variable.numpy().ravel()
                    for variable in layer.weights
                    if (variable.name if variable.name in STATE else "weights") == kind
                ]
                for layer in layers
            ]
            if groups[0]:
                first, ours, expected = map(np.concatenate, groups)
                step = np.abs(expected - first).max()
                assert step > 0
                shares.append(np.abs(ours - expected).max() / step)
    return np.max(shares)


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


@pytest.fixture(params=PLAYERS)
def players(request):
    return request.param


def test_steps_are_the_same_eagerly_in_a_graph_and_through_xla(name):
    # Adam makes steps of the rate of gradients that are nothing but rounding.
    optimizer = keras.optimizers.SGD if name in PLAYERS else keras.optimizers.Adam
    start, runs = make(name, optimizer), []
    for mode in {"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}:
        model = make(name, optimizer, **mode)
        runs.append((fit(model), model))
    for history, model in runs[1:]:
        for metric, values in history.items():
            np.testing.assert_allclose(values, runs[0][0][metric], rtol=1e-4)
        assert difference(start, model, runs[0][1]) < 1e-3


def test_a_step_is_traced_once(name):
    _, _, num_traces = fitted(name)
    assert num_traces == 1


def test_steps_on_a_fixed_batch_lower_the_loss(likelihood_model):
    losses = fitted(likelihood_model)[1]["loss"]
    assert np.mean(losses[-5:]) < losses[0] - 5


# What each player minimises, of what `fit` shows.
PLAYERS_LOSSES = {
    "generator": lambda model, shown: shown["generator_loss"],
    "discriminator": lambda model, shown: shown["discriminator_loss"],
    "encoder": lambda model, shown: shown["loss"],
    "decoder": lambda model, shown: (
        model.gamma * shown["feature_error"] + shown["generator_loss"]
    ),
}


def losses_of_steps(model, player):
    """A player's losses in steps on a batch with the same noise; the others stay."""
    others = [x for x in model.layers if x is not getattr(model, player)]
    held = [x.get_weights() for x in others]
    if isinstance(model, GAN):
        model.generator_optimizer.learning_rate = 1e-3 * (player == "generator")
        model.discriminator_optimizer.learning_rate = 1e-3 * (player != "generator")
    else:
        model.optimizer.learning_rate = 1e-3
    losses = []
    for _ in range(5):
        model.step_counter.assign(0)
        shown = {name: values[0] for name, values in fit(model).items()}
        losses.append(PLAYERS_LOSSES[player](model, shown))
        for other, values in zip(others, held, strict=True):
            other.set_weights(values)
    return losses


def test_each_step_of_one_player_on_a_fixed_batch_lowers_its_loss(players, tmp_path):
    first = tf.train.Checkpoint(model=make(players)).write(str(tmp_path / "first"))
    with borrowed(fitted(players)[0], tmp_path) as model:
        for player in PLAYERS_LOSSES:
            if hasattr(model, player):
                tf.train.Checkpoint(model=model).read(first)
                losses = losses_of_steps(model, player)
                assert np.diff(losses).max() < 0, (player, losses)


def test_a_checkpoint_in_the_middle_goes_on_with_the_same_losses(name, tmp_path):
    resumed = make(name, jit_compile=False)
    with borrowed(fitted(name)[0], tmp_path) as whole:
        path = tf.train.Checkpoint(model=whole).write(str(tmp_path / "state"))
        expected = fit(whole, 2)
        tf.train.Checkpoint(model=resumed).read(path).assert_existing_objects_matched()
        assert fit(resumed, 2) == expected
        for one, two in zip(weights(whole), weights(resumed), strict=True):
            np.testing.assert_array_equal(one, two)


def test_evaluation_is_the_same_each_time(name):
    model = fitted(name)[0]
    batch = batch_of(model)
    results = [model.evaluate(*batch, batch_size=5, verbose=0) for _ in range(2)]
    assert results[0] == results[1]


def layers_of(model):
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from layers_of(layer)


def test_mixed_precision_runs(name):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = make(name, jit_compile=False)
        history = fit(model, 20)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    kernels = [layer for layer in layers_of(model) if hasattr(layer, "kernel")]
    assert {layer.compute_dtype for layer in kernels} == {"bfloat16"}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    for metric, precise in fitted(name)[1].items():
        values = history[metric]
        assert np.isfinite(values).all()
        assert values[0] == pytest.approx(precise[0], rel=0.05, abs=0.05)
        assert values != precise[:20]
    if name in MODELS:
        assert history["loss"][-1] < history["loss"][0]


def step_of_two(name, seeds):
    """A model after the mean of the steps of two replicas, which one device takes."""
    model = make(name, keras.optimizers.SGD)
    variables = [v for layer in model.layers for v in layer.variables]

    def take_mean(update):
        before, after = [v.numpy() for v in variables], []
        for replica, seed in enumerate(seeds):
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)
            update(seed, *(x[8 * replica : 8 * replica + 8] for x in batch_of(model)))
            after.append([v.numpy() for v in variables])
        for variable, *values in zip(variables, *after, strict=True):
            variable.assign(np.mean(values, axis=0))

    def take_step(seed, images):
        model.step_counter.assign(0)
        model._seed_of_replica = lambda number: seed
        model.train_step(images)

    if not isinstance(model, GAN):
        take_mean(take_step)
        return model

    num_parts = model.critic_steps
    size = 8 // num_parts
    # The mean is what is clipped.
    clip, model.weight_clip = model.weight_clip, None

    def update(number, seed, images, labels=None):
        part = min(number, num_parts - 1)
        rows = slice(size * part, size * part + size)
        classes = None if labels is None else tf.one_hot(labels[rows], 2)
        seed = random.fold_in(seed, number)
        if number < num_parts:
            model._update_discriminator(tf.constant(images[rows]), classes, seed)
        else:
            model._update_generator(size, classes, seed)

    for number in range(num_parts + 1):
        take_mean(functools.partial(update, number))
        if clip is not None:
            for weight in model.discriminator.trainable_variables:
                weight.assign(np.clip(weight, -clip, clip))
    model._update_average()
    return model


def batches_of(model, num, batch_size):
    """Batches that a strategy splits over its devices."""
    dataset = tf.data.Dataset.from_tensor_slices(batch_of(model, num))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return dataset.batch(batch_size).with_options(options)


def test_two_devices_have_their_own_noise_and_the_gradients_of_one(name):
    with two_devices().scope():
        model = make(name, keras.optimizers.SGD, jit_compile=False)
    model.fit(batches_of(model, 16, 16), shuffle=False, verbose=0)

    step_seed = random.fold_in(random.make_seed(model.seed), 0)
    seeds = [random.fold_in(step_seed, replica) for replica in range(2)]
    compared = functools.partial(
        difference,
        make(name),
        model,
        # Each replica has its own.
        without=("moving_mean", "moving_variance"),
    )
    assert compared(step_of_two(name, seeds)) < 5e-3
    same_noise = compared(step_of_two(name, seeds[:1] * 2))
    assert (same_noise > 0.1) == (name not in WITHOUT_NOISE)


def test_two_devices_evaluate_images_that_cannot_be_split_evenly(name):
    with two_devices().scope():
        model = make(name, jit_compile=False)
    one_device = make(name, jit_compile=False)
    # One image leaves the second device, whose noise is another, without any.
    for num in (1, 5) if name in WITHOUT_NOISE else (1,):
        shown, expected = (
            each.evaluate(batches_of(model, num, num), verbose=0, return_dict=True)
            for each in (model, one_device)
        )
        assert shown == pytest.approx(expected, rel=1e-4, abs=1e-6)


# Loads the models where importing Keras or tfzoo fails, and prints what they return.
_CLIENT = """
import json, pathlib, sys
sys.modules["keras"] = sys.modules["tf_keras"] = sys.modules["tfzoo"] = None
import numpy as np, tensorflow as tf
results = {}
for path in pathlib.Path(sys.argv[1]).glob("*/saved_model.pb"):
    inputs = np.load(path.parent.with_suffix(".npz"))
    served = tf.saved_model.load(str(path.parent))
    results[path.parent.name] = calls = {}
    for name, signature in served.signatures.items():
        specs = signature.structured_input_signature[1]
        for num in (1, 3):
            values = {key: inputs[key][:num] for key in inputs}
            values |= {"num": num, "seed": [5, 0]}
            outputs = signature(
                **{key: tf.constant(values[key], specs[key].dtype) for key in specs}
            )
            calls[f"{name} {num}"] = {k: v.numpy().tolist() for k, v in outputs.items()}
print(json.dumps(results))
"""


def judged(model, images, latent, labels=None):
    classes = None if labels is None else tf.one_hot(labels, 2)
    return model.judge(images, classes, training=False)


def named(names, values):
    return dict(zip(names, values, strict=True))


# What the signatures return, by the model's own methods.
SIGNATURES = {
    "sample": lambda model, x: {"images": model.sample(len(x["images"]), seed=5)},
    "reconstruct": lambda model, x: {"images": model.reconstruct(x["images"])},
    "encode": lambda model, x: named(
        ("mean", "log_variance"), model.encode(x["images"])
    ),
    "decode": lambda model, x: {"images": model.decode(x["latent"])},
    "canvases": lambda model, x: model.canvases(x["images"]),
    "log_prob": lambda model, x: {"log_prob": model.log_prob(x["images"])},
    "generate": lambda model, x: {"images": model(x["latent"], x.get("labels"))},
    "discriminate": lambda model, x: {"logits": judged(model, **x)},
    "codes": lambda model, x: named(
        ("probabilities", "continuous"), model.codes(x["images"])
    ),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The models, inputs, and what their exports return where there is no tfzoo."""
    folder = tmp_path_factory.mktemp("served")
    cases = {}
    for name in (*MODELS, *PLAYERS):
        model = fitted(name)[0]
        inputs = dict(zip(("images", "labels"), batch_of(model, 3), strict=False))
        if hasattr(model, "latent_size"):
            glimpses = [model.num_glimpses] if isinstance(model, DRAW) else []
            shape = [3, *glimpses, model.latent_size]
            inputs["latent"] = random.normal(shape, random.make_seed(1)).numpy()
        np.savez(folder / f"{name}.npz", **inputs)
        model.export(folder / name)
        cases[name] = model, inputs
    output = subprocess.run(
        [sys.executable, "-c", _CLIENT, folder],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return cases, json.loads(output.splitlines()[-1])


def test_the_saved_model_is_served_without_keras_or_tfzoo(name, served):
    cases, results = served
    (model, inputs), results = cases[name], results[name]
    # All that a model can do.
    names = {signature for signature in SIGNATURES if hasattr(model, signature)}
    default = "log_prob" if "log_prob" in names else "reconstruct"
    if isinstance(model, GAN):
        names.add("discriminate")
        default = "sample"
    assert {key.split()[0] for key in results} == {"serving_default", *names}
    for num in (1, 3):
        batch = {key: value[:num] for key, value in inputs.items()}
        for signature in names:
            expected = SIGNATURES[signature](model, batch)
            returned = results[f"{signature} {num}"]
            assert returned.keys() == expected.keys()
            for key, value in expected.items():
                np.testing.assert_allclose(returned[key], value, rtol=1e-5, atol=1e-5)
        assert results[f"serving_default {num}"] == results[f"{default} {num}"]


def test_only_a_saved_model_can_be_exported(tmp_path):
    with pytest.raises(ValueError, match="format must be 'tf_saved_model'"):
        make("vae").export(tmp_path / "other", format="onnx")
