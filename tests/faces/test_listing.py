"""One rule for the files of a folder: links, endings, content, what systems leave behind, and what is left out."""

import os

import pytest

from maskinv_lib.faces.listing import endings, list_folder
from tests.faces.samples import RED, jpeg, png


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "set"
    for name in ("a/1.png", "a/2.JFIF", "a/3.jpe", "a/4.avif", "a/5.heic", "a/b/6", "7.tif"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(RED))
    return root


PICTURES = ["7.tif", "a/1.png", "a/2.JFIF", "a/3.jpe", "a/4.avif", "a/5.heic", "a/b/6"]


def test_every_ending_that_pillow_reads_is_a_picture(tree):
    assert list_folder(tree).pictures == PICTURES
    assert {".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".tiff", ".bmp", ".gif", ".heif"} <= endings()
    assert not {".pdf", ".eps", ".mpg", ".h5", ".txt", ".csv"} & endings()


def test_a_file_without_an_ending_is_judged_by_its_content(tree):
    (tree / "a" / "note").write_text("P1 is no bitmap here")
    (tree / "a" / "empty").write_bytes(b"")
    (tree / "a" / "J. Smith 1").write_bytes(jpeg(RED))
    listing = list_folder(tree)
    assert listing.pictures == sorted([*PICTURES, "a/J. Smith 1"])
    assert listing.other == ["a/empty (not a picture by its content)", "a/note (not a picture by its content)"]


def test_hidden_files_and_what_systems_leave_behind_are_said_once(tree):
    left = ["a/.DS_Store", "a/._1.png", "Thumbs.db", "desktop.ini"]
    for name in left:
        (tree / name).write_bytes(png(RED))
    (tree / "__MACOSX" / "a").mkdir(parents=True)
    (tree / "__MACOSX" / "a" / "1.png").write_bytes(png(RED))
    (tree / "a" / "list.csv").write_text("x")
    listing = list_folder(tree)
    assert listing.pictures == PICTURES and listing.ignored == sorted([*left, "__MACOSX"])
    ignored = (
        "ignored (hidden, or left behind by a system): 5, Thumbs.db, __MACOSX, a/.DS_Store, a/._1.png, desktop.ini"
    )
    assert listing.notes == [ignored, "left out (no picture): 1, a/list.csv (not a picture by its ending)"]


def test_links_are_followed_and_a_loop_is_a_problem(tree, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "8.png").write_bytes(png(RED))
    (tree / "linked").symlink_to(tmp_path / "elsewhere")
    (tree / "again").symlink_to(tmp_path / "elsewhere")
    (tree / "9.png").symlink_to(tmp_path / "elsewhere" / "8.png")
    listing = list_folder(tree)
    assert listing.pictures == sorted([*PICTURES, "9.png", "again/8.png", "linked/8.png"]) and not listing.problems
    (tree / "a" / "up").symlink_to(tree)
    (tree / "gone.png").symlink_to(tmp_path / "gone")
    assert list_folder(tree).problems == [
        "a/up: links to a folder that contains it",
        "gone.png: cannot be opened (No such file or directory)",
    ]


def test_a_name_that_is_no_text_is_a_problem_and_shown_escaped(tree):
    os.mkdir(os.fsencode(tree) + b"/\xff\xfe")
    (tree / "a" / os.fsdecode(b"z\xe9.png")).write_bytes(png(RED))
    listing = list_folder(tree)
    assert listing.pictures == PICTURES
    assert [name.split(":")[0] for name in listing.problems] == ["\\udcff\\udcfe", "a/z\\udce9.png"]
    assert all("not valid UTF-8" in problem for problem in listing.problems)


def test_something_that_is_no_file_is_left_out(tree):
    os.mkfifo(tree / "pipe.png")
    assert list_folder(tree).other == ["pipe.png (not a file)"]
