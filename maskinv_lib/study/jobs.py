"""The jobs of a study, as the workflow sees them: their notebooks, their results, and which of them are stale."""

from pathlib import Path

from maskinv_lib.study import tuning
from maskinv_lib.study.data import Benchmark, RealFaces
from maskinv_lib.study.recipes import Profile
from maskinv_lib.study.runs import (
    EVALUATION_CODE,
    FACES_CODE,
    Run,
    sweep_runs,
    with_ancestors,
)
from maskinv_lib.utils import fingerprints, paths
from maskinv_lib.utils.files import content_hash, write_text

NOTEBOOKS = {
    "gallery": "01-faces-and-masks.ipynb",
    "train": "02-train-a-stage.ipynb",
    "evaluate": "03-evaluate-a-stage.ipynb",
    "compare": "04-compare-the-ladder.ipynb",
    "sweeps": "06-how-much-guidance.ipynb",
}
"""Each kind of job and its notebook."""

RESULTS = {
    "gallery": ("faces-and-masks.ipynb",),
    "evaluate": ("metrics.json", "resamples.npz"),
    "sweeps": ("how-much-guidance.ipynb", "tables/sweeps.csv"),
}
"""The results, in the folder of the run or the profile, without which a job is not done; a training's depend on it."""


def notebook(job: str) -> Path:
    """Return the notebook of a kind of job."""
    return paths.root() / "notebooks" / NOTEBOOKS[job]


def suffix(profile: Profile, benchmark: Benchmark) -> str:
    """Return what a name ends with to tell benchmarks apart: "-lfw", or "" where a profile has one alone."""
    return f"-{benchmark.name}" if len(profile.benchmarks) > 1 else ""


def compared(profile: Profile, benchmark: Benchmark) -> Path:
    """Return the folder of a benchmark's comparison: the profile's own, or where it has several, one below it."""
    folder = paths.runs() / profile.name
    return folder if len(profile.benchmarks) == 1 else folder / benchmark.name


def tables(profile: Profile, benchmark: Benchmark, kind: str = "tables") -> Path:
    """Return the folder of a benchmark's tables, or with kind "figures" of its figures."""
    folder = paths.runs() / profile.name / kind
    return folder if len(profile.benchmarks) == 1 else folder / benchmark.name


def key_file(of: Run | Path, job: str) -> Path:
    """Return the file that changes when a job must be done again: of a run, or of a folder of a profile."""
    if isinstance(of, Run):
        which = suffix(of.profile, of.tested_on) if job == "evaluate" else ""
        return paths.runs() / of.profile.name / "keys" / f"seed-{of.seed}" / f"{of.name}.{job}{which}"
    return of / "keys" / job


def _results(of: Run | Profile, job: str, benchmark: Benchmark | None) -> list[Path]:
    if isinstance(of, Run):
        if job == "evaluate":
            return [of.evaluation_folder / name for name in RESULTS[job]]
        shown = [of.folder / "train.ipynb"] if of.is_rung else []
        return [*shown, of.model_file, *(of.milestone_file(at) for at in of.stage.milestones)]
    if job == "compare":
        benchmark = benchmark or of.benchmarks[0]
        found = [tables(of, benchmark) / name for name in ("metrics.csv", "differences.csv")]
        return [compared(of, benchmark) / "compare.ipynb", *found]
    return [paths.runs() / of.name / name for name in RESULTS[job]]


def _folder(of: Profile, job: str, benchmark: Benchmark | None) -> Path:
    return compared(of, benchmark or of.benchmarks[0]) if job == "compare" else paths.runs() / of.name


def stale(of: Run | Profile, job: str, benchmark: Benchmark | None = None) -> bool:
    """Tell whether a job of a run or a profile must be done: a result is missing, or older than what it rests on.

    benchmark: of a profile's comparison, None is its first.
    """
    results = _results(of, job, benchmark)
    if not all(path.exists() for path in results):
        return True
    told = [] if isinstance(of, Run) and not of.is_rung else [notebook(job)]
    rests_on = [*told, key_file(of if isinstance(of, Run) else _folder(of, job, benchmark), job)]
    return min(path.stat().st_mtime for path in results) < max(path.stat().st_mtime for path in rests_on)


def restored(run: Run) -> bool:
    """Tell whether a run's numbers are up to date while its model is not there: they were published and put back."""
    measured = run.evaluations
    return not any(stale(one, "evaluate") for one in measured) and not (run.folder / "model.safetensors").exists()


def wanted(run: Run) -> list[Path]:
    """Return the results of ``run`` that a study asks for: of a rung the notebooks too, unless it was restored."""
    measured = run.evaluations
    if not run.is_rung or restored(run):
        return [one.evaluation_folder / "metrics.json" for one in measured]
    return [run.folder / "train.ipynb", *(one.evaluation_folder / "evaluate.ipynb" for one in measured)]


def prepare(profile: Profile, planned: list[Run]) -> Path:
    """Write the key files of a study, those that changed; return the profile's folder below ``runs``.

    planned: the runs that it compares; keys of its sweeps, and of what all of them are made of, are written too.

    Real data that are not at hand raise FileNotFoundError before a key is touched: without them, all keys would differ.
    """
    if isinstance(profile.faces, RealFaces):
        profile.faces.check()
    folder = paths.runs() / profile.name
    code = fingerprints.code_hash(*FACES_CODE[profile.people])
    faces = {"config": profile.faces.config("train", "validation", "test"), "code": code}
    if isinstance(profile.faces, RealFaces):  # all sets are opened before any training, and again when one changes
        faces["tests"] = [one.evaluation_config for one in planned[0].evaluations]
        faces["reader"] = fingerprints.code_hash(*EVALUATION_CODE["real"])
    drawn = {job: fingerprints.notebook_hash(notebook(job)) for job in NOTEBOOKS}
    _write_key(key_file(folder, "faces"), faces)
    _write_key(key_file(folder, "gallery"), [faces, fingerprints.code_hash("faces.masks.drawing"), drawn["gallery"]])
    for run in with_ancestors([*planned, *sweep_runs(profile)]):
        shown = run.is_rung  # only rungs are shown in notebooks of their own
        _write_key(key_file(run, "train"), [run.key, drawn["train"] if shown else ""])
        for one in run.evaluations:
            _write_key(key_file(one, "evaluate"), [one.evaluation_key, drawn["evaluate"] if shown else ""])
    judged = fingerprints.code_hash("evaluation.benchmarks.drawn", "evaluation.metrics", "networks.templates")
    for run in tuning.trials(profile):
        _write_key(key_file(run, "trial"), [run.key, judged])
    code = fingerprints.code_hash(
        "evaluation.verdicts", "evaluation.uncertainty", "evaluation.rankings", "evaluation.power"
    )
    for benchmark in profile.benchmarks:
        measured = (one for run in planned for one in run.evaluations)
        results = [one.evaluation_key for one in measured if one.benchmark == benchmark]
        _write_key(key_file(compared(profile, benchmark), "compare"), [results, code, drawn["compare"]])
    swept = [run.evaluation_key for run in [*planned, *sweep_runs(profile)]]  # points may be rungs, of all seeds
    _write_key(key_file(folder, "sweeps"), [swept, code, drawn["sweeps"]])
    return folder


def _write_key(path: Path, value: object) -> None:
    text = content_hash(value) + "\n"
    if not path.exists() or path.read_text() != text:
        write_text(path, text)
