"""The jobs of a study: name, inputs, outputs and command of each, and whether it is stale.

The workflow loops over this list. A job is stale unless its results are noted with its key and still are what was noted
(``made``). A key is a hash of configuration, code, data and the keys of all jobs that the job builds on. The workflow
compares times: a stale job has a key file that is newer than its results, and the results of other jobs as input. A job
that is not stale has no input: if a job before it runs again with the same key, this job does not.
"""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from maskinv_lib.study import made, tuning
from maskinv_lib.study.data import Benchmark
from maskinv_lib.study.made import DAMAGED, Job, Made
from maskinv_lib.study.profiles import get_profile
from maskinv_lib.study.recipes import Profile
from maskinv_lib.study.runs import (
    FACTS,
    LOG,
    METRICS,
    NOTEBOOKS,
    Run,
    open_run,
    planned_runs,
    sweep_runs,
    with_ancestors,
)
from maskinv_lib.utils import fingerprints, paths
from maskinv_lib.utils.files import content_hash


def study_folder(profile: Profile, benchmark: Benchmark | None = None, kind: str = "") -> Path:
    """Return the folder of a study, or of one benchmark's results in it; kind: "tables", "figures" or ""."""
    return paths.runs() / profile.name / kind / (profile.subfolder(benchmark) if benchmark else "")


def _notebook(kind: str) -> Path:
    return paths.root() / "notebooks" / NOTEBOOKS[kind]


def _execution(kind: str, label: str, output: Path, parameters: dict, threads: int = 1) -> dict:
    """Return the fields of a job that executes a notebook: its label and the command."""
    values = [part for name, value in parameters.items() for part in ("-p", name, value)]
    command = ("notebook", _notebook(kind), output, "--label", label, "--threads", threads, *values)
    return {"label": label, "command": command}


def _key(kind: str, *parts: object) -> str:
    """Return the key of a job that executes a notebook: the hash of ``parts``, the notebook and the code behind it."""
    notebook = _notebook(kind)
    return content_hash([*parts, fingerprints.notebook_hash(notebook), fingerprints.cells_hash(notebook)])


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
    key, output = content_hash(key), faces_file(profile)
    return Job(
        label="render faces" if faces.publishable else "open the data",
        command=("faces", "--profile", profile.name, "--threads", cores),
        outputs=(output,),
        own=made.job_files(folder, "faces", key, output),
        key_file=folder / "keys" / "faces",
        key=key,
        log=folder / "logs" / "faces.log",
        threads=cores,
    )


def _run_fields(run: Run, kind: str, suffix: str = "") -> dict:
    """Return the fields that every job of one run has."""
    key_file = study_folder(run.profile) / "keys" / f"seed-{run.seed}" / f"{run.name}.{kind}{suffix}"
    return {"kind": kind, "key_file": key_file, "threads": run.profile.threads, "gpus": run.profile.gpus, "run": run}


def _run_job(run: Run, kind: str, results: Made, needs: Sequence[Path], priority: int) -> Job:
    """Return a training or an evaluation: of a rung in a notebook, of any other run without one."""
    profile, folder, evaluates = run.profile, results.note.parents[1], kind == "evaluate"
    values = {"profile": profile.name, "stage": run.stage.name, "seed": run.seed}
    values |= {"overrides": run.overrides_text} if run.overrides else {}
    values |= {"benchmark": run.tested_on.name} if evaluates and len(profile.benchmarks) > 1 else {}
    outputs = tuple(path for path in results.files if path.name != LOG and (path.name != FACTS or run.stage.parts))
    own, key = None, results.key
    if run.is_rung:
        executed = folder / f"{kind}.ipynb"
        execution = _execution(kind, run.label(kind), executed, values, profile.threads)
        outputs, key = (executed, *outputs), _key(kind, key)
        own = made.job_files(folder, executed.name, key, executed)
    else:
        options = [part for name, value in values.items() for part in (f"--{name}", value)]
        execution = {"label": run.label(kind), "command": (kind, *options)}
    return Job(
        **_run_fields(run, kind, profile.suffix(run.tested_on) if evaluates else ""),
        **execution,
        outputs=outputs,
        results=results,
        own=own,
        needs=(faces_file(profile), *needs),
        key=key,
        log=folder / f"{kind}.log",
        priority=priority,
    )


def train_job(run: Run) -> Job:
    """Return the job that trains a run. Earlier seeds come first; within a seed, trainings before evaluations.

    Facts and log are no outputs for the workflow, which removes the outputs of a failed job: a training continues from
    them, and they say why it failed. Of a combination the facts are all that there is.
    """
    return _run_job(run, "train", made.training(run), run.ancestor_files, 1 - 2 * run.seed)


def evaluate_job(run: Run) -> Job:
    """Return the job that evaluates a run on the benchmark that it is tested on."""
    needs = [run.model_file, *(run.ancestor_files if run.stage.parts else [])]
    return _run_job(run, "evaluate", made.evaluation(run), needs, -2 * run.seed)


def run_jobs(run: Run) -> list[Job]:
    """Return the jobs of one run: its training, and its evaluation on each benchmark."""
    return [train_job(run), *map(evaluate_job, run.evaluations)]


def _study_job(
    kind: str, label: str, outputs: Sequence[Path], parameters: dict, *, key: list, more: Sequence[Path] = (), **fields
) -> Job:
    """Return the job that executes a notebook about a whole study: the first of its outputs.

    more: files that today's notebook writes too, and a changed one perhaps not.
    """
    folder, name, key = outputs[0].parent, outputs[0].stem, _key(kind, *key)
    own = made.job_files(folder, name, key, *outputs, more=tuple(more))
    fields = {"log": folder / "logs" / f"{name}.log", "key_file": folder / "keys" / kind, **fields}
    return Job(**_execution(kind, label, outputs[0], parameters), outputs=tuple(outputs), own=own, key=key, **fields)


def _results(runs: Iterable[Run]) -> dict:
    """Return needs and key of a job that reads the results of ``runs``: numbers, and the facts of the training."""
    runs = list(runs)
    numbers = [run.evaluation_folder / METRICS for run in runs]
    again = [run.model_file for run in runs if DAMAGED in (made.training(run).faults() or {}).values()]
    return {"needs": tuple(dict.fromkeys([*numbers, *again])), "key": [[run.evaluation_key for run in runs]]}


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
    figures = study_folder(profile, benchmark, "figures")
    more = [tables / "ranking.csv", figures / "ladder.png", figures / "ladder.svg"]
    return _study_job("compare", label, outputs, parameters, log=log, more=more, **results)


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
    """Return the trials on validation people; the first ones need the faces and train the teachers of the others."""
    runs, seeds = tuning.trials(profile), tuning.TRIAL_SEEDS
    teachers = {run.seed: run.folder / tuning.TRIAL_RESULT for run in runs[: len(seeds)]}
    options = ("--profile", profile.name, "--scope", profile.scope)
    return [
        Job(
            **_run_fields(run, "trial"),
            label=run.label("try"),
            command=("trial", *options, "--number", number),
            outputs=result.files,
            results=result,
            needs=(teachers[run.seed],) if number >= len(seeds) else (faces_file(profile),),
            key=result.key,
            log=run.folder / "trial.log",
        )
        for number, (run, result) in enumerate(zip(runs, map(made.trial, runs), strict=True))
    ]


def targets(jobs: Iterable[Job]) -> list[Path]:
    """Return the files that the jobs of a study must produce: of an evaluated rung also its notebooks.

    Where a rung's numbers are up to date without its model, they were copied back from ``results`` and are enough.
    What is damaged is always made again.
    """
    jobs = list(jobs)
    by_run: dict[str, list[Job]] = {}
    for job in jobs:
        by_run.setdefault(job.run.label() if job.run else "", []).append(job)
    files = [job.outputs[0] for job in by_run.pop("", []) if job.executes]
    for train, *evaluations in by_run.values():
        restored = all(job.restored for job in evaluations)
        if evaluations and train.run.is_rung and not restored:
            files += [job.outputs[0] for job in (train, *evaluations)]
        else:
            files += [job.outputs[-1] for job in evaluations]
    files += [job.outputs[0] for job in jobs if job.damaged]
    return list(dict.fromkeys(files))


def are_made(files: Iterable[Path], jobs: Iterable[Job]) -> bool:
    """Return whether the workflow has nothing to do for ``files``: each exists, and its job has no input."""
    makers = {path: job for job in jobs for path in job.outputs}
    return all(path.exists() and not makers[path].inputs for path in files)


def noting(output: Path, parameters: dict) -> contextlib.AbstractContextManager:
    """Return the block in which a notebook is executed into ``output``: where a job does this, it notes what was made.

    The job's key is that of the code at the start of the block. Any other notebook is executed without a note.
    """
    candidates = _notebook_jobs(parameters) if paths.runs() in output.absolute().parents else []
    job = next((job for job in candidates if job.outputs[0] == output.absolute()), None)
    return job.own.making() if job and job.own else contextlib.nullcontext()


def _notebook_jobs(parameters: dict) -> list[Job]:
    """Return the jobs that could execute a notebook with these parameters."""
    if {"profile", "stage", "seed"} <= parameters.keys():
        names = ("profile", "stage", "seed", "overrides", "benchmark")
        return run_jobs(open_run(**{name: parameters[name] for name in names if name in parameters}))
    if "profile" not in parameters or "stage" in parameters:
        return []
    profile = get_profile(parameters["profile"], parameters.get("scope", "all"))  # only the wide study has sweeps
    return profile_jobs(profile, planned_runs(profile, range(parameters.get("seeds", 0))))


def prepare(profile: Profile, runs: Sequence[Run], cores: int = 1) -> list[Job]:
    """Mark the stale jobs of a study and of its trials for the workflow; return the jobs of the study.

    Missing real data raise FileNotFoundError before a key is written: without the data, all keys would differ.
    """
    profile.faces.check()
    jobs = study_jobs(profile, runs, cores)
    for job in [*jobs, *trial_jobs(profile)]:
        job.mark()
    fingerprints.keep()
    return jobs


def prepare_seeds(profile: Profile, seeds: range, cores: int = 1) -> tuple[list[Job], list[Path]]:
    """Prepare a study with these seeds; return its jobs and the files that it must produce."""
    jobs = prepare(profile, planned_runs(profile, seeds), cores)
    return jobs, targets(jobs)
