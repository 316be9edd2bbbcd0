"""Gaussian attention against the equations of the paper, in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.layers.gaussian_attention import (
    attention_parameters,
    draw_attention,
    filter_banks,
    read,
    write,
)

# Taller than wide, and wider than tall.
SIZES = (7, 4), (3, 6)
RNG = np.random.default_rng(0)


def parameters_by_numpy(outputs, image_size, patch_size):
    """Equations 21 to 24 of arXiv:1502.04623, for one image of A x B pixels."""
    b, a = image_size
    x, y, log_variance, log_stride, log_intensity = outputs
    stride = 0.0
    if patch_size > 1:
        stride = (max(a, b) - 1) / (patch_size - 1) * np.exp(log_stride)
    return {
        "g_x": (a + 1) / 2 * (x + 1),
        "g_y": (b + 1) / 2 * (y + 1),
        "stride": stride,
        "variance": np.exp(log_variance),
        "intensity": np.exp(log_intensity),
    }


def filters_by_numpy(center, stride, variance, patch_size, length):
    """Equations 19, 20, 25 and 26, one number after the other."""
    filters = np.zeros((patch_size, length))
    for i in range(1, patch_size + 1):
        mean = center + (i - patch_size / 2 - 0.5) * stride
        for a in range(1, length + 1):
            filters[i - 1, a - 1] = np.exp(-((a - mean) ** 2) / (2 * variance))
        filters[i - 1] /= filters[i - 1].sum()
    return filters


def banks_by_numpy(outputs, image_size, patch_size):
    """Returns F_X, F_Y and gamma of one image."""
    of = parameters_by_numpy(outputs, image_size, patch_size)
    filters_x, filters_y = (
        filters_by_numpy(of[g], of["stride"], of["variance"], patch_size, length)
        for g, length in (("g_x", image_size[1]), ("g_y", image_size[0]))
    )
    return filters_x, filters_y, of["intensity"]


def some_outputs(num=6):
    outputs = RNG.normal(0, 0.5, (num, 5)).astype(np.float32)
    # So that no sum of filters underflows in the naive computation.
    outputs[:, 2] = np.abs(outputs[:, 2])
    return outputs


def at(x, y, stride, stddev, intensity=1.0):
    return tf.constant([[x, y, stride, stddev, intensity]], tf.float32)


@pytest.mark.parametrize("patch_size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("image_size", SIZES)
def test_filters_and_what_is_read_and_written(image_size, patch_size):
    outputs = some_outputs()
    images = RNG.random((len(outputs), *image_size, 3)).astype(np.float32)
    patches = RNG.normal(size=(len(outputs), patch_size, patch_size, 2))
    patches = patches.astype(np.float32)
    parameters = attention_parameters(outputs, image_size, patch_size)
    filters_x, filters_y = filter_banks(parameters, image_size, patch_size)
    seen = read(images, parameters, patch_size).numpy()
    written = write(patches, parameters, image_size).numpy()
    for n, one in enumerate(outputs):
        f_x, f_y, intensity = banks_by_numpy(one, image_size, patch_size)
        np.testing.assert_allclose(filters_x[n], f_x, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(filters_y[n], f_y, rtol=1e-4, atol=1e-6)
        for channel in range(3):
            expected = intensity * f_y @ images[n, ..., channel] @ f_x.T
            np.testing.assert_allclose(seen[n, ..., channel], expected, rtol=1e-4)
        for channel in range(2):
            expected = f_y.T @ patches[n, ..., channel] @ f_x / intensity
            np.testing.assert_allclose(
                written[n, ..., channel], expected, rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize("patch_size", [2, 5])
def test_five_zeros_cover_the_longer_side_from_its_first_to_its_last_pixel(patch_size):
    x, y, stride, stddev, intensity = attention_parameters(
        tf.zeros([5]), (9, 5), patch_size
    ).numpy()
    assert (x, y, stddev, intensity) == (3.0, 5.0, 1.0, 1.0)
    assert y - (patch_size - 1) / 2 * stride == 1.0
    assert y + (patch_size - 1) / 2 * stride == 9.0


def test_a_sharp_grid_of_stride_1_reads_the_pixels_that_it_is_at():
    images = RNG.random((1, 9, 7, 2)).astype(np.float32)
    # Columns 2 to 4 and rows 5 to 7, counted from 1.
    seen = read(images, at(3.0, 6.0, 1.0, 1e-3, 2.0), 3)
    np.testing.assert_allclose(seen, 2.0 * images[:, 4:7, 1:4], rtol=1e-6)
    # Every second pixel, as the columns 1, 3, 5, 7 and the rows 2, 4, 6, 8.
    seen = read(images, at(4.0, 5.0, 2.0, 1e-3), 4)
    np.testing.assert_allclose(seen, images[:, 1:8:2, 0:7:2], rtol=1e-6)


def test_writing_is_the_transpose_of_reading():
    outputs = some_outputs(4)
    images = RNG.normal(size=(4, 5, 8, 3)).astype(np.float32)
    patches = RNG.normal(size=(4, 2, 2, 3)).astype(np.float32)
    parameters = attention_parameters(outputs, (5, 8), 2)
    # <read(x), w> / gamma = <x, write(w)> gamma.
    intensity = np.exp(outputs[:, 4])
    one = np.sum(read(images, parameters, 2) * patches, axis=(1, 2, 3)) / intensity
    two = np.sum(images * write(patches, parameters, (5, 8)), axis=(1, 2, 3))
    np.testing.assert_allclose(one, two * intensity, rtol=1e-4)


def test_rows_sum_to_1_and_gradients_are_finite_however_far_outside():
    outputs = tf.constant(
        [
            [50.0, -50.0, -50.0, 9.0, 0.0],
            [-1e6, 1e6, -1e3, 1e3, 1e3],
            [0.0, 0.0, 1e3, -1e3, -1e3],
        ]
    )
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        parameters = attention_parameters(outputs, (4, 6), 3)
        filters = filter_banks(parameters, (4, 6), 3)
        seen = read(tf.ones([3, 4, 6, 1]), parameters, 3)
        written = write(tf.ones([3, 3, 3, 1]), parameters, (4, 6))
        total = tf.reduce_sum(tf.tanh(seen)) + tf.reduce_sum(tf.tanh(written))
    for bank in filters:
        np.testing.assert_allclose(tf.reduce_sum(bank, axis=-1), 1.0, rtol=1e-5)
    assert np.isfinite(tape.gradient(total, outputs)).all()
    # Beyond the right edge, all is at the last column.
    np.testing.assert_allclose(filters[0][0, 1], [0, 0, 0, 0, 0, 1], atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_a_graph_computes_what_an_eager_call_does(jit_compile):
    outputs = some_outputs(3)
    images = RNG.random((3, 5, 6, 2)).astype(np.float32)

    def reread(outputs, images):
        parameters = attention_parameters(outputs, (5, 6), 4)
        return write(read(images, parameters, 4), parameters, (5, 6))

    compiled = tf.function(reread, autograph=False, jit_compile=jit_compile)
    np.testing.assert_allclose(
        compiled(outputs, images), reread(outputs, images), rtol=1e-4, atol=1e-6
    )


def test_the_rectangle_goes_through_the_outermost_filters():
    images = np.zeros((2, 9, 12, 1), np.float32)
    images[1] = 1.0
    # Of 3 filters, the outermost are at columns 3 and 7 and at rows 4 and 8.
    parameters = np.array([5.0, 6.0, 2.0, 1e-3, 1.0])
    pictures = draw_attention(images, parameters, 3, scale=3, color=(0.0, 1.0, 0.0))
    assert pictures.shape == (2, 27, 36, 3)
    assert pictures.dtype == np.float32
    is_border = np.zeros((27, 36), bool)
    # The middle of column c, of 3 pixels from 3 (c - 1) on, is 3 c - 2.
    is_border[10:23, [7, 19]] = True
    is_border[[10, 22], 7:20] = True
    for picture, brightness in zip(pictures, (0.0, 1.0), strict=True):
        expected = np.where(is_border[..., None], [0.0, 1.0, 0.0], brightness)
        np.testing.assert_array_equal(picture, expected)


def test_the_border_is_as_wide_as_the_filters_and_frames_may_be_many():
    frames = RNG.random((4, 2, 8, 8, 3))
    parameters = np.tile([4.5, 4.5, 4.0, 1.0, 1.0], (4, 2, 1))
    parameters[3, 1, 3] = 100.0
    pictures = draw_attention(frames, parameters, 2, scale=10)
    assert pictures.shape == (4, 2, 80, 80, 3)
    widths = np.sum(np.all(pictures[:, :, 40] == [1.0, 0.0, 0.0], axis=-1), axis=-1)
    expected = np.full((4, 2), 2 * 10)
    expected[3, 1] = 2 * 20
    np.testing.assert_array_equal(widths, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": np.zeros((4, 4, 2))}, r"with 1 or 3 channels, got \[4, 4, 2\]"),
        ({"parameters": np.ones(4)}, r"parameters must be \[..., 5\], got \[4\]"),
        ({"scale": 0}, "scale must be a positive integer, got 0"),
    ],
)
def test_what_cannot_be_drawn_is_named(arguments, message):
    valid = {
        "images": np.zeros((4, 4, 1)),
        "parameters": np.ones(5),
        "patch_size": 2,
    }
    with pytest.raises(ValueError, match=message):
        draw_attention(**{**valid, **arguments})
