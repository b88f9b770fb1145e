"""Pictures that a folder of people contains more than once: within one person, and in the folders of several."""

import hashlib

import numpy as np

from maskinv_lib.faces.folders import Folder
from maskinv_lib.faces.names import LISTED


def equal_pictures(folder: Folder) -> list[list[int]]:
    """Return the groups of faces, by index, whose pixels are equal; a face without an equal one is in none."""
    groups: dict[bytes, list[int]] = {}
    for index, image in enumerate(folder.faces.images):
        groups.setdefault(hashlib.sha256(image.numpy()).digest(), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def of_one_person(folder: Folder, skip_bad: bool) -> Folder:
    """Return a folder in which no picture belongs to two people.

    Nobody knows whose such a picture is: with ``skip_bad`` it is left out of both, otherwise ValueError lists up to
    five.
    """
    identity = folder.faces.identity.tolist()
    groups = [group for group in equal_pictures(folder) if len({identity[index] for index in group}) > 1]
    if not groups:
        return folder
    if not skip_bad:
        raise ValueError(
            f"{folder.faces.source}: {_listed(folder, groups)}: two people have the same picture. Remove it from the"
            " folder where it does not belong (--skip-bad leaves it out of both)."
        )
    kept = np.ones(len(identity), bool)
    kept[[index for group in groups for index in group]] = False
    if not kept.any():
        raise ValueError(f"{folder.faces.source}: every picture is in the folders of two people.")
    reasons = [f"{folder.names[i]}: two people have this picture" for group in groups for i in group]
    return folder.only(kept, reasons)


def repeats(folder: Folder) -> tuple[np.ndarray, str]:
    """Return which faces, bool [N], equal an earlier face of their person, and a sentence on them ("" for none)."""
    groups = equal_pictures(folder)
    again = np.zeros(len(folder.names), bool)
    again[[index for group in groups for index in group[1:]]] = True
    count = int(again.sum())
    return again, f"{count} pictures repeat another one of the same person: {_listed(folder, groups)}" if count else ""


def _listed(folder: Folder, groups: list[list[int]]) -> str:
    texts = [" = ".join(folder.names[index] for index in group[:LISTED]) for group in groups[:LISTED]]
    more = f"; and {len(groups) - LISTED} more" if len(groups) > LISTED else ""
    return "; ".join(texts) + more
