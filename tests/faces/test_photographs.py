"""Photographs as a set, pixels, files or a folder give the same faces; pictures not yet aligned need landmarks."""

import numpy as np
import pytest
import torch
from PIL import Image

from maskinv_lib.faces import landmarks
from maskinv_lib.faces.folders import read_folder
from maskinv_lib.faces.photographs import landmarks_of, open_picture, pixels_of, read_photograph
from tests.faces.samples import TEMPLATE, noise, save


def hwc(image):
    return image.permute(1, 2, 0).numpy()


def test_every_form_gives_the_same_pixels(patterned, tmp_path):
    names = [f"{person:02d}/{index:02d}.png" for index, person in enumerate(patterned.identity.tolist())]
    paths = [save(tmp_path / name, hwc(image)) for name, image in zip(names, patterned.images, strict=True)]
    forms = (patterned, patterned.images, paths, [str(path) for path in paths], tmp_path, read_folder(tmp_path))
    assert all(torch.equal(pixels_of(form), patterned.images) for form in forms)
    assert torch.equal(pixels_of(str(paths[3])), patterned.images[3:4])


def test_landmarks_of_the_whole_path_distinguish_two_pictures_of_one_name(patterned, tmp_path):
    paths = [save(tmp_path / folder / "1.png", hwc(patterned.images[0])) for folder in "ab"]
    moved = pixels_of(paths, {str(paths[1]): TEMPLATE + np.array([8, 0])})
    assert torch.equal(moved[0], patterned.images[0])
    assert not torch.equal(moved[1], moved[0])


def test_a_photograph_that_is_not_aligned_needs_landmarks(patterned, tmp_path):
    picture = np.zeros((200, 180, 3), np.uint8)
    picture[30:142, 40:152] = hwc(patterned.images[0])
    path = save(tmp_path / "ann.png", picture)
    with pytest.raises(ValueError, match=r"ann\.png: a 180 x 200 picture without landmarks is refused"):
        read_photograph(path)
    aligned = read_photograph(path, {"ann.png": TEMPLATE + np.array([40, 30])})
    assert np.abs(aligned.astype(int) - picture[30:142, 40:152]).max() <= 1
    with pytest.raises(FileNotFoundError, match=r"no picture .*ben\.png"):
        read_photograph(tmp_path / "ben.png")


def test_landmarks_that_could_be_of_two_pictures_are_refused(patterned, tmp_path):
    paths = [save(tmp_path / folder / "1.png", hwc(patterned.images[0])) for folder in "ab"]
    with pytest.raises(ValueError, match=r"1\.png may mean .*a/1\.png, .*b/1\.png"):
        pixels_of(paths, {"1.png": TEMPLATE})
    with pytest.raises(ValueError, match="no picture"):
        pixels_of([])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_by_its_exif_orientation(tmp_path, orientation):
    stored = noise(6, 4, 3)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(stored).save(tmp_path / "x.png", exif=exif)
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }[orientation]
    np.testing.assert_array_equal(open_picture(tmp_path / "x.png"), upright)


def test_faces_without_content_cannot_be_compared(patterned, tmp_path):
    good = save(tmp_path / "a" / "1.png", hwc(patterned.images[0]))
    black = save(tmp_path / "a" / "2.png", np.zeros((112, 112, 3), np.uint8))
    for form in ([good, black], black, tmp_path, read_folder(tmp_path)):
        with pytest.raises(ValueError, match=r"a/2\.png: the picture has no content"):
            pixels_of(form)


def test_points_of_files_come_from_a_list_or_the_detector(patterned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [save(tmp_path / name, hwc(patterned.images[0])).relative_to(tmp_path) for name in ("Ann.png", "x/ben.png")]
    listed = {"ann.PNG": TEMPLATE, "elsewhere.png": TEMPLATE}
    with pytest.warns(UserWarning, match=r"no row of x/ben\.png; 1 other rows: elsewhere\.png\..*Taken as aligned"):
        points = landmarks_of(paths, listed)
    assert list(points) == ["Ann.png"] and np.array_equal(points["Ann.png"], TEMPLATE)
    monkeypatch.setattr(landmarks, "find_landmarks", lambda picture, where: TEMPLATE + len(where))
    points = landmarks_of(paths, listed, find=True)
    assert np.array_equal(points["Ann.png"], TEMPLATE) and np.array_equal(points["x/ben.png"], TEMPLATE + 9)
    assert landmarks_of(paths) == {}
    with pytest.raises(ValueError, match=r"no row of Ann\.png, x/ben\.png; 1 other rows: elsewhere.*Correct the names"):
        landmarks_of(paths, {"elsewhere.png": TEMPLATE})
    with pytest.raises(ValueError, match=r"row of x/ben\.png is empty: no face was found"):
        landmarks_of(paths, listed | {"ben.png": None})


def test_a_list_may_name_the_end_of_a_path(tmp_path):
    points = np.array(TEMPLATE)
    paths = ["photos/ann/1.png", "photos/ben/1.png"]
    found = landmarks_of(paths, {"ann/1.png": points, "ben\\1.png": points + 1})
    assert found["photos/ann/1.png"][0, 0] == points[0, 0] and found["photos/ben/1.png"][0, 0] == points[0, 0] + 1
    with pytest.raises(ValueError, match="may mean"):
        landmarks_of(paths, {"1.png": points})
