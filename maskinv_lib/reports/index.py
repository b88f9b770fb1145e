"""Texts about the published results: ``results/README.md``, and the study's output in the README."""

import textwrap
from pathlib import Path

from maskinv_lib.evaluation.metrics import RATES
from maskinv_lib.evaluation.verdicts import CLAIMS, in_words
from maskinv_lib.reports.findings import Tables, changes, csv_rows, meaning, read_tables, verdict_table
from maskinv_lib.study.ablation import BASELINE
from maskinv_lib.study.data import UNMASKED
from maskinv_lib.study.progress import eer_table
from maskinv_lib.study.runs import MODEL
from maskinv_lib.utils import files, paths

END = "<!-- end -->"
OUTPUT, VERDICTS = ("<!-- output, said by make publish -->", "<!-- verdicts, said by make publish -->")
"""In the README, ``make publish`` writes what stands between these lines and the next ``END``."""


def renew_readme(readme: Path) -> None:
    """Write into the README the verdicts of the published studies, and the output of the laptop study."""
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    blocks = {VERDICTS: _headline(), OUTPUT: _output(paths.results() / "laptop")}
    for mark, block in blocks.items():
        before, begin, rest = text.partition(mark)
        _, end, after = rest.partition(END)
        if begin and end and block:
            text = f"{before}{begin}\n{block}\n{end}{after}"
    if text:
        files.write_text(readme, text)


def _output(folder: Path) -> str:
    """Return what ``make study`` prints at the end of a published study, and its time."""
    if not (folder / "profile.json").exists():
        return ""
    duration = _duration(files.read_json(folder / "profile.json")["took"])
    return f"```\n{eer_table(folder / 'tables/metrics.csv')}\nOpen first: runs/laptop/compare.ipynb\n```\n\n{duration}"


def _studies() -> dict[str, Tables]:
    """Return profile -> tables of the published studies of rendered people that are not older than the code.

    The study with the most faces per training is the first: the headline and the figure are its.
    """
    facts = [files.read_json(path) for path in paths.results().glob("*/profile.json")]
    current = [part for part in facts if "scale" in part and "older" not in part and part["people"] == "rendered"]
    current.sort(key=lambda part: -part["scale"]["faces in training"])
    return {part["profile"]: read_tables(paths.results() / part["profile"] / "tables") for part in current}


def _headline() -> str:
    """Return the figure, the verdicts and what they mean, for the README; "" where no study is published."""
    studies = _studies()
    if not studies:
        return ""
    first = next(iter(studies))
    picture = (
        f"![Differences in equal error rate to training with masks alone](results/{first}/figures/differences.png)"
    )
    return "\n".join(["", picture, "", *_verdicts(studies)])


def _verdicts(studies: dict[str, Tables]) -> list[str]:
    """Return lines: the table of the verdicts of all studies, what changes with scale, and what the first one means."""
    first = next(iter(studies))
    caption = (
        "Numbers: the differences of the contrast that decides, in points, for each of its conditions: one masked face"
        " and then two, or unmasked pairs (claim 6: FMR100; claim 7: EER and FMR100; others: EER)."
    )
    texts = [caption, changes(studies), f"**What this means** ({first}):"]
    lines = [*verdict_table(studies), "", *(line for text in texts if text for line in (*_wrapped(text), ""))]
    return [*lines, *(line for text in meaning(studies[first]) for line in _wrapped(f"* {text}", "  ")), ""]


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, 140, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _duration(took: dict) -> str:
    if not took:
        return ""
    minutes = f"{took['seconds'] / 60:.0f} minutes of one core (mean of {took['seeds']} seeds)"
    return f"The trainings of one seed took {minutes}; tests and set-up come on top.\n"


PAPER = {
    "people": "85,742",
    "pictures": "5,822,653",
    "passes": "26, MaskInv-HG 20 + 26",
    "network": "iResNet-100, 512-D",
}
"""The scale of the published training, on MS1MV2 (Huber et al., FG 2021, and its code)."""

SCALE = (*PAPER, "faces in training", "test people", "teacher's EER", "teacher's FMR1000")
"""The columns of the table of scale; the last two are on unmasked test pairs, the mean over seeds."""


def _scale() -> list[str]:
    """Return the lines of the table of scale: the paper, then each published study."""
    rows = {"paper": PAPER}
    for folder in sorted(path.parent for path in paths.results().glob("*/profile.json")):
        facts = files.read_json(folder / "profile.json")
        for tables in sorted(path.parent for path in (folder / "tables").rglob("metrics.csv")):
            name = facts["profile"] + (f", {tables.name}" if tables.name != "tables" else "")
            if "scale" in facts:
                rows[name] = facts["scale"] | _teacher(read_tables(tables))
    lines = [f"| study | {' | '.join(SCALE)} |", "|---" * (len(SCALE) + 1) + "|"]
    for name, row in rows.items():
        cells = [f"{row[key]:,}" if isinstance(row.get(key), int) else str(row.get(key, "")) for key in SCALE]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines if len(rows) > 1 else []


def _teacher(tables: Tables) -> dict[str, str]:
    """Return the teacher's two rates on unmasked pairs, in per cent."""
    stage = BASELINE if (BASELINE, UNMASKED, "none", "eer") in tables.rates else "teacher"
    rates = {name: tables.rates.get((stage, UNMASKED, "none", name)) for name in ("eer", "fmr1000")}
    words = {name: "not measurable" if rate is None else f"{100 * rate:.2f} %" for name, rate in rates.items()}
    return {"teacher's EER": words["eer"], "teacher's FMR1000": words["fmr1000"]}


PUBLISHED = "published.csv"
PUBLISHED_COLUMNS = ("stage", "benchmark", "condition", "mask_kinds", "metric", "value", "source")
"""The columns of ``results/published.csv``: numbers that papers print, as fractions. It ships empty.

stage: of this study, such as maskinv-hg. metric: one of ``RATES``. value: in [0, 1]. source: paper and table.
"""


def _published_numbers() -> list[str]:
    """Return the lines of a table of the numbers that a reader filled in, each beside this study's; [] without any.

    A file with other columns, or a value that is no fraction, raises ValueError with its line.
    """
    path = paths.results() / PUBLISHED
    rows = csv_rows(path)
    if not rows:
        return []
    if tuple(rows[0]) != PUBLISHED_COLUMNS:
        raise ValueError(f"{path} has the columns {', '.join(map(str, rows[0]))}, not {', '.join(PUBLISHED_COLUMNS)}.")
    ours: dict[tuple[str, ...], list[str]] = {}
    for table in sorted(paths.results().rglob("metrics.csv")):
        for row in csv_rows(table):
            key = tuple(row[name] for name in PUBLISHED_COLUMNS[:5])
            text = f"{100 * float(row['value']):.2f} ({row['profile']})" if row["value"] else ""
            if row["seed"] == "all" and text:
                ours.setdefault(key, []).append(text)
    lines = ["## Numbers that papers print\n", "Per cent; filled in by hand from the named source.\n"]
    lines += ["| stage | benchmark | condition | masks | metric | paper | this study | source |", "|---" * 8 + "|"]
    for number, row in enumerate(rows, start=2):
        try:
            value = float(row["value"])
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1 or row["metric"] not in RATES:
            wrong = f"{path}, line {number}: metric {row['metric']!r}, value {row['value']!r}"
            raise ValueError(f"{wrong}. Give one of {', '.join(RATES)}, and a fraction from 0 to 1.")
        names = tuple(row[name] for name in PUBLISHED_COLUMNS[:5])
        lines.append(
            f"| {' | '.join(names)} | {100 * value:.2f} | {', '.join(ours.get(names, []))} | {row['source']} |"
        )
    return [*lines, ""]


def index() -> str:
    """Return ``results/README.md``: verdicts, scale, and each study's error rates, verdicts and links to all files."""
    parts = ["# Results\n", "Written by `make publish`; every number comes from the tables beside it.\n"]
    studies = _studies()
    parts += ["## Verdicts\n", *_verdicts(studies)] if studies else []
    parts += ["## Scale\n", *lines, ""] if (lines := _scale()) else []
    parts += _published_numbers()
    for folder in sorted(path.parent for path in paths.results().glob("*/profile.json")):
        facts = files.read_json(folder / "profile.json")
        parts.append(f"## {facts['profile']}\n\n{facts['idea']}\n")
        parts.append(_duration(facts.get("took", {})))
        parts.append(_opened(folder / "openings.csv"))
        parts.append(f"Older than the code: {facts['older']}\n" if "older" in facts else "")
        for tables in sorted(path.parent for path in (folder / "tables").rglob("metrics.csv")):
            parts.append(f"### {tables.name}\n" if tables.name != "tables" else "")
            parts.append(f"```\n{eer_table(tables / 'metrics.csv')}\n```\n")
            parts.append(_verdict_lines(tables / "differences.csv"))
            parts.append(_ranking_lines(tables / "ranking.csv"))
        parts.append(facts.get("caveat", "") + "\n")
        parts.append(_links(folder))
    return "\n".join([*parts, *_weights()])


def _opened(path: Path) -> str:
    """Return when each test set of a study was first used, and how often since, from its ``openings.csv``."""
    by_benchmark: dict[str, list[dict[str, str]]] = {}
    for row in csv_rows(path):
        by_benchmark.setdefault(row["benchmark"], []).append(row)
    first = {name: min(rows, key=lambda row: row["date"]) for name, rows in by_benchmark.items()}
    texts = [
        f"{name} on {row['date']} (commit {row['commit']}, {len(by_benchmark[name])} evaluations until now)"
        for name, row in first.items()
    ]
    return f"Test sets were first opened: {', '.join(texts)}.\n" if texts else ""


def _weights() -> list[str]:
    """Return the section on the published weights; nothing where there are none."""
    models = sorted((paths.results() / "models").glob(f"*/*/{MODEL}"))
    if not models:
        return []
    lines = [
        "## Weights\n",
        "The rungs of seed 0, rounded to bfloat16, with their thresholds; MIT licence. They were trained on rendered"
        " people: for trying the commands and for teaching. On photographs they make many errors. Their own error rates"
        " are in `thresholds.json`: on another kind of processor, the same training gives slightly other weights than"
        " those behind the tables.\n",
        "| profile | stage | bytes | SHA-256 (16 digits) |",
        "|---|---|---|---|",
    ]
    for path in models:
        folder = path.parent.relative_to(paths.results()).as_posix()
        _, profile, stage = folder.split("/")
        lines.append(f"| {profile} | [{stage}]({folder}) | {path.stat().st_size:,} | {files.file_hash(path)} |")
    return [*lines, ""]


def renew_index() -> None:
    """Write ``results/README.md`` anew."""
    files.write_text(paths.results() / "README.md", index())


def _verdict_lines(path: Path) -> str:
    either = ", ".join(str(claim.number) for claim in CLAIMS if claim.any_contrast)
    lines = ["Differences in EER, unless another rate is named. The first line of a claim decides it;"]
    lines[0] += f" for claim {either}, any line does.\n"
    lines += ["| claim | contrast | verdict | difference in points, with its 95 % interval |", "|---|---|---|---|"]
    sentences = {str(claim.number): f"{claim.number}. {claim.sentence}" for claim in CLAIMS}
    contrasts: dict[tuple[str, ...], list[str]] = {}
    for row in (row for row in csv_rows(path) if row["claim"]):
        numbers = contrasts.setdefault((row["claim"], row["stage"], row["against"], row["verdict"]), [])
        numbers += [_points(row)] if row["verdict"] != "not run" else []
    for (claim, stage, against, verdict), numbers in contrasts.items():
        cells = (sentences.pop(claim, ""), in_words(stage, against), verdict, "; ".join(numbers))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _ranking_lines(path: Path) -> str:
    """Return every method's EER, rank and verdict against the reference, by condition; "" for few methods."""
    rows = csv_rows(path)
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    measured = [row for row in rows if row["against"] == rows[0]["against"] and row["value"]]
    last = {row["stage"]: float(row["value"]) for row in measured if row["condition"] == conditions[-1]}
    cells: dict[str, dict[str, str]] = {}
    for row in sorted(measured, key=lambda row: last.get(row["stage"], 1.0)):
        rank = f"{row['rank']}." if row["rank"] else "oracle"
        word = f", {row['word']}" if row["word"] else ""
        cells.setdefault(row["stage"], {})[row["condition"]] = f"{100 * float(row['value']):.2f} ({rank}{word})"
    if len(cells) <= FEW_METHODS:
        return ""
    seeds = min(int(row["seeds"]) for row in rows)
    caption = f"EER in %, mean of {seeds} seeds; in brackets the rank and the verdict against {rows[0]['against']}"
    lines = [f"{caption} (Holm over a column; intervals are in `ranking.csv`):\n"]
    lines += [f"| method | {' | '.join(conditions)} |", "|---" * (len(conditions) + 1) + "|"]
    lines += [f"| {stage} | {' | '.join(row.get(name, '') for name in conditions)} |" for stage, row in cells.items()]
    return "\n".join(lines) + "\n"


FEW_METHODS = 8
"""Up to this number of methods, no ranking is shown: the rungs of the ablation have their verdicts."""


def _points(row: dict[str, str]) -> str:
    condition = row["condition"] if row["metric"] == "eer" else f"{row['metric'].upper()}, {row['condition']}"
    if not row["difference"]:
        return f"{condition} not measurable"
    value, low, high = (100 * float(row[name]) for name in ("difference", "low", "high"))
    return f"{condition} {value:.2f} [{low:.2f}, {high:.2f}]"


def _links(folder: Path) -> str:
    names = sorted(f"notebooks/{path.name}" for path in folder.glob("notebooks/*.ipynb"))
    names += sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.csv"))
    labels = [name.removeprefix("notebooks/").removeprefix("tables/").removesuffix(".ipynb") for name in names]
    links = [f"[{label}]({folder.name}/{name})" for label, name in zip(labels, names, strict=True)]
    first = [link for link, name in zip(links, names, strict=True) if name.startswith("notebooks/compare")]
    return f"Open first: {', '.join(first)}. Then:\n\n" + "".join(f"* {link}\n" for link in links)
