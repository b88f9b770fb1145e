"""Readers of real-mask sets: MFR2, RMFRD, any folder with a pairs file, and the session protocol of MFRC-21.

The people of these sets did not agree to more than research: no name and no picture of theirs is in any result.
"""

from collections.abc import Mapping
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
from maskinv_lib.faces.alignment import COLUMNS, read_rows, row_points
from maskinv_lib.faces.folders import Folder, folder_of, read_folder, read_pictures

RMFRD_STRETCH = 1.3
"""RMFRD's pictures were scaled to squares; with their height times this factor, its faces fit the template best."""

SESSIONS = "sessions"
"""The protocol of MFRC-21: references of one session against masked probes of another."""


def read_mfr2(folder: Path) -> RealBenchmark:
    """Read MFR2: person/person_0001.png, landmarks.csv, mfr2_labels.txt and pairs.txt in one folder.

    Raises ValueError naming the file (and line) that is missing or contradicts the pictures.
    """
    folder = Path(folder)
    pictures = read_folder(folder, landmarks=folder / "landmarks.csv", source="MFR2")
    labels = read_mask_labels(folder / "mfr2_labels.txt")
    index = _index(pictures)
    if labels.keys() != index.keys():
        without, extra = len(index.keys() - labels.keys()), len(labels.keys() - index.keys())
        raise ValueError(
            f"{folder / 'mfr2_labels.txt'}: {without} pictures have no label and {extra} labels no picture. Get the"
            " list that came with these pictures."
        )
    masked = np.array([labels[picture] != NO_MASK for picture in index])  # in the order of the faces
    official = _read_official(folder / "pairs.txt", index)
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
    images = read_pictures(folder / "images", names, points, RMFRD_STRETCH)
    faces = folder_of(images, names, people, "RMFRD").faces
    return RealBenchmark(name="RMFRD", faces=faces, masked=np.array(masked))


def lfw_folder(
    root: Path,
    pairs: Path,
    *,
    landmarks: Path | Mapping[str, np.ndarray] | None = None,
    masks: Path | None = None,
) -> RealBenchmark:
    """Read any tree person/person_0001.ext with a pairs file of either dialect; its name is that of ``root``.

    landmarks: as for ``read_folder``. masks: a CSV with columns image and masked (0 or 1), one row per picture; without
    it, no face wears a mask.
    Raises ValueError naming file and line for a pair or a row whose picture does not exist.
    """
    pictures = read_folder(root, landmarks=landmarks)
    masked = np.zeros(len(pictures.names), bool) if masks is None else _masks(masks, pictures.names)
    listed = {OFFICIAL: _read_official(pairs, _index(pictures))}
    name = Path(root).name
    return RealBenchmark(name=name, faces=pictures.faces, masked=masked, listed=listed, all_pairs=False)


def read_mfrc(
    protocol: Path, root: Path, landmarks: Path | Mapping[str, np.ndarray] | None = None, name: str = "MFRC-21"
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
    faces = folder_of(read_pictures(root, names, landmarks), names, [row.identity for row in rows], name).faces
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


def _index(folder: Folder) -> dict[tuple[str, int], int]:
    """Return (person, number) -> index of each picture, in order; their names must be like person/person_0001.ext."""
    index: dict[tuple[str, int], int] = {}
    for name in folder.names:
        person, file = name.split("/")
        stem, _, number = PurePosixPath(file).stem.rpartition("_")
        if stem != person or not number.isdecimal() or int(number) < 1:
            raise ValueError(
                f"{name}: must be named like its folder and a number, such as Ada/Ada_0001.png. Rename it."
            )
        if (person, int(number)) in index:
            raise ValueError(f"{name}: another file has this number. Remove one of the two.")
        index[person, int(number)] = len(index)
    return index


def _read_official(path: Path, index: dict[tuple[str, int], int]) -> Pairs:
    """Return the pairs of a pairs file as indices of pictures."""
    listed = read_pairs(path)
    for pair in listed:
        for side, picture in {"first": pair.first, "second": pair.second}.items():
            if picture not in index:
                problem = f"its {side} picture (number {picture[1]}) is not in the folder"
                raise ValueError(f"{path} line {pair.line}: {problem}. Add the picture, or remove the pair.")
    first, second = np.array([(index[pair.first], index[pair.second]) for pair in listed], np.int32).T
    return Pairs(first=first, second=second)


def _masks(path: Path, names: tuple[str, ...]) -> np.ndarray:
    """Return bool [N], which of the named pictures a CSV says are masked."""
    rows = read_rows(path, ("image", "masked"))
    masked = {row["image"]: flag(row, "masked", f"{path} line {line}") for line, row in rows}
    line = next((line for line, row in rows if row["image"] not in names), None)
    if line is not None:
        raise ValueError(f"{path} line {line}: this picture is not in the folder. Remove the line, or add the picture.")
    missing = sum(name not in masked for name in names)
    if missing:
        raise ValueError(f"{path}: {missing} of {len(names)} pictures have no row. Say for each whether it is masked.")
    return np.array([masked[name] for name in names])
