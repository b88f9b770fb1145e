"""Equal pictures are found by their pixels, within one person and under two."""

import numpy as np
import pytest

from maskinv_lib.faces.folders import folder_of
from maskinv_lib.tools.repeated_pictures import equal_pictures, of_one_person, repeats
from tests.faces.samples import noise


def folder(*contents: int, persons: str):
    images = np.stack([noise(112, 112, 3, seed=content) for content in contents])
    return folder_of(images, [f"{who}/{i}.png" for i, who in enumerate(persons)], list(persons), "own")


def test_groups_are_of_equal_pixels():
    assert equal_pictures(folder(1, 2, 1, 3, 2, 1, persons="aaabbb")) == [[0, 2, 5], [1, 4]]
    assert equal_pictures(folder(1, 2, 3, persons="aab")) == []


def test_repeats_within_a_person_are_counted_and_named():
    again, text = repeats(folder(1, 1, 2, 1, 3, persons="aaaab"))
    assert again.tolist() == [False, True, False, True, False]
    assert text == "2 pictures repeat another one of the same person: a/0.png = a/1.png = a/3.png"
    assert repeats(folder(1, 2, persons="ab"))[1] == ""


def test_a_picture_of_two_people_is_refused_or_left_out_of_both():
    own = folder(1, 2, 1, 3, persons="aabb")
    with pytest.raises(ValueError, match=r"^own: a/0\.png = b/2\.png: two people have the same picture"):
        of_one_person(own, skip_bad=False)
    kept = of_one_person(own, skip_bad=True)
    assert kept.names == ("a/1.png", "b/3.png") and kept.people == ("a", "b")
    assert (kept.faces.images == own.faces.images[[1, 3]]).all() and len(kept.left_out) == 2
    unchanged = folder(1, 1, 2, persons="aab")
    assert of_one_person(unchanged, skip_bad=False) is unchanged
    with pytest.raises(ValueError, match="every picture is in the folders of two people"):
        of_one_person(folder(1, 1, persons="ab"), skip_bad=True)
