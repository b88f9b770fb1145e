"""Whether two sets of faces share people, by template: who in one set looks like somebody in the other, and how much.

Train and test sets must not share people; two names can still be one person, and only templates can tell.
"""

from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from maskinv_lib.faces import Faces
from maskinv_lib.faces.folders import Folder
from maskinv_lib.networks.templates import NetworkRecogniser
from maskinv_lib.tools.recogniser import OpenedRecogniser, Threshold

COLUMNS = ("way", "person", "other", "mean_to_picture", "nearest", "picture", "other_picture", "found_by")

WAYS = ("a in b", "b in a")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Side:
    """A set as the search sees it: templates [N, D], identity [N], names of its people and pictures."""

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
    """Return who in ``a`` looks like whom in ``b`` and the reverse, a row per way and pair of people, best first.

    A pair is listed where the mean template of ``person`` is at least ``threshold`` (a cosine) like a picture of
    ``other`` (``mean_to_picture``), or where their two most similar pictures are (``nearest``, ``picture`` and
    ``other_picture``); ``found_by`` says which. Names are those of a Folder; of a Faces, the identity and the place.
    The more pairs are compared, the more reach a threshold by chance. Raises ValueError for a threshold without a
    value.
    """
    value = threshold.value if isinstance(threshold, Threshold) else threshold
    if value is None or not -1 <= value <= 1:
        raise ValueError(f"Shared people need a threshold from -1 to 1: give one. Got: {threshold}.")
    value = float(torch.tensor(value))  # in the precision of the scores, so that one that equals it reaches it
    sides = [_side(one, recogniser) for one in (a, b)]
    rows = []
    for way, (one, other) in zip(WAYS, (sides, reversed(sides)), strict=True):
        rows += [{"way": way, **row} for row in _search(one, other, value)]
    found = pd.DataFrame(rows, columns=COLUMNS)
    best = found[["mean_to_picture", "nearest"]].max(axis=1)
    order = pd.DataFrame({"way": found.way, "best": -best}).sort_values(["way", "best"], kind="stable").index
    return found.loc[order].reset_index(drop=True)


def in_words(found: pd.DataFrame, a: Faces | Folder, b: Faces | Folder) -> str:
    """Say how many people of each set were found in the other."""
    parts = []
    for way, one, place in ((WAYS[0], a, "the second"), (WAYS[1], b, "the first")):
        count = len((one.faces if isinstance(one, Folder) else one).identity.unique())
        set_ = "first" if way == WAYS[0] else "second"
        parts.append(f"{found[found.way == way].person.nunique()} of {count} people of the {set_} set in {place}")
    return f"Looks alike: {parts[0]}, {parts[1]}."


def _side(of: Faces | Folder, recogniser: OpenedRecogniser | NetworkRecogniser) -> _Side:
    if isinstance(of, Folder):
        faces, people, pictures = of.faces, of.people, of.names
    else:
        faces = of
        people, pictures = (tuple(map(str, range(count))) for count in (of.identities, len(of)))
    templates = recogniser.templates(faces.images)
    return _Side(templates=templates, identity=faces.identity, people=people, pictures=pictures)


def _search(one: _Side, other: _Side, threshold: float) -> list[dict]:
    """Return a row for each person of ``one`` and each person of ``other`` who reach the threshold."""
    rows = []
    for person in one.identity.unique().tolist():
        mine = one.of(person)
        mean = F.normalize(one.templates[mine].mean(0, keepdim=True), dim=1)
        by_mean = (mean @ other.templates.T)[0]  # [M]
        nearest, which = (one.templates[mine] @ other.templates.T).max(0)  # [M] each
        for like in other.identity[torch.maximum(by_mean, nearest) >= threshold].unique().tolist():
            theirs = other.of(like)
            best = theirs[nearest[theirs].argmax()]
            scores = {"mean_to_picture": float(by_mean[theirs].max()), "nearest": float(nearest[best])}
            rows.append(
                {
                    "person": one.people[person],
                    "other": other.people[like],
                    **scores,
                    "picture": one.pictures[mine[which[best]]],
                    "other_picture": other.pictures[best],
                    "found_by": _found_by(scores, threshold),
                }
            )
    return rows


def _found_by(scores: dict[str, float], threshold: float) -> str:
    reached = [name for name, score in scores.items() if score >= threshold]
    return "both" if len(reached) == 2 else {"mean_to_picture": "mean template", "nearest": "pictures"}[reached[0]]
