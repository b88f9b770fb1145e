"""Folders made from folders: every face with a drawn mask, and every photograph aligned.

Only pixels are written: the metadata of the original files (place, time, owner) is left out.
"""

import csv
import hashlib
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from maskinv_lib.faces.alignment import COLUMNS
from maskinv_lib.faces.folders import report
from maskinv_lib.faces.listing import list_folder
from maskinv_lib.faces.masks.drawing import KINDS, draw_masks
from maskinv_lib.faces.names import stem
from maskinv_lib.faces.pictures import encode_png
from maskinv_lib.faces.selection import Landmarks, Selection, select
from maskinv_lib.utils import checks, files
from maskinv_lib.utils.randomness import key

CHUNK = 256
"""Pictures masked at a time."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a command wrote. names: of the new pictures. left_out: "name: reason". notes: sentences on other files."""

    names: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def mask_folder(
    source: Path,
    target: Path,
    *,
    kinds: str = "seen",
    seed: int = 0,
    landmarks: Landmarks = None,
    find_landmarks: bool = False,
    skip_bad: bool = False,
) -> Written:
    """Draw a mask on every picture below ``source`` and write it as PNG of the same relative name below ``target``.

    source: a folder, flat or with subfolders, listed by ``list_folder``. landmarks, find_landmarks, skip_bad: as for
    ``read_folder``; without points, a picture must be an aligned face of 112 x 112. kinds: "seen" or "unseen" masks.
    The mask of a picture depends only on ``seed``, ``kinds`` and its name. Raises ValueError, and writes nothing, for a
    target that is not empty or lies inside the source, whatever ``read_folder`` refuses, and two pictures whose names
    differ only in the ending.
    """
    checks.choose("kinds of masks", kinds, KINDS)
    seed = checks.whole_number("seed", seed)
    pictures, written = _opened(source, target, landmarks, find_landmarks, skip_bad)
    total = len(pictures.names) + len(written.left_out)
    with files.new_folder(_real(target)) as folder:
        read = _readable(pictures, written, skip_bad)
        while chunk := list(itertools.islice(read, CHUNK)):
            images = torch.from_numpy(np.stack([face for _, face, _ in chunk])).permute(0, 3, 1, 2).contiguous()
            keys = mask_keys([name for name, _, _ in chunk], kinds, seed)
            masked = draw_masks(images, keys, kinds)[0].permute(0, 2, 3, 1).numpy()
            for (name, _, _), image in zip(chunk, masked, strict=True):
                _write(folder, name, image, written)
        _check(source, written, total, skip_bad)
    return written


def align_folder(
    source: Path,
    target: Path,
    *,
    landmarks: Landmarks = None,
    find_landmarks: bool = False,
    skip_bad: bool = False,
) -> Written:
    """Align every picture below ``source`` and write it as PNG of the same relative name below ``target``.

    Arguments and errors are those of ``mask_folder``; points are needed: a list of landmarks, the detector, or both.
    The target also contains ``landmarks.csv``, the points used under the pictures' names in ``source``, and
    ``left_out.csv``, the pictures left out and the reasons.
    """
    if landmarks is None and not find_landmarks:
        raise ValueError("To align pictures, their five points are needed: give --landmarks, or --find-landmarks.")
    pictures, written = _opened(source, target, landmarks, find_landmarks, skip_bad)
    total = len(pictures.names) + len(written.left_out)
    with files.new_folder(_real(target)) as folder:
        rows = []
        for name, face, points in _readable(pictures, written, skip_bad):
            _write(folder, name, face, written)
            rows.append([name, *(repr(value) for value in points.ravel().tolist())])
        _check(source, written, total, skip_bad)
        reasons = [entry.split(": ", 1) for entry in written.left_out]
        files.write_text(folder / "landmarks.csv", _csv(["image", *COLUMNS], rows))
        files.write_text(folder / "left_out.csv", _csv(["image", "reason"], reasons))
    return written


def mask_keys(names: Sequence[str], kinds: str, seed: int) -> torch.Tensor:
    """Return the keys, int64 [N], of the masks of pictures: they depend on the names without endings alone."""
    digests = [hashlib.sha256(stem(name).encode()).digest()[:8] for name in names]
    numbers = torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests])
    return key("own folder", seed, kinds, numbers)  # as with the names one by one, but all at once


def check_target(source: Path, target: Path) -> None:
    """Raise ValueError unless ``source`` is a folder and ``target`` a new or empty one outside it."""
    source, target = Path(source), Path(target)
    if not source.is_dir():
        raise ValueError(f"{source} is not a folder. Give the folder that contains the pictures.")
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{target} lies inside {source}: new files would mix with the originals. Choose another.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} exists and is not an empty folder. Choose another, or empty it.")


def _real(target: Path) -> Path:
    return Path(os.path.realpath(target))  # a link to an empty folder is filled, not replaced


def _opened(source: Path, target: Path, landmarks: Landmarks, find: bool, skip_bad: bool) -> tuple[Selection, Written]:
    """Return the pictures to be read, with all that can be refused before one is decoded."""
    source = Path(source)
    check_target(source, target)
    listing = list_folder(source)
    if not listing.pictures and not listing.problems:
        raise ValueError(" ".join([f"{source} contains no picture.", *(f"{note}." for note in listing.notes)]))
    _check_names(source, listing.pictures)
    pictures = select(source, listing.pictures, landmarks, find=find)
    left_out = listing.problems + pictures.problems
    report(source, left_out, len(listing.pictures) + len(listing.problems), skip_bad, pictures.notes, warn=False)
    return pictures, Written(left_out=left_out, notes=[*listing.notes, *pictures.notes])


def _check_names(source: Path, names: Iterable[str]) -> None:
    by_stem: dict[str, str] = {}
    for name in names:
        other = by_stem.setdefault(stem(name), name)
        if other != name:
            raise ValueError(f"{other} and {name} in {source} differ only in their suffix. Rename one of them.")


def _readable(
    pictures: Selection, written: Written, skip_bad: bool
) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Yield the pictures that are to be written; after a fault that ends the command, the rest is only checked."""
    for name, face, points in pictures.read(written.left_out):
        if skip_bad or not written.left_out:
            yield name, face, points


def _write(folder: Path, name: str, image: np.ndarray, written: Written) -> None:
    path = folder / f"{stem(name)}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(image))
    written.names.append(f"{stem(name)}.png")


def _check(source: Path, written: Written, total: int, skip_bad: bool) -> None:
    report(source, written.left_out, total, skip_bad, warn=False)
    if not written.names:
        raise ValueError(f"{source} contains no usable picture: {written.left_out[0]}.")


def _csv(header: list[str], rows: list[list[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    return out.getvalue()
