"""Opens a verification set of any known form, judged by what lies at its path."""

from pathlib import Path

import numpy as np
import torch

from maskinv_lib.evaluation.benchmarks.bins import read_bin
from maskinv_lib.evaluation.benchmarks.drawn import DrawnPairs, DrawnSet
from maskinv_lib.evaluation.benchmarks.real_masks import ALL_PAIRS, OFFICIAL, OneProtocol, RealBenchmark
from maskinv_lib.evaluation.benchmarks.real_sets import (
    SESSIONS,
    listed_pairs,
    read_masks,
    read_mfr2,
    read_mfrc,
    read_rmfrd,
)
from maskinv_lib.faces import Faces
from maskinv_lib.faces.folders import Folder, read_folder
from maskinv_lib.study.data import MASK_KINDS

VerificationSet = DrawnPairs | DrawnSet | OneProtocol
"""Each has name, in_words, identities, pictures, templates(recogniser) and comparisons(templates)."""

MOST = 4000
"""All pairs of more pictures, 8 million and twice as many with one mask, would not fit in memory."""


def open_set(
    path: Path,
    *,
    name: str = "",
    kinds: tuple[str, ...] = MASK_KINDS,
    protocol: str = ALL_PAIRS,
    pairs: Path | None = None,
    masks: Path | None = None,
    released: bool = False,
    **reading: object,
) -> VerificationSet:
    """Open a verification set: a ``.bin``; a session protocol (``.csv``); RMFRD (a folder with images.csv); MFR2 (a
    folder with mfr2_labels.txt); or any folder of people.

    name: "" takes that of the file or folder; the drawn masks depend on it. kinds: which masks are drawn, on sets
    without real ones. protocol: "all-pairs", or "official" for MFR2's own. pairs: a pairs.txt for a folder of people;
    without it every pair is compared. masks: a CSV (image, masked) for a folder of people who wear real masks.
    released: add the published code's protocol to a ``.bin``. reading: landmarks, find_landmarks and skip_bad of
    ``read_folder``, for a folder of people (the first two also for a session protocol). Raises FileNotFoundError, and
    ValueError for an option that the form of set does not take and for a set that cannot be judged.
    """
    path = Path(path)
    name = name or path.resolve().stem
    if not path.exists():
        raise FileNotFoundError(f"There is no verification set {path}. Give a .bin, a .csv, or a folder of people.")
    if path.suffix == ".csv":
        _only_for_folders(path, pairs=pairs, masks=masks, skip_bad=reading.get("skip_bad"))
        return _sessions(path, name, reading).only(SESSIONS, name)
    if (path / "images.csv").exists() or (path / "mfr2_labels.txt").exists():
        _only_for_folders(path, pairs=pairs, masks=masks, **reading)
        return (read_rmfrd if (path / "images.csv").exists() else read_mfr2)(path).only(protocol, name)
    if protocol == OFFICIAL:
        raise ValueError(f"{path} has no {OFFICIAL} pairs, as MFR2 has. Omit the protocol, or list pairs (--pairs).")
    if path.is_file():
        _only_for_folders(path, pairs=pairs, masks=masks, **reading)
        return _bin(path, name, kinds, released)
    return _folder(path, name, kinds, pairs, masks, reading)


def _only_for_folders(path: Path, **options: object) -> None:
    given = [f"--{option.replace('_', '-')}" for option, value in options.items() if value]
    if given:
        raise ValueError(f"{path} is no plain folder of people: it does not take {', '.join(given)}. Omit it.")


def _bin(path: Path, name: str, kinds: tuple[str, ...], released: bool) -> DrawnPairs:
    pairs = read_bin(path)
    faces = Faces(images=pairs.images, identity=pairs.components, source=name, publishable=False)
    return DrawnPairs(name=name, faces=faces, index=pairs.index, kinds=kinds, released=released)


def _sessions(path: Path, name: str, reading: dict) -> RealBenchmark:
    beside = path.parent / "landmarks.csv"
    landmarks = reading.get("landmarks") or (beside if beside.exists() else None)
    return read_mfrc(path, path.parent, landmarks, name, find_landmarks=bool(reading.get("find_landmarks")))


def _folder(
    path: Path, name: str, kinds: tuple[str, ...], pairs: Path | None, masks: Path | None, reading: dict
) -> VerificationSet:
    """Open a folder of people: all pairs or listed ones, with drawn masks or with the real ones that a CSV lists."""
    folder = read_folder(path, source=name, content=True, **reading)
    listed = None if pairs is None else listed_pairs(pairs, folder)
    if listed is None:
        _check_all_pairs(path, folder)
    if masks is not None:
        masked, protocols = read_masks(masks, folder.names, path), {} if listed is None else {OFFICIAL: listed}
        benchmark = RealBenchmark(
            name=name, faces=folder.faces, masked=masked, listed=protocols, all_pairs=not protocols
        )
        return benchmark.only(OFFICIAL if protocols else ALL_PAIRS, name)
    if listed is None:
        return DrawnSet(name=name, faces=folder.faces, kinds=kinds)
    index = torch.from_numpy(np.stack([listed.first, listed.second], axis=1).ravel().astype(np.int64))
    identity = folder.faces.identity[index]
    _check_both_sides(pairs, int((identity[::2] == identity[1::2]).sum()), len(listed))
    return DrawnPairs(name=name, faces=folder.faces, index=index, kinds=kinds, named=True)


def _check_all_pairs(path: Path, folder: Folder) -> None:
    pictures = len(folder.names)
    if pictures > MOST:
        raise ValueError(
            f"{path} has {pictures:,} pictures: all their pairs are too many (at most {MOST:,} pictures). List pairs"
            " (--pairs), or draw some with the command verification-set."
        )
    counts = np.bincount(folder.faces.identity.numpy())
    _check_both_sides(path, int((counts * (counts - 1) // 2).sum()), pictures * (pictures - 1) // 2)


def _check_both_sides(path: Path, genuine: int, total: int) -> None:
    if genuine in (0, total):
        raise ValueError(
            f"{path} gives {genuine:,} genuine and {total - genuine:,} impostor pairs. Error rates need both: two"
            " people, one of them with two pictures."
        )
