"""The jobs of a study, as the workflow sees them: their notebooks, their results, and which of them are stale."""

from pathlib import Path

from maskinv_lib import fingerprints, study
from maskinv_lib.files import content_hash, write_text
from maskinv_lib.recipes import Profile

NOTEBOOKS = {
    "gallery": "01-faces-and-masks.ipynb",
    "train": "02-train-a-stage.ipynb",
    "evaluate": "03-evaluate-a-stage.ipynb",
    "compare": "04-compare-the-ladder.ipynb",
}
"""Each kind of job and its notebook."""

RESULTS = {
    "gallery": ("faces-and-masks.ipynb",),
    "train": ("train.ipynb", "model.safetensors"),
    "evaluate": ("metrics.json", "resamples.npz"),
    "compare": ("compare.ipynb", "tables/metrics.csv", "tables/differences.csv"),
}
"""The results, in the folder of the run or the profile, without which a job is not done."""


def notebook(job: str) -> Path:
    """Return the notebook of a kind of job."""
    return study.root() / "notebooks" / NOTEBOOKS[job]


def _folder(of: study.Run | Profile) -> Path:
    return of.folder if isinstance(of, study.Run) else study.runs() / of.name


def key_file(of: study.Run | Path, job: str) -> Path:
    """Return the file that changes when a job must be done again: of a run, or of a profile's folder."""
    if isinstance(of, study.Run):
        return study.runs() / of.profile.name / "keys" / f"seed-{of.seed}" / f"{of.name}.{job}"
    return of / "keys" / job


def stale(of: study.Run | Profile, job: str) -> bool:
    """Tell whether a job of a run or a profile must be done: a result is missing, or older than what it rests on."""
    results = [_folder(of) / name for name in RESULTS[job]]
    if isinstance(of, study.Run) and job == "train":
        results += [study.milestone(of, at) for at in of.stage.milestones]
    if not all(path.exists() for path in results):
        return True
    rests_on = [notebook(job), key_file(of if isinstance(of, study.Run) else _folder(of), job)]
    return min(path.stat().st_mtime for path in results) < max(path.stat().st_mtime for path in rests_on)


def wanted(run: study.Run) -> list[Path]:
    """Return the results of ``run`` that a study asks for: of one whose numbers were restored, only those."""
    restored = not stale(run, "evaluate") and not (run.folder / "model.safetensors").exists()
    return [run.folder / name for name in (["metrics.json"] if restored else ["train.ipynb", "evaluate.ipynb"])]


def prepare(profile: Profile, planned: list[study.Run]) -> Path:
    """Write the key files of a study, those that changed; return the profile's folder below ``runs``."""
    folder = study.runs() / profile.name
    faces = {"config": profile.faces.__dict__, "code": fingerprints.code_hash("faces.synthetic")}
    drawn = {job: fingerprints.drawn_hash(notebook(job)) for job in NOTEBOOKS}
    _write_key(key_file(folder, "faces"), faces)
    _write_key(key_file(folder, "gallery"), [faces, fingerprints.code_hash("masks"), drawn["gallery"]])
    for run in planned:
        _write_key(key_file(run, "train"), [run.key, drawn["train"]])
        _write_key(key_file(run, "evaluate"), [run.evaluation_key, drawn["evaluate"]])
    results = [run.evaluation_key for run in planned]
    _write_key(
        key_file(folder, "compare"), [results, fingerprints.code_hash("verdicts", "uncertainty"), drawn["compare"]]
    )
    return folder


def _write_key(path: Path, value: object) -> None:
    text = content_hash(value) + "\n"
    if not path.exists() or path.read_text() != text:
        write_text(path, text)
