"""Rendered people and their parameters, which the tests of rendering share."""

import dataclasses
from types import SimpleNamespace

import torch
from torch import Tensor

from maskinv_lib.faces.rendering import synthetic
from maskinv_lib.faces.rendering.anatomy import alignment, face_points, height, parameters, project
from maskinv_lib.faces.rendering.synthetic import PLAIN, Rendering


def strengths(**changes: float) -> dict[str, float]:
    return dataclasses.asdict(dataclasses.replace(PLAIN, **changes))


def people(count: int, **changes: float) -> SimpleNamespace:
    """Parameters of the first people, without nuisance but for the changes; identity and view are the same number."""
    return parameters(0, torch.arange(count), torch.arange(count), strengths(**changes))


def column(value: float, count: int = 1) -> Tensor:
    """A parameter of ``count`` faces with one value."""
    return torch.full((count, 1, 1, 1), float(value))


def points_of(p: SimpleNamespace) -> Tensor:
    """The five points in the picture, float32 [B, 5, 2], (x, y) in pixels."""
    u, w = face_points(p)
    x, y = project(p, u, w, height(p, u, w))
    a, b, tx, ty = alignment(p)
    return torch.stack([a * x - b * y + tx, b * x + a * y + ty], -1).reshape(-1, 5, 2)


def picture_points(seed: int, identity: Tensor, view: Tensor, rendering: Rendering) -> Tensor:
    """The five points of the faces that ``render`` returns for the same arguments."""
    return points_of(parameters(seed, identity, view, dataclasses.asdict(rendering)))


def render(seed: int, identity: Tensor, view: Tensor, rendering: Rendering | None = None) -> Tensor:
    """Faces of any people and views: uint8 [B, 3, 112, 112]; identity, view: int64 [B]."""
    return synthetic._render(seed, identity, view, rendering or Rendering(), torch.device("cpu"))
