"""One picture is found by every spelling of its name; what may mean two is refused."""

import unicodedata

import pytest

from maskinv_lib.faces.names import PictureNames, folded, is_text, shown, some, stem

NAMES = ("Zoë/1.png", "ada/B.png", "ada/c.png")


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Zoë/1.png", "Zoë/1.png"),
        (decomposed("Zoë/1.png"), "Zoë/1.png"),
        ("ZOË\\1.PNG", "Zoë/1.png"),
        ("./ada/../ada//B.png", "ada/B.png"),
        ("{root}/ada/B.png", "ada/B.png"),
        ("{root}\\ada\\b.png", "ada/B.png"),
        ("people/ada/c.png", "ada/c.png"),  # relative to the list's folder
        ("../lists/people/ada/c.png", "ada/c.png"),
        ("B.png", None),
        ("ada/d.png", None),
        ("/elsewhere/ada/c.png", None),
    ],
)
def test_every_spelling_finds_the_picture(tmp_path, text, name):
    root = tmp_path / "lists" / "people"
    pictures = PictureNames(NAMES, root, [tmp_path / "lists"])
    assert pictures.find(text.format(root=root), "l.csv") == name
    files = PictureNames(map(decomposed, NAMES), root, [tmp_path / "lists"])  # as a Mac stores them
    assert files.find(text.format(root=root), "l.csv") == (name and decomposed(name))


def test_a_root_behind_a_link_is_found_by_both_paths(tmp_path):
    (tmp_path / "real" / "ada").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    pictures = PictureNames(["ada/c.png"], tmp_path / "link")
    for root in ("real", "link"):
        assert pictures.find(f"{tmp_path}/{root}/ada/c.png", "l.csv") == "ada/c.png"


def test_the_exact_name_comes_first_and_two_similar_ones_are_ambiguous(tmp_path):
    pictures = PictureNames(["ada/1.png", "Ada/1.png", "people/ada/1.png"], tmp_path / "people", [tmp_path])
    assert pictures.find("Ada/1.png", "l.csv") == "Ada/1.png"
    with pytest.raises(ValueError, match=r"l\.csv: ADA/1\.png may mean Ada/1\.png, ada/1\.png\. Write the name"):
        pictures.find("ADA/1.png", "l.csv")
    with pytest.raises(ValueError, match=r"people/ada/1\.png may mean ada/1\.png, people/ada/1\.png"):
        pictures.find("people/ada/1.png", "l.csv")


def test_a_file_s_name_alone_is_found_only_where_that_is_asked_for(tmp_path):
    names = ["x/ann.png", "y/ben.png", "z/ben.png"]
    assert PictureNames(names, tmp_path).find("ann.png", "l.csv") is None
    assert PictureNames(names, tmp_path, bare=True).find("Ann.png", "l.csv") == "x/ann.png"
    with pytest.raises(ValueError, match=r"ben\.png may mean y/ben\.png, z/ben\.png"):
        PictureNames(names, tmp_path, bare=True).find("ben.png", "l.csv")


def test_rows_are_assigned_once(tmp_path):
    pictures = PictureNames(NAMES, tmp_path)
    assert pictures.assign({"ada\\b.png": 1, "x.png": 2, "Zoë/1.png": 3}, "l.csv") == (
        {"ada/B.png": 1, "Zoë/1.png": 3},
        ["x.png"],
    )
    with pytest.raises(ValueError, match=r"l\.csv: ada\\b\.png and \./ada/B\.png are one picture"):
        pictures.assign({"ada\\b.png": 1, "./ada/B.png": 2}, "l.csv")


def test_names_are_shown_folded_and_shortened():
    assert folded(decomposed("ZOË")) == folded(" zoë") != folded("zoe")
    assert is_text("Zoë") and not is_text("a\udcff") and shown("a\udcff/ë") == "a\\udcff/ë"
    assert some([f"{n}" for n in range(7)]) == "0, 1, 2, 3, 4, and 2 more" and some(["a"]) == "a"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.PNG", "a/b"),
        ("a.b/c", "a.b/c"),
        ("x.tar.jp2", "x.tar"),
        ("J. Smith 1", "J. Smith 1"),
        ("a.0001", "a.0001"),
    ],
)
def test_the_ending_is_letters_after_the_last_dot(name, expected):
    assert stem(name) == expected
