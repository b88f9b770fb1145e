"""Shared people are found by template, both ways, against a search in plain loops."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from maskinv_lib.faces import Faces
from maskinv_lib.faces.folders import folder_of
from maskinv_lib.tools.recogniser import Threshold
from maskinv_lib.tools.shared_people import in_words, shared_people


class Given:
    """A recogniser that reads a template from a face's first pixels."""

    def templates(self, images):
        return F.normalize(images[:, 0, 0, :3].float() - 127.5, dim=1)


def faces_at(points, identity, source):
    images = torch.zeros(len(points), 3, 112, 112, dtype=torch.uint8)
    images[:, 0, 0, :3] = (127.5 + 100 * torch.tensor(points)).to(torch.uint8)
    return Faces(images=images, identity=torch.tensor(identity), source=source, publishable=True)


X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


@pytest.fixture
def sets():
    """Person 1 of the first set is person 0 of the second; everybody else is somebody else."""
    first = faces_at([X, X, Y, (0.3, 0.9, 0.0)], [0, 0, 1, 1], "first")
    return first, faces_at([(0.1, 0.95, 0.0), Z, (-1.0, 0.0, 0.2)], [0, 1, 2], "second")


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def test_the_shared_person_is_found_both_ways_and_nobody_else(sets):
    found = shared_people(*sets, Given(), 0.8)
    assert list(zip(found.way, found.person, found.other, strict=True)) == [("a in b", "1", "0"), ("b in a", "0", "1")]
    assert set(found.found_by) == {"both"}


def test_scores_are_those_of_plain_loops(sets):
    first, second = sets
    found = shared_people(first, second, Given(), -1.0)
    assert len(found) == 2 * 2 * 3
    one, other = (Given().templates(faces.images).tolist() for faces in sets)
    for row in found.itertuples():
        mine, theirs = (one, other) if row.way == "a in b" else (other, one)
        of, to = (first, second) if row.way == "a in b" else (second, first)
        mine = [t for t, p in zip(mine, of.identity.tolist(), strict=True) if p == int(row.person)]
        theirs = [t for t, p in zip(theirs, to.identity.tolist(), strict=True) if p == int(row.other)]
        mean = [sum(values) for values in zip(*mine, strict=True)]
        assert row.mean_to_picture == pytest.approx(max(cosine(mean, t) for t in theirs), abs=1e-5)
        assert row.nearest == pytest.approx(max(cosine(s, t) for s in mine for t in theirs), abs=1e-5)


def test_the_nearest_pictures_are_named(sets):
    row = shared_people(*sets, Given(), 0.8).iloc[0]
    a, b = (Given().templates(faces.images) for faces in sets)
    assert float(a[int(row.picture)] @ b[int(row.other_picture)]) == pytest.approx(row.nearest, abs=1e-6)
    assert (row.picture, row.other_picture) == ("2", "0")


def test_a_pair_may_be_found_by_the_mean_or_by_pictures_alone():
    spread = faces_at([X, Y], [0, 0], "spread")
    one, middle = faces_at([X], [0], "one"), faces_at([(0.7, 0.7, 0.0)], [0], "middle")
    found = shared_people(spread, one, Given(), 0.9)
    assert list(zip(found.way, found.found_by, strict=True)) == [("a in b", "pictures"), ("b in a", "both")]
    assert shared_people(spread, middle, Given(), 0.9).found_by.tolist() == ["mean template"]


def test_names_are_the_folder_s(sets):
    first, second = sets
    names, persons = ["Ann/1.png", "Ann/2.png", "Ben/1.png", "Ben/2.png"], ["Ann", "Ann", "Ben", "Ben"]
    folder = folder_of(first.images.permute(0, 2, 3, 1).numpy(), names, persons, "own")
    row = shared_people(folder, second, Given(), 0.8).iloc[0]
    assert (row.person, row.picture, row.other) == ("Ben", "Ben/1.png", "0")
    found = shared_people(folder, second, Given(), 0.8)
    assert in_words(found, folder, second) == (
        "Looks alike: 1 of 2 people of the first set in the second, 1 of 3 people of the second set in the first."
    )


def test_nobody_shared_is_an_empty_table(sets):
    first = dataclasses.replace(sets[0], images=sets[0].images[:2], identity=sets[0].identity[:2])
    found = shared_people(first, sets[1], Given(), 0.9)
    assert len(found) == 0 and "nearest" in found.columns
    assert in_words(found, first, sets[1]).startswith("Looks alike: 0 of 1")


def test_a_threshold_without_a_value_is_refused(sets):
    told = {"benchmark": "pairs", "condition": "unmasked-unmasked", "mask_kinds": "none", "impostor": 9}
    missing = Threshold(value=None, fmr=0.001, fnmr=None, **told)
    with pytest.raises(ValueError, match=r"give one.*FMR 0.1% is not measurable"):
        shared_people(*sets, Given(), missing)
    with pytest.raises(ValueError, match="from -1 to 1"):
        shared_people(*sets, Given(), 2.0)
    at = Threshold(value=0.8, fmr=0.01, fnmr=0.1, **told)
    assert len(shared_people(*sets, Given(), at)) == 2


def test_a_threshold_that_a_score_equals_in_the_scores_precision_is_reached():
    one, other = (faces_at([place], [0], "x") for place in (X, (0.3, 0.9, 0.0)))
    templates = [Given().templates(faces.images) for faces in (one, other)]
    score = float((templates[0] @ templates[1].T).item())
    above = score + 1e-9  # as float32, which scores are, the same number
    assert set(shared_people(one, other, Given(), above).found_by) == {"both"}
