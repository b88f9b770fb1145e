"""The jobs of a study: name, inputs, outputs and command of each, and whether it is stale.

The workflow loops over this list. A job is stale when a result is missing or older than its key file or its notebook. A
key is a hash of configuration, code, data and the keys of all jobs that the job builds on; its file is rewritten only
when the key changes. So a job that is not stale has no results of other jobs as input: if one of those runs again with
the same key, this job does not.
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskinv_lib.study import tuning
from maskinv_lib.study.data import Benchmark
from maskinv_lib.study.recipes import Profile
from maskinv_lib.study.runs import METRICS, MODEL, NOTEBOOKS, RESAMPLES, Run, planned_runs, sweep_runs, with_ancestors
from maskinv_lib.utils import fingerprints, paths
from maskinv_lib.utils.files import content_hash, write_text


@dataclass(frozen=True, kw_only=True)
class Job:
    """One step of a study, done by one process.

    kind: "train", "evaluate", "trial" or "study". label: its name in the progress display, such as
    ``train maskinv-lg, seed 0``. command: the arguments of ``python -m maskinv_lib``. outputs: the files that it
    writes, an executed notebook first. results: the outputs without which it is not done, () for all. needs: results of
    other jobs that must exist before it runs. key_file, key: the file that changes when the job must be done again, and
    the value whose hash it holds. notebook: the notebook that it executes, None for a job without one. log: its text
    output. priority: of the jobs that are ready, the highest runs first. run: the run that it trains or evaluates, None
    for a job of the whole study.
    """

    kind: str = "study"
    label: str
    command: tuple[object, ...]
    outputs: tuple[Path, ...]
    results: tuple[Path, ...] = ()
    needs: tuple[Path, ...] = ()
    key_file: Path
    key: object
    notebook: Path | None = None
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
    def rests_on(self) -> tuple[Path, ...]:
        """The files whose change makes the job stale."""
        return (self.key_file, self.notebook) if self.notebook else (self.key_file,)

    @property
    def stale(self) -> bool:
        """Whether the job must be done: a result is missing, or older than the files of ``rests_on``."""
        results = self.results or self.outputs
        if not all(path.exists() for path in results):
            return True
        oldest = min(path.stat().st_mtime for path in results)
        return oldest < max(path.stat().st_mtime for path in self.rests_on)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The workflow's inputs of the job: the files of ``rests_on``, and if it is stale, its needs."""
        return self.rests_on + (self.needs if self.stale else ())

    def write_key(self) -> None:
        """Write the key file if the key changed."""
        text = content_hash(self.key) + "\n"
        if not self.key_file.exists() or self.key_file.read_text() != text:
            write_text(self.key_file, text)


def study_folder(profile: Profile, benchmark: Benchmark | None = None, kind: str = "") -> Path:
    """Return the folder of a study, or of one benchmark's results in it; kind: "tables", "figures" or ""."""
    return paths.runs() / profile.name / kind / (profile.subfolder(benchmark) if benchmark else "")


def _execution(kind: str, label: str, output: Path, parameters: dict, threads: int = 1) -> dict:
    """Return the fields of a job that executes a notebook: its label, the notebook and the command."""
    notebook = paths.root() / "notebooks" / NOTEBOOKS[kind]
    values = [part for name, value in parameters.items() for part in ("-p", name, value)]
    command = ("notebook", notebook, output, "--label", label, "--threads", threads, *values)
    return {"label": label, "notebook": notebook, "command": command}


def faces_file(profile: Profile) -> Path:
    """Return the file that lists the opened faces of a profile; its job needs no hash of the data to be named."""
    return study_folder(profile) / "faces.json"


def faces_job(profile: Profile, cores: int = 1) -> Job:
    """Return the job that renders or opens all faces, so that bad data are found before any training."""
    folder, faces = study_folder(profile), profile.faces
    key: dict = {"config": faces.config("train", "validation", "test")}
    key["code"] = fingerprints.code_hash(*faces.faces_code)
    if not faces.publishable:
        key["tests"] = [faces.test_config(benchmark) for benchmark in profile.benchmarks]
        key["reader"] = fingerprints.code_hash(*faces.test_code)
    return Job(
        label="render faces" if faces.publishable else "open the data",
        command=("faces", "--profile", profile.name, "--threads", cores),
        outputs=(faces_file(profile),),
        key_file=folder / "keys" / "faces",
        key=key,
        log=folder / "logs" / "faces.log",
        threads=cores,
    )


def _run_fields(run: Run, kind: str, suffix: str = "") -> dict:
    """Return the fields that every job of one run has."""
    key_file = study_folder(run.profile) / "keys" / f"seed-{run.seed}" / f"{run.name}.{kind}{suffix}"
    return {"kind": kind, "key_file": key_file, "threads": run.profile.threads, "gpus": run.profile.gpus, "run": run}


def _run_job(run: Run, kind: str, outputs: Sequence[Path], needs: Sequence[Path], key: str, priority: int) -> Job:
    """Return a training or an evaluation: of a rung in a notebook, of any other run without one."""
    profile, folder, evaluates = run.profile, outputs[-1].parent, kind == "evaluate"
    values = {"profile": profile.name, "stage": run.stage.name, "seed": run.seed}
    values |= {"overrides": run.overrides_text} if run.overrides else {}
    values |= {"benchmark": run.tested_on.name} if evaluates and len(profile.benchmarks) > 1 else {}
    results = tuple(outputs) if evaluates else ()  # restored numbers count without their notebook
    if run.is_rung:
        executed = folder / f"{kind}.ipynb"
        execution = _execution(kind, run.label(kind), executed, values, profile.threads)
        outputs, code = (executed, *outputs), fingerprints.notebook_hash(execution["notebook"])
    else:
        options = [part for name, value in values.items() for part in (f"--{name}", value)]
        execution, code = {"label": run.label(kind), "command": (kind, *options)}, ""
    return Job(
        **_run_fields(run, kind, profile.suffix(run.tested_on) if evaluates else ""),
        **execution,
        outputs=tuple(outputs),
        results=results,
        needs=(faces_file(profile), *needs),
        key=[key, code],
        log=folder / f"{kind}.log",
        priority=priority,
    )


def train_job(run: Run) -> Job:
    """Return the job that trains a run. Earlier seeds come first; within a seed, trainings before evaluations."""
    milestones = [run.milestone_file(at) for at in run.stage.milestones]
    outputs = [*milestones, run.model_file]
    return _run_job(run, "train", outputs, run.ancestor_files, run.key, 1 - 2 * run.seed)


def evaluate_job(run: Run) -> Job:
    """Return the job that evaluates a run on the benchmark that it is tested on."""
    needs = [run.model_file, *(run.ancestor_files if run.stage.parts else [])]
    outputs = [run.evaluation_folder / RESAMPLES, run.evaluation_folder / METRICS]
    return _run_job(run, "evaluate", outputs, needs, run.evaluation_key, -2 * run.seed)


def run_jobs(run: Run) -> list[Job]:
    """Return the jobs of one run: its training, and its evaluation on each benchmark."""
    return [train_job(run), *map(evaluate_job, run.evaluations)]


def _study_job(kind: str, label: str, outputs: Sequence[Path], parameters: dict, *, key: list, **fields: object) -> Job:
    """Return the job that executes a notebook about a whole study: the first of its outputs."""
    execution = _execution(kind, label, outputs[0], parameters)
    folder, key = outputs[0].parent, [*key, fingerprints.notebook_hash(execution["notebook"])]
    fields.setdefault("log", folder / "logs" / f"{outputs[0].stem}.log")
    return Job(**execution, outputs=tuple(outputs), key_file=folder / "keys" / kind, key=key, **fields)


def _results(runs: Iterable[Run]) -> dict:
    """Return needs and key of a job that reads the results of ``runs``."""
    runs = list(runs)
    needs = tuple(run.evaluation_folder / METRICS for run in runs)
    return {"needs": needs, "key": [[run.evaluation_key for run in runs]]}


def gallery_job(profile: Profile) -> Job:
    """Return the job that shows faces and masks in a notebook; only rendered people can be shown."""
    output, faces = study_folder(profile) / "faces-and-masks.ipynb", faces_job(profile)
    key = [faces.key, fingerprints.code_hash("faces.masks.drawing")]
    parameters = {"profile": profile.name}
    return _study_job("gallery", "show faces and masks", [output], parameters, needs=faces.outputs, key=key)


def compare_job(profile: Profile, benchmark: Benchmark, runs: Iterable[Run], seeds: int) -> Job:
    """Return the job that compares the runs of a study on one benchmark."""
    tables, suffix = study_folder(profile, benchmark, "tables"), profile.suffix(benchmark)
    outputs = [study_folder(profile, benchmark) / "compare.ipynb", tables / "metrics.csv", tables / "differences.csv"]
    parameters = {"profile": profile.name, "seeds": seeds, "scope": profile.scope}
    parameters |= {"benchmark": benchmark.name} if suffix else {}
    label = "compare the stages" + profile.suffix(benchmark, " on ")
    results = _results(test for run in runs for test in run.evaluations if test.benchmark == benchmark)
    log = study_folder(profile) / "logs" / f"compare{suffix}.log"
    return _study_job("compare", label, outputs, parameters, log=log, **results)


def sweeps_job(profile: Profile, runs: Iterable[Run], seeds: int) -> Job:
    """Return the job that draws the sweeps; their points may be rungs, which have several seeds."""
    outputs = [study_folder(profile) / "how-much-guidance.ipynb", study_folder(profile, kind="tables") / "sweeps.csv"]
    parameters = {"profile": profile.name, "seeds": seeds}
    return _study_job("sweeps", "compare the sweeps", outputs, parameters, **_results([*runs, *sweep_runs(profile)]))


def profile_jobs(profile: Profile, runs: Sequence[Run]) -> list[Job]:
    """Return the jobs of a study that read the results of all its runs, and the gallery."""
    seeds = len({run.seed for run in runs})
    gallery = [gallery_job(profile)] if profile.faces.publishable else []
    compared = [compare_job(profile, benchmark, runs, seeds) for benchmark in profile.benchmarks]
    return [*gallery, *compared, *([sweeps_job(profile, runs, seeds)] if profile.sweeps else [])]


def study_jobs(profile: Profile, runs: Sequence[Run], cores: int = 1) -> list[Job]:
    """Return every job of a study. runs: those that it compares; the runs of its sweeps and all ancestors are added.

    An ancestor that is not compared itself, such as a head on frozen templates, has only a training.
    """
    compared = {(run.name, run.seed) for run in [*runs, *sweep_runs(profile)]}
    jobs = [faces_job(profile, cores)]
    for run in with_ancestors([*runs, *sweep_runs(profile)]):
        jobs += run_jobs(run) if (run.name, run.seed) in compared else [train_job(run)]
    return jobs + profile_jobs(profile, runs)


def trial_jobs(profile: Profile) -> list[Job]:
    """Return the trials on validation people; all need the first, which trains their teacher."""
    runs = tuning.trials(profile)
    code = fingerprints.code_hash(*profile.faces.validation_code, "evaluation.metrics", "networks.templates")
    options = ("--profile", profile.name, "--scope", profile.scope)
    return [
        Job(
            **_run_fields(run, "trial"),
            label=run.label("try"),
            command=("trial", *options, "--number", number),
            outputs=(run.folder / tuning.TRIAL_RESULT,),
            needs=(runs[0].folder / tuning.TRIAL_RESULT,) if number else (),
            key=[run.key, code],
            log=run.folder / "trial.log",
        )
        for number, run in enumerate(runs)
    ]


def targets(jobs: Iterable[Job]) -> list[Path]:
    """Return the files that the jobs of a study must produce: of an evaluated rung also its notebooks.

    Where a rung's numbers are up to date without its model, they were copied back from ``results`` and are enough.
    """
    by_run: dict[str, list[Job]] = {}
    for job in jobs:
        by_run.setdefault(job.run.label() if job.run else "", []).append(job)
    files = [job.outputs[0] for job in by_run.pop("", []) if job.notebook]
    for train, *evaluations in by_run.values():
        restored = not any(job.stale for job in evaluations) and not (train.run.folder / MODEL).exists()
        if evaluations and train.run.is_rung and not restored:
            files += [job.outputs[0] for job in (train, *evaluations)]
        else:
            files += [job.outputs[-1] for job in evaluations]
    return files


def prepare(profile: Profile, runs: Sequence[Run], cores: int = 1) -> list[Job]:
    """Write the changed key files of a study and of its trials; return the jobs of the study.

    Missing real data raise FileNotFoundError before a key is written: without the data, all keys would differ.
    """
    profile.faces.check()
    jobs = study_jobs(profile, runs, cores)
    for job in [*jobs, *trial_jobs(profile)]:
        job.write_key()
    return jobs


def prepare_seeds(profile: Profile, seeds: range, cores: int = 1) -> tuple[list[Job], list[Path]]:
    """Prepare a study with these seeds; return its jobs and the files that it must produce."""
    jobs = prepare(profile, planned_runs(profile, seeds), cores)
    return jobs, targets(jobs)
