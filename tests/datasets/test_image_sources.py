"""Images from every kind of source, and what is said of those that cannot be had."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tfzoo.datasets import DatasetError, load_images


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tf.io.encode_png(np.asarray(image, np.uint8)).numpy())


def image(value, shape=(8, 8, 3)):
    return np.full(shape, value)


def test_digits_are_there_without_a_network():
    digits = load_images("digits")
    assert digits.image_shape == (8, 8, 1)
    assert len(digits.train.images) + len(digits.test.images) == 1797
    assert digits.train.images.max() == 255
    assert digits.num_classes == 10
    assert np.bincount(digits.test.labels).min() >= 20
    # A nought is dark in the middle.
    noughts = digits.train.images[digits.train.labels == 0]
    assert noughts[:, 3:5, 3:5].mean() < 60 < noughts[:, 3:5, 1:3].mean()


@pytest.mark.parametrize("with_channel", [False, True])
def test_npz_files_with_the_keys_of_keras(tmp_path, with_channel):
    rng = np.random.default_rng(0)
    shape = (5, 6, 1) if with_channel else (5, 6)
    train = rng.integers(0, 256, (9, *shape), dtype=np.uint8)
    test = rng.integers(0, 256, (4, *shape), dtype=np.uint8)
    np.savez(
        tmp_path / "x.npz",
        x_train=train,
        x_test=test,
        y_train=np.arange(9)[:, None] % 2,
        y_test=np.arange(4) % 2,
    )
    loaded = load_images(tmp_path / "x.npz")
    np.testing.assert_array_equal(loaded.train.images, train.reshape(9, 5, 6, 1))
    np.testing.assert_array_equal(loaded.test.images, test.reshape(4, 5, 6, 1))
    np.testing.assert_array_equal(loaded.train.labels, np.arange(9) % 2)
    assert loaded.num_classes == 2
    larger = load_images(tmp_path / "x.npz", image_size=12, channels=3)
    assert larger.image_shape == (12, 12, 3)


def test_folders_of_any_depth(tmp_path):
    for i in range(21):
        write(tmp_path / f"a{i % 3}" / ("b" * (i % 2 + 1)) / f"{i:02}.png", image(i))
    (tmp_path / "notes.txt").write_text("no image")
    loaded = load_images(tmp_path)
    values = [split.images[:, 0, 0, 0] for split in (loaded.train, loaded.test)]
    assert [len(v) for v in values] == [19, 2]
    assert sorted(np.concatenate(values)) == list(range(21))
    assert loaded.class_names == ["a0", "a1", "a2"]
    for split, value in zip((loaded.train, loaded.test), values, strict=True):
        np.testing.assert_array_equal(split.labels, value % 3)


def test_folders_that_are_split(tmp_path):
    for split, value in (("train", 1), ("train", 2), ("val", 3)):
        write(tmp_path / split / f"{value}.png", image(value))
    loaded = load_images(tmp_path)
    np.testing.assert_array_equal(loaded.train.images[:, 0, 0, 0], [1, 2])
    np.testing.assert_array_equal(loaded.test.images[:, 0, 0, 0], [3])
    assert loaded.train.labels is None
    with pytest.raises(DatasetError, match="has no labels"):
        loaded.num_classes  # noqa: B018


def test_scaling_and_cropping(tmp_path):
    # Black at the left and right quarters, white between.
    wide = np.zeros((8, 16, 3))
    wide[:, 4:12] = 255
    for i in range(2):
        write(tmp_path / f"{i}.png", wide)
    cropped = load_images(tmp_path, image_size=4).train.images
    assert cropped.shape == (1, 4, 4, 3)
    assert cropped.min() == 255
    squeezed = load_images(tmp_path, image_size=4, crop="none", channels=1)
    columns = squeezed.train.images[0, :, :, 0].mean(axis=0)
    assert columns[0] < 40
    assert columns[1] > 215


def test_colours_become_grey_and_grey_colours(tmp_path):
    write(tmp_path / "0.png", np.tile([255, 0, 0], (4, 4, 1)))
    write(tmp_path / "1.png", np.full((4, 4, 1), 90))
    write(tmp_path / "2.png", np.tile([10, 20, 30, 255], (4, 4, 1)))
    grey = load_images(tmp_path, channels=1)
    values = np.concatenate([grey.train.images, grey.test.images])[:, 0, 0, 0]
    np.testing.assert_allclose(values, [76, 90, 18], atol=1)
    colour = load_images(tmp_path, channels=3)
    np.testing.assert_array_equal(colour.train.images[1, 0, 0], [90, 90, 90])
    np.testing.assert_array_equal(colour.test.images[0, 0, 0], [10, 20, 30])


class Stripes(tfds.core.GeneratorBasedBuilder):
    """Four images to train and two to test on."""

    VERSION = tfds.core.Version("1.0.0")
    LABEL = tfds.features.ClassLabel(names=["dark", "bright"])

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(4, 4, 1)),
                    "label": self.LABEL,
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(4), "test": self._generate_examples(2)}

    def _generate_examples(self, num):
        for i in range(num):
            value = np.full((4, 4, 1), 100 * (i % 2), np.uint8)
            yield i, {"image": value, "label": i % 2}


class StripesToTestOn(Stripes):
    """Without images to train on."""

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples(2)}


class StripesInWords(Stripes):
    """With labels that are no classes."""

    LABEL = tfds.features.Text()

    def _generate_examples(self, num):
        for i, example in super()._generate_examples(num):
            yield i, {**example, "label": "some" * example["label"]}


class StripesInPairs(Stripes):
    """With labels of several classes."""

    LABEL = tfds.features.Sequence(tfds.features.ClassLabel(num_classes=2))

    def _generate_examples(self, num):
        for i, example in super()._generate_examples(num):
            yield i, {**example, "label": [0, 1]}


class StripesInParts(Stripes):
    """With labels of several kinds."""

    LABEL = tfds.features.FeaturesDict(
        {"side": tfds.features.ClassLabel(num_classes=2)}
    )

    def _generate_examples(self, num):
        for i, example in super()._generate_examples(num):
            yield i, {**example, "label": {"side": 1}}


class SecretStripes(Stripes):
    """Without labels to test on."""

    SECRET = (2,)

    def _generate_examples(self, num):
        for i, example in super()._generate_examples(num):
            yield i, {**example, "label": -1} if num in self.SECRET else example


class TopSecretStripes(SecretStripes):
    """Without labels, but with names for them."""

    SECRET = (2, 4)


def test_tensorflow_datasets_has_what_it_downloads_with():
    # It imports a package here that it does not ask for.
    assert "train-images-idx3-ubyte.gz" in " ".join(tfds.builder_cls("mnist").url_infos)


def test_a_package_that_a_builder_needs_is_named(monkeypatch):
    def fail(name, data_dir):
        raise ModuleNotFoundError("No module named 'x'")

    monkeypatch.setattr(tfds, "builder", fail)
    with pytest.raises(DatasetError, match=r"a:b: .* needs a package .*named 'x'\)"):
        load_images("a:b")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("no route\nto it"), r"mnist: it cannot be downloaded \(no route\)"),
        (
            ModuleNotFoundError("No module named 'x'"),
            r"mnist: tensorflow-datasets needs a package .* \(No module named 'x'\)",
        ),
    ],
)
def test_what_keeps_from_downloading_is_named(monkeypatch, tmp_path, error, message):
    def fail(self):
        raise error

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(DatasetError, match=message):
        load_images("mnist", data_dir=tmp_path)


def test_tensorflow_datasets(tmp_path):
    loaded = load_images("stripes", data_dir=tmp_path)
    assert loaded.train.images.shape == (4, 4, 4, 1)
    assert loaded.class_names == ["dark", "bright"]
    for split in (loaded.train, loaded.test):
        np.testing.assert_array_equal(split.images[:, 0, 0, 0], 100 * split.labels)


@pytest.mark.parametrize(
    "name",
    ["stripes_in_words", "stripes_in_pairs", "stripes_in_parts", "top_secret_stripes"],
)
def test_labels_of_tensorflow_datasets_that_are_no_classes_are_left_out(tmp_path, name):
    dataset = load_images(name, data_dir=tmp_path)
    assert dataset.train.labels is None
    assert dataset.test.labels is None
    assert dataset.class_names is None
    with pytest.raises(DatasetError, match="has no labels"):
        dataset.num_classes  # noqa: B018


def test_labels_that_are_kept_secret_are_left_out(tmp_path):
    secret = load_images("secret_stripes", data_dir=tmp_path)
    assert len(secret.train.labels) == 4
    assert secret.test.labels is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", "mnits: there is no such folder, file or data set; .*mnist"),
        ("digit", "the nearest are digits"),
        ("missing.npz", "missing.npz: there is no such file"),
        ("mnist:9.9.9", "mnist:9.9.9: .* cannot be loaded at version 9.9.9, only: 3"),
        ("mnist/none", "mnist/none: .* BuilderConfig none not found"),
        ("stripes_to_test_on", "it has no images to train on, .* among test$"),
    ],
)
def test_names_that_mean_nothing(tmp_path, name, message):
    with pytest.raises(DatasetError, match=message):
        load_images(name, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["b", "a"],
            r"must be indices of classes, integers from 0 on, got \['a', 'b'\]",
        ),
        ([0.0, 0.5], r"y_train must be indices of classes, .* got \[0.0, 0.5\]"),
        ([1, -1], r"y_train must be indices of classes, .* got \[-1, 1\]"),
    ],
)
def test_labels_must_be_classes(tmp_path, labels, message):
    images = np.zeros((2, 4, 4), np.uint8)
    np.savez(tmp_path / "x.npz", x_train=images, x_test=images, y_train=labels)
    with pytest.raises(DatasetError, match=message):
        load_images(tmp_path / "x.npz")


def test_what_cannot_be_read_or_used_is_named(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(DatasetError, match=r"bad.npz: it cannot be read"):
        load_images(tmp_path / "bad.npz")
    np.savez(tmp_path / "keys.npz", images=np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(DatasetError, match="x_train and x_test, and has images"):
        load_images(tmp_path / "keys.npz")
    np.savez(tmp_path / "floats.npz", x_train=np.zeros((2, 4, 4)), x_test=np.zeros(2))
    with pytest.raises(DatasetError, match="x_train must be uint8"):
        load_images(tmp_path / "floats.npz")
    images = np.zeros((2, 4, 4), np.uint8)
    np.savez(tmp_path / "none.npz", x_train=images[:0], x_test=images)
    with pytest.raises(DatasetError, match=r"none.npz: x_train has no images"):
        load_images(tmp_path / "none.npz", channels=3)

    folder = tmp_path / "images"
    write(folder / "0.png", image(0))
    with pytest.raises(DatasetError, match="it has 1 images"):
        load_images(folder)
    write(folder / "1.png", image(1, (8, 9, 3)))
    write(folder / "2.png", image(1, (8, 8, 3)))
    with pytest.raises(DatasetError, match=r"1.png is 8x9, .*0.png is 8x8; give an im"):
        load_images(folder)
    write(folder / "1.png", image(1, (8, 8, 1)))
    with pytest.raises(DatasetError, match=r"1.png has 1 channels, .*0.png has 3"):
        load_images(folder)
    (folder / "1.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"1.png: it cannot be read as an image"):
        load_images(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 0}, "image_size must be a positive integer, got 0"),
        ({"channels": 2}, "channels must be 1, 3 or None, got 2"),
        ({"crop": "left"}, "crop must be 'center' or 'none', got 'left'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_images("digits", **arguments)
