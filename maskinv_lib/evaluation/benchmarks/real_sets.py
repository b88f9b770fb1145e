"""Readers of real-mask sets: MFR2, RMFRD, any folder with a pairs file, and the session protocol of MFRC-21.

The people of these sets did not agree to more than research: no name and no picture of theirs is in any result.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from maskinv_lib.evaluation.benchmarks.pairs import (
    NO_MASK,
    ListedPair,
    flag,
    read_mask_labels,
    read_pairs,
    read_sessions,
)
from maskinv_lib.evaluation.benchmarks.real_masks import OFFICIAL, Pairs, RealBenchmark
from maskinv_lib.faces.alignment import COLUMNS, read_rows, row_points
from maskinv_lib.faces.folders import Folder, folder_of, read_folder, read_pictures

RMFRD_STRETCH = 1.3
"""RMFRD's pictures were squashed to squares; this many times as high, its faces fit the template best."""

SESSIONS = "sessions"
"""The protocol of MFRC-21: references of one session against masked probes of another."""


def read_mfr2(folder: Path) -> RealBenchmark:
    """Read MFR2: person/person_0001.png, landmarks.csv, mfr2_labels.txt and pairs.txt in one folder.

    Raises ValueError naming the file (and line) that is missing or contradicts the pictures.
    """
    folder = Path(folder)
    found = read_folder(folder, landmarks=folder / "landmarks.csv", source="MFR2")
    labels = read_mask_labels(folder / "mfr2_labels.txt")
    places = _numbered(found)
    if labels.keys() != places.keys():
        without, extra = len(places.keys() - labels.keys()), len(labels.keys() - places.keys())
        raise ValueError(
            f"{folder / 'mfr2_labels.txt'}: {without} pictures have no label and {extra} labels no picture. Get the"
            " list that came with these pictures."
        )
    masked = np.zeros(len(places), bool)
    for picture, kind in labels.items():
        masked[places[picture]] = kind != NO_MASK
    official = _placed(read_pairs(folder / "pairs.txt"), places, folder / "pairs.txt")
    return RealBenchmark(name="MFR2", faces=found.faces, masked=masked, listed={OFFICIAL: official})


def read_rmfrd(folder: Path) -> RealBenchmark:
    """Read RMFRD: images.csv (image, identity, masked, use, five points) and images/; rows with use 1 are taken.

    Picture and points are stretched vertically by ``RMFRD_STRETCH`` within the alignment. There are no official pairs.
    Raises ValueError naming file and line for a row that cannot be used as it says.
    """
    folder = Path(folder)
    names, people, masked, points = [], [], [], {}
    for line, row in read_rows(folder / "images.csv", ("image", "identity", "masked", "use", *COLUMNS)):
        where = f"{folder / 'images.csv'} line {line}"
        if not flag(row, "use", where):
            continue
        found = row_points(row, where)
        if found is None or not row["identity"] or row["image"] in points:
            raise ValueError(f"{where}: needs five points, an identity, and a picture listed once. Or set use to 0.")
        names.append(row["image"])
        people.append(row["identity"])
        masked.append(flag(row, "masked", where))
        points[row["image"]] = found
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
    name: str | None = None,
    all_pairs: bool = False,
) -> RealBenchmark:
    """Read any tree person/person_0001.ext with a pairs file of either dialect; ``landmarks`` as for ``read_folder``.

    masks: a CSV with columns image and masked (0 or 1), one row per picture; without it, no face wears a mask.
    Raises ValueError naming file and line for a pair or a row whose picture does not exist.
    """
    found = read_folder(root, landmarks=landmarks, source=name)
    masked = np.zeros(len(found.names), bool) if masks is None else _masks(masks, found.names)
    official = _placed(read_pairs(pairs), _numbered(found), Path(pairs))
    name = name or Path(root).name
    return RealBenchmark(name=name, faces=found.faces, masked=masked, listed={OFFICIAL: official}, all_pairs=all_pairs)


def read_mfrc(
    protocol: Path, root: Path, landmarks: Path | Mapping[str, np.ndarray] | None = None, name: str = "MFRC-21"
) -> RealBenchmark:
    """Read a session protocol in the way of MFRC-21 (see ``read_sessions`` for the CSV); pictures lie below ``root``.

    Two scenarios, both with masked probes: ``masked-unmasked`` has unmasked references, ``masked-masked`` masked ones.
    Every reference is compared with every masked probe, except that genuine pairs come from two sessions: within one
    session they would differ in little but the frame. Impostor pairs are kept whatever their sessions. Where there are
    unmasked probes too, they meet the unmasked references as ``unmasked-unmasked``; never the masked ones.
    """
    rows = read_sessions(protocol)
    names = [row.image for row in rows]
    found = folder_of(read_pictures(root, names, landmarks), names, [row.identity for row in rows], name)
    masked = np.array([row.masked for row in rows])
    probe = np.array([row.role == "probe" for row in rows])
    session, identity = np.array([row.session for row in rows]), found.faces.identity.numpy()
    first, second = (side.ravel() for side in np.meshgrid(np.flatnonzero(~probe), np.flatnonzero(probe), indexing="ij"))
    same_capture = (identity[first] == identity[second]) & (session[first] == session[second])
    kept = ~same_capture & (masked[second] | ~masked[first])
    if not kept.any():
        raise ValueError(f"{protocol}: no reference meets a masked probe. It needs rows of both roles.")
    pairs = Pairs(first=first[kept].astype(np.int32), second=second[kept].astype(np.int32))
    return RealBenchmark(name=name, faces=found.faces, masked=masked, listed={SESSIONS: pairs}, all_pairs=False)


def _numbered(folder: Folder) -> dict[tuple[str, int], int]:
    """Return (person, number) -> place of each picture that is named person/person_0001.ext."""
    places: dict[tuple[str, int], int] = {}
    for place, name in enumerate(folder.names):
        person, file = name.split("/")
        stem, _, number = PurePosixPath(file).stem.rpartition("_")
        if stem != person or not number.isdecimal() or int(number) < 1:
            raise ValueError(
                f"{name}: must be named like its folder and a number, such as Ada/Ada_0001.png. Rename it."
            )
        if (person, int(number)) in places:
            raise ValueError(f"{name}: another file has this number. Remove one of the two.")
        places[person, int(number)] = place
    return places


def _placed(listed: list[ListedPair], places: dict[tuple[str, int], int], path: Path) -> Pairs:
    """Return listed pairs as indices of pictures."""
    for pair in listed:
        for side, picture in {"first": pair.first, "second": pair.second}.items():
            if picture not in places:
                what = f"its {side} picture (number {picture[1]}) is not in the folder"
                raise ValueError(f"{path} line {pair.line}: {what}. Add the picture, or remove the pair.")
    sides = [[places[pair.first] for pair in listed], [places[pair.second] for pair in listed]]
    return Pairs(first=np.array(sides[0], np.int32), second=np.array(sides[1], np.int32))


def _masks(path: Path, names: tuple[str, ...]) -> np.ndarray:
    """Return bool [N], which of the named pictures a CSV says are masked."""
    rows = read_rows(path, ("image", "masked"))
    known = {row["image"]: flag(row, "masked", f"{path} line {line}") for line, row in rows}
    line = next((line for line, row in rows if row["image"] not in names), None)
    if line is not None:
        raise ValueError(f"{path} line {line}: this picture is not in the folder. Remove the line, or add the picture.")
    lacking = sum(name not in known for name in names)
    if lacking:
        raise ValueError(f"{path}: {lacking} of {len(names)} pictures have no row. Say for each whether it is masked.")
    return np.array([known[name] for name in names])
