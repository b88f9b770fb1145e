"""The trials of ``make choose``: one at a time in a profile's folder, with progress, and each failure's own error."""

import contextlib
import json
from types import SimpleNamespace

import pytest

from maskinv_lib.study import choices, jobs, launch, tuning
from maskinv_lib.study.launch import StudyLock, run_choose
from maskinv_lib.study.profiles import get_profile
from maskinv_lib.study.progress import event
from maskinv_lib.utils import paths
from maskinv_lib.utils.files import only_process


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """The laptop profile without any choice."""
    monkeypatch.setattr(choices, "choices_file", lambda faces: tmp_path / "choices.csv")
    return get_profile("laptop")


def workflow(monkeypatch, code, *events):
    """Replace Snakemake by a process that writes events and ends with an exit code; return what it was asked."""
    asked = []

    @contextlib.contextmanager
    def started(profile, seeds, cores, log, target=""):
        asked.append((cores, target))
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("the workflow's own words\n")
        for job, what, facts in events:
            event(jobs.study_folder(profile), job, what, **facts)
        yield SimpleNamespace(wait=lambda timeout: code, returncode=code)

    monkeypatch.setattr(launch, "_workflow", started)
    return asked


def test_a_failed_trial_s_own_error_is_repeated_with_its_log(profile, monkeypatch, capsys):
    label = tuning.trials(profile)[1].label("try")
    failure = (label, "fail", {"log": "a/trial.log", "error": "no room on the disk"})
    asked = workflow(monkeypatch, 1, (label, "start", {}), failure)
    assert run_choose(profile, 3) == 1
    out, err = capsys.readouterr()
    assert asked == [(3, "trials")]
    assert f"laptop: {len(tuning.trials(profile))} trials, 3 core(s)" in out
    assert f"] {label} ..." in out and f"] {label} FAILED: no room on the disk" in out
    assert f"FAILED: {label}. no room on the disk\nThe error: a/trial.log" in out
    assert "own words" not in out and "choose.log" in err


def test_without_a_failed_trial_the_end_of_the_workflow_s_log_is_shown(profile, monkeypatch, capsys):
    workflow(monkeypatch, -9)
    assert run_choose(profile, 1) == 1, "never the negative number of a signal"
    assert "the workflow's own words" in capsys.readouterr().out


def test_the_time_left_counts_the_trials(profile, monkeypatch, capsys):
    label = tuning.trials(profile)[0].label("try")
    workflow(monkeypatch, 1, (label, "start", {}))
    run_choose(profile, 1)
    assert "min left" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["lock", "launcher.lock"])
def test_nothing_is_written_while_another_workflow_runs(profile, monkeypatch, name):
    asked = workflow(monkeypatch, 0)
    refusal = pytest.raises(RuntimeError, match=r"The study in .*laptop is in use by process")
    with only_process(paths.runs() / "laptop/keys" / name, "it"), refusal:
        run_choose(profile)
    written = {path.name for path in (paths.runs() / "laptop").rglob("*")}
    assert asked == [] and written <= {"keys", "lock", "launcher.lock"}


def test_the_launcher_s_lock_is_held_while_trials_run_and_the_workflow_can_take_its_own(profile, monkeypatch):
    held = []

    @contextlib.contextmanager
    def started(profile, *rest):
        StudyLock(jobs.study_folder(profile)).take()
        with pytest.raises(RuntimeError, match="in use"):
            run_choose(profile)
        held.append(True)
        raise InterruptedError
        yield

    monkeypatch.setattr(launch, "_workflow", started)
    with pytest.raises(InterruptedError):
        run_choose(profile)
    assert held


def test_an_earlier_study_s_events_are_not_shown(profile, monkeypatch, capsys):
    event(jobs.study_folder(profile), "train old, seed 0", "start")
    workflow(monkeypatch, 1)
    run_choose(profile)
    assert "train old" not in capsys.readouterr().out
    assert not (jobs.study_folder(profile) / "events.jsonl").exists()


def test_a_trial_notes_its_start_and_its_error(profile, monkeypatch):
    from maskinv_lib.__main__ import main
    from maskinv_lib.pipeline import evaluate

    def fail(run):
        raise ValueError(f"no face for {run.name}")

    monkeypatch.setattr(evaluate, "trial", fail)
    assert main(["trial", "--profile", "laptop", "--number", "2"]) == 2
    run = tuning.trials(profile)[2]
    lines = (paths.runs() / "laptop/events.jsonl").read_text().splitlines()
    start, end = map(json.loads, lines)
    assert (start["job"], start["what"], end["what"]) == (run.label("try"), "start", "fail")
    assert end["error"] == f"no face for {run.name}" and end["log"] == str(run.folder / "trial.log")
