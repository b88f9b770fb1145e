"""Returns the pixels of aligned faces from any form of photographs: files, folders, arrays or sets."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from maskinv_lib.faces import Faces
from maskinv_lib.faces.alignment import aligned_face
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
"""EXIF orientation -> the transposition that makes the stored picture upright."""


def open_picture(path: str | Path) -> np.ndarray:
    """Return a picture file, uint8 [H, W, 3] RGB, made upright by its EXIF orientation, as a viewer shows it.

    Raises FileNotFoundError, or ValueError for a file that is not a picture, naming it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no picture {path}.")
    data = path.read_bytes()
    pixels = decode(data, str(path))
    with Image.open(io.BytesIO(data)) as picture:
        transpose = UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation))
    return pixels if transpose is None else np.asarray(Image.fromarray(pixels).transpose(transpose))


def read_photograph(path: Path, landmarks: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
    """Return one aligned face, uint8 [112, 112, 3], of a picture file.

    landmarks: picture name (the path itself, or the file's name) -> five points, float [5, 2], in pixels of
    ``open_picture``'s result; a picture without points must be 112 x 112 and counts as aligned.
    Raises FileNotFoundError, or ValueError naming the file.
    """
    path, landmarks = Path(path), landmarks or {}
    names = (str(path), path.as_posix(), path.name)
    points = next((landmarks[name] for name in names if name in landmarks), None)
    return aligned_face(open_picture(path), points, str(path))


def pixels_of(faces: Photographs, landmarks: Mapping[str, np.ndarray] | None = None) -> Tensor:
    """Return the pixels of photographs, uint8 [N, 3, 112, 112]; those of a folder in the order of ``read_folder``.

    landmarks: picture name -> five points, float [5, 2], as for ``read_photograph``. Raises ValueError for no picture,
    and for two files of the same name if that name has landmarks.
    """
    landmarks = landmarks or {}
    if isinstance(faces, str | Path) and Path(faces).is_dir():
        faces = read_folder(faces, landmarks=landmarks)
    if isinstance(faces, Folder):
        faces = faces.faces
    if isinstance(faces, Faces | Tensor):
        return faces.images if isinstance(faces, Faces) else faces
    paths = [faces] if isinstance(faces, str | Path) else list(faces)
    if not paths:
        raise ValueError("There is no picture to make a template of.")
    by_name = {Path(path).name: path for path in paths}
    for path in paths:
        namesake = by_name[Path(path).name]
        if namesake != path and Path(path).name in landmarks:
            raise ValueError(f"{path} and {namesake} have one name: its landmarks could be of either. Rename one.")
    images = np.stack([read_photograph(path, landmarks) for path in paths])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
