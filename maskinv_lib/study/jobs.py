"""The jobs of a study: what each is called, needs and leaves, which command does it, and whether it is stale.

This is the one list that the workflow loops over. A job is stale when a result is missing or older than its key file or
its notebook. A key stands for configuration, code, data and the keys of all that the job builds on; its file is
rewritten only when it changes. So a job that is not stale names no results of other jobs as input: one that runs again
must not drag along what it did not change.
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

Command = tuple[object, ...]
"""The arguments of ``python -m maskinv_lib``."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One step of a study, done by one process.

    kind: "train", "evaluate", "trial" or "study". label: what people read while it runs, ``train maskinv-lg, seed 0``.
    outputs: the files that it writes, an executed notebook first. results: those without which it is not done, () for
    all. needs: results of other jobs that must be there before it runs. key_file, key: the file that changes when the
    job must be done again, and what it stands for. notebook: what it executes, None for a job without. log: its text
    output. priority: of jobs that are ready, the highest runs first. run: the run that it trains or evaluates, None for
    a job of the whole study.
    """

    kind: str = "study"
    label: str
    command: Command
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
        """The arguments as a shell takes them."""
        return shlex.join(map(str, self.command))

    @property
    def rests_on(self) -> tuple[Path, ...]:
        """The files whose change makes the job stale."""
        return (self.key_file, self.notebook) if self.notebook else (self.key_file,)

    @property
    def stale(self) -> bool:
        """Whether the job must be done: a result is missing, or older than what it rests on."""
        results = self.results or self.outputs
        if not all(path.exists() for path in results):
            return True
        oldest = min(path.stat().st_mtime for path in results)
        return oldest < max(path.stat().st_mtime for path in self.rests_on)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """What must be done before: what the job rests on, and while it is stale, what it needs."""
        return self.rests_on + (self.needs if self.stale else ())

    def write_key(self) -> None:
        """Write the key file, if what it stands for changed."""
        text = content_hash(self.key) + "\n"
        if not self.key_file.exists() or self.key_file.read_text() != text:
            write_text(self.key_file, text)


def study_folder(profile: Profile, benchmark: Benchmark | None = None, kind: str = "") -> Path:
    """Return the folder of a study, or of one benchmark's results in it; kind: "tables", "figures" or ""."""
    return paths.runs() / profile.name / kind / (profile.subfolder(benchmark) if benchmark else "")


def _notebook_job(kind: str, label: str, output: Path, parameters: dict, threads: int = 1) -> dict:
    """Return what a job has by executing a notebook: its label, the notebook and the command."""
    notebook = paths.root() / "notebooks" / NOTEBOOKS[kind]
    values = [part for name, value in parameters.items() for part in ("-p", name, value)]
    command = ("notebook", notebook, output, "--label", label, "--threads", threads, *values)
    return {"label": label, "notebook": notebook, "command": command}


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
        outputs=(folder / "faces.json",),
        key_file=folder / "keys" / "faces",
        key=key,
        log=folder / "logs" / "faces.log",
        threads=cores,
    )


def gallery_job(profile: Profile) -> Job:
    """Return the job that shows faces and masks in a notebook; only rendered people can be shown."""
    folder, faces = study_folder(profile), faces_job(profile)
    output = folder / "faces-and-masks.ipynb"
    execution = _notebook_job("gallery", "show faces and masks", output, {"profile": profile.name})
    key = [faces.key, fingerprints.code_hash("faces.masks.drawing"), fingerprints.notebook_hash(execution["notebook"])]
    return Job(
        **execution,
        outputs=(output,),
        needs=faces.outputs,
        key_file=folder / "keys" / "gallery",
        key=key,
        log=folder / "logs" / "faces-and-masks.log",
    )


def _run_job(run: Run, kind: str, outputs: Sequence[Path], needs: Sequence[Path], key: str, priority: int) -> Job:
    """Return a training or an evaluation: of a rung in a notebook, of any other run without."""
    profile, folder = run.profile, outputs[-1].parent
    values = {"profile": profile.name, "stage": run.stage.name, "seed": run.seed}
    values |= {"overrides": run.overrides_text} if run.overrides else {}
    values |= {"benchmark": run.tested_on.name} if kind == "evaluate" and len(profile.benchmarks) > 1 else {}
    results = tuple(outputs) if kind == "evaluate" else ()  # restored numbers stand without their notebook
    if run.is_rung:
        executed = folder / f"{kind}.ipynb"
        execution = _notebook_job(kind, run.label(kind), executed, values, profile.threads)
        outputs, shown = (executed, *outputs), fingerprints.notebook_hash(execution["notebook"])
    else:
        options = [part for name, value in values.items() for part in (f"--{name}", value)]
        execution, shown = {"label": run.label(kind), "command": (kind, *options)}, ""
    suffix = profile.suffix(run.tested_on) if kind == "evaluate" else ""
    return Job(
        kind=kind,
        **execution,
        outputs=tuple(outputs),
        results=results,
        needs=(*faces_job(profile).outputs, *needs),
        key_file=study_folder(profile) / "keys" / f"seed-{run.seed}" / f"{run.name}.{kind}{suffix}",
        key=[key, shown],
        log=folder / f"{kind}.log",
        threads=profile.threads,
        gpus=profile.gpus,
        priority=priority,
        run=run,
    )


def train_job(run: Run) -> Job:
    """Return the job that trains a run: whole seeds first, and what others wait for before what nobody waits for."""
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


def compare_job(profile: Profile, benchmark: Benchmark, runs: Iterable[Run], seeds: int) -> Job:
    """Return the job that puts the runs of a study side by side on one benchmark."""
    tested = [test for run in runs for test in run.evaluations if test.benchmark == benchmark]
    folder, suffix = study_folder(profile, benchmark), profile.suffix(benchmark)
    parameters = {"profile": profile.name, "seeds": seeds, "scope": profile.scope}
    parameters |= {"benchmark": benchmark.name} if suffix else {}
    label = "compare the stages" + profile.suffix(benchmark, " on ")
    execution = _notebook_job("compare", label, folder / "compare.ipynb", parameters)
    tables = study_folder(profile, benchmark, "tables")
    return Job(
        **execution,
        outputs=(folder / "compare.ipynb", tables / "metrics.csv", tables / "differences.csv"),
        needs=tuple(run.evaluation_folder / METRICS for run in tested),
        key_file=folder / "keys" / "compare",
        key=[[run.evaluation_key for run in tested], fingerprints.notebook_hash(execution["notebook"])],
        log=study_folder(profile) / "logs" / f"compare{suffix}.log",
    )


def sweeps_job(profile: Profile, runs: Iterable[Run], seeds: int) -> Job:
    """Return the job that draws the sweeps; their points may be rungs, which have several seeds."""
    folder, tested = study_folder(profile), [*runs, *sweep_runs(profile)]
    output = folder / "how-much-guidance.ipynb"
    execution = _notebook_job("sweeps", "compare the sweeps", output, {"profile": profile.name, "seeds": seeds})
    return Job(
        **execution,
        outputs=(output, folder / "tables" / "sweeps.csv"),
        needs=tuple(run.evaluation_folder / METRICS for run in tested),
        key_file=folder / "keys" / "sweeps",
        key=[[run.evaluation_key for run in tested], fingerprints.notebook_hash(execution["notebook"])],
        log=folder / "logs" / "how-much-guidance.log",
    )


def profile_jobs(profile: Profile, runs: Sequence[Run]) -> list[Job]:
    """Return the jobs of a study that read the results of all its runs, and the gallery."""
    seeds = len({run.seed for run in runs})
    gallery = [gallery_job(profile)] if profile.faces.publishable else []
    compared = [compare_job(profile, benchmark, runs, seeds) for benchmark in profile.benchmarks]
    return [*gallery, *compared, *([sweeps_job(profile, runs, seeds)] if profile.sweeps else [])]


def study_jobs(profile: Profile, runs: Sequence[Run], cores: int = 1) -> list[Job]:
    """Return every job of a study. runs: what it compares; the runs of its sweeps and all ancestors are added.

    Of an ancestor that nothing compares, such as a head on frozen templates, there is a training alone.
    """
    compared = {(run.name, run.seed) for run in [*runs, *sweep_runs(profile)]}
    jobs = [faces_job(profile, cores)]
    for run in with_ancestors([*runs, *sweep_runs(profile)]):
        jobs += run_jobs(run) if (run.name, run.seed) in compared else [train_job(run)]
    return jobs + profile_jobs(profile, runs)


def trial_jobs(profile: Profile) -> list[Job]:
    """Return the jobs that choose settings on validation people; all wait for the first, which trains their teacher."""
    runs = tuning.trials(profile)
    code = fingerprints.code_hash(*profile.faces.validation_code, "evaluation.metrics", "networks.templates")
    options = ("--profile", profile.name, "--scope", profile.scope)
    return [
        Job(
            kind="trial",
            label=run.label("try"),
            command=("trial", *options, "--number", number),
            outputs=(run.folder / tuning.TRIAL_RESULT,),
            needs=(runs[0].folder / tuning.TRIAL_RESULT,) if number else (),
            key_file=study_folder(profile) / "keys" / f"seed-{run.seed}" / f"{run.name}.trial",
            key=[run.key, code],
            log=run.folder / "trial.log",
            threads=profile.threads,
            gpus=profile.gpus,
            run=run,
        )
        for number, run in enumerate(runs)
    ]


def restored(run: Run) -> bool:
    """Tell whether a run's numbers are up to date while its model is not there: they were published and put back."""
    return not any(evaluate_job(test).stale for test in run.evaluations) and not (run.folder / MODEL).exists()


def targets(profile: Profile, runs: Sequence[Run]) -> list[Path]:
    """Return the results that a study asks for: of a rung the notebooks too, unless its numbers were restored."""
    wanted = [job.outputs[0] for job in profile_jobs(profile, runs)]
    for run in [*runs, *sweep_runs(profile)]:
        if run.is_rung and not restored(run):
            wanted += [job.outputs[0] for job in run_jobs(run)]
        else:
            wanted += [test.evaluation_folder / METRICS for test in run.evaluations]
    return wanted


def prepare(profile: Profile, runs: Sequence[Run], cores: int = 1) -> list[Job]:
    """Write the key files of a study and of its trials, those that changed; return the jobs of the study.

    Real data that are not at hand raise FileNotFoundError before a key is written: without them, all keys would differ.
    """
    profile.faces.check()
    jobs = study_jobs(profile, runs, cores)
    for job in [*jobs, *trial_jobs(profile)]:
        job.write_key()
    return jobs


def prepare_seeds(profile: Profile, seeds: range, cores: int = 1) -> tuple[list[Job], list[Path]]:
    """Prepare a study with some seeds; return its jobs and the results that it asks for."""
    runs = planned_runs(profile, seeds)
    return prepare(profile, runs, cores), targets(profile, runs)
