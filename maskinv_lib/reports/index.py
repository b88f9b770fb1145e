"""Texts about the published results: ``results/README.md``, and the study's output in the README."""

import csv
from pathlib import Path

from maskinv_lib.evaluation.verdicts import CLAIMS, in_words
from maskinv_lib.study.progress import eer_table
from maskinv_lib.study.runs import MODEL
from maskinv_lib.utils import files, paths

OUTPUT_MARKS = ("<!-- said by make publish -->", "<!-- end -->")
"""Between these lines the README contains the output of ``make study`` at the end of the published study."""


def renew_readme(readme: Path, target: Path) -> None:
    """Write the error rates and the time of a published laptop study between the ``OUTPUT_MARKS`` of the README."""
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    before, begin, rest = text.partition(OUTPUT_MARKS[0])
    _, end, after = rest.partition(OUTPUT_MARKS[1])
    if target.name == "laptop" and begin and end:
        table = eer_table(target / "tables/metrics.csv")
        duration = _duration(files.read_json(target / "profile.json")["took"])
        block = f"```\n{table}\nOpen first: runs/{target.name}/compare.ipynb\n```\n\n{duration}"
        files.write_text(readme, f"{before}{begin}\n{block}\n{end}{after}")


def _duration(took: dict) -> str:
    if not took:
        return ""
    minutes = took["seconds"] / 60
    return f"One seed took {minutes:.0f} minutes of one core (mean of {took['seeds']} seeds); set-up comes on top.\n"


def index() -> str:
    """Return ``results/README.md``: the published profiles, their error rates and verdicts, and links to all files."""
    parts = ["# Results\n", "Written by `make publish`; every number comes from the tables beside it.\n"]
    for folder in sorted(path.parent for path in paths.results().glob("*/profile.json")):
        facts = files.read_json(folder / "profile.json")
        parts.append(f"## {facts['profile']}\n\n{facts['idea']}\n")
        parts.append(_duration(facts.get("took", {})))
        parts.append(f"Older than the code: {facts['older']}\n" if "older" in facts else "")
        for tables in sorted(path.parent for path in (folder / "tables").rglob("metrics.csv")):
            parts.append(f"### {tables.name}\n" if tables.name != "tables" else "")
            parts.append(f"```\n{eer_table(tables / 'metrics.csv')}\n```\n")
            parts.append(_verdict_lines(tables / "differences.csv"))
            parts.append(_ranking_lines(tables / "ranking.csv"))
        parts.append(facts.get("caveat", "") + "\n")
        parts.append(_links(folder))
    return "\n".join([*parts, *_weights()])


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


def _csv_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.exists() else []


def _verdict_lines(path: Path) -> str:
    either = ", ".join(str(claim.number) for claim in CLAIMS if claim.any_contrast)
    lines = ["Differences in EER, unless another rate is named. The first line of a claim decides it;"]
    lines[0] += f" for claim {either}, any line does.\n"
    lines += ["| claim | contrast | verdict | difference in points, with its 95 % interval |", "|---|---|---|---|"]
    sentences = {str(claim.number): f"{claim.number}. {claim.sentence}" for claim in CLAIMS}
    contrasts: dict[tuple[str, ...], list[str]] = {}
    for row in (row for row in _csv_rows(path) if row["claim"]):
        numbers = contrasts.setdefault((row["claim"], row["stage"], row["against"], row["verdict"]), [])
        numbers += [_points(row)] if row["verdict"] != "not run" else []
    for (claim, stage, against, verdict), numbers in contrasts.items():
        cells = (sentences.pop(claim, ""), in_words(stage, against), verdict, "; ".join(numbers))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _ranking_lines(path: Path) -> str:
    """Return every method's EER, rank and verdict against the reference, by condition; "" for few methods."""
    rows = _csv_rows(path)
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
