"""The result of a benchmark as text for a terminal, and as one HTML page that needs no other file and no network."""

import base64
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from jinja2 import Environment
from matplotlib.figure import Figure

from maskinv_lib.evaluation.evaluate import Case
from maskinv_lib.evaluation.metrics import NOT_MEASURABLE, OPERATING_POINTS, Metric, rates_at
from maskinv_lib.evaluation.uncertainty import Interval
from maskinv_lib.reports import figures
from maskinv_lib.reports.comparison import FEW
from maskinv_lib.reports.tables import cell, title
from maskinv_lib.study.data import CONDITIONS, UNMASKED
from maskinv_lib.tools.benchmark import Comparison, Measured

RATES = {
    "eer": "EER %",
    "fmr100": "FNMR % at FMR 1 %",
    "fmr1000": "FNMR % at FMR 0.1 %",
    "accuracy": "accuracy %",
    "fdr": "FDR",
}
"""Metric -> the heading of its column."""

PAIRS = "pairs"

PAGE = Path(__file__).with_name("benchmark.html")
"""The template of the page."""


def rates_table(result: Comparison) -> pd.DataFrame:
    """Return the error rates, a row per condition and network, with 95 % intervals over people."""
    rows = []
    for case in result.cases:
        for part in result.measured:
            metrics = part.metrics[case]
            row = {PAIRS: title(*case)} | _model_column(result, part)
            row |= {"genuine": f"{metrics['eer'].genuine:,}", "impostor": f"{metrics['eer'].impostor:,}"}
            rows.append(row | {head: _cell(metrics.get(name)) for name, head in RATES.items()})
    return _without_empty_columns(pd.DataFrame(rows))


def _model_column(result: Comparison, part: Measured) -> dict[str, str]:
    return {"model": part.name} if len(result.measured) > 1 else {}


def _cell(metric: Metric | None) -> str:
    return "" if metric is None else cell(metric)


def _without_empty_columns(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[[name for name in frame.columns if (frame[name] != "").any()]]


def fixed_threshold_table(result: Comparison) -> pd.DataFrame:
    """Return what a threshold that is fixed on unmasked pairs does under each condition; no rows without such pairs."""
    rows = []
    for part in result.measured:
        unmasked = part.conditions.evaluations.get((UNMASKED, "none"))
        for case in result.cases if unmasked else ():
            metrics = part.metrics[case]
            names = ("fmr_at_unmasked_threshold", "fnmr_at_unmasked_threshold")
            if case == (UNMASKED, "none"):
                fmr, fnmr = _at_own_threshold(result, part)
            else:
                fmr, fnmr = (_cell(metrics.get(name)) for name in names)
            value = NOT_MEASURABLE if unmasked.threshold is None else f"{unmasked.threshold:.3f}"
            place = {PAIRS: title(*case)} | _model_column(result, part)
            rows.append(place | {"threshold": value, "FMR %": fmr, "FNMR %": fnmr})
    return pd.DataFrame(rows)


def _at_own_threshold(result: Comparison, part: Measured) -> tuple[str, str]:
    """Return FMR and FNMR of the unmasked pairs at the threshold that they fixed."""
    evaluation = part.conditions.evaluations[UNMASKED, "none"]
    if evaluation.threshold is None:
        return NOT_MEASURABLE, NOT_MEASURABLE
    fmr, fnmr = rates_at(part.conditions.curves[UNMASKED, "none"], evaluation.threshold)
    metrics = part.metrics[UNMASKED, "none"]
    stored = next((metrics[name] for name, rate in OPERATING_POINTS.items() if rate == result.fmr), None)
    return f"{100 * fmr:.2f}", f"{100 * fnmr:.2f}" if stored is None else cell(stored)


def differences_table(result: Comparison) -> pd.DataFrame:
    """Return the first network less the second in percentage points, a row per condition; no rows for one network."""
    names = {"eer": "EER", "fmr100": "FNMR at FMR 1 %", "fmr1000": "FNMR at FMR 0.1 %"}
    rows = [
        {PAIRS: title(*case), **{head: _points(rates[name]) for name, head in names.items()}}
        for case, rates in result.differences.items()
    ]
    return pd.DataFrame(rows)


def _points(interval: Interval | None) -> str:
    if interval is None:
        return NOT_MEASURABLE
    value, low, high = (100 * number for number in (interval.value, interval.low, interval.high))
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def findings(result: Comparison) -> str:
    """Return the main numbers of each network as sentences."""
    return " ".join(_finding(part, result.main_cases) for part in result.measured)


def _finding(part: Measured, cases: Sequence[Case]) -> str:
    rates = ", ".join(f"{100 * part.metrics[case]['eer'].value:.2f} % {_wearing(case)}" for case in cases)
    text = f"EER of {part.name}: {rates}."
    unmasked = part.conditions.evaluations.get((UNMASKED, "none"))
    if unmasked is None or unmasked.threshold is None:
        return text
    errors = []
    for case in cases:
        rejected, accepted = (part.metrics[case].get(f"{name}_at_unmasked_threshold") for name in ("fnmr", "fmr"))
        if rejected is not None and rejected.value is not None:
            words = f"it rejects {100 * rejected.value:.1f} % of genuine pairs"
            errors.append(f"{_wearing(case)} {words} and accepts {100 * accepted.value:.1f} % of impostor pairs")
    return f"{text} At the threshold that unmasked pairs fix ({unmasked.threshold:.3f}): {'; '.join(errors)}."


WEARING = dict(zip(CONDITIONS, ("without masks", "with one masked face", "with two masked faces"), strict=True))


def _wearing(case: Case) -> str:
    return WEARING[case[0]] + ("" if case[1] == "none" else f" ({case[1]} masks)")


def sections(result: Comparison) -> list[tuple[str, str, pd.DataFrame]]:
    """Return (heading, how to read it, table) of each part of the result that has rows."""
    parts = [
        (
            "Error rates",
            "In brackets: the 95 % interval over people. Lower is better, but for accuracy and FDR.",
            rates_table(result),
        ),
        (
            f"One threshold, fixed on unmasked pairs at FMR {100 * result.fmr:g} %",
            "What an operator sees who sets a threshold without masks: under masks, which share of the impostor pairs"
            " is accepted (FMR) and of the genuine pairs rejected (FNMR).",
            fixed_threshold_table(result),
        ),
    ]
    if result.differences:
        first, second = (part.name for part in result.measured)
        text = (
            f"{first} less {second}, in percentage points, on the same pairs; negative: {first} makes fewer errors. An"
            " interval that contains 0 does not decide."
        )
        parts.append(("Paired differences", text, differences_table(result)))
    return [part for part in parts if len(part[2])]


def as_text(result: Comparison) -> str:
    """Return the result for a terminal."""
    parts = [result.set_in_words.replace("*", ""), findings(result)]
    for heading, reading, table in sections(result):
        parts += [f"{heading}. {reading}", table.to_string(index=False)]
    return "\n\n".join(parts)


def _det(result: Comparison, cases: Sequence[Case]) -> Figure:
    panels = {title(*case): {part.name: part.conditions.curves[case] for part in result.measured} for case in cases}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Data has no positive values")  # a condition without errors
        return figures.det_curves(panels)


def _scores(part: Measured, cases: Sequence[Case]) -> Figure | None:
    shown = {title(*case): part.conditions.comparisons[case].sampled() for case in cases}
    shown = {name: pairs for name, pairs in shown.items() if pairs.genuine.sum() >= FEW}
    unmasked = part.conditions.evaluations.get((UNMASKED, "none"))
    thresholds = {} if unmasked is None else {"threshold fixed on unmasked pairs": unmasked.threshold}
    return figures.score_distributions(shown, thresholds) if shown else None


def _picture(figure: Figure) -> str:
    """Return a figure as the address of an SVG inside the page, equal bytes for equal figures."""
    out = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "maskinv", "svg.fonttype": "path"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(out.getvalue()).decode()}"


def page(result: Comparison) -> str:
    """Return the result as one HTML page with its figures inside: no script, no address of another page or file."""
    cases = result.main_cases
    pictures = [
        (
            "DET curves",
            "FNMR against FMR at every threshold; lower and further left is better. In the grey area there are too few"
            " impostor pairs to measure. A network without errors has no line. Masks are of unseen kinds, or real.",
            _picture(_det(result, cases)),
        )
    ]
    for part in result.measured:
        figure = _scores(part, cases)
        if figure is not None:
            text = "Cosine similarities of genuine and of impostor pairs. Where they overlap, errors are made."
            pictures.append((f"Scores of {part.name}", text, _picture(figure)))
    tables = [(heading, reading, table.to_html(index=False, border=0)) for heading, reading, table in sections(result)]
    template = Environment(autoescape=True).from_string(PAGE.read_text(encoding="utf-8"))
    few = f"Conditions with fewer than {FEW} genuine pairs have no picture of their scores: it would show single pairs."
    return template.render(result=result, findings=findings(result), tables=tables, pictures=pictures, few=few)
