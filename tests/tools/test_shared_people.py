"""Shared people are found by template in both directions, as by a search in plain loops."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from maskinv_lib.faces import Faces
from maskinv_lib.faces.folders import folder_of
from maskinv_lib.networks.templates import NetworkRecogniser
from maskinv_lib.tools.recogniser import OpenedRecogniser
from maskinv_lib.tools.shared_people import shared_people, summary
from tests.tools.samples import threshold


class PixelRecogniser:
    """A recogniser whose template is in a face's first pixels."""

    def templates(self, images):
        return F.normalize(images[:, 0, 0, :3].float() - 127.5, dim=1)


def faces_at(points, identity, source):
    images = torch.zeros(len(points), 3, 112, 112, dtype=torch.uint8)
    images[:, 0, 0, :3] = (127.5 + 100 * torch.tensor(points)).to(torch.uint8)
    return Faces(images=images, identity=torch.tensor(identity), source=source, publishable=True)


X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


@pytest.fixture
def sets():
    """Person 1 of the first set is person 0 of the second; nobody else is in both."""
    first = faces_at([X, X, Y, (0.3, 0.9, 0.0)], [0, 0, 1, 1], "first")
    return first, faces_at([(0.1, 0.95, 0.0), Z, (-1.0, 0.0, 0.2)], [0, 1, 2], "second")


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def test_the_shared_person_is_found_in_both_directions_and_nobody_else(sets):
    table = shared_people(*sets, PixelRecogniser(), 0.8)
    rows = table[["direction", "person", "other"]].to_numpy().tolist()
    assert rows == [["a in b", "1", "0"], ["b in a", "0", "1"]]
    assert set(table.found_by) == {"both"}


def test_scores_are_those_of_plain_loops(sets):
    def of(faces, person):
        return PixelRecogniser().templates(faces.images)[faces.identity == person].tolist()

    first, second = sets
    table = shared_people(first, second, PixelRecogniser(), -1.0)
    assert len(table) == 2 * 2 * 3
    for row in table.itertuples():
        a, b = (first, second) if row.direction == "a in b" else (second, first)
        person, other = of(a, int(row.person)), of(b, int(row.other))
        mean = [sum(values) for values in zip(*person, strict=True)]
        assert row.mean_to_picture == pytest.approx(max(cosine(mean, t) for t in other), abs=1e-5)
        assert row.nearest == pytest.approx(max(cosine(s, t) for s in person for t in other), abs=1e-5)


def test_the_nearest_pictures_are_named(sets):
    row = shared_people(*sets, PixelRecogniser(), 0.8).iloc[0]
    a, b = (PixelRecogniser().templates(faces.images) for faces in sets)
    assert float(a[int(row.picture)] @ b[int(row.other_picture)]) == pytest.approx(row.nearest, abs=1e-6)
    assert (row.picture, row.other_picture) == ("2", "0")


def test_a_pair_may_be_found_by_the_mean_or_by_pictures_alone():
    spread = faces_at([X, Y], [0, 0], "spread")
    at_x, middle = faces_at([X], [0], "at x"), faces_at([(0.7, 0.7, 0.0)], [0], "middle")
    table = shared_people(spread, at_x, PixelRecogniser(), 0.9)
    assert list(zip(table.direction, table.found_by, strict=True)) == [("a in b", "pictures"), ("b in a", "both")]
    assert shared_people(spread, middle, PixelRecogniser(), 0.9).found_by.tolist() == ["mean template"]


def test_names_are_the_folder_s(sets):
    first, second = sets
    names, persons = ["Ann/1.png", "Ann/2.png", "Ben/1.png", "Ben/2.png"], ["Ann", "Ann", "Ben", "Ben"]
    folder = folder_of(first.images.permute(0, 2, 3, 1).numpy(), names, persons, "own")
    table = shared_people(folder, second, PixelRecogniser(), 0.8)
    assert table.loc[0, ["person", "picture", "other"]].tolist() == ["Ben", "Ben/1.png", "0"]
    assert summary(table, folder, second) == (
        "Similar people: 1 of 2 people of the first set in the second, 1 of 3 people of the second set in the first."
    )


def test_nobody_shared_is_an_empty_table(sets):
    first = dataclasses.replace(sets[0], images=sets[0].images[:2], identity=sets[0].identity[:2])
    table = shared_people(first, sets[1], PixelRecogniser(), 0.9)
    assert len(table) == 0 and "nearest" in table.columns
    assert summary(table, first, sets[1]).startswith("Similar people: 0 of 1")


def test_a_threshold_without_a_value_is_refused(sets):
    missing = threshold(None, fmr=0.001, fnmr=None, impostor=9)
    with pytest.raises(ValueError, match=r"give one.*FMR 0.10% is not measurable"):
        shared_people(*sets, PixelRecogniser(), missing)
    with pytest.raises(ValueError, match="from -1 to 1"):
        shared_people(*sets, PixelRecogniser(), 2.0)
    assert len(shared_people(*sets, PixelRecogniser(), threshold(0.8, fmr=0.01, fnmr=0.1, impostor=9))) == 2


def test_a_threshold_that_a_score_equals_in_the_scores_precision_is_reached():
    a, b = (faces_at([point], [0], "x") for point in (X, (0.3, 0.9, 0.0)))
    score = (PixelRecogniser().templates(a.images) @ PixelRecogniser().templates(b.images).T).item()
    above = score + 1e-9  # the same number in float32, the dtype of the scores
    assert set(shared_people(a, b, PixelRecogniser(), above).found_by) == {"both"}


def test_a_picture_without_an_embedding_is_named(sets):
    class NoFace(NetworkRecogniser):
        def __init__(self):
            pass

        def templates(self, images):
            return torch.full((len(images), 3), torch.nan)

    noise = torch.randint(0, 256, (4, 112, 112, 3), dtype=torch.uint8).numpy()
    folder = folder_of(noise, ["a/1.png", "a/2.png", "b/1.png", "b/2.png"], list("aabb"), "x")
    opened = OpenedRecogniser(NoFace(), name="mine.pth", facts={})
    with pytest.raises(ValueError, match=r"mine\.pth .* 4 of 4 faces: a/1\.png, a/2\.png, b/1\.png"):
        shared_people(folder, sets[1], opened, 0.5)
