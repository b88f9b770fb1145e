"""Masks drawn on real faces: published verification pairs, and all pairs of a small set.

Each benchmark compares the same pairs unmasked, with exactly one masked face and with two. A mask is a pure function
of the set, the pair (or the face) and the side, so all networks and seeds see the same pictures.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskinv_lib.evaluation.benchmarks import RELEASED, Comparisons
from maskinv_lib.evaluation.benchmarks.all_pairs import LISTED, AllPairs, both_ways, every_pair
from maskinv_lib.faces import Faces
from maskinv_lib.faces.masks.drawing import draw_masks
from maskinv_lib.study.data import FOLDS, MASK_KINDS, UNMASKED
from maskinv_lib.utils.randomness import key

CHUNK = 512
Templates = dict[str, np.ndarray]
"""Mask kinds ("none", "seen", "unseen") -> templates, float32 [N, D] of unit length."""


def _masked_templates(recogniser: Callable[[Tensor], Tensor], faces: Faces, index: Tensor, kinds: str) -> np.ndarray:
    """Return templates of ``faces[index]`` with masks that depend on the set and the position in ``index``."""
    keys = key("benchmark mask", faces.source, kinds, torch.arange(len(index)))
    parts = zip(index.split(CHUNK), keys.split(CHUNK), strict=True)
    return np.concatenate([recogniser(draw_masks(faces.images[i], k, kinds)[0]).numpy() for i, k in parts])


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosines of rows of unit length, float32 [P]."""
    return np.einsum("pd,pd->p", a, b).astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnPairs:
    """A published verification set with drawn masks (LFW, AgeDB-30, CFP-FP, CALFW, CPLFW).

    faces: the distinct pictures; their identity is what is resampled. index: int64 [2P], the pictures at positions
    2i and 2i + 1 of pair i, in ten folds of equal size. kinds: which mask kinds are drawn. released: add the
    published code's protocol, which masks all positions from P on: half of the pairs have two masks, the others none.
    named: whether the identities are people; otherwise they are connected components of equal pictures and genuine
    pairs, because the set does not name its people.
    """

    name: str
    faces: Faces
    index: Tensor
    kinds: tuple[str, ...] = MASK_KINDS
    released: bool = False
    named: bool = False

    def __post_init__(self) -> None:
        if self.index.ndim != 1 or len(self.index) == 0 or len(self.index) % 2:
            raise ValueError(f"{self.name}: index must be int64 [2P], not {list(self.index.shape)}.")
        if int(self.index.min()) < 0 or int(self.index.max()) >= len(self.faces):
            raise ValueError(f"{self.name}: a pair names picture {int(self.index.max())} of {len(self.faces)}.")

    @property
    def identities(self) -> int:
        """Number of people, or of connected components where the set does not name its people."""
        return self.faces.identities

    @property
    def in_words(self) -> str:
        """What is compared with what, for a reader."""
        genuine = int((self.faces.identity[self.index[::2]] == self.faces.identity[self.index[1::2]]).sum())
        pairs = len(self.index) // 2
        origin, people = "published", "connected components of equal pictures and genuine pairs"
        if self.named:
            origin, people = "listed", "people"
        return (
            f"{self.name}: {pairs:,} {origin} pairs, {genuine:,} *genuine* and {pairs - genuine:,} *impostor*, in"
            f" {FOLDS} folds, of {len(self.faces):,} distinct pictures. The same pairs are compared as they are, with a"
            " mask drawn on exactly one face of each pair (masked-unmasked), on either side, and on both"
            f" (masked-masked). Resampled: {self.identities:,} {people}"
            f"{'' if self.named else ', because such a set does not name its people'}."
        )

    @property
    def pictures(self) -> int:
        """Number of faces, with and without drawn masks, of which ``templates`` makes templates."""
        return len(self.faces) + len(self.kinds) * len(self.index)

    def templates(self, recogniser: Callable[[Tensor], Tensor]) -> Templates:
        """Return templates: "none" of the distinct pictures [M, D]; of each mask kind by position [2P, D]."""
        parts = [recogniser(images).numpy() for images in self.faces.images.split(CHUNK)]
        masked = {kinds: _masked_templates(recogniser, self.faces, self.index, kinds) for kinds in self.kinds}
        return {"none": np.concatenate(parts), **masked}

    def comparisons(self, templates: Templates) -> Iterator[tuple[str, str, Comparisons]]:
        """Yield (condition, mask kinds, comparisons): unmasked, then for each kind one masked, both masked, all."""
        plain = templates["none"][self.index.numpy()]  # [2P, D]
        unmasked = _cosines(plain[::2], plain[1::2])
        yield UNMASKED, "none", self._compared(unmasked)
        for kinds in self.kinds:
            masked = templates[kinds]
            both, second = _cosines(masked[::2], masked[1::2]), self.second_masked()
            mixed = np.where(second, _cosines(plain[::2], masked[1::2]), _cosines(masked[::2], plain[1::2]))
            yield "masked-unmasked", kinds, self._compared(mixed)
            yield "masked-masked", kinds, self._compared(both)
            yield "all", kinds, self._compared(unmasked, mixed, both)
            if self.released:
                second_half = 2 * np.arange(len(both)) >= len(both)
                yield RELEASED, kinds, self._compared(np.where(second_half, both, unmasked))

    def second_masked(self) -> np.ndarray:
        """Return bool [P]: whether the second picture of a mixed pair wears the mask, else the first."""
        return (key("masked side", self.faces.source, torch.arange(len(self.index) // 2)) % 2 == 1).numpy()

    def _compared(self, *scores: np.ndarray) -> Comparisons:
        identity = self.faces.identity[self.index].numpy().astype(np.int32)
        first, second = np.tile(identity[::2], len(scores)), np.tile(identity[1::2], len(scores))
        pairs = len(identity) // 2
        fold = np.tile(np.arange(pairs) * FOLDS // pairs, len(scores)).astype(np.int8) if pairs >= FOLDS else None
        return Comparisons(
            scores=np.concatenate(scores), genuine=first == second, first=first, second=second, fold=fold
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnSet:
    """All pairs of a set of faces, such as people held back from training. With one mask, either face may wear it."""

    name: str
    faces: Faces
    kinds: tuple[str, ...] = MASK_KINDS

    @property
    def identities(self) -> int:
        """Number of people."""
        return self.faces.identities

    @property
    def in_words(self) -> str:
        """What is compared with what, for a reader."""
        return (
            f"{self.name}: every pair of {len(self.faces):,} pictures of {self.identities:,} people; pairs of one"
            " person are *genuine*, all others *impostor*. They are compared as they are, with a mask drawn on one"
            " of the two faces (masked-unmasked, each pair both ways) and with masks on both (masked-masked)."
        )

    @property
    def pictures(self) -> int:
        """Number of faces, with and without drawn masks, of which ``templates`` makes templates."""
        return (1 + len(self.kinds)) * len(self.faces)

    def templates(self, recogniser: Callable[[Tensor], Tensor]) -> Templates:
        """Return templates [N, D] of the faces without masks and with masks of each kind."""
        index = torch.arange(len(self.faces))
        masked = {kinds: _masked_templates(recogniser, self.faces, index, kinds) for kinds in self.kinds}
        return {"none": recogniser(self.faces.images).numpy(), **masked}

    def comparisons(self, templates: Templates) -> Iterator[tuple[str, str, Comparisons | AllPairs]]:
        """Yield (condition, mask kinds, comparisons) of every pair i < j; a mixed pair is compared both ways."""
        faces = len(self.faces)
        return self._in_tiles(templates) if faces * (faces - 1) // 2 > LISTED else self._in_lists(templates)

    def _in_tiles(self, templates: Templates) -> Iterator[tuple[str, str, AllPairs]]:
        identity, plain = self.faces.identity.numpy(), templates["none"]
        yield UNMASKED, "none", every_pair(plain, identity)
        for kinds in self.kinds:
            yield "masked-unmasked", kinds, both_ways(plain, templates[kinds], identity)
            yield "masked-masked", kinds, every_pair(templates[kinds], identity)

    def _in_lists(self, templates: Templates) -> Iterator[tuple[str, str, Comparisons]]:
        upper = np.triu_indices(len(self.faces), 1)
        both = tuple(np.concatenate(sides) for sides in zip(upper, upper[::-1], strict=True))
        yield UNMASKED, "none", self._compared(templates["none"], templates["none"], upper)
        for kinds in self.kinds:
            yield "masked-unmasked", kinds, self._compared(templates["none"], templates[kinds], both)
            yield "masked-masked", kinds, self._compared(templates[kinds], templates[kinds], upper)

    def _compared(self, a: np.ndarray, b: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]) -> Comparisons:
        identity = self.faces.identity.numpy().astype(np.int32)
        first, second = identity[pairs[0]], identity[pairs[1]]
        scores = (a @ b.T)[pairs].astype(np.float32)
        return Comparisons(scores=scores, genuine=first == second, first=first, second=second)
