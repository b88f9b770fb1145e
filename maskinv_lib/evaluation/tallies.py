"""Counts of comparisons per identity or pair of identities and threshold interval: all that a bootstrap needs.

A million comparisons of 256 identities belong to 32,640 pairs of identities; only their counts are multiplied by the
weights of resampled identities. Of a list the counts are made once; of all pairs of a large set, a tile at a time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.evaluation.benchmarks.all_pairs import AllPairs
from maskinv_lib.evaluation.benchmarks.tiles import Tile, each
from maskinv_lib.evaluation.curves import ErrorCurve, equal_error_rate
from maskinv_lib.evaluation.metrics import OPERATING_POINTS

GRID = 256
"""Up to twice as many distinct scores are all thresholds (exact); of more, a grid of this order is interpolated."""

PART = 1 << 22
"""Comparisons counted at a time: their weighted counts stay below 2^24, up to where float32 holds whole numbers."""

CELLS = 1 << 13
"""Cells of the table that finds the threshold interval of a score."""

BLOCK, CHUNK = 1024, 128
"""Identity pairs and resamples at a time: their products, half a MiB, stay in the processor's cache."""


def _log_ranks(count: int, size: int) -> np.ndarray:
    """Return distinct ranks 0..count-1 on a logarithmic scale: all of the smallest, then with growing distance."""
    return np.unique(np.geomspace(1, count, min(size, count)).round().astype(np.int64)) - 1


def threshold_grid(curve: ErrorCurve, extra: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return (thresholds float64 [T] ascending, whether they are exact: all distinct scores).

    Of many distinct scores, the grid takes the largest impostor scores (by rank, on a logarithmic and on a linear
    scale) down to four times the largest FMR that a metric uses, the smallest genuine scores, and the ``extra``
    thresholds; of a curve that is not whole, its nearest thresholds. The first threshold accepts every comparison, the
    last none.
    """
    first, last = curve.thresholds[0], curve.thresholds[-1]
    if curve.whole and len(curve.thresholds) <= 2 * GRID:
        return curve.thresholds, True
    largest_fmr = min(1.0, 4 * max(equal_error_rate(curve)[0], *OPERATING_POINTS.values()))
    count = max(1, int(largest_fmr * curve.impostor))
    even = np.linspace(0, count - 1, GRID // 4).astype(np.int64)  # near the EER a logarithmic grid is coarse
    impostor = _of_ranks(
        -curve.fmr, -(np.concatenate([_log_ranks(count, GRID), even, [count - 1]]) + 1) / curve.impostor
    )
    genuine = _of_ranks(curve.fnmr, _log_ranks(curve.genuine, GRID // 2) / curve.genuine)
    grid = curve.thresholds[np.concatenate([impostor, genuine])]
    grid = np.concatenate([grid[grid >= curve.thresholds[impostor[-1]]], extra])
    return np.unique(np.concatenate([[first], grid[(grid > first) & (grid < last)], [last]])), False


def _of_ranks(rising: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Return the last index of ``rising`` [K] with at most each rate: the score that has this rank on its side."""
    return np.searchsorted(rising, rates, side="right") - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Impostors:
    """Impostor comparisons of identity pairs.

    pairs: int [2, m]. moments: float32 [m, 3], count, sum and sum of squares of the scores less a centre. pair, bins:
    int [K], the pair and the threshold interval of each comparison; those in interval 0 are left out, its rate is 1.
    """

    pairs: np.ndarray
    moments: np.ndarray
    pair: np.ndarray
    bins: np.ndarray

    def blocks(self, size: int) -> Iterator[tuple[np.ndarray, Tensor, Tensor, Tensor]]:
        """Yield ``BLOCK`` identity pairs at a time, for ``size`` thresholds.

        (pairs [2, k], moments [3, k], the pair of each comparison, ordered by interval, the first of each interval)
        """
        blocks = -(-self.pairs.shape[1] // BLOCK)
        place = self.pair // BLOCK * size + self.bins
        place = place.astype(np.uint16 if blocks * size < 1 << 16 else np.int64)  # 16 bits are sorted fastest
        pair = (self.pair % BLOCK).astype(np.int32)[np.argsort(place, kind="stable")]
        starts = np.concatenate([[0], np.cumsum(np.bincount(place, minlength=blocks * size))]).astype(np.int32)
        for block in range(blocks):
            start = starts[block * size : (block + 1) * size + 1]
            own, k = pair[start[0] : start[-1]], slice(block * BLOCK, (block + 1) * BLOCK)
            moments = np.ascontiguousarray(self.moments[k].T)
            yield self.pairs[:, k], *map(torch.from_numpy, (moments, own, start[:-1] - start[0]))

    def weighted(self, columns: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return weighted counts per threshold interval [size, R] and moments [3, R] for weights float32 [n, R].

        The counts are sums of whole numbers below 2^24, so they do not depend on the order.
        """
        binned, moments = (torch.zeros((rows, columns.shape[1])) for rows in (size, 3))
        blocks = list(self.blocks(size))
        for start in range(0, columns.shape[1], CHUNK):
            part = np.ascontiguousarray(columns[:, start : start + CHUNK])
            chunk = slice(start, start + CHUNK)
            for pairs, sums, own, starts in blocks:
                products = np.take(part, pairs[0], axis=0, mode="clip")
                products *= np.take(part, pairs[1], axis=0, mode="clip")  # [k, CHUNK], w_i w_j
                products = torch.from_numpy(products)
                moments[:, chunk] += sums @ products
                if len(own):
                    binned[:, chunk] += embedding_bag(own, products, starts, mode="sum")
        return binned.numpy(), moments.numpy()


@dataclass(frozen=True, kw_only=True, eq=False)
class Tally:
    """Counts from which the error rates of any resample are computed.

    thresholds: float64 [T]. exact: whether no distinct score lies between them. genuine_bins: float32 [n, T], genuine
    comparisons of an identity from threshold t up to the next. genuine_moments: float32 [n, 3], as in ``Impostors``.
    impostor_parts: called with a function, yields its result for each part of the impostor comparisons. centre: what
    the moments' scores are reduced by.
    """

    thresholds: np.ndarray
    exact: bool
    genuine_bins: np.ndarray
    genuine_moments: np.ndarray
    impostor_parts: Callable[[Callable[[Impostors], object]], Iterator[object]]
    centre: float


def tally(comparisons: Comparisons | AllPairs, identities: int, thresholds: np.ndarray, exact: bool) -> Tally:
    """Count comparisons per identity (genuine) or identity pair (impostor) and threshold interval."""
    if isinstance(comparisons, AllPairs):
        scores, person = comparisons.genuine_comparisons
        centre = float(comparisons.tiles()[0].scores().mean())
    else:
        scores, person = comparisons.scores[comparisons.genuine], comparisons.first[comparisons.genuine]
        centre = float(comparisons.scores.astype(np.float64).mean())
    size, person, scores = len(thresholds), person.astype(np.int64), scores.astype(np.float64)
    genuine_bins = np.bincount(person * size + _bins(thresholds, scores), minlength=identities * size)

    def impostor_parts(function: Callable[[Impostors], object]) -> Iterator[object]:
        if isinstance(comparisons, AllPairs):
            tiles = (tile for tile in comparisons.tiles() if tile.differs)
            return each(tiles, lambda tile: function(_tile_impostors(tile, thresholds, centre)))
        return (function(part) for part in _listed_impostors(comparisons, identities, thresholds, centre))

    return Tally(
        thresholds=thresholds,
        exact=exact,
        genuine_bins=genuine_bins.reshape(identities, size).astype(np.float32),
        genuine_moments=_moments(person, scores - centre, identities),
        impostor_parts=impostor_parts,
        centre=centre,
    )


def _bins(thresholds: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the last threshold [P] that accepts each score; all scores must reach the first one.

    The same as ``searchsorted``, ten times faster: a table of even cells gives the last threshold below a score's cell,
    from where it is a few steps.
    """
    if len(scores) < CELLS:
        return np.searchsorted(thresholds, scores, side="right") - 1
    low, width = thresholds[0], (thresholds[-1] - thresholds[0]) / CELLS
    before = np.searchsorted(thresholds, low + width * np.arange(CELLS), side="right") - 1
    cell = ((scores - low) * (1 / width)).astype(np.int32)
    bins = before[np.clip(cell - 1, 0, CELLS - 1)]  # one cell earlier, whichever way it was rounded
    following = np.append(thresholds[1:], np.inf)
    late = np.flatnonzero(following[bins] <= scores)
    while late.size:
        bins[late] += 1
        late = late[following[bins[late]] <= scores[late]]
    return bins


def _moments(index: np.ndarray, scores: np.ndarray, size: int) -> np.ndarray:
    moments = [np.bincount(index, weights, minlength=size) for weights in (None, scores, scores**2)]
    return np.stack(moments, axis=1).astype(np.float32)


# From a list


def _listed_impostors(
    comparisons: Comparisons, identities: int, thresholds: np.ndarray, centre: float
) -> Iterator[Impostors]:
    places = np.flatnonzero(~comparisons.genuine)
    for part in np.split(places, range(PART, len(places), PART)):
        scores = comparisons.scores[part].astype(np.float64)
        pairs, pair = _pair_index(comparisons.first[part], comparisons.second[part], identities)
        kept = np.flatnonzero(scores >= thresholds[1])
        moments = _moments(pair, scores - centre, pairs.shape[1])
        yield Impostors(pairs=pairs, moments=moments, pair=pair[kept], bins=_bins(thresholds, scores[kept]))


def _pair_index(first: np.ndarray, second: np.ndarray, identities: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (identity pairs [2, m], the pair of each comparison [P]); the order within a pair does not matter."""
    code = np.minimum(first, second).astype(np.int64) * identities + np.maximum(first, second)
    if identities**2 > 20 * len(code):  # few comparisons of many people: a table of all pairs would waste memory
        codes, index = np.unique(code, return_inverse=True)
    else:
        present = np.bincount(code, minlength=identities**2) > 0
        codes, index = np.flatnonzero(present), (np.cumsum(present) - 1)[code]
    return np.stack([codes // identities, codes % identities]), index


# From a tile


def _tile_impostors(tile: Tile, thresholds: np.ndarray, centre: float) -> Impostors:
    """Return the impostor comparisons of a tile: every person of the rows with every person of the columns."""
    scores, impostor = tile.scores(), tile.impostor()
    impostor = np.ones(scores.shape, bool) if impostor is None else impostor
    (rows, row), (columns, column) = (_people(side) for side in (tile.first, tile.second))
    place = np.flatnonzero((scores >= np.float32(thresholds[1])) & impostor)
    pair = row[place // len(column)] * len(columns) + column[place % len(column)]
    bins = _bins(thresholds, scores.ravel()[place].astype(np.float64))
    lesser = np.where(impostor, scores.astype(np.float64) - centre, 0.0)
    moments = [_summed(part, row, column) for part in (impostor.astype(np.float64), lesser, lesser**2)]
    pairs = np.stack([np.repeat(rows, len(columns)), np.tile(columns, len(rows))])
    kept = {"pair": pair[bins > 0], "bins": bins[bins > 0]}
    return Impostors(pairs=pairs, moments=np.stack(moments, axis=1).astype(np.float32), **kept)


def _people(side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (the distinct identities, which of them each template shows) of ascending identities."""
    new = np.concatenate([[True], side[1:] != side[:-1]])
    return side[new], np.cumsum(new) - 1


def _summed(values: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Return the sums of ``values`` [r, c] over the templates of each pair of people, [pairs]."""
    starts = [np.flatnonzero(np.concatenate([[True], side[1:] != side[:-1]])) for side in (row, column)]
    return np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1).ravel()
