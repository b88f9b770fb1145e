"""Reads aligned faces from picture folders, one folder per person; files that cannot be used are reported by name."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from maskinv_lib.faces import SIZE, Faces
from maskinv_lib.faces.alignment import LIMITS, Limits
from maskinv_lib.faces.listing import Listing, list_folder
from maskinv_lib.faces.names import LISTED, PictureNames, folded, shown, some
from maskinv_lib.faces.selection import Landmarks, Selection, select


@dataclass(frozen=True, kw_only=True, eq=False)
class Folder:
    """The faces of a folder with the names of their files and people, which no method may know.

    faces: N aligned faces, identity 0..people-1 without a gap, not publishable. names: N paths relative to the root,
    separated by "/". people: the names of the person folders; ``people[faces.identity[i]]`` is that of face i.
    left_out: "name: reason" of each entry that was left out.
    """

    faces: Faces
    names: tuple[str, ...]
    people: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def only(self, kept: np.ndarray, left_out: Iterable[str]) -> "Folder":
        """Return the faces for which ``kept``, bool [N], is true; ``left_out`` says why the others are missing."""
        names = [name for name, keep in zip(self.names, kept.tolist(), strict=True) if keep]
        images = self.faces.images[torch.from_numpy(kept)].permute(0, 2, 3, 1).numpy()
        persons = [self.people[number] for number in self.faces.identity.numpy()[kept]]
        return folder_of(images, names, persons, self.faces.source, (*self.left_out, *left_out))


def read_folder(
    root: Path,
    *,
    landmarks: Landmarks = None,
    find_landmarks: bool = False,
    skip_bad: bool | None = False,
    source: str | None = None,
    limits: Limits = LIMITS,
    content: bool = False,
) -> Folder:
    """Read a tree ``person/picture`` of any names, sorted by name, by the rules of ``list_folder``.

    landmarks: a CSV for ``read_landmarks`` or its content, see ``select``: pictures are aligned by their points, and
    every picture needs a row. find_landmarks: detect the points of pictures without a row. With neither, every picture
    must be an aligned face of 112 x 112. Pictures that cannot be read or aligned, folders inside a person's folder and
    folders without a picture raise ValueError that lists up to five of them; with ``skip_bad`` they are left out, with
    a warning (None: as False, for callers that have no such option). What is missing from ``landmarks`` is found before
    anything is decoded. Files directly in the root that are no pictures are not entries. ``source`` describes the set
    in messages (by default the root's name); limits: those of ``align``; content: refuse faces without content, as
    commands that compare people must. Raises ValueError also for a root that is missing, empty or holds pictures
    directly.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root} is no folder. Give the folder that holds one folder per person.")
    listing = list_folder(root)
    names, problems = _people(root, listing)
    pictures = select(root, names, landmarks, find=find_landmarks, limits=limits, content=content)
    problems += pictures.problems
    total = len(names) + len(problems) - len(pictures.problems)
    report(root, problems, total, skip_bad, pictures.notes, warn=False)
    images, readable, errors = load(pictures)
    notes = [*_notes(listing), *pictures.notes]
    report(root, problems + errors, total, skip_bad, notes)
    if not readable:
        raise ValueError(f"{root} holds no usable picture: expected {root.name}/person/picture.jpg.")
    persons = [name.split("/")[0] for name in readable]
    return folder_of(images, readable, persons, source or root.name, problems + errors)


def read_pictures(
    root: Path,
    names: Sequence[str],
    landmarks: Landmarks = None,
    *,
    listed_in: Path | None = None,
    find_landmarks: bool = False,
    stretch: float = 1.0,
    limits: Limits = LIMITS,
    content: bool = False,
) -> np.ndarray:
    """Return the aligned faces uint8 [N, 112, 112, 3] of the named pictures below ``root``, in the order of ``names``.

    listed_in: the list with these names, to whose folder they may be relative (see ``PictureNames``). Rules and errors
    are those of ``read_folder``, without skipping, as are find_landmarks and content; stretch, limits: those of
    ``align``.
    """
    root = Path(root)
    found = _located(root, names, listed_in)
    options = {"stretch": stretch, "limits": limits, "content": content}
    pictures = select(root, found, landmarks, find=find_landmarks, **options)
    report(root, pictures.problems, len(names), None, pictures.notes)
    images, _, errors = load(pictures)
    report(root, errors, len(names), None)
    return images


def folder_of(
    images: np.ndarray, names: Sequence[str], persons: Sequence[str], source: str, left_out: Iterable[str] = ()
) -> Folder:
    """Return a ``Folder`` of images uint8 [N, 112, 112, 3] and the person of each; people are sorted by name."""
    people, identity = np.unique(np.array(persons, dtype=object), return_inverse=True)
    faces = Faces(
        images=torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
        identity=torch.from_numpy(identity.astype(np.int64)),
        source=source,
        publishable=False,
    )
    return Folder(faces=faces, names=tuple(names), people=tuple(people), left_out=tuple(left_out))


def load(pictures: Selection) -> tuple[np.ndarray, list[str], list[str]]:
    """Return the faces uint8 [N, 112, 112, 3] that could be read, their names, and the errors of the others."""
    images, readable, errors = np.empty((len(pictures.names), SIZE, SIZE, 3), np.uint8), [], []
    for name, face, _ in pictures.read(errors):
        images[len(readable)] = face
        readable.append(name)
    return images[: len(readable)], readable, errors


def report(
    root: Path, errors: Sequence[str], total: int, skip_bad: bool | None, notes: Sequence[str] = (), warn: bool = True
) -> None:
    """Raise ValueError that lists the first of the errors and the notes; with ``skip_bad``, or without errors, warn."""
    more = f"\n  and {len(errors) - LISTED} more" if len(errors) > LISTED else ""
    listed = "".join(f"\n  {error}" for error in errors[:LISTED]) + more
    text = f"{root}: {len(errors)} of {total} entries cannot be used:{listed}" if errors else f"{root}:"
    text += "".join(f"\n{note}." for note in notes)
    if errors and not skip_bad:
        advice = "" if skip_bad is None else " (--skip-bad, in Python skip_bad=True, leaves them out)"
        raise ValueError(f"{text}\nRemove or correct them{advice}.")
    if warn and (errors or notes):
        warnings.warn(f"{text}\nThey were left out." if errors else text, stacklevel=3)


def _people(root: Path, listing: Listing) -> tuple[list[str], list[str]]:
    """Return the pictures of all person folders, and the faults of the tree as "name: reason"."""
    direct = [name for name in listing.pictures if "/" not in name]
    if direct:
        raise ValueError(
            f"{root} holds {len(direct)} pictures directly ({shown(direct[0])}): their people are unknown. Put each"
            " person's pictures in a folder of their own."
        )
    people = [name for name in listing.folders if "/" not in name]
    if not people and not listing.problems:
        raise ValueError(f"{root} holds no folder: expected {root.name}/person/picture.jpg.")
    names = [name for name in listing.pictures if name.count("/") == 1]
    used = {name.split("/")[0] for name in (*listing.pictures, *listing.problems)}
    problems = listing.problems + [f"{person}: holds no picture" for person in people if person not in used]
    deeper = [name for name in listing.folders if name.count("/") == 1]
    return names, problems + [f"{name}: a folder inside a person's folder" for name in deeper]


def _notes(listing: Listing) -> list[str]:
    """Return what was passed over, and people with one name; files directly in the root are lists of the set."""
    notes = Listing(other=[name for name in listing.other if "/" in name], ignored=listing.ignored).notes
    spellings: dict[str, list[str]] = {}
    for name in listing.folders:
        spellings.setdefault(folded(name), []).append(name)
    alike = [" = ".join(names) for names in spellings.values() if len(names) > 1]
    return notes + ([f"taken as different people, though their names are alike: {some(alike)}"] if alike else [])


def _located(root: Path, names: Sequence[str], listed_in: Path | None) -> list[str]:
    """Return the names of listed pictures as they are below ``root``."""
    if not root.is_dir():
        raise ValueError(f"{root} is no folder. Give the folder of the pictures.")
    folders = [] if listed_in is None else [listed_in.parent]
    source = str(listed_in or root)
    rows, missing = PictureNames(list_folder(root).pictures, root, folders).assign(
        {name: name for name in names}, source
    )
    located = {text: name for name, text in rows.items()} | {name: name for name in missing if (root / name).is_file()}
    absent = [f"{shown(name)}: no such file" for name in names if name not in located]
    report(root, absent, len(names), None)
    return [located[name] for name in names]
