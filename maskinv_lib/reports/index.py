"""The texts that list what was published: ``results/README.md`` and the study's output in the README."""

import csv
from pathlib import Path

from maskinv_lib.evaluation.verdicts import CLAIMS, in_words
from maskinv_lib.study.progress import eer_table
from maskinv_lib.utils import files, paths

OUTPUT_MARKS = ("<!-- said by make publish -->", "<!-- end -->")
"""Between these lines of the README is what ``make study`` printed at the end of the published study."""


def renew_readme(readme: Path, target: Path) -> None:
    """Put the error rates and the time of a published laptop study between the ``OUTPUT_MARKS`` of the README."""
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    before, begin, rest = text.partition(OUTPUT_MARKS[0])
    _, end, after = rest.partition(OUTPUT_MARKS[1])
    if target.name == "laptop" and begin and end:
        table = eer_table(target / "tables/metrics.csv")
        took = _duration(files.read_json(target / "profile.json")["took"])
        block = f"```\n{table}\nOpen first: runs/{target.name}/compare.ipynb\n```\n\n{took}"
        files.write_text(readme, f"{before}{begin}\n{block}\n{end}{after}")


def _duration(took: dict) -> str:
    if not took:
        return ""
    minutes = took["seconds"] / 60
    return f"One seed took {minutes:.0f} minutes of one core (mean of {took['seeds']} seeds); set-up comes on top.\n"


def index() -> str:
    """Return ``results/README.md``: what was published, the error rates, the verdicts and what to open first."""
    parts = ["# Results\n", "Written by `make publish`; every number comes from the tables beside it.\n"]
    for folder in sorted(path.parent for path in paths.results().glob("*/profile.json")):
        facts = files.read_json(folder / "profile.json")
        parts.append(f"## {facts['profile']}\n\n{facts['idea']}\n")
        parts.append(_duration(facts.get("took", {})))
        for tables in sorted(path.parent for path in (folder / "tables").rglob("metrics.csv")):
            parts.append(f"### {tables.name}\n" if tables.name != "tables" else "")
            parts.append(f"```\n{eer_table(tables / 'metrics.csv')}\n```\n")
            parts.append(_verdict_lines(tables / "differences.csv"))
            parts.append(_ranking_lines(tables / "ranking.csv"))
        parts.append(facts.get("caveat", "") + "\n")
        parts.append(_links(folder))
    return "\n".join(parts)


def _verdict_lines(path: Path) -> str:
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
        conditions = [row for row in rows if (row["claim"], row["stage"], row["against"]) == (claim, stage, against)]
        numbers = "; ".join(_points(row) for row in conditions if verdict != "not run")
        lines.append(f"| {sentences.pop(claim, '')} | {in_words(stage, against)} | {verdict} | {numbers} |")
    return "\n".join(lines) + "\n"


def _ranking_lines(path: Path) -> str:
    """Return every method's EER and rank under each condition, and its word against the reference; "" for few."""
    if not path.exists():
        return ""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    against = rows[0]["against"]
    cells: dict[str, dict[str, str]] = {}
    for row in (row for row in rows if row["against"] == against and row["value"]):
        rank = f"{row['rank']}." if row["rank"] else "oracle"
        word = f", {row['word']}" if row["word"] else ""
        cells.setdefault(row["stage"], {})[row["condition"]] = f"{100 * float(row['value']):.2f} ({rank}{word})"
    if len(cells) <= FEW_METHODS:
        return ""
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    masked = {row["stage"]: float(row["value"]) for row in rows if row["value"] and row["condition"] == conditions[-1]}
    cells = dict(sorted(cells.items(), key=lambda item: masked.get(item[0], 1.0)))
    seeds = min(int(row["seeds"]) for row in rows)
    caption = f"EER in %, mean of {seeds} seeds; in brackets the rank and the verdict against {against}"
    lines = [f"{caption} (Holm over a column; intervals are in `ranking.csv`):\n"]
    lines += [f"| method | {' | '.join(conditions)} |", "|---" * (len(conditions) + 1) + "|"]
    lines += [f"| {stage} | {' | '.join(row.get(name, '') for name in conditions)} |" for stage, row in cells.items()]
    return "\n".join(lines) + "\n"


FEW_METHODS = 8
"""Most methods that need no ranking: the rungs of the ablation, which have their verdicts."""


def _points(row: dict[str, str]) -> str:
    condition = row["condition"] if row["metric"] == "eer" else f"{row['metric'].upper()}, {row['condition']}"
    if not row["difference"]:
        return f"{condition} not measurable"
    value, low, high = (100 * float(row[name]) for name in ("difference", "low", "high"))
    return f"{condition} {value:.2f} [{low:.2f}, {high:.2f}]"


def _links(folder: Path) -> str:
    base = folder.name
    first = sorted(path.name for path in (folder / "notebooks").glob("compare*.ipynb"))
    links = ", ".join(f"[{name.removesuffix('.ipynb')}]({base}/notebooks/{name})" for name in first)
    lines = [f"Open first: {links}. Then:\n"]
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        lines.append(f"* [{path.stem}]({base}/notebooks/{path.name})")
    tables = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.csv"))
    lines += [f"* [{name.removeprefix('tables/')}]({base}/{name})" for name in tables]
    return "\n".join(lines) + "\n"
