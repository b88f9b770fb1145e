"""Photographs as a set, pixels, files or a folder give the same faces; what is not aligned needs landmarks."""

import numpy as np
import pytest
import torch
from PIL import Image

from maskinv_lib.faces import TEMPLATE
from maskinv_lib.faces.folders import read_folder
from maskinv_lib.faces.photographs import open_picture, pixels_of, read_photograph


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return path


def test_every_form_gives_the_same_pixels(patterned, tmp_path):
    names = [f"{person:02d}/{place:02d}.png" for place, person in enumerate(patterned.identity.tolist())]
    paths = [save(tmp_path / name, image) for name, image in zip(names, patterned.images, strict=True)]
    forms = (patterned, patterned.images, paths, [str(path) for path in paths], tmp_path, read_folder(tmp_path))
    assert all(torch.equal(pixels_of(form), patterned.images) for form in forms)
    assert torch.equal(pixels_of(str(paths[3])), patterned.images[3:4])


def test_landmarks_of_the_whole_path_tell_two_pictures_of_one_name_apart(patterned, tmp_path):
    paths = [save(tmp_path / folder / "1.png", patterned.images[0]) for folder in "ab"]
    moved = pixels_of(paths, {str(paths[1]): np.array(TEMPLATE) + np.array([8, 0])})
    assert torch.equal(moved[0], patterned.images[0])
    assert not torch.equal(moved[1], moved[0])


def test_a_photograph_that_is_not_aligned_needs_landmarks(patterned, tmp_path):
    picture = np.zeros((200, 180, 3), np.uint8)
    picture[30:142, 40:152] = patterned.images[0].permute(1, 2, 0).numpy()
    path = tmp_path / "ann.png"
    Image.fromarray(picture).save(path)
    with pytest.raises(ValueError, match=r"ann\.png is a picture of 180 x 200 without landmarks"):
        read_photograph(path)
    aligned = read_photograph(path, {"ann.png": np.array(TEMPLATE) + np.array([40, 30])})
    assert np.abs(aligned.astype(int) - picture[30:142, 40:152]).max() <= 1
    with pytest.raises(FileNotFoundError, match=r"no picture .*ben\.png"):
        read_photograph(tmp_path / "ben.png")


def test_landmarks_that_could_be_of_two_pictures_are_refused(patterned, tmp_path):
    paths = [save(tmp_path / folder / "1.png", patterned.images[0]) for folder in "ab"]
    with pytest.raises(ValueError, match="have one name"):
        pixels_of(paths, {"1.png": np.array(TEMPLATE)})
    with pytest.raises(ValueError, match="no picture"):
        pixels_of([])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_telephone_s_picture_is_turned_as_a_viewer_turns_it(tmp_path, orientation):
    stored = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(stored).save(tmp_path / "x.png", exif=exif)
    turned = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }[orientation]
    np.testing.assert_array_equal(open_picture(tmp_path / "x.png"), turned)
