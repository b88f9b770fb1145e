"""Folders of pictures: order, names, alignment, and all errors."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from maskinv_lib.faces import landmarks, listing, selection
from maskinv_lib.faces.alignment import COLUMNS
from maskinv_lib.faces.folders import read_folder, read_pictures
from tests.faces.samples import TEMPLATE, noise, save

RIGHT = TEMPLATE + np.array([3, 0])
NAMES = ("Zoë 2/a.png", "Zoë 2/b.png", "ada/x.png")


def rows(points: dict) -> str:
    lines = [f"{name},{','.join([''] * 10 if p is None else map(str, p.ravel()))}\n" for name, p in points.items()]
    return ",".join(("image", *COLUMNS)) + "\n" + "".join(lines)


def picture(number: int, size: int = 112) -> np.ndarray:
    return np.array(Image.fromarray(noise(7, 7, 3, seed=number)).resize((size, size)))


@pytest.fixture
def tree(tmp_path):
    for number, name in enumerate(["Zoë 2/b.png", "Zoë 2/a.png", "ada/x.png"]):
        save(tmp_path / "set" / name, picture(number))
    (tmp_path / "set" / ".hidden").mkdir()
    (tmp_path / "set" / "ada" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "set" / "pairs.txt").write_text("ada 1 2\n")
    return tmp_path / "set"


def test_a_tree_is_read_in_order_of_names(tree):
    folder = read_folder(tree)
    assert folder.names == ("Zoë 2/a.png", "Zoë 2/b.png", "ada/x.png")
    assert folder.people == ("Zoë 2", "ada")
    assert folder.faces.identity.tolist() == [0, 0, 1]
    assert not folder.faces.publishable and folder.faces.source == "set"
    for image, number in zip(folder.faces.images, (1, 0, 2), strict=True):
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), picture(number))


def test_another_size_is_refused_without_landmarks_and_aligned_with(tree):
    save(tree / "bo/1.png", picture(9, 160))
    with pytest.raises(ValueError, match=r"bo/1\.png: a 160 x 160 picture without landmarks is refused, not resized"):
        read_folder(tree)
    (tree / "points.csv").write_text(rows({"bo/1.png": TEMPLATE + 20} | {name: TEMPLATE for name in NAMES}))
    folder = read_folder(tree, landmarks=tree / "points.csv")
    image = folder.faces.images[folder.names.index("bo/1.png")].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(image - picture(9, 160)[20:132, 20:132]).max() <= 1


def test_files_that_are_not_pictures_are_named_in_a_warning(tree):
    for number in range(7):
        (tree / "ada" / f"note{number}.txt").write_text("no picture")
    with pytest.warns(UserWarning, match=r"left out \(no picture\): 7, ada/note0\.txt .*, and 2 more") as caught:
        assert read_folder(tree).names == NAMES
    assert "ignored (hidden, or left behind by a system): 2, .hidden, ada/.DS_Store" in str(caught[0].message)


def test_pictures_that_cannot_be_used_are_listed_or_left_out_with_a_warning(tree):
    for number in range(7):
        (tree / "ada" / f"x{number}.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="7 of 10 entries") as caught:
        read_folder(tree)
    assert str(caught.value).count("x") >= 5 and "and 2 more" in str(caught.value)
    assert "skip-bad" in str(caught.value) and "0x" not in str(caught.value)
    with pytest.warns(UserWarning, match="left out"):
        folder = read_folder(tree, skip_bad=True)
    assert folder.names == NAMES and len(folder.left_out) == 7
    assert folder.left_out[0].startswith("ada/x0.png: does not decode as a picture")


def test_identities_stay_dense_when_a_person_is_left_out(tree):
    (tree / "aaa").mkdir()
    (tree / "Aaron").mkdir()
    (tree / "Aaron" / "x.jpg").write_bytes(b"broken")
    (tree / "ada" / "deeper").mkdir()
    with pytest.raises(ValueError, match="2 of 6 entries") as caught:  # before anything is decoded
        read_folder(tree)
    assert "aaa: holds no picture" in str(caught.value) and "deeper: a folder inside" in str(caught.value)
    with pytest.warns(UserWarning, match="a folder inside"):
        folder = read_folder(tree, skip_bad=True)
    assert folder.people == ("Zoë 2", "ada") and folder.faces.identity.tolist() == [0, 0, 1]
    assert len(folder.left_out) == 3


def test_a_folder_that_cannot_be_opened_is_an_error(tree, monkeypatch):
    def scandir(path):
        if str(path).endswith("ada"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    original = os.scandir
    monkeypatch.setattr(listing.os, "scandir", scandir)
    with pytest.raises(ValueError, match=r"ada: cannot be opened \(Permission denied\)"):
        read_folder(tree)
    with pytest.warns(UserWarning, match="left out"):
        assert read_folder(tree, skip_bad=True).people == ("Zoë 2",)


def test_faces_without_content_are_read_unless_they_are_to_be_compared(tree):
    save(tree / "bo/1.png", np.full((112, 112, 3), 99, np.uint8))
    assert len(read_folder(tree).faces) == 4
    with pytest.raises(ValueError, match=r"bo/1\.png: the picture has no content"):
        read_folder(tree, content=True)
    with pytest.warns(UserWarning, match="left out"):
        assert read_folder(tree, content=True, skip_bad=True).names == NAMES


def test_people_whose_names_differ_in_spelling_alone_are_named(tree):
    save(tree / "Ada/1.png", picture(7))
    with pytest.warns(UserWarning, match="taken as different people, though their names are alike: Ada = ada"):
        assert read_folder(tree).people == ("Ada", "Zoë 2", "ada")


# Landmarks


def test_no_picture_is_taken_as_aligned_where_a_list_lacks_it(tree, monkeypatch):
    monkeypatch.setattr(selection, "decode", None)  # the list is checked before anything is decoded
    for listed, problem in (
        ({"Zoë 2/a.png": TEMPLATE, "ada/x.png": TEMPLATE}, r"1 of 3 .*\n  Zoë 2/b\.png: no row in"),
        ({name: TEMPLATE for name in NAMES} | {"ada/x.png": None}, r"ada/x\.png: its row in .* is empty: no face"),
        ({"other/1.png": TEMPLATE}, r"(?s)3 of 3 .*rows without a picture: 1, other/1\.png"),
        ({"ada/x.jpg": TEMPLATE} | {name: TEMPLATE for name in NAMES[:2]}, r"no row in .*, which has ada/x\.jpg"),
    ):
        (tree / "l.csv").write_text(rows(listed))
        for form in (tree / "l.csv", listed):
            with pytest.raises(ValueError, match=problem):
                read_folder(tree, landmarks=form)


def test_with_skip_bad_pictures_without_a_row_are_left_out_and_named(tree):
    with pytest.warns(UserWarning, match="left out"):
        folder = read_folder(tree, landmarks={"ada/x.png": TEMPLATE}, skip_bad=True)
    assert folder.names == ("ada/x.png",)
    assert folder.left_out == tuple(f"{name}: no row in the landmarks" for name in NAMES[:2])


def test_rows_without_a_picture_are_counted_and_named(tree):
    listed = {name: TEMPLATE for name in NAMES} | {f"gone/{number}.png": TEMPLATE for number in range(7)}
    with pytest.warns(UserWarning, match=r"the landmarks, rows without a picture: 7, gone/0\.png, .*, and 2 more"):
        assert read_folder(tree, landmarks=listed).names == NAMES


def test_points_are_detected_for_pictures_without_a_row(tree, monkeypatch):
    seen = []
    monkeypatch.setattr(landmarks, "find_landmarks", lambda picture, where: seen.append(where) or RIGHT)
    folder = read_folder(tree, landmarks={"ada/x.png": TEMPLATE, "Zoë 2/a.png": None}, find_landmarks=True)
    assert folder.names == NAMES and seen == ["Zoë 2/a.png", "Zoë 2/b.png"]
    plain = read_folder(tree).faces.images
    assert torch.equal(folder.faces.images[:2, :, :, :100], plain[:2, :, :, 3:103])  # moved by three pixels
    assert (folder.faces.images[2].int() - plain[2].int()).abs().max() <= 1


def test_roots_without_a_tree_are_refused(tree, tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        read_folder(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no folder"):
        read_folder(tmp_path / "empty")
    save(tree / "loose.png", picture(1))
    with pytest.raises(ValueError, match=r"1 pictures directly \(loose.png\)"):
        read_folder(tree)
    (tmp_path / "only" / "a").mkdir(parents=True)
    (tmp_path / "only" / "a" / "x.txt").write_text("x")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="no usable picture"):
        read_folder(tmp_path / "only", skip_bad=True)


def test_named_pictures_come_in_the_order_of_the_names(tree):
    images = read_pictures(tree, ["ada/x.png", "Zoë 2/b.png"])
    np.testing.assert_array_equal(images, [picture(2), picture(0)])
    with pytest.raises(ValueError, match=r"ada/none\.png: no such file"):
        read_pictures(tree, ["ada/none.png"])


def test_named_pictures_are_found_by_the_names_of_their_list(tree):
    texts = ["ada\\X.png", "./Zoë 2/b.png", str(tree / "Zoë 2" / "a.png")]
    images = read_pictures(tree, texts, listed_in=tree / "list.csv")
    np.testing.assert_array_equal(images, [picture(2), picture(0), picture(1)])
    with pytest.raises(ValueError, match="are one picture"):
        read_pictures(tree, ["ada/x.png", "./ada/x.png"])
