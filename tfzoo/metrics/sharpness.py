"""How sharp images are.

Tolstikhin et al. 2018 (arXiv:1711.01558): the variance, over the pixels of a grey
image, of its Laplacian (the sum of the four neighbours less four times the pixel). It
is low for blurred images; but noise is sharper than any photograph, so that a score
says something beside that of real images only.
"""

import numpy as np

# ITU-R BT.601, as `tf.image.rgb_to_grayscale` has it.
_GREY = np.array([0.2989, 0.587, 0.114])


def sharpness(images, *, value_range):
    """Returns the mean over images of the variance of the Laplacian, a float.

    Brightness is counted from 0 to 1, and pixels without four neighbours are left out.

    Args:
      images: [N, H, W, 1] or [N, H, W, 3], H and W at least 3.
      value_range: (black, white).

    Raises:
      ValueError: if the shape is another.
    """
    images = np.asarray(images, np.float64)
    if (
        images.ndim != 4
        or not len(images)
        or min(images.shape[1:3]) < 3
        or images.shape[-1] not in (1, 3)
    ):
        raise ValueError(
            "images must be [N, H, W, 1] or [N, H, W, 3] of at least 3x3 pixels, got "
            f"{list(images.shape)}"
        )
    low, high = value_range
    images = (images - low) / (high - low)
    grey = images @ _GREY if images.shape[-1] == 3 else images[..., 0]
    laplacian = (
        grey[:, :-2, 1:-1]
        + grey[:, 2:, 1:-1]
        + grey[:, 1:-1, :-2]
        + grey[:, 1:-1, 2:]
        - 4.0 * grey[:, 1:-1, 1:-1]
    )
    return float(laplacian.var(axis=(1, 2)).mean())
