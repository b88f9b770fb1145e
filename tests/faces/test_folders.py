"""Folders of pictures: order, names, alignment, and all errors."""

import numpy as np
import pytest
from PIL import Image

from maskinv_lib.faces.folders import read_folder, read_pictures
from tests.faces.samples import TEMPLATE, noise, save


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
    folder = read_folder(tree, landmarks={"bo/1.png": TEMPLATE + 20})
    image = folder.faces.images[folder.names.index("bo/1.png")].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(image - picture(9, 160)[20:132, 20:132]).max() <= 1


def test_files_that_are_not_pictures_are_listed_or_left_out_with_a_warning(tree):
    for number in range(7):
        (tree / "ada" / f"note{number}.txt").write_text("no picture")
    with pytest.raises(ValueError, match="7 of 10 entries") as caught:
        read_folder(tree)
    assert str(caught.value).count("note") == 5 and "and 2 more" in str(caught.value)
    with pytest.warns(UserWarning, match="left out"):
        assert len(read_folder(tree, skip_bad=True).faces) == 3


def test_identities_stay_dense_when_a_person_is_left_out(tree):
    (tree / "aaa").mkdir()
    (tree / "Aaron").mkdir()
    (tree / "Aaron" / "x.jpg").write_bytes(b"broken")
    (tree / "ada" / "deeper").mkdir()
    with pytest.raises(ValueError, match="3 of 6 entries"):
        read_folder(tree)
    with pytest.warns(UserWarning, match="a folder inside"):
        folder = read_folder(tree, skip_bad=True)
    assert folder.people == ("Zoë 2", "ada") and folder.faces.identity.tolist() == [0, 0, 1]


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


def test_a_row_of_landmarks_for_the_same_picture_with_another_ending_is_an_error(tree):
    with pytest.raises(ValueError, match=r"ada/x\.jpg: a row of landmarks without a picture; ada/x\.png is there"):
        read_folder(tree, landmarks={"ada/x.jpg": TEMPLATE})
