"""From runs/ to results/ and back: executed notebooks without a machine's traces, tables, and finished stages."""

import base64
import csv
import io
import json
import re
import shutil
from pathlib import Path

from PIL import Image

from maskinv_lib import files, jobs, study
from maskinv_lib.ladders import caveat
from maskinv_lib.progress import ladder_table
from maskinv_lib.recipes import Profile
from maskinv_lib.study import Run

MEASURED_FILES = ("metrics.json", "resamples.npz")
"""What an evaluation leaves for the comparison: numbers, curves and resampled rates; no templates, no scores."""

RUN_FILES = ("log.jsonl", "run.json")
"""What a training leaves; no weights."""

LIMIT = 12_000_000
"""Most bytes of one published profile: results stay in the repository's history."""


def study_files(profile: Profile) -> list[Path]:
    """Return the files that a finished study holds beside its stages."""
    folder = study.runs() / profile.name
    found = [folder / "faces-and-masks.ipynb"] if profile.ladder == "rendered" else []
    found += [folder / "how-much-guidance.ipynb", folder / "tables/sweeps.csv"] if profile.sweeps else []
    for benchmark in profile.benchmarks:
        tables = [jobs.tables(profile, benchmark) / f"{name}.csv" for name in ("metrics", "differences")]
        found += [jobs.compared(profile, benchmark) / "compare.ipynb", *tables]
    return found


FACTS = ("status", "key", "precision", "threads", "versions", "faces", "seconds", "faces_per_second", "wall_seconds")


def results(profile: Profile) -> Path:
    """Return the folder of a profile's published results: in MASKINV_RESULTS, or in ``results`` of the project."""
    return study.results() / profile.name


def publish(profile: Profile, stage: str | None = None) -> None:
    """Copy a finished study, or one finished stage, to ``results``; raise FileNotFoundError for what is not finished.

    With a stage: its numbers of all seeds that are there, to be put back by ``restore``. Without: also the executed
    notebooks of the profile and of seed 0, and the tables and figures.
    """
    folder = study.runs() / profile.name
    command = f"make study PROFILE={profile.name}"
    if stage is None:
        for path in study_files(profile):
            _require(path, command)
    names = profile.systems if stage is None else (study.checked_stage(stage, profile).name,)
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
    wanted = [run for seed in seeds for run in study.planned(profile, range(seed, seed + 1))]
    missing = [run for run in [*wanted, *study.sweep_runs(profile)] if run not in found]
    again = f"{command} SEEDS={len(seeds)}"
    if missing or seeds != list(range(len(seeds))):
        names = ", ".join(f"{run.name} seed {run.seed}" for run in missing) or f"seeds {seeds} have a gap"
        raise FileNotFoundError(f"Not every stage has every seed: {names}. Make them with: {again}")
    jobs.prepare(profile, wanted)
    old = ["gallery"] if profile.ladder == "rendered" and jobs.stale(profile, "gallery") else []
    old += ["sweeps"] if profile.sweeps and jobs.stale(profile, "sweeps") else []
    old += ["compare" for benchmark in profile.benchmarks if jobs.stale(profile, "compare", benchmark)]
    own = [run for run in found if run.seed == 0 and study.model_file(run).exists()]
    old += [f"train {run.name}" for run in own if jobs.stale(run, "train")]
    measured = [one for run in own for one in study.evaluations(run)]
    old += [f"evaluate {one.name}" for one in measured if jobs.stale(one, "evaluate")]
    if old:
        raise FileNotFoundError(f"Older than the code, settings or notebooks: {', '.join(old)}. Renew with: {again}")


def _require(path: Path, command: str) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there, so there is nothing to publish. Make it with: {command}")


def _runs_in(profile: Profile, folder: Path) -> list[Run]:
    """Return the runs of a study that are finished, its sweeps too: all files there, with the key of today's code."""
    seeds = sorted(int(path.name.removeprefix("seed-")) for path in folder.glob("seed-*"))
    runs = [run for seed in seeds for run in study.planned(profile, range(seed, seed + 1))]
    return [run for run in [*runs, *study.sweep_runs(profile)] if _whole(run)]


def _whole(run: Run) -> bool:
    """Tell whether a run was trained, and evaluated on every benchmark of its profile with today's code."""
    if not all((run.folder / name).exists() for name in RUN_FILES):
        return False
    return all(
        (one.measured / "resamples.npz").exists() and _evaluation_key(one.measured) == one.evaluation_key
        for one in study.evaluations(run)
    )


def _evaluation_key(folder: Path) -> str | None:
    path = folder / "metrics.json"
    return files.read_json(path).get("key") if path.exists() else None


def _publish_run(run: Run, target: Path) -> None:
    place = target / "stages" / run.name / f"seed-{run.seed}"
    place.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run.folder / "log.jsonl", place / "log.jsonl")
    for one in study.evaluations(run):
        there = place / one.measured.relative_to(run.folder)
        there.mkdir(parents=True, exist_ok=True)
        for name in MEASURED_FILES:
            shutil.copyfile(one.measured / name, there / name)
    facts = files.read_json(run.folder / "run.json")
    files.write_json(place / "run.json", {name: facts[name] for name in FACTS if name in facts})
    if run.seed == 0 and run.is_rung:
        _publish_notebook(run, run.folder / "train.ipynb", target / "notebooks" / f"{run.stage.name}-train.ipynb")
        one = study.evaluations(run)[0]  # of further benchmarks the comparison is enough
        name = f"{run.stage.name}-evaluate{jobs.suffix(run.profile, one.measured_on)}.ipynb"
        _publish_notebook(one, one.measured / "evaluate.ipynb", target / "notebooks" / name)


def _publish_notebook(run: Run, source: Path, place: Path) -> None:
    """Publish an executed notebook; of a restored run, the one that was published with the same numbers."""
    before = results(run.profile) / "notebooks" / place.name
    if source.exists():
        files.write_text(place, clean(source))
    elif before.exists() and _evaluation_key(study.published(run)) == run.evaluation_key:
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
    if profile.ladder == "rendered":
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
    places = (results(profile) / "openings.csv", study.runs() / profile.name / "openings.csv")
    before, now = (path.read_text(encoding="utf-8").splitlines() if path.exists() else [] for path in places)
    head, known = (before or now)[:1], set(now)
    if not head:
        raise FileNotFoundError(f"{places[1]} is not there: which test sets were opened, and when, is not known.")
    return "".join(f"{line}\n" for line in [*head, *[line for line in before if line not in known], *now[1:]])


SAID = ("<!-- said by make publish -->", "<!-- end -->")
"""Between these lines of the README stands what ``make study`` printed at the end of the published study."""


def _renew_readme(readme: Path, target: Path) -> None:
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    before, begin, rest = text.partition(SAID[0])
    _, end, after = rest.partition(SAID[1])
    if target.name == "laptop" and begin and end:
        table = ladder_table(target / "tables/metrics.csv")
        took = _duration(files.read_json(target / "profile.json")["took"])
        block = f"```\n{table}\nOpen first: runs/{target.name}/compare.ipynb\n```\n\n{took}"
        files.write_text(readme, f"{before}{begin}\n{block}\n{end}{after}")


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


def _duration(took: dict) -> str:
    if not took:
        return ""
    minutes = took["seconds"] / 60
    return f"One seed took {minutes:.0f} minutes of one core (mean of {took['seeds']} seeds); set-up comes on top.\n"


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
    places = {str(study.runs()): "runs", str(study.root()): ".", str(Path.home()): "~"}
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
    names = [*profile.systems, *dict.fromkeys(run.name for run in study.sweep_runs(profile))]
    names = names if stage is None else [study.checked_stage(stage, profile).name]
    places = [place for name in names for place in sorted((source / name).glob("seed-*"))]
    if not places:
        raise FileNotFoundError(f"No published stage of {profile.name} below {source}.")
    seeds = [int(place.name.removeprefix("seed-")) for place in places]
    planned = study.planned(profile, range(max(seeds) + 1))
    jobs.prepare(profile, planned)
    known = {(run.name, run.seed): run for run in [*planned, *study.sweep_runs(profile)]}
    for place, seed in zip(places, seeds, strict=True):
        run = known[place.parent.name, seed]
        print(f"{run.name}, seed {seed}: {_restore_run(run, place)}")


def _restore_run(run: Run, place: Path) -> str:
    measured = study.evaluations(run)
    for one in measured:
        key = _evaluation_key(study.published(one))
        if key != one.evaluation_key:
            return f"stale: published with other code or settings (key {key}, now {one.evaluation_key})"
    if _whole(run) and not any(jobs.stale(one, "evaluate") for one in measured):
        return "already there"
    wanted = [place / name for name in RUN_FILES]
    wanted += [study.published(one) / name for one in measured for name in MEASURED_FILES]
    for path in wanted:
        with files.whole_file(run.folder / path.relative_to(place)) as temporary:
            shutil.copyfile(path, temporary)
    return "restored"


def index() -> str:
    """Return ``results/README.md``: what was published, the ladder, the verdicts and what to open first."""
    parts = ["# Results\n", "Written by `make publish`; every number comes from the tables beside it.\n"]
    for folder in sorted(path.parent for path in study.results().glob("*/profile.json")):
        facts = files.read_json(folder / "profile.json")
        parts.append(f"## {facts['profile']}\n\n{facts['idea']}\n")
        parts.append(_duration(facts.get("took", {})))
        for tables in sorted(path.parent for path in (folder / "tables").rglob("metrics.csv")):
            parts.append(f"### {tables.name}\n" if tables.name != "tables" else "")
            parts.append(f"```\n{ladder_table(tables / 'metrics.csv')}\n```\n")
            parts.append(_verdict_lines(tables / "differences.csv"))
            parts.append(_ranking_lines(tables / "ranking.csv"))
        parts.append(facts.get("caveat", "") + "\n")
        parts.append(_links(folder))
    return "\n".join(parts)


def _verdict_lines(path: Path) -> str:
    from maskinv_lib.verdicts import CLAIMS, in_words

    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["claim"]]
    either = ", ".join(str(claim.number) for claim in CLAIMS if claim.any_contrast)
    lines = [
        f"Differences in EER, where no other rate is named. A claim's first line decides; of claim {either} any does.\n"
    ]
    lines += ["| claim | contrast | verdict | difference in points, with its 95 % interval |", "|---|---|---|---|"]
    sentences = {str(claim.number): f"{claim.number}. {claim.sentence}" for claim in CLAIMS}
    contrasts = dict.fromkeys((row["claim"], row["stage"], row["against"], row["verdict"]) for row in rows)
    for claim, stage, against, verdict in contrasts:
        found = [row for row in rows if (row["claim"], row["stage"], row["against"]) == (claim, stage, against)]
        numbers = "; ".join(_points(row) for row in found if verdict != "not run")
        lines.append(f"| {sentences.pop(claim, '')} | {in_words(stage, against)} | {verdict} | {numbers} |")
    return "\n".join(lines) + "\n"


def _ranking_lines(path: Path) -> str:
    """Return every system's EER and place under each condition, and how it stands to what all of them have to beat."""
    rows = []
    if path.exists():
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    against = rows[0]["against"] if rows else ""
    cells: dict[str, dict[str, str]] = {}
    for row in (row for row in rows if row["against"] == against and row["value"]):
        place = f"{row['rank']}." if row["rank"] else "oracle"
        word = f", {row['word']}" if row["word"] else ""
        cells.setdefault(row["stage"], {})[row["condition"]] = f"{100 * float(row['value']):.2f} ({place}{word})"
    if len(cells) <= FEW_SYSTEMS:
        return ""
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    masked = {row["stage"]: float(row["value"]) for row in rows if row["value"] and row["condition"] == conditions[-1]}
    cells = dict(sorted(cells.items(), key=lambda item: masked.get(item[0], 1.0)))
    seeds = min((int(row["seeds"]) for row in rows), default=0)
    told = f"EER in %, mean of {seeds} seeds, in brackets the place and how it stands to {against} (Holm over a column;"
    lines = [f"{told} intervals are in `ranking.csv`):\n"]
    lines += [f"| system | {' | '.join(conditions)} |", "|---" * (len(conditions) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(found.get(one, '') for one in conditions)} |" for name, found in cells.items()]
    return "\n".join(lines) + "\n"


FEW_SYSTEMS = 8
"""Most systems that need no ranking: the rungs of a ladder, which have their verdicts."""


def _points(row: dict[str, str]) -> str:
    place = row["condition"] if row["metric"] == "eer" else f"{row['metric'].upper()}, {row['condition']}"
    if not row["difference"]:
        return f"{place} not measurable"
    value, low, high = (100 * float(row[name]) for name in ("difference", "low", "high"))
    return f"{place} {value:.2f} [{low:.2f}, {high:.2f}]"


def _links(folder: Path) -> str:
    base = folder.name
    first = sorted(path.name for path in (folder / "notebooks").glob("compare*.ipynb"))
    found = ", ".join(f"[{name.removesuffix('.ipynb')}]({base}/notebooks/{name})" for name in first)
    lines = [f"Open first: {found}. Then:\n"]
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        lines.append(f"* [{path.stem}]({base}/notebooks/{path.name})")
    tables = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.csv"))
    lines += [f"* [{name.removeprefix('tables/')}]({base}/{name})" for name in tables]
    return "\n".join(lines) + "\n"
