"""The verification metrics of ISO/IEC 19795, computed exactly from scores, ties included.

All rates are fractions in [0, 1], read from an error curve (``curves``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.evaluation.benchmarks.all_pairs import AllPairs
from maskinv_lib.evaluation.brackets import counted_curve
from maskinv_lib.evaluation.curves import ErrorCurve, above, curve_of_scores, equal_error_rate, fnmr_at_fmr, rates_at

OPERATING_POINTS = {"fmr100": 0.01, "fmr1000": 0.001}
"""Metric name -> the FMR at which it gives the FNMR."""

FINE_POINTS = OPERATING_POINTS | {"fmr10000": 0.0001}
"""The operating points that a set of millions of comparisons can measure."""

RATES = ("eer", "fmr100", "fmr1000", "fnmr_at_unmasked_threshold", "fmr_at_unmasked_threshold")
"""Metrics that are error rates; the others are gmean, imean (scores), fdr (a ratio) and accuracy (a share)."""

NOT_MEASURABLE = "not measurable"
"""The note of a metric whose operating point the number of impostor comparisons cannot resolve."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric with its interval and the size of its data.

    value: None where it cannot be measured (the note then says so). low, high: its interval, None without one.
    threshold: the score at which the value holds, None where there is none. genuine, impostor: numbers of comparisons.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    genuine: int
    impostor: int
    note: str = ""


def split_scores(comparisons: Comparisons) -> tuple[np.ndarray, np.ndarray]:
    """Return genuine scores [G] and impostor scores [I], of the comparisons' dtype."""
    return comparisons.scores[comparisons.genuine], comparisons.scores[~comparisons.genuine]


def error_curve(
    comparisons: Comparisons | AllPairs, *, fmrs: Iterable[float] = (), thresholds: Iterable[float] = ()
) -> ErrorCurve:
    """Return the error curve of a benchmark's comparisons.

    Of a list it is the whole curve. Of all pairs of a large set it is thinned, but exact at the EER, at the FMRs of
    ``FINE_POINTS`` and ``fmrs`` and at ``thresholds``.
    """
    if isinstance(comparisons, Comparisons):
        return curve_of_scores(*split_scores(comparisons))
    return counted_curve(comparisons, {*FINE_POINTS.values(), *fmrs}, thresholds)


def _best_threshold(scores: np.ndarray, genuine: np.ndarray) -> float:
    """Return the threshold of highest accuracy: halfway between two scores, the middle one of equally good ones."""
    order = np.argsort(scores)
    scores, genuine = scores[order], genuine[order]
    correct = genuine.sum() + np.concatenate([[0], np.cumsum(np.where(genuine, -1, 1))])  # [P + 1]: k lowest rejected
    cuts = np.concatenate([[scores[0]], (scores[:-1] + scores[1:]) / 2, [above(scores)]])
    possible = np.concatenate([[True], scores[1:] > scores[:-1], [True]])  # no cut between equal scores
    best = np.flatnonzero(possible & (correct == correct[possible].max()))
    return float(cuts[best[len(best) // 2]])


def has_folds(comparisons: Comparisons | AllPairs) -> bool:
    """Return whether a cross-validated accuracy can be computed."""
    folded = comparisons if isinstance(comparisons, Comparisons) else comparisons.folded
    return folded is not None and folded.fold is not None and bool((folded.fold >= 0).any())


def ten_fold_accuracy(comparisons: Comparisons | AllPairs) -> tuple[float, float]:
    """Return (accuracy, standard error over folds) in the style of LFW, from the comparisons that are in a fold.

    Each fold is judged at the threshold that is best on the other folds. Raises ValueError with fewer than two folds.
    """
    comparisons = comparisons.folded if isinstance(comparisons, AllPairs) else comparisons
    folds = np.array([])
    if comparisons is not None and comparisons.fold is not None:
        folds = np.flatnonzero(np.bincount(comparisons.fold[comparisons.fold >= 0]))
    if len(folds) < 2:
        raise ValueError(f"A cross-validated accuracy needs at least two folds; this benchmark has {len(folds)}.")
    used = comparisons.fold >= 0
    genuine, fold = comparisons.genuine[used], comparisons.fold[used]
    scores = comparisons.scores[used].astype(np.float64)
    accuracies = []
    for held_out in folds:
        inside = fold == held_out
        threshold = _best_threshold(scores[~inside], genuine[~inside])
        accuracies.append(((scores[inside] >= threshold) == genuine[inside]).mean())
    return float(np.mean(accuracies)), float(np.std(accuracies, ddof=1) / np.sqrt(len(folds)))


def measure(
    comparisons: Comparisons | AllPairs,
    unmasked_threshold: float | None = None,
    curve: ErrorCurve | None = None,
    *,
    operating_points: Mapping[str, float] = OPERATING_POINTS,
    accuracy: float | None = None,
) -> dict[str, Metric]:
    """Return every metric of one benchmark under one condition, by name, without intervals.

    unmasked_threshold: a threshold fixed on *unmasked* pairs (``fnmr_at_fmr`` of their curve); with it come
    ``fnmr_at_unmasked_threshold`` and ``fmr_at_unmasked_threshold``. ``accuracy`` comes only where there are folds.
    curve, accuracy: of the comparisons, if they were computed before; a curve that is not exact where it must be is
    computed again.
    """
    extra = () if unmasked_threshold is None else (unmasked_threshold,)
    if curve is None or not curve.holds(*operating_points.values(), *extra):
        curve = error_curve(comparisons, fmrs=operating_points.values(), thresholds=extra)
    results = {"eer": equal_error_rate(curve)}  # name -> (value, threshold)
    results |= {name: fnmr_at_fmr(curve, fmr) for name, fmr in operating_points.items()}
    results |= {name: (value, None) for name, value in curve.statistics.items()}
    if has_folds(comparisons):
        results["accuracy"] = (ten_fold_accuracy(comparisons)[0] if accuracy is None else accuracy, None)
    if unmasked_threshold is not None:
        fmr, fnmr = rates_at(curve, unmasked_threshold)
        results["fnmr_at_unmasked_threshold"] = (fnmr, float(unmasked_threshold))
        results["fmr_at_unmasked_threshold"] = (fmr, float(unmasked_threshold))
    metrics = {}
    for name, (value, threshold) in results.items():
        data = {"genuine": curve.genuine, "impostor": curve.impostor, "note": NOT_MEASURABLE if value is None else ""}
        metrics[name] = Metric(name=name, value=value, threshold=threshold, **data)
    return metrics
