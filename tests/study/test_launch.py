"""The execution of one notebook, its files when it fails, and the lock of a study."""

import json
import subprocess
import sys

import nbformat
import pytest

from maskinv_lib.study import jobs, launch
from maskinv_lib.study.launch import StudyLock, notebook_job, run_study
from maskinv_lib.utils import files, paths
from tests import tiny
from tests.conftest import ROOT
from tests.study.done import cut, do

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


def test_notebooks_are_run_without_the_grammars_that_no_notebook_needs(tmp_path):
    source = notebook(tmp_path / "02-toy.ipynb", "number = 1")
    code = (
        "import sys; from pathlib import Path; from maskinv_lib.study.launch import run_notebook\n"
        "run_notebook(Path(sys.argv[1]), Path(sys.argv[2]), {}, failed=Path(sys.argv[3]))\n"
        "assert 'papermill' in sys.modules and 'rfc3987_syntax' not in sys.modules"
    )
    places = [source, tmp_path / "out.ipynb", tmp_path / "failed.ipynb"]
    subprocess.run([sys.executable, "-c", code, *map(str, places)], cwd=ROOT, check=True)
    assert (tmp_path / "out.ipynb").exists()


METRICS = "stage,seed,condition,mask_kinds,metric,value\nelasticface-arc,0,unmasked-unmasked,none,eer,0.01\n"


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """The jobs of a study of the tiny profile, as if all were done; ``started`` says whether Snakemake would start."""
    tiny.register(monkeypatch, tmp_path / "runs")
    study, _ = jobs.prepare_seeds(tiny.profile(), range(1))
    for job in study:
        do(job)
    table = paths.runs() / "tiny/tables/metrics.csv"
    table.write_text(METRICS)
    study[-1].own.write()
    monkeypatch.setattr(launch, "_workflow", lambda *_: pytest.fail("Snakemake was started"))
    return study


def started() -> bool:
    """Return whether a study starts Snakemake."""
    try:
        assert run_study(tiny.profile(), range(1), 1) == 0
    except pytest.fail.Exception:
        return True
    return False


def test_a_finished_study_does_not_start_the_workflow(finished, capsys):
    assert not started()
    assert "Nothing to do: every result is up to date." in (out := capsys.readouterr().out) and "1.00" in out


@pytest.mark.parametrize(
    "name", ["compare.ipynb", "tables/differences.csv", "faces-and-masks.ipynb", "model.safetensors", "evaluate.ipynb"]
)
def test_what_is_missing_or_cut_starts_the_workflow(finished, name):
    path = next(path for job in finished for path in job.outputs if str(path).endswith(name))
    content = cut(path)
    assert started()
    path.write_bytes(content)
    assert not started()
    path.unlink()
    assert started() == (name != "model.safetensors")  # numbers without a model count as copied back


def test_other_code_more_seeds_and_a_lost_note_start_the_workflow(finished, monkeypatch):
    assert any(not path.exists() for path in jobs.prepare_seeds(tiny.profile(), range(2))[1])
    jobs.prepare_seeds(tiny.profile(), range(1))
    note = finished[1].results.note
    text = note.read_text()
    note.unlink()
    assert started()
    note.write_text(text)
    assert not started()
    monkeypatch.setattr(jobs.fingerprints, "code_hash", lambda *_: "other code")
    assert started()


def test_a_finished_study_that_another_process_holds_is_refused(finished):
    lock = StudyLock(paths.runs() / "tiny")
    lock.take()
    with pytest.raises(RuntimeError, match="is in use by process"):
        run_study(tiny.profile(), range(1), 1)
    lock.held.close()
    assert not started()


def test_numbers_that_were_copied_back_need_no_workflow(finished):
    for job in finished:
        if job.kind == "train":
            for path in [*job.outputs, *job.results.files]:
                path.unlink(missing_ok=True)
    assert not started()
    files.write_text(finished[1].run.model_file, "trained again for another run")
    assert started()
