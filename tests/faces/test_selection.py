"""Pictures with their points: what a list lacks is known before decoding, and each file is read once."""

from pathlib import Path

import numpy as np
import pytest

from maskinv_lib.faces import landmarks
from maskinv_lib.faces.alignment import CUT_CLOSE
from maskinv_lib.faces.selection import assigned, select
from tests.faces.samples import TEMPLATE, noise, save

NAMES = ["a/1.png", "a/2.png", "b.png"]


@pytest.fixture
def root(tmp_path):
    for seed, name in enumerate(NAMES):
        save(tmp_path / name, noise(112, 112, 3, seed=seed))
    return tmp_path


def test_without_a_list_pictures_have_no_points(root):
    pictures = select(root, NAMES)
    assert (pictures.names, pictures.points, pictures.problems, pictures.notes) == (NAMES, {}, [], [])
    read = list(pictures.read([]))
    assert [(name, points) for name, _, points in read] == [(name, None) for name in NAMES]
    np.testing.assert_array_equal(read[2][1], noise(112, 112, 3, seed=2))


def test_a_list_that_lacks_a_picture_keeps_the_others(root):
    pictures = select(root, NAMES, {"A\\1.png": TEMPLATE, "b.png": None, "c.png": TEMPLATE, "a/2.jpg": TEMPLATE})
    assert pictures.names == ["a/1.png"]
    assert pictures.problems == [
        "a/2.png: no row in the landmarks, which has a/2.jpg",
        "b.png: its row in the landmarks is empty: no face was found",
    ]
    assert pictures.notes == ["the landmarks, rows without a picture: 2, c.png, a/2.jpg"]


def test_points_are_detected_for_pictures_without_a_row(root, monkeypatch):
    monkeypatch.setattr(landmarks, "find_landmarks", lambda picture, where: TEMPLATE + len(where))
    pictures = select(root, NAMES, {"b.png": TEMPLATE}, find=True)
    assert pictures.names == NAMES and not pictures.problems
    points = {name: points for name, _, points in pictures.read([])}
    assert np.array_equal(points["b.png"], TEMPLATE) and np.array_equal(points["a/1.png"], TEMPLATE + 7)


def test_errors_are_collected_by_name_and_each_file_is_read_once(root, monkeypatch):
    (root / "a/1.png").write_bytes(b"no picture")
    (root / "a/2.png").unlink()
    reads, original = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path.name) or original(path))
    errors = []
    assert [name for name, _, _ in select(root, NAMES).read(errors)] == ["b.png"]
    assert reads == ["1.png", "2.png", "b.png"]
    assert errors[0].startswith("a/1.png: does not decode as a picture (cannot identify image file; 10 bytes)")
    assert errors[1] == "a/2.png: cannot be read (No such file or directory)"


def test_limits_and_content_are_passed_on(root):
    save(root / "b.png", np.full((112, 112, 3), 7, np.uint8))
    points = dict.fromkeys(NAMES, (TEMPLATE - 56) * 1.4 + 56)
    strict, close, content = [], [], []
    list(select(root, NAMES, points).read(strict))
    list(select(root, NAMES, points, limits=CUT_CLOSE).read(close))
    list(select(root, NAMES, content=True).read(content))
    assert (len(strict), len(close)) == (3, 0) and "49% of the aligned face" in strict[0]
    assert len(content) == 1 and content[0].startswith("b.png: the picture has no content")


def test_a_list_s_names_may_be_relative_to_its_own_folder(root):
    header = "image,eye_left_x,eye_left_y,eye_right_x,eye_right_y,nose_x,nose_y,mouth_left_x,mouth_left_y"
    row = ",".join(map(str, TEMPLATE.ravel()))
    (root / "a" / "l.csv").write_text(f"{header},mouth_right_x,mouth_right_y\n2.png,{row}\nb.png,{row}\n")
    points, extra = assigned(root / "a" / "l.csv", NAMES, root)
    assert list(points) == ["a/2.png", "b.png"] and extra == []
