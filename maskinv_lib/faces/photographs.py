"""Photographs in any form that a caller may have them in become pixels of aligned faces."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from maskinv_lib.faces import SIZE, Faces
from maskinv_lib.faces.alignment import align
from maskinv_lib.faces.folders import Folder, read_folder
from maskinv_lib.faces.pictures import decode

Photographs = Faces | Folder | Tensor | str | Path | Sequence[str | Path]
"""Aligned faces: a set, pixels uint8 [N, 3, 112, 112], a picture file, several of them, or a folder of people."""


UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation -> what turns the stored pixels into the picture that a viewer shows."""


def open_picture(path: str | Path) -> np.ndarray:
    """Return a picture file as a viewer shows it, uint8 [H, W, 3] RGB: turned as a telephone's EXIF tag asks for.

    Raises FileNotFoundError, or ValueError for what is no picture, naming the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no picture {path}.")
    data = path.read_bytes()
    pixels = decode(data, str(path))
    with Image.open(io.BytesIO(data)) as opened:
        turn = UPRIGHT.get(opened.getexif().get(ExifTags.Base.Orientation))
    return pixels if turn is None else np.asarray(Image.fromarray(pixels).transpose(turn))


def read_photograph(path: Path, landmarks: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
    """Return one aligned face, uint8 [112, 112, 3], of a picture file.

    landmarks: picture name (the path as given, or the file's name) -> five points, float [5, 2]; a picture without any
    must be 112 x 112 and counts as aligned. The points are those of the picture as ``open_picture`` returns it.
    Raises FileNotFoundError, or ValueError naming the file.
    """
    path, points = Path(path), landmarks or {}
    picture = open_picture(path)
    found = next((points[name] for name in (str(path), path.as_posix(), path.name) if name in points), None)
    if found is not None:
        return align(picture, found, str(path))
    if picture.shape != (SIZE, SIZE, 3):
        height, width = picture.shape[:2]
        raise ValueError(
            f"{path} is a picture of {width} x {height} without landmarks. Give its five points (a landmarks file whose"
            f" column image holds {path.name}), or the aligned {SIZE} x {SIZE} face."
        )
    return picture


def pixels_of(faces: Photographs, landmarks: Mapping[str, np.ndarray] | None = None) -> Tensor:
    """Return the pixels of photographs, uint8 [N, 3, 112, 112]; those of a folder in the order of ``read_folder``.

    landmarks: picture name -> five points, float [5, 2], as for ``read_photograph``. Raises ValueError for no picture,
    and for two pictures of one name where that name has landmarks.
    """
    landmarks = landmarks or {}
    if isinstance(faces, str | Path) and Path(faces).is_dir():
        faces = read_folder(faces, landmarks=landmarks)
    if isinstance(faces, Folder):
        return faces.faces.images
    if isinstance(faces, Faces | Tensor):
        return faces.images if isinstance(faces, Faces) else faces
    paths = [faces] if isinstance(faces, str | Path) else list(faces)
    if not paths:
        raise ValueError("There is no picture to make a template of.")
    named = {Path(path).name: path for path in paths}
    twice = next((path for path in paths if named[Path(path).name] != path and Path(path).name in landmarks), None)
    if twice is not None:
        other = named[Path(twice).name]
        raise ValueError(f"{twice} and {other} have one name, so its landmarks could be of either. Rename one of them.")
    images = np.stack([read_photograph(path, landmarks) for path in paths])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
