"""Aligned faces, the study's only kind of input: 112 x 112 RGB pixels, the five landmarks on the ArcFace template.

What belongs here: everything that makes or reads such faces: rendering, masks, alignment, pictures, folders, records.
What does not: which faces are compared (``evaluation.benchmarks``). To add a source of faces, write a reader that
returns a ``Faces``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from maskinv_lib.utils.checks import dtype_and_shape

SIZE = 112
"""Width and height of an aligned face in pixels."""

TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
"""The ArcFace 112 x 112 template, (x, y) in pixels: left eye, right eye, nose, left and right mouth corner."""


@dataclass(frozen=True, kw_only=True)
class Faces:
    """A set of aligned faces with their identities.

    images: uint8 [N, 3, 112, 112], RGB. identity: int64 [N], from 0. source: a description of the
    set. publishable: whether its pictures may be published (rendered people: yes; real people: never).
    Raises ValueError for another shape or dtype, or an empty set.
    """

    images: Tensor
    identity: Tensor
    source: str
    publishable: bool

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or tuple(self.images.shape[1:]) != (3, SIZE, SIZE):
            kind = dtype_and_shape(self.images)
            raise ValueError(f"{self.source}: images must be uint8 [N, 3, {SIZE}, {SIZE}], not {kind}.")
        if self.identity.dtype != torch.int64 or self.identity.shape != (len(self.images),):
            kind = dtype_and_shape(self.identity)
            raise ValueError(f"{self.source}: identity must be int64 [{len(self.images)}], not {kind}.")
        if len(self.images) == 0:
            raise ValueError(f"{self.source}: the set has no face.")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def identities(self) -> int:
        """Number of classes for a classification head: the largest identity + 1."""
        return int(self.identity.max()) + 1
