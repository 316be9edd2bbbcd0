"""Pictures of what the latent space of an autoencoder holds."""

import numpy as np
import tensorflow as tf

from tfzoo.training.pictures import image_grid, write_picture
from tfzoo.training.video import write_video

_NUM_STEPS = 10
_NUM_FRAMES = 20
_NUM_QUANTILES = 20
_REACH = 3.0


def draw_latent_space(model, folder, images):
    """Writes what the latent space of an autoencoder holds.

    `reconstructions.png`: images, and what is made of them; `interpolation.gif`: from
    each image to the next; `traversals.png`: a row for each of the latent numbers that
    are used most, which goes from -3 to 3 in it; `manifold.png`, of two latent numbers
    alone: the images of all their values.

    Args:
      model: with `encode`, `decode`, `reconstruct` and `latent_kl` of a `VAE`.
      folder: for the pictures.
      images: [N, H, W, C].
    """
    pairs = np.concatenate([images, model.reconstruct(images)])
    write_picture(
        folder / "reconstructions.png", image_grid(pairs, num_columns=len(images))
    )
    mean, _ = model.encode(images)
    mean = mean.numpy()

    # From each image to the next, along straight lines of the latent space.
    frames = []
    for share in np.linspace(0.0, 1.0, _NUM_FRAMES, endpoint=False):
        latent = (1.0 - share) * mean + share * np.roll(mean, -1, axis=0)
        frames.append(image_grid(model.decode(latent.astype(np.float32))))
    write_video(folder / "interpolation.gif", frames, frames_per_second=10)

    # One row for each latent number, the ones that the model uses most first.
    reach = np.linspace(-_REACH, _REACH, _NUM_STEPS, dtype=np.float32)
    used = np.argsort(-model.latent_kl(images).numpy())[:_NUM_STEPS]
    latent = np.tile(mean[0], [len(used), _NUM_STEPS, 1])
    for row, number in enumerate(used):
        latent[row, :, number] = reach
    traversals = model.decode(latent.reshape(-1, mean.shape[-1]))
    write_picture(
        folder / "traversals.png", image_grid(traversals, num_columns=_NUM_STEPS)
    )

    if model.latent_size == 2:
        # The manifold, at quantiles of the prior.
        places = tf.math.ndtri(tf.linspace(0.02, 0.98, _NUM_QUANTILES)).numpy()
        across, down = np.meshgrid(places, -places)
        latent = np.stack([across, down], axis=-1).reshape(-1, 2).astype(np.float32)
        write_picture(
            folder / "manifold.png",
            image_grid(model.decode(latent), num_columns=_NUM_QUANTILES, padding=0),
        )
