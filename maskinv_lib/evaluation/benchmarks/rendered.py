"""Verification of rendered people: the same pairs unmasked, with a masked probe, and with both faces masked.

Half of each person's views are references, the other half probes; every reference is compared with every probe. The
masks are a pure function of (set, face, kinds), so all networks and seeds see the same pictures.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from maskinv_lib.evaluation.benchmarks import RELEASED, Comparisons
from maskinv_lib.evaluation.benchmarks.all_pairs import LISTED, AllPairs, crossed
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
    """Verification of rendered people. faces: each identity with ``views`` views in a row, half of them references.

    kinds: which mask kinds are drawn.
    """

    name: str
    faces: Faces
    views: int
    kinds: tuple[str, ...] = MASK_KINDS

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
        return (1 + len(self.kinds)) * len(self.faces)

    def templates(self, recogniser: Callable[[Tensor], Tensor]) -> dict[str, np.ndarray]:
        """Return the templates, float32 [N, D], of the faces without masks and with masks of each kind."""
        templates = {"none": recogniser(self.faces.images).numpy()}
        return templates | {kinds: recogniser(masked_copy(self.faces, kinds)).numpy() for kinds in self.kinds}

    def comparisons(self, templates: dict[str, np.ndarray]) -> Iterator[tuple[str, str, Comparisons | AllPairs]]:
        """Yield (condition, mask kinds, comparisons), with both kinds of a test for each of ``CASES``."""
        pool = _pool if self._listed else _pooled
        unmasked = self._compare(templates["none"], templates["none"])
        yield UNMASKED, "none", unmasked
        for kinds in self.kinds:
            mixed = self._compare(templates["none"], templates[kinds])
            yield "masked-unmasked", kinds, mixed
            masked = self._compare(templates[kinds], templates[kinds])
            yield "masked-masked", kinds, masked
            yield "all", kinds, pool([unmasked, mixed, masked])
        yield RELEASED, kinds, self._halves(unmasked, masked, templates["none"], templates[kinds])  # the last kind

    @cached_property
    def _sides(self) -> tuple[np.ndarray, np.ndarray]:
        """The indices of (references, probes)."""
        reference = np.arange(len(self.faces)) % self.views < self.views // 2
        return np.flatnonzero(reference), np.flatnonzero(~reference)

    @property
    def _listed(self) -> bool:
        return len(self._sides[0]) * len(self._sides[1]) <= LISTED

    def _compare(self, of_references: np.ndarray, of_probes: np.ndarray) -> Comparisons | AllPairs:
        """Return every reference against every probe, by templates [N, D] of all faces for either side."""
        (references, probes), (first, second) = self._sides, self._people
        if not self._listed:
            grid = crossed(of_references[references], first, of_probes[probes], second)
            return AllPairs(grids=(grid,), folded=self._folded(of_references, of_probes))
        scores = of_references[references] @ of_probes[probes].T  # [references, probes]
        sides = {"first": np.repeat(first, len(second)), "second": np.tile(second, len(first))}
        genuine = (first[:, None] == second).ravel()
        return Comparisons(scores=scores.ravel().astype(np.float32), genuine=genuine, fold=self._fold, **sides)

    def _halves(
        self, unmasked: Comparisons | AllPairs, masked: Comparisons | AllPairs, plain: np.ndarray, covered: np.ndarray
    ) -> Comparisons | AllPairs:
        """Return the comparisons with references of the first half of the people unmasked, of the others masked."""
        if self._listed:
            return replace(
                unmasked, scores=np.where(unmasked.first < self.identities // 2, unmasked.scores, masked.scores)
            )
        (references, probes), (first, second) = self._sides, self._people
        half = first < self.identities // 2
        parts = ((plain, half), (covered, ~half))
        grids = tuple(crossed(side[references[part]], first[part], side[probes], second) for side, part in parts)
        scores = np.where(unmasked.folded.first < self.identities // 2, unmasked.folded.scores, masked.folded.scores)
        return AllPairs(grids=grids, folded=replace(unmasked.folded, scores=scores))

    @cached_property
    def _people(self) -> tuple[np.ndarray, np.ndarray]:
        """The identities of (references, probes), int32."""
        return tuple((side // self.views).astype(np.int32) for side in self._sides)

    def _folded(self, of_references: np.ndarray, of_probes: np.ndarray) -> Comparisons:
        """Return the comparisons that are in a fold."""
        (references, probes), (first, second) = self._sides, self._people
        places = np.sort(np.concatenate(self._in_folds))
        fold = np.empty(len(places), np.int8)
        for number, inside in enumerate(self._in_folds):
            fold[np.searchsorted(places, inside)] = number
        row, column = np.divmod(places, len(probes))
        scores = np.einsum("pd,pd->p", of_references[references[row]], of_probes[probes[column]]).astype(np.float32)
        sides = {"first": first[row], "second": second[column]}
        return Comparisons(scores=scores, genuine=first[row] == second[column], fold=fold, **sides)

    @cached_property
    def _fold(self) -> np.ndarray:
        """The fold of each listed comparison, int8: -1 for those in none."""
        fold = np.full(len(self._sides[0]) * len(self._sides[1]), -1, np.int8)
        for number, inside in enumerate(self._in_folds):
            fold[inside] = number
        return fold

    @cached_property
    def _in_folds(self) -> list[np.ndarray]:
        """The places of each fold's comparisons, row by row: disjoint people, as many impostor as genuine pairs."""
        first, second = self._people
        folds = []
        for number in range(FOLDS):
            rows, columns = (np.flatnonzero(side % FOLDS == number) for side in (first, second))
            inside = (rows[:, None] * len(second) + columns).ravel()
            same = (first[rows][:, None] == second[columns]).ravel()
            genuine, impostor = inside[same], inside[~same]
            draw = key("fold", torch.from_numpy(impostor)).numpy()
            folds.append(np.concatenate([genuine, impostor[np.argsort(draw, kind="stable")[: len(genuine)]]]))
        return folds


def _pool(parts: list[Comparisons]) -> Comparisons:
    names = [field.name for field in fields(Comparisons)]
    return Comparisons(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _pooled(parts: list[AllPairs]) -> AllPairs:
    grids = tuple(grid for part in parts for grid in part.grids)
    return AllPairs(grids=grids, folded=_pool([part.folded for part in parts]))
