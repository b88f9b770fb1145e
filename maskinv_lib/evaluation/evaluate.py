"""One network evaluated on one benchmark: every metric, and every metric in each resample of the identities.

This is the slow step (about a second for a million comparisons), done once per network and condition; intervals,
differences and verdicts only read its result, which is small enough to keep on disk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.evaluation.metrics import (
    NOT_MEASURABLE,
    OPERATING_POINTS,
    ErrorCurve,
    Metric,
    error_curve,
    fnmr_at_fmr,
    measure,
    rates_at,
    ten_fold_accuracy,
)
from maskinv_lib.evaluation.resampling import (
    ResampledRates,
    design_effect,
    resampled_eer,
    resampled_fnmr_at_fmr,
    resampled_rates,
    resampled_rates_at,
    resampled_scores,
    tally,
    threshold_grid,
)

Case = tuple[str, str]
"""(condition, mask kinds): what the two faces of a comparison wear."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """One network on one benchmark under one condition: its metrics, and the same metrics in every resample.

    metrics: by name, without intervals. resamples: float32 [R] by the same names (accuracy has none). identities: how
    many people were resampled. fold_error: standard error of the accuracy over folds, None without. threshold and
    thresholds [R]: the threshold at the FMR ``threshold_fmr`` of ``evaluate``, in the data and in each resample, None
    where not measurable. effective_genuine, effective_impostor: how many independent comparisons the dependent ones
    are worth where errors are few.
    """

    metrics: dict[str, Metric]
    resamples: dict[str, np.ndarray]
    identities: int
    fold_error: float | None
    threshold: float | None
    thresholds: np.ndarray | None
    effective_genuine: float
    effective_impostor: float


Evaluations = Mapping[tuple[str, int], Mapping[Case, Evaluation]]
"""(stage, seed) -> (condition, mask kinds) -> evaluation, all with the same weights."""


def evaluate(
    comparisons: Comparisons,
    weights: np.ndarray,
    *,
    unmasked: Evaluation | None = None,
    threshold_fmr: float = 0.01,
    curve: ErrorCurve | None = None,
) -> Evaluation:
    """Return all metrics of a benchmark, in the data and in every resample.

    weights: [R, n] from ``identity_weights``, the same for everything that will be compared; n must cover the
    identities. unmasked: the same network's evaluation on unmasked pairs; its threshold at FMR ``threshold_fmr``,
    chosen again in each resample, is applied to these comparisons. curve: the error curve of the comparisons, if it
    was computed before. Raises ValueError for weights of too few identities.
    """
    if weights.shape[1] < comparisons.identities:
        raise ValueError(f"Weights for {weights.shape[1]} identities, comparisons of {comparisons.identities}.")
    curve = curve or error_curve(comparisons)
    unmasked_thresholds = None if unmasked is None else unmasked.thresholds
    extra = np.empty(0) if unmasked_thresholds is None else np.quantile(unmasked_thresholds, np.linspace(0, 1, 33))
    thresholds, exact = threshold_grid(comparisons, curve, extra)
    counts = tally(comparisons, weights.shape[1], thresholds, exact)
    rates = resampled_rates(counts, weights)
    resamples = {"eer": resampled_eer(rates)} | resampled_scores(rates, counts.centre)
    resamples |= {name: resampled_fnmr_at_fmr(rates, fmr)[0] for name, fmr in OPERATING_POINTS.items()}
    metrics = measure(comparisons, None if unmasked is None else unmasked.threshold, curve)
    if unmasked_thresholds is not None:
        fmr, fnmr = resampled_rates_at(rates, unmasked_thresholds)
        resamples |= {"fmr_at_unmasked_threshold": fmr, "fnmr_at_unmasked_threshold": fnmr}
    elif unmasked is not None:
        metrics |= _unmeasurable(curve, ("fnmr_at_unmasked_threshold", "fmr_at_unmasked_threshold"))
    threshold = fnmr_at_fmr(curve, threshold_fmr)[1]
    genuine, impostor = _effective_sizes(curve, rates, comparisons, weights.shape[1])
    return Evaluation(
        metrics=metrics,
        resamples={name: resamples[name].astype(np.float32) for name in metrics if name in resamples},
        identities=len(np.union1d(comparisons.first, comparisons.second)),
        fold_error=ten_fold_accuracy(comparisons)[1] if "accuracy" in metrics else None,
        threshold=threshold,
        thresholds=None if threshold is None else resampled_fnmr_at_fmr(rates, threshold_fmr)[1],
        effective_genuine=genuine,
        effective_impostor=impostor,
    )


def _unmeasurable(curve: ErrorCurve, names: Sequence[str]) -> dict[str, Metric]:
    counts = {"genuine": curve.genuine, "impostor": curve.impostor}
    return {name: Metric(name=name, value=None, note=NOT_MEASURABLE, **counts) for name in names}


def _effective_sizes(
    curve: ErrorCurve, rates: ResampledRates, comparisons: Comparisons, identities: int
) -> tuple[float, float]:
    """Return how many independent (genuine, impostor) comparisons the dependent ones are worth at few errors."""
    points = np.array([rates_at(curve, threshold) for threshold in rates.thresholds])  # [T, 2]
    people = len(np.unique(comparisons.first[comparisons.genuine]))
    genuine = design_effect(rates.fnmr, points[:, 1], curve.genuine, people)
    impostor = design_effect(rates.fmr, points[:, 0], curve.impostor, max(1, identities // 2))
    return curve.genuine / genuine, curve.impostor / impostor
