"""Sentences made from numbers: what each figure of a notebook shows, and what the tables of a whole study mean.

Every number in them is computed from what the figure draws or the tables hold, so a sentence changes with its number.
"""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.evaluation.metrics import ErrorCurve, Metric
from maskinv_lib.evaluation.verdicts import (
    CLAIMS,
    CONTRADICTED,
    NOT_RUN,
    SUPPORTED,
    UNADJUSTED,
    Contrast,
    Difference,
    claim_verdicts,
)
from maskinv_lib.faces import Faces
from maskinv_lib.reports.figures import Lines, fnmr_at
from maskinv_lib.study.data import CONDITIONS

Rates = Mapping[str, Mapping[str, Metric]]
"""Panel title -> stage -> its rate, as ``figures.stage_rates`` draws it."""


def _shown(sentence: str) -> Markdown:
    return Markdown(f"**What it shows.** {sentence}" if sentence else "")


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %" if abs(value) < 0.1 else f"{100 * value:.1f} %"


def _listed(words: Iterable[str], nothing: str = "none") -> str:
    *first, last = list(words) or [nothing]
    return f"{', '.join(first)} and {last}" if first else last


def _known(stages: Mapping[str, Metric]) -> dict[str, float]:
    return {stage: metric.value for stage, metric in stages.items() if metric.value is not None}


# Figures


def of_rates(panels: Rates, name: str = "EER") -> Markdown:
    """Say which stage has the lowest rate in each panel, and which one changes most from first to last panel."""
    known = {title: _known(stages) for title, stages in panels.items()}
    known = {title: rates for title, rates in known.items() if rates}
    if not known:
        return _shown(f"No {name} could be measured.")
    best = {title: min(rates, key=rates.get) for title, rates in known.items()}
    lowest = [f"{_percent(known[title][stage])} for {title} ({stage})" for title, stage in best.items()]
    sentence = f"The lowest {name} is {_listed(lowest)}"
    first, last = next(iter(known.values())), list(known.values())[-1]
    steps = {stage: last[stage] - first[stage] for stage in first if stage in last}
    if len(known) > 1 and steps:
        most = max(steps, key=steps.get)
        ends = f"from {_percent(first[most])} to {_percent(last[most])}"
        sentence += f"; from the first panel to the last, {most} changes most, {ends}"
    return _shown(f"{sentence}.")


def of_differences(panels: Rates, reference: str) -> Markdown:
    """Say in each panel which stages differ from the reference by their whole interval, from stage -> difference."""
    parts = []
    for title, stages in panels.items():
        known = {stage: metric for stage, metric in stages.items() if metric.low is not None}
        better = [stage for stage, metric in known.items() if metric.high < 0]
        worse = [stage for stage, metric in known.items() if metric.low > 0]
        words = [f"{_listed(better)} better"] if better else []
        words += [f"{_listed(worse)} worse"] if worse else []
        parts.append(f"{title}: {', '.join(words) or 'no difference'}")
    return _shown(f"Against {reference}, with the whole interval: {'; '.join(parts)}.")


def of_families(panels: Rates) -> Markdown:
    """Say how much the EER changes from seen to unseen masks, for the stages with the largest and smallest change."""
    by_condition: dict[str, dict[str, dict[str, float]]] = {}
    for title, stages in panels.items():
        condition, _, kinds = title.partition(", ")
        by_condition.setdefault(condition, {})[kinds.removesuffix(" masks")] = _known(stages)
    parts = []
    for condition, families in by_condition.items():
        seen, unseen = families.get("seen", {}), families.get("unseen", {})
        steps = {stage: unseen[stage] - seen[stage] for stage in seen if stage in unseen}
        if steps:
            ends = (max(steps, key=steps.get), min(steps, key=steps.get))
            words = [f"{100 * steps[stage]:+.2f} points for {stage}" for stage in dict.fromkeys(ends)]
            parts.append(f"{condition} {' and '.join(words)}")
    return _shown(f"From seen to unseen masks the EER changes by: {'; '.join(parts)}." if parts else "")


LOW_FMR = 0.01
"""The FMR at which a sentence compares curves."""


def of_curves(panels: Mapping[str, Mapping[str, ErrorCurve | Sequence[ErrorCurve]]]) -> Markdown:
    """Say the lowest FNMR of each panel at an FMR of 1 %, the mean over the curves of a stage."""
    parts = []
    for title, stages in panels.items():
        curves = {stage: [part] if isinstance(part, ErrorCurve) else list(part) for stage, part in stages.items()}
        if all(curve.impostor * LOW_FMR >= 1 for part in curves.values() for curve in part):
            at = np.array([LOW_FMR])
            rates = {stage: float(np.mean([fnmr_at(curve, at) for curve in part])) for stage, part in curves.items()}
            best = min(rates, key=rates.get)
            parts.append(f"{_percent(rates[best])} for {title}" + (f" ({best})" if len(rates) > 1 else ""))
    lowest = "lowest FNMR" if any(len(stages) > 1 for stages in panels.values()) else "FNMR"
    return _shown(
        f"At an FMR of 1 % the {lowest} is {_listed(parts)}." if parts else "No FNMR is measurable at FMR 1 %."
    )


def of_scores(panels: Mapping[str, Comparisons]) -> Markdown:
    """Say the mean genuine and impostor score of each panel."""
    means = {
        title: (pairs.scores[pairs.genuine].mean(), pairs.scores[~pairs.genuine].mean())
        for title, pairs in panels.items()
    }
    parts = [f"{genuine:.3f} and {impostor:.3f} for {title}" for title, (genuine, impostor) in means.items()]
    return _shown(f"The mean scores of genuine and of impostor pairs are {_listed(parts)}.")


def of_training(records: Sequence[Mapping[str, float]]) -> Markdown:
    """Say how much the training loss fell, and how much of that in the second half of the training."""
    first, last = records[0], records[-1]
    middle = min(records, key=lambda record: abs(record["faces"] - last["faces"] / 2))
    fall, late = first["loss"] - last["loss"], middle["loss"] - last["loss"]
    share = f", {late / fall:.0%} of the fall in the second half" if fall > 0 and len(records) > 2 else ""
    ends = f"from {first['loss']:.2f} to {last['loss']:.2f}"
    return _shown(f"The loss went {ends} over {last['faces']:,.0f} faces{share}.")


def of_views(views: Faces) -> Markdown:
    """Say how many of the student's views, the second half of the faces, differ from the clean views before them."""
    clean, student = views.images.chunk(2)
    masked = int(torch.stack([(a != b).any() for a, b in zip(clean, student, strict=True)]).sum())
    return _shown(f"{masked} of these {len(clean)} faces wear a mask in the student's view.")


def of_coverage(frame: pd.DataFrame) -> Markdown:
    """Say the median coverage of each family of masks, and the kinds that cover most and least."""
    families = frame.groupby("kinds", sort=False)["coverage"].median()
    kinds = frame.groupby("kind")["coverage"].median()
    medians = _listed(f"{value:.0%} of the picture for {name} masks" for name, value in families.items())
    ends = f"{kinds.idxmax()} covers most ({kinds.max():.0%}), {kinds.idxmin()} least ({kinds.min():.0%})"
    return _shown(f"The median coverage is {medians}; {ends}.")


def of_signal(share: float) -> Markdown:
    """Say how much of the identity signal lies under the masks, from ``explain.hidden_share``."""
    return _shown(f"{share:.0%} of the identity signal lies under the mask.")


def of_sweep(panels: Mapping[str, Lines], axis: str) -> Markdown:
    """Say for each panel where each line is lowest."""
    parts = []
    for title, lines in panels.items():
        lowest = []
        for name, points in lines.items():
            known = [(metric.value, x) for x, metric, _ in points if metric.value is not None]
            if known:
                value, x = min(known)
                lowest.append(f"{name} at {x:g} ({_percent(value)})")
        parts.append(f"{title}: {', '.join(lowest) or 'not measurable'}")
    return _shown(f"Lowest EER by {axis}, {'; '.join(parts)}.")


# What the tables of a study mean


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The published tables of one benchmark: rates of the mean over seeds, and deciding differences.

    rates: (stage, condition, mask kinds, metric) -> value, a fraction. differences: the rows with a claim.
    """

    rates: dict[tuple[str, str, str, str], float]
    differences: list[Difference]

    def contrasts(self, number: int) -> list[list[Difference]]:
        """Return the rows of each contrast of a claim, in their order; those of the first decide it."""
        rows = [row for row in self.differences if row.claim == number]
        sides = dict.fromkeys((row.stage, row.against) for row in rows)
        return [[row for row in rows if (row.stage, row.against) == side] for side in sides]

    @cached_property
    def verdicts(self) -> dict[int, str]:
        """Return the verdict on each claim by number."""
        named = [
            replace(
                claim, contrasts=tuple(Contrast(stage=part[0].stage, against=part[0].against) for part in contrasts)
            )
            for claim in CLAIMS
            if (contrasts := self.contrasts(claim.number))
        ]
        return {claim.number: NOT_RUN for claim in CLAIMS} | claim_verdicts(self.differences, named)

    def of_claim(self, number: int) -> list[Difference]:
        """Return the measured rows of the contrast that decides a claim: the first, or of several the one that did."""
        contrasts = self.contrasts(number)
        if any(claim.any_contrast for claim in CLAIMS if claim.number == number):
            contrasts.sort(key=lambda rows: rows[0].verdict != self.verdicts[number])
        return [row for row in next(iter(contrasts), []) if row.difference is not None]


def csv_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, none where it does not exist."""
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.exists() else []


TYPES = {"claim": int, "seeds": int, **dict.fromkeys(("difference", "low", "high", "p_holm"), float)}


def read_tables(folder: Path) -> Tables:
    """Read the CSV files of one benchmark of a published study."""
    rates = {}
    for row in csv_rows(folder / "metrics.csv"):
        key = (row["stage"], row["condition"], row["mask_kinds"], row["metric"])
        if row["value"] and (row["seed"] == "all" or key not in rates):
            rates[key] = float(row["value"])
    names = {field.name for field in fields(Difference)}
    differences = [
        Difference(**{name: TYPES.get(name, str)(text) for name, text in row.items() if text and name in names})
        for row in csv_rows(folder / "differences.csv")
        if row["claim"]
    ]
    return Tables(rates=rates, differences=differences)


WORDS = dict(zip(CONDITIONS, ("on unmasked pairs", "with one masked face", "with two"), strict=True))


def _change(rows: Sequence[Difference], *, metric: str = "eer") -> str:
    """Return differences in words: ``2.10 points lower [-2.70, -1.50] with two``."""
    parts = []
    for row in (row for row in rows if row.metric == metric):
        side = "lower" if row.difference < 0 else "higher"
        interval = f"[{100 * row.low:.2f}, {100 * row.high:.2f}]"
        parts.append(f"{100 * abs(row.difference):.2f} points {side} {interval} {WORDS[row.condition]}")
    return _listed(parts, nothing="not measured")


def _rates(tables: Tables, stage: str) -> str:
    masks = "real" if (stage, CONDITIONS[1], "real", "eer") in tables.rates else "unseen"
    values = {
        condition: tables.rates.get((stage, condition, "none" if condition == CONDITIONS[0] else masks, "eer"))
        for condition in CONDITIONS
    }
    return _listed(f"{_percent(value)} {WORDS[name]}" for name, value in values.items() if value is not None)


def _says(tables: Tables, number: int, supported: str, contradicted: str, otherwise: str) -> str:
    """Return the words for the verdict on a claim, adjusted or not."""
    word = tables.verdicts[number].removesuffix(UNADJUSTED)
    return {SUPPORTED: supported, CONTRADICTED: contradicted}.get(word, otherwise)


def _masks_hurt(tables: Tables, rows: Sequence[Difference]) -> str:
    return f"A network trained without masks has an EER of {_rates(tables, rows[0].stage)}."


def _drawn_masks(tables: Tables, rows: Sequence[Difference]) -> str:
    says = _says(tables, 2, "helps", "does harm", "may help")
    return f"Training with drawn masks {says}: the EER is then {_rates(tables, rows[0].stage)}."


def _distillation(tables: Tables, rows: Sequence[Difference]) -> str:
    says = _says(
        tables,
        3,
        "A teacher's guidance helps beyond that",
        "A teacher's guidance costs accuracy where masks are worn",
        "Whether a teacher's guidance helps beyond that stays open",
    )
    parts = [part for part in tables.contrasts(3) if part[0].difference is not None]
    return f"{says}: {'; '.join(f'for {part[0].stage} the EER is {_change(part)}' for part in parts)}."


def _strength(tables: Tables, rows: Sequence[Difference]) -> str:
    says = _says(
        tables,
        4,
        "High guidance beats low guidance",
        "High guidance costs accuracy against low guidance where masks are worn",
        "Whether high guidance beats low guidance stays open",
    )
    return f"{says}: the difference in EER is {_change(rows)}."


def _given_back(tables: Tables, rows: Sequence[Difference]) -> str:
    says = _says(
        tables,
        7,
        "On unmasked faces guidance gives back what training with masks costs, or a part of it",
        "On unmasked faces guidance gives nothing back",
        "Whether guidance gives back accuracy on unmasked faces stays open",
    )
    return f"{says}: the EER is {_change(rows)}."


def _recipe(tables: Tables, rows: Sequence[Difference]) -> str:
    gains = _says(tables, 5, "gains", "loses", "may gain")
    loss = _says(
        tables,
        6,
        "loses less than one point on unmasked ones",
        "loses more than one point on unmasked ones",
        "may lose more than one point on unmasked ones",
    )
    clean = _change(tables.of_claim(6), metric="fmr100") if tables.of_claim(6) else "not measured"
    return f"The whole recipe {gains} on masked faces (EER {_change(rows)}) and {loss} (FMR100 {clean})."


def _mistake(tables: Tables, rows: Sequence[Difference]) -> str:
    says = _says(
        tables,
        8,
        "A teacher that sees the mask, as in the published code, is a mistake",
        "A teacher that sees the mask, as in the published code, does no harm",
        "Whether a teacher that sees the mask, as in the published code, does harm stays open",
    )
    return f"{says}: its EER is {_change(rows)}."


def _upper_face(tables: Tables, rows: Sequence[Difference]) -> str:
    better = all(row.difference < 0 for row in rows)
    says = _says(
        tables,
        9,
        "The upper face alone is as good as the whole recipe where masks are worn",
        f"The upper face alone is {'better' if better else 'worse'} than the whole recipe",
        "Whether the upper face alone is as good as the whole recipe stays open",
    )
    return f"{says}: its EER is {_change(rows)}."


MEANINGS: dict[int, Callable[[Tables, Sequence[Difference]], str]] = {
    1: _masks_hurt,
    2: _drawn_masks,
    3: _distillation,
    4: _strength,
    7: _given_back,
    5: _recipe,
    8: _mistake,
    9: _upper_face,
}
"""Claim -> its sentence, in the order in which a reader needs them; claim 6 is part of the sentence of claim 5."""


def meaning(tables: Tables) -> list[str]:
    """Return what a study means: one sentence for each claim that ran, eight at most."""
    return [sentence(tables, rows) for number, sentence in MEANINGS.items() if (rows := tables.of_claim(number))]


def verdict_table(studies: Mapping[str, Tables]) -> list[str]:
    """Return the lines of a Markdown table: a row per claim, a column per study, and whether the verdict is the same.

    A cell contains the verdict and the differences of the deciding contrast in points.
    """
    lines = [f"| claim | {' | '.join(studies)} |", "|---" * (len(studies) + 1) + "|"]
    for claim in CLAIMS:
        cells = []
        for tables in studies.values():
            rows = tables.of_claim(claim.number) if tables.differences else []
            numbers = ", ".join(f"{100 * row.difference:+.2f}" for row in rows)
            cells.append(f"{tables.verdicts[claim.number]}{f': {numbers}' if numbers else ''}")
        lines.append(f"| {claim.number}. {claim.sentence} | {' | '.join(cells)} |")
    return lines


def changes(studies: Mapping[str, Tables]) -> str:
    """Return which verdicts differ between studies of different scale, in one sentence; "" for a single study."""
    if len(studies) < 2:
        return ""
    differing = []
    for claim in CLAIMS:
        words = {name: tables.verdicts[claim.number] for name, tables in studies.items()}
        decided = {word for word in words.values() if word != NOT_RUN}
        if len(decided) > 1:
            differing.append(f"claim {claim.number} ({', '.join(f'{name}: {word}' for name, word in words.items())})")
    if not differing:
        return f"No verdict changes with scale ({', '.join(studies)})."
    return f"Verdicts that change with scale: {'; '.join(differing)}."
