"""The benchmark as text: the table that the command prints, and the README's section on speed."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from maskinv_lib.tools.speed import growth, host, quality
from maskinv_lib.tools.speed.measuring import Row
from maskinv_lib.utils import files

MARKS = ("<!-- said by make bench -->", "<!-- end -->")
"""Between these lines the README contains the section on speed."""

SHOWN = ("rendering", "masks", "records", "training", "templates", "head", "evaluation", "intervals", "all pairs")
"""The groups of the README's first table, in their order."""


def as_text(rows: Sequence[Row]) -> str:
    """Return the table that the command prints: the machine, then one line per measurement, and the failures."""
    lines = [f"{row.name}: {row.value}" for row in _of(rows, host.GROUP)]
    measured = [row for row in rows if row.group != host.GROUP]
    cells = [("group", "measurement", "value", "baseline", "ratio", "repeats", "compared with")]
    cells += [_cells(row) for row in measured]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]) - 1)]
    lines.append("")
    for row in cells:
        start = "  ".join(text.ljust(width) for text, width in zip(row[:2], widths[:2], strict=True))
        numbers = "  ".join(text.rjust(width) for text, width in zip(row[2:-1], widths[2:], strict=True))
        lines.append(f"{start}  {numbers}  {row[-1]}".rstrip())
    failed = sum(bool(row.error) for row in rows)
    end = [f"\n{failed} measurement{'s' if failed > 1 else ''} failed."] if failed else []
    return "\n".join([*lines, *end])


def _of(rows: Iterable[Row], group: str) -> list[Row]:
    return [row for row in rows if row.group == group]


def _cells(row: Row) -> tuple[str, ...]:
    if row.error:
        return (row.group, row.name, "FAILED", "", "", "", row.error)
    ratio = "" if row.ratio is None else in_digits(row.ratio)
    return (
        row.group,
        row.name,
        quantity(row.value, row.unit),
        in_digits(row.baseline),
        ratio,
        str(row.repeats),
        row.against,
    )


def in_digits(value: float | str | None) -> str:
    """Return a number with three digits that count, "" for None: ``1,230``, ``12.3``, ``0.123``."""
    if value is None or isinstance(value, str):
        return value or ""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:#.3g}".rstrip(".")


def quantity(value: float | str | None, unit: str) -> str:
    """Return a number with its unit: ``12.3 faces/s``; large counts per second in millions."""
    if isinstance(value, float) and value >= 1e6:
        return f"{in_digits(value / 1e6)} million {unit}"
    return f"{in_digits(value)} {unit}".strip()


def section(rows: Sequence[Row], trained: pd.DataFrame) -> str:
    """Return the README's section: the machine in a sentence, what is compared, and three tables.

    trained: what ``quality.run_candidates`` returned.
    """
    facts = {row.name: row.value for row in _of(rows, host.GROUP)}
    machine = (
        f"Measured on {facts['processor']} with {facts['cores']} core(s) ({facts['features']}; GPU: {facts['GPU']}),"
        f" torch {facts['torch']}; the load before the start was {facts['load']}, the {facts['size']} benchmark took"
        f" {facts['duration']}."
    )
    return "\n".join([*_wrapped(machine), "", *_comparisons(rows), "", *_growth(rows), "", *times_to_quality(trained)])


def _wrapped(text: str, width: int = 138) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _comparisons(rows: Sequence[Row]) -> list[str]:
    lines = ["| part | measurement | here | baseline | ratio | repeats | baseline is |"]
    lines.append("|---|---|---:|---:|---:|---:|---|")
    for row in (row for group in SHOWN for row in _of(rows, group) if not row.error):
        baseline = "" if row.baseline is None else quantity(row.baseline, row.unit)
        here, ratio = quantity(row.value, row.unit), in_digits(row.ratio)
        cells = (row.group, row.name, here, baseline, ratio, str(row.repeats), row.against)
        lines.append(f"| {' | '.join(cells)} |")
    for row in (row for row in _of(rows, "memory") if not row.error):
        lines.append(f"| memory | {row.name} | {quantity(row.value, row.unit)} | | | {row.repeats} | {row.against} |")
    return lines


def _growth(rows: Sequence[Row]) -> list[str]:
    grown = [row for row in _of(rows, growth.GROUP) if not row.error]
    lines = ["| cost of | smallest | | | largest | exponent |", "|---|---:|---:|---:|---:|---:|"]
    for power in (row for row in grown if row.unit == growth.EXPONENT):
        points = [row for row in grown if row.unit == "s" and row.name.startswith(f"{power.name}, ")]
        counts = [f"{row.name.split(', ')[1]}: {in_digits(row.value)} s" for row in points]
        lines.append(f"| {power.name} | {' | '.join(counts)} | {in_digits(power.value)} |")
    return lines


def times_to_quality(trained: pd.DataFrame) -> list[str]:
    """Return the table of the candidates for the small network: seconds and faces to each error rate."""
    levels = [f"{100 * level:g} %" for level in quality.LEVELS]
    titles = ["network and training", *(f"EER {level}" for level in levels), "faces at most", "EER then"]
    lines = [f"| {' | '.join(titles)} |", f"|---|{'---:|' * (len(titles) - 1)}"]
    least = trained["faces"].min()
    for row in quality.times_to_levels(trained).to_dict("records"):
        cells = [_time(row[f"seconds to {level}"], row[f"faces to {level}"], least) for level in levels]
        lines.append(f"| {row['candidate']} | {' | '.join(cells)} | {row['faces']:,} | {100 * row['eer']:.2f} % |")
    return lines


def _time(seconds: float, faces: float, least: int) -> str:
    if math.isnan(seconds):
        return "not reached"
    bound = "at most " if faces == least else ""
    return f"{bound}{seconds:.0f} s ({faces:,.0f} faces)"


def renew_readme(readme: Path, rows: Sequence[Row], trained: pd.DataFrame) -> None:
    """Write the section between the ``MARKS`` of a README; without them raise ValueError."""
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (begin and end):
        raise ValueError(f"{readme} has no lines {MARKS[0]} and {MARKS[1]}. Put them where the section is to be.")
    files.write_text(readme, f"{before}{begin}\n{section(rows, trained)}\n\n{end}{after}")
