"""The scores of every row of templates with every column, a tile at a time.

A tile is the product of ``SIDE`` rows and ``SIDE`` columns, padded at the edge, on one thread: every product has one
shape, so a score has the same bits each time that it is computed.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch

SIDE = 1024
"""Templates on either side of a tile: 4 MiB of scores."""

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Every row compared with every column.

    rows [n, D], columns [m, D]: float32, padded with zeros to whole tiles. first [n], second [m]: their identities,
    int32, ascending. skip: "" compares all, "self" leaves out the comparison of row i with column i, "below" leaves out
    those of row i with columns up to i.
    """

    rows: np.ndarray
    columns: np.ndarray
    first: np.ndarray
    second: np.ndarray
    skip: str = ""

    def __len__(self) -> int:
        left_out = {"": 0, "self": len(self.first), "below": len(self.first) * (len(self.first) + 1) // 2}
        return len(self.first) * len(self.second) - left_out[self.skip]

    @cached_property
    def genuine(self) -> int:
        """Number of genuine comparisons."""
        size = int(max(self.first[-1], self.second[-1])) + 1
        first, second = (np.bincount(side, minlength=size).astype(np.int64) for side in (self.first, self.second))
        pairs = int(first @ second)
        return {"": pairs, "self": pairs - len(self.first), "below": (pairs - len(self.first)) // 2}[self.skip]

    def tiles(self) -> Iterator["Tile"]:
        """Yield the tiles, row by row."""
        for top in range(0, len(self.first), SIDE):
            for left in range(top if self.skip == "below" else 0, len(self.second), SIDE):
                yield Tile(grid=self, top=top, left=left)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tile:
    """One block of a grid, from row ``top`` and column ``left`` on."""

    grid: Grid
    top: int
    left: int

    @property
    def first(self) -> np.ndarray:
        """Identities of the rows [r], ascending."""
        return self.grid.first[self.top : self.top + SIDE]

    @property
    def second(self) -> np.ndarray:
        """Identities of the columns [c], ascending."""
        return self.grid.second[self.left : self.left + SIDE]

    def scores(self, into: torch.Tensor | None = None) -> np.ndarray:
        """Return all scores, float32 [r, c], also those that the grid skips. into: [SIDE, SIDE], takes them."""
        rows = torch.from_numpy(self.grid.rows[self.top : self.top + SIDE])
        columns = torch.from_numpy(self.grid.columns[self.left : self.left + SIDE])
        return torch.mm(rows, columns.T, out=into).numpy()[: len(self.first), : len(self.second)]

    def compared(self) -> np.ndarray | None:
        """Return bool [r, c], which scores the grid does not skip; None for all."""
        if not self.grid.skip or self.top != self.left:
            return None
        every = np.ones((len(self.first), len(self.second)), bool)
        return np.triu(every, 1) if self.grid.skip == "below" else every & ~np.eye(*every.shape, dtype=bool)

    @property
    def meets(self) -> bool:
        """Whether rows and columns may show the same people."""
        return bool(self.first[0] <= self.second[-1] and self.second[0] <= self.first[-1])

    @property
    def differs(self) -> bool:
        """Whether some row and column show two people."""
        return bool(self.first[0] != self.second[-1] or self.first[-1] != self.second[0])

    def genuine(self) -> np.ndarray:
        """Return bool [r, c], which scores are genuine and not skipped."""
        same, compared = self.first[:, None] == self.second, self.compared()
        return same if compared is None else same & compared

    def impostor(self) -> np.ndarray | None:
        """Return bool [r, c], which scores are impostor scores and not skipped; None for all."""
        if not self.meets:
            return None
        different, compared = self.first[:, None] != self.second, self.compared()
        return different if compared is None else different & compared


def each(tiles: Iterable[Tile], function: Callable[[Tile], Result]) -> Iterator[Result]:
    """Yield ``function(tile)`` in order, computed by as many threads as torch has, each with products of one thread."""
    workers = torch.get_num_threads()
    with one_thread(), ThreadPoolExecutor(workers) as pool:
        running = deque()
        for tile in tiles:
            running.append(pool.submit(function, tile))
            if len(running) > 2 * workers:  # results that wait take memory
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let every product of torch run on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
