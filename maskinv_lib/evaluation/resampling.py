"""Bootstrap over identities: every metric of a benchmark in thousands of resamples, from counts made once.

Comparisons share faces, so not comparisons but people are drawn, with replacement: identity i counts w_i times, a
genuine comparison of i has weight w_i, an impostor comparison of i and j has weight w_i w_j (copies of one person are
never impostors), and every threshold is chosen again. One matrix of weights serves all stages, seeds and conditions,
so that differences are paired.
"""

from dataclasses import dataclass

import numpy as np

from maskinv_lib.evaluation.tallies import Tally

FEW_ERRORS = 10
"""With fewer errors the variance of the resamples is unreliable; the design effect at more errors is used instead."""


def identity_weights(identities: int, resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """Return how often each identity is drawn in each resample, float32 [R, n]: rows of whole numbers with sum n.

    The same arguments give the same weights, so separate jobs resample the same people. Raises ValueError for fewer
    than two identities or resamples.
    """
    if identities < 2 or resamples < 2:
        raise ValueError(f"Resampling needs two identities and two resamples, not {identities} and {resamples}.")
    generator = np.random.default_rng([seed, identities])
    return generator.multinomial(identities, np.full(identities, 1 / identities), size=resamples).astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class ResampledRates:
    """Error rates float64 [R, T] at every threshold [T] in every resample, and the scores' moments [R, 3].

    data: [T, 2], FMR and FNMR of the data itself. A resample in which one side has no comparison left is NaN there.
    """

    thresholds: np.ndarray
    exact: bool
    fmr: np.ndarray
    fnmr: np.ndarray
    data: np.ndarray
    genuine_moments: np.ndarray
    impostor_moments: np.ndarray


def _accepted_impostors(counts: Tally, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted impostor counts per interval [R + 1, T] and moments [R + 1, 3]; the last row is unweighted."""
    size = len(counts.thresholds)
    columns = np.ascontiguousarray(np.concatenate([weights, np.ones_like(weights[:1])]).T, dtype=np.float32)  # [n, R+1]
    binned, moments = np.zeros((size, columns.shape[1])), np.zeros((3, columns.shape[1]))
    for part in counts.impostor_parts(lambda part: part.weighted(columns, size)):
        binned, moments = binned + part[0], moments + part[1]
    return binned.T, moments.T


def resampled_rates(counts: Tally, weights: np.ndarray) -> ResampledRates:
    """Return FMR_r(t) = w_r' C(t) w_r / w_r' N w_r and FNMR_r(t) = w_r' G(t) / w_r' g for weights [R, n]."""
    binned, impostor_moments = _accepted_impostors(counts, weights)
    with_data = np.concatenate([weights, np.ones_like(weights[:1])])
    genuine_moments = with_data.astype(np.float64) @ counts.genuine_moments
    rejected = np.cumsum(with_data @ counts.genuine_bins, axis=1, dtype=np.float64)
    rejected = np.concatenate([np.zeros((len(with_data), 1)), rejected[:, :-1]], axis=1)  # below t, not from t up
    accepted = np.cumsum(binned[:, ::-1], axis=1)[:, ::-1]
    accepted[:, 0] = impostor_moments[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        fmr, fnmr = accepted / impostor_moments[:, :1], rejected / genuine_moments[:, :1]
    return ResampledRates(
        thresholds=counts.thresholds,
        exact=counts.exact,
        fmr=fmr[:-1],
        fnmr=fnmr[:-1],
        data=np.stack([fmr[-1], fnmr[-1]], axis=1),
        genuine_moments=genuine_moments[:-1],
        impostor_moments=impostor_moments[:-1],
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
    """Return (FMR, FNMR) [R] at one threshold, or at one per resample [R]; NaN where that is NaN."""
    threshold = np.broadcast_to(threshold, len(rates.fmr)).clip(rates.thresholds[0], rates.thresholds[-1])
    right = np.minimum(np.searchsorted(rates.thresholds, threshold), len(rates.thresholds) - 1)  # NaN comes last
    low, high = rates.thresholds[np.maximum(right - 1, 0)], rates.thresholds[right]
    share = np.divide(threshold - low, high - low, out=np.ones(len(right)), where=high > low)
    if rates.exact:
        share = np.where(np.isnan(share), np.nan, 1.0)
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
