"""Pictures of a folder with the points by which they are aligned; what a list lacks is known before decoding."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskinv_lib.faces import landmarks as detection
from maskinv_lib.faces.alignment import LIMITS, Limits, aligned_face, check_content, read_landmark_rows
from maskinv_lib.faces.names import PictureNames, shown, some, stem
from maskinv_lib.faces.pictures import decode

Landmarks = Path | str | Mapping[str, np.ndarray | None] | None
"""A CSV for ``read_landmark_rows``, its content (None for a picture without a face), or None for no list."""

Points = Mapping[str, np.ndarray | None]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Pictures that are to be read.

    names: relative to ``root``. points: name -> five points, float [5, 2]; None where they are to be detected. Without
    points, a picture must be aligned. problems: "name: reason" of those that a list of landmarks lacks. notes:
    sentences on the list. stretch, limits: those of ``align``. content: whether faces without content are refused.
    """

    root: Path
    names: list[str]
    points: Points
    problems: list[str]
    notes: list[str]
    stretch: float = 1.0
    limits: Limits = LIMITS
    content: bool = False

    def read(self, errors: list[str]) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
        """Yield name, aligned face uint8 [112, 112, 3] and points [5, 2] of each picture that can be read.

        For each of the others, "name: reason" is added to ``errors``. Each file is read once. Raises ImportError where
        points are to be detected without the detector.
        """
        for name in self.names:
            try:
                face, points = self._face(name)
            except (ValueError, OSError) as error:
                reason = f"cannot be read ({error.strerror or error})" if isinstance(error, OSError) else str(error)
                errors.append(f"{name}: {reason.removeprefix(name).lstrip(': ')}")
            else:
                yield name, face, points

    def _face(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        picture = decode((self.root / name).read_bytes(), name)
        points = self.points.get(name)
        if name in self.points and points is None:
            points = detection.find_landmarks(picture, name)
        face = aligned_face(picture, points, name, self.limits, self.stretch)
        if self.content:
            check_content(face, name)
        return face, points


def select(
    root: Path,
    names: Sequence[str],
    landmarks: Landmarks = None,
    *,
    find: bool = False,
    **options: object,
) -> Selection:
    """Return the named pictures below ``root`` with their points.

    landmarks: names in it are relative to ``root`` or to the list's own folder (see ``PictureNames``). With a list, a
    picture without a row, or with an empty one, is a problem; with ``find``, its points are detected. Rows without a
    picture are noted. Without a list and ``find``, no picture has points. options: further fields of ``Selection``.
    """
    points: Points = {}
    problems: list[str] = []
    notes: list[str] = []
    if landmarks is not None:
        source = "the landmarks" if isinstance(landmarks, Mapping) else str(landmarks)
        points, extra = assigned(landmarks, names, root)
        if extra:
            notes.append(f"{source}, rows without a picture: {len(extra)}, {some(extra)}")
        if not find:
            problems = _lacking(names, points, extra, source)
    if find:
        points = {name: points.get(name) for name in names}
    lacking = {name for name in names if landmarks is not None and not find and points.get(name) is None}
    kept = [name for name in names if name not in lacking]
    return Selection(root=root, names=kept, points=points, problems=problems, notes=notes, **options)


def assigned(
    landmarks: Landmarks, names: Sequence[str], root: Path, bare: bool = False
) -> tuple[dict[str, np.ndarray | None], list[str]]:
    """Return (name -> points or None, rows without a picture) of a list of landmarks for the named pictures.

    bare: the list may give a file's name without its folder.
    """
    if isinstance(landmarks, Mapping):
        return PictureNames(names, root, bare=bare).assign(landmarks, "the landmarks")
    path = Path(landmarks)
    return PictureNames(names, root, [path.parent], bare=bare).assign(read_landmark_rows(path), str(path))


def _lacking(names: Sequence[str], points: Points, extra: Sequence[str], source: str) -> list[str]:
    """Return "name: reason" of each picture without points."""
    stems = {stem(text.replace("\\", "/")): text for text in extra}
    problems = []
    for name in names:
        if name in points and points[name] is None:
            problems.append(f"{name}: its row in {source} is empty: no face was found")
        elif name not in points:
            other = stems.get(stem(name))
            problems.append(f"{name}: no row in {source}" + (f", which has {shown(other)}" if other else ""))
    return problems
