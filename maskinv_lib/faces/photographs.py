"""Returns the pixels of aligned faces from any form of photographs: files, folders, arrays or sets."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskinv_lib.faces import Faces
from maskinv_lib.faces import landmarks as detection
from maskinv_lib.faces.alignment import aligned_face, check_content
from maskinv_lib.faces.folders import Folder, read_folder
from maskinv_lib.faces.names import LISTED, shown, some
from maskinv_lib.faces.pictures import decode
from maskinv_lib.faces.selection import Landmarks, assigned

Photographs = Faces | Folder | Tensor | str | Path | Sequence[str | Path]
"""Aligned faces: a set, pixels uint8 [N, 3, 112, 112], a picture file, several of them, or a folder of people."""


def open_picture(path: str | Path) -> np.ndarray:
    """Return a picture file, uint8 [H, W, 3] RGB, as ``decode`` makes it.

    Raises FileNotFoundError, or ValueError for a file that is not a picture, naming it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no picture {shown(str(path))}.")
    return decode(path.read_bytes(), shown(str(path)))


def read_photograph(path: Path, landmarks: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
    """Return one aligned face, uint8 [112, 112, 3], of a picture file.

    landmarks: picture name (the path, or the file's name) -> five points, float [5, 2], in pixels of
    ``open_picture``'s result; a picture without points must be 112 x 112 and counts as aligned.
    Raises FileNotFoundError, or ValueError naming the file.
    """
    points, _ = _of_files([path], landmarks or {})
    return aligned_face(open_picture(path), points.get(str(path)), shown(str(path)))


def landmarks_of(paths: Sequence[str | Path], landmarks: Landmarks = None, find: bool = False) -> dict[str, np.ndarray]:
    """Return the five points, float [5, 2], of picture files by their path, for ``pixels_of``.

    landmarks: a CSV, or its content; its names may be the file's alone, or relative to the working directory or to the
    list's folder. find: detect the points of files without a row. Without it, a file without a row has no points: it
    must be an aligned face, and a warning names it. Raises ValueError for a list that names none of the files, and for
    a file whose row is empty.
    """
    points, extra = ({}, []) if landmarks is None else _of_files(paths, landmarks)
    names = list(dict.fromkeys(map(str, paths)))
    missing = [name for name in names if points.get(name) is None]
    if find:
        points |= {name: detection.find_landmarks(open_picture(name), shown(name)) for name in missing}
    elif landmarks is not None and missing:
        source = "the landmarks" if isinstance(landmarks, Mapping) else landmarks
        if empty := [name for name in missing if name in points]:
            raise ValueError(f"{source}: the row of {some(empty)} is empty: no face was found. Give its points.")
        text = f"{source} has no row of {some(missing)}; {len(extra)} other rows: {some(extra)}."
        if len(missing) == len(names):
            raise ValueError(f"{text} Correct the names in the list.")
        warnings.warn(f"{text} Taken as aligned, if of 112 x 112 pixels: {some(missing)}.", stacklevel=2)
    return points


def pixels_of(faces: Photographs, landmarks: Mapping[str, np.ndarray] | None = None) -> Tensor:
    """Return the pixels of photographs, uint8 [N, 3, 112, 112]; those of a folder in the order of ``read_folder``.

    landmarks: picture name -> five points, float [5, 2], as for ``read_photograph``. Raises ValueError for no picture,
    for two files of the same name if that name has landmarks, and for a picture without content.
    """
    if isinstance(faces, str | Path) and Path(faces).is_dir():
        faces = read_folder(faces, landmarks=landmarks or None, content=True)
    if isinstance(faces, Folder):
        check_faces(faces.faces.images, faces.names)
        faces = faces.faces
    if isinstance(faces, Faces | Tensor):
        return faces.images if isinstance(faces, Faces) else faces
    paths = [faces] if isinstance(faces, str | Path) else list(faces)
    if not paths:
        raise ValueError("There is no picture to make a template of.")
    points, _ = _of_files(paths, landmarks or {})
    faces = [aligned_face(open_picture(path), points.get(str(path)), shown(str(path))) for path in paths]
    images = torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).contiguous()
    check_faces(images, [shown(str(path)) for path in paths])
    return images


def check_faces(images: Tensor, names: Iterable[str]) -> None:
    """Raise ValueError naming up to five of the faces, uint8 [N, 3, 112, 112], that have no content to compare."""
    problems = []
    for image, name in zip(images, names, strict=True):
        try:
            check_content(image.permute(1, 2, 0).numpy(), name)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        more = f"\nand {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        raise ValueError("\n".join(problems[:LISTED]) + more)


def _of_files(paths: Sequence[str | Path], landmarks: Landmarks) -> tuple[dict, list[str]]:
    """Return (path -> points or None, rows without a picture) of a list of landmarks for picture files."""
    return assigned(landmarks, list(map(str, paths)), Path("."), bare=True)
