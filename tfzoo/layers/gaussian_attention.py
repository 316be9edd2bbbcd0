"""Attention to a part of an image, by two banks of Gaussian filters.

Gregor et al. 2015 (arXiv:1502.04623), section 3.2. N x N filters stand in a grid over
an image of A columns and B rows, with centre (g_X, g_Y), stride delta, variance sigma^2
and intensity gamma, which a network gives as five numbers:

    (g~_X, g~_Y, log sigma^2, log delta~, log gamma) = W(h)               (21)
    g_X = (A + 1) / 2 (g~_X + 1),    g_Y = (B + 1) / 2 (g~_Y + 1)         (22, 23)
    delta = (max(A, B) - 1) / (N - 1) delta~                              (24)
    mu_X^i = g_X + (i - N / 2 - 0.5) delta,    i = 1 ... N                (19, 20)
    F_X[i, a] = 1/Z_X^i exp(-(a - mu_X^i)^2 / (2 sigma^2)),  a = 1 ... A  (25, 26)
    read(x) = gamma F_Y x F_X^T                                           (27)
    write(w) = 1/gamma F_Y^T w F_X                                        (29)

with Z such that the rows of F_X sum to 1, and the same in Y.

Pixels are counted from 1, as i is: only then does the grid of five zeros go from the
middle of the first pixel of the longer side to the middle of the last. All channels of
an image have the same filters. Each row of F is computed as a softmax of its exponents,
which is the same quotient but is never 0/0: outside the image, or with a small sigma, a
filter is at the nearest pixel, as long as float32 tells the distances apart. With
N = 1, where (24) would divide by 0, the stride makes no difference, and N - 1 is taken
as 1.
"""

import numpy as np
import tensorflow as tf

# Exponents beyond this make no difference but overflow.
_MAX_LOGARITHM = 20.0


def attention_parameters(outputs, image_size, patch_size):
    """Returns what five outputs of a network mean, equations 21 to 24.

    Args:
      outputs: g~_X, g~_Y, log sigma^2, log delta~ and log gamma, float32 [..., 5].
      image_size: (H, W), the B and A of the paper.
      patch_size: N.

    Returns:
      float32 [..., 5]: the centre's column and row, the stride and the standard
      deviation, all four in pixels, of which the first is at 1; and the intensity.
    """
    height, width = image_size
    x, y, log_variance, log_stride, log_intensity = tf.unstack(outputs, axis=-1)
    longest = (max(height, width) - 1) / max(patch_size - 1, 1)
    return tf.stack(
        [
            0.5 * (width + 1) * (x + 1.0),
            0.5 * (height + 1) * (y + 1.0),
            longest * _exp(log_stride),
            _exp(0.5 * log_variance),
            _exp(log_intensity),
        ],
        axis=-1,
    )


def filter_bank(center, stride, stddev, patch_size, length):
    """Returns the filters along one side of an image, equations 19, 20, 25 and 26.

    Args:
      center, stride, stddev: in pixels, of which the first is at 1; float32 [...].
      patch_size: N.
      length: the pixels of that side.

    Returns:
      float32 [..., N, length]; each row sums to 1.
    """
    offsets = np.arange(1, patch_size + 1) - patch_size / 2 - 0.5
    means = center[..., None] + offsets.astype(np.float32) * stride[..., None]
    pixels = np.arange(1, length + 1, dtype=np.float32)
    distances = (pixels - means[..., None]) / stddev[..., None, None]
    return tf.nn.softmax(-0.5 * tf.square(distances))


def filter_banks(parameters, image_size, patch_size):
    """Returns F_X [..., N, W] and F_Y [..., N, H].

    Args:
      parameters: see `attention_parameters`, float32 [..., 5].
      image_size: (H, W).
      patch_size: N.
    """
    height, width = image_size
    x, y, stride, stddev, _ = tf.unstack(parameters, axis=-1)
    return (
        filter_bank(x, stride, stddev, patch_size, width),
        filter_bank(y, stride, stddev, patch_size, height),
    )


def read(images, parameters, patch_size):
    """Returns what the filters see of images, gamma F_Y x F_X^T, equation 27.

    Args:
      images: float32 [B, H, W, C].
      parameters: see `attention_parameters`, float32 [B, 5].
      patch_size: N.

    Returns:
      float32 [B, N, N, C].
    """
    filters_x, filters_y = filter_banks(parameters, images.shape[1:3], patch_size)
    # Rows first: the product with all of an image then needs no other order of axes.
    rows = tf.einsum("bnh,bhwc->bnwc", filters_y, images)
    patches = tf.einsum("bnwc,bmw->bnmc", rows, filters_x)
    return _intensity(parameters) * patches


def write(patches, parameters, image_size):
    """Returns what patches look like in the image, 1/gamma F_Y^T w F_X, equation 29.

    Args:
      patches: w, float32 [B, N, N, C].
      parameters: see `attention_parameters`, float32 [B, 5].
      image_size: (H, W).

    Returns:
      float32 [B, H, W, C].
    """
    filters_x, filters_y = filter_banks(parameters, image_size, patches.shape[1])
    rows = tf.einsum("bnmc,bmw->bnwc", patches / _intensity(parameters), filters_x)
    return tf.einsum("bnh,bnwc->bhwc", filters_y, rows)


def draw_attention(images, parameters, patch_size, *, scale=4, color=(1.0, 0.0, 0.0)):
    """Returns enlarged images with a rectangle around what is attended to, for people.

    The rectangle goes through the middles of the outermost filters; its border is as
    wide as their standard deviation, but for two pixels at most, so that a sharp look
    has a fine one.

    Args:
      images: array from 0 to 1, [..., H, W, C], where C is 1 or 3.
      parameters: see `attention_parameters`, [..., 5]; leading dimensions broadcast
        with those of the images.
      patch_size: N.
      scale: how many times larger the pictures are; a positive integer.
      color: of the rectangle: red, green and blue from 0 to 1.

    Returns:
      float32 array [..., scale H, scale W, 3].

    Raises:
      ValueError: if the images have another number of channels, or the parameters are
        not five, or `scale` is out of its range.
    """
    images = np.asarray(images, np.float32)
    parameters = np.asarray(parameters, np.float32)
    if images.ndim < 3 or images.shape[-1] not in (1, 3):
        raise ValueError(
            "images must be [..., H, W, C] with 1 or 3 channels, got "
            f"{list(images.shape)}"
        )
    if parameters.shape[-1:] != (5,):
        raise ValueError(f"parameters must be [..., 5], got {list(parameters.shape)}")
    if scale != int(scale) or scale < 1:
        raise ValueError(f"scale must be a positive integer, got {scale}")
    enlarged = images.repeat(scale, axis=-3).repeat(scale, axis=-2)
    # Where the pictures' pixels are in the image, whose first pixel is from 0.5 to 1.5.
    rows, columns = (
        (np.arange(length) + 0.5) / scale + 0.5 for length in enlarged.shape[-3:-1]
    )
    x, y, stride, stddev, _ = np.moveaxis(parameters[..., None, None, :], -1, 0)
    half = 0.5 * (patch_size - 1) * stride
    distance = np.maximum(abs(columns - x), abs(rows[:, None] - y)) - half
    border = abs(distance) <= 0.5 * np.clip(stddev, 1 / scale, 2.0)
    return np.where(border[..., None], np.float32(color), enlarged)


def _intensity(parameters):
    # Not parameters[:, 4, None, None, None]: in a graph, Grappler (TensorFlow 2.21)
    # takes the number that was stacked in its place, and loses the new axes.
    return tf.reshape(parameters[:, 4], [-1, 1, 1, 1])


def _exp(logarithm):
    limit = _MAX_LOGARITHM
    return tf.exp(tf.clip_by_value(logarithm, -limit, limit))
