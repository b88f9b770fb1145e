"""All pairs of large sets of templates, whose scores are computed a tile at a time and never listed.

Twenty thousand faces make two hundred million pairs. Their metrics and resamples are as exact as those of a list.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from maskinv_lib.evaluation.benchmarks import Comparisons, tiles
from maskinv_lib.evaluation.benchmarks.tiles import Grid, Tile, each
from maskinv_lib.utils.randomness import permutation

LISTED = 4_000_000
"""A benchmark lists up to this many comparisons under one condition, which is as fast; above, it gives ``AllPairs``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AllPairs:
    """The comparisons of one or several grids, under one mask condition; as exact as ``Comparisons``, but not listed.

    folded: the comparisons that are in a fold, for the cross-validated accuracy; None without folds. Raises ValueError
    when there is no genuine or no impostor comparison.
    """

    grids: tuple[Grid, ...]
    folded: Comparisons | None = None

    def __post_init__(self) -> None:
        for side, count in {"genuine": self.genuine, "impostor": len(self) - self.genuine}.items():
            if count == 0:
                raise ValueError(f"No {side} comparison among {len(self)}: no error rate can be computed.")

    def __len__(self) -> int:
        return sum(map(len, self.grids))

    @property
    def genuine(self) -> int:
        """Number of genuine comparisons."""
        return sum(grid.genuine for grid in self.grids)

    @property
    def identities(self) -> int:
        """Number of identity indices: the largest + 1."""
        return 1 + max(int(max(grid.first[-1], grid.second[-1])) for grid in self.grids)

    @property
    def people(self) -> int:
        """Number of identities that are compared."""
        return len(np.unique(np.concatenate([side for grid in self.grids for side in (grid.first, grid.second)])))

    def tiles(self) -> list[Tile]:
        """Return the tiles of all grids."""
        return [tile for grid in self.grids for tile in grid.tiles()]

    @cached_property
    def genuine_comparisons(self) -> tuple[np.ndarray, np.ndarray]:
        """(scores float32 [G], person int32 [G]) of all genuine comparisons, from the tiles that hold them."""
        parts = list(each((tile for tile in self.tiles() if tile.meets), lambda tile: _listed(tile, tile.genuine())))
        scores, person, _ = (np.concatenate(side) for side in zip(*parts, strict=True))
        return scores, person

    def listed(self) -> Comparisons:
        """Return all comparisons as a list: 13 bytes for each, so only for a set that is not large."""
        return _gathered(each(self.tiles(), lambda tile: _listed(tile, tile.compared())))

    def sampled(self, count: int = 4) -> Comparisons:
        """Return all genuine comparisons and the impostor comparisons of ``count`` tiles, drawn by a key."""
        own = [tile for tile in self.tiles() if tile.differs]
        drawn = [own[index] for index in permutation(torch.tensor(0), len(own))[:count].tolist()]
        meeting = [tile for tile in self.tiles() if tile.meets]
        genuine = each(meeting, lambda tile: _listed(tile, tile.genuine()))
        impostor = each(drawn, lambda tile: _listed(tile, tile.impostor()))
        return _gathered([*genuine, *impostor])


Side = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Scores, and the identities on either side, [P]."""


def _listed(tile: Tile, which: np.ndarray | None) -> Side:
    """Return the comparisons of a tile with ``which``, bool [r, c]; None for all."""
    sides = np.broadcast_arrays(tile.scores(), tile.first[:, None], tile.second)
    return tuple(side.ravel() if which is None else side[which] for side in sides)


def _gathered(parts: Iterable[Side]) -> Comparisons:
    scores, first, second = (np.concatenate(side) for side in zip(*parts, strict=True))
    return Comparisons(scores=scores, genuine=first == second, first=first, second=second)


def _side(templates: np.ndarray, identity: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (templates in that order, padded, float32; identities in that order, int32)."""
    if templates.ndim != 2 or len(templates) != len(identity) or not len(identity):
        raise ValueError(f"Templates must be [N, D] and identities [N], not {templates.shape} and {identity.shape}.")
    if not np.isfinite(templates).all():
        bad = int((~np.isfinite(templates)).any(axis=1).sum())
        raise ValueError(f"{bad} of {len(templates)} templates are NaN or infinite. Check the network.")
    if identity.min() < 0:
        raise ValueError("Identity indices must not be negative: number the identities from 0.")
    padded = np.zeros((-(-len(order) // tiles.SIDE) * tiles.SIDE, templates.shape[1]), np.float32)
    padded[: len(order)] = templates[order]
    return padded, identity[order].astype(np.int32)


def every_pair(templates: np.ndarray, identity: np.ndarray) -> AllPairs:
    """Return every pair i < j of templates, float32 [N, D] of unit length, with identities [N] from 0.

    Raises ValueError for shapes that do not fit, templates that are not finite and negative identities.
    """
    rows, first = _side(templates, identity, np.argsort(identity, kind="stable"))
    return AllPairs(grids=(Grid(rows=rows, columns=rows, first=first, second=first, skip="below"),))


def both_ways(plain: np.ndarray, masked: np.ndarray, identity: np.ndarray) -> AllPairs:
    """Return ``plain`` i against ``masked`` j for every i != j: every pair of faces both ways, none with itself.

    Both are templates [N, D] of the same faces; arguments and errors as in ``every_pair``.
    """
    order = np.argsort(identity, kind="stable")
    (rows, first), (columns, second) = (_side(side, identity, order) for side in (plain, masked))
    return AllPairs(grids=(Grid(rows=rows, columns=columns, first=first, second=second, skip="self"),))


def crossed(rows: np.ndarray, first: np.ndarray, columns: np.ndarray, second: np.ndarray) -> Grid:
    """Return the grid of every row with every column, by templates and identities of either side."""
    sides = [
        _side(side, people, np.argsort(people, kind="stable")) for side, people in ((rows, first), (columns, second))
    ]
    return Grid(rows=sides[0][0], columns=sides[1][0], first=sides[0][1], second=sides[1][1])
