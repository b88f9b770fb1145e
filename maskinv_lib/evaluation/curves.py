"""Error rates at every threshold, and what is read from them: the EER, the FNMR at an FMR, the rates at a threshold.

A comparison is accepted when its score >= the threshold. FMR is the share of impostor comparisons accepted, FNMR the
share of genuine comparisons rejected (ISO/IEC 19795). All rates are fractions in [0, 1], in float64; ties are exact.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorCurve:
    """Both error rates at thresholds where one of them changes.

    thresholds: float64 [K], ascending: distinct scores and one just above the largest, so the curve runs from
    (FMR 1, FNMR 0) to (FMR 0, FNMR 1). fmr, fnmr: float64 [K]. genuine, impostor: numbers of comparisons. statistics:
    ``gmean``, ``imean`` and ``fdr`` of the scores; None for a curve that was read from a file. whole: whether every
    distinct score is among the thresholds; otherwise those around the EER and around ``known``, FMRs and thresholds.
    """

    thresholds: np.ndarray
    fmr: np.ndarray
    fnmr: np.ndarray
    genuine: int
    impostor: int
    statistics: dict[str, float] | None = None
    whole: bool = True
    known: frozenset[float] = frozenset()

    def holds(self, *values: float) -> bool:
        """Return whether the curve is exact at all of these FMRs and thresholds."""
        return self.whole or self.known.issuperset(values)


def above(scores: np.ndarray) -> float:
    """Return the smallest float32 above all scores: a finite threshold that accepts nothing."""
    return float(np.nextafter(np.float32(scores.max()), np.float32(np.inf)))


def curve_of_scores(genuine: np.ndarray, impostor: np.ndarray) -> ErrorCurve:
    """Return the whole error curve of genuine [G] and impostor [I] scores.

    Raises ValueError naming the side that is empty or holds a score that is not finite.
    """
    genuine, impostor = _checked("genuine", genuine), _checked("impostor", impostor)
    scores = np.concatenate([genuine, impostor])
    scores.sort()
    new = np.ones(len(scores), bool)
    np.not_equal(scores[1:], scores[:-1], out=new[1:])
    place = np.append(np.flatnonzero(new), len(scores))  # how many scores lie below each threshold
    thresholds = np.empty(len(place))
    thresholds[:-1] = scores[place[:-1]]
    thresholds[-1] = above(scores[-1:])
    genuine_places = np.sort(np.searchsorted(thresholds[:-1], genuine))
    steps = np.diff(
        genuine_places, prepend=-1, append=len(place) - 1
    )  # thresholds at which k genuine ones are rejected
    place -= np.repeat(np.arange(len(genuine) + 1), steps)  # now impostor scores
    np.subtract(len(impostor), place, out=place)
    return ErrorCurve(
        thresholds=thresholds,
        fmr=place / len(impostor),
        fnmr=np.repeat(np.arange(len(genuine) + 1) / len(genuine), steps),
        genuine=len(genuine),
        impostor=len(impostor),
        statistics=_statistics(genuine.astype(np.float64), impostor.astype(np.float64)),
    )


def _checked(side: str, scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores)
    scores = scores if scores.dtype == np.float32 else scores.astype(np.float64)
    if scores.size == 0 or not np.isfinite(scores).all():
        problem = "no" if scores.size == 0 else "NaN or infinite"
        raise ValueError(f"There are {problem} {side} scores: no error rate can be computed.")
    return scores


def _statistics(genuine: np.ndarray, impostor: np.ndarray) -> dict[str, float]:
    means = {"gmean": float(genuine.mean()), "imean": float(impostor.mean())}
    return {**means, "fdr": fisher_ratio(genuine, impostor)}


def fisher_ratio(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """Return FDR = (GMean - IMean)^2 / (sd_G^2 + sd_I^2), population variances; infinite when both are 0."""
    return ratio_of(genuine.mean() - impostor.mean(), genuine.var() + impostor.var())


def ratio_of(distance: float, spread: float) -> float:
    """Return the FDR from the distance of the means and the sum of the variances; infinite without spread."""
    return float(distance**2 / spread) if spread > 0 else float("inf")


def rates_at(curve: ErrorCurve, threshold: float) -> tuple[float, float]:
    """Return (FMR, FNMR) at any threshold; where the curve does not hold it, those at the curve's next threshold."""
    index = min(int(np.searchsorted(curve.thresholds, threshold)), len(curve.thresholds) - 1)
    return float(curve.fmr[index]), float(curve.fnmr[index])


def crossing(fmr: np.ndarray, fnmr: np.ndarray) -> int:
    """Return the index [K] of the first threshold at which the FNMR reaches the FMR."""
    return int(np.argmax(fnmr >= fmr))


def equal_error_rate(curve: ErrorCurve) -> tuple[float, float]:
    """Return (EER, its threshold): where FMR and FNMR meet, on the straight line between neighbouring points.

    The threshold is finite: the distinct score nearest to the crossing. Separated scores give exactly 0 at the
    smallest genuine score.
    """
    right = crossing(curve.fmr, curve.fnmr)
    gap = curve.fnmr[right - 1 : right + 1] - curve.fmr[right - 1 : right + 1]  # FNMR - FMR rises from -1 to 1
    if gap[1] == 0:
        return float(curve.fmr[right]), float(curve.thresholds[right])
    left = right - 1
    share = gap[0] / (gap[0] - gap[1])
    nearest = left if -gap[0] <= gap[1] else right
    value = curve.fmr[left] + share * (curve.fmr[right] - curve.fmr[left])
    return float(value), float(curve.thresholds[nearest])


def measurable(fmr: float, impostor: int) -> bool:
    """Return whether an FMR allows at least one false match among the impostor comparisons."""
    return fmr * impostor >= 1 - 1e-9


def reaching(rates: np.ndarray, fmr: float) -> int:
    """Return the index of the first threshold whose FMR, in ``rates`` [K] falling along the curve, is at most ``fmr``.

    It has the lowest FNMR of all such thresholds.
    """
    return int(np.argmax(rates <= fmr * (1 + 1e-12)))


def fnmr_at_fmr(curve: ErrorCurve, fmr: float) -> tuple[float, float] | tuple[None, None]:
    """Return (lowest FNMR with FMR <= ``fmr``, its threshold); (None, None) where ``fmr`` is not measurable.

    ``fmr`` 0.01 gives FMR100, 0.001 gives FMR1000. It is measurable if it allows at least one false match: fmr *
    impostors >= 1. Raises ValueError for an FMR outside (0, 1].
    """
    if not 0 < fmr <= 1:
        raise ValueError(f"An operating point needs an FMR above 0 and up to 1, not {fmr!r}.")
    if not measurable(fmr, curve.impostor):
        return None, None
    index = reaching(curve.fmr, fmr)
    return float(curve.fnmr[index]), float(curve.thresholds[index])
