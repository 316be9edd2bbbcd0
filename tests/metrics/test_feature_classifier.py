"""The classifier that gives features learns, is found again, and is whole."""

import importlib
import warnings

import keras
import numpy as np
import pytest

from tfzoo.datasets import ImageDataset, ImageSplit, load_images
from tfzoo.metrics import feature_classifier, frechet_distance
from tfzoo.metrics.feature_classifier import _network, _read

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def digits():
    return load_images("digits")


@pytest.fixture(scope="module")
def network(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return feature_classifier(digits, cache_dir=folder, num_steps=300)


def tiny(size=8, channels=1, num=12):
    """Images of two classes, black and white with noise."""
    labels = (np.arange(num) % 2).astype(np.int32)
    shape = (num, size, size, channels)
    images = 200 * labels[:, None, None, None] + RNG.integers(50, size=shape)
    split = ImageSplit(images.astype(np.uint8), labels)
    return ImageDataset("a/folder/tiny", split, split)


def test_digits_are_learned(digits, network):
    outputs = network(digits.test.images, value_range=(0, 255))
    right = outputs.probabilities.argmax(axis=1) == digits.test.labels
    assert network.accuracy == pytest.approx(right.mean())
    assert network.accuracy > 0.95
    assert outputs.features.shape == (len(right), 128)
    np.testing.assert_allclose(outputs.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert network.name == "tfzoo classifier of digits"


def test_features_tell_real_images_from_others(digits, network):
    def distance(images):
        features = network(images, value_range=(0, 255)).features
        return frechet_distance(real, features)

    images = digits.test.images
    real = network(images, value_range=(0, 255)).features
    noise = RNG.integers(256, size=images.shape, dtype=np.uint8)
    # The same brightness in each place, but of other images.
    shuffled = np.stack([RNG.permutation(p) for p in images.reshape(-1, 64).T], axis=1)
    floor = distance(digits.train.images[:360])
    assert distance(shuffled.reshape(images.shape)) > 3 * floor
    assert distance(noise) > 10 * floor
    # One digit of ten.
    assert distance(images[digits.test.labels == 3]) > 10 * floor


@pytest.fixture
def trainings(monkeypatch):
    """Training in no time; the list of the data sets that were trained on."""
    datasets = []

    def train(model, dataset, num_steps, seed, verbose):
        datasets.append(dataset)
        for weight in model.weights:
            weight.assign(weight + 0.01)
        return 0.75

    # (The name of the module is that of a function in the package, too.)
    module = importlib.import_module("tfzoo.metrics.feature_classifier")
    monkeypatch.setattr(module, "_train", train)
    return datasets


def test_a_trained_classifier_is_found_again(tmp_path, trainings):
    dataset = tiny()
    first = feature_classifier(dataset, cache_dir=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = feature_classifier(dataset, cache_dir=tmp_path)
    assert len(trainings) == 1
    assert again.record() == first.record()
    assert again.accuracy == 0.75
    images = dataset.test.images
    np.testing.assert_array_equal(
        again(images, value_range=(0, 255)).features,
        first(images, value_range=(0, 255)).features,
    )
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.suffix for path in files] == [".npz"]


def test_another_data_set_or_training_is_another_classifier(tmp_path, trainings):
    dataset = tiny()
    train, test = dataset.train, dataset.test
    images = train.images.copy()
    images[-1, -1, -1] ^= 1
    others = [
        ImageDataset("tiny", ImageSplit(images, train.labels), test),
        ImageDataset("tiny", train, ImageSplit(images, test.labels)),
        ImageDataset("tiny", ImageSplit(train.images, train.labels[::-1]), test),
    ]
    for each in (dataset, *others):
        feature_classifier(each, cache_dir=tmp_path)
    feature_classifier(dataset, cache_dir=tmp_path, seed=1)
    feature_classifier(dataset, cache_dir=tmp_path, num_steps=2)
    assert len(trainings) == len(list(tmp_path.rglob("*.npz"))) == 6
    # Its name is nothing that it learns from.
    feature_classifier(ImageDataset("other", train, test), cache_dir=tmp_path)
    assert len(trainings) == 6


def test_same_seed_same_classifier(tmp_path):
    dataset = tiny(num=200)

    def train(name, seed=0):
        folder = tmp_path / name
        return feature_classifier(dataset, cache_dir=folder, num_steps=4, seed=seed)

    first = train("first")
    assert train("other", seed=1).hash != first.hash
    # Whatever the precision that other networks are trained in.
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        again = train("again")
    finally:
        keras.config.set_dtype_policy("float32")
    assert again.hash == first.hash


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_replaced(tmp_path, trainings, damage):
    dataset = tiny()
    first = feature_classifier(dataset, cache_dir=tmp_path)
    (path,) = tmp_path.rglob("*.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.warns(UserWarning, match="it is damaged .* trained again"):
        again = feature_classifier(dataset, cache_dir=tmp_path)
    assert again.hash == first.hash
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        feature_classifier(dataset, cache_dir=tmp_path)
    assert len(trainings) == 2


def test_a_changed_byte_is_seen_or_has_no_effect(tmp_path, trainings):
    dataset = tiny()
    feature_classifier(dataset, cache_dir=tmp_path)
    (path,) = tmp_path.rglob("*.npz")
    whole = path.read_bytes()
    model = _network(dataset.image_shape, 2, seed=0)
    outcomes = []
    for place in RNG.integers(len(whole), size=30):
        changed = bytearray(whole)
        changed[place] ^= 0x10
        path.write_bytes(changed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcomes.append(_read(path, model))
    assert outcomes.count(None) > 25
    assert set(outcomes) <= {None, 0.75}


def test_weights_of_another_file_are_not_taken(tmp_path, trainings):
    dataset = tiny()
    feature_classifier(dataset, cache_dir=tmp_path)
    (path,) = tmp_path.rglob("*.npz")
    with np.load(path) as file:
        arrays = dict(file)
    arrays["weight_0"] = arrays["weight_0"] + 1e-3
    np.savez(path, **arrays)
    with pytest.warns(UserWarning, match="not those that were written"):
        feature_classifier(dataset, cache_dir=tmp_path)
    assert len(trainings) == 2


def test_writing_that_fails_leaves_nothing(tmp_path, trainings, monkeypatch):
    def stop(file, **_):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", stop)
    with pytest.raises(KeyboardInterrupt):
        feature_classifier(tiny(), cache_dir=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (5, 3)])
def test_sizes_and_colours(tmp_path, size, channels):
    dataset = tiny(size, channels)
    network = feature_classifier(dataset, cache_dir=tmp_path, num_steps=20)
    assert network.accuracy == 1
    assert network.name == "tfzoo classifier of tiny"
    images = dataset.test.images
    assert network(images, value_range=(0, 255)).features.shape == (12, 128)


def test_images_without_labels_are_refused(tmp_path):
    images = tiny().train.images
    dataset = ImageDataset("bare", *[ImageSplit(images, None)] * 2)
    with pytest.raises(ValueError, match="bare has no labels for a classifier"):
        feature_classifier(dataset, cache_dir=tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cache_dir: .*file/.* cannot be made"):
        feature_classifier(tiny(), cache_dir=tmp_path / "file")
