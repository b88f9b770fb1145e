"""Aligns a face by its five landmarks: least-squares similarity to the ArcFace template, then bilinear sampling.

Coordinates are (x, y) with whole numbers at pixel centres. "Left" is left in the picture: the eye with the smaller x,
which is the person's right eye. Only rotation, scale and translation are allowed; a face is never mirrored.
"""

import csv
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from maskinv_lib.faces import SIZE, TEMPLATE
from maskinv_lib.faces.pictures import check_rgb

RESIDUAL_LIMIT = 14.0
"""Largest residual of a fit in template pixels: detected faces have up to 8, swapped left and right 20 and more."""

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
    limit: float = RESIDUAL_LIMIT,
    stretch: float = 1.0,
) -> np.ndarray:
    """Return the aligned face, uint8 [112, 112, 3], of a picture, uint8 [H, W, 3], with five points, float [5, 2].

    Sampling is bilinear. Against aliasing, where the face shrinks, each pixel is the mean of as many samples as picture
    pixels fall on it. Pixels outside the picture are black. ``stretch`` corrects a vertically compressed picture: its
    height and the points' y are multiplied by it, without a second resampling. Raises ValueError naming ``where`` for
    another kind of array, for points that are not finite, coincide or lie far outside the picture, and for a residual
    above ``limit`` template pixels, as when left and right are swapped.
    """
    check_rgb(picture, where)
    points = _checked_points(points, picture.shape[:2], where) * (1.0, stretch)
    matrix, residual = similarity_transform(points)
    if residual > limit:
        raise ValueError(
            f"{where}: its five points miss the template by {residual:.1f} px, more than {limit:g}. Are left and right"
            " swapped, or the columns in another order? Correct the points, or leave the picture out."
        )
    return _sample(picture, matrix * (1.0, stretch, 1.0))


def aligned_face(picture: np.ndarray, points: np.ndarray | None, where: str, stretch: float = 1.0) -> np.ndarray:
    """Return the aligned face, uint8 [112, 112, 3], of a picture that has points, or is an aligned face already.

    Arguments and errors are those of ``align``. A picture without points must be 112 x 112: ValueError otherwise.
    """
    if points is not None:
        return align(picture, points, where, stretch=stretch)
    if picture.shape != (SIZE, SIZE, 3):
        height, width = picture.shape[:2]
        raise ValueError(
            f"{where}: a {width} x {height} picture without landmarks is refused, not resized. Give its five points (a"
            f" row of the landmarks file), or the aligned {SIZE} x {SIZE} face."
        )
    return picture


def _checked_points(points: np.ndarray, size: tuple[int, int], where: str) -> np.ndarray:
    points = np.asarray(points, np.float64)
    if points.shape != (5, 2):
        raise ValueError(f"{where}: needs five points [5, 2] (x, y): {', '.join(POINTS)}; not {list(points.shape)}.")
    if not np.isfinite(points).all():
        raise ValueError(f"{where}: a point is not a finite number. Correct the points, or leave the picture out.")
    height, width = size
    if (points < (-width, -height)).any() or (points > (2 * width, 2 * height)).any():
        worst = points.ravel()[np.abs(points).argmax()]
        raise ValueError(
            f"{where}: a coordinate of {worst:g} lies far outside its {width} x {height} pixels. Points are pixels of"
            " the picture as stored: were they taken at another size?"
        )
    distances = np.linalg.norm(points[:, None] - points, axis=-1)[np.triu_indices(5, 1)]
    if distances.min() < 1e-6 or distances.max() < 1:
        raise ValueError(f"{where}: points coincide, so no alignment exists. Correct them, or leave the picture out.")
    return points


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


def read_rows(path: Path, columns: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """Return (line number, cells by column) of each row of a UTF-8 CSV file with a header.

    Raises ValueError naming file and line for a missing file, a missing column, no rows, or a row of another length.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist. Give the path of a CSV file with columns {', '.join(columns)}.")
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        lines = [(reader.line_num, row) for row in reader if row]
    if missing := [name for name in columns if name not in header]:
        raise ValueError(
            f"{path} line 1: no column {', '.join(missing)}. Add it; found: {', '.join(header) or 'none'}."
        )
    if not lines:
        raise ValueError(f"{path} has a header and no rows. Add one row per picture.")
    for line, row in lines:
        if len(row) != len(header):
            raise ValueError(f"{path} line {line}: {len(row)} cells, the header has {len(header)}. Correct the line.")
    return [(line, dict(zip(header, map(str.strip, row), strict=True))) for line, row in lines]


def row_points(row: dict[str, str], where: str) -> np.ndarray | None:
    """Return a row's five points, float64 [5, 2]; None where all ten cells are empty (no face was detected).

    Raises ValueError naming ``where`` and the column for a cell that is empty, not a number, or too large.
    """
    if not any(row[name] for name in COLUMNS):
        return None
    values = []
    for name in COLUMNS:
        try:
            values.append(float(row[name]))
        except ValueError:
            values.append(math.nan)
        if not abs(values[-1]) < LARGEST:
            raise ValueError(f"{where}: {name} is {row[name]!r}, not a pixel coordinate. Correct it, or empty all ten.")
    return np.array(values).reshape(5, 2)


def read_landmarks(path: Path) -> dict[str, np.ndarray]:
    """Return picture name -> five points, float64 [5, 2], from a CSV with the columns ``image`` and ``COLUMNS``.

    Pictures whose ten cells are empty are left out. Raises the errors of ``read_rows`` and ``row_points``, and
    ValueError for a picture that is listed twice, and where no picture has points.
    """
    landmarks: dict[str, np.ndarray] = {}
    rows = read_rows(path, ("image", *COLUMNS))
    for line, row in rows:
        points = row_points(row, f"{path} line {line}")
        if row["image"] in landmarks:
            raise ValueError(f"{path} line {line}: this picture is listed on an earlier line. Remove one of the two.")
        if points is not None:
            landmarks[row["image"]] = points
    if not landmarks:
        raise ValueError(f"{path}: none of its {len(rows)} rows has points. Detect the faces first.")
    return landmarks
