"""The jobs of a study, their keys, and what the workflow reads of them; ``test_made`` tests which are stale."""

import dataclasses
import json
import shlex
import shutil

import pytest

from maskinv_lib.study import jobs
from maskinv_lib.study.data import Benchmark, RealFaces
from maskinv_lib.study.profiles import STAGES, get_profile
from maskinv_lib.study.runs import Run, planned_runs
from maskinv_lib.utils import files, fingerprints, paths
from tests import tiny
from tests.study.done import do

PROFILE = get_profile("smoke")


@pytest.fixture
def run():
    run = planned_runs(PROFILE, range(1))[0]
    jobs.prepare(PROFILE, [run])
    return run


def test_a_job_is_stale_until_its_results_are_noted(run):
    job = jobs.evaluate_job(run)
    assert job.stale and set(job.needs) <= set(job.inputs)
    for path in job.results.files:
        files.write_text(path, "written, and not noted")
    assert jobs.evaluate_job(run).stale
    do(job)
    assert not jobs.evaluate_job(run).stale and jobs.evaluate_job(run).inputs == ()


def test_facts_and_log_are_results_that_the_workflow_does_not_remove():
    run = planned_runs(PROFILE, range(1))[0]
    job = jobs.train_job(run)
    assert [path.name for path in job.outputs] == ["train.ipynb", "model.safetensors"]
    assert [path.name for path in job.results.files] == ["model.safetensors", "run.json", "log.jsonl"]
    combined = Run(profile=get_profile("laptop", "all"), stage=STAGES["srt-oracle"], seed=0, overrides={})
    assert combined.parts and [path.name for path in jobs.train_job(combined).outputs] == ["run.json"]


def test_a_profile_s_jobs_are_stale_too(run):
    gallery, compare = jobs.profile_jobs(PROFILE, [run])
    assert gallery.stale and compare.stale
    do(gallery)
    assert [job.stale for job in jobs.profile_jobs(PROFILE, [run])] == [False, True]


def test_of_a_restored_run_only_the_numbers_are_targets(run):
    def names():
        targets = jobs.targets(jobs.study_jobs(PROFILE, [run]))
        return [path.name for path in targets][2:]  # behind gallery and comparison

    assert names() == ["train.ipynb", "evaluate.ipynb"]
    evaluation = jobs.evaluate_job(run)
    do(dataclasses.replace(evaluation, own=None))
    assert names() == ["metrics.json"]
    files.write_text(run.model_file, "trained again for another run")
    assert names() == ["train.ipynb", "evaluate.ipynb"]


def test_a_notebook_s_text_counts_and_what_it_shows_does_not(run, tmp_path, monkeypatch):
    folder = tmp_path / "project"
    shutil.copytree(paths.root() / "notebooks", folder / "notebooks")
    shutil.copytree(paths.root() / "workflow", folder / "workflow")
    monkeypatch.setenv("MASKINV_ROOT", str(folder))
    path, before = folder / "notebooks/02-train-a-stage.ipynb", jobs.train_job(run).key
    book = json.loads(path.read_text())
    for cell in book["cells"]:
        cell |= {"outputs": [{"output_type": "stream"}], "execution_count": 3} if cell["cell_type"] == "code" else {}
    path.write_text(json.dumps(book))
    assert jobs.train_job(run).key == before
    book["cells"][0]["source"] += ["One more sentence."]
    path.write_text(json.dumps(book))
    assert jobs.train_job(run).key != before and jobs.evaluate_job(run).key


def test_the_notebook_of_a_job_is_noted_with_the_key_that_the_workflow_asks_for():
    for job in jobs.prepare_seeds(get_profile("smoke", "all"), range(2))[0]:
        if job.executes:
            values = job.command[job.command.index("-p") :]
            with jobs.noting(job.outputs[0], dict(zip(values[1::3], values[2::3], strict=True))):
                for path in job.outputs:
                    files.write_text(path, "executed")
            assert job.own.faults() == {}, job.label


def test_a_notebook_of_nobody_s_job_is_not_noted(run, tmp_path):
    parameters = {"profile": "smoke", "stage": "elasticface-arc", "seed": 0}
    for output in (tmp_path / "out.ipynb", run.folder / "mine.ipynb"):
        with jobs.noting(output, parameters), jobs.noting(output, {}):
            pass
    assert not list(paths.runs().rglob(".made"))


def test_more_seeds_of_the_rungs_draw_the_sweeps_again():
    wide = get_profile("smoke", "all")
    key = paths.runs() / "smoke/keys/sweeps"
    texts = []
    for seeds in (1, 2):
        jobs.prepare(wide, planned_runs(wide, range(seeds)))
        texts.append(key.read_text())
    assert texts[0] != texts[1]


def test_key_files_are_rewritten_only_when_they_change(run):
    keys = sorted((paths.runs() / "smoke/keys").rglob("*"))
    before = [path.stat().st_mtime_ns for path in keys]
    jobs.prepare(PROFILE, [run])
    assert [path.stat().st_mtime_ns for path in keys] == before
    assert {path.name for path in keys} >= {"faces", "gallery", "compare", "elasticface-arc.train"}


def test_labels_name_the_rules_and_rungs_run_in_notebooks(run):
    train, evaluate = jobs.run_jobs(run)
    assert (train.label, evaluate.label) == ("train elasticface-arc, seed 0", "evaluate elasticface-arc, seed 0")
    assert train.name == "train_elasticface_arc_seed_0"
    command = shlex.split(train.shell)
    assert command[0] == "notebook" and command[command.index("--label") + 1] == train.label
    assert command[-6:] == ["-p", "stage", "elasticface-arc", "-p", "seed", "0"]
    changed = dataclasses.replace(run, overrides={"mask_probability": 0.1})
    job = jobs.train_job(changed)
    assert not job.executes and job.outputs == (changed.model_file,)
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
    assert (
        [path.parent.name for path in compare.outputs] == ["two"] * 3 == [path.parent.name for path in compare.own.more]
    )


def test_trials_of_rendered_people_do_not_depend_on_the_code_for_photographs(monkeypatch):
    hashed = set()
    monkeypatch.setattr(fingerprints, "code_hash", lambda *modules: hashed.update(modules) or "")
    monkeypatch.setattr(jobs.tuning, "trials", lambda profile: [tiny.run_of("kd-only")])
    tiny.register(monkeypatch, paths.runs())
    jobs.trial_jobs(tiny.profile())
    assert "evaluation.benchmarks.rendered" in hashed and "evaluation.benchmarks.drawn" not in hashed
    assert RealFaces.validation_code == ("evaluation.benchmarks.drawn",)
