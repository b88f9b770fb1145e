"""The baseline of the mask drawing: one picture of a mask after the other, placed with OpenCV, blended with NumPy."""

import contextlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskinv_lib.faces import SIZE
from maskinv_lib.faces.masks import drawing, shapes
from maskinv_lib.utils.randomness import uniform

with contextlib.suppress(ImportError):  # the benchmark runs without it, and then has no such baseline
    import cv2


def installed() -> bool:
    """Return whether OpenCV can be used."""
    return "cv2" in globals()


def set_threads(count: int) -> None:
    """Let OpenCV compute with ``count`` threads, where it is installed."""
    if installed():
        cv2.setNumThreads(count)


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainMasks:
    """Masks as an obvious program has them: a picture with an alpha channel each, and four points to place it by.

    textures: uint8 [K, rows, columns, 4], the colour, multiplied by its opacity, and the share of the face that it
    hides. source, target: float32 [K, 4, 2], points (x, y) in the texture and in the face.
    """

    textures: np.ndarray
    source: np.ndarray
    target: np.ndarray

    def __len__(self) -> int:
        return len(self.textures)

    def draw(self, face: np.ndarray, number: int) -> np.ndarray:
        """Return a face, uint8 [112, 112, 3] RGB, with mask ``number``."""
        matrix = cv2.getPerspectiveTransform(self.source[number], self.target[number])
        options = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
        warped = cv2.warpPerspective(self.textures[number], matrix, (SIZE, SIZE), **options).astype(np.float32)
        mixed = warped[..., :3] + face * (1 - warped[..., 3:] / 255)
        return np.clip(mixed + 0.5, 0, 255).astype(np.uint8)

    def draw_all(self, faces: np.ndarray) -> np.ndarray:
        """Return faces, uint8 [N, 112, 112, 3], with the masks 0 .. N - 1, drawn one after the other."""
        return np.stack([self.draw(face, number) for number, face in enumerate(faces)])


def prepare(images: Tensor, keys: Tensor, kinds: str = "seen") -> PlainMasks:
    """Return the masks that ``draw_masks`` draws on faces, uint8 [K, 3, 112, 112], with keys, int64 [K].

    Shapes, colours, light and places are the library's own; only the drawing is not.
    """
    draws = uniform(keys, drawing._DRAWS)
    chosen, _, *colours = drawing._mask_of(keys, kinds, "natural")
    source, target = drawing._corners(draws, chosen, "natural")
    source = (source - torch.tensor([shapes.LEFT, shapes.TOP], dtype=source.dtype)) * shapes.SCALE
    rows = round(shapes.HEIGHT * shapes.SCALE)
    planes = shapes.atlas(torch.device("cpu")).unflatten(1, (-1, rows)).transpose(0, 1)[chosen]  # [K, 5, H, W]
    textures = _coloured(planes, images, *colours)
    return PlainMasks(textures=textures, source=source.float().numpy(), target=target.float().numpy())


def _coloured(planes: Tensor, images: Tensor, fabric: Tensor, second: Tensor, darkness: Tensor) -> np.ndarray:
    """Return the pictures of the masks, uint8 [K, rows, columns, 4], from the planes of their shapes."""
    alpha, shade, side, trim, shadow = planes.unsqueeze(2).unbind(1)  # each [K, 1, rows, columns]
    gain, slope = drawing._light(images)
    colour = (fabric + trim * (second - fabric)) * (shade + side * slope).clamp(min=0.25) * gain
    left = (1 - shadow * darkness) * (1 - alpha)
    pictures = torch.cat([alpha * colour, 255 * (1 - left)], 1)  # [K, 4, rows, columns]
    return (pictures + 0.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
