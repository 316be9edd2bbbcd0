"""Sharpness by hand, and of images that are blurred."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from tfzoo.metrics import sharpness

RNG = np.random.default_rng(0)


def test_sharpness_by_hand():
    image = np.zeros([1, 4, 4, 1])
    image[0, 1, 1] = 1
    # The four pixels that have four neighbours have Laplacians -4, 1, 1, 0.
    expected = np.var([-4, 1, 1, 0])
    assert sharpness(image, value_range=(0, 1)) == pytest.approx(expected)
    ramp = np.tile(np.arange(6.0), (1, 5, 1))[..., None]
    assert sharpness(ramp, value_range=(0, 5)) == pytest.approx(0, abs=1e-12)


def test_sharpness_is_the_mean_of_images():
    images = RNG.uniform(size=(3, 6, 7, 1))
    each = [sharpness(images[i : i + 1], value_range=(0, 1)) for i in range(3)]
    assert sharpness(images, value_range=(0, 1)) == pytest.approx(np.mean(each))


def test_sharpness_does_not_depend_on_how_brightness_is_counted():
    images = RNG.integers(256, size=(2, 8, 8, 3), dtype=np.uint8)
    expected = sharpness(images, value_range=(0, 255))
    signed = images / 127.5 - 1
    assert sharpness(signed, value_range=(-1, 1)) == pytest.approx(expected)
    grey = tf.image.rgb_to_grayscale(tf.cast(images, tf.float32))
    # TensorFlow rounds its weights to four digits, and to single precision.
    assert sharpness(grey, value_range=(0, 255)) == pytest.approx(expected, rel=1e-3)


def test_blur_lowers_and_noise_raises_sharpness():
    image = scipy.ndimage.gaussian_filter(RNG.normal(size=(32, 32)), 1.5)
    blurred = scipy.ndimage.gaussian_filter(image, 1.0)
    noisy = image + 0.1 * RNG.normal(size=image.shape)
    scores = [
        sharpness(each[None, :, :, None], value_range=(0, 1))
        for each in (blurred, image, noisy)
    ]
    assert 2 * scores[0] < scores[1] < scores[2] / 2


@pytest.mark.parametrize("shape", [(4, 4, 1), (1, 2, 4, 1), (1, 4, 4, 2), (0, 4, 4, 1)])
def test_wrong_shapes_are_named(shape):
    with pytest.raises(ValueError, match="at least 3x3 pixels, got"):
        sharpness(np.zeros(shape), value_range=(0, 1))
