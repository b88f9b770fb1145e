"""Verification of rendered people: the same pairs unmasked, with a masked probe, and with both faces masked.

Half of each person's views are references, the other half probes; every reference is compared with every probe. The
masks are a pure function of (set, face, kinds), so all networks and seeds see the same pictures.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from maskinv_lib.evaluation.benchmarks import RELEASED, Comparisons
from maskinv_lib.faces import Faces
from maskinv_lib.faces.masks.drawing import draw_masks
from maskinv_lib.study.data import FOLDS
from maskinv_lib.utils.randomness import key

CASES = (
    ("unmasked-unmasked", "none"),
    ("masked-unmasked", "seen"),
    ("masked-masked", "seen"),
    ("all", "seen"),
    ("masked-unmasked", "unseen"),
    ("masked-masked", "unseen"),
    ("all", "unseen"),
    (RELEASED, "unseen"),
)
"""(condition, mask kinds) of every comparison; ``all`` pools the three conditions at one kind of masks.

``RELEASED`` is what the published code calls masked against unmasked: here the first half of the people are compared
without masks, the second half with two, and no pair is mixed.
"""


def masked_copy(faces: Faces, kinds: str, *, chunk: int = 256) -> Tensor:
    """Return uint8 [N, 3, 112, 112]: ``faces`` with one mask each, of the given kinds, always the same."""
    keys = key("benchmark mask", faces.source, kinds, torch.arange(len(faces)))
    parts = zip(faces.images.split(chunk), keys.split(chunk), strict=True)
    return torch.cat([draw_masks(images, some, kinds)[0] for images, some in parts])


@dataclass(frozen=True, kw_only=True, eq=False)
class RenderedBenchmark:
    """Rendered people to be verified. faces: each identity with ``views`` views in a row, half of them references."""

    name: str
    faces: Faces
    views: int

    def __post_init__(self) -> None:
        people = len(self.faces) // max(1, self.views)
        expected = torch.arange(people).repeat_interleave(max(1, self.views))
        if self.views < 2 or self.views % 2 or not torch.equal(self.faces.identity, expected):
            raise ValueError(f"{self.name}: needs an even number of views of each identity in a row, not {self.views}.")
        if people < 2 * FOLDS:
            raise ValueError(f"{self.name}: needs at least {2 * FOLDS} identities for {FOLDS} folds, not {people}.")

    @property
    def identities(self) -> int:
        """Number of people."""
        return len(self.faces) // self.views

    @property
    def in_words(self) -> str:
        """What is compared with what, for a reader."""
        return (
            f"Half of the {self.views} pictures of each of {self.identities} test people are *references*, the other"
            " half *probes*. Every reference is compared with every probe: pairs of one person are *genuine*, all"
            " others *impostor*. The same pairs are compared again with a mask drawn on the probe (masked-unmasked)"
            " and with masks on both faces (masked-masked). None of these people took part in training or in any"
            " choice."
        )

    def _sides(self) -> tuple[np.ndarray, np.ndarray]:
        place = np.arange(len(self.faces)) % self.views
        return np.flatnonzero(place < self.views // 2), np.flatnonzero(place >= self.views // 2)

    def templates(self, recogniser: Callable[[Tensor], Tensor]) -> dict[str, np.ndarray]:
        """Return the templates, float32 [N, D], of the faces without masks and with masks of either kind."""
        pictures = {"none": lambda: self.faces.images}
        pictures |= {kinds: lambda kinds=kinds: masked_copy(self.faces, kinds) for kinds in ("seen", "unseen")}
        return {kinds: recogniser(make()).numpy() for kinds, make in pictures.items()}

    def comparisons(self, templates: dict[str, np.ndarray]) -> Iterator[tuple[str, str, Comparisons]]:
        """Yield (condition, mask kinds, comparisons) for each of ``CASES``."""
        pooled: dict[str, list[Comparisons]] = {"seen": [], "unseen": []}
        for condition, kinds in CASES:
            if condition == "all":
                yield condition, kinds, _pool(pooled[kinds])
                continue
            if condition == RELEASED:
                yield condition, kinds, self._as_released(templates, kinds)
                continue
            found = self._compare(templates, condition, kinds)
            for name in pooled if kinds == "none" else (kinds,):
                pooled[name].append(found)
            yield condition, kinds, found

    def _as_released(self, templates: dict[str, np.ndarray], kinds: str) -> Comparisons:
        """Return the comparisons of references of the first half of the people unmasked, of the others masked."""
        unmasked = self._compare(templates, "unmasked-unmasked", "none")
        both = self._compare(templates, "masked-masked", kinds)
        return replace(unmasked, scores=np.where(unmasked.first < self.identities // 2, unmasked.scores, both.scores))

    def _compare(self, templates: dict[str, np.ndarray], condition: str, kinds: str) -> Comparisons:
        references, probes = self._sides()
        reference_kinds, probe_kinds = {
            "unmasked-unmasked": ("none", "none"),
            "masked-unmasked": ("none", kinds),
            "masked-masked": (kinds, kinds),
        }[condition]
        scores = templates[reference_kinds][references] @ templates[probe_kinds][probes].T  # [references, probes]
        first, second = np.meshgrid(references // self.views, probes // self.views, indexing="ij")
        return Comparisons(
            scores=scores.ravel().astype(np.float32),
            genuine=(first == second).ravel(),
            first=first.ravel().astype(np.int32),
            second=second.ravel().astype(np.int32),
            fold=self._folds(first.ravel(), second.ravel()),
        )

    def _folds(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Fold of each comparison: disjoint people per fold, as many impostor as genuine pairs, others in none."""
        fold = np.full(len(first), -1, np.int8)
        within = first % FOLDS == second % FOLDS
        draw = key("fold", torch.arange(len(first))).numpy()
        for number in range(FOLDS):
            inside = np.flatnonzero(within & (first % FOLDS == number))
            genuine = inside[first[inside] == second[inside]]
            impostor = inside[first[inside] != second[inside]]
            chosen = impostor[np.argsort(draw[impostor], kind="stable")[: len(genuine)]]
            fold[genuine] = fold[chosen] = number
        return fold


def _pool(parts: list[Comparisons]) -> Comparisons:
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("scores", "genuine", "first", "second", "fold")
    }
    return Comparisons(**joined)
