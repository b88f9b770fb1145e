"""The exact error curve of all pairs of a large set, in memory that does not grow with the number of comparisons.

All genuine scores are kept. A sample of impostor scores says in which narrow brackets of thresholds the EER and each
operating point should lie. One pass counts the scores above each of some hundred thresholds and keeps those inside the
brackets. Where a point turns out to lie elsewhere, the interval between the two counted thresholds around it is the
next bracket, or is divided if it holds too many scores; at the latest the third division leaves single float32 values.
So the result is exact for any scores: it never rests on the sample.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from maskinv_lib.evaluation import counting
from maskinv_lib.evaluation.benchmarks.all_pairs import AllPairs
from maskinv_lib.evaluation.benchmarks.tiles import Grid
from maskinv_lib.evaluation.counting import Plan, Points, counted
from maskinv_lib.evaluation.curves import ErrorCurve, crossing, curve_of_scores, measurable, ratio_of, reaching
from maskinv_lib.utils.randomness import permutation

SAMPLED = 2048
"""Templates on either side of the sample at most; it holds at most a sixteenth of the comparisons."""

DIVISIONS = 4096
"""Parts of an interval that holds too many scores to keep."""

BEND = 32
"""Neighbours of a point of the curve that stay in it when it is thinned."""


def counted_curve(pairs: AllPairs, fmrs: Iterable[float], thresholds: Iterable[float] = ()) -> ErrorCurve:
    """Return an error curve that is exact at the EER, at each of ``fmrs`` that is measurable, and at ``thresholds``."""
    genuine = np.sort(pairs.genuine_comparisons[0])
    sample = _sample(pairs)
    fmrs, thresholds = list(fmrs), list(thresholds)
    known = frozenset([*fmrs, *thresholds])
    fmrs = [fmr for fmr in fmrs if measurable(fmr, len(pairs) - len(genuine))]
    asked = _float32_from(np.array(thresholds, np.float64))
    centre = float(sample[len(sample) // 2])
    points, low, moments = counted(pairs, _first_plan(genuine, sample, fmrs, asked, len(pairs)), centre)
    while (plan := _next_plan(points, genuine, fmrs)).thresholds.size:
        points = points.joined(counted(pairs, plan, centre)[0])
    statistics = _statistics(genuine.astype(np.float64), moments, centre)
    return replace(_curve(points, low, genuine, fmrs, asked), statistics=statistics, known=known)


def _float32_from(thresholds: np.ndarray) -> np.ndarray:
    """Return the smallest float32 not below each threshold: it accepts the same scores."""
    nearest = thresholds.astype(np.float32)
    return np.where(nearest < thresholds, np.nextafter(nearest, np.float32(np.inf)), nearest)


# What to count


def _sample(pairs: AllPairs) -> np.ndarray:
    """Return impostor scores of templates drawn by a key, float32 ascending, in proportion to the grids' sizes."""
    parts = []
    for number, grid in enumerate(pairs.grids):
        side = max(2, round(min(SAMPLED * (len(grid) / len(pairs)) ** 0.5, len(grid) ** 0.5 / 4)))
        rows, columns = (
            _drawn(size, side, 2 * number + k) for k, size in enumerate((len(grid.first), len(grid.second)))
        )
        parts.append(_impostors(grid, rows, columns))
    sample = np.concatenate(parts)
    if not sample.size:  # nearly all faces show one person
        tiles = (tile.scores()[tile.impostor()].ravel() for tile in pairs.tiles())
        sample = next(scores for scores in tiles if scores.size)
    sample.sort()
    return sample


def _drawn(size: int, count: int, purpose: int) -> np.ndarray:
    return permutation(torch.tensor(purpose), size)[:count].numpy()


def _impostors(grid: Grid, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    scores = grid.rows[rows] @ grid.columns[columns].T
    return scores[grid.first[rows][:, None] != grid.second[columns]]


def _ranks(count: int, most: int) -> np.ndarray:
    """Return ranks 0..count-1 on a logarithmic and on a linear scale."""
    scales = np.geomspace(1, count, min(most, count)) - 1, np.linspace(0, count - 1, min(most // 4, count))
    return np.unique(np.concatenate(scales).round().astype(np.int64))


def _first_plan(
    genuine: np.ndarray, sample: np.ndarray, fmrs: list[float], asked: np.ndarray, comparisons: int
) -> Plan:
    """Return the plan that the sample suggests: brackets of up to an eighth of ``KEPT``, thresholds over all ranks."""
    curve = curve_of_scores(genuine, sample[:: max(1, len(sample) >> 18)])
    right = crossing(curve.fmr, curve.fnmr)
    points = [float(curve.fmr[right - 1 : right + 1].mean()), *fmrs]
    size, descending = len(sample), sample[::-1]

    def at(fmr: float) -> np.float32:
        """Return the sample's threshold at an FMR."""
        return descending[min(int(fmr * size), size - 1)] if fmr * size >= 1 else np.float32(np.inf)

    ends = [(0.0, min(1.0, 2**16 / comparisons))]  # the highest scores
    for fmr in points:
        half = min(0.05 * fmr + 6 * (fmr / size) ** 0.5 + 20 / size, counting.KEPT / 16 / comparisons)
        ends.append((max(0.0, fmr - half), min(1.0, fmr + half)))
    least = at(min(1.0, 4 * max(points)))
    ranks = _ranks(max(1, min(size, int(4 * max(points) * size))), 512)
    least = min([least, *asked, *(at(high) for _, high in ends)])
    counted = [descending[ranks], genuine[_ranks(len(genuine), 128)], genuine[::-1][_ranks(len(genuine), 128)], asked]
    counted = np.concatenate([*counted, [at(fmr) for pair in ends for fmr in pair], [least]]).astype(np.float32)
    counted = np.unique(counted[(counted >= least) & (counted < np.inf)])
    low = np.unique(descending[np.linspace(0, size - 1, 12).astype(int)])
    brackets = [tuple(np.searchsorted(counted, [at(high), at(low)])) for low, high in ends]
    return Plan(thresholds=counted, brackets=_merged(brackets), low=low[low < least])


def _merged(brackets: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return intervals that do not overlap, ascending; those that touch are joined."""
    merged: list[tuple[int, int]] = []
    for a, b in sorted((int(a), int(b)) for a, b in brackets if a < b):
        if merged and a <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(b, merged[-1][1]))
        else:
            merged.append((a, b))
    return merged


def _answers(points: Points, genuine: np.ndarray, fmrs: list[float]) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return (FMR [K], FNMR [K], the index at which the EER and each operating point is reached)."""
    rejected = np.searchsorted(genuine, points.scores)
    impostor = points.accepted - (len(genuine) - rejected)
    fmr, fnmr = impostor / impostor[0], rejected / len(genuine)
    return fmr, fnmr, [crossing(fmr, fnmr), *(reaching(fmr, value) for value in fmrs)]


def _next_plan(points: Points, genuine: np.ndarray, fmrs: list[float]) -> Plan:
    """Return the plan for intervals in which a point lies between scores that are not known; an empty one for none."""
    rights = {right for right in _answers(points, genuine, fmrs)[2] if right and not points.followed[right - 1]}
    edges, brackets = [np.empty(0, np.float32)], []
    for right in sorted(rights):
        a, b = points.scores[right - 1 : right + 1]
        if points.accepted[right - 1] - points.accepted[right] <= counting.KEPT // (2 * len(rights)):
            brackets.append((a, b))
            edges.append(np.array([a, b]))
        else:
            edges.append(_divided(a, b))
    edges = np.unique(np.concatenate(edges))
    places = [tuple(np.searchsorted(edges, bracket)) for bracket in brackets]
    return Plan(thresholds=edges, brackets=_merged(places), low=edges[:0])


def _divided(a: np.float32, b: np.float32) -> np.ndarray:
    """Return a, the float32 after it, and others up to b: whole numbers that are ordered like the floats, evenly."""
    low, high = (_ordered(value) for value in (a, b))
    return _from_ordered(np.unique(np.append(np.linspace(low, high, DIVISIONS).round().astype(np.int64), low + 1)))


def _ordered(value: np.float32) -> int:
    bits = int(np.float32(value + 0.0).view(np.int32))  # + 0.0: one zero
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def _from_ordered(numbers: np.ndarray) -> np.ndarray:
    values = np.abs(numbers).astype(np.int32).view(np.float32)
    return np.where(numbers < 0, -values, values)


# The curve


def _curve(points: Points, low: Points, genuine: np.ndarray, fmrs: list[float], asked: np.ndarray) -> ErrorCurve:
    whole = bool(points.followed.all())
    if not whole:
        unknown = ~points.followed[np.searchsorted(points.scores, low.scores, side="right") - 1]
        points = _thinned(points, genuine, fmrs, asked).joined(low.at(unknown))
    fmr, fnmr, _ = _answers(points, genuine, fmrs)
    counts = {"genuine": len(genuine), "impostor": int(points.accepted[0]) - len(genuine)}
    thresholds = points.scores.astype(np.float64)
    return ErrorCurve(thresholds=thresholds, fmr=fmr, fnmr=fnmr, whole=whole, **counts)


def _thinned(points: Points, genuine: np.ndarray, fmrs: list[float], asked: np.ndarray) -> Points:
    """Return some thousand points: around the answers, at the thresholds asked for, at the top, and evenly by rank."""
    answers = _answers(points, genuine, fmrs)[2]
    size = len(points.scores)
    around = [np.arange(max(0, right - BEND), min(size, right + BEND)) for right in answers]
    rank = points.accepted[0] - points.accepted
    spread = [size - 1 - _ranks(size, 2048), np.searchsorted(rank, np.linspace(0, rank[-1], 512))]
    places = [np.searchsorted(points.scores, asked), np.searchsorted(points.scores, genuine[_ranks(len(genuine), 256)])]
    index = np.unique(np.concatenate([*around, *spread, *places, [0, size - 1]])).clip(0, size - 1)
    return points.at(index)


def _statistics(genuine: np.ndarray, moments: np.ndarray, centre: float) -> dict[str, float]:
    count, total, squares = moments
    mean = total / count
    spread = genuine.var() + max(0.0, squares / count - mean**2)
    gmean, imean = float(genuine.mean()), float(mean + centre)
    return {"gmean": gmean, "imean": imean, "fdr": ratio_of(gmean - imean, spread)}
