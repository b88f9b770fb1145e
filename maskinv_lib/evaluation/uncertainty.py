"""Intervals over identities and seeds, differences paired by seed and resample, and Holm's adjustment.

Two things are random: the people of the test and the seed of the training. An interval adds the variance over
resampled identities (of the mean of all seeds) and the variance over seeds, sd^2 / S. The second contains part of the
first, so the sum is a little too wide rather than too narrow. Quantiles are Student's t with the degrees of freedom
of Satterthwaite (1946). Error rates get Wilson's interval with the number of independent comparisons that has this
variance (Fogliato, Patil and Perona, IJCV 2024): it stays in [0, 1] and is valid at zero errors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from maskinv_lib.evaluation.evaluate import Case, Evaluation, Evaluations
from maskinv_lib.evaluation.metrics import NOT_MEASURABLE, RATES, Metric
from maskinv_lib.evaluation.resampling import FEW_ERRORS

ONE_NETWORK = "one trained network"
"""The note of an interval without variance over seeds: it says nothing about the method trained with another seed."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its interval. error: standard error; freedom: degrees of freedom; seeds: trained networks.

    note: ``one trained network`` where the interval contains no variance over seeds, else "".
    """

    value: float
    low: float
    high: float
    error: float
    freedom: float
    seeds: int
    note: str = ""


def two_variances(estimates: np.ndarray, resamples: np.ndarray, identities: int) -> tuple[float, float]:
    """Return (variance of the seeds' mean, Satterthwaite's degrees of freedom).

    estimates: [S], one per seed. resamples: [S, R], the same in each resample of the identities. Variance = variance
    over resamples of the mean over seeds + sd(estimates)^2 / S, with identities - 1 and S - 1 degrees of freedom; with
    one seed only the former. Raises ValueError for shapes that do not fit.
    """
    estimates, resamples = np.asarray(estimates, np.float64), np.asarray(resamples, np.float64)
    if estimates.ndim != 1 or resamples.ndim != 2 or len(resamples) != len(estimates) or not len(estimates):
        raise ValueError(f"Estimates [S] and resamples [S, R] do not fit: {estimates.shape} and {resamples.shape}.")
    seeds = len(estimates)
    over_identities = float(np.nanvar(resamples.mean(axis=0), ddof=1))
    over_seeds = float(np.var(estimates, ddof=1)) / seeds if seeds > 1 else 0.0
    total = over_identities + over_seeds
    if over_seeds == 0:
        return total, float(identities - 1)
    return total, total**2 / (over_identities**2 / (identities - 1) + over_seeds**2 / (seeds - 1))


def seed_and_identity_interval(
    estimates: np.ndarray, resamples: np.ndarray, identities: int, level: float = 0.95, floor: float = 0.0
) -> Interval:
    """Return the mean over seeds with its t interval, from estimates [S] and resamples [S, R] (see two_variances).

    floor: the smallest standard error to use.
    """
    variance, freedom = two_variances(estimates, resamples, identities)
    value, error = float(np.mean(estimates)), max(floor, float(np.sqrt(variance)))
    half_width = float(special.stdtrit(freedom, 0.5 + level / 2)) * error
    note = ONE_NETWORK if len(estimates) == 1 else ""
    bounds = {"low": value - half_width, "high": value + half_width}
    return Interval(value=value, error=error, freedom=freedom, seeds=len(estimates), note=note, **bounds)


def wilson_interval(rate: float, size: float, quantile: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's interval (1927) of a rate in ``size`` independent trials; size need not be whole.

    Raises ValueError for a rate outside [0, 1] or a size that is not positive.
    """
    if not 0 <= rate <= 1 or not size > 0:
        raise ValueError(f"Wilson's interval needs a rate in [0, 1] and a positive size, not {rate} and {size}.")
    square = quantile**2
    centre = (rate + square / (2 * size)) / (1 + square / size)
    half_width = quantile / (1 + square / size) * math.sqrt(rate * (1 - rate) / size + square / (4 * size**2))
    return (0.0 if rate == 0 else max(0.0, centre - half_width)), (1.0 if rate == 1 else min(1.0, centre + half_width))


def _effective(evaluations: Sequence[Evaluation], name: str) -> tuple[int, float]:
    """Return (comparisons behind a rate, independent comparisons that they are worth)."""
    side = "impostor" if name.startswith("fmr_at") else "genuine"
    counts = [getattr(evaluation.metrics[name], side) for evaluation in evaluations]
    return min(counts), float(np.median([getattr(evaluation, f"effective_{side}") for evaluation in evaluations]))


def _few_errors(evaluations: Sequence[Evaluation], name: str) -> bool:
    rate = float(np.mean([evaluation.metrics[name].value for evaluation in evaluations]))
    return min(rate, 1 - rate) * _effective(evaluations, name)[0] < FEW_ERRORS


def _rate_bounds(evaluations: Sequence[Evaluation], name: str, interval: Interval, level: float) -> tuple[float, float]:
    effective = _effective(evaluations, name)[1]
    rate, variance = interval.value, interval.error**2
    size = rate * (1 - rate) / variance if variance > 0 and 0 < rate < 1 else effective
    if _few_errors(evaluations, name):
        size = min(size, effective)
    return wilson_interval(rate, size, float(special.stdtrit(interval.freedom, 0.5 + level / 2)))


def _accuracy_bounds(evaluations: Sequence[Evaluation], values: np.ndarray, level: float) -> tuple[float, float]:
    """Return bounds from the standard error over folds (9 degrees of freedom) and the spread over seeds."""
    variance = np.mean([evaluation.fold_error**2 for evaluation in evaluations])
    variance += np.var(values, ddof=1) / len(values) if len(values) > 1 else 0.0
    half_width = float(special.stdtrit(9, 0.5 + level / 2) * np.sqrt(variance))
    return max(0.0, values.mean() - half_width), min(1.0, values.mean() + half_width)


def metric_over_seeds(evaluations: Sequence[Evaluation], name: str, level: float = 0.95) -> Metric:
    """Return a metric's mean over seeds with its interval; with one evaluation, that network's own.

    If it is not measurable in one seed, the mean is not measurable. The accuracy's interval comes from its folds; a
    metric whose resamples were not kept has none.
    """
    metrics = [evaluation.metrics[name] for evaluation in evaluations]
    mean = replace(metrics[0], threshold=metrics[0].threshold if len(metrics) == 1 else None)
    if any(metric.value is None for metric in metrics):
        return replace(mean, value=None, threshold=None, note=NOT_MEASURABLE)
    values = np.array([metric.value for metric in metrics])
    if name == "accuracy":
        low, high = _accuracy_bounds(evaluations, values, level)
        return replace(mean, value=float(values.mean()), low=low, high=high, note="interval over folds")
    if not all(name in evaluation.resamples for evaluation in evaluations):
        return replace(mean, value=float(values.mean()))
    resamples = np.stack([evaluation.resamples[name] for evaluation in evaluations])
    interval = seed_and_identity_interval(values, resamples, evaluations[0].identities, level)
    low, high = interval.low, interval.high
    if name in RATES:
        low, high = _rate_bounds(evaluations, name, interval, level)
    return replace(mean, value=interval.value, low=low, high=high, note=interval.note)


def seeds_of(evaluations: Evaluations, stage: str, case: Case) -> list[int]:
    """Return the seeds, ascending, of a stage that was evaluated under a case."""
    return sorted(seed for name, seed in evaluations if name == stage and case in evaluations[name, seed])


def pairs(
    evaluations: Evaluations, stage: str, against: str, case: Case, case_against: Case | None = None
) -> tuple[list[int], list[Evaluation], list[Evaluation]]:
    """Return (the seeds that both stages have, ascending; the evaluations of ``stage``; those of ``against``).

    Both are taken under ``case``, or ``against`` under ``case_against``.
    """
    case_against = case_against or case
    seeds = sorted({*seeds_of(evaluations, stage, case)} & {*seeds_of(evaluations, against, case_against)})
    ours = [evaluations[stage, seed][case] for seed in seeds]
    return seeds, ours, [evaluations[against, seed][case_against] for seed in seeds]


def seed_differences(stage: Sequence[Evaluation], against: Sequence[Evaluation], name: str) -> np.ndarray:
    """Return stage - against in a metric, seed by seed, float64 [S]."""
    return np.array([a.metrics[name].value - b.metrics[name].value for a, b in zip(stage, against, strict=True)])


def _is_resampled(part: Evaluation, name: str) -> bool:
    return name in part.metrics and part.metrics[name].value is not None and name in part.resamples


def paired_difference(
    stage: Sequence[Evaluation], against: Sequence[Evaluation], name: str, level: float = 0.95
) -> Interval | None:
    """Return stage - against in a metric, seed by seed and resample by resample.

    It is None where the metric is not measurable or its resamples were not kept.

    Both sequences hold the same seeds in the same order, evaluated with the same weights (see ``pairs``). The standard
    error of a rate's difference is at least 1 / (n + 2) with n independent comparisons: that of Agresti and Min
    (Statistics in Medicine 2005) for a pair of rates without an error that only one of both makes. Raises ValueError
    for sequences of different length or without a seed.
    """
    sides = (stage, against)
    if len(stage) != len(against) or not stage:
        raise ValueError(
            f"A paired difference needs the same seeds on both sides, not {len(stage)} and {len(against)}."
        )
    if not all(_is_resampled(part, name) for side in sides for part in side):
        return None
    both = zip(stage, against, strict=True)
    resamples = np.stack([np.subtract(a.resamples[name], b.resamples[name], dtype=np.float64) for a, b in both])
    floor = 0.0
    if name in RATES:
        floor = 1 / (min(_effective(side, name)[1] for side in sides) + 2)
    estimates = seed_differences(stage, against, name)
    return seed_and_identity_interval(estimates, resamples, stage[0].identities, level, floor)


def p_value(interval: Interval, margin: float = 0.0) -> float:
    """Return the two-sided p-value of the interval's own t statistic against "the value is ``margin``"."""
    if interval.error == 0:
        return float(interval.value == margin)
    distance = abs(interval.value - margin) / interval.error
    return 2 * float(special.stdtr(interval.freedom, -distance))  # the tail itself: 1 - (a share near 1) would be 0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's (1979) adjusted p-values, in the same order: reject those up to 0.05, under any dependence."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
