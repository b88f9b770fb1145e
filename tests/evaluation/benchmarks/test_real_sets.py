"""Readers of sets with lists: names of every spelling, lists of other programs, and pictures that were left out."""

import dataclasses
import unicodedata

import numpy as np
import pytest
from PIL import Image

from maskinv_lib.evaluation.benchmarks.real_sets import (
    NumberedPictures,
    lfw_folder,
    listed_pairs,
    read_masks,
    read_mfrc,
    read_rmfrd,
)
from maskinv_lib.faces import TEMPLATE
from maskinv_lib.faces.alignment import COLUMNS
from maskinv_lib.faces.folders import read_folder

NAMES = ("Zoë/Zoë_0001.png", "Zoë/Zoë_0002.png", "ada/ada_0001.png")


@pytest.fixture
def root(tmp_path):
    for number, name in enumerate(NAMES):
        path = tmp_path / "people" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rough = np.random.default_rng(number).integers(0, 256, (7, 7, 3), dtype=np.uint8)
        Image.fromarray(rough).resize((112, 112)).save(path)
    return tmp_path / "people"


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def test_people_are_found_in_another_spelling(root, tmp_path):
    (tmp_path / "pairs.txt").write_text(decomposed("ZOË\t1\t2\nzoë\t2\tAda\t1\n"), encoding="utf-16")
    pairs = listed_pairs(tmp_path / "pairs.txt", read_folder(root))
    assert pairs.first.tolist() == [0, 1] and pairs.second.tolist() == [1, 2]
    two = NumberedPictures(("Ann/Ann_0001.png", "ann/ann_0001.png"))
    assert (two.find(("ann", 1)), two.find(("Ann", 1)), two.find(("ANN", 1))) == (1, 0, None)


def test_pairs_of_a_picture_that_was_left_out_are_left_out(root, tmp_path):
    (tmp_path / "pairs.txt").write_text("Zoë\t1\t2\nZoë\t2\tada\t1\n")
    (root / NAMES[0]).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"0001\.png: does not decode"):
        lfw_folder(root, tmp_path / "pairs.txt")
    with pytest.warns(UserWarning, match="1 of 2 pairs were left out, with their pictures"):
        benchmark = lfw_folder(root, tmp_path / "pairs.txt", skip_bad=True)
    assert len(benchmark.listed["official"]) == 1
    folder = dataclasses.replace(read_folder(root.parent / "people", skip_bad=True), left_out=())
    with pytest.raises(ValueError, match=r"pairs\.txt line 1: its first picture \(number 1\) is not in the folder"):
        listed_pairs(tmp_path / "pairs.txt", folder)


def test_masks_are_listed_by_any_spelling_and_half_a_list_is_refused(root, tmp_path):
    lines = ["image;masked", f"people\\{NAMES[0]};1", f"./{decomposed(NAMES[1])};0", f"{root}/ADA/ada_0001.png;1"]
    (tmp_path / "masks.csv").write_bytes("\r".join(lines).replace("people\\Zoë/", "people\\Zoë\\").encode("utf-8-sig"))
    assert read_masks(tmp_path / "masks.csv", NAMES, root).tolist() == [True, False, True]
    (tmp_path / "masks.csv").write_text("image,masked\nZoë/Zoë_0001.png,1\ngone.png,0\n")
    with pytest.raises(ValueError, match=r"2 of 3 .*: Zoë/Zoë_0002\.png, ada/ada_0001\.png\. rows .*: 1, gone\.png"):
        read_masks(tmp_path / "masks.csv", NAMES, root)
    rows = "".join(f"{name},0\n" for name in (*NAMES, "gone.png"))
    (tmp_path / "masks.csv").write_text("image,masked\n" + rows)
    with pytest.warns(UserWarning, match="rows without a picture: 1, gone"):
        assert not read_masks(tmp_path / "masks.csv", NAMES, root).any()


def sessions(names) -> str:
    who = [("z", 1, 0, "reference"), ("z", 2, 1, "probe"), ("a", 1, 1, "probe")]
    rows = [f"{name},{','.join(map(str, row))}\n" for name, row in zip(names, who, strict=True)]
    return "image,identity,session,masked,role\n" + "".join(rows)


def test_sessions_find_their_pictures_and_miss_none(root, tmp_path):
    expected = read_folder(root).faces.images
    (tmp_path / "p.csv").write_text(sessions([f"people\\{NAMES[0]}", NAMES[1].upper(), root / NAMES[2]]))
    faces = read_mfrc(tmp_path / "p.csv", root).faces
    assert (faces.images == expected).all() and faces.identity.tolist() == [1, 1, 0]
    (tmp_path / "p.csv").write_text(sessions([NAMES[0], "Zoë/x.png", NAMES[2]]))
    with pytest.raises(ValueError, match=r"1 of 3 entries .*\n  Zoë/x\.png: no such file") as caught:
        read_mfrc(tmp_path / "p.csv", root)
    assert "skip" not in str(caught.value)  # there is no such option here


def test_a_face_cut_close_is_accepted_in_published_sets_alone(root):
    (root / "images").mkdir()
    points = (np.array(TEMPLATE) - 56) * 1.4 + 56  # half of the aligned face lies outside the picture
    rows = ["image,identity,masked,use," + ",".join(COLUMNS)]
    for number, name in enumerate(NAMES):
        (root / name).rename(root / "images" / f"{number}.png")
        rows.append(f"{number}.png,{number},0,1," + ",".join(map(str, points.ravel())))
    (root / "images.csv").write_text("\n".join(rows))
    faces = read_rmfrd(root).faces
    assert len(faces) == 3 and faces.images[0, :, 0, 0].tolist() == [0, 0, 0]
