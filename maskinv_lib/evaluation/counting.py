"""One pass over all pairs of a large set: how many scores reach some thresholds, and all scores inside brackets.

Counts and the scores of the brackets are of all comparisons, genuine ones included, which are known apart; so no score
needs its label. What a pass keeps has a limit, whatever the number of comparisons.
"""

import threading
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from maskinv_lib.evaluation.benchmarks import tiles
from maskinv_lib.evaluation.benchmarks.all_pairs import AllPairs
from maskinv_lib.evaluation.benchmarks.tiles import Tile, each
from maskinv_lib.evaluation.curves import above

KEPT = 1 << 24
"""Scores kept in brackets at most: 64 MiB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What one pass counts and keeps.

    thresholds: float32 [E], ascending, where scores are counted. brackets: (a, b), all scores from thresholds[a] up to
    thresholds[b], or all above for b = E, are kept. low: float32 [L], below the others, where they are only counted.
    """

    thresholds: np.ndarray
    brackets: list[tuple[int, int]]
    low: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """Distinct scores, float32 [K] ascending, how many scores are accepted there [K], and whether the next distinct
    score is the next in the list [K].
    """

    scores: np.ndarray
    accepted: np.ndarray
    followed: np.ndarray

    def at(self, index: np.ndarray) -> "Points":
        """Return the points with these indices."""
        return Points(scores=self.scores[index], accepted=self.accepted[index], followed=self.followed[index])

    def joined(self, other: "Points") -> "Points":
        """Return the points of both."""
        names = ("scores", "accepted", "followed")
        scores, accepted, followed = (np.concatenate([getattr(self, n), getattr(other, n)]) for n in names)
        order = np.argsort(scores, kind="stable")
        scores, accepted = scores[order], accepted[order]
        start = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]]))
        followed = np.logical_or.reduceat(followed[order], start)
        return Points(scores=scores[start], accepted=accepted[start], followed=followed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Counted:
    """What a tile gives for a plan.

    accepted: int [E]. following: float32 [E], the smallest score not below each threshold. kept: the scores of each
    bracket, ascending. low: int [L]. least, largest: scores. moments: count, sum and sum of squares of the impostor
    scores less a centre.
    """

    accepted: np.ndarray
    following: np.ndarray
    kept: list[np.ndarray]
    low: np.ndarray
    least: np.float32
    largest: np.float32
    moments: np.ndarray


_own = threading.local()
"""A thread's memory for the scores of a tile: taking new memory for each costs a tenth of the product."""


def _scores(tile: Tile) -> np.ndarray:
    """Return the scores of a tile, float32 [r, c], which stay until the thread's next tile."""
    if not hasattr(_own, "scores"):
        _own.scores = torch.empty(tiles.SIDE, tiles.SIDE)
    return tile.scores(into=_own.scores)


def _count(tile: Tile, plan: Plan, centre: float) -> Counted:
    whole, compared = _scores(tile), tile.compared()
    scores = whole.ravel() if compared is None else whole[compared]
    high = scores[scores >= plan.thresholds[0]]
    high.sort()
    places = np.searchsorted(high, plan.thresholds)
    ends = np.append(places, len(high))
    return Counted(
        accepted=len(high) - places,
        following=np.append(high, np.float32(np.inf))[places],
        kept=[high[ends[a] : ends[b]].copy() for a, b in plan.brackets],
        low=np.array([np.count_nonzero(scores >= threshold) for threshold in plan.low], np.int64),
        least=scores.min(initial=np.inf),
        largest=scores.max(initial=-np.inf),
        moments=_moments(scores if tile.impostor() is None else whole[tile.impostor()], centre),
    )


def _moments(scores: np.ndarray, centre: float) -> np.ndarray:
    """Return count, sum and sum of squares less the centre, float64 [3], a part at a time, which stays in the cache."""
    total = np.zeros(3)
    for part in torch.from_numpy(scores).split(1 << 16):
        part = part.double() - centre
        total += (len(part), float(part.sum()), float(part @ part))
    return total


def counted(pairs: AllPairs, plan: Plan, centre: float) -> tuple[Points, Points, np.ndarray]:
    """Return (points, those of the low thresholds, count, sum and sum of squares of the impostor scores - centre)."""
    accepted, low, moments = np.zeros(len(plan.thresholds), np.int64), np.zeros(len(plan.low), np.int64), np.zeros(3)
    following = np.full(len(plan.thresholds), np.inf, np.float32)
    least, largest = np.float32(np.inf), np.float32(-np.inf)
    kept: dict[tuple[int, int], list[np.ndarray]] = {bracket: [] for bracket in plan.brackets}
    sizes = dict.fromkeys(kept, 0)
    for part in each(pairs.tiles(), partial(_count, plan=plan, centre=centre)):
        accepted, low, moments = accepted + part.accepted, low + part.low, moments + part.moments
        following = np.minimum(following, part.following)
        least, largest = min(least, part.least), max(largest, part.largest)
        _keep(kept, sizes, dict(zip(plan.brackets, part.kept, strict=True)))
    points = _points(len(pairs), plan, accepted, following, (least, largest), kept)
    return points, Points(scores=plan.low, accepted=low, followed=np.zeros(len(low), bool)), moments


def _keep(kept: dict, sizes: dict, part: dict) -> None:
    """Add a tile's scores; give up the fullest brackets as long as there are more than ``KEPT`` scores."""
    for bracket in kept:
        kept[bracket].append(part[bracket])
        sizes[bracket] += len(part[bracket])
    while sum(sizes.values()) > KEPT:
        fullest = max(sizes, key=sizes.get)
        del kept[fullest], sizes[fullest]


def _points(
    comparisons: int,
    plan: Plan,
    accepted: np.ndarray,
    following: np.ndarray,
    extremes: tuple[np.float32, np.float32],
    kept: dict[tuple[int, int], list[np.ndarray]],
) -> Points:
    finite = np.isfinite(following)
    top = np.float32(above(np.array(extremes[1])))
    scores = np.concatenate([extremes[:1], following[finite], [top]]).astype(np.float32)
    points = Points(
        scores=scores,
        accepted=np.concatenate([[comparisons], accepted[finite], [0]]),
        followed=np.isin(np.nextafter(scores, np.float32(np.inf)), plan.thresholds) | (scores == top),
    )
    points = points.joined(points)  # in order
    for (_, b), parts in kept.items():
        inside = np.sort(np.concatenate(parts))
        if inside.size:
            start = np.flatnonzero(np.concatenate([[True], inside[1:] != inside[:-1]]))
            beyond = accepted[b] if b < len(accepted) else 0
            own = {"scores": inside[start], "accepted": beyond + len(inside) - start}
            points = points.joined(Points(**own, followed=np.ones(len(start), bool)))
    next_value = np.nextafter(points.scores[:-1], np.float32(np.inf)) == points.scores[1:]
    alone = points.accepted[:-1] - points.accepted[1:] == 1
    return Points(
        scores=points.scores,
        accepted=points.accepted,
        followed=points.followed | np.append(next_value | alone, True),
    )
