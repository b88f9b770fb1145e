"""Aligns a face by its five landmarks: least-squares similarity to the ArcFace template, then bilinear sampling.

Coordinates are (x, y) with whole numbers at pixel centres. "Left" is left in the picture: the eye with the smaller x,
which is the person's right eye. Only rotation, scale and translation are allowed; a face is never mirrored.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from maskinv_lib.faces import SIZE, TEMPLATE
from maskinv_lib.faces.pictures import check_rgb
from maskinv_lib.utils.texts import read_rows


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What ``align`` accepts.

    residual: largest residual of the fit in template pixels; detected faces have up to 8, swapped left and right 20 and
    more. margin: how far a point may lie outside the picture, as a share of its side. outside: largest share of the
    aligned face that may lie outside the picture, where it is black.
    """

    residual: float = 14.0
    margin: float = 0.05
    outside: float = 1 / 3


LIMITS = Limits()

CUT_CLOSE = Limits(margin=0.25, outside=0.8)
"""For published sets whose pictures are cut close to the face: measured were 0.24 and 0.78 at most (RMFRD)."""

POINTS = ("eye_left", "eye_right", "nose", "mouth_left", "mouth_right")
"""The five points in the template's order."""

COLUMNS = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")
"""The ten columns of a landmarks file, in the order of ``POINTS``."""

LARGEST = 1e6
"""A coordinate in pixels that exceeds every picture."""


def similarity_transform(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the similarity from five picture points to the template, and its residual.

    points: float [5, 2], (x, y), not all equal. Returns the matrix, float64 [2, 3], with
    ``template = matrix @ (x, y, 1)``, and the root mean squared distance to the template in its pixels. This is the
    least-squares solution of Umeyama (PAMI 1991) among rotation, scale and translation; in the complex plane it is
    ``a = sum(conj(z) w) / sum(|z|^2)`` for centred points z and template w, and no mirrored solution exists.
    """
    points, template = np.asarray(points, np.float64), np.asarray(TEMPLATE)
    z, w = points @ [1, 1j], template @ [1, 1j]  # [5] complex
    centred = z - z.mean()
    a = (centred.conj() @ (w - w.mean())) / (centred.conj() @ centred).real
    b = w.mean() - a * z.mean()
    residual = math.sqrt((np.abs(a * z + b - w) ** 2).mean())
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]]), residual


def align(
    picture: np.ndarray,
    points: np.ndarray,
    where: str = "The picture",
    limits: Limits = LIMITS,
    stretch: float = 1.0,
) -> np.ndarray:
    """Return the aligned face, uint8 [112, 112, 3], of a picture, uint8 [H, W, 3], with five points, float [5, 2].

    Sampling is bilinear. Against aliasing, where the face shrinks, each pixel is the mean of as many samples as picture
    pixels fall on it. Pixels outside the picture are black. ``stretch`` corrects a vertically compressed picture: its
    height and the points' y are multiplied by it, without a second resampling. Raises ValueError naming ``where`` for
    another kind of array, for points that are not finite, coincide, are shares of the picture (0 to 1) or lie outside
    it, for a fit whose residual exceeds ``limits``, as when left and right are swapped, and for a face of which more
    lies outside the picture than ``limits`` allow.
    """
    check_rgb(picture, where)
    points = np.asarray(points, np.float64)
    _check_points(points, where)
    _check_inside(points, picture.shape[:2], where, limits.margin)
    matrix, residual = similarity_transform(points * (1.0, stretch))
    if residual > limits.residual:
        raise ValueError(
            f"{where}: its five points miss the template by {residual:.1f} px, more than {limits.residual:g}. Are left"
            " and right swapped, or the columns in another order? Correct the points, or leave the picture out."
        )
    matrix = matrix * (1.0, stretch, 1.0)
    outside = share_outside(matrix, picture.shape[:2])
    if outside > limits.outside:
        raise ValueError(
            f"{where}: {outside:.0%} of the aligned face would lie outside the picture, more than {limits.outside:.0%}."
            " Are the points of another size or crop? Correct them, use a picture with more around the face, or leave"
            " it out."
        )
    return _sample(picture, matrix)


def aligned_face(
    picture: np.ndarray, points: np.ndarray | None, where: str, limits: Limits = LIMITS, stretch: float = 1.0
) -> np.ndarray:
    """Return the aligned face, uint8 [112, 112, 3], of a picture that has points, or is an aligned face already.

    Arguments and errors are those of ``align``. A picture without points must be 112 x 112: ValueError otherwise.
    """
    if points is not None:
        return align(picture, points, where, limits, stretch)
    if picture.shape != (SIZE, SIZE, 3):
        height, width = picture.shape[:2]
        raise ValueError(
            f"{where}: a {width} x {height} picture without landmarks is refused, not resized. Give its five points (a"
            f" row of the landmarks file), or the aligned {SIZE} x {SIZE} face."
        )
    return picture


def _check_points(points: np.ndarray, where: str) -> None:
    if points.shape != (5, 2):
        raise ValueError(f"{where}: needs five points [5, 2] (x, y): {', '.join(POINTS)}; not {list(points.shape)}.")
    if not np.isfinite(points).all():
        raise ValueError(f"{where}: a point is not a finite number. Correct the points, or leave the picture out.")
    distances = np.linalg.norm(points[:, None] - points, axis=-1)[np.triu_indices(5, 1)]
    if distances.min() < 1e-6:
        raise ValueError(f"{where}: points coincide, so no alignment exists. Correct them, or leave the picture out.")
    if points.min() > -0.5 and points.max() < 1.5:
        raise ValueError(
            f"{where}: its points lie between {points.min():.3g} and {points.max():.3g}, as shares of the picture do."
            " Points must be pixels: multiply x by the picture's width and y by its height."
        )


def _check_inside(points: np.ndarray, size: tuple[int, int], where: str, margin: float) -> None:
    """Raise ValueError for points beyond a picture (height, width) by more than ``margin`` of its side."""
    sides = np.array(size[::-1], np.float64)
    outside = int(((points < -margin * sides) | (points > (1 + margin) * sides)).any(axis=1).sum())
    if outside:
        worst = points.ravel()[np.abs(points - (sides - 1) / 2).argmax()]
        raise ValueError(
            f"{where}: {outside} of its five points lie outside its {size[1]} x {size[0]} pixels (such as {worst:.6g})."
            " Points are pixels of the upright picture: were they taken at another size, or from another crop?"
        )


def share_outside(matrix: np.ndarray, size: tuple[int, int]) -> float:
    """Return the share of the aligned face's pixels that lie outside a picture (height, width); matrix: [2, 3]."""
    template = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=-1)  # [112, 112, 2], (x, y)
    x, y = np.moveaxis((template - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T, -1, 0)
    return float(1 - ((x >= -0.5) & (x <= size[1] - 0.5) & (y >= -0.5) & (y <= size[0] - 0.5)).mean())


EMPTY_SPREAD, EMPTY_SHARE = 4, 0.99
"""A face is empty if this share of its pixels is within so many grey levels of one colour."""


def check_content(image: np.ndarray, where: str) -> None:
    """Raise ValueError naming ``where`` for a face, uint8 [112, 112, 3], whose pixels are (nearly) all of one value.

    The template of such a face says nothing of a person, and resembles that of any other: it must not be compared.
    """
    near = np.abs(image.astype(np.int16) - np.median(image[::4, ::4], axis=(0, 1)).astype(np.int16)) <= EMPTY_SPREAD
    if near.all(axis=2).mean() >= EMPTY_SHARE:
        raise ValueError(
            f"{where}: the picture has no content, {EMPTY_SHARE:.0%} of it is one colour, so it shows no face. Replace"
            " it, or leave it out."
        )


def _sample(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the face, uint8 [112, 112, 3], to which ``matrix`` [2, 3] (picture to template) takes the picture."""
    linear = np.linalg.inv(matrix[:, :2])  # template pixels to picture pixels
    per_axis = max(1, round(float(np.linalg.norm(linear, 2))))
    height, width = picture.shape[:2]
    inner = (np.arange(SIZE * per_axis) + 0.5) / per_axis - 0.5
    source = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    rows = torch.zeros(3, SIZE, SIZE)
    for offset in range(per_axis):  # one sample row of each pixel row at a time, to save memory
        x, y = np.meshgrid(inner, inner[offset::per_axis])
        points = np.stack([x, y], axis=-1) @ linear.T - linear @ matrix[:, 2]  # [112, 112 per_axis, 2]
        grid = torch.from_numpy((2 * points + 1) / (width, height) - 1)[None].float()
        samples = torch.nn.functional.grid_sample(source, grid, padding_mode="zeros", align_corners=False)[0]
        rows += samples.reshape(3, SIZE, SIZE, per_axis).mean(-1)
    return (rows / per_axis).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def row_points(row: dict[str, str], where: str) -> np.ndarray | None:
    """Return a row's five points, float64 [5, 2]; None where all ten cells are empty (no face was detected).

    A decimal comma counts as a point. Raises ValueError naming ``where`` and the column for a cell that is empty, not a
    number, or too large.
    """
    if not any(row[name] for name in COLUMNS):
        return None
    values = []
    for name in COLUMNS:
        try:
            values.append(float(row[name].replace(",", ".")))
        except ValueError:
            values.append(math.nan)
        if not abs(values[-1]) < LARGEST:
            raise ValueError(f"{where}: {name} is {row[name]!r}, not a pixel coordinate. Correct it, or empty all ten.")
    return np.array(values).reshape(5, 2)


def read_landmark_rows(path: Path) -> dict[str, np.ndarray | None]:
    """Return picture name -> five points, float64 [5, 2], from a CSV with the columns ``image`` and ``COLUMNS``.

    The value is None where all ten cells are empty: no face was found. Raises the errors of ``read_rows`` and
    ``row_points``, and ValueError for a picture that is listed twice, and where no picture has points.
    """
    landmarks: dict[str, np.ndarray | None] = {}
    rows = read_rows(path, ("image", *COLUMNS))
    for line, row in rows:
        points = row_points(row, f"{path} line {line}")
        if row["image"] in landmarks:
            raise ValueError(f"{path} line {line}: this picture is listed on an earlier line. Remove one of the two.")
        landmarks[row["image"]] = points
    if all(points is None for points in landmarks.values()):
        raise ValueError(f"{path}: none of its {len(rows)} rows has points. Detect the faces first.")
    return landmarks


def read_landmarks(path: Path) -> dict[str, np.ndarray]:
    """Return what ``read_landmark_rows`` reads, without the pictures in which no face was found."""
    return {name: points for name, points in read_landmark_rows(path).items() if points is not None}
