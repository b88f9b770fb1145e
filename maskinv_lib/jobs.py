"""The jobs of a study, as the workflow sees them: their notebooks, their results, and which of them are stale."""

from pathlib import Path

from maskinv_lib import fingerprints, study
from maskinv_lib.files import content_hash, write_text
from maskinv_lib.populations import Benchmark, RealFaces
from maskinv_lib.recipes import Profile

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
    return study.root() / "notebooks" / NOTEBOOKS[job]


def suffix(profile: Profile, benchmark: Benchmark) -> str:
    """Return what a name ends with to tell benchmarks apart: "-lfw", or "" where a profile has one alone."""
    return f"-{benchmark.name}" if len(profile.benchmarks) > 1 else ""


def compared(profile: Profile, benchmark: Benchmark) -> Path:
    """Return the folder of a benchmark's comparison: the profile's own, or where it has several, one below it."""
    folder = study.runs() / profile.name
    return folder if len(profile.benchmarks) == 1 else folder / benchmark.name


def tables(profile: Profile, benchmark: Benchmark, kind: str = "tables") -> Path:
    """Return the folder of a benchmark's tables, or with kind "figures" of its figures."""
    folder = study.runs() / profile.name / kind
    return folder if len(profile.benchmarks) == 1 else folder / benchmark.name


def key_file(of: study.Run | Path, job: str) -> Path:
    """Return the file that changes when a job must be done again: of a run, or of a folder of a profile."""
    if isinstance(of, study.Run):
        which = suffix(of.profile, of.measured_on) if job == "evaluate" else ""
        return study.runs() / of.profile.name / "keys" / f"seed-{of.seed}" / f"{of.name}.{job}{which}"
    return of / "keys" / job


def _results(of: study.Run | Profile, job: str, benchmark: Benchmark | None) -> list[Path]:
    if isinstance(of, study.Run):
        if job == "evaluate":
            return [of.measured / name for name in RESULTS[job]]
        shown = [of.folder / "train.ipynb"] if of.is_rung else []
        return [*shown, study.model_file(of), *(study.milestone(of, at) for at in of.stage.milestones)]
    if job == "compare":
        benchmark = benchmark or of.benchmarks[0]
        found = [tables(of, benchmark) / name for name in ("metrics.csv", "differences.csv")]
        return [compared(of, benchmark) / "compare.ipynb", *found]
    return [study.runs() / of.name / name for name in RESULTS[job]]


def _folder(of: Profile, job: str, benchmark: Benchmark | None) -> Path:
    return compared(of, benchmark or of.benchmarks[0]) if job == "compare" else study.runs() / of.name


def stale(of: study.Run | Profile, job: str, benchmark: Benchmark | None = None) -> bool:
    """Tell whether a job of a run or a profile must be done: a result is missing, or older than what it rests on.

    benchmark: of a profile's comparison, None is its first.
    """
    results = _results(of, job, benchmark)
    if not all(path.exists() for path in results):
        return True
    told = [] if isinstance(of, study.Run) and not of.is_rung else [notebook(job)]
    rests_on = [*told, key_file(of if isinstance(of, study.Run) else _folder(of, job, benchmark), job)]
    return min(path.stat().st_mtime for path in results) < max(path.stat().st_mtime for path in rests_on)


def restored(run: study.Run) -> bool:
    """Tell whether a run's numbers are up to date while its model is not there: they were published and put back."""
    measured = study.evaluations(run)
    return not any(stale(one, "evaluate") for one in measured) and not (run.folder / "model.safetensors").exists()


def wanted(run: study.Run) -> list[Path]:
    """Return the results of ``run`` that a study asks for: of a rung the notebooks too, unless it was restored."""
    measured = study.evaluations(run)
    if not run.is_rung or restored(run):
        return [one.measured / "metrics.json" for one in measured]
    return [run.folder / "train.ipynb", *(one.measured / "evaluate.ipynb" for one in measured)]


def prepare(profile: Profile, planned: list[study.Run]) -> Path:
    """Write the key files of a study, those that changed; return the profile's folder below ``runs``.

    planned: the runs that it compares; keys of its sweeps, and of what all of them are made of, are written too.

    Real data that are not at hand raise FileNotFoundError before a key is touched: without them, all keys would differ.
    """
    if isinstance(profile.faces, RealFaces):
        profile.faces.check()
    folder = study.runs() / profile.name
    code = fingerprints.code_hash(*study.FACES_CODE[profile.ladder])
    faces = {"config": profile.faces.config("train", "validation", "test"), "code": code}
    if isinstance(profile.faces, RealFaces):  # all sets are opened before any training, and again when one changes
        faces["tests"] = [one.evaluation_config for one in study.evaluations(planned[0])]
        faces["reader"] = fingerprints.code_hash(*study.EVALUATION_CODE["real"])
    drawn = {job: fingerprints.drawn_hash(notebook(job)) for job in NOTEBOOKS}
    _write_key(key_file(folder, "faces"), faces)
    _write_key(key_file(folder, "gallery"), [faces, fingerprints.code_hash("masks"), drawn["gallery"]])
    for run in study.with_ancestors([*planned, *study.sweep_runs(profile)]):
        shown = run.is_rung  # only rungs are shown in notebooks of their own
        _write_key(key_file(run, "train"), [run.key, drawn["train"] if shown else ""])
        for one in study.evaluations(run):
            _write_key(key_file(one, "evaluate"), [one.evaluation_key, drawn["evaluate"] if shown else ""])
    judged = fingerprints.code_hash("benchmarks.drawn", "metrics", "templates")
    for run in study.trials(profile):
        _write_key(key_file(run, "trial"), [run.key, judged])
    code = fingerprints.code_hash("verdicts", "uncertainty", "rankings", "planning")
    for benchmark in profile.benchmarks:
        measured = (one for run in planned for one in study.evaluations(run))
        results = [one.evaluation_key for one in measured if one.benchmark == benchmark]
        _write_key(key_file(compared(profile, benchmark), "compare"), [results, code, drawn["compare"]])
    swept = [run.evaluation_key for run in [*planned, *study.sweep_runs(profile)]]  # points may be rungs, of all seeds
    _write_key(key_file(folder, "sweeps"), [swept, code, drawn["sweeps"]])
    return folder


def _write_key(path: Path, value: object) -> None:
    text = content_hash(value) + "\n"
    if not path.exists() or path.read_text() != text:
        write_text(path, text)
