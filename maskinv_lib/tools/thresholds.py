"""Thresholds: the score from which two templates are accepted as one person, and the pairs on which it was set.

A threshold is valid for its network, and on the pairs on which it was set: every decision names these pairs. They come
from a run's evaluation, or from a file that ``calibrate`` or ``benchmark`` wrote.
"""

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskinv_lib.evaluation.benchmarks import RELEASED
from maskinv_lib.evaluation.metrics import NOT_MEASURABLE, OPERATING_POINTS
from maskinv_lib.study.data import UNMASKED
from maskinv_lib.study.runs import Run, open_run
from maskinv_lib.utils import checks, files

CALIBRATED = "thresholds.json"
"""Name of a file of thresholds beside its model."""

BY_HAND = "chosen by hand"
"""Stands in place of a benchmark in a threshold that no evaluation set."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A score set on the pairs of an evaluation: two templates that reach it are accepted as the same person.

    value: cosine in [-1, 1], None where it is not measurable. fmr: the false match rate for which it was set.
    benchmark, condition, mask_kinds: the pairs on which it was set. fnmr: the share of their genuine pairs that it
    rejects, None if ``value`` is None. impostor: the number of their impostor pairs. low, high: its 95 % interval over
    people, None where it was not computed.
    """

    value: float | None
    fmr: float
    benchmark: str
    condition: str
    mask_kinds: str
    fnmr: float | None
    impostor: int
    low: float | None = None
    high: float | None = None

    @property
    def pairs(self) -> str:
        """The pairs on which it was set, as text."""
        kinds = "" if self.mask_kinds == "none" else f" ({self.mask_kinds} masks)"
        return f"the {self.condition} pairs{kinds} of {self.benchmark}, {self.impostor:,} of them impostor"

    def as_json(self) -> dict:
        """Return the threshold as JSON data; a rate that is not known is None."""
        facts = dataclasses.asdict(self)
        return {name: None if isinstance(fact, float) and math.isnan(fact) else fact for name, fact in facts.items()}

    def __str__(self) -> str:
        if self.value is None:
            return f"FMR {self.fmr:.2%} is {NOT_MEASURABLE} on {self.pairs}"
        if self.benchmark == BY_HAND:
            return f"threshold {self.value:.3f}, {BY_HAND}: no false match rate is known for it"
        interval = "" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return (
            f"threshold {self.value:.3f}{interval}, set for FMR {self.fmr:.2%} (FNMR {self.fnmr:.1%}) on {self.pairs}"
        )


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The result of comparing two templates. score: their cosine.

    same: whether the score reaches the threshold, None for a threshold without a value.
    """

    score: float
    same: bool | None
    threshold: Threshold

    @property
    def word(self) -> str:
        """The decision: "same", "different", or "" where there is none."""
        return {True: "same", False: "different", None: ""}[self.same]

    def as_json(self) -> dict:
        """Return the decision as JSON data, with the threshold and the pairs on which it was set."""
        return {"decision": self.word or None, "similarity": self.score, "threshold": self.threshold.as_json()}

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


def decide(score: float, threshold: Threshold) -> Decision:
    """Return the decision at a score, a cosine."""
    return Decision(
        score=score, same=None if threshold.value is None else score >= threshold.value, threshold=threshold
    )


def select_threshold(
    thresholds: Sequence[Threshold],
    *,
    condition: str = UNMASKED,
    fmr: float | None = None,
    benchmark: str = "",
    mask_kinds: str = "",
) -> Threshold:
    """Return the threshold for a mask condition at an FMR.

    fmr: None takes 0.01, or the only one that is stored. benchmark: "" takes the one with most impostor pairs.
    mask_kinds: "" takes masks that training did not draw. For an unknown choice, raises ValueError naming the known
    ones.
    """
    for name, value in {"condition": condition, "benchmark": benchmark, "mask_kinds": mask_kinds}.items():
        if value:
            checks.choose(name, value, dict.fromkeys(getattr(threshold, name) for threshold in thresholds))
            thresholds = [threshold for threshold in thresholds if getattr(threshold, name) == value]
    rates = sorted({threshold.fmr for threshold in thresholds})
    fmr = (rates[0] if len(rates) == 1 else 0.01) if fmr is None else fmr
    if fmr not in rates:
        raise ValueError(
            f"No threshold is stored for FMR {fmr!r}. Choose one with --fmr: {', '.join(map(str, rates))}."
        )
    preference = {"unseen": 2, "real": 2, "none": 1}
    return max(
        (threshold for threshold in thresholds if threshold.fmr == fmr),
        key=lambda threshold: (threshold.impostor, preference.get(threshold.mask_kinds, 0)),
    )


def lowest_measured(thresholds: Sequence[Threshold], **choices: str) -> Threshold:
    """Return the threshold at the lowest FMR that was measurable; where none was, the one at the lowest FMR.

    choices: those of ``select_threshold`` but the FMR.
    """
    rates = sorted({threshold.fmr for threshold in thresholds})
    found = [select_threshold(thresholds, fmr=rate, **choices) for rate in rates]
    return next((threshold for threshold in found if threshold.value is not None), found[-1])


def thresholds_json(model: str, sha256: str | None, thresholds: Sequence[Threshold]) -> dict:
    """Return what ``write_json`` writes for ``read_thresholds``: the model's name and hash, and the thresholds."""
    return {"model": model, "sha256": sha256, "thresholds": [part.as_json() for part in thresholds]}


def read_thresholds(path: Path, sha256: str | None, model_name: str = "") -> list[Threshold]:
    """Return the thresholds of a file that ``calibrate`` or ``benchmark`` wrote for the model with this hash.

    A Python function has no hash: its name counts. Raises FileNotFoundError, and ValueError for another kind of file,
    for a value that no threshold can have, and for thresholds of another model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of thresholds {path}. Make it with the command calibrate.")
    record = files.read_json(path)
    try:
        thresholds = [Threshold(**part) for part in record["thresholds"]]
        model, made_for = record["model"], record["sha256"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no file of thresholds ({error!r}). Make one with the command calibrate.") from None
    wrong = [number for number, threshold in enumerate(thresholds, 1) if not _is_possible(threshold)]
    if wrong or not thresholds:
        problem = f"its threshold {wrong[0]} has an impossible value" if wrong else "it has no threshold"
        raise ValueError(f"{path}: {problem}. Make it again with the command calibrate.")
    if made_for != sha256 or (sha256 is None and model_name and model != model_name):
        reason = f"{path} has the thresholds of another model ({model}, SHA-256 {made_for}; this one has {sha256})"
        raise ValueError(f"{reason}. A threshold is valid for its model alone: calibrate this one.")
    return thresholds


def _is_possible(threshold: Threshold) -> bool:
    def number(value: object, low: float, high: float) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high

    scores = (threshold.value, threshold.low, threshold.high)
    measured = threshold.value is None or number(threshold.fnmr, 0, 1)
    texts = (threshold.benchmark, threshold.condition, threshold.mask_kinds)
    return (
        all(score is None or number(score, -1, 1) for score in scores)
        and measured
        and number(threshold.fmr, 0, 1)
        and type(threshold.impostor) is int
        and all(isinstance(text, str) for text in texts)
    )


def stored_thresholds(folder: Path, facts: dict) -> list[Threshold]:
    """Return the thresholds beside a model: those of a file ``CALIBRATED``, and those of every evaluation of a run.

    An evaluation lies directly in the run's folder, or in one folder per benchmark.
    """
    calibrated = folder / CALIBRATED
    thresholds = read_thresholds(calibrated, facts.get("file_sha256")) if calibrated.exists() else []
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
        return "Set one on your own pairs with the command calibrate (--thresholds), or choose one (--threshold)."
    return f"Evaluate it with: {run.command('evaluate')}"
