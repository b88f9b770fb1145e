"""Verification benchmarks: which templates are compared with which, under which mask condition.

What belongs here: sets of pairs and the readers of their files. What does not: error rates. To add a benchmark of your
own, name its files in ``maskinv.toml``; to add a kind, write a class with ``identities``, ``in_words``, ``pictures``,
``templates`` and ``comparisons``, and let ``opening`` recognise its files. Comparisons are lists, or, of sets with
millions of them, ``all_pairs``.
"""

from dataclasses import dataclass

import numpy as np

RELEASED = "as released"
"""Condition of the published code's "masked vs non-masked" set: half of its pairs have two masks, the others none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparisons:
    """Scores of one benchmark under one mask condition.

    scores: float32 [P], cosine similarity. genuine: bool [P], whether both faces show one person.
    first, second: int32 [P], identity index (0..n-1) of the two faces; genuine exactly where they are equal.
    fold: int8 [P], 0..9 for the pairs of the 10-fold accuracy, -1 for a pair in no fold; None without folds.
    Raises ValueError for wrong lengths, scores that are not finite, labels that contradict the identities, and
    when there is no genuine or no impostor comparison.
    """

    scores: np.ndarray
    genuine: np.ndarray
    first: np.ndarray
    second: np.ndarray
    fold: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, dtype in {"scores": "f", "genuine": "b", "first": "iu", "second": "iu", "fold": "iu"}.items():
            self._check_array(name, getattr(self, name), dtype)
        if not np.isfinite(self.scores).all():
            bad = int((~np.isfinite(self.scores)).sum())
            raise ValueError(f"{bad} of {len(self.scores)} scores are NaN or infinite. Check the templates.")
        for side, count in {"genuine": self.genuine.sum(), "impostor": (~self.genuine).sum()}.items():
            if count == 0:
                raise ValueError(f"No {side} comparison among {len(self.scores)}: no error rate can be computed.")
        if min(self.first.min(), self.second.min()) < 0:
            raise ValueError("Identity indices must not be negative: number the identities from 0.")
        wrong = int(((self.first == self.second) != self.genuine).sum())
        if wrong:
            raise ValueError(f"{wrong} comparisons contradict their label: genuine must mean first == second.")
        if self.fold is not None and not (self.fold.min() >= -1 and self.fold.max() <= 9):
            raise ValueError(f"Folds must be -1..9, not {self.fold.min()}..{self.fold.max()}.")

    def _check_array(self, name: str, array: object, kinds: str) -> None:
        if name == "fold" and array is None:
            return
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds or array.ndim != 1:
            actual = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
            raise ValueError(f"{name} must be a NumPy array [P] of kind {kinds!r}, not {actual}.")
        if len(array) != len(self.scores):
            raise ValueError(f"{name} has {len(array)} entries, scores {len(self.scores)}: one of each per comparison.")

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def identities(self) -> int:
        """Number of identity indices: the largest + 1."""
        return int(max(self.first.max(), self.second.max())) + 1

    @property
    def people(self) -> int:
        """Number of identities that are compared."""
        counts = (np.bincount(side, minlength=self.identities) for side in (self.first, self.second))
        return int(np.count_nonzero(sum(counts)))

    def sampled(self) -> "Comparisons":
        """Return the comparisons for a figure: of a list all, of ``AllPairs`` a sample."""
        return self
