"""From runs/ to results/ and back: executed notebooks without a machine's traces, tables, and finished stages."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

from PIL import Image

from maskinv_lib.reports.index import _renew_readme, index
from maskinv_lib.study import jobs
from maskinv_lib.study.profiles import caveat
from maskinv_lib.study.recipes import Profile
from maskinv_lib.study.runs import Run, find_stage, planned_runs, sweep_runs
from maskinv_lib.utils import files, paths

MEASURED_FILES = ("metrics.json", "resamples.npz")
"""What an evaluation leaves for the comparison: numbers, curves and resampled rates; no templates, no scores."""

RUN_FILES = ("log.jsonl", "run.json")
"""What a training leaves; no weights."""

LIMIT = 12_000_000
"""Most bytes of one published profile: results stay in the repository's history."""


def study_files(profile: Profile) -> list[Path]:
    """Return the files that a finished study holds beside its stages."""
    folder = paths.runs() / profile.name
    found = [folder / "faces-and-masks.ipynb"] if profile.people == "rendered" else []
    found += [folder / "how-much-guidance.ipynb", folder / "tables/sweeps.csv"] if profile.sweeps else []
    for benchmark in profile.benchmarks:
        tables = [jobs.tables(profile, benchmark) / f"{name}.csv" for name in ("metrics", "differences")]
        found += [jobs.compared(profile, benchmark) / "compare.ipynb", *tables]
    return found


FACTS = ("status", "key", "precision", "threads", "versions", "faces", "seconds", "faces_per_second", "wall_seconds")


def results(profile: Profile) -> Path:
    """Return the folder of a profile's published results: in MASKINV_RESULTS, or in ``results`` of the project."""
    return paths.results() / profile.name


def publish(profile: Profile, stage: str | None = None) -> None:
    """Copy a finished study, or one finished stage, to ``results``; raise FileNotFoundError for what is not finished.

    With a stage: its numbers of all seeds that are there, to be put back by ``restore``. Without: also the executed
    notebooks of the profile and of seed 0, and the tables and figures.
    """
    folder = paths.runs() / profile.name
    command = f"make study PROFILE={profile.name}"
    if stage is None:
        for path in study_files(profile):
            _require(path, command)
    names = profile.methods if stage is None else (find_stage(stage, profile).name,)
    found = [run for run in _runs_in(profile, folder) if run.stage.name in names]
    lacking = [name for name in names if name not in {run.stage.name for run in found}]
    if lacking:
        raise FileNotFoundError(f"No finished seed of {', '.join(lacking)} below {folder}. Make it with: {command}")
    target = results(profile)
    if stage is None:
        _require_one_study(profile, found, command)
        _publish_study(found, folder, target, profile)
    else:
        for run in found:
            _publish_run(run, target)
    print(f"Published {len(found)} finished run(s) of {profile.name} to {target}.")


def _require_one_study(profile: Profile, found: list[Run], command: str) -> None:
    """Refuse runs, tables and notebooks that do not belong together: other seeds, or older than what they rest on."""
    seeds = sorted({run.seed for run in found})
    wanted = [run for seed in seeds for run in planned_runs(profile, range(seed, seed + 1))]
    missing = [run for run in [*wanted, *sweep_runs(profile)] if run not in found]
    again = f"{command} SEEDS={len(seeds)}"
    if missing or seeds != list(range(len(seeds))):
        names = ", ".join(f"{run.name} seed {run.seed}" for run in missing) or f"seeds {seeds} have a gap"
        raise FileNotFoundError(f"Not every stage has every seed: {names}. Make them with: {again}")
    jobs.prepare(profile, wanted)
    old = ["gallery"] if profile.people == "rendered" and jobs.stale(profile, "gallery") else []
    old += ["sweeps"] if profile.sweeps and jobs.stale(profile, "sweeps") else []
    old += ["compare" for benchmark in profile.benchmarks if jobs.stale(profile, "compare", benchmark)]
    own = [run for run in found if run.seed == 0 and run.model_file.exists()]
    old += [f"train {run.name}" for run in own if jobs.stale(run, "train")]
    measured = [one for run in own for one in run.evaluations]
    old += [f"evaluate {one.name}" for one in measured if jobs.stale(one, "evaluate")]
    if old:
        raise FileNotFoundError(f"Older than the code, settings or notebooks: {', '.join(old)}. Renew with: {again}")


def _require(path: Path, command: str) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there, so there is nothing to publish. Make it with: {command}")


def _runs_in(profile: Profile, folder: Path) -> list[Run]:
    """Return the runs of a study that are finished, its sweeps too: all files there, with the key of today's code."""
    seeds = sorted(int(path.name.removeprefix("seed-")) for path in folder.glob("seed-*"))
    runs = [run for seed in seeds for run in planned_runs(profile, range(seed, seed + 1))]
    return [run for run in [*runs, *sweep_runs(profile)] if _whole(run)]


def _whole(run: Run) -> bool:
    """Tell whether a run was trained, and evaluated on every benchmark of its profile with today's code."""
    if not all((run.folder / name).exists() for name in RUN_FILES):
        return False
    return all(
        (one.evaluation_folder / "resamples.npz").exists()
        and _evaluation_key(one.evaluation_folder) == one.evaluation_key
        for one in run.evaluations
    )


def _evaluation_key(folder: Path) -> str | None:
    path = folder / "metrics.json"
    return files.read_json(path).get("key") if path.exists() else None


def _publish_run(run: Run, target: Path) -> None:
    place = target / "stages" / run.name / f"seed-{run.seed}"
    place.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run.folder / "log.jsonl", place / "log.jsonl")
    for one in run.evaluations:
        there = place / one.evaluation_folder.relative_to(run.folder)
        there.mkdir(parents=True, exist_ok=True)
        for name in MEASURED_FILES:
            shutil.copyfile(one.evaluation_folder / name, there / name)
    facts = files.read_json(run.folder / "run.json")
    files.write_json(place / "run.json", {name: facts[name] for name in FACTS if name in facts})
    if run.seed == 0 and run.is_rung:
        _publish_notebook(run, run.folder / "train.ipynb", target / "notebooks" / f"{run.stage.name}-train.ipynb")
        one = run.evaluations[0]  # of further benchmarks the comparison is enough
        name = f"{run.stage.name}-evaluate{jobs.suffix(run.profile, one.tested_on)}.ipynb"
        _publish_notebook(one, one.evaluation_folder / "evaluate.ipynb", target / "notebooks" / name)


def _publish_notebook(run: Run, source: Path, place: Path) -> None:
    """Publish an executed notebook; of a restored run, the one that was published with the same numbers."""
    before = results(run.profile) / "notebooks" / place.name
    if source.exists():
        files.write_text(place, clean(source))
    elif before.exists() and _evaluation_key(run.published_folder) == run.evaluation_key:
        files.write_text(place, before.read_text(encoding="utf-8"))
    else:
        raise FileNotFoundError(f"{source} is not there, nor was it published. Make it with: {run.command}")


def _publish_study(found: list[Run], folder: Path, target: Path, profile: Profile) -> None:
    """Build the profile's results beside the old ones, then put them in their place and renew what lists them."""
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    for run in found:
        _publish_run(run, new)
    _publish_whole(found, folder, new, profile)
    size = sum(path.stat().st_size for path in new.rglob("*") if path.is_file())
    if size > LIMIT:
        raise ValueError(f"{new} has {size / 1e6:.1f} MB, over {LIMIT / 1e6:.1f}: nothing was replaced. Publish less.")
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)
    files.write_text(target.parent / "README.md", index())
    _renew_readme(target.parent.parent / "README.md", target)


def _publish_whole(found: list[Run], folder: Path, target: Path, profile: Profile) -> None:
    if profile.people == "rendered":
        shown = ["faces-and-masks", *(["how-much-guidance"] if profile.sweeps else [])]
        for name in shown:
            files.write_text(target / f"notebooks/{name}.ipynb", clean(folder / f"{name}.ipynb"))
    else:
        files.write_text(target / "openings.csv", openings(profile))
    for benchmark in profile.benchmarks:
        name = f"compare{jobs.suffix(profile, benchmark)}.ipynb"
        files.write_text(target / "notebooks" / name, clean(jobs.compared(profile, benchmark) / "compare.ipynb"))
        for kind in ("tables", "figures"):
            place = jobs.tables(profile, benchmark, kind)
            there = target / place.relative_to(folder)
            there.mkdir(parents=True, exist_ok=True)
            for path in sorted(place.glob("*.*")):
                shutil.copyfile(path, there / path.name)
    about = {"profile": profile.name, "idea": profile.idea, "took": _took(folder, found)}
    about |= {"benchmarks": [one.name for one in profile.benchmarks], "caveat": caveat(profile)}
    files.write_json(target / "profile.json", about)


def openings(profile: Profile) -> str:
    """Return ``openings.csv``: the openings of test sets that were published before, then those noted in ``runs``."""
    places = (results(profile) / "openings.csv", paths.runs() / profile.name / "openings.csv")
    before, now = (path.read_text(encoding="utf-8").splitlines() if path.exists() else [] for path in places)
    head, known = (before or now)[:1], set(now)
    if not head:
        raise FileNotFoundError(f"{places[1]} is not there: which test sets were opened, and when, is not known.")
    return "".join(f"{line}\n" for line in [*head, *[line for line in before if line not in known], *now[1:]])


def _took(folder: Path, found: list[Run]) -> dict:
    """Return the seconds of one core that a seed of the rungs took, of seeds whose jobs are all noted in ``folder``.

    Training and evaluation together, the mean over those seeds; where none is noted, what was published before, which
    may be nothing: where jobs have several cores.
    """
    path = folder / "events.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    ended = [event for event in map(json.loads, lines) if event["what"] == "end"]
    seconds = {event["job"]: event["seconds"] for event in ended}
    by_seed: dict[int, list[float | None]] = {}
    for run in (run for run in found if run.is_rung and run.profile.threads == 1):
        jobs_of = [f"{verb} {run.name}, seed {run.seed}" for verb in ("train", "evaluate")]
        by_seed.setdefault(run.seed, []).extend(seconds.get(job) for job in jobs_of)
    whole = [sum(times) for times in by_seed.values() if None not in times]
    if whole:
        return {"seconds": round(sum(whole) / len(whole)), "seeds": len(whole)}
    before = results(found[0].profile) / "profile.json"
    return files.read_json(before).get("took", {}) if before.exists() else {}


def clean(notebook: Path) -> str:
    """Return an executed notebook as text without machine paths, dates, warnings and execution times."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    content["metadata"] = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for cell in content["cells"]:
        tags = [tag for tag in cell["metadata"].get("tags", []) if not tag.startswith("papermill")]
        cell["metadata"] = {"tags": tags} if tags else {}
        if cell["cell_type"] == "code":
            cell["outputs"] = [output for output in cell["outputs"] if output.get("name") != "stderr"]
            for output in cell["outputs"]:
                if "metadata" in output:
                    output["metadata"] = {}
                if "image/png" in output.get("data", {}):
                    output["data"]["image/png"] = _smaller(output["data"]["image/png"])
                if "text/html" in output.get("data", {}):
                    output["data"].pop("text/plain", None)  # for a table it is only an address in memory
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    return _without_paths(text)


def _smaller(png: str) -> str:
    """Return a picture, base64 of a PNG, with a palette of 128 colours: a quarter of the bytes."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return min(png, base64.b64encode(out.getvalue()).decode(), key=len)


def _without_paths(text: str) -> str:
    places = {str(paths.runs()): "runs", str(paths.root()): ".", str(Path.home()): "~"}
    for path, word in places.items():
        if len(path) > 1:
            text = re.sub(re.escape(path) + r"(?=[/\"' \\),.:;]|$)", word, text)
    return text


def restore(profile: Profile, stage: str | None = None) -> None:
    """Put published stages back into ``runs`` as finished where their key is still that of the code and settings.

    A stage that is already there with this key is left alone. Its weights were not published: if a stage that still
    has to be trained builds on it, the workflow trains it again.
    """
    source = results(profile) / "stages"
    names = [*profile.methods, *dict.fromkeys(run.name for run in sweep_runs(profile))]
    names = names if stage is None else [find_stage(stage, profile).name]
    places = [place for name in names for place in sorted((source / name).glob("seed-*"))]
    if not places:
        raise FileNotFoundError(f"No published stage of {profile.name} below {source}.")
    seeds = [int(place.name.removeprefix("seed-")) for place in places]
    planned = planned_runs(profile, range(max(seeds) + 1))
    jobs.prepare(profile, planned)
    known = {(run.name, run.seed): run for run in [*planned, *sweep_runs(profile)]}
    for place, seed in zip(places, seeds, strict=True):
        run = known[place.parent.name, seed]
        print(f"{run.name}, seed {seed}: {_restore_run(run, place)}")


def _restore_run(run: Run, place: Path) -> str:
    measured = run.evaluations
    for one in measured:
        key = _evaluation_key(one.published_folder)
        if key != one.evaluation_key:
            return f"stale: published with other code or settings (key {key}, now {one.evaluation_key})"
    if _whole(run) and not any(jobs.stale(one, "evaluate") for one in measured):
        return "already there"
    wanted = [place / name for name in RUN_FILES]
    wanted += [one.published_folder / name for one in measured for name in MEASURED_FILES]
    for path in wanted:
        with files.whole_file(run.folder / path.relative_to(place)) as temporary:
            shutil.copyfile(path, temporary)
    return "restored"
