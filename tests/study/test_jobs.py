"""Which jobs are stale, from files and their times alone."""

import os

import pytest

from maskinv_lib.study import jobs
from maskinv_lib.study.profiles import STAGES, get_profile
from maskinv_lib.study.runs import Run, planned_runs
from maskinv_lib.utils import paths

PROFILE = get_profile("smoke")


@pytest.fixture
def run():
    found = planned_runs(PROFILE, range(1))[0]
    jobs.prepare(PROFILE, [found])
    return found


def make(run, *names):
    run.folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (run.folder / name).touch()


def test_a_job_is_stale_until_its_results_are_newer_than_key_and_notebook(run):
    assert jobs.stale(run, "evaluate")
    make(run, "metrics.json")
    assert jobs.stale(run, "evaluate")
    make(run, "resamples.npz")
    assert not jobs.stale(run, "evaluate")
    later = (run.folder / "metrics.json").stat().st_mtime + 5
    os.utime(jobs.key_file(run, "evaluate"), (later, later))
    assert jobs.stale(run, "evaluate")


def test_a_parent_without_its_milestone_is_stale():
    parent = Run(profile=get_profile("laptop"), stage=STAGES["maskinv-lg"], seed=0, overrides={})
    jobs.prepare(parent.profile, [parent])
    make(parent, "train.ipynb", "model.safetensors")
    assert jobs.stale(parent, "train")
    parent.milestone_file(parent.stage.milestones[0]).touch()
    assert not jobs.stale(parent, "train")


def test_a_profile_s_jobs_are_stale_too(run):
    assert jobs.stale(PROFILE, "compare") and jobs.stale(PROFILE, "gallery")
    (paths.runs() / "smoke/faces-and-masks.ipynb").touch()
    assert not jobs.stale(PROFILE, "gallery")


def test_of_a_restored_run_only_the_numbers_are_wanted(run):
    assert [path.name for path in jobs.wanted(run)] == ["train.ipynb", "evaluate.ipynb"]
    make(run, "metrics.json", "resamples.npz")
    assert [path.name for path in jobs.wanted(run)] == ["metrics.json"]
    make(run, "model.safetensors")
    assert [path.name for path in jobs.wanted(run)] == ["train.ipynb", "evaluate.ipynb"]


def test_more_seeds_of_the_rungs_draw_the_sweeps_again():
    wide = get_profile("smoke", "all")
    key = paths.runs() / "smoke/keys/sweeps"
    found = []
    for seeds in (1, 2):
        jobs.prepare(wide, planned_runs(wide, range(seeds)))
        found.append(key.read_text())
    assert found[0] != found[1]


def test_key_files_are_rewritten_only_when_they_change(run):
    files = sorted((paths.runs() / "smoke/keys").rglob("*"))
    before = [path.stat().st_mtime_ns for path in files]
    jobs.prepare(PROFILE, [run])
    assert [path.stat().st_mtime_ns for path in files] == before
    assert {path.name for path in files} >= {"faces", "gallery", "compare", "elasticface-arc.train"}
