"""The verification metrics of ISO/IEC 19795, computed exactly from scores, ties included.

A comparison is accepted when its score >= the threshold. FMR is the share of impostor comparisons accepted, FNMR the
share of genuine comparisons rejected. All rates are fractions in [0, 1]. Plain NumPy, in float64.
"""

from dataclasses import dataclass

import numpy as np

from maskinv_lib.evaluation.benchmarks import Comparisons

OPERATING_POINTS = {"fmr100": 0.01, "fmr1000": 0.001}
"""Metric name -> the FMR at which it gives the FNMR."""

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


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorCurve:
    """Both error rates at every threshold where one of them changes.

    thresholds: float64 [K], ascending: the distinct scores and one just above the largest, so the curve runs from
    (FMR 1, FNMR 0) to (FMR 0, FNMR 1). fmr, fnmr: float64 [K]. genuine, impostor: numbers of comparisons.
    """

    thresholds: np.ndarray
    fmr: np.ndarray
    fnmr: np.ndarray
    genuine: int
    impostor: int


def split_scores(comparisons: Comparisons) -> tuple[np.ndarray, np.ndarray]:
    """Return genuine scores [G] and impostor scores [I], float64."""
    scores = comparisons.scores.astype(np.float64)
    return scores[comparisons.genuine], scores[~comparisons.genuine]


def above(scores: np.ndarray) -> float:
    """Return the smallest float32 above all scores: a finite threshold that accepts nothing."""
    return float(np.nextafter(np.float32(scores.max()), np.float32(np.inf)))


def curve_of_scores(genuine: np.ndarray, impostor: np.ndarray) -> ErrorCurve:
    """Return the error curve of genuine [G] and impostor [I] scores.

    Raises ValueError naming the side that is empty or holds a score that is not finite.
    """
    sides = {"genuine": np.asarray(genuine, np.float64), "impostor": np.asarray(impostor, np.float64)}
    for side, scores in sides.items():
        if scores.size == 0 or not np.isfinite(scores).all():
            problem = "no" if scores.size == 0 else "NaN or infinite"
            raise ValueError(f"There are {problem} {side} scores: no error rate can be computed.")
    genuine, impostor = np.sort(sides["genuine"]), np.sort(sides["impostor"])
    scores = np.unique(np.concatenate([genuine, impostor]))
    thresholds = np.append(scores, above(scores))
    return ErrorCurve(
        thresholds=thresholds,
        fmr=(len(impostor) - np.searchsorted(impostor, thresholds)) / len(impostor),
        fnmr=np.searchsorted(genuine, thresholds) / len(genuine),
        genuine=len(genuine),
        impostor=len(impostor),
    )


def error_curve(comparisons: Comparisons) -> ErrorCurve:
    """Return the error curve of a benchmark's comparisons."""
    return curve_of_scores(*split_scores(comparisons))


def rates_at(curve: ErrorCurve, threshold: float) -> tuple[float, float]:
    """Return (FMR, FNMR) at any threshold."""
    index = min(int(np.searchsorted(curve.thresholds, threshold)), len(curve.thresholds) - 1)
    return float(curve.fmr[index]), float(curve.fnmr[index])


def equal_error_rate(curve: ErrorCurve) -> tuple[float, float]:
    """Return (EER, its threshold): where FMR and FNMR meet, on the straight line between neighbouring points.

    The threshold is finite: the distinct score nearest to the crossing. Separated scores give exactly 0 at the
    smallest genuine score.
    """
    gap = curve.fnmr - curve.fmr  # [K], strictly rising from -1 to 1
    right = int(np.argmax(gap >= 0))
    if gap[right] == 0:
        return float(curve.fmr[right]), float(curve.thresholds[right])
    left = right - 1
    share = gap[left] / (gap[left] - gap[right])
    nearest = left if -gap[left] <= gap[right] else right
    value = curve.fmr[left] + share * (curve.fmr[right] - curve.fmr[left])
    return float(value), float(curve.thresholds[nearest])


def fnmr_at_fmr(curve: ErrorCurve, fmr: float) -> tuple[float, float] | tuple[None, None]:
    """Return (lowest FNMR with FMR <= ``fmr``, its threshold); (None, None) where ``fmr`` is not measurable.

    ``fmr`` 0.01 gives FMR100, 0.001 gives FMR1000. It is measurable if it allows at least one false match: fmr *
    impostors >= 1. Raises ValueError for an FMR outside (0, 1].
    """
    if not 0 < fmr <= 1:
        raise ValueError(f"An operating point needs an FMR above 0 and up to 1, not {fmr!r}.")
    if fmr * curve.impostor < 1 - 1e-9:
        return None, None
    index = int(np.argmax(curve.fmr <= fmr * (1 + 1e-12)))  # FMR falls along the curve: the first is the lowest FNMR
    return float(curve.fnmr[index]), float(curve.thresholds[index])


def fisher_ratio(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """Return FDR = (GMean - IMean)^2 / (sd_G^2 + sd_I^2), population variances; infinite when both are 0."""
    spread = genuine.var() + impostor.var()
    return float((genuine.mean() - impostor.mean()) ** 2 / spread) if spread > 0 else float("inf")


def _best_threshold(scores: np.ndarray, genuine: np.ndarray) -> float:
    """Return the threshold of highest accuracy: halfway between two scores, the middle one of equally good ones."""
    order = np.argsort(scores)
    scores, genuine = scores[order], genuine[order]
    correct = genuine.sum() + np.concatenate([[0], np.cumsum(np.where(genuine, -1, 1))])  # [P + 1]: k lowest rejected
    cuts = np.concatenate([[scores[0]], (scores[:-1] + scores[1:]) / 2, [above(scores)]])
    possible = np.concatenate([[True], scores[1:] > scores[:-1], [True]])  # no cut between equal scores
    best = np.flatnonzero(possible & (correct == correct[possible].max()))
    return float(cuts[best[len(best) // 2]])


def ten_fold_accuracy(comparisons: Comparisons) -> tuple[float, float]:
    """Return (accuracy, standard error over folds) in the style of LFW, from the comparisons that are in a fold.

    Each fold is judged at the threshold that is best on the other folds. Raises ValueError with fewer than two folds.
    """
    folds = np.array([]) if comparisons.fold is None else np.unique(comparisons.fold[comparisons.fold >= 0])
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
    comparisons: Comparisons, unmasked_threshold: float | None = None, curve: ErrorCurve | None = None
) -> dict[str, Metric]:
    """Return every metric of one benchmark under one condition, by name, without intervals.

    unmasked_threshold: a threshold fixed on *unmasked* pairs (``fnmr_at_fmr`` of their curve); with it come
    ``fnmr_at_unmasked_threshold`` and ``fmr_at_unmasked_threshold``. ``accuracy`` comes only where there are folds.
    curve: the error curve of the comparisons, if it was computed before.
    """
    genuine, impostor = split_scores(comparisons)
    curve = curve or curve_of_scores(genuine, impostor)
    results = {"eer": equal_error_rate(curve)}  # name -> (value, threshold)
    results |= {name: fnmr_at_fmr(curve, fmr) for name, fmr in OPERATING_POINTS.items()}
    results |= {"gmean": (float(genuine.mean()), None), "imean": (float(impostor.mean()), None)}
    results["fdr"] = (fisher_ratio(genuine, impostor), None)
    if comparisons.fold is not None and (comparisons.fold >= 0).any():
        results["accuracy"] = (ten_fold_accuracy(comparisons)[0], None)
    if unmasked_threshold is not None:
        fmr, fnmr = rates_at(curve, unmasked_threshold)
        results["fnmr_at_unmasked_threshold"] = (fnmr, float(unmasked_threshold))
        results["fmr_at_unmasked_threshold"] = (fmr, float(unmasked_threshold))
    metrics = {}
    for name, (value, threshold) in results.items():
        data = {"genuine": curve.genuine, "impostor": curve.impostor, "note": NOT_MEASURABLE if value is None else ""}
        metrics[name] = Metric(name=name, value=value, threshold=threshold, **data)
    return metrics
