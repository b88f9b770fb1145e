"""The execution of one notebook, its files when it fails, and the lock of a study."""

import json

import nbformat
import pytest

from maskinv_lib.study.launch import StudyLock, notebook_job
from maskinv_lib.utils import paths

pytestmark = pytest.mark.study


def notebook(path, *cells):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.cells[0].metadata["tags"] = ["parameters"]
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, path)
    return path


def events():
    return [json.loads(line) for line in (paths.runs() / "toy/events.jsonl").read_text().splitlines()]


def test_an_executed_notebook_appears_only_if_every_cell_ran(tmp_path):
    source = notebook(
        tmp_path / "02-toy.ipynb", "number = 1", "import os\nprint(number * 21, os.environ['OMP_NUM_THREADS'])"
    )
    out, parameters = tmp_path / "out" / "a.ipynb", {"profile": "toy", "stage": "s", "seed": 0, "number": 2}
    assert notebook_job(source, out, parameters, label="train s, seed 0") == 0
    assert "42 1" in out.read_text() and not out.with_suffix(".failed.ipynb").exists()
    assert [(e["job"], e["what"]) for e in events()] == [("train s, seed 0", "start"), ("train s, seed 0", "end")]


def test_a_failed_or_killed_notebook_leaves_its_error_and_no_result(tmp_path, capsys):
    for name, cell, word in (("a", "1 / 0", "ZeroDivisionError"), ("b", "import os\nos.kill(os.getpid(), 9)", "died")):
        source = notebook(tmp_path / f"03-{name}.ipynb", "profile = ''", cell)
        out, failed = tmp_path / f"{name}.ipynb", tmp_path / f"{name}.failed.ipynb"
        assert notebook_job(source, out, {"profile": "toy"}, label=f"evaluate {name}") == 1
        assert f"evaluate {name} failed: " in (message := capsys.readouterr().err) and str(failed) in message
        assert not out.exists() and failed.exists()
        assert word.lower() in events()[-1]["error"].lower() and events()[-1]["what"] == "fail"
    assert not list(tmp_path.glob(".*running*"))


def test_a_held_lock_refuses_a_second_study(tmp_path):
    lock = StudyLock(tmp_path / "runs" / "toy")
    lock.take()
    with pytest.raises(RuntimeError, match="is in use by process"):
        StudyLock(tmp_path / "runs" / "toy").take()
    lock.held.close()
    StudyLock(tmp_path / "runs" / "toy").take()
