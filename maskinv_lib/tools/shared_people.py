"""People who are in both of two sets of faces, found by their templates, with the similarity of each such pair.

Train and test sets must not share people. Two names can still be one person, so names are not enough.
"""

from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from maskinv_lib.faces import Faces
from maskinv_lib.faces.folders import Folder
from maskinv_lib.networks.templates import NetworkRecogniser
from maskinv_lib.tools.recogniser import OpenedRecogniser
from maskinv_lib.tools.thresholds import Threshold

COLUMNS = ("direction", "person", "other", "mean_to_picture", "nearest", "picture", "other_picture", "found_by")

DIRECTIONS = ("a in b", "b in a")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Gallery:
    """A set with its templates [N, D], identity [N], and the names of its people and its N pictures."""

    templates: Tensor
    identity: Tensor
    people: tuple[str, ...]
    pictures: tuple[str, ...]

    def of(self, person: int) -> Tensor:
        return torch.nonzero(self.identity == person).flatten()


def shared_people(
    a: Faces | Folder,
    b: Faces | Folder,
    recogniser: OpenedRecogniser | NetworkRecogniser,
    threshold: Threshold | float,
) -> pd.DataFrame:
    """Return who in ``a`` looks like whom in ``b`` and the reverse: a row per direction and pair, most similar first.

    A pair of people is listed if the mean template of ``person`` and a picture of ``other`` reach ``threshold``, a
    cosine (``mean_to_picture``), or if their two most similar pictures do (``nearest``, ``picture`` and
    ``other_picture``); ``found_by`` names which. A Folder has names of people and pictures; of a Faces, the identity
    and the index are given. The more pairs are compared, the more of them reach a threshold by chance. Raises
    ValueError for a threshold without a value.
    """
    value = threshold.value if isinstance(threshold, Threshold) else threshold
    if value is None or not -1 <= value <= 1:
        raise ValueError(f"Shared people need a threshold from -1 to 1: give one. Got: {threshold}.")
    value = float(torch.tensor(value))  # float32, as the scores are, so that a score equal to it reaches it
    galleries = [_gallery(faces, recogniser) for faces in (a, b)]
    rows = []
    for direction, (probe, gallery) in zip(DIRECTIONS, (galleries, reversed(galleries)), strict=True):
        rows += [{"direction": direction, **row} for row in _search(probe, gallery, value)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["distance"] = -table[["mean_to_picture", "nearest"]].max(axis=1)
    table = table.sort_values(["direction", "distance"], kind="stable", ignore_index=True)
    return table.drop(columns="distance")


def summary(table: pd.DataFrame, a: Faces | Folder, b: Faces | Folder) -> str:
    """Return how many people of each set are similar to somebody in the other, as a sentence."""
    totals = [len((part.faces if isinstance(part, Folder) else part).identity.unique()) for part in (a, b)]
    similar = [table[table.direction == direction].person.nunique() for direction in DIRECTIONS]
    first, second = (f"{count} of {total} people of the" for count, total in zip(similar, totals, strict=True))
    return f"Similar people: {first} first set in the second, {second} second set in the first."


def _gallery(faces: Faces | Folder, recogniser: OpenedRecogniser | NetworkRecogniser) -> _Gallery:
    named = faces if isinstance(recogniser, OpenedRecogniser) else None  # its errors then name the picture
    if isinstance(faces, Folder):
        people, pictures, faces = faces.people, faces.names, faces.faces
    else:
        people, pictures = (tuple(map(str, range(count))) for count in (faces.identities, len(faces)))
    templates = recogniser.templates(faces.images if named is None else named)
    return _Gallery(templates=templates, identity=faces.identity, people=people, pictures=pictures)


def _search(probe: _Gallery, gallery: _Gallery, threshold: float) -> list[dict]:
    """Return a row for each person of ``probe`` and each person of ``gallery`` who reach the threshold."""
    rows = []
    for person in probe.identity.unique().tolist():
        own = probe.of(person)
        mean = F.normalize(probe.templates[own].mean(0, keepdim=True), dim=1)
        by_mean = (mean @ gallery.templates.T)[0]  # [M]
        nearest, picture = (probe.templates[own] @ gallery.templates.T).max(0)  # [M] each
        for other in gallery.identity[torch.maximum(by_mean, nearest) >= threshold].unique().tolist():
            others = gallery.of(other)
            best = others[nearest[others].argmax()]
            scores = {"mean_to_picture": float(by_mean[others].max()), "nearest": float(nearest[best])}
            rows.append(
                {
                    "person": probe.people[person],
                    "other": gallery.people[other],
                    **scores,
                    "picture": probe.pictures[own[picture[best]]],
                    "other_picture": gallery.pictures[best],
                    "found_by": _found_by(scores, threshold),
                }
            )
    return rows


def _found_by(scores: dict[str, float], threshold: float) -> str:
    reached = [name for name, score in scores.items() if score >= threshold]
    return "both" if len(reached) == 2 else {"mean_to_picture": "mean template", "nearest": "pictures"}[reached[0]]
