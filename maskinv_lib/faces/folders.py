"""Pictures in folders, one folder per person, become aligned faces; what cannot be used is named, not guessed at."""

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from maskinv_lib.faces import SIZE, Faces
from maskinv_lib.faces.alignment import align, read_landmarks
from maskinv_lib.faces.pictures import decode

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
"""Endings by which a file directly in the root is taken for a picture that lacks its person's folder."""

SHOWN = 5
"""How many unusable files an error or warning lists."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Folder:
    """A folder read: its faces, and what only the reader of the folder may know.

    faces: N aligned faces, identity 0..people-1 without a gap, not publishable. names: N paths relative to the root,
    with "/" between. people: the names of the person folders, ``people[faces.identity[i]]`` is that of face i.
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
    """Read a tree ``person/picture`` of any names, sorted by name; hidden files and folders are passed over.

    landmarks: a CSV for ``read_landmarks`` or its result, names relative to ``root``. Pictures with landmarks are
    aligned; those without must be 112 x 112 and count as aligned. Pictures of another size without landmarks, files
    that are no pictures, folders inside a person's folder and folders without a file are an error listing up to five
    of them, or with ``skip_bad`` a warning. ``source`` describes the set in messages; without it, the root's name.
    Raises ValueError too for a root that is missing, empty or holds pictures directly.
    """
    root = Path(root)
    listed, problems = _list_people(root)
    points = _points(landmarks)
    problems += _misnamed(points, listed)
    images, used, bad = _load(root, listed, points)
    _report(root, problems + bad, len(listed) + len(problems), skip_bad)
    if not used:
        raise ValueError(f"{root} holds no usable picture: expected {root.name}/person/picture.jpg.")
    source = source or root.name
    return folder_of(images, used, [name.split("/")[0] for name in used], source)


def read_pictures(
    root: Path, names: Sequence[str], landmarks: Path | Mapping[str, np.ndarray] | None = None, stretch: float = 1.0
) -> np.ndarray:
    """Return the aligned faces uint8 [N, 112, 112, 3] of the named pictures below ``root``, in that order.

    Rules and errors are those of ``read_folder``, without skipping; ``stretch`` is that of ``align``.
    """
    images, _, bad = _load(Path(root), names, _points(landmarks), stretch)
    _report(Path(root), bad, len(names), skip_bad=False)
    return images


def folder_of(images: np.ndarray, names: Sequence[str], persons: Sequence[str], source: str) -> Folder:
    """Return a ``Folder`` of images uint8 [N, 112, 112, 3] and each one's person; people are sorted by name."""
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


def _misnamed(points: Mapping[str, np.ndarray], listed: Sequence[str]) -> list[str]:
    """Return landmark rows that would be passed over because their picture's suffix differs, as "name: reason"."""
    there, stems = set(listed), {name.rpartition(".")[0]: name for name in listed}
    meant = {name: stems.get(name.rpartition(".")[0]) for name in points if name not in there}
    return [f"{name}: a row of landmarks without a picture; {other} is there" for name, other in meant.items() if other]


def _visible(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda path: path.name)


def _list_people(root: Path) -> tuple[list[str], list[str]]:
    """Return the files of all person folders, and what is wrong with the tree, each as "path: reason"."""
    if not root.is_dir():
        raise ValueError(f"{root} is no folder. Give the folder that holds one folder per person.")
    loose = [path.name for path in _visible(root) if path.suffix.lower() in SUFFIXES and path.is_file()]
    if loose:
        raise ValueError(
            f"{root} holds {len(loose)} pictures directly ({loose[0]}): who they show is unknown. Put each person's"
            " pictures in a folder of their own."
        )
    folders = [path for path in _visible(root) if path.is_dir()]
    if not folders:
        raise ValueError(f"{root} holds no folder: expected {root.name}/person/picture.jpg.")
    contents = {folder: _visible(folder) for folder in folders}
    problems = [f"{folder.name}: holds no file" for folder, inside in contents.items() if not inside]
    paths = list(itertools.chain.from_iterable(contents.values()))
    problems += [
        f"{path.parent.name}/{path.name}: a folder inside a person's folder" for path in paths if path.is_dir()
    ]
    return [f"{path.parent.name}/{path.name}" for path in paths if not path.is_dir()], problems


def _load(
    root: Path, names: Sequence[str], points: Mapping[str, np.ndarray], stretch: float = 1.0
) -> tuple[np.ndarray, list[str], list[str]]:
    """Return the images uint8 [N, 112, 112, 3] that could be read, their names, and the reasons of the others."""
    images, used, bad = np.empty((len(names), SIZE, SIZE, 3), np.uint8), [], []
    for name in names:
        try:
            images[len(used)] = _read_picture(root / name, name, points.get(name), stretch)
            used.append(name)
        except (ValueError, OSError) as error:
            bad.append(f"{name}: no such file" if isinstance(error, FileNotFoundError) else str(error))
    return images[: len(used)], used, bad


def _read_picture(path: Path, name: str, points: np.ndarray | None, stretch: float) -> np.ndarray:
    picture = decode(path.read_bytes(), name)
    if points is not None:
        return align(picture, points, name, stretch=stretch)
    if picture.shape != (SIZE, SIZE, 3):
        height, width = picture.shape[:2]
        raise ValueError(
            f"{name}: a {width} x {height} picture without landmarks is refused, not resized: give its five points, or"
            f" the aligned {SIZE} x {SIZE} face."
        )
    return picture


def _report(root: Path, bad: list[str], total: int, skip_bad: bool) -> None:
    if not bad:
        return
    more = f"\n  and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    listing = "".join(f"\n  {reason}" for reason in bad[:SHOWN]) + more
    text = f"{root}: {len(bad)} of {total} entries cannot be used:{listing}"
    if not skip_bad:
        raise ValueError(f"{text}\nRemove or correct them (read_folder with skip_bad=True leaves them out).")
    warnings.warn(f"{text}\nThey were left out.", stacklevel=3)
