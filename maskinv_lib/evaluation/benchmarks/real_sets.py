"""Readers of real-mask sets: MFR2, RMFRD, any folder with a pairs file, and the session protocol of MFRC-21.

The people of these sets did not agree to more than research: no name and no picture of theirs is in any result.
"""

import warnings
from pathlib import Path, PurePosixPath

import numpy as np

from maskinv_lib.evaluation.benchmarks.pairs import (
    NO_MASK,
    flag,
    read_mask_labels,
    read_pairs,
    read_sessions,
)
from maskinv_lib.evaluation.benchmarks.real_masks import OFFICIAL, Pairs, RealBenchmark
from maskinv_lib.faces.alignment import COLUMNS, CUT_CLOSE, row_points
from maskinv_lib.faces.folders import Folder, folder_of, read_folder, read_pictures
from maskinv_lib.faces.names import PictureNames, folded, some
from maskinv_lib.faces.selection import Landmarks
from maskinv_lib.utils.texts import read_rows

RMFRD_STRETCH = 1.3
"""RMFRD's pictures were scaled to squares; with their height times this factor, its faces fit the template best."""

SESSIONS = "sessions"
"""The protocol of MFRC-21: references of one session against masked probes of another."""


def read_mfr2(folder: Path) -> RealBenchmark:
    """Read MFR2: person/person_0001.png, landmarks.csv, mfr2_labels.txt and pairs.txt in one folder.

    Raises ValueError naming the file (and line) that is missing or contradicts the pictures.
    """
    folder = Path(folder)
    options = {"skip_bad": None, "limits": CUT_CLOSE}
    pictures = read_folder(folder, landmarks=folder / "landmarks.csv", source="MFR2", **options)
    labels, numbered = read_mask_labels(folder / "mfr2_labels.txt"), NumberedPictures(pictures.names)
    found = {numbered.find(picture): kind for picture, kind in labels.items()}
    without, extra = len(pictures.names) - len(found.keys() - {None}), sum(map(numbered.is_missing, labels))
    if without or extra:
        raise ValueError(
            f"{folder / 'mfr2_labels.txt'}: {without} pictures have no label and {extra} labels no picture. Get the"
            " list that came with these pictures."
        )
    masked = np.array([found[index] != NO_MASK for index in range(len(pictures.names))])
    official = listed_pairs(folder / "pairs.txt", pictures)
    return RealBenchmark(name="MFR2", faces=pictures.faces, masked=masked, listed={OFFICIAL: official})


def read_rmfrd(folder: Path) -> RealBenchmark:
    """Read RMFRD: images.csv (image, identity, masked, use, five points) and images/; rows with use 1 are read.

    Picture and points are stretched vertically by ``RMFRD_STRETCH`` within the alignment. There are no official pairs.
    Raises ValueError naming file and line for a row that cannot be used as it says.
    """
    folder = Path(folder)
    names, people, masked, points = [], [], [], {}
    for line, row in read_rows(folder / "images.csv", ("image", "identity", "masked", "use", *COLUMNS)):
        where = f"{folder / 'images.csv'} line {line}"
        if not flag(row, "use", where):
            continue
        landmarks = row_points(row, where)
        if landmarks is None or not row["identity"] or row["image"] in points:
            raise ValueError(f"{where}: needs five points, an identity, and a picture listed once. Or set use to 0.")
        names.append(row["image"])
        people.append(row["identity"])
        masked.append(flag(row, "masked", where))
        points[row["image"]] = landmarks
    if not names:
        raise ValueError(f"{folder / 'images.csv'}: no row has use 1. Mark the pictures to be used.")
    options = {"listed_in": folder / "images.csv", "stretch": RMFRD_STRETCH, "limits": CUT_CLOSE}
    images = read_pictures(folder / "images", names, points, **options)
    faces = folder_of(images, names, people, "RMFRD").faces
    return RealBenchmark(name="RMFRD", faces=faces, masked=np.array(masked))


def lfw_folder(root: Path, pairs: Path, *, masks: Path | None = None, **reading: object) -> RealBenchmark:
    """Read any tree person/person_0001.ext with a pairs file of either dialect; its name is that of ``root``.

    masks: a CSV as for ``read_masks``; without it, no face wears a mask. reading: landmarks, find_landmarks and
    skip_bad of ``read_folder``. Raises ValueError naming file and line for a pair or a row whose picture does not
    exist.
    """
    pictures = read_folder(root, **reading)
    masked = np.zeros(len(pictures.names), bool) if masks is None else read_masks(masks, pictures.names, root)
    listed = {OFFICIAL: listed_pairs(pairs, pictures)}
    name = Path(root).name
    return RealBenchmark(name=name, faces=pictures.faces, masked=masked, listed=listed, all_pairs=False)


def read_mfrc(
    protocol: Path, root: Path, landmarks: Landmarks = None, name: str = "MFRC-21", find_landmarks: bool = False
) -> RealBenchmark:
    """Read a session protocol as MFRC-21 has it (see ``read_sessions`` for the CSV); pictures lie below ``root``.

    Two scenarios, both with masked probes: ``masked-unmasked`` has unmasked references, ``masked-masked`` masked ones.
    Every reference is compared with every masked probe, except that genuine pairs come from two sessions: within one
    session their pictures would be almost the same. Impostor pairs are kept whatever their sessions. Where there are
    unmasked probes too, they are compared with the unmasked references as ``unmasked-unmasked``, never with masked
    ones. Raises ValueError where no reference is compared with a masked probe.
    """
    rows = read_sessions(protocol)
    names = [row.image for row in rows]
    images = read_pictures(root, names, landmarks, listed_in=Path(protocol), find_landmarks=find_landmarks)
    faces = folder_of(images, names, [row.identity for row in rows], name).faces
    masked = np.array([row.masked for row in rows])
    probe = np.array([row.role == "probe" for row in rows])
    session, identity = np.array([row.session for row in rows]), faces.identity.numpy()
    first, second = (side.ravel() for side in np.meshgrid(np.flatnonzero(~probe), np.flatnonzero(probe), indexing="ij"))
    same_capture = (identity[first] == identity[second]) & (session[first] == session[second])
    kept = ~same_capture & (masked[second] | ~masked[first])
    if not kept.any():
        raise ValueError(f"{protocol}: no reference meets a masked probe. It needs rows of both roles.")
    pairs = Pairs(first=first[kept].astype(np.int32), second=second[kept].astype(np.int32))
    return RealBenchmark(name=name, faces=faces, masked=masked, listed={SESSIONS: pairs}, all_pairs=False)


class NumberedPictures:
    """The pictures of a folder of people by person and number; their names must be like person/person_0001.ext.

    A person's name is also found if it differs in upper and lower case or in the encoding of accents. Raises
    ValueError naming a picture with another name, and two with one number.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._exact: dict[tuple[str, int], int] = {}
        self._folded: dict[tuple[str, int], list[int]] = {}
        for index, name in enumerate(names):
            person, number = _person_and_number(name)
            if (person, number) in self._exact:
                raise ValueError(f"{name}: another file has this number. Remove one of the two.")
            self._exact[person, number] = index
            self._folded.setdefault((folded(person), number), []).append(index)

    def find(self, picture: tuple[str, int]) -> int | None:
        """Return the index of a picture (person, number); None if it is missing, or may be either of two."""
        similar = self._folded.get((folded(picture[0]), picture[1]), [])
        return self._exact.get(picture, similar[0] if len(similar) == 1 else None)

    def is_missing(self, picture: tuple[str, int]) -> bool:
        """Return whether there is no such picture."""
        return self.find(picture) is None


def _person_and_number(name: str) -> tuple[str, int]:
    person, file = name.split("/")
    stem, _, number = PurePosixPath(file).stem.rpartition("_")
    if folded(stem) != folded(person) or not number.isdecimal() or int(number) < 1:
        raise ValueError(f"{name}: must be named like its folder and a number, such as Ada/Ada_0001.png. Rename it.")
    return person, int(number)


def listed_pairs(path: Path, folder: Folder) -> Pairs:
    """Return the pairs of a pairs file (see ``read_pairs``) as indices of a folder's pictures.

    Pairs with a picture that was left out of the folder are left out too, with a warning. Raises ValueError naming file
    and line for a pair whose picture is not there.
    """
    listed, numbered = read_pairs(path), NumberedPictures(folder.names)
    left_out = _left_out(folder)
    kept = []
    for pair in listed:
        sides = {"first": pair.first, "second": pair.second}
        missing = {side: picture for side, picture in sides.items() if numbered.is_missing(picture)}
        if not missing:
            kept.append([numbered.find(picture) for picture in sides.values()])
        for side, picture in missing.items():
            if (folded(picture[0]), picture[1]) not in left_out:
                problem = f"its {side} picture (number {picture[1]}) is not in the folder"
                raise ValueError(f"{path} line {pair.line}: {problem}. Add the picture, or remove the pair.")
    if not kept:
        raise ValueError(f"{path}: every pair has a picture that was left out. Correct the pictures.")
    if len(kept) < len(listed):
        text = f"{path}: {len(listed) - len(kept)} of {len(listed)} pairs were left out, with their pictures."
        warnings.warn(text, stacklevel=2)
    first, second = np.array(kept, np.int32).T
    return Pairs(first=first, second=second)


def _left_out(folder: Folder) -> set[tuple[str, int]]:
    """Return (person, number) of each picture that was left out of a folder."""
    found = set()
    for entry in folder.left_out:
        try:
            person, number = _person_and_number(entry.partition(": ")[0])
        except ValueError:  # a folder, or another kind of file
            continue
        found.add((folded(person), number))
    return found


def read_masks(path: Path, names: tuple[str, ...], root: Path = Path(".")) -> np.ndarray:
    """Return bool [N], which of the named pictures below ``root`` wear a mask: a CSV with columns image, masked (0, 1).

    Every picture needs a row; rows without a picture give a warning. Raises ValueError naming file and line for another
    value, and the pictures without a row.
    """
    rows = read_rows(path, ("image", "masked"))
    flags: dict[str, bool] = {}
    for line, row in rows:
        if row["image"] in flags:
            raise ValueError(f"{path} line {line}: this picture is listed on an earlier line. Remove one of the two.")
        flags[row["image"]] = flag(row, "masked", f"{path} line {line}")
    masked, extra = PictureNames(names, root, [Path(path).parent]).assign(flags, str(path))
    others = f"rows without a picture: {len(extra)}, {some(extra)}." if extra else ""
    if missing := [name for name in names if name not in masked]:
        text = f"{path}: {len(missing)} of {len(names)} pictures have no row: {some(missing)}. {others}".strip()
        raise ValueError(f"{text} Say for each picture whether it is masked.")
    if extra:
        warnings.warn(f"{path}, {others}", stacklevel=2)
    return np.array([masked[name] for name in names])
