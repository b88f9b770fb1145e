"""Alignment: dots land on the template, swapped points are refused, landmark files are checked line by line."""

import numpy as np
import pytest

from maskinv_lib.faces.alignment import (
    COLUMNS,
    CUT_CLOSE,
    align,
    check_content,
    read_landmark_rows,
    read_landmarks,
    read_rows,
    share_outside,
    similarity_transform,
)
from tests.faces.samples import TEMPLATE, least_squares, noise

SWAPPED = [1, 0, 2, 4, 3]


def turned(degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    a = np.deg2rad(degrees)
    return TEMPLATE @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) * scale + shift


def dots(points: np.ndarray, width: int, height: int, variance: float, stretch: float = 1.0) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    picture = np.zeros((height, width, 3))
    for i, (px, py) in enumerate(points):
        picture[..., i % 3] += 240 * np.exp(-((x - px) ** 2 + (stretch * y - py) ** 2) / (2 * variance))
    return picture.clip(0, 255).round().astype(np.uint8)


def misses(face: np.ndarray) -> list[float]:
    """Distance of each dot's centre of mass to its template point, in pixels."""
    y, x = np.mgrid[:112, :112]
    distances = []
    for i, (px, py) in enumerate(TEMPLATE):
        weight = face[..., i % 3] * (np.hypot(x - px, y - py) <= 9.0)
        centre = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
        distances.append(float(np.hypot(*(centre - (px, py)))))
    return distances


@pytest.mark.parametrize(("degrees", "scale", "shift"), [(25, 1.7, (95, 0)), (-40, 1.0, (60, 120)), (3, 0.8, (40, 40))])
def test_five_dots_land_on_the_template(degrees, scale, shift):
    points = turned(degrees, scale, shift)
    face = align(dots(points, 320, 320, 5.5 * scale**2), points)
    assert face.dtype == np.uint8 and face.shape == (112, 112, 3)
    assert max(misses(face)) < 0.03


def test_a_picture_larger_than_high_is_not_transposed():
    points = turned(10, 1.5, (180, 5))
    assert max(misses(align(dots(points, 420, 200, 16), points))) < 0.02


def test_the_template_itself_changes_nothing():
    picture = noise(112, 112, 3)
    assert np.abs(align(picture, TEMPLATE).astype(int) - picture).max() <= 1


def test_swapped_left_and_right_are_refused_with_the_residual():
    points = turned(25, 1.7, (95, 0))
    with pytest.raises(ValueError, match=r"x\.png: .* by 22\.6 px, more than 14.*left and right"):
        align(dots(points, 320, 320, 16), points[SWAPPED], "x.png")


def test_the_fit_is_the_least_squares_similarity_without_mirroring():
    points = turned(15, 1.3, (20, 30)) + np.random.default_rng(1).normal(0, 3, (5, 2))
    for order in (range(5), SWAPPED):
        matrix, residual = similarity_transform(points[order])
        a, b, tx, ty = least_squares(points[order])
        np.testing.assert_allclose(matrix, [[a, -b, tx], [b, a, ty]], atol=1e-9)
        distances = np.linalg.norm(points[order] @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE, axis=1)
        assert residual == pytest.approx(np.sqrt((distances**2).mean()))
        assert np.linalg.det(matrix[:, :2]) > 0


def test_shrinking_averages_instead_of_picking():
    checkered = np.indices((1120, 1120)).sum(0) % 2 * 255
    picture = np.repeat(checkered[..., None], 3, 2).astype(np.uint8)
    face = align(picture, TEMPLATE * 10)[8:-8, 8:-8]
    assert np.abs(face.astype(int) - 127.5).max() < 4


def test_outside_the_picture_is_black():
    face = align(np.full((112, 112, 3), 200, np.uint8), TEMPLATE - (50, 0), limits=CUT_CLOSE)
    assert (face[:, :48] == 0).all() and (face[:, 52:] == 200).all()


def test_a_squashed_picture_is_stretched():
    points = turned(20, 1.7, (95, 0))
    stored = dots(points, 320, 320, 16, stretch=1.3)  # round dots once the picture is 1.3 times as high
    assert max(misses(align(stored, points / (1, 1.3), stretch=1.3))) < 0.02


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.where(np.arange(10).reshape(5, 2) == 3, np.nan, TEMPLATE), "not a finite number"),
        (TEMPLATE + np.array([0, 400]), r"5 of its five points lie outside its 112 x 112 pixels \(such as 492.365\)"),
        (TEMPLATE + np.array([48, 0]), r"2 of its five points lie outside its 112 x 112 pixels"),
        (TEMPLATE / 112, r"between 0.342 and 0.825, as shares of the picture do.*multiply x"),
        ((TEMPLATE - 56) * 1.4 + 56, r"49% of the aligned face would lie outside the picture, more than 33%"),
        (np.ones((5, 2)), "coincide"),
        (TEMPLATE[[0, 0, 2, 3, 4]], "coincide"),
        (TEMPLATE[:4], r"five points \[5, 2\]"),
    ],
)
def test_points_without_an_alignment_are_refused(points, message):
    with pytest.raises(ValueError, match=rf"^face\.png: .*{message}"):
        align(np.zeros((112, 112, 3), np.uint8), points, "face.png")


def test_the_share_outside_is_that_of_the_face_s_pixels():
    for shift, share in ((0, 0), (28, 28 / 112), (-56, 56 / 112)):  # whole pixel columns leave the picture
        matrix = similarity_transform(TEMPLATE + np.array([shift, 0]))[0]
        assert share_outside(matrix, (112, 112)) == pytest.approx(share, abs=1e-9)
    assert align(np.full((112, 112, 3), 9, np.uint8), TEMPLATE + np.array([28, 0])).min() == 0


def test_a_face_without_content_is_refused():
    dark = noise(112, 112, 3) // 20
    for good in (dark, noise(112, 112, 3), np.where(np.arange(112)[:, None, None] < 60, noise(112, 112, 3), 0)):
        check_content(good.astype(np.uint8), "x.png")
    corner = np.zeros((112, 112, 3), np.uint8)
    corner[:10, :10] = 255
    for bad in (np.full((112, 112, 3), (250, 120, 10), np.uint8), corner, noise(112, 112, 3) // 64):
        with pytest.raises(ValueError, match=r"^x\.png: the picture has no content, 99% of it is one colour"):
            check_content(bad, "x.png")


def test_another_kind_of_array_is_refused():
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\], not float64"):
        align(np.zeros((112, 112, 3)), TEMPLATE)


def write(path, rows, header=("image", *COLUMNS)):
    path.write_text("\n".join(",".join(map(str, row)) for row in (header, *rows)) + "\n")
    return path


def test_landmarks_are_read_by_column_name(tmp_path):
    path = write(
        tmp_path / "l.csv",
        [("a/1.png", "x", *TEMPLATE.ravel()), ("b c/ü.png", "", *[""] * 10)],
        ("image", "how", *COLUMNS),
    )
    landmarks = read_landmarks(path)
    assert list(landmarks) == ["a/1.png"]
    np.testing.assert_array_equal(landmarks["a/1.png"], TEMPLATE)
    rows = read_landmark_rows(path)
    assert list(rows) == ["a/1.png", "b c/ü.png"] and rows["b c/ü.png"] is None


def test_decimal_commas_between_semicolons_are_numbers(tmp_path):
    cells = ";".join(f"{value:.4f}".replace(".", ",") for value in TEMPLATE.ravel())
    (tmp_path / "l.csv").write_text(";".join(("image", *COLUMNS)) + f"\na.png;{cells}\n")
    np.testing.assert_allclose(read_landmarks(tmp_path / "l.csv")["a.png"], TEMPLATE)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", *TEMPLATE.ravel()), ("a", *TEMPLATE.ravel())], "line 3: this picture is listed"),
        ([("a", *TEMPLATE.ravel()[:9], "")], "line 2: mouth_right_y is ''"),
        ([("a", "1e9", *TEMPLATE.ravel()[1:])], "line 2: eye_left_x is '1e9'"),
        ([("a", "nan", *TEMPLATE.ravel()[1:])], "line 2: eye_left_x is 'nan'"),
        ([("a", *TEMPLATE.ravel()[:9])], "line 2: 10 cells, the header has 11"),
        ([], "no rows"),
        ([("a", *[""] * 10)], "none of its 1 rows"),
    ],
)
def test_bad_landmarks_name_file_and_line(tmp_path, rows, message):
    with pytest.raises(ValueError, match=rf"l\.csv.*{message}"):
        read_landmarks(write(tmp_path / "l.csv", rows))


def test_missing_files_and_columns_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.csv does not exist"):
        read_rows(tmp_path / "none.csv", ("a",))
    with pytest.raises(ValueError, match="line 1: no column nose_y"):
        read_landmarks(write(tmp_path / "l.csv", [], [name for name in ("image", *COLUMNS) if name != "nose_y"]))
