"""Colours of rendered people, and the blending of one layer over another."""

from types import SimpleNamespace

import torch
from torch import Tensor

from maskinv_lib.faces.rendering.anatomy import normal_cdf

SKIN = ((0.98, 0.83, 0.75), (0.93, 0.74, 0.62), (0.83, 0.62, 0.47), (0.66, 0.46, 0.34), (0.46, 0.315, 0.24))
HAIR = ((0.07, 0.06, 0.06), (0.17, 0.11, 0.08), (0.31, 0.20, 0.13), (0.48, 0.33, 0.20), (0.76, 0.60, 0.38))
IRIS = ((0.20, 0.12, 0.08), (0.33, 0.20, 0.11), (0.44, 0.36, 0.20), (0.38, 0.45, 0.36), (0.36, 0.50, 0.62))


def colour(red: Tensor, green: Tensor, blue: Tensor) -> Tensor:
    """Return a colour [B, 3, 1, 1] from three [B, 1, 1, 1]."""
    return torch.cat([red, green, blue], 1)


def constant(like: Tensor, red: float, green: float, blue: float) -> Tensor:
    """Return one colour [1, 3, 1, 1] on the device of ``like``."""
    return torch.tensor([red, green, blue], device=like.device).reshape(1, 3, 1, 1)


def palette(share: Tensor, anchors: tuple[tuple[float, float, float], ...]) -> Tensor:
    """Return the colour [B, 3, 1, 1] at ``share`` (0 to 1, [B, 1, 1, 1]) between the anchors, piecewise linear."""
    position = share * (len(anchors) - 1)
    return sum((1 - (position - k).abs()).clamp(min=0) * constant(share, *anchor) for k, anchor in enumerate(anchors))


def paint(canvas: Tensor, mask: Tensor, over: Tensor) -> None:
    """Blend the colour ``over`` into the canvas, in place, with the opacity ``mask`` [B, 1, H, W] (0 to 1)."""
    canvas.add_(mask * (over - canvas))


def add_colours(p: SimpleNamespace) -> None:
    """Add the person's colours [B, 3, 1, 1] to the parameters: skin, its shadow, hair, iris, lips."""
    p.skin = palette(p.tone, SKIN) * (1 + p.undertone * constant(p.tone, 0.008, -0.004, -0.045))
    p.dark_skin = p.skin * constant(p.tone, 0.46, 0.30, 0.24)
    grey = torch.sigmoid(14 * (p.age - 0.86) + 1.5 * p.grey)
    hair = palette(normal_cdf(p.hair_colour) * (1 - 0.9 * p.tone).clamp(min=0.02) ** 0.8, HAIR)
    hair = hair * (1 + (0.055 * p.hair_red).clamp(min=-0.05) * constant(p.tone, 2.4, -0.2, -1.6) * (1 - p.tone))
    p.hair = (hair + 0.75 * grey * (constant(p.tone, 0.70, 0.69, 0.68) - hair)) * (1 + p.hair_shade)
    p.dark_hair = p.hair * (0.7 + 0.3 * p.hair)
    p.iris_paint = palette(normal_cdf(p.iris_colour) * (1 - p.tone).clamp(min=0.02) ** 0.7, IRIS)
    rosy = constant(p.tone, 0.88, 0.66, 0.64) * (1 + p.lip_colour * constant(p.tone, 0.02, -0.06, -0.03))
    p.lips = p.skin * rosy + constant(p.tone, 0.05, 0.0, 0.02) - 0.05 * p.masculine * constant(p.tone, 0.3, -0.9, -0.8)
