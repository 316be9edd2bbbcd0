"""The models of benchmarks/generative.py in PyTorch, as its users write them.

Each is a `Trainer` with the weights of ours, in the same order. Convolutions and their
images are channels_last; the features that a dense layer takes or gives are in that
order, too, so that nothing is transposed. LSTMs are `nn.LSTMCell`, whose second bias,
which adds nothing to the first, is fixed to 0. Without attention DRAW reads all of an
image at each glimpse, and multiplies it with its weights each time; ours does so once.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

_SIDE = 28
_PIXELS = _SIDE**2


class Trainer:
    """A model and its optimizer.

    Args:
      model: a module of images [B, 1, H, W] and noise to its loss, a scalar, with
        `draw_noise`.
      max_gradient_norm: or None.
    """

    def __init__(self, model, max_gradient_norm=None):
        self.model = model.to(memory_format=torch.channels_last)
        self.weights = [w for w in model.parameters() if w.requires_grad]
        self.optimizer = torch.optim.Adam(self.weights, lr=1e-3)
        self.max_gradient_norm = max_gradient_norm

    def step(self, images):
        """Takes a step; returns the loss."""
        loss = self.model(images, self.model.draw_noise(len(images)))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.weights, self.max_gradient_norm)
        self.optimizer.step()
        return loss.detach()

    def losses(self, images, noise):
        """Returns the losses of a batch, a list, with noise [1, ...]."""
        return [self.model(images, noise[0])]


class ChannelsLast(nn.Module):
    """Features [B, C H W] of a dense layer as channels_last images [B, C, H, W]."""

    def __init__(self, channels, side):
        super().__init__()
        self.shape = side, side, channels

    def forward(self, features):
        """Returns the images."""
        return features.unflatten(1, self.shape).permute(0, 3, 1, 2)


class FlatChannelsLast(nn.Module):
    """Channels_last images [B, C, H, W] as features [B, C H W] for a dense layer."""

    def forward(self, images):
        """Returns the features."""
        return images.permute(0, 2, 3, 1).flatten(1)


class VAE(nn.Module):
    """The variational autoencoder: minus the bound of a batch."""

    def __init__(self, encoder, decoder, latent_size=20):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.latent_size = latent_size

    def draw_noise(self, num):
        """Returns e for `num` images."""
        return torch.randn(num, self.latent_size)

    def forward(self, images, noise):
        """Returns the loss."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        logits = self.decoder(mean + torch.exp(0.5 * log_variance) * noise)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)
        return (_cross_entropy(logits, images) + kl.sum()) / len(images)


def mlp_vae():
    """Returns a `Trainer`: 784-512-512-20-512-512-784."""
    encoder = nn.Sequential(
        nn.Flatten(),
        nn.Linear(_PIXELS, 512),
        nn.ReLU(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Linear(512, 2 * 20),
    )
    decoder = nn.Sequential(
        nn.Linear(20, 512),
        nn.ReLU(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Linear(512, _PIXELS),
        nn.Unflatten(1, (1, _SIDE, _SIDE)),
    )
    return Trainer(VAE(encoder, decoder))


def conv_vae():
    """Returns a `Trainer`: convolutions of 32 and 64 channels, 20 latent numbers."""
    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, 2, 1),
        nn.ReLU(),
        FlatChannelsLast(),
        nn.Linear(7 * 7 * 64, 2 * 20),
    )
    decoder = nn.Sequential(
        nn.Linear(20, 7 * 7 * 64),
        nn.ReLU(),
        ChannelsLast(64, 7),
        nn.ConvTranspose2d(64, 32, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 1, 4, 2, 1),
    )
    return Trainer(VAE(encoder, decoder))


class MaskedLinear(nn.Linear):
    """A linear layer without the connections that a mask [O, I] takes away."""

    def __init__(self, mask, bias=True):
        super().__init__(mask.shape[1], mask.shape[0], bias)
        self.register_buffer("mask", mask)

    def forward(self, features):
        """Returns the outputs."""
        return F.linear(features, self.mask * self.weight, self.bias)


class MADE(nn.Module):
    """The masked autoencoder: minus the mean log-probability of a batch.

    Args:
      masks: of the hidden layer, of the outputs and of the direct connections, [O, I].
    """

    def __init__(self, masks):
        super().__init__()
        hidden, output, direct = masks
        self.hidden, self.output = MaskedLinear(hidden), MaskedLinear(output)
        self.direct = MaskedLinear(direct, bias=False)

    def draw_noise(self, num):
        """Returns none, as nothing here is drawn."""
        return torch.empty(0)

    def forward(self, images, noise):
        """Returns the loss."""
        pixels = images.flatten(1)
        logits = self.output(F.relu(self.hidden(pixels))) + self.direct(pixels)
        return _cross_entropy(logits, pixels) / len(images)


def made(masks=None):
    """Returns a `Trainer`: 784-500-784, with direct connections.

    Args:
      masks: see `MADE`; by default those of one order of the pixels, drawn anew.
    """
    if masks is None:
        order = torch.randperm(_PIXELS)
        degrees = torch.randint(_PIXELS - 1, [500])
        masks = [
            degrees[:, None] >= order,
            order[:, None] > degrees,
            order[:, None] > order,
        ]
    return Trainer(MADE([mask.float() for mask in masks]))


class DRAW(nn.Module):
    """The deep recurrent attentive writer: minus the bound of a batch.

    Args:
      patch_size: N of both attentions, or None for neither.
    """

    def __init__(self, patch_size, num_glimpses=10, hidden_units=256, latent_size=10):
        super().__init__()
        self.patch_size = patch_size
        self.num_glimpses = num_glimpses
        self.latent_size = latent_size
        seen = _PIXELS if patch_size is None else patch_size**2
        self.canvas = nn.Parameter(torch.zeros(_SIDE, _SIDE))
        self.starts = nn.ParameterList(torch.zeros(hidden_units) for _ in range(4))
        self.encoder = _lstm(2 * seen + hidden_units, hidden_units)
        self.posterior = nn.Linear(hidden_units, 2 * latent_size)
        self.decoder = _lstm(latent_size, hidden_units)
        self.writer = nn.Linear(hidden_units, seen)
        if patch_size is not None:
            self.read_attention = nn.Linear(hidden_units, 5)
            self.write_attention = nn.Linear(hidden_units, 5)
            offsets = torch.arange(1, patch_size + 1) - patch_size / 2 - 0.5
            self.register_buffer("offsets", offsets)
            self.register_buffer("places", torch.arange(1.0, _SIDE + 1))

    def draw_noise(self, num):
        """Returns the noise of all glimpses."""
        return torch.randn(self.num_glimpses, num, self.latent_size)

    def forward(self, images, noise):
        """Returns the loss."""
        num = len(images)
        images = images.squeeze(1)
        canvas = self.canvas.expand(num, -1, -1)
        encoder, encoder_cell, decoder, decoder_cell = (
            start.expand(num, -1) for start in self.starts
        )
        kl = 0.0
        for t in range(self.num_glimpses):
            seen = self.read(images, images - torch.sigmoid(canvas), decoder)
            encoder, encoder_cell = self.encoder(
                torch.cat([seen, decoder], dim=1), (encoder, encoder_cell)
            )
            mean, log_variance = self.posterior(encoder).chunk(2, dim=1)
            variance = log_variance.exp()
            kl = kl + 0.5 * (mean.square() + variance - 1.0 - log_variance).sum()
            latent = mean + torch.exp(0.5 * log_variance) * noise[t]
            decoder, decoder_cell = self.decoder(latent, (decoder, decoder_cell))
            canvas = canvas + self.write(decoder)
        return (_cross_entropy(canvas, images) + kl) / num

    def read(self, images, errors, decoder):
        """Returns what is seen of images [B, H, W] and errors, [B, 2 N N]."""
        if self.patch_size is None:
            return torch.cat([images.flatten(1), errors.flatten(1)], dim=1)
        filters_x, filters_y, intensity = self.filters(self.read_attention(decoder))
        # Side by side: one product with the filters of Y, then one with those of X.
        rows = torch.bmm(filters_y, torch.cat([images, errors], dim=2))
        rows = rows.unflatten(2, (2, _SIDE)).flatten(1, 2)
        seen = torch.bmm(rows, filters_x.transpose(1, 2))
        return (intensity[:, None, None] * seen).flatten(1)

    def write(self, decoder):
        """Returns what is added to the canvas, [B, H, W]."""
        written = self.writer(decoder)
        if self.patch_size is None:
            return written.unflatten(1, (_SIDE, _SIDE))
        filters_x, filters_y, intensity = self.filters(self.write_attention(decoder))
        written = (written / intensity[:, None]).unflatten(1, 2 * (self.patch_size,))
        return torch.bmm(filters_y.transpose(1, 2), torch.bmm(written, filters_x))

    def filters(self, outputs):
        """Returns F_X and F_Y, [B, N, W or H], and the intensity [B]."""
        x, y, log_variance, log_stride, log_intensity = outputs.unbind(dim=1)
        stride = (_SIDE - 1) / (self.patch_size - 1) * log_stride.exp()
        steps = stride[:, None] * self.offsets
        scale = torch.exp(-0.5 * log_variance)[:, None, None]

        def filters(center):
            means = 0.5 * (_SIDE + 1) * (center[:, None] + 1.0) + steps
            distances = (self.places - means[:, :, None]) * scale
            return torch.softmax(-0.5 * distances.square(), dim=2)

        return filters(x), filters(y), log_intensity.exp()


def draw(patch_size=5):
    """Returns a `Trainer`; see `DRAW`."""
    return Trainer(DRAW(patch_size), max_gradient_norm=5.0)


class DCGAN:
    """The deep convolutional GAN: the trainer of two players, with averaged weights."""

    latent_size = 100

    def __init__(self):
        self.generator = nn.Sequential(
            nn.Linear(self.latent_size, 7 * 7 * 128, bias=False),
            ChannelsLast(128, 7),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 1, 4, 2, 1),
            nn.Tanh(),
        ).to(memory_format=torch.channels_last)
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, 64, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 4, 2, 1),
            nn.BatchNorm2d(128),
            nn.LeakyReLU(0.2),
            FlatChannelsLast(),
            nn.Linear(7 * 7 * 128, 1),
        ).to(memory_format=torch.channels_last)
        self.generator_weights = list(self.generator.parameters())
        self.discriminator_weights = list(self.discriminator.parameters())
        self.weights = self.generator_weights + self.discriminator_weights
        self.generator_optimizer, self.discriminator_optimizer = (
            torch.optim.Adam(weights, lr=2e-4, betas=(0.5, 0.999))
            for weights in (self.generator_weights, self.discriminator_weights)
        )
        self.averaged_generator = AveragedModel(
            self.generator, multi_avg_fn=get_ema_multi_avg_fn(0.999)
        )

    def step(self, images):
        """Lets both players step; returns the sum of their losses."""
        loss = self.discriminator_loss(images, self.draw_noise(len(images)))
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.discriminator_optimizer.step()
        generator_loss = self.generator_loss(self.draw_noise(len(images)))
        self.generator_optimizer.zero_grad(set_to_none=True)
        # No gradient is computed of the discriminator's weights.
        generator_loss.backward(inputs=self.generator_weights)
        self.generator_optimizer.step()
        self.averaged_generator.update_parameters(self.generator)
        return loss.detach() + generator_loss.detach()

    def draw_noise(self, num):
        """Returns z for `num` images, from -1 to 1."""
        return 2.0 * torch.rand(num, self.latent_size) - 1.0

    def discriminator_loss(self, images, latent):
        """Returns what the discriminator minimises."""
        with torch.no_grad():
            fakes = self.generator(latent)
        fake_loss = F.softplus(self.discriminator(fakes)).mean()
        return F.softplus(-self.discriminator(images)).mean() + fake_loss

    def generator_loss(self, latent):
        """Returns what the generator minimises."""
        return F.softplus(-self.discriminator(self.generator(latent))).mean()

    def losses(self, images, noise):
        """Returns both losses of a batch, with noise [2, ...]."""
        return [
            self.discriminator_loss(images, noise[0]),
            self.generator_loss(noise[1]),
        ]


def _cross_entropy(logits, images):
    """Returns the sum of the cross-entropies in nats of all pixels of a batch."""
    return F.binary_cross_entropy_with_logits(logits, images, reduction="sum")


def _lstm(width, units):
    cell = nn.LSTMCell(width, units)
    with torch.no_grad():
        cell.bias_hh.zero_()
        cell.bias_ih[units : 2 * units] = 1.0
    cell.bias_hh.requires_grad_(False)
    return cell


TRAINERS = {
    "vae_mlp": mlp_vae,
    "vae_conv": conv_vae,
    "made": made,
    "draw": draw,
    "draw_plain": lambda: draw(None),
    "dcgan": DCGAN,
}


def load_weights(trainer, arrays):
    """Gives a trainer the weights of ours, arrays in the order of its own.

    Raises:
      ValueError: if there are others.
    """
    shapes = [tuple(weight.shape) for weight in trainer.weights]
    # A kernel of ours has the inputs before the outputs, and its place first.
    arrays = [
        array.transpose(3, 2, 0, 1)
        if array.ndim == 4
        else array.T
        if array.ndim == 2
        else array.reshape(shape)
        for array, shape in zip(arrays, shapes, strict=True)
    ]
    if [array.shape for array in arrays] != shapes:
        raise ValueError(
            f"weights must be {shapes}, got {[array.shape for array in arrays]}"
        )
    with torch.no_grad():
        for weight, array in zip(trainer.weights, arrays, strict=True):
            weight.copy_(torch.from_numpy(array.copy()))


def num_weights(trainer):
    """Returns how many numbers a trainer learns."""
    return sum(math.prod(weight.shape) for weight in trainer.weights)
