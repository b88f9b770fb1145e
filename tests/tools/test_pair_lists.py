"""Lists of pairs: both formats, names as other systems write them, and pictures that are not there."""

import pytest

from maskinv_lib.tools.pair_lists import read_pair_list
from tests.tools.samples import save_people


@pytest.fixture
def people(patterned, tmp_path):
    return save_people(tmp_path / "people", patterned, range(2))


def test_a_csv_names_pictures_in_any_way(people, tmp_path):
    lines = ["first;second", "p00/p00_0001.png;./p00/p00_0002.png", f"P00\\p00_0001.PNG;{people}/p01/p01_0003.png"]
    (tmp_path / "list.csv").write_text("\r".join(lines), encoding="utf-16")
    pairs, names = read_pair_list(tmp_path / "list.csv", people)
    assert pairs == [("p00/p00_0001.png", "p00/p00_0002.png"), ("p00/p00_0001.png", "p01/p01_0003.png")]
    assert names == ["p00/p00_0001.png", "p00/p00_0002.png", "p01/p01_0003.png"]


def test_the_lists_own_folder_is_the_default(people):
    (people / "list.csv").write_text("first,second\np00/p00_0001.png,p01/p01_0001.png\n")
    assert read_pair_list(people / "list.csv")[0] == [("p00/p00_0001.png", "p01/p01_0001.png")]


def test_a_pairs_file_of_lfw(people, tmp_path):
    (tmp_path / "pairs.txt").write_text("p00 1 2\np00 3 p01 4\n")
    pairs, _ = read_pair_list(tmp_path / "pairs.txt", people)
    assert pairs == [("p00/p00_0001.png", "p00/p00_0002.png"), ("p00/p00_0003.png", "p01/p01_0004.png")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "first,second\np00/p00_0001.png,p09/x.png\n", "line 2: 'p09/x.png' is no picture"),
        ("a.csv", "one,two\na,b\n", "no column first, second"),
        ("a.txt", "p00 1 9\n", "line 1: picture 9 of p00"),
    ],
)
def test_what_is_missing_is_named_with_its_line(people, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_pair_list(tmp_path / name, people)


def test_a_missing_folder_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("first,second\na,b\n")
    with pytest.raises(ValueError, match="nowhere is no folder"):
        read_pair_list(tmp_path / "a.csv", tmp_path / "nowhere")
