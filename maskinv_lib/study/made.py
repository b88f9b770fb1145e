"""What a job made: the key of the code and settings, and size and hash of each file, noted when all are written.

A result counts only while it is what was noted. So a file that was cut or changed is found, one whose maker died is not
taken for finished, and neither a copied folder nor an edit that was undone makes anything run again.
"""

import contextlib
import json
import os
import re
import shlex
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from maskinv_lib.study.runs import FACTS, LOG, METRICS, MODEL, RESAMPLES, Run
from maskinv_lib.study.tuning import TRIAL_RESULT
from maskinv_lib.utils import fingerprints
from maskinv_lib.utils.files import content_hash, file_hash, write_json, write_text

FOLDER = ".made"
"""The folder of the notes, below that of the files: names are relative, so that both can be moved together."""

MISSING, DAMAGED = "missing", "damaged or was changed"


@dataclass(frozen=True, kw_only=True)
class Made:
    """Files that one process writes together.

    note: the JSON file that it writes last. key: stands for the code and settings that decide the files. files: those
    without which nothing was made. more: those that are noted if they were written.
    """

    note: Path
    key: str
    files: tuple[Path, ...]
    more: tuple[Path, ...] = ()

    @contextlib.contextmanager
    def making(self) -> Iterator[None]:
        """Write the files in this block: the old note is removed before it, the new one is written after it.

        If the block raises or the process dies, there is no note, and the files do not count.
        """
        self.note.unlink(missing_ok=True)
        yield
        self.write()

    def write(self) -> None:
        """Note the files as they are now; one of ``files`` that is missing raises FileNotFoundError."""
        written = [*self.files, *(path for path in self.more if path.exists())]
        write_json(self.note, {"key": self.key, "files": {self._name(path): _facts(path) for path in written}})

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.note.parents[1])).as_posix()

    def faults(self, trust_times: bool = True) -> dict[Path, str] | None:
        """Return what is wrong: path -> "missing" or "damaged or was changed"; {} if all is as it was noted.

        None where nothing was noted with this key. A file of the noted size is read only if its time differs from the
        noted one, as in a copy; if its content is right, it gets the noted time, so that it is read once. Without
        ``trust_times`` every file is read.
        """
        try:
            noted = json.loads(self.note.read_text(encoding="utf-8"))
            if noted["key"] != self.key:
                return None
            files = {self.note.parents[1] / name: facts for name, facts in noted["files"].items()}
            found = {path: _fault(path, facts, trust_times) for path, facts in files.items()}
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            return {self.note: DAMAGED}
        unnoted = dict.fromkeys({*map(self._name, self.files)} - {*noted["files"]}, MISSING)
        found |= {self.note.parents[1] / name: fault for name, fault in unnoted.items()}
        return {Path(os.path.normpath(path)): fault for path, fault in found.items() if fault}


def _facts(path: Path) -> dict:
    status = path.stat()
    return {"size": status.st_size, "sha256": file_hash(path), "time": status.st_mtime_ns}


def _fault(path: Path, noted: dict, trust_times: bool) -> str:
    """Return MISSING, DAMAGED or "" for a file and the facts that were noted about it."""
    if not path.is_file():
        return MISSING
    status = path.stat()
    if status.st_size != noted["size"]:
        return DAMAGED
    if trust_times and status.st_mtime_ns == noted["time"]:
        return ""
    if file_hash(path) != noted["sha256"]:
        return DAMAGED
    with contextlib.suppress(OSError):  # a file that may not be changed is read again the next time
        os.utime(path, ns=(status.st_atime_ns, noted["time"]))
    return ""


def training(run: Run) -> Made:
    """Return what the training of a run makes: its model, facts and log."""
    models = [] if run.stage.parts else [run.folder / MODEL]
    files = (*models, run.folder / FACTS, run.folder / LOG)
    return Made(note=run.folder / FOLDER / "train.json", key=run.key, files=files)


def evaluation(run: Run) -> Made:
    """Return what the evaluation of a run on its benchmark makes: numbers and resampled rates."""
    folder = run.evaluation_folder
    files = (folder / RESAMPLES, folder / METRICS)
    return Made(note=folder / FOLDER / "evaluate.json", key=run.evaluation_key, files=files)


def trial(run: Run) -> Made:
    """Return what a trial makes: the error rates on validation people."""
    code = fingerprints.code_hash(*run.profile.faces.validation_code, "evaluation.metrics", "networks.templates")
    files = (run.folder / TRIAL_RESULT,)
    return Made(note=run.folder / FOLDER / "trial.json", key=content_hash([run.key, code]), files=files)


def job_files(folder: Path, name: str, key: str, *files: Path, more: tuple[Path, ...] = ()) -> Made:
    """Return what the job called ``name`` itself makes, such as an executed notebook."""
    return Made(note=folder / FOLDER / f"{name}.json", key=key, files=files, more=more)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One step of a study, done by one process.

    kind: "train", "evaluate", "trial" or "study". label: its name in the progress display, such as
    ``train maskinv-lg, seed 0``. command: the arguments of ``python -m maskinv_lib``. outputs: the files that it
    writes, an executed notebook first. results: what the pipeline notes, None for a job without a run. own: what the
    job's process itself notes, such as an executed notebook, None for nothing. needs: results of other jobs that must
    exist before it runs. key_file, key: the file by whose time the workflow knows that the job is stale, and what it
    says, the hash of the job's key. log: its text output. priority: of the jobs that are ready, the highest runs first.
    run: the run that it trains or evaluates, None for a job of the whole study.
    """

    kind: str = "study"
    label: str
    command: tuple[object, ...]
    outputs: tuple[Path, ...]
    results: Made | None = None
    own: Made | None = None
    needs: tuple[Path, ...] = ()
    key_file: Path
    key: str
    log: Path
    threads: int = 1
    gpus: int = 0
    priority: int = 0
    run: Run | None = None

    @property
    def name(self) -> str:
        """The name of the workflow's rule: the label with underscores."""
        return re.sub(r"\W+", "_", self.label)

    @property
    def shell(self) -> str:
        """The arguments, quoted for a shell."""
        return shlex.join(map(str, self.command))

    @property
    def executes(self) -> bool:
        """Whether the job executes a notebook."""
        return self.outputs[0].suffix == ".ipynb"

    @cached_property
    def faults(self) -> list[dict[Path, str] | None]:
        """What is wrong with the job's results and own files (``Made.faults``), as it is when first asked.

        An evaluation's numbers count without their notebook: they may have been restored.
        """
        alone = self.kind == "evaluate" and not self.outputs[0].exists()
        return [part.faults() for part in (self.results, None if alone else self.own) if part]

    @property
    def stale(self) -> bool:
        """Whether the job must be done: a result was not noted with today's key, or is not what was noted."""
        return any(faults != {} for faults in self.faults)

    @property
    def damaged(self) -> list[Path]:
        """The files with today's key that were cut or changed after they were noted."""
        return [path for faults in self.faults for path, fault in (faults or {}).items() if fault == DAMAGED]

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The workflow's inputs of the job: if it must run, its key file and its needs.

        An evaluation without its notebook must run if the model is there; its numbers alone were restored.
        """
        runs = self.stale or not (self.restored or all(path.exists() for path in self.outputs))
        return (self.key_file, *self.needs) if runs else ()

    @property
    def restored(self) -> bool:
        """Whether these are the numbers of an evaluation, up to date, without a model: they were not computed here."""
        return self.kind == "evaluate" and not self.stale and not (self.run.folder / MODEL).exists()

    def mark(self) -> None:
        """Write the key file if the key changed; of a stale job whose results all exist, make it newer than these."""
        text = self.key + "\n"
        if not self.key_file.exists() or self.key_file.read_text() != text:
            write_text(self.key_file, text)
        if self.stale and all(path.exists() for path in self.outputs):
            oldest = min(path.stat().st_mtime_ns for path in self.outputs)
            if self.key_file.stat().st_mtime_ns <= oldest:
                later = max(time.time_ns(), oldest + 10**9)
                os.utime(self.key_file, ns=(later, later))


def damage(jobs: Iterable[Job]) -> list[str]:
    """Return a line for each damaged file of the jobs: what it is, and that it is made again."""
    return [
        f"{path.name} of {job.run.label() if job.run else job.label} is {DAMAGED}: it is made again"
        for job in jobs
        for path in job.damaged
    ]
