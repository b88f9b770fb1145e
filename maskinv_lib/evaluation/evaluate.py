"""One network evaluated on one benchmark: every metric, and every metric in each resample of the identities.

This is the slow step (about a third of a second for a million comparisons), done once per network and condition;
intervals, differences and verdicts only read its result, which is small enough to keep on disk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.evaluation.benchmarks.all_pairs import AllPairs
from maskinv_lib.evaluation.curves import ErrorCurve, fnmr_at_fmr
from maskinv_lib.evaluation.metrics import (
    NOT_MEASURABLE,
    OPERATING_POINTS,
    Metric,
    error_curve,
    has_folds,
    measure,
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
)
from maskinv_lib.evaluation.tallies import tally, threshold_grid

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
    comparisons: Comparisons | AllPairs,
    weights: np.ndarray,
    *,
    unmasked: Evaluation | None = None,
    threshold_fmr: float = 0.01,
    curve: ErrorCurve | None = None,
) -> Evaluation:
    """Return all metrics of a benchmark, in the data and in every resample.

    weights: [R, n] from ``identity_weights``, the same for everything that will be compared; n must cover the
    identities. unmasked: the same network's evaluation on unmasked pairs; its threshold at FMR ``threshold_fmr``,
    chosen again in each resample, is applied to these comparisons. curve: the error curve of the comparisons, if it was
    computed before (``curve_for``). Raises ValueError for weights of too few identities.
    """
    if weights.shape[1] < comparisons.identities:
        raise ValueError(f"Weights for {weights.shape[1]} identities, comparisons of {comparisons.identities}.")
    if curve is None or not curve.holds(threshold_fmr, *_thresholds_of(unmasked)):
        curve = curve_for(comparisons, unmasked=unmasked, threshold_fmr=threshold_fmr)
    thresholds, exact = threshold_grid(curve, _chosen_again(unmasked))
    counts = tally(comparisons, weights.shape[1], thresholds, exact)
    rates = resampled_rates(counts, weights)
    resamples = {"eer": resampled_eer(rates)} | resampled_scores(rates, counts.centre)
    at_fmr = {fmr: resampled_fnmr_at_fmr(rates, fmr) for fmr in {*OPERATING_POINTS.values(), threshold_fmr}}
    resamples |= {name: at_fmr[fmr][0] for name, fmr in OPERATING_POINTS.items()}
    accuracy, fold_error = ten_fold_accuracy(comparisons) if has_folds(comparisons) else (None, None)
    metrics = measure(comparisons, None if unmasked is None else unmasked.threshold, curve, accuracy=accuracy)
    if unmasked is not None and unmasked.thresholds is not None:
        fmr, fnmr = resampled_rates_at(rates, unmasked.thresholds)
        resamples |= {"fmr_at_unmasked_threshold": fmr, "fnmr_at_unmasked_threshold": fnmr}
    elif unmasked is not None:
        metrics |= _unmeasurable(curve, ("fnmr_at_unmasked_threshold", "fmr_at_unmasked_threshold"))
    threshold = fnmr_at_fmr(curve, threshold_fmr)[1]
    genuine, impostor = _effective_sizes(curve, rates, int((counts.genuine_moments[:, 0] > 0).sum()), weights.shape[1])
    return Evaluation(
        metrics=metrics,
        resamples={name: resamples[name].astype(np.float32) for name in metrics if name in resamples},
        identities=comparisons.people,
        fold_error=fold_error,
        threshold=threshold,
        thresholds=None if threshold is None else at_fmr[threshold_fmr][1],
        effective_genuine=genuine,
        effective_impostor=impostor,
    )


def curve_for(
    comparisons: Comparisons | AllPairs, *, unmasked: Evaluation | None = None, threshold_fmr: float = 0.01
) -> ErrorCurve:
    """Return the error curve that ``evaluate`` needs: exact at the FMR and at the threshold of the unmasked pairs."""
    return error_curve(comparisons, fmrs=[threshold_fmr], thresholds=_thresholds_of(unmasked))


def resampled_thresholds(
    comparisons: Comparisons | AllPairs, weights: np.ndarray, fmrs: Sequence[float]
) -> tuple[ErrorCurve, dict[float, np.ndarray]]:
    """Return (the error curve, the threshold at each FMR in every resample [R]), resampled once for all of ``fmrs``."""
    curve = error_curve(comparisons, fmrs=fmrs)
    rates = resampled_rates(tally(comparisons, weights.shape[1], *threshold_grid(curve, np.empty(0))), weights)
    return curve, {fmr: resampled_fnmr_at_fmr(rates, fmr)[1] for fmr in fmrs}


def _thresholds_of(unmasked: Evaluation | None) -> list[float]:
    """Return the thresholds of the unmasked pairs that are applied to others."""
    own = [] if unmasked is None or unmasked.threshold is None else [unmasked.threshold]
    return [*own, *_chosen_again(unmasked).tolist()]


def _chosen_again(unmasked: Evaluation | None) -> np.ndarray:
    """Return 33 quantiles of the thresholds that the unmasked pairs set in the resamples."""
    if unmasked is None or unmasked.thresholds is None:
        return np.empty(0)
    quantiles = np.quantile(unmasked.thresholds, np.linspace(0, 1, 33))
    return quantiles[np.isfinite(quantiles)]  # a resample without comparisons has none


def _unmeasurable(curve: ErrorCurve, names: Sequence[str]) -> dict[str, Metric]:
    counts = {"genuine": curve.genuine, "impostor": curve.impostor}
    return {name: Metric(name=name, value=None, note=NOT_MEASURABLE, **counts) for name in names}


def _effective_sizes(curve: ErrorCurve, rates: ResampledRates, people: int, identities: int) -> tuple[float, float]:
    """Return how many independent (genuine, impostor) comparisons the dependent ones are worth at few errors.

    people: with genuine comparisons.
    """
    genuine = design_effect(rates.fnmr, rates.data[:, 1], curve.genuine, people)
    impostor = design_effect(rates.fmr, rates.data[:, 0], curve.impostor, max(1, identities // 2))
    return curve.genuine / genuine, curve.impostor / impostor
