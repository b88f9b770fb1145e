"""Any network on any verification set: error rates with intervals, thresholds, and the paired difference to another.

All networks see the same pairs and the same drawn masks; the intervals come from resampled people (``evaluation``).
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from maskinv_lib import __version__
from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.evaluation.benchmarks.opening import VerificationSet
from maskinv_lib.evaluation.conditions import Conditions, evaluate_conditions
from maskinv_lib.evaluation.evaluate import Case, resampled_thresholds
from maskinv_lib.evaluation.metrics import OPERATING_POINTS, ErrorCurve, Metric, fnmr_at_fmr
from maskinv_lib.evaluation.resampling import identity_weights
from maskinv_lib.evaluation.uncertainty import Interval, metric_over_seeds, paired_difference
from maskinv_lib.evaluation.verdicts import main_cases
from maskinv_lib.study.data import CONDITIONS
from maskinv_lib.tools.recogniser import OpenedRecogniser
from maskinv_lib.tools.thresholds import Threshold, thresholds_json
from maskinv_lib.utils import checks, files

COMPARED = ("eer", *OPERATING_POINTS)
"""The rates in which two networks are compared."""

RESAMPLES = 2000

EVERY = 5.0
"""Seconds between two lines of progress."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One network on the set. metrics: by (condition, mask kinds) and name, with intervals over people."""

    name: str
    sha256: str | None
    conditions: Conditions
    metrics: dict[Case, dict[str, Metric]]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One or two networks on a set. fmr: the FMR of the threshold that is fixed on unmasked pairs.

    differences: by (condition, mask kinds) and rate, the first network less the second; None where not measurable; {}
    with one network.
    """

    set_name: str
    set_in_words: str
    people: int
    fmr: float
    measured: tuple[Measured, ...]
    differences: dict[Case, dict[str, Interval | None]]

    @property
    def cases(self) -> list[Case]:
        """The conditions with their mask kinds, in order."""
        return list(self.measured[0].metrics)

    @property
    def main_cases(self) -> list[Case]:
        """The cases to show first: unmasked, and masks of unseen kinds or real ones; without these, all but "all"."""
        return main_cases(self.cases) or [case for case in self.cases if case[0] in CONDITIONS]


def benchmark(
    models: list[OpenedRecogniser],
    on: VerificationSet,
    *,
    fmr: float = 0.01,
    show: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Evaluate one network, or two, on a verification set.

    fmr: the FMR at which unmasked pairs fix the threshold that is then applied to masked ones. show: gets lines of
    progress. Raises ValueError for a set without a condition that can be judged, and for faces that a network does not
    accept.
    """
    measured = tuple(_measured(model, on, fmr, show) for model in models)
    return Comparison(
        set_name=on.name,
        set_in_words=on.in_words,
        people=on.identities,
        fmr=fmr,
        measured=_with_distinct_names(measured),
        differences=_differences(measured),
    )


def _measured(model: OpenedRecogniser, on: VerificationSet, fmr: float, show: Callable[[str], None]) -> Measured:
    templates = on.templates(_counting(model, on.pictures, show))
    conditions = evaluate_conditions(on, templates, resamples=RESAMPLES, threshold_fmr=fmr)
    _require_conditions(on, conditions.evaluations)
    metrics = {
        case: {name: metric_over_seeds([evaluation], name) for name in evaluation.metrics}
        for case, evaluation in conditions.evaluations.items()
    }
    return Measured(name=model.name, sha256=model.sha256, conditions=conditions, metrics=metrics)


def _require_conditions(on: VerificationSet, conditions: Mapping[Case, object]) -> None:
    if not conditions:
        raise ValueError(
            f"{on.name} has no condition with genuine and impostor pairs. Error rates need both: {on.in_words}"
        )


def _counting(model: OpenedRecogniser, total: int, show: Callable[[str], None]) -> Callable[[Tensor], Tensor]:
    """Return the model's ``templates``, which calls ``show`` with the progress at most every ``EVERY`` seconds."""
    done, started = 0, time.monotonic()
    last = started

    def templates(images: Tensor) -> Tensor:
        nonlocal done, last
        parts = []
        for part in images.split(256):
            parts.append(model.templates(part))
            done, now = done + len(part), time.monotonic()
            if now - last > EVERY:
                last, rate = now, done / (now - started)
                show(
                    f"{model.name}: {done:,} of {total:,} faces, {rate:.0f} faces/s, {(total - done) / rate:.0f} s left"
                )
        return torch.cat(parts)

    return templates


def _with_distinct_names(measured: tuple[Measured, ...]) -> tuple[Measured, ...]:
    if len({part.name for part in measured}) == len(measured):
        return measured
    return tuple(dataclasses.replace(part, name=f"{part.name} ({number})") for number, part in enumerate(measured, 1))


def _differences(measured: tuple[Measured, ...]) -> dict[Case, dict[str, Interval | None]]:
    if len(measured) < 2:
        return {}
    first, second = (part.conditions.evaluations for part in measured)
    return {
        case: {name: _within_one(paired_difference([first[case]], [second[case]], name)) for name in COMPARED}
        for case in first
    }


def _within_one(interval: Interval | None) -> Interval | None:
    """Return an interval of a difference of two rates without the part beyond -1 and 1."""
    if interval is None:
        return None
    return dataclasses.replace(interval, low=max(-1.0, interval.low), high=min(1.0, interval.high))


def metrics_frame(result: Comparison) -> pd.DataFrame:
    """Return a row per network, condition and metric: rates are fractions, ``value`` is empty where not measurable."""
    rows = [
        {"model": part.name, "set": result.set_name, "condition": condition, "mask_kinds": kinds}
        | {"metric" if name == "name" else name: value for name, value in dataclasses.asdict(metric).items()}
        for part in result.measured
        for (condition, kinds), metrics in part.metrics.items()
        for metric in metrics.values()
    ]
    return pd.DataFrame(rows)


def differences_frame(result: Comparison) -> pd.DataFrame:
    """Return a row per condition and rate: the first network less the second, a fraction, with its 95 % interval."""
    names = [part.name for part in result.measured]
    rows = []
    for (condition, kinds), rates in result.differences.items():
        for name, interval in rates.items():
            numbers = {} if interval is None else {part: getattr(interval, part) for part in ("value", "low", "high")}
            place = {"model": names[0], "against": names[1], "condition": condition, "mask_kinds": kinds}
            rows.append({**place, "metric": name, "value": None, "low": None, "high": None, **numbers})
    return pd.DataFrame(rows)


def as_json(result: Comparison) -> dict:
    """Return the result as JSON data: no picture, no name of a person, no score of a single pair."""
    frames = {"metrics": metrics_frame(result), "differences": differences_frame(result)}
    tables = {
        name: frame.astype(object).where(frame.notna() & ~frame.isin([np.inf, -np.inf]), None).to_dict("records")
        for name, frame in frames.items()
    }
    about = {"library": f"maskinv {__version__}", "set": result.set_name, "set_in_words": result.set_in_words}
    models = [{"name": part.name, "sha256": part.sha256} for part in result.measured]
    return {**about, "people": result.people, "unmasked_threshold_fmr": result.fmr, "models": models, **tables}


def calibrate(
    model: OpenedRecogniser,
    on: VerificationSet,
    *,
    rates: Sequence[float] = tuple(OPERATING_POINTS.values()),
    condition: str = "",
    show: Callable[[str], None] = lambda text: None,
) -> list[Threshold]:
    """Return the thresholds of a network at false match rates, set on the pairs of a set.

    condition: "" takes every condition that the set has. An FMR that the impostor pairs cannot resolve gives a
    threshold without a value. Raises ValueError for an FMR outside (0, 1), and for an unknown condition, naming the
    known ones.
    """
    for rate in rates:
        check_fmr(rate)
    pairs = on.comparisons(on.templates(_counting(model, on.pictures, show)))
    by_case = {(name, kinds): part for name, kinds, part in pairs}
    _require_conditions(on, by_case)
    if condition:
        checks.choose("condition", condition, dict.fromkeys(name for name, _ in by_case))
        by_case = {case: part for case, part in by_case.items() if case[0] == condition}
    return thresholds_of(on.name, by_case, identity_weights(on.identities, RESAMPLES), rates)


def check_fmr(fmr: float) -> None:
    """Raise ValueError for a false match rate that is not between 0 and 1."""
    if not 0 < fmr < 1:
        raise ValueError(f"A false match rate is a share between 0 and 1, such as 0.001 for 0.1 %, not {fmr!r}.")


def thresholds_of(
    name: str, comparisons: Mapping[Case, Comparisons], weights: np.ndarray, rates: Sequence[float]
) -> list[Threshold]:
    """Return the threshold at each FMR under each condition, with its interval over the resamples of ``weights``."""
    results = []
    for case, part in comparisons.items():
        curve, resampled = resampled_thresholds(part, weights, rates)
        results += [_threshold(name, case, curve, rate, resampled[rate]) for rate in rates]
    return results


def _threshold(name: str, case: Case, curve: ErrorCurve, rate: float, resampled: np.ndarray | None) -> Threshold:
    fnmr, value = fnmr_at_fmr(curve, rate)
    bounds = {}
    if value is not None:
        low, high = np.nanquantile(resampled, (0.025, 0.975))
        bounds = {"low": min(float(low), value), "high": max(float(high), value)}
    place = {"benchmark": name, "condition": case[0], "mask_kinds": case[1], "impostor": curve.impostor}
    return Threshold(value=value, fmr=rate, fnmr=fnmr, **place, **bounds)


def write_results(result: Comparison, folder: Path, page: str) -> list[Path]:
    """Write a comparison's tables (CSV), data and thresholds (JSON), and its HTML page; return the files.

    The folder appears whole or not at all. Raises FileExistsError for a folder with content.
    """
    folder = Path(folder)
    with files.new_folder(folder) as temporary:
        files.write_text(temporary / "metrics.csv", metrics_frame(result).to_csv(index=False, lineterminator="\n"))
        if result.differences:
            differences = differences_frame(result).to_csv(index=False, lineterminator="\n")
            files.write_text(temporary / "differences.csv", differences)
        files.write_json(temporary / "benchmark.json", as_json(result))
        weights = identity_weights(result.people, RESAMPLES)
        for number, part in enumerate(result.measured, 1):
            rates = tuple(OPERATING_POINTS.values())
            thresholds = thresholds_of(result.set_name, part.conditions.comparisons, weights, rates)
            name = "thresholds.json" if number == 1 else f"thresholds-{number}.json"
            files.write_json(temporary / name, thresholds_json(part.name, part.sha256, thresholds))
        files.write_text(temporary / "benchmark.html", page)
    return sorted(folder.iterdir())
