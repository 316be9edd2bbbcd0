"""Where images come from: tensorflow-datasets, folders, `.npz` files, scikit-learn."""

import difflib
import pathlib
import re
import zipfile

import numpy as np
import tensorflow as tf

from tfzoo.datasets.errors import DatasetError
from tfzoo.datasets.image_dataset import ImageDataset, ImageSplit

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
_KEYS = ("x_train", "x_test")
# The share of images to test on where nothing says which.
_TEST_SHARE = 0.1
_CROPS = ("center", "none")


def load_images(
    name,
    *,
    image_size=None,
    channels=None,
    crop="center",
    data_dir=None,
):
    """Loads images into memory.

    Args:
      name: one of
        - "digits": the 1,797 real digits of 8x8 pixels that come with scikit-learn;
        - the path of an `.npz` file with the arrays "x_train" and "x_test", images
          uint8 [N, H, W] or [N, H, W, C], and perhaps "y_train" and "y_test", classes;
        - the path of a folder of images in folders of any depth. "train" and "test"
          (or "val") at its top are the splits; else every tenth image is to test on.
          Where all images are in folders of a split, these folders are the classes;
        - the name of a set of images of tensorflow-datasets, such as "mnist", which is
          downloaded when first used. Its "label" is taken if it is an index of classes.
      image_size: the height and width to scale images to; by default they stay as they
        are, and must be of one size.
      channels: 1 for grey or 3 for colour; by default they stay as they are, and must
        all be of one kind.
      crop: where `image_size` is given: "center" cuts out the largest square in the
        middle before, "none" lets the ratio of width to height change.
      data_dir: where tensorflow-datasets keeps its data.

    Returns:
      An `ImageDataset`.

    Raises:
      DatasetError: if the name means nothing, or the images cannot be read or used.
      ValueError: if an argument is out of its range.
    """
    if image_size is not None and (image_size != int(image_size) or image_size < 1):
        raise ValueError(f"image_size must be a positive integer, got {image_size}")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1, 3 or None, got {channels}")
    if crop not in _CROPS:
        raise ValueError(f"crop must be 'center' or 'none', got {crop!r}")
    path = pathlib.Path(name).expanduser()

    def prepare(images):
        return _prepare(images, image_size, channels, crop)

    if name == "digits":
        splits, classes = _digits()
    elif path.suffix == ".npz":
        splits, classes = _from_npz(path)
    elif path.is_dir():
        splits, classes = _from_folder(path, prepare)
        return ImageDataset(name, *splits, classes)
    else:
        splits, classes = _from_tfds(name, data_dir, prepare)
        return ImageDataset(name, *splits, classes)
    splits = [
        ImageSplit(np.stack(list(prepare(_numbered(name, split)))), split.labels)
        if image_size or channels
        else split
        for split in splits
    ]
    return ImageDataset(name, *splits, classes)


def _digits():
    """Returns the digits of scikit-learn: every fifth is to test on."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    # Brightness is from 0 to 16.
    images = np.round(digits.images * 255 / 16).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int32)
    tests = np.arange(len(images)) % 5 == 0
    splits = [ImageSplit(images[rows], labels[rows]) for rows in (~tests, tests)]
    return splits, [str(i) for i in range(10)]


def _from_npz(path):
    """Reads the arrays of a file with the keys that Keras uses."""
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file")
    try:
        with np.load(path) as file:
            arrays = {key: file[key] for key in file.files}
    except (EOFError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path}: it cannot be read ({error})") from None
    for key in _KEYS:
        if key not in arrays:
            raise DatasetError(
                f"{path}: it needs the arrays x_train and x_test, and has "
                f"{', '.join(arrays) or 'none'}"
            )
    splits = []
    for split in ("train", "test"):
        images, labels = arrays[f"x_{split}"], arrays.get(f"y_{split}")
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise DatasetError(
                f"{path}: x_{split} must be uint8 [N, H, W] or [N, H, W, C], got "
                f"{images.dtype} {list(images.shape)}"
            )
        if images.ndim == 3:
            images = images[..., None]
        if not len(images):
            raise DatasetError(f"{path}: x_{split} has no images")
        if labels is not None:
            if labels.dtype.kind not in "iub" or labels.min(initial=0) < 0:
                raise DatasetError(
                    f"{path}: y_{split} must be indices of classes, integers from 0 "
                    f"on, got {np.unique(labels)[:3].tolist()}"
                )
            labels = labels.reshape(-1).astype(np.int32)
        splits.append(ImageSplit(images, labels))
    return splits, None


def _from_folder(folder, prepare):
    """Reads the images below a folder."""
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES and path.is_file()
    )
    if len(files) < 2:
        raise DatasetError(
            f"{folder}: it has {len(files)} images ({', '.join(_SUFFIXES)}); at least "
            "2 are needed, one to train and one to test on"
        )
    tops = {path.relative_to(folder).parts[0] for path in files}
    test = next((top for top in ("test", "val") if top in tops), None)
    if "train" in tops and test:
        parts = [
            (folder / top, [path for path in files if folder / top in path.parents])
            for top in ("train", test)
        ]
    else:
        every = max(2, round(1 / _TEST_SHARE))
        tests = [path for i, path in enumerate(files) if i % every == every - 1]
        tests = tests or files[-1:]
        chosen = set(tests)
        parts = [
            (folder, [path for path in files if path not in chosen]),
            (folder, tests),
        ]
    above = [
        [path.relative_to(top).parts[0] for path in paths if path.parent != top]
        for top, paths in parts
    ]
    is_labelled = all(
        len(names) == len(paths) for names, (_, paths) in zip(above, parts, strict=True)
    )
    classes = (
        sorted({name for names in above for name in names}) if is_labelled else None
    )
    splits = []
    for names, (_, paths) in zip(above, parts, strict=True):
        labels = None
        if is_labelled:
            labels = np.array([classes.index(name) for name in names], np.int32)
        splits.append(ImageSplit(np.stack(list(prepare(_read(paths)))), labels))
    return splits, classes


def _read(paths):
    """Yields (what to call it, the image uint8 [H, W, C]) for each file."""
    for path in paths:
        try:
            image = tf.io.decode_image(path.read_bytes(), expand_animations=False)
        except (OSError, tf.errors.InvalidArgumentError):
            raise DatasetError(f"{path}: it cannot be read as an image") from None
        yield path, image.numpy()


def _from_tfds(name, data_dir, prepare):
    """Reads a set of tensorflow-datasets, and downloads it if it is not there."""
    import tensorflow_datasets as tfds

    builder = _tfds_builder(name, data_dir)
    features = dict(builder.info.features.items())
    keys = [key for key, feature in features.items() if _is_image(feature)]
    if not keys:
        raise DatasetError(f"{name}: it has no images in tensorflow-datasets")
    image_key = "image" if "image" in keys else keys[0]
    label = features.get("label")
    if label is not None and not _is_class(label):
        label = None
    try:
        builder.download_and_prepare()
    except ImportError as error:
        raise _missing_package(name, error) from None
    except Exception as error:
        raise DatasetError(
            f"{name}: it cannot be downloaded ({_first_line(error)})"
        ) from None
    known = builder.info.splits
    if "train" not in known:
        raise DatasetError(
            f"{name}: it has no images to train on, no split of that name among "
            f"{', '.join(known)}"
        )
    test = next((s for s in ("test", "validation") if s in known), None)
    share = round(100 * (1 - _TEST_SHARE))
    asked = ("train", test) if test else (f"train[:{share}%]", f"train[{share}%:]")
    splits = []
    for split in asked:
        labels = []

        def rows(split=split, labels=labels):
            examples = tfds.as_numpy(builder.as_dataset(split=split))
            for number, example in enumerate(examples):
                if label is not None:
                    labels.append(example["label"])
                yield f"{name}, image {number}", example[image_key]

        images = np.stack(list(prepare(rows())))
        # -1 stands for labels that are kept secret.
        told = labels and min(labels) >= 0
        splits.append(ImageSplit(images, np.array(labels, np.int32) if told else None))
    has_labels = splits[0].labels is not None
    return splits, getattr(label, "names", None) if has_labels else None


def _tfds_builder(name, data_dir):
    """Returns the builder of a set of tensorflow-datasets."""
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir)
    except ImportError as error:
        raise _missing_package(name, error) from None
    # A version that there is not ends in an AssertionError.
    except (tfds.core.DatasetNotFoundError, AssertionError, ValueError) as error:
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        # Perhaps with a configuration, NAME/CONFIG, or a version, NAME:VERSION.
        if re.split("[/:]", name)[0] in known:
            raise DatasetError(f"{name}: {_first_line(error)}") from None
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise DatasetError(
            f"{name}: there is no such folder, file or data set"
            + (f"; the nearest are {', '.join(near)}" if near else "")
        ) from None


def _missing_package(name, error):
    return DatasetError(
        f"{name}: tensorflow-datasets needs a package that is not installed ({error})"
    )


def _first_line(error):
    lines = str(error).strip().splitlines()
    return lines[0] if lines else repr(error)


def _is_class(feature):
    # A feature that is a dict of others has dicts of shapes and of types.
    return feature.shape == () and np.dtype(feature.np_dtype).kind in "iub"


def _is_image(feature):
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.Image)


def _numbered(name, split):
    """Yields (what to call it, the image) for each image of a split."""
    for number, image in enumerate(split.images):
        yield f"{name}, image {number}", image


def _prepare(images, image_size, channels, crop):
    """Yields images of one size and one number of channels.

    Args:
      images: pairs of what to call one and the array, uint8 [H, W, C].
      image_size, channels, crop: see `load_images`.

    Raises:
      DatasetError: if they differ, and nothing says what to make them.
    """
    first = None
    for called, image in images:
        if channels is not None:
            image = _with_channels(image, channels)
        if image_size is not None:
            image = _scaled(image, image_size, crop)
        if image.shape[-1] not in (1, 3):
            raise DatasetError(
                f"{called}: it has {image.shape[-1]} channels; give channels=1 for "
                "grey or 3 for colour"
            )
        if first is None:
            first = called, image.shape
        if image.shape[-1] != first[1][-1]:
            raise DatasetError(
                f"{called} has {image.shape[-1]} channels, {first[0]} has "
                f"{first[1][-1]}; give channels=1 for grey or 3 for colour"
            )
        if image.shape != first[1]:
            raise DatasetError(
                f"{called} is {image.shape[0]}x{image.shape[1]}, {first[0]} is "
                f"{first[1][0]}x{first[1][1]}; give an image_size to scale them to"
            )
        yield image


def _with_channels(image, channels):
    """Returns an image uint8 [H, W, C] in grey or colour; opacity is dropped."""
    has = image.shape[-1]
    if has in (2, 4):
        image, has = image[..., :-1], has - 1
    if has == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=-1)
    return tf.image.rgb_to_grayscale(image).numpy()


def _scaled(image, size, crop):
    """Returns an image uint8 [size, size, C], smoothed where it gets smaller."""
    height, width, _ = image.shape
    if crop == "center":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
    if image.shape[:2] == (size, size):
        return image
    scaled = tf.image.resize(image, (size, size), antialias=True)
    return np.clip(np.round(scaled.numpy()), 0, 255).astype(np.uint8)
