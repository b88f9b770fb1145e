import math
import subprocess
import sys
import time

import pytest

from maskinv_lib.utils import files


def test_a_file_is_written_atomically(tmp_path):
    path = tmp_path / "below" / "a.txt"
    files.write_text(path, "first")
    with pytest.raises(RuntimeError), files.whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "first"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_json_round_trip_and_refusals(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": [1, 2.5], "a": None})
    assert files.read_json(tmp_path / "a.json") == {"a": None, "b": [1, 2.5]}
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "b.json", {"a": math.nan})
    assert not (tmp_path / "b.json").exists()
    (tmp_path / "c.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"c\.json is not valid JSON.*Delete it"):
        files.read_json(tmp_path / "c.json")


def test_hashes_follow_content_only(tmp_path):
    assert files.content_hash({"a": 1, "b": 2}) == files.content_hash({"b": 2, "a": 1})
    assert files.content_hash({"a": 1}) != files.content_hash({"a": 2})
    for name in ("x", "y"):
        (tmp_path / name).write_bytes(b"same")
    assert files.file_hash(tmp_path / "x") == files.file_hash(tmp_path / "y")


HOLD = """
import sys, time
from maskinv_lib.utils.files import only_process
with only_process(sys.argv[1], "the run"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path):
    path = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with (
        pytest.raises(RuntimeError, match=f"the run is in use by process {process.pid} "),
        files.only_process(path, "the run"),
    ):
        pass
    process.kill()
    process.wait()
    for _ in range(100):
        try:
            with files.only_process(path, "the run"):
                return
        except RuntimeError:
            time.sleep(0.05)
    pytest.fail("the lock outlived its process")


def test_json_that_is_no_object_is_refused_with_its_file(tmp_path):
    for content in ("[1]", "3", "null", '"text"'):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(ValueError, match=r"a\.json holds no JSON object.*Delete it"):
            files.read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
        files.read_json(tmp_path / "a.json")


def test_of_json_lines_only_the_whole_ones_are_read(tmp_path):
    path = tmp_path / "a.jsonl"
    assert files.read_json_lines(path) == []
    path.write_bytes(b'{"a": 1}\n\xff\n[2]\n\n{"a": 3}\n{"a": ')
    assert files.read_json_lines(path) == [{"a": 1}, {"a": 3}]


@pytest.mark.parametrize("existed", [True, False])
def test_a_folder_is_replaced_for_good_or_not_at_all(tmp_path, existed):
    path, new = tmp_path / "results", tmp_path / "hidden" / "new"

    def filled():
        if existed:
            files.write_text(path / "a.txt", "before")
        files.write_text(new / "a.txt", "after")
        return sorted(entry.name for entry in tmp_path.iterdir())

    names = filled()
    with pytest.raises(RuntimeError), files.in_place_of(path, new):
        assert (path / "a.txt").read_text() == "after"
        raise RuntimeError
    assert sorted(entry.name for entry in tmp_path.iterdir()) == names
    assert not existed or (path / "a.txt").read_text() == "before"
    filled()
    with files.in_place_of(path, new):
        pass
    assert (path / "a.txt").read_text() == "after" and list((tmp_path / "hidden").iterdir()) == []


def test_an_archive_is_written_the_same_whatever_the_order_and_read_without_unpacking(tmp_path):
    contents = {"b/two.json": b'{"x": 2}', "a/one.txt": b"one" * 50}
    files.write_archive(tmp_path / "one.zip", contents)
    files.write_archive(tmp_path / "two.zip", dict(reversed(contents.items())))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert files.read_archive(tmp_path / "one.zip") == contents and files.read_archive(tmp_path / "none.zip") == {}
    inside = files.inside(tmp_path / "one.zip", "b/")
    assert files.read_json(inside / "two.json") == {"x": 2} and not (inside / "three.json").exists()
    assert files.read_archive(tmp_path / "one.zip") == contents  # a path inside adds no folder to it
    assert not files.inside(tmp_path / "none.zip", "b/").exists()
    files.write_archive(tmp_path / "one.zip", {"b/two.json": b"[]"})
    with pytest.raises(ValueError, match=r"one\.zip/b/two\.json holds no JSON object"):
        files.read_json(files.inside(tmp_path / "one.zip", "b/") / "two.json")


def test_a_damaged_archive_is_named(tmp_path):
    path = tmp_path / "one.zip"
    files.write_archive(path, {"a": bytes(range(200))})
    content = path.read_bytes()
    for damaged in (content[:-30], content[:60] + b"xxx" + content[63:], b"", b"text"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"one\.zip is damaged .*Take it from the repository again"):
            files.read_archive(path)
