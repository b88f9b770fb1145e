"""Every form of verification set is recognised by what lies at its path; one-sided sets are refused."""

import shutil

import numpy as np
import pytest

from maskinv_lib.evaluation.benchmarks import opening
from maskinv_lib.evaluation.benchmarks.bins import write_bin
from maskinv_lib.evaluation.benchmarks.drawn import DrawnPairs, DrawnSet
from maskinv_lib.evaluation.benchmarks.opening import open_set
from maskinv_lib.evaluation.benchmarks.real_masks import OneProtocol
from tests.tools.models import block_templates
from tests.tools.samples import save_people


@pytest.fixture
def people(patterned, tmp_path):
    return save_people(tmp_path / "people", patterned, range(3))


def conditions(on):
    return [
        (condition, kinds, int(part.genuine.sum()), len(part))
        for condition, kinds, part in on.comparisons(on.templates(block_templates))
    ]


def test_a_folder_of_people_gives_all_pairs_with_drawn_masks(people):
    on = open_set(people, kinds=("unseen",))
    assert isinstance(on, DrawnSet) and on.name == "people" and on.identities == 3
    assert conditions(on) == [
        ("unmasked-unmasked", "none", 18, 66),
        ("masked-unmasked", "unseen", 36, 132),
        ("masked-masked", "unseen", 18, 66),
    ]
    assert "12 pictures of 3 people" in on.in_words and on.pictures == 24


def test_listed_pairs_name_their_people(people, tmp_path):
    (tmp_path / "pairs.txt").write_text("p00 1 2\np00 1 p01 1\np01 2 p02 4\n")
    on = open_set(people, pairs=tmp_path / "pairs.txt", kinds=("seen",))
    assert isinstance(on, DrawnPairs) and on.named and "Resampled: 3 people." in on.in_words
    assert conditions(on)[0] == ("unmasked-unmasked", "none", 1, 3)
    assert on.faces.identity[on.index].tolist() == [0, 0, 0, 1, 1, 2]


def test_a_list_of_masks_makes_real_conditions(people, tmp_path):
    names = [path.relative_to(people).as_posix() for path in sorted(people.rglob("*.png"))]
    rows = [f"{name},{int(name.endswith(('1.png', '2.png')))}" for name in names]
    (tmp_path / "masks.csv").write_text("\n".join(["image,masked", *rows]) + "\n")
    on = open_set(people, masks=tmp_path / "masks.csv")
    assert isinstance(on, OneProtocol) and on.pictures == 12
    assert conditions(on) == [
        ("unmasked-unmasked", "none", 3, 15),
        ("masked-unmasked", "real", 12, 36),
        ("masked-masked", "real", 3, 15),
        ("all", "real", 18, 66),
    ]


def test_a_list_of_masks_names_each_picture_once(people, tmp_path):
    (tmp_path / "masks.csv").write_text("image,masked\np00/p00_0001.png,1\np00/p00_0001.png,0\n")
    with pytest.raises(ValueError, match="line 3: this picture is listed on an earlier line"):
        open_set(people, masks=tmp_path / "masks.csv")


def test_a_bin_draws_its_masks_by_its_name(patterned, tmp_path):
    images = [image.permute(1, 2, 0).numpy() for image in patterned.images[:8]]
    write_bin(tmp_path / "own.bin", [images[i] for i in (0, 1, 0, 4, 5, 6, 2, 7)], [True, False, True, False])
    on = open_set(tmp_path / "own.bin")
    assert isinstance(on, DrawnPairs) and on.name == on.faces.source == "own" and not on.named
    renamed = open_set(shutil.copy(tmp_path / "own.bin", tmp_path / "other.bin"))
    same, other = (one.templates(block_templates) for one in (on, renamed))
    assert np.array_equal(same["none"], other["none"]) and not np.array_equal(same["seen"], other["seen"])
    assert np.array_equal(same["seen"], open_set(tmp_path / "other.bin", name="own").templates(block_templates)["seen"])


def test_options_that_a_set_does_not_take_are_refused(patterned, people, tmp_path):
    images = [image.permute(1, 2, 0).numpy() for image in patterned.images[:8]]
    write_bin(tmp_path / "own.bin", [images[i] for i in (0, 1, 0, 4)], [True, False])
    for options in ({"pairs": tmp_path / "pairs.txt"}, {"skip_bad": True}, {"masks": tmp_path}):
        with pytest.raises(ValueError, match=f"--{next(iter(options)).replace('_', '-')}"):
            open_set(tmp_path / "own.bin", **options)
    (people / "mfr2_labels.txt").touch()
    with pytest.raises(ValueError, match="--find-landmarks"):
        open_set(people, find_landmarks=True)


def test_only_mfr2_has_official_pairs(people):
    with pytest.raises(ValueError, match=r"has no official pairs.*--pairs"):
        open_set(people, protocol="official")


def test_a_missing_set_says_what_may_be_given(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a \.bin, a \.csv, or a folder of people"):
        open_set(tmp_path / "no.bin")


@pytest.mark.parametrize("persons", [(0,), ()])
def test_one_sided_sets_are_refused_with_their_counts(patterned, tmp_path, persons):
    folder = save_people(tmp_path / "one", patterned, persons)
    if not persons:  # two people with one picture each
        for index in (0, 4):
            save_people(folder, patterned, (index // 4,))
            for path in sorted((folder / f"p{index // 4:02d}").iterdir())[1:]:
                path.unlink()
    with pytest.raises(ValueError, match=r"genuine and \d+ impostor pairs"):
        open_set(folder)


def test_listed_pairs_of_one_side_are_refused(people, tmp_path):
    (tmp_path / "pairs.txt").write_text("p00 1 2\np01 1 2\n")
    with pytest.raises(ValueError, match="2 genuine and 0 impostor pairs"):
        open_set(people, pairs=tmp_path / "pairs.txt")


def test_more_pictures_than_all_pairs_allow(people, monkeypatch):
    monkeypatch.setattr(opening, "MOST", 11)
    with pytest.raises(ValueError, match="verification-set"):
        open_set(people)
