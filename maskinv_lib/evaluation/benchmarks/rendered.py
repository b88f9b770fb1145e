"""Verification of rendered people: the same pairs unmasked, with a masked probe, and with both faces masked.

Half of each person's views are references, the other half probes; every reference is compared with every probe. The
masks are a pure function of (set, face, kinds), so all networks and seeds see the same pictures.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from maskinv_lib.evaluation.benchmarks import RELEASED, Comparisons
from maskinv_lib.faces import Faces
from maskinv_lib.faces.masks.drawing import draw_masks
from maskinv_lib.study.data import FOLDS, MASK_KINDS, UNMASKED
from maskinv_lib.utils.randomness import key

CASES = (
    (UNMASKED, "none"),
    *((condition, kinds) for kinds in MASK_KINDS for condition in ("masked-unmasked", "masked-masked", "all")),
    (RELEASED, "unseen"),
)
"""(condition, mask kinds) of every comparison; ``all`` pools the three conditions at one kind of masks.

``RELEASED`` is what the published code calls masked against unmasked: here the first half of the people are compared
without masks, the second half with two, and no pair is mixed.
"""


def masked_copy(faces: Faces, kinds: str, *, chunk: int = 256) -> Tensor:
    """Return uint8 [N, 3, 112, 112]: ``faces`` with one mask of these kinds each, the same at every call."""
    keys = key("benchmark mask", faces.source, kinds, torch.arange(len(faces)))
    parts = zip(faces.images.split(chunk), keys.split(chunk), strict=True)
    return torch.cat([draw_masks(images, part, kinds)[0] for images, part in parts])


@dataclass(frozen=True, kw_only=True, eq=False)
class RenderedBenchmark:
    """Verification of rendered people. faces: each identity with ``views`` views in a row, half of them references."""

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

    @property
    def pictures(self) -> int:
        """Number of faces, with and without drawn masks, of which ``templates`` makes templates."""
        return (1 + len(MASK_KINDS)) * len(self.faces)

    def _sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of (references, probes)."""
        reference = np.arange(len(self.faces)) % self.views < self.views // 2
        return np.flatnonzero(reference), np.flatnonzero(~reference)

    def templates(self, recogniser: Callable[[Tensor], Tensor]) -> dict[str, np.ndarray]:
        """Return the templates, float32 [N, D], of the faces without masks and with masks of either kind."""
        templates = {"none": recogniser(self.faces.images).numpy()}
        return templates | {kinds: recogniser(masked_copy(self.faces, kinds)).numpy() for kinds in MASK_KINDS}

    def comparisons(self, templates: dict[str, np.ndarray]) -> Iterator[tuple[str, str, Comparisons]]:
        """Yield (condition, mask kinds, comparisons) for each of ``CASES``."""
        unmasked = self._compare(templates["none"], templates["none"])
        yield UNMASKED, "none", unmasked
        for kinds in MASK_KINDS:
            mixed = self._compare(templates["none"], templates[kinds])
            yield "masked-unmasked", kinds, mixed
            masked = self._compare(templates[kinds], templates[kinds])
            yield "masked-masked", kinds, masked
            yield "all", kinds, _pool([unmasked, mixed, masked])
        scores = np.where(unmasked.first < self.identities // 2, unmasked.scores, masked.scores)
        yield RELEASED, kinds, replace(unmasked, scores=scores)  # of the last kinds, "unseen"

    def _compare(self, of_references: np.ndarray, of_probes: np.ndarray) -> Comparisons:
        """Return every reference against every probe, by templates [N, D] of all faces for either side."""
        references, probes = self._sides()
        scores = of_references[references] @ of_probes[probes].T  # [references, probes]
        people = np.meshgrid(references // self.views, probes // self.views, indexing="ij")
        first, second = (side.ravel().astype(np.int32) for side in people)
        fold = self._folds(first, second)
        return Comparisons(
            scores=scores.ravel().astype(np.float32), genuine=first == second, first=first, second=second, fold=fold
        )

    def _folds(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the fold of each comparison: disjoint people, as many impostor as genuine pairs; others in none."""
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
    names = [field.name for field in fields(Comparisons)]
    return Comparisons(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
