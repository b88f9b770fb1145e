"""From runs/ to results/ and back: notebooks, tables and finished stages, without traces of the machine."""

import base64
import contextlib
import dataclasses
import io
import json
import re
import shutil
import tempfile
import uuid
import zipfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from statistics import fmean

from PIL import Image

from maskinv_lib.pipeline import records
from maskinv_lib.reports.explain import caveat
from maskinv_lib.reports.index import renew_index, renew_readme
from maskinv_lib.study import jobs, made
from maskinv_lib.study.recipes import Profile
from maskinv_lib.study.runs import (
    FACTS,
    LOG,
    METRICS,
    RESAMPLES,
    RESTORE,
    Run,
    find_stage,
    planned_runs,
    sweep_runs,
    with_ancestors,
)
from maskinv_lib.utils import files, paths

EVALUATION_FILES = (METRICS, RESAMPLES)
"""The published files of an evaluation: numbers, curves and resampled rates; no templates, no scores."""

RUN_FILES = (LOG, FACTS)
"""The published files of a training; no weights."""

LIMIT = 12_000_000
"""The largest size of a published profile in bytes: results stay in the repository's history."""

PUBLISHED_FACTS = (
    *("status", "key", "precision", "threads", "versions"),
    *("faces", "seconds", "faces_per_second", "wall_seconds"),
)
"""The published facts of a run: none of them names a machine."""


def results_folder(profile: Profile) -> Path:
    """Return the folder of a profile's published results: in MASKINV_RESULTS, or in ``results`` of the project."""
    return paths.results() / profile.name


def publish(profile: Profile, stage: str | None = None) -> None:
    """Copy a finished study, or one finished stage, to ``results``; FileNotFoundError for what is not finished.

    A file that is not what its maker noted raises ValueError with its name. What was published before is replaced as a
    whole, or, if anything fails, stays as it is. With a stage: the numbers of all its finished seeds, which ``restore``
    can copy back. Without: also the executed notebooks of the profile and of seed 0, and the tables and figures.
    """
    folder, command = jobs.study_folder(profile), f"make study PROFILE={profile.name}"
    names = profile.methods if stage is None else (find_stage(stage, profile).name,)
    seeds = sorted(int(path.name.removeprefix("seed-")) for path in folder.glob("seed-*"))
    planned = planned_runs(profile, seeds)
    outputs = [path for job in jobs.profile_jobs(profile, planned) for path in job.outputs] if stage is None else []
    for path in (path for path in outputs if not path.exists()):
        raise FileNotFoundError(f"{path} does not exist, so nothing can be published. Make it with: {command}")
    runs = [run for run in [*planned, *sweep_runs(profile)] if run.stage.name in names and _finished(run)]
    missing = [name for name in names if name not in {run.stage.name for run in runs}]
    if missing:
        raise FileNotFoundError(f"No finished seed of {', '.join(missing)} below {folder}. Make it with: {command}")
    target = results_folder(profile)
    if stage is None:
        _require_one_study(profile, runs, command)
    with _replacing(target, lists=stage is None) as new:
        if stage is not None and target.exists():
            shutil.copytree(target, new, dirs_exist_ok=True)
        for name, of_stage in groupby(sorted(runs, key=lambda run: run.name), key=lambda run: run.name):
            _publish_stage(list(of_stage), new / RESTORE / f"{name}.zip")
        for run in (run for run in runs if run.seed == 0 and run.is_rung and run.stage.question == "ablation"):
            _publish_notebooks(run, new)
        if stage is None:
            _publish_reports(runs, new, profile)
    print(f"Published {len(runs)} finished run(s) of {profile.name} to {target}.")


def _require_one_study(profile: Profile, runs: list[Run], command: str) -> None:
    """Refuse runs, tables and notebooks that do not fit: seeds are missing, or files are older than their inputs."""
    seeds = sorted({run.seed for run in runs})
    planned = planned_runs(profile, seeds)
    missing = [run for run in [*planned, *sweep_runs(profile)] if run not in runs]
    again = f"{command} SEEDS={len(seeds)}"
    if missing or seeds != list(range(len(seeds))):
        names = ", ".join(f"{run.name} seed {run.seed}" for run in missing) or f"seeds {seeds} have a gap"
        raise FileNotFoundError(f"Not every stage has every seed: {names}. Make them with: {again}")
    profile.faces.check()
    published = [run for run in runs if run.seed == 0 and run.model_file.exists()]
    checked = [*jobs.profile_jobs(profile, planned), *(job for run in published for job in jobs.run_jobs(run))]
    for part in (job.own for job in [jobs.faces_job(profile), *checked] if job.own):
        _refuse_damage(part.faults(trust_times=False), profile)
    stale = [job.label for job in checked if job.stale]
    if stale:
        raise FileNotFoundError(f"Older than the code, settings or notebooks: {', '.join(stale)}. Renew with: {again}")


def _finished(run: Run) -> bool:
    """Return whether a run was trained, and evaluated on each benchmark of its profile with the current code.

    Models need not be there; a damaged file raises ValueError.
    """
    found = [part.faults(trust_times=False) for part in (made.training(run), *map(made.evaluation, run.evaluations))]
    for faults in found:
        _refuse_damage(faults, run.profile)
    numbers = {path for part in _published_parts(run) for path in part.files}
    return None not in found and numbers.isdisjoint(path for faults in found for path in faults)


def _published_parts(run: Run) -> list[made.Made]:
    """Return what the training and the evaluations of a run make, without the models, which are not published."""
    facts = tuple(run.folder / name for name in RUN_FILES)
    return [dataclasses.replace(made.training(run), files=facts), *map(made.evaluation, run.evaluations)]


def _refuse_damage(faults: dict[Path, str] | None, profile: Profile) -> None:
    for path, fault in (faults or {}).items():
        if fault == made.DAMAGED:
            command = f"make study PROFILE={profile.name}"
            raise ValueError(f"{path} is {fault}, so nothing was published. Make it again with: {command}")


@contextlib.contextmanager
def _replacing(target: Path, lists: bool) -> Iterator[Path]:
    """Yield a new folder; then put it in the place of ``target``, and with ``lists`` renew the lists of results.

    If anything fails, all is as it was before. More bytes than ``LIMIT`` raise ValueError.
    """
    created = not target.parent.exists()
    holder = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
    new, texts = holder / "new", (target.parent / "README.md", target.parent.parent / "README.md")
    try:
        new.mkdir(parents=True)
        yield new
        size = sum(path.stat().st_size for path in new.rglob("*") if path.is_file())
        if size > LIMIT:
            large = f"{target} would have {size / 1e6:.1f} MB, over {LIMIT / 1e6:.1f}"
            raise ValueError(f"{large}: nothing was replaced. Publish less.")
        with files.in_place_of(target, new), _kept(*texts):
            if lists:
                renew_index()
                renew_readme(texts[1])
    finally:
        shutil.rmtree(holder, ignore_errors=True)
        with contextlib.suppress(OSError):  # it is not empty
            if created:
                target.parent.rmdir()


@contextlib.contextmanager
def _kept(*paths: Path) -> Iterator[None]:
    """If the block raises, give the files the content that they had before it."""
    before = {path: path.read_bytes() if path.exists() else None for path in paths}
    try:
        yield
    except BaseException:
        for path, content in before.items():
            path.unlink(missing_ok=True) if content is None else path.write_bytes(content)
        raise


def _evaluation_key(folder: Path | zipfile.Path) -> str | None:
    path = folder / METRICS
    return files.read_json(path).get("key") if path.exists() else None


def _publish_stage(runs: list[Run], archive: Path) -> None:
    """Write the numbers of a stage's finished seeds into its archive; other seeds in it stay if they are up to date."""
    before = files.read_archive(archive)
    seeds = {int(name.partition("/")[0].removeprefix("seed-")) for name in before}
    others = [dataclasses.replace(runs[0], seed=seed) for seed in seeds - {run.seed for run in runs}]
    kept = tuple(f"seed-{other.seed}/" for other in others if _is_current(other))
    contents = {name: content for name, content in before.items() if name.startswith(kept)}
    for run in runs:
        facts = files.read_json(run.folder / FACTS)
        facts = {name: facts[name] for name in PUBLISHED_FACTS if name in facts}
        paths_of = [test.evaluation_folder / name for test in run.evaluations for name in EVALUATION_FILES]
        names = {path.relative_to(run.folder).as_posix(): path for path in [run.folder / LOG, *paths_of]}
        own = {name: path.read_bytes() for name, path in names.items()} | {FACTS: files.json_text(facts).encode()}
        contents |= {f"seed-{run.seed}/{name}": content for name, content in own.items()}
    files.write_archive(archive, contents)


def _is_current(run: Run) -> bool:
    """Return whether a run's published evaluations are those of today's code and settings."""
    return all(_evaluation_key(test.published_folder) == test.evaluation_key for test in run.evaluations)


def _publish_notebooks(run: Run, target: Path) -> None:
    for job in jobs.run_jobs(run)[:2]:  # of further benchmarks only the comparison is published
        suffix = run.profile.suffix(job.run.tested_on) if job.kind == "evaluate" else ""
        _publish_notebook(job, target / "notebooks" / f"{run.stage.name}-{job.kind}{suffix}.ipynb")


def _copy(source: Path | zipfile.Path, target: Path) -> None:
    with files.whole_file(target) as temporary:
        temporary.write_bytes(source.read_bytes())


def _publish_notebook(job: jobs.Job, target: Path) -> None:
    """Publish an executed notebook; for a restored run, the notebook already published with the same numbers."""
    run, source = job.run, job.outputs[0]
    before = results_folder(run.profile) / "notebooks" / target.name
    faults = job.own.faults(trust_times=False)
    _refuse_damage(faults, run.profile)
    if faults == {}:
        files.write_text(target, clean(source))
    elif before.exists() and _evaluation_key(run.published_folder) == run.evaluation_key:
        files.write_text(target, before.read_text(encoding="utf-8"))
    else:
        raise FileNotFoundError(
            f"{source} does not exist or is older than the code, nor was it published. "
            f"Make it with: make study PROFILE={run.profile.name}"
        )


def _publish_reports(runs: list[Run], target: Path, profile: Profile) -> None:
    """Publish what combines all runs: notebooks, tables, figures and ``openings.csv``."""
    folder = jobs.study_folder(profile)
    for job in jobs.profile_jobs(profile, runs):
        files.write_text(target / "notebooks" / f"{job.log.stem}.ipynb", clean(job.outputs[0]))
    files.write_text(target / "openings.csv", openings(profile))
    for path in sorted(path for kind in ("tables", "figures") for path in (folder / kind).rglob("*.*")):
        _copy(path, target / path.relative_to(folder))
    about = {"profile": profile.name, "idea": profile.idea, "took": _time_per_seed(runs)}
    about |= {"benchmarks": [benchmark.name for benchmark in profile.benchmarks], "caveat": caveat(profile)}
    about |= {"people": profile.faces.people, "scale": _scale(profile)}
    files.write_json(target / "profile.json", about)


def _scale(profile: Profile) -> dict[str, int | str]:
    """Return the size of a study for the table of scale (``index.SCALE``), without what its tables say."""
    faces, people = profile.faces, profile.faces.config("train").get("train")
    pictures, spent = faces.training_count, profile.schedule.budget
    scale = {"network": f"{profile.network}, {profile.embedding_size}-D", "faces in training": spent}
    scale |= {"people": people} if people else {}
    scale |= {"pictures": pictures, "passes": f"{spent / pictures:.1f}"} if pictures else {}
    return scale | ({"test people": faces.test} if faces.publishable else {})


def openings(profile: Profile) -> str:
    """Return ``openings.csv``: the openings of test sets published earlier, then those recorded in ``runs``."""
    recorded = jobs.study_folder(profile) / "openings.csv"
    before, now = (
        path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for path in (results_folder(profile) / "openings.csv", recorded)
    )
    header = (before or now)[:1]
    if not header:
        raise FileNotFoundError(f"{recorded} does not exist: which test sets were opened, and when, is not known.")
    return "".join(f"{line}\n" for line in [*header, *[line for line in before if line not in now], *now[1:]])


def _time_per_seed(runs: list[Run]) -> dict:
    """Return the seconds of one core for training all rungs with one seed, their start too, and the number of seeds.

    The mean over the seeds whose trainings are all recorded in ``runs``. Where there is none, the numbers published
    earlier, if they are of the same study; else, or where jobs have several cores, {}.
    """
    by_seed: dict[int, list[float | None]] = {}
    for run in with_ancestors(run for run in runs if run.is_rung and run.profile.threads == 1):
        facts = files.read_json(run.folder / FACTS) if (run.folder / FACTS).exists() else {}
        by_seed.setdefault(run.seed, []).append(facts.get("wall_seconds"))
    complete = [sum(times) for times in by_seed.values() if None not in times]
    if complete:
        return {"seconds": round(fmean(complete)), "seeds": len(complete)}
    before = results_folder(runs[0].profile) / "profile.json"
    return files.read_json(before).get("took", {}) if before.exists() and _is_current(runs[0]) else {}


def clean(notebook: Path) -> str:
    """Return an executed notebook as text without machine paths, dates, warnings and execution times."""
    content = files.read_json(notebook)
    if "cells" not in content:
        raise ValueError(f"{notebook} is no notebook: it has no cells. Delete it and run the study again.")
    content["metadata"] = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for cell in content["cells"]:
        tags = [tag for tag in cell["metadata"].get("tags", []) if not tag.startswith("papermill")]
        cell["metadata"] = {"tags": tags} if tags else {}
        if cell["cell_type"] == "code":
            cell["outputs"] = [output for output in cell["outputs"] if output.get("name") != "stderr"]
            for output in cell["outputs"]:
                output |= {"metadata": {}} if "metadata" in output else {}
                data = output.get("data", {})
                if "image/png" in data:
                    data["image/png"] = _smaller(data["image/png"])
                if "text/html" in data:
                    data.pop("text/plain", None)  # of a table, only its address in memory
    return _without_paths(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _smaller(png: str) -> str:
    """Return a picture, base64 of a PNG, with a palette of 128 colours: a quarter of the bytes."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return min(png, base64.b64encode(out.getvalue()).decode(), key=len)


def _without_paths(text: str) -> str:
    words = {str(paths.runs()): "runs", str(paths.root()): ".", str(Path.home()): "~"}
    for path, word in words.items():
        if len(path) > 1:
            text = re.sub(re.escape(path) + r"(?=[/\"' \\),.:;]|$)", word, text)
    return text


def restore(profile: Profile, stage: str | None = None) -> None:
    """Copy published stages back to ``runs`` as finished, where the code and settings still have their key.

    A finished stage with this key is left as it is. The weights were not published: if another stage that must be
    trained needs them, the workflow trains this stage again. A damaged published file raises an error with its name
    before anything is copied.
    """
    profile.faces.check()
    states = [(run, *_to_restore(run)) for run in _published_runs(profile, stage)]
    for run, state, parts in states:
        _restore_parts(run, parts)
        print(f"{run.label()}: {state}")


def _published_runs(profile: Profile, stage: str | None) -> list[Run]:
    """Return the published runs of a profile, of one stage or of all."""
    names = [*profile.methods, *dict.fromkeys(run.name for run in sweep_runs(profile))]
    names = names if stage is None else [find_stage(stage, profile).name]
    folder = results_folder(profile) / RESTORE
    contents = {name: files.read_archive(folder / f"{name}.zip") for name in names}
    found = {(name, path.partition("/")[0]) for name, parts in contents.items() for path in parts}
    if not found:
        raise FileNotFoundError(f"No published stage of {profile.name} below {folder}.")
    seeds = sorted({int(seed.removeprefix("seed-")) for _, seed in found})
    planned = planned_runs(profile, range(max(seeds) + 1))
    runs = {(run.name, run.seed): run for run in [*planned, *sweep_runs(profile)]}
    ordered = [(name, seed) for name in names for seed in seeds if (name, f"seed-{seed}") in found]
    return [runs[key] for key in ordered if key in runs]


def _to_restore(run: Run) -> tuple[str, list[made.Made]]:
    """Return (what becomes of a published run, the parts of it that are to be copied).

    A damaged published file raises an error that names it.
    """
    for test in run.evaluations:
        records.read_evaluation(test, test.published_folder)
        key = _evaluation_key(test.published_folder)
        if key != test.evaluation_key:
            return f"stale: published with other code or settings (key {key}, now {test.evaluation_key})", []
    lines = _published(run, run.folder / LOG)
    if not lines.exists() or len(files.read_json_lines(lines)) != len(lines.read_bytes().splitlines()):
        raise ValueError(f"{lines} is missing or damaged. Take it from the repository again.")
    parts = [part for part in _published_parts(run) if _differs(part)]
    return ("restored", parts) if parts else ("already there", [])


def _differs(part: made.Made) -> bool:
    faults = part.faults(trust_times=False)
    return faults is None or not faults.keys().isdisjoint((*part.files, part.note))


def _published(run: Run, path: Path) -> Path | zipfile.Path:
    """Return the published copy of a file in a run's folder."""
    return files.inside(run.published_archive, f"seed-{run.seed}/{path.relative_to(run.folder).as_posix()}")


def _restore_parts(run: Run, parts: list[made.Made]) -> None:
    """Copy the published files of the parts, all of them or none, and note them."""
    folder = jobs.study_folder(run.profile)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=folder) as name:
        temporary = Path(name)
        for path in (path for part in parts for path in part.files):
            _copy(_published(run, path), temporary / path.relative_to(run.folder))
        for part in parts:
            part.note.parents[1].mkdir(parents=True, exist_ok=True)
            with part.making():
                for path in part.files:
                    (temporary / path.relative_to(run.folder)).rename(path)
