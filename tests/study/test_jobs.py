"""The jobs of a study, which of them are stale by files and their times, and what the workflow reads of them."""

import dataclasses
import os
import shlex

import pytest

from maskinv_lib.study import jobs
from maskinv_lib.study.data import Benchmark, RealFaces
from maskinv_lib.study.profiles import STAGES, get_profile
from maskinv_lib.study.runs import Run, planned_runs
from maskinv_lib.utils import fingerprints, paths
from tests import tiny

PROFILE = get_profile("smoke")


@pytest.fixture
def run():
    run = planned_runs(PROFILE, range(1))[0]
    jobs.prepare(PROFILE, [run])
    return run


def touch(run, *names):
    run.folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (run.folder / name).touch()


def test_a_job_is_stale_until_its_results_are_newer_than_key_and_notebook(run):
    job = jobs.evaluate_job(run)
    assert job.stale and set(job.needs) <= set(job.inputs)
    touch(run, "metrics.json")
    assert job.stale
    touch(run, "resamples.npz")
    assert not job.stale and job.inputs == (job.key_file, job.notebook)
    later = (run.folder / "metrics.json").stat().st_mtime + 5
    os.utime(job.key_file, (later, later))
    assert job.stale


def test_a_parent_without_its_milestone_is_stale():
    parent = Run(profile=get_profile("laptop"), stage=STAGES["maskinv-lg"], seed=0, overrides={})
    jobs.prepare(parent.profile, [parent])
    touch(parent, "train.ipynb", "model.safetensors")
    assert jobs.train_job(parent).stale
    parent.milestone_file(parent.stage.milestones[0]).touch()
    assert not jobs.train_job(parent).stale


def test_a_profile_s_jobs_are_stale_too(run):
    gallery, compare = jobs.profile_jobs(PROFILE, [run])
    assert gallery.stale and compare.stale
    (paths.runs() / "smoke/faces-and-masks.ipynb").touch()
    assert not gallery.stale


def test_of_a_restored_run_only_the_numbers_are_targets(run):
    def names():
        return [path.name for path in jobs.targets(jobs.study_jobs(PROFILE, [run]))][
            2:
        ]  # behind gallery and comparison

    assert names() == ["train.ipynb", "evaluate.ipynb"]
    touch(run, "metrics.json", "resamples.npz")
    assert names() == ["metrics.json"]
    touch(run, "model.safetensors")
    assert names() == ["train.ipynb", "evaluate.ipynb"]


def test_more_seeds_of_the_rungs_draw_the_sweeps_again():
    wide = get_profile("smoke", "all")
    key = paths.runs() / "smoke/keys/sweeps"
    texts = []
    for seeds in (1, 2):
        jobs.prepare(wide, planned_runs(wide, range(seeds)))
        texts.append(key.read_text())
    assert texts[0] != texts[1]


def test_key_files_are_rewritten_only_when_they_change(run):
    files = sorted((paths.runs() / "smoke/keys").rglob("*"))
    before = [path.stat().st_mtime_ns for path in files]
    jobs.prepare(PROFILE, [run])
    assert [path.stat().st_mtime_ns for path in files] == before
    assert {path.name for path in files} >= {"faces", "gallery", "compare", "elasticface-arc.train"}


def test_labels_name_the_rules_and_rungs_run_in_notebooks(run):
    train, evaluate = jobs.run_jobs(run)
    assert (train.label, evaluate.label) == ("train elasticface-arc, seed 0", "evaluate elasticface-arc, seed 0")
    assert train.name == "train_elasticface_arc_seed_0"
    command = shlex.split(train.shell)
    assert command[0] == "notebook" and command[command.index("--label") + 1] == train.label
    assert command[-6:] == ["-p", "stage", "elasticface-arc", "-p", "seed", "0"]
    changed = dataclasses.replace(run, overrides={"mask_probability": 0.1})
    job = jobs.train_job(changed)
    assert job.notebook is None and job.outputs == (changed.model_file,)
    assert shlex.split(job.shell)[-2:] == ["--overrides", "mask_probability=0.1"]


def test_several_benchmarks_have_jobs_and_folders_of_their_own(run):
    profile = dataclasses.replace(PROFILE, benchmarks=(Benchmark(name="one"), Benchmark(name="two")))
    several = dataclasses.replace(run, profile=profile)
    evaluations = jobs.run_jobs(several)[1:]
    assert [job.label for job in evaluations] == [f"evaluate elasticface-arc, seed 0 on {n}" for n in ("one", "two")]
    assert [job.outputs[0].parent.name for job in evaluations] == ["one", "two"]
    assert len({job.key_file for job in evaluations}) == 2
    compare = jobs.compare_job(profile, profile.benchmarks[1], [several], 1)
    assert compare.label == "compare the stages on two" and compare.log.name == "compare-two.log"
    assert [path.parent.name for path in compare.outputs] == ["two"] * 3


def test_trials_of_rendered_people_do_not_depend_on_the_code_for_photographs(monkeypatch):
    hashed = set()
    monkeypatch.setattr(fingerprints, "code_hash", lambda *modules: hashed.update(modules) or "")
    monkeypatch.setattr(jobs.tuning, "trials", lambda profile: [tiny.run_of("kd-only")])
    tiny.register(monkeypatch, paths.runs())
    jobs.trial_jobs(tiny.profile())
    assert "evaluation.benchmarks.rendered" in hashed and "evaluation.benchmarks.drawn" not in hashed
    assert RealFaces.validation_code == ("evaluation.benchmarks.drawn",)
