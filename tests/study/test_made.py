"""What was made is noted with key and hashes: cut, changed, copied and unfinished results are distinguished."""

import dataclasses
import json
import os
import shutil

import pytest

from maskinv_lib.study import jobs, made
from maskinv_lib.study.profiles import get_profile
from maskinv_lib.study.runs import Run
from maskinv_lib.utils import files, paths
from tests.study.done import cut, do

TEXTS = {"a.txt": "first", "b.txt": "second"}


@pytest.fixture
def noted(tmp_path):
    """Two files and their note."""
    result = made.job_files(tmp_path / "run", "job", "a key", *(tmp_path / "run" / name for name in TEXTS))
    with result.making():
        for path in result.files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(TEXTS[path.name])
    return result


def test_a_note_holds_key_size_and_hash_and_no_path_of_the_machine(noted, tmp_path):
    note = json.loads(noted.note.read_text())
    assert note["key"] == "a key" and list(note["files"]) == ["a.txt", "b.txt"]
    facts = note["files"]["b.txt"]
    assert facts["size"] == 6 and facts["sha256"] == files.file_hash(tmp_path / "run/b.txt")
    assert str(tmp_path) not in noted.note.read_text()
    assert noted.faults() == {} == noted.faults(trust_times=False)


def test_what_was_not_noted_with_this_key_was_not_made(noted):
    assert dataclasses.replace(noted, key="another key").faults() is None
    noted.note.unlink()
    assert noted.faults() is None


def test_a_file_that_is_missing_cut_or_changed_is_a_fault(noted):
    first, second = noted.files
    cut(first)
    assert noted.faults() == {first: made.DAMAGED}
    second.unlink()
    assert noted.faults() == {first: made.DAMAGED, second: made.MISSING}
    first.write_text("FIRST")  # of the same size, later
    os.utime(first, (0, 0))
    assert noted.faults()[first] == made.DAMAGED


def test_only_where_times_are_trusted_a_change_with_the_old_time_is_not_seen(noted):
    first, status = noted.files[0], noted.files[0].stat()
    first.write_text("FIRST")
    os.utime(first, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert noted.faults() == {} and noted.faults(trust_times=False) == {first: made.DAMAGED}


def test_a_copy_is_read_once_and_then_taken_as_it_is(noted, tmp_path, monkeypatch):
    for path in noted.files:
        os.utime(path, (1, 1))
    read = []
    monkeypatch.setattr(made, "file_hash", lambda path: read.append(path.name) or files.file_hash(path))
    assert noted.faults() == {} and sorted(read) == ["a.txt", "b.txt"]
    assert noted.faults() == {} and len(read) == 2
    shutil.copytree(tmp_path / "run", tmp_path / "moved")
    moved = made.job_files(tmp_path / "moved", "job", "a key", *(tmp_path / "moved" / name for name in TEXTS))
    assert moved.faults() == {}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"key": "a key", "files": {"a.txt": 3}}', "\0"])
def test_a_damaged_note_is_a_fault_itself(noted, content):
    noted.note.write_text(content)
    assert noted.faults() == {noted.note: made.DAMAGED}


def test_a_maker_that_fails_leaves_no_note(noted):
    with pytest.raises(OSError, match="disk"), noted.making():
        assert not noted.note.exists()  # nor does one that is killed here
        raise OSError("the disk is full")
    assert noted.faults() is None
    noted.files[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.txt"), noted.making():
        pass
    assert noted.faults() is None


def test_files_that_need_not_be_written_count_once_they_were(noted, tmp_path):
    figure = tmp_path / "figures" / "f.svg"
    wider = dataclasses.replace(noted, more=(figure,))
    wider.write()
    assert wider.faults() == {}
    files.write_text(figure, "<svg/>")
    wider.write()
    assert wider.faults() == {}
    cut(figure)
    assert wider.faults() == {figure: made.DAMAGED}
    needed = dataclasses.replace(noted, files=(*noted.files, tmp_path / "run" / "c.txt"))
    assert needed.faults()[tmp_path / "run" / "c.txt"] == made.MISSING  # it exists in no note


# Jobs


@pytest.fixture
def study():
    """The jobs of a smoke study, all done; label -> job."""
    for job in jobs.prepare_seeds(get_profile("smoke"), range(1))[0]:
        do(job)
    return found()


def found(seeds: int = 1) -> dict[str, made.Job]:
    return {job.label: job for job in jobs.prepare_seeds(get_profile("smoke"), range(seeds))[0]}


def stale(study: dict[str, made.Job]) -> list[str]:
    return [label for label, job in study.items() if job.stale]


def test_a_study_that_is_done_has_no_stale_job_and_no_inputs(study):
    assert stale(study) == [] and {job.inputs for job in study.values()} == {()}
    assert made.damage(study.values()) == []


CUT = {
    "seed-0/elasticface-arc/metrics.json": ("evaluate elasticface-arc, seed 0", "elasticface-arc, seed 0"),
    "seed-0/elasticface-arc/resamples.npz": ("evaluate elasticface-arc, seed 0", "elasticface-arc, seed 0"),
    "seed-0/elasticface-arc/evaluate.ipynb": ("evaluate elasticface-arc, seed 0", "elasticface-arc, seed 0"),
    "seed-0/elasticface-arc/model.safetensors": ("train elasticface-arc, seed 0", "elasticface-arc, seed 0"),
    "seed-0/elasticface-arc/run.json": ("train elasticface-arc, seed 0", "elasticface-arc, seed 0"),
    "seed-0/elasticface-arc/log.jsonl": ("train elasticface-arc, seed 0", "elasticface-arc, seed 0"),
    "seed-0/elasticface-arc/train.ipynb": ("train elasticface-arc, seed 0", "elasticface-arc, seed 0"),
    "faces.json": ("render faces", "render faces"),
    "faces-and-masks.ipynb": ("show faces and masks", "show faces and masks"),
    "compare.ipynb": ("compare the stages", "compare the stages"),
    "tables/metrics.csv": ("compare the stages", "compare the stages"),
}


@pytest.mark.parametrize("name", CUT)
def test_exactly_the_job_of_a_cut_file_is_stale_and_a_target_and_named(study, name):
    label, owner = CUT[name]
    path = paths.runs() / "smoke" / name
    content = cut(path)
    again = found()
    assert stale(again) == [label]
    assert made.damage(again.values()) == [f"{path.name} of {owner} is damaged or was changed: it is made again"]
    job = again[label]
    assert job.inputs == (job.key_file, *job.needs) and job.outputs[0] in jobs.targets(again.values())
    assert job.key_file.stat().st_mtime_ns > max(output.stat().st_mtime_ns for output in job.outputs)
    path.write_bytes(content)
    assert stale(found()) == []


def test_an_undone_edit_or_a_copied_folder_runs_nothing(study, monkeypatch, tmp_path):
    key = Run.key
    monkeypatch.setattr(Run, "key", property(lambda run: f"edited {key.func(run)}"))
    assert len(stale(found())) == 5  # all but the faces and the gallery
    monkeypatch.setattr(Run, "key", key)
    assert stale(found()) == [] and {job.inputs for job in found().values()} == {()}
    shutil.copytree(paths.runs(), tmp_path / "copy", copy_function=shutil.copyfile)
    monkeypatch.setenv("MASKINV_RUNS", str(tmp_path / "copy"))
    assert stale(found()) == []


def test_a_stale_job_is_newer_than_results_from_a_clock_ahead(study):
    job = study["compare the stages"]
    for path in job.outputs:
        cut(path)
        os.utime(path, (4e9, 4e9))
    assert found()[job.label].key_file.stat().st_mtime > 4e9


def test_numbers_count_without_their_notebook_and_a_notebook_only_if_it_was_noted(study):
    job = study["evaluate elasticface-arc, seed 0"]
    job.outputs[0].unlink()
    evaluated = found()[job.label]
    assert not evaluated.stale and not evaluated.restored and evaluated.inputs == (job.key_file, *job.needs)
    job.run.model_file.unlink()
    restored = found()[job.label]
    assert not restored.stale and restored.restored and restored.inputs == ()
    job.outputs[0].write_text("executed, but its process died")
    job.own.note.unlink()
    assert found()[job.label].stale


def test_a_comparison_that_must_be_made_waits_for_damaged_facts(study):
    model = paths.runs() / "smoke/seed-0/elasticface-arc/model.safetensors"
    assert model not in found()["compare the stages"].needs
    cut(model.with_name("run.json"))
    assert model in found()["compare the stages"].needs
