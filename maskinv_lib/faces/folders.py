"""Reads aligned faces from picture folders, one folder per person; files that cannot be used are reported by name."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from maskinv_lib.faces import SIZE, Faces
from maskinv_lib.faces.alignment import aligned_face, read_landmarks
from maskinv_lib.faces.pictures import decode

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
"""Suffixes by which a file directly in the root counts as a picture without a person's folder."""

LISTED = 5
"""Number of unusable files that an error or warning lists."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Folder:
    """The faces of a folder with the names of their files and people, which no method may know.

    faces: N aligned faces, identity 0..people-1 without a gap, not publishable. names: N paths relative to the root,
    separated by "/". people: the names of the person folders; ``people[faces.identity[i]]`` is that of face i.
    """

    faces: Faces
    names: tuple[str, ...]
    people: tuple[str, ...]


def read_folder(
    root: Path,
    *,
    landmarks: Path | Mapping[str, np.ndarray] | None = None,
    skip_bad: bool = False,
    source: str | None = None,
) -> Folder:
    """Read a tree ``person/picture`` of any names, sorted by name; hidden files and folders are ignored.

    landmarks: a CSV for ``read_landmarks`` or its result, names relative to ``root``. Pictures with landmarks are
    aligned; those without must be 112 x 112 and count as aligned. Pictures of another size without landmarks, files
    that are not pictures, folders inside a person's folder and folders without a file raise ValueError that lists up
    to five of them; with ``skip_bad`` they are left out with a warning. ``source`` describes the set in messages (by
    default the root's name). Raises ValueError also for a root that is missing, empty or holds pictures directly.
    """
    root = Path(root)
    names, problems = _list_people(root)
    points = _points(landmarks)
    problems += _misnamed(points, names)
    images, readable, errors = _load(root, names, points)
    _report(root, problems + errors, len(names) + len(problems), skip_bad)
    if not readable:
        raise ValueError(f"{root} holds no usable picture: expected {root.name}/person/picture.jpg.")
    return folder_of(images, readable, [name.split("/")[0] for name in readable], source or root.name)


def read_pictures(
    root: Path, names: Sequence[str], landmarks: Path | Mapping[str, np.ndarray] | None = None, stretch: float = 1.0
) -> np.ndarray:
    """Return the aligned faces uint8 [N, 112, 112, 3] of the named pictures below ``root``, in the order of ``names``.

    Rules and errors are those of ``read_folder``, without skipping; ``stretch`` is that of ``align``.
    """
    images, _, errors = _load(Path(root), names, _points(landmarks), stretch)
    _report(Path(root), errors, len(names), skip_bad=False)
    return images


def folder_of(images: np.ndarray, names: Sequence[str], persons: Sequence[str], source: str) -> Folder:
    """Return a ``Folder`` of images uint8 [N, 112, 112, 3] and the person of each; people are sorted by name."""
    people, identity = np.unique(np.array(persons, dtype=object), return_inverse=True)
    faces = Faces(
        images=torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
        identity=torch.from_numpy(identity.astype(np.int64)),
        source=source,
        publishable=False,
    )
    return Folder(faces=faces, names=tuple(names), people=tuple(people))


def _points(landmarks: Path | Mapping[str, np.ndarray] | None) -> Mapping[str, np.ndarray]:
    if landmarks is None:
        return {}
    return landmarks if isinstance(landmarks, Mapping) else read_landmarks(landmarks)


def _misnamed(points: Mapping[str, np.ndarray], pictures: Sequence[str]) -> list[str]:
    """Return "name: reason" of each row of landmarks whose picture exists only with another suffix."""
    names, stems = set(pictures), {name.rpartition(".")[0]: name for name in pictures}
    pairs = [(name, stems.get(name.rpartition(".")[0])) for name in points if name not in names]
    return [f"{name}: a row of landmarks without a picture; {other} is there" for name, other in pairs if other]


def _visible(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda path: path.name)


def _list_people(root: Path) -> tuple[list[str], list[str]]:
    """Return the files of all person folders, and the faults of the tree as "path: reason"."""
    if not root.is_dir():
        raise ValueError(f"{root} is no folder. Give the folder that holds one folder per person.")
    direct = [path.name for path in _visible(root) if path.suffix.lower() in SUFFIXES and path.is_file()]
    if direct:
        raise ValueError(
            f"{root} holds {len(direct)} pictures directly ({direct[0]}): their people are unknown. Put each person's"
            " pictures in a folder of their own."
        )
    folders = [path for path in _visible(root) if path.is_dir()]
    if not folders:
        raise ValueError(f"{root} holds no folder: expected {root.name}/person/picture.jpg.")
    contents = {folder.name: _visible(folder) for folder in folders}
    problems = [f"{person}: holds no file" for person, paths in contents.items() if not paths]
    paths = {f"{person}/{path.name}": path for person, paths in contents.items() for path in paths}
    problems += [f"{name}: a folder inside a person's folder" for name, path in paths.items() if path.is_dir()]
    return [name for name, path in paths.items() if not path.is_dir()], problems


def _load(
    root: Path, names: Sequence[str], points: Mapping[str, np.ndarray], stretch: float = 1.0
) -> tuple[np.ndarray, list[str], list[str]]:
    """Return the images uint8 [N, 112, 112, 3] that could be read, their names, and the errors of the others."""
    images, readable, errors = np.empty((len(names), SIZE, SIZE, 3), np.uint8), [], []
    for name in names:
        try:
            picture = decode((root / name).read_bytes(), name)
            images[len(readable)] = aligned_face(picture, points.get(name), name, stretch)
            readable.append(name)
        except (ValueError, OSError) as error:
            errors.append(f"{name}: no such file" if isinstance(error, FileNotFoundError) else str(error))
    return images[: len(readable)], readable, errors


def _report(root: Path, errors: list[str], total: int, skip_bad: bool) -> None:
    """Raise ValueError, or warn, if there are errors, and list the first of them."""
    if not errors:
        return
    more = f"\n  and {len(errors) - LISTED} more" if len(errors) > LISTED else ""
    listing = "".join(f"\n  {error}" for error in errors[:LISTED]) + more
    text = f"{root}: {len(errors)} of {total} entries cannot be used:{listing}"
    if not skip_bad:
        raise ValueError(f"{text}\nRemove or correct them (read_folder with skip_bad=True leaves them out).")
    warnings.warn(f"{text}\nThey were left out.", stacklevel=3)
