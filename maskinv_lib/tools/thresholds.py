"""Thresholds: the score from which two templates are accepted as one person, and the pairs on which it was set.

A threshold is valid for its network, and on the pairs on which it was set: every decision names these pairs.
"""

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path

from maskinv_lib.evaluation.benchmarks import RELEASED
from maskinv_lib.evaluation.metrics import NOT_MEASURABLE, OPERATING_POINTS
from maskinv_lib.study.runs import Run, open_run
from maskinv_lib.utils import files

BY_HAND = "chosen by hand"
"""Stands in place of a benchmark in a threshold that no evaluation set."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A score stored by a run's evaluation: two templates that reach it are accepted as the same person.

    value: cosine in [-1, 1], None where it is not measurable. fmr: the false match rate for which it was set.
    benchmark, condition, mask_kinds: the pairs on which it was set. fnmr: the share of their genuine pairs that it
    rejects, None if ``value`` is None. impostor: the number of their impostor pairs.
    """

    value: float | None
    fmr: float
    benchmark: str
    condition: str
    mask_kinds: str
    fnmr: float | None
    impostor: int

    @property
    def pairs(self) -> str:
        """The pairs on which it was set, as text."""
        kinds = "" if self.mask_kinds == "none" else f" ({self.mask_kinds} masks)"
        return f"the {self.condition} pairs{kinds} of {self.benchmark}, {self.impostor:,} of them impostor"

    def __str__(self) -> str:
        if self.value is None:
            return f"FMR {self.fmr:.1%} is {NOT_MEASURABLE} on {self.pairs}"
        if self.benchmark == BY_HAND:
            return f"threshold {self.value:.3f}, {BY_HAND}: no false match rate is known for it"
        return f"threshold {self.value:.3f}, set for FMR {self.fmr:.1%} (FNMR {self.fnmr:.1%}) on {self.pairs}"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The result of comparing two templates. score: their cosine.

    same: whether the score reaches the threshold, None for a threshold without a value.
    """

    score: float
    same: bool | None
    threshold: Threshold

    def __str__(self) -> str:
        if self.same is None:
            return f"No decision at similarity {self.score:.3f}: {self.threshold}."
        people, relation = ("the same person", "reaches") if self.same else ("different people", "is below")
        return f"Taken as {people}: similarity {self.score:.3f} {relation} the {self.threshold}."


def fixed_threshold(value: float) -> Threshold:
    """Return a threshold chosen by hand, a cosine in [-1, 1]: no false match rate is known for it."""
    if not -1 <= value <= 1:
        raise ValueError(f"A threshold must be a cosine from -1 to 1, not {value!r}.")
    rates = {"fmr": math.nan, "fnmr": math.nan, "impostor": 0}
    return Threshold(value=float(value), benchmark=BY_HAND, condition="", mask_kinds="none", **rates)


def stored_thresholds(folder: Path, facts: dict) -> list[Threshold]:
    """Return the thresholds of every evaluation in a run's folder: directly in it, or in one folder per benchmark."""
    thresholds = []
    for path in sorted([*folder.glob("metrics.json"), *folder.glob("*/metrics.json")]):
        record = files.read_json(path)
        if path.parent != folder and record.get("benchmark") != path.parent.name:
            continue  # the folder of another run, not of a benchmark of this run
        try:
            _check_current(path, record, facts)
            for condition in record["conditions"]:
                if condition["condition"] != RELEASED:  # the published code's condition, in which no photograph is
                    thresholds += _of_condition(record["benchmark"], condition)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is not an evaluation of this study ({error!r}). {remedy(facts)}") from None
    return thresholds


def _of_condition(benchmark: str, condition: dict) -> list[Threshold]:
    return [
        Threshold(
            value=metric.get("threshold"),
            fmr=OPERATING_POINTS[metric["name"]],
            benchmark=benchmark,
            condition=condition["condition"],
            mask_kinds=condition["mask_kinds"],
            fnmr=metric["value"],
            impostor=metric["impostor"],
        )
        for metric in condition["metrics"]
        if metric["name"] in OPERATING_POINTS
    ]


def _run_of(facts: dict) -> Run | None:
    """Return the run that a model's file names; None if this study does not know it."""
    stage, *overrides = str(facts.get("stage")).split("+")
    names = {"profile": facts.get("profile"), "stage": stage, "seed": facts.get("seed")}
    with contextlib.suppress(ValueError, FileNotFoundError):
        return open_run(**names, overrides=", ".join(overrides))
    return None


def _check_current(path: Path, record: dict, facts: dict) -> None:
    """Refuse an evaluation that is not of this model, if the study knows the run and the model is current."""
    run = _run_of(facts)
    if run is None or run.key != facts["key"]:
        return
    by_benchmark = {evaluation.tested_on.name: evaluation for evaluation in run.evaluations}
    current = by_benchmark.get(path.parent.name) or (run if len(by_benchmark) == 1 else None)
    if current is not None and current.evaluation_key != record["key"]:
        raise ValueError(f"{path} was made with other code, other settings or another model. {remedy(facts)}")


def remedy(facts: dict) -> str:
    """Return what to do for a model, known by the facts in its file, whose thresholds are missing or stale."""
    run = _run_of(facts)
    if run is None:
        return "Give a threshold of your own, or the folder of a run that was evaluated."
    return f"Evaluate it with: {run.command('evaluate')}"
