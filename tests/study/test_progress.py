"""The progress display of a study: a line per event, the time left, and the error rates at the end."""

import json
import re
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from maskinv_lib.study import jobs, progress
from maskinv_lib.study.profiles import STAGES
from maskinv_lib.study.runs import Run
from maskinv_lib.utils import files, paths
from tests import tiny
from tests.conftest import ROOT
from tests.study.done import cut, do

RECORD = {"step": 5, "steps": 20, "faces": 20, "loss": 3.14159, "faces_per_second": 10.0, "seconds": 2.0}


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Two runs of the tiny profile that are not trained yet."""
    tiny.register(monkeypatch, tmp_path / "runs")
    monkeypatch.setenv("MASKINV_ROOT", str(ROOT))
    runs = [tiny.run_of("elasticface-arc"), tiny.run_of("kd-only")]
    files.write_json(paths.runs() / "tiny" / "keys" / "faces", {})
    return runs


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test moves it."""
    now = SimpleNamespace(seconds=1_000_000.0)
    replaced = SimpleNamespace(
        time=lambda: now.seconds,
        monotonic=lambda: now.seconds,
        strftime=progress.time.strftime,
        localtime=progress.time.localtime,
    )
    monkeypatch.setattr(progress, "time", replaced)
    return now


def started(planned) -> progress.Progress:
    return progress.Progress(tiny.profile(), jobs_of(planned), paths.runs() / "tiny", 2)


def jobs_of(runs: list[Run]) -> list[jobs.Job]:
    return [job for run in runs for job in jobs.run_jobs(run)]


def log(run: Run, **changes) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    with (run.folder / "log.jsonl").open("a") as file:
        file.write(json.dumps({**RECORD, **changes}) + "\n")


def seconds(text: str) -> float:
    number, unit = re.search(r"about (\d+) (s|min) left", text).groups()
    return int(number) * (60 if unit == "min" else 1)


# Lines


def test_a_training_line_says_share_loss_speed_and_time_left():
    assert progress.training_line(RECORD) == " 25%, loss 3.14, 10 faces/s, 6 s left"
    assert progress.training_line({**RECORD, "step": 20, "faces": 80}) == "100%, loss 3.14, 10 faces/s, 0 s left"


def test_outside_a_notebook_every_record_is_a_line(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    show = progress.live()
    show(RECORD)
    show({**RECORD, "step": 10, "faces": 40})
    assert capsys.readouterr().out.splitlines() == [
        " 25%, loss 3.14, 10 faces/s, 6 s left",
        " 50%, loss 3.14, 10 faces/s, 4 s left",
    ]


def test_in_a_notebook_one_output_is_kept_up_to_date(monkeypatch, clock):
    ipython = Mock()
    updates = ipython.display.display.return_value.update
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    show = progress.live(every=1.0)
    for step in range(1, 21):
        clock.seconds += 0.25
        show({**RECORD, "step": step, "faces": 4 * step})
    ipython.display.display.assert_called_once()
    assert 4 <= updates.call_count <= 8
    assert updates.call_args.args[0]["text/plain"].startswith("100%"), "the last record is always shown"


# Events


def test_events_are_lines_of_a_file_and_printed_once(planned, capsys):
    folder = paths.runs() / "tiny"
    seen = started(planned)
    seen.report()
    assert capsys.readouterr().out == "" and not seen.seen
    progress.event(folder, "train elasticface-arc, seed 0", "start")
    seen.report()
    out = capsys.readouterr().out
    assert re.search(r"^\[\d\d:\d\d:\d\d\] train elasticface-arc, seed 0 \.\.\.$", out, re.MULTILINE)
    progress.event(folder, "train elasticface-arc, seed 0", "end", seconds=12.4)
    seen.report()
    assert "train elasticface-arc, seed 0: done in 12 s" in capsys.readouterr().out
    seen.report()
    assert capsys.readouterr().out == ""
    assert seen.seen and not seen.running and not seen.failed
    lines = (folder / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["what"] for line in lines] == ["start", "end"]


def test_a_failure_is_shown_with_its_error_and_kept_with_its_log(planned, capsys):
    folder, job = paths.runs() / "tiny", "train kd-only, seed 0"
    seen = started(planned)
    progress.event(folder, job, "start")
    progress.event(folder, job, "fail", log="train.failed.ipynb", error="ValueError: no teacher")
    seen.report()
    assert f"{job} FAILED: ValueError: no teacher" in capsys.readouterr().out
    assert seen.failed == {job: "train.failed.ipynb"}
    assert not seen.running


def test_a_half_written_event_waits_until_it_is_whole(planned, capsys):
    path = paths.runs() / "tiny" / "events.jsonl"
    seen = started(planned)
    whole = json.dumps({"time": 0.0, "job": "compare the stages", "what": "start"})
    path.write_text(whole[:20])
    seen.report()
    assert capsys.readouterr().out == ""
    path.write_text(whole + "\n")
    seen.report()
    assert "compare the stages ..." in capsys.readouterr().out


def test_running_trainings_are_shown_with_the_time_left_at_most_every_15_seconds(planned, clock, capsys):
    seen = started(planned)
    progress.event(seen.folder, "train elasticface-arc, seed 0", "start")
    log(planned[0])
    seen.report()
    out = capsys.readouterr().out
    assert "  elasticface-arc, seed 0:  25%, loss 3.14, 10 faces/s, 6 s left" in out
    assert "kd-only" not in out
    assert seconds(out) > 0
    clock.seconds += 10
    seen.report()
    assert capsys.readouterr().out == ""
    clock.seconds += 6
    log(planned[0], step=10, faces=40)
    seen.report()
    assert " 50%, loss" in capsys.readouterr().out


# The time left


def test_the_time_left_falls_as_time_passes_and_as_jobs_end(planned, clock, capsys):
    seen = started(planned)
    left = [seen._left()]

    def after(passed: float, job: str, what: str, **facts) -> None:
        clock.seconds += passed
        progress.event(seen.folder, job, what, **facts)
        seen.report()
        left.append(seen._left())

    progress.event(seen.folder, "train elasticface-arc, seed 0", "start")
    seen.report()
    clock.seconds += 4
    left.append(seen._left())
    after(4, "train elasticface-arc, seed 0", "end", seconds=8.0)
    after(0, "train kd-only, seed 0", "start")
    after(5, "evaluate elasticface-arc, seed 0", "start")
    after(10, "evaluate elasticface-arc, seed 0", "end", seconds=10.0)
    after(0, "train kd-only, seed 0", "end", seconds=15.0)
    after(10, "evaluate kd-only, seed 0", "start")
    after(10, "evaluate kd-only, seed 0", "end", seconds=10.0)
    assert left == sorted(left, reverse=True)
    assert left[0] > left[-1] >= 0
    assert left[-1] <= 2 * seen.GUESS["notebook"], "only the gallery and the comparison are left"


def test_measured_speeds_and_times_replace_the_guesses(planned, clock):
    seen = started(planned)
    guessed = seen._left()
    log(planned[0], faces_per_second=0.1)
    assert seen._left() > guessed
    assert seen._speed() == 0.1
    head = Run(profile=tiny.profile(), stage=STAGES["eum"], seed=0, overrides={})
    seen.trainings["train eum, seed 0"] = jobs.train_job(head)
    log(head, faces_per_second=1e6)
    assert seen._speed() == 0.1
    seen.done["evaluate elasticface-arc, seed 0"] = 4.0
    assert seen._mean_evaluation() == 4.0


def test_more_cores_take_less_time_and_few_cores_no_forever(planned):
    folder = paths.runs() / "tiny"
    alone, together = (progress.Progress(tiny.profile(), jobs_of(planned), folder, n)._left() for n in (1, 4))
    assert together < alone
    assert progress.Progress(tiny.profile(), jobs_of(planned), folder, 0).parallel == 1


def test_what_is_up_to_date_costs_no_time(planned):
    for run in planned:
        for job in jobs.run_jobs(run):
            do(job)
    done = started(planned)._left()
    (planned[1].folder / "model.safetensors").unlink()
    assert started(planned)._left() > done


def test_what_is_damaged_is_named_once_at_the_start(planned, capsys):
    for job in jobs_of(planned):
        do(job)
    started(planned).report()
    assert capsys.readouterr().out == ""
    cut(planned[1].folder / "model.safetensors")
    started(planned).report()
    expected = "model.safetensors of kd-only, seed 0 is damaged or was changed: it is made again\n"
    assert capsys.readouterr().out == expected


def test_damaged_lines_of_logs_and_events_are_passed_over(planned, capsys):
    run, seen = planned[0], started(planned)
    log(run)
    with (run.folder / "log.jsonl").open("ab") as file:
        file.write(b'{"step": 9, "st\xff')
    assert seen._last_record(run) == RECORD
    (seen.folder / "events.jsonl").write_bytes(b'{"time": 1, "jo\n\xff\n[3]\n')
    progress.event(seen.folder, "train kd-only, seed 0", "start")
    seen.report()
    assert "train kd-only, seed 0 ..." in capsys.readouterr().out


# The error rates

METRICS = """stage,seed,condition,mask_kinds,metric,value
elasticface-arc,0,unmasked-unmasked,none,eer,0.01
elasticface-arc,1,unmasked-unmasked,none,eer,0.03
elasticface-arc,all,unmasked-unmasked,none,eer,0.9
elasticface-arc,0,masked-unmasked,unseen,eer,0.1
elasticface-arc,0,masked-unmasked,seen,eer,0.5
elasticface-arc,0,masked-unmasked,unseen,fmr100,0.7
elasticface-arc,0,masked-masked,unseen,eer,0.125
maskinv-hg,0,unmasked-unmasked,none,eer,0.02
maskinv-hg,0,masked-unmasked,unseen,eer,0.03
maskinv-hg,0,masked-masked,unseen,eer,0.04
"""


def test_the_table_holds_means_over_seeds_with_unseen_masks_in_per_cent(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(METRICS.replace("maskinv-hg", "maskinv-lambda100-continued"))
    heading, first, second = progress.eer_table(path).splitlines()
    assert heading.split()[-3:] == ["unmasked-unmasked", "masked-unmasked", "masked-masked"]
    assert heading.startswith("EER in %, mean of seeds")
    assert first.split() == ["elasticface-arc", "2.00", "10.00", "12.50"]
    assert second.split() == ["maskinv-lambda100-continued", "2.00", "3.00", "4.00"]
    assert len({len(line) for line in (heading, first, second)}) == 1


@pytest.mark.parametrize("size", [0, 10, METRICS.index("\n"), len(METRICS) // 2, len(METRICS) - 2])
def test_a_cut_table_is_one_error_with_its_name(tmp_path, size):
    path = tmp_path / "metrics.csv"
    path.write_text(METRICS[:size])
    with pytest.raises(ValueError, match=r"metrics\.csv is damaged: .* Delete it and run the study again"):
        progress.eer_table(path)


def test_the_log_of_an_earlier_training_is_not_shown_as_this_one(planned):
    run, seen = planned[0], started(planned)
    log(run)
    written = (run.folder / "log.jsonl").stat().st_mtime
    label = run.label("train")
    seen.running[label] = written + 5
    assert seen._training_line(label, run) is None
    seen.running[label] = written - 5
    assert "25%" in seen._training_line(label, run)
