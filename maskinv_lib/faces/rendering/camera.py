"""Degrades rendered pictures as a camera does: blur, sensor noise, JPEG-like blocks and rounding."""

import math
from types import SimpleNamespace

import torch
from torch import Tensor

from maskinv_lib.faces import SIZE
from maskinv_lib.utils.randomness import uniform


def photograph(p: SimpleNamespace, image: Tensor, keys: Tensor, strength: float) -> Tensor:
    """Blur, add sensor noise, compress like JPEG and round to uint8; only round at strength 0."""
    if strength > 0:
        image = _blur(image, p.blur.abs())
        image = image + (0.003 + p.noise.abs()) * strength * _noise(keys)
        image = _blocks(image, (p.blocks.clamp(0, 1.2) * 0.06 + 0.004) * min(strength, 1))
    return (image * 255 + 0.5).clamp(0, 255).to(torch.uint8)


def _blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Convolve twice with a binomial-like 3 x 3 kernel whose variance is sigma^2 / 2 (sigma at most 1, in pixels)."""
    side = (0.25 * sigma * sigma).clamp(max=0.25)
    for _ in range(2):
        for dim in (2, 3):
            padded = torch.cat([image.narrow(dim, 0, 1), image, image.narrow(dim, SIZE - 1, 1)], dim)
            around = padded.narrow(dim, 0, SIZE) + padded.narrow(dim, 2, SIZE)
            image = image + side * (around - 2 * image)
    return image


def _noise(keys: Tensor) -> Tensor:
    """Return float32 [B, 3, 112, 112] of mean 0 and variance 1; each draw gives three uniform numbers of 16 bits."""
    bits = uniform(keys, SIZE * SIZE).reshape(-1, 1, SIZE, SIZE)
    channels = []
    for _ in range(3):
        bits = bits * 2.0**16
        channel = bits.floor()
        bits = bits - channel
        channels.append(channel.float())
    return torch.cat(channels, 1) * (math.sqrt(12) / 2**16) - math.sqrt(3)


def _blocks(image: Tensor, step: Tensor) -> Tensor:
    """Quantise the 8 x 8 block DCT of luma (with ``step`` for the lowest, more for higher frequencies) and chroma."""
    n = torch.arange(8, dtype=torch.float64)
    basis = torch.cos((2 * n + 1) * n[:, None] * math.pi / 16) * torch.where(n == 0, math.sqrt(1 / 8), 0.5)[:, None]
    transform = torch.block_diag(*[basis.float()] * (SIZE // 8)).to(image.device)
    frequency = (n % 8).float().repeat(SIZE // 8).to(image.device)
    quantum = step * (1 + 0.4 * (frequency[:, None] + frequency[None, :]))
    luma = 0.299 * image[:, :1] + 0.587 * image[:, 1:2] + 0.114 * image[:, 2:]
    planes = torch.cat([luma, image[:, 2:] - luma, image[:, :1] - luma], 1).reshape(-1, SIZE, SIZE)
    forward = transform.expand(len(planes), -1, -1)
    spectrum = torch.bmm(torch.bmm(forward, planes), forward.transpose(1, 2)).reshape(image.shape)
    quanta = torch.cat([quantum, 1.5 * quantum, 1.5 * quantum], 1)
    spectrum = (torch.round(spectrum / quanta) * quanta).reshape(-1, SIZE, SIZE)
    luma, blue, red = torch.bmm(torch.bmm(forward.transpose(1, 2), spectrum), forward).reshape(image.shape).split(1, 1)
    green = luma - (0.299 * red + 0.114 * blue) / 0.587
    return torch.cat([luma + red, green, luma + blue], 1)
