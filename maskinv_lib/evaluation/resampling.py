"""Bootstrap over identities: every metric of a benchmark in thousands of resamples, from counts made once.

Comparisons share faces, so not comparisons but people are drawn, with replacement: identity i counts w_i times, a
genuine comparison of i has weight w_i, an impostor comparison of i and j has weight w_i w_j (copies of one person are
never impostors), and every threshold is chosen again. One matrix of weights serves all stages, seeds and conditions,
so that differences are paired. A million comparisons of 256 identities belong to 32,640 pairs of identities; only
their counts per threshold interval are multiplied by the weights.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.evaluation.metrics import OPERATING_POINTS, ErrorCurve, equal_error_rate

GRID = 256
"""Up to twice as many distinct scores are all thresholds (exact); of more, a grid of this order is interpolated."""

FEW_ERRORS = 10
"""With fewer errors the variance of the resamples is unreliable; the design effect at more errors is used instead."""

CHUNK = 64  # resamples at a time: their pair weights stay in the processor's cache


def identity_weights(identities: int, resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """Return how often each identity is drawn in each resample, float32 [R, n]: rows of whole numbers with sum n.

    The same arguments give the same weights, so separate jobs resample the same people. Raises ValueError for fewer
    than two identities or resamples.
    """
    if identities < 2 or resamples < 2:
        raise ValueError(f"Resampling needs two identities and two resamples, not {identities} and {resamples}.")
    generator = np.random.default_rng([seed, identities])
    return generator.multinomial(identities, np.full(identities, 1 / identities), size=resamples).astype(np.float32)


def _log_ranks(count: int, size: int) -> np.ndarray:
    """Return distinct ranks 0..count-1 on a logarithmic scale: all of the smallest, then with growing distance."""
    return np.unique(np.geomspace(1, count, min(size, count)).round().astype(np.int64)) - 1


def threshold_grid(comparisons: Comparisons, curve: ErrorCurve, extra: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return (thresholds float64 [T] ascending, whether they are exact: all distinct scores).

    Of many distinct scores, the grid takes the largest impostor scores (by rank, on a logarithmic and on a linear
    scale) down to four times the largest FMR that a metric uses, the smallest genuine scores, and the ``extra``
    thresholds. The first threshold accepts every comparison, the last none.
    """
    first, last = curve.thresholds[0], curve.thresholds[-1]
    if len(curve.thresholds) <= 2 * GRID:
        return curve.thresholds, True
    scores = comparisons.scores.astype(np.float64)
    largest_fmr = min(1.0, 4 * max(equal_error_rate(curve)[0], *OPERATING_POINTS.values()))
    impostor = scores[~comparisons.genuine]
    count = max(1, int(largest_fmr * len(impostor)))
    impostor = np.sort(np.partition(impostor, len(impostor) - count)[len(impostor) - count :])[::-1]
    genuine = np.sort(scores[comparisons.genuine])
    even = np.linspace(0, count - 1, GRID // 4).astype(np.int64)  # near the EER a logarithmic grid is coarse
    parts = [impostor[_log_ranks(count, GRID)], impostor[even], genuine[_log_ranks(len(genuine), GRID // 2)]]
    grid = np.concatenate(parts)
    grid = np.concatenate([grid[grid >= impostor[-1]], extra])
    return np.unique(np.concatenate([[first], grid[(grid > first) & (grid < last)], [last]])), False


@dataclass(frozen=True, kw_only=True, eq=False)
class Tally:
    """Counts from which the error rates of any resample are computed.

    thresholds: float64 [T]. exact: whether no distinct score lies between them. genuine_bins: float32 [n, T], genuine
    comparisons of an identity from threshold t up to the next. pairs: int [2, m], identity pairs with impostor
    comparisons. impostor_bins: float32 [T, m], sparse (row 0 is left empty: its rate is 1). genuine_moments [n, 3],
    impostor_moments [m, 3]: count, sum and sum of squares of the scores less ``centre``.
    """

    thresholds: np.ndarray
    exact: bool
    genuine_bins: np.ndarray
    genuine_moments: np.ndarray
    pairs: np.ndarray
    impostor_bins: sparse.csr_array
    impostor_moments: np.ndarray
    centre: float


def _moments(index: np.ndarray, scores: np.ndarray, size: int) -> np.ndarray:
    moments = [np.bincount(index, weights, minlength=size) for weights in (None, scores, scores**2)]
    return np.stack(moments, axis=1).astype(np.float32)


def _pair_index(first: np.ndarray, second: np.ndarray, identities: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (identity pairs [2, m], the pair of each comparison [P]); the order within a pair does not matter."""
    code = np.minimum(first, second).astype(np.int64) * identities + np.maximum(first, second)
    if identities**2 > 20 * len(code):  # few comparisons of many people: a table of all pairs would waste memory
        codes, index = np.unique(code, return_inverse=True)
    else:
        present = np.bincount(code, minlength=identities**2) > 0
        codes, index = np.flatnonzero(present), (np.cumsum(present) - 1)[code]
    return np.stack([codes // identities, codes % identities]), index


def tally(comparisons: Comparisons, identities: int, thresholds: np.ndarray, exact: bool) -> Tally:
    """Count comparisons per identity (genuine) or identity pair (impostor) and threshold interval."""
    scores, genuine = comparisons.scores.astype(np.float64), comparisons.genuine
    centre = float(scores.mean())
    bins = np.searchsorted(thresholds, scores, side="right") - 1  # [P], accepted at thresholds 0..bin
    person = comparisons.first[genuine].astype(np.int64)
    size = len(thresholds)
    genuine_bins = np.bincount(person * size + bins[genuine], minlength=identities * size).reshape(identities, size)
    pairs, pair = _pair_index(comparisons.first[~genuine], comparisons.second[~genuine], identities)
    impostor_bin = bins[~genuine]
    kept = impostor_bin > 0
    ones = np.ones(int(kept.sum()), np.float32)
    counts = sparse.coo_array((ones, (impostor_bin[kept], pair[kept])), shape=(size, pairs.shape[1]))
    return Tally(
        thresholds=thresholds,
        exact=exact,
        genuine_bins=genuine_bins.astype(np.float32),
        genuine_moments=_moments(person, scores[genuine] - centre, identities),
        pairs=pairs,
        impostor_bins=counts.tocsr(),
        impostor_moments=_moments(pair, scores[~genuine] - centre, pairs.shape[1]),
        centre=centre,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ResampledRates:
    """Error rates float64 [R, T] at every threshold [T] in every resample, and the scores' moments [R, 3].

    A resample in which one side has no comparison left is NaN there.
    """

    thresholds: np.ndarray
    exact: bool
    fmr: np.ndarray
    fnmr: np.ndarray
    genuine_moments: np.ndarray
    impostor_moments: np.ndarray


def _accepted_impostors(counts: Tally, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted impostor counts per threshold interval [R, T] and moments [R, 3]."""
    columns = np.ascontiguousarray(weights.T, dtype=np.float32)  # [n, R]
    binned, moments = [], []
    for start in range(0, columns.shape[1], CHUNK):
        part = np.ascontiguousarray(columns[:, start : start + CHUNK])
        products = part[counts.pairs[0]] * part[counts.pairs[1]]  # [m, CHUNK], w_i w_j
        binned.append((counts.impostor_bins @ products).T)
        moments.append(products.T @ counts.impostor_moments)
    return np.concatenate(binned).astype(np.float64), np.concatenate(moments).astype(np.float64)


def resampled_rates(counts: Tally, weights: np.ndarray) -> ResampledRates:
    """Return FMR_r(t) = w_r' C(t) w_r / w_r' N w_r and FNMR_r(t) = w_r' G(t) / w_r' g for weights [R, n]."""
    binned, impostor_moments = _accepted_impostors(counts, weights)
    genuine_moments = weights.astype(np.float64) @ counts.genuine_moments
    rejected = np.cumsum(weights @ counts.genuine_bins, axis=1, dtype=np.float64)
    rejected = np.concatenate([np.zeros((len(weights), 1)), rejected[:, :-1]], axis=1)  # below t, not from t up
    accepted = np.cumsum(binned[:, ::-1], axis=1)[:, ::-1]
    accepted[:, 0] = impostor_moments[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        return ResampledRates(
            thresholds=counts.thresholds,
            exact=counts.exact,
            fmr=accepted / impostor_moments[:, :1],
            fnmr=rejected / genuine_moments[:, :1],
            genuine_moments=genuine_moments,
            impostor_moments=impostor_moments,
        )


def _crossing(values: np.ndarray, level: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Return, per row, the first column where rising ``values`` reach ``level``, and the share of the step to there."""
    right = np.argmax(values >= level, axis=1)
    rows = np.arange(len(values))
    high, low = values[rows, right], values[rows, np.maximum(right - 1, 0)]
    share = np.divide(level - low, high - low, out=np.ones(len(values)), where=high > low)
    return right, np.where(np.isnan(values[:, 0]), np.nan, share)


def _between(columns: np.ndarray, right: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Interpolate each row of ``columns`` [R, T] (or one row [T]) between column right - 1 and right."""
    rows = np.arange(len(right))
    columns = np.broadcast_to(columns, (len(right), columns.shape[-1]))
    left = columns[rows, np.maximum(right - 1, 0)]
    return left + share * (columns[rows, right] - left)


def resampled_eer(rates: ResampledRates) -> np.ndarray:
    """Return the EER of every resample, float64 [R]."""
    return _between(rates.fmr, *_crossing(rates.fnmr - rates.fmr, 0.0))


def resampled_fnmr_at_fmr(rates: ResampledRates, fmr: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (FNMR, threshold) [R] of every resample where its FMR reaches ``fmr``, chosen again in each."""
    right, share = _crossing(-rates.fmr, -fmr * (1 + 1e-12))
    if rates.exact:
        share = np.where(np.isnan(share), np.nan, 1.0)
    return _between(rates.fnmr, right, share), _between(rates.thresholds, right, share)


def resampled_rates_at(rates: ResampledRates, threshold: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Return (FMR, FNMR) [R] at one threshold, or at one per resample [R]."""
    threshold = np.broadcast_to(threshold, len(rates.fmr)).clip(rates.thresholds[0], rates.thresholds[-1])
    right = np.searchsorted(rates.thresholds, threshold)
    low, high = rates.thresholds[np.maximum(right - 1, 0)], rates.thresholds[right]
    share = np.divide(threshold - low, high - low, out=np.ones(len(right)), where=high > low)
    if rates.exact:
        share = np.ones_like(share)
    return _between(rates.fmr, right, share), _between(rates.fnmr, right, share)


def resampled_scores(rates: ResampledRates, centre: float) -> dict[str, np.ndarray]:
    """Return gmean, imean and fdr of every resample, each float64 [R]; ``centre`` is the tally's."""
    with np.errstate(invalid="ignore", divide="ignore"):
        genuine, impostor = (m[:, 1:] / m[:, :1] for m in (rates.genuine_moments, rates.impostor_moments))
        spread = (genuine[:, 1] - genuine[:, 0] ** 2) + (impostor[:, 1] - impostor[:, 0] ** 2)
        fdr = (genuine[:, 0] - impostor[:, 0]) ** 2 / spread
    return {"gmean": genuine[:, 0] + centre, "imean": impostor[:, 0] + centre, "fdr": fdr}


def design_effect(rates: np.ndarray, point: np.ndarray, count: int, people: int) -> float:
    """Return the variance over identities / the binomial variance of ``count`` independent comparisons, at least 1.

    rates: [R, T] in the resamples, point: [T] of the data itself. The median over the thresholds with FEW_ERRORS to
    ten times as many errors; where there is none, all comparisons of one person count as one.
    """
    errors = point * count
    usable = (errors >= FEW_ERRORS) & (errors <= min(10 * FEW_ERRORS, count - FEW_ERRORS))
    if not usable.any():
        return max(1.0, count / people)
    binomial = point[usable] * (1 - point[usable]) / count
    return max(1.0, float(np.median(np.nanvar(rates[:, usable], axis=0) / binomial)))
