"""The commands for folders, as a user types them, on what people really have."""

import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from maskinv_lib.__main__ import main
from maskinv_lib.faces import landmarks, recordio
from maskinv_lib.faces.alignment import COLUMNS
from tests.conftest import ROOT, run_module

POINTS = np.array([[38, 52], [74, 52], [56, 72], [42, 92], [71, 92]]) * 2 + 20


def write_points(path, points):
    lines = [f"{name},{','.join(map(str, five.ravel()))}\n" for name, five in points.items()]
    path.write_text(",".join(("image", *COLUMNS)) + "\n" + "".join(lines))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two people, two pictures each: as photographs, as a telephone stores them, and as small faces; their points."""
    exif, points = Image.Exif(), {}
    exif[274] = 6
    for name, grey in (("a", 60), ("b", 120)):
        photograph = np.full((260, 260, 3), grey, np.uint8)
        for i, (x, y) in enumerate(POINTS):
            photograph[y - 6 : y + 6, x - 6 : x + 6] = np.eye(3)[i % 3] * 240
        for j in (1, 2):
            image, file = Image.fromarray(photograph + j), f"{name}/{j}.png"
            points[file] = POINTS
            for kind in ("plain", "phone", "small"):
                (tmp_path / kind / name).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "plain" / file)
            image.rotate(90).save(tmp_path / "phone" / file, exif=exif)
            image.resize((112, 112)).save(tmp_path / "small" / file)
    write_points(tmp_path / "points.csv", points)
    write_points(tmp_path / "scaled.csv", {name: five * 1.8 for name, five in points.items()})
    write_points(tmp_path / "back.csv", {name.replace("/", "\\"): five for name, five in points.items()})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, command: str, code: int = 0) -> str:
    """Run a command, check its exit code, and return its output, or the one error of a refusal."""
    assert main(command.split()) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err and (code == 0 or (out == "" and err.count("Error: ") == 1))
    return err if code else out


def images(path):
    return recordio.faces(recordio.open_records(path), source="records").images.int()


def test_a_telephone_s_sideways_pixels_are_the_upright_picture(folder, capsys):
    run(capsys, "records plain p --landmarks points.csv")
    run(capsys, "records phone q --landmarks points.csv")
    assert (images(folder / "p") - images(folder / "q")).abs().max() <= 2
    for command in ("mask", "align"):
        for kind in ("plain", "phone"):
            run(capsys, f"{command} {kind} {command}-{kind} --landmarks points.csv")
        for name in ("a/1.png", "b/2.png"):
            plain, phone = (np.asarray(Image.open(f"{command}-{kind}/{name}")) for kind in ("plain", "phone"))
            np.testing.assert_array_equal(plain, phone)


def test_points_of_another_size_are_one_error_and_nothing_is_written(folder, capsys):
    text = run(capsys, "records plain r --landmarks scaled.csv", 2)
    assert "4 of 4 entries" in text and "a/1.png: 4 of its five points lie outside its 260 x 260 pixels" in text
    assert not (folder / "r").exists()


@pytest.mark.parametrize("command", ["records", "mask", "align", "verification-set"])
def test_a_list_with_backslashes_is_found_by_every_command(folder, capsys, command):
    target = "s.bin" if command == "verification-set" else "s"
    run(capsys, f"{command} plain {target} --landmarks back.csv")
    text = run(capsys, f"{command} small t{target} --landmarks back.csv", 2)
    assert "a/1.png: 5 of its five points lie outside its 112 x 112 pixels" in text and not list(folder.glob("t*"))


@pytest.mark.parametrize("command", ["records", "mask", "align", "verification-set"])
def test_half_a_list_is_an_error_that_names_both_sides(folder, capsys, command):
    target = "s.bin" if command == "verification-set" else "s"
    write_points(folder / "half.csv", {"a/1.png": POINTS, "a/2.png": POINTS, "b/1.png": POINTS, "c/9.png": POINTS})
    text = run(capsys, f"{command} plain {target} --landmarks half.csv", 2)
    assert "b/2.png: no row in half.csv" in text and "rows without a picture: 1, c/9.png" in text
    assert "--skip-bad" in text and not (folder / target).exists()
    run(capsys, f"{command} plain {target} --landmarks half.csv --skip-bad")


def test_every_picture_behind_links_and_with_any_ending_is_masked(folder, capsys):
    (folder / "l").mkdir()
    (folder / "l" / "a").symlink_to(folder / "small" / "a")
    shutil.copytree("small/b", "l/b")
    (folder / "l" / "Thumbs.db").write_bytes(b"x")
    for ending in ("jfif", "jpe", "webp"):
        Image.open("small/a/1.png").save(f"l/{ending}.{ending}", "WEBP" if ending == "webp" else "JPEG")
    shutil.copy("small/a/1.png", "l/none")
    text = run(capsys, "mask l out")
    assert "8 masked faces in out" in text and "left behind by a system): 1, Thumbs.db" in text
    assert len([path for path in (folder / "out").rglob("*") if path.is_file()]) == 8


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_in_other_encodings_are_read(folder, capsys, encoding):
    (folder / "u.csv").write_text((folder / "points.csv").read_text().replace(",", ";"), encoding=encoding)
    run(capsys, "records plain x --landmarks u.csv")
    assert len(images(folder / "x")) == 4


def test_a_list_in_an_unmarked_encoding_names_file_and_encoding(folder, capsys):
    (folder / "w.csv").write_bytes((folder / "points.csv").read_text().replace("b/2", "Zoë/2").encode("cp1252"))
    text = run(capsys, "records plain x --landmarks w.csv", 2)
    assert "w.csv line 5: this is not UTF-8" in text and "Windows-1252" in text and not (folder / "x").exists()


def test_records_say_what_limits_the_training(folder, capsys):
    main(["records", "plain", "p", "--landmarks", "points.csv"])
    out, err = capsys.readouterr()
    assert err.startswith("Warning: plain: 4 faces are fewer than one batch of 64") and "UserWarning" not in err
    assert "2 people are too few" in err and "p/train.rec: 4 pictures of 2 people" in out


def test_align_prints_what_was_left_out_and_detects(folder, capsys, monkeypatch):
    monkeypatch.setattr(landmarks, "find_landmarks", lambda picture, where: POINTS)
    (folder / "plain" / "a" / "3.png").write_bytes(b"x")
    (folder / "plain" / "note.txt").write_text("x")
    text = run(capsys, "align plain out --find-landmarks --skip-bad")
    assert text.splitlines()[0].startswith("left out: a/3.png: does not decode as a picture (")
    assert "left out (no picture): 1, note.txt" in text and text.endswith("4 aligned faces in out, 1 left out\n")
    assert (folder / "out" / "left_out.csv").read_text().count("\n") == 2
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, "retinaface", None)
    assert "pip install -e '.[landmarks]'" in run(capsys, "align plain new --find-landmarks", 2)
    assert not (folder / "new").exists()


def test_names_that_are_no_text_are_shown_escaped_even_without_a_locale(folder):
    os.rename(folder / "small" / "b", os.fsencode(folder) + b"/small/\xff")
    settings = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = run_module("maskinv_lib", *["records", "small", "out"], cwd=folder, **settings)
    assert done.returncode == 2 and "\\udcff: its name is not valid UTF-8" in done.stderr, done.stderr
    assert not (folder / "out").exists()
