"""How sure a number is: intervals over identities and seeds, paired differences, and Holm's adjustment.

Two things were drawn at random, the people of the test and the seed of the training. An interval adds the variance
over resampled identities (of the mean of all seeds) to the variance over seeds, sd^2 / S; the latter holds part of the
former too, so the sum is a little too wide rather than too narrow. Quantiles are Student's t with the degrees of
freedom of Satterthwaite (1946). Error rates get Wilson's interval with the number of independent comparisons that
this variance amounts to (Fogliato, Patil and Perona, IJCV 2024): it stays in [0, 1] and holds at zero errors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from maskinv_lib.evaluation.evaluate import Evaluation
from maskinv_lib.evaluation.metrics import NOT_MEASURABLE, RATES, Metric
from maskinv_lib.evaluation.resampling import FEW_ERRORS

ONE_NETWORK = "one trained network"
"""The note of an interval that holds no variance over seeds: it says nothing about the method trained again."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its interval. error: standard error; freedom: degrees of freedom; seeds: trained networks.

    note says ``one trained network`` when the interval holds no variance over seeds.
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
    one seed only the former.
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

    ``floor`` is a standard error that is not undercut.
    """
    variance, freedom = two_variances(estimates, resamples, identities)
    value, error = float(np.mean(estimates)), max(floor, float(np.sqrt(variance)))
    reach = float(stats.t.ppf(0.5 + level / 2, freedom)) * error
    note = ONE_NETWORK if len(estimates) == 1 else ""
    bounds = {"low": value - reach, "high": value + reach}
    return Interval(value=value, error=error, freedom=freedom, seeds=len(estimates), note=note, **bounds)


def wilson_interval(rate: float, size: float, quantile: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's interval (1927) of a rate seen in ``size`` independent trials; size need not be whole."""
    if not 0 <= rate <= 1 or not size > 0:
        raise ValueError(f"Wilson's interval needs a rate in [0, 1] and a positive size, not {rate} and {size}.")
    square = quantile**2
    centre = (rate + square / (2 * size)) / (1 + square / size)
    reach = quantile / (1 + square / size) * math.sqrt(rate * (1 - rate) / size + square / (4 * size**2))
    return (0.0 if rate == 0 else max(0.0, centre - reach)), (1.0 if rate == 1 else min(1.0, centre + reach))


def _few_errors(rate: float, comparisons: int) -> bool:
    return min(rate, 1 - rate) * comparisons < FEW_ERRORS


def _effective(evaluations: Sequence[Evaluation], name: str) -> tuple[int, float]:
    """Return (comparisons, independent comparisons they amount to) behind a rate."""
    impostor = name.startswith("fmr_at")
    counts = [e.metrics[name].impostor if impostor else e.metrics[name].genuine for e in evaluations]
    return min(counts), float(
        np.median([e.effective_impostor if impostor else e.effective_genuine for e in evaluations])
    )


def _rate_bounds(evaluations: Sequence[Evaluation], name: str, interval: Interval, level: float) -> tuple[float, float]:
    count, effective = _effective(evaluations, name)
    rate, variance = interval.value, interval.error**2
    size = rate * (1 - rate) / variance if variance > 0 and 0 < rate < 1 else effective
    if _few_errors(rate, count):
        size = min(size, effective)
    return wilson_interval(rate, size, float(stats.t.ppf(0.5 + level / 2, interval.freedom)))


def _accuracy_bounds(evaluations: Sequence[Evaluation], values: np.ndarray, level: float) -> tuple[float, float]:
    """Return bounds from the standard error over folds (9 degrees of freedom) and the spread over seeds."""
    variance = np.mean([e.fold_error**2 for e in evaluations])
    variance += np.var(values, ddof=1) / len(values) if len(values) > 1 else 0.0
    reach = float(stats.t.ppf(0.5 + level / 2, 9) * np.sqrt(variance))
    return max(0.0, values.mean() - reach), min(1.0, values.mean() + reach)


def metric_over_seeds(evaluations: Sequence[Evaluation], name: str, level: float = 0.95) -> Metric:
    """Return a metric's mean over seeds with its interval; with one evaluation, that network's own.

    Not measurable in one seed: not measurable. The accuracy's interval comes from its folds; a metric whose resamples
    were not kept has none.
    """
    parts = [evaluation.metrics[name] for evaluation in evaluations]
    whole = replace(parts[0], threshold=parts[0].threshold if len(parts) == 1 else None)
    if any(part.value is None for part in parts):
        return replace(whole, value=None, threshold=None, note=NOT_MEASURABLE)
    values = np.array([part.value for part in parts])
    if name == "accuracy":
        low, high = _accuracy_bounds(evaluations, values, level)
        return replace(whole, value=float(values.mean()), low=low, high=high, note="interval over folds")
    if not all(name in evaluation.resamples for evaluation in evaluations):
        return replace(whole, value=float(values.mean()))
    resamples = np.stack([evaluation.resamples[name] for evaluation in evaluations])
    interval = seed_and_identity_interval(values, resamples, evaluations[0].identities, level)
    bounds = (interval.low, interval.high)
    if name in RATES:
        bounds = _rate_bounds(evaluations, name, interval, level)
    return replace(whole, value=interval.value, low=bounds[0], high=bounds[1], note=interval.note)


def paired_difference(
    stage: Sequence[Evaluation], against: Sequence[Evaluation], name: str, level: float = 0.95
) -> Interval | None:
    """Return stage - against in a metric, seed by seed and resample by resample; None where not measurable.

    Both sequences hold the same seeds in the same order, evaluated with the same weights. Where both stages make
    fewer than FEW_ERRORS errors the standard error is not taken below that of Wilson's interval at zero errors.
    """
    if len(stage) != len(against) or not stage:
        raise ValueError(
            f"A paired difference needs the same seeds on both sides, not {len(stage)} and {len(against)}."
        )
    pairs = list(zip(stage, against, strict=True))
    if any(side.metrics[name].value is None for pair in pairs for side in pair):
        return None
    estimates = np.array([a.metrics[name].value - b.metrics[name].value for a, b in pairs])
    resamples = np.stack([np.subtract(a.resamples[name], b.resamples[name], dtype=np.float64) for a, b in pairs])
    floor = 0.0
    if name in RATES and all(_few_mean_errors(side, name) for side in (stage, against)):
        square = stats.norm.ppf(0.5 + level / 2) ** 2
        floor = 1 / (min(_effective(side, name)[1] for side in (stage, against)) + square) * np.sqrt(square)
    return seed_and_identity_interval(estimates, resamples, stage[0].identities, level, floor)


def _few_mean_errors(evaluations: Sequence[Evaluation], name: str) -> bool:
    rate = float(np.mean([evaluation.metrics[name].value for evaluation in evaluations]))
    return _few_errors(rate, _effective(evaluations, name)[0])


def p_value(interval: Interval, margin: float = 0.0, side: str = "two-sided") -> float:
    """Return the p-value of the interval's own t statistic against "the value is ``margin``".

    side: "two-sided", "less" (small when the value lies below the margin) or "greater".
    """
    if interval.error == 0:
        holds = {"two-sided": interval.value != margin, "less": interval.value < margin}
        return 0.0 if holds.get(side, interval.value > margin) else 1.0
    below = float(stats.t.cdf((interval.value - margin) / interval.error, interval.freedom))
    return {"two-sided": 2 * min(below, 1 - below), "less": below, "greater": 1 - below}[side]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's (1979) adjusted p-values, in the order given: reject those up to 0.05, whatever depends on what."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
