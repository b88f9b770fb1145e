"""The progress display of a study: a line per job and training, the time left, and the error rates at the end."""

import csv
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import ClassVar

from maskinv_lib.study.data import CONDITIONS
from maskinv_lib.study.made import Job, damage
from maskinv_lib.study.recipes import Profile
from maskinv_lib.study.runs import LOG, Run
from maskinv_lib.utils.files import parsed_lines, read_json_lines


def event(folder: Path, job: str, what: str, **facts: object) -> None:
    """Append one event to ``events.jsonl`` in a profile's folder: a job started, ended or failed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"time": time.time(), "job": job, "what": what, **facts}) + "\n")


def training_line(record: dict) -> str:
    """Return a log record as text: share done, loss, faces/s and seconds left."""
    share, speed = record["step"] / record["steps"], record["faces_per_second"]
    left = (record["steps"] - record["step"]) * record["faces"] / record["step"] / speed
    return f"{share:4.0%}, loss {record['loss']:.2f}, {speed:.0f} faces/s, {left:.0f} s left"


def live(every: float = 1.0) -> Callable[[dict], None]:
    """Return a callback that shows training records: in a notebook one updated line, in a terminal a line each."""
    ipython = sys.modules.get("IPython")
    if not (ipython and ipython.get_ipython()):
        return lambda record: print(training_line(record), flush=True)
    handle, last = ipython.display.display({"text/plain": "..."}, raw=True, display_id=True), 0.0

    def show(record: dict) -> None:
        nonlocal last
        if time.monotonic() - last > every or record["step"] == record["steps"]:
            last = time.monotonic()
            handle.update({"text/plain": training_line(record)}, raw=True)

    return show


class Progress:
    """Prints the events of the workflow's jobs and estimates the time left.

    trainings, evaluations: label -> job. stale: labels of those that must be done. running: label -> start time. done:
    label -> seconds. failed: label -> file with the error. parallel: jobs at a time. seen: whether any event came.
    """

    GUESS: ClassVar = {"faces": 90.0, "notebook": 8.0, "evaluate": 35.0, "faces_per_second": 200.0}

    def __init__(self, profile: Profile, jobs: list[Job], folder: Path, cores: int) -> None:
        self.folder, self.cores = folder, cores
        self.trainings = {job.label: job for job in jobs if job.kind == "train"}
        self.evaluations = {job.label: job for job in jobs if job.kind == "evaluate"}
        self.stale = {label for label, job in (self.trainings | self.evaluations).items() if job.stale}
        self.parallel = 1 if profile.gpus else max(1, cores // profile.threads)
        self.read = 0
        self.running: dict[str, float] = {}
        self.done: dict[str, float] = {}
        self.failed: dict[str, str] = {}
        self.seen = False
        self.reported = 0.0
        print(*(f"{line}\n" for line in damage(jobs)), sep="", end="", flush=True)

    def report(self) -> None:
        """Print new events, and every 15 seconds one line on each running training and on the time left."""
        for record in self._new_events():
            self._note(record)
        if self.running and time.time() - self.reported > 15:
            self.reported = time.time()
            lines = [line for label, job in self.trainings.items() if (line := self._training_line(label, job.run))]
            print("\n".join([*lines, f"  about {_minutes(self._left())} left"]), flush=True)

    def _new_events(self) -> list[dict]:
        path = self.folder / "events.jsonl"
        data = path.read_bytes() if path.exists() else b""
        whole = data.rfind(b"\n") + 1
        start, self.read = self.read, whole
        return parsed_lines(data[start:whole])

    def _note(self, record: dict) -> None:
        job, what, self.seen = record["job"], record["what"], True
        if what == "progress":
            print(f"  {job}, {record['text']}", flush=True)
            return
        self.running.pop(job, None)
        if what == "start":
            self.running[job], text = record["time"], " ..."
        elif what == "fail":
            self.failed[job], text = record["log"], f" FAILED: {record['error']}"
        else:
            self.done[job], text = record["seconds"], f": done in {record['seconds']:.0f} s"
        print(f"[{time.strftime('%H:%M:%S')}] {job}{text}", flush=True)

    def _last_record(self, run: Run) -> dict | None:
        records = read_json_lines(run.folder / LOG)
        return records[-1] if records else None

    def _training_line(self, label: str, run: Run) -> str | None:
        started, record = self.running.get(label), self._last_record(run)
        if started is None or record is None or (run.folder / LOG).stat().st_mtime < started:
            return None  # it does not run, or the log is that of an earlier training
        return f"  {run.label()}: {training_line(record)}"

    def _left(self) -> float:
        now, guess = time.time(), self.GUESS
        work = guess["faces"] if "render faces" in self.running else 0.0
        for label in self.stale & self.trainings.keys():
            run = self.trainings[label].run
            training = run.plan.schedule.budget / self._speed() if run.stage.trained else 0.0
            work += self._seconds_left(label, guess["notebook"] + training, now)
        for label in self.stale & self.evaluations.keys():
            work += self._seconds_left(label, self._mean_evaluation(), now)
        return work / self.parallel + guess["notebook"] * 2

    def _seconds_left(self, label: str, total: float, now: float) -> float:
        return 0.0 if label in self.done else max(1.0, total - (now - self.running.get(label, now)))

    def _mean_evaluation(self) -> float:
        times = [seconds for label, seconds in self.done.items() if label in self.evaluations]
        return fmean(times or [self.GUESS["evaluate"]])

    def _speed(self) -> float:
        runs = [job.run for job in self.trainings.values() if job.run.stage.trained]  # heads are far faster
        speeds = [record["faces_per_second"] for run in runs if (record := self._last_record(run))]
        return fmean(speeds or [self.GUESS["faces_per_second"]])


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


EER_COLUMNS = {"stage", "seed", "condition", "mask_kinds", "metric", "value"}
"""The columns of ``metrics.csv`` that ``eer_table`` reads."""


def eer_table(metrics: Path) -> str:
    """Return EERs as a text table: % per stage (mean over seeds) and condition, with unseen or real masks.

    A file that was cut within a row raises ValueError naming it.
    """
    eers: dict[str, dict] = {}
    text = metrics.read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    if not text.endswith("\n") or EER_COLUMNS - {*(rows.fieldnames or ())}:
        raise ValueError(f"{metrics} is damaged: it ends within a row. Delete it and run the study again.")
    for row in rows:
        included = row["condition"] in CONDITIONS and row["mask_kinds"] != "seen"
        if row["metric"] == "eer" and row["value"] and row["seed"] != "all" and included:
            eers.setdefault(row["stage"], {}).setdefault(row["condition"], []).append(float(row["value"]))
    heading = "EER in %, mean of seeds"
    width = max(map(len, [heading, *eers])) + 1
    lines = [heading.ljust(width) + "".join(f"{condition:>20}" for condition in CONDITIONS)]
    for stage, values in eers.items():
        means = [f"{100 * fmean(values[name]):.2f}" if name in values else "" for name in CONDITIONS]
        lines.append(stage.ljust(width) + "".join(f"{mean:>20}" for mean in means))
    return "\n".join(lines)
