"""Two parallel networks, one for the whole face and one for the eye region, whose embeddings are concatenated.

This is the occlusion-invariant, multi-branch family of Hemathilaka and Aponso (2022, arXiv 2201.09089): one branch sees
a region that a mask covers little of. It is our reading of the abstract, since details are unpublished: regions, widths
and the concatenation are choices made here.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from maskinv_lib.faces import SIZE
from maskinv_lib.networks import Network
from maskinv_lib.utils import checks

EYE_ROWS = slice(28, 72)
"""Rows of the periocular region, brows to cheekbones: the eyes' centres lie at y = 51.6, near its middle.

A mask may cover its lower third; the branch learns that, since it is trained on masked faces.
"""


class TwoBranch(Network):
    """Whole face and periocular region, each through its own ``inner`` network; raw embeddings [B, embedding_size].

    inner: a factory such as ``iresnet.compact``, called with ``embedding_size``. The branch ``face`` gives the first
    embedding_size // 2 numbers, ``eyes`` the others, also of an odd size; None takes the usual size of one inner
    network for both together. A size below 2 raises ValueError. The branches share no weights, and a forward pass costs
    as much as those of two inner networks.
    """

    def __init__(self, *, name: str, inner: Callable[..., Network], embedding_size: int | None = None) -> None:
        size = inner().embedding_size if embedding_size is None else embedding_size
        size = checks.whole_number("embedding_size of two branches", size, minimum=2)
        face, eyes = inner(embedding_size=size // 2), inner(embedding_size=size - size // 2)
        super().__init__(name=name, embedding_size=size, contract=face.contract)
        self.face, self.eyes = face, eyes

    def maps(self, pixels: Tensor) -> Tensor:
        """Return the last feature maps of both branches, [B, 2 * channels, height, width]; the whole face is first."""
        return torch.cat([self.face.maps(pixels), self.eyes.maps(eye_region(pixels))], dim=1)

    def head(self, maps: Tensor) -> Tensor:
        """Return raw embeddings, float32 [B, embedding_size], from the maps: each branch's head on its own half."""
        face, eyes = maps.chunk(2, dim=1)
        return torch.cat([self.face.head(face), self.eyes.head(eyes)], dim=1)


def eye_region(pixels: Tensor) -> Tensor:
    """Return the rows ``EYE_ROWS`` of [B, 3, 112, 112] pixels, stretched downwards to the full frame (bilinear).

    All columns stay: a square of 44 pixels would cut into both eyes.
    """
    return functional.interpolate(pixels[:, :, EYE_ROWS], size=(SIZE, SIZE), mode="bilinear", align_corners=False)
