"""Verification of pictures without changes: sets of real people, some of them wearing real masks.

Two protocols: the pairs that a set's publisher listed, and every pair of its pictures. Each is reported per condition,
because in published lists the label depends on the mask state (see ``RealBenchmark.confounding``).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch import Tensor

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.faces import Faces
from maskinv_lib.study.data import CONDITIONS, UNMASKED

CASES = (*CONDITIONS, "all")
"""Mask states of a pair's two pictures, in either order; ``all`` pools the three."""

OFFICIAL, ALL_PAIRS = "official", "all-pairs"
"""Names of the two protocols."""

CHUNK = 65536
"""Comparisons scored at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """P pairs of pictures. first, second: int32 [P], indices of the pictures in their set."""

    first: np.ndarray
    second: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    @property
    def repeated(self) -> int:
        """How many pairs are listed a second time, in either order."""
        low, high = np.minimum(self.first, self.second), np.maximum(self.first, self.second)
        return len(self) - len(np.unique(np.stack([low, high]), axis=1).T)


class Counts(NamedTuple):
    """Numbers of genuine and impostor pairs."""

    genuine: int
    impostor: int


@dataclass(frozen=True, kw_only=True, eq=False)
class RealBenchmark:
    """A set of pictures without drawn masks, and the protocols by which they are compared.

    faces: N aligned faces, identity dense from 0. masked: bool [N], whether the face wears a mask. listed: protocol
    name -> pairs, repeated pairs kept. all_pairs: whether every unordered pair of pictures is a protocol too.
    Raises ValueError for arrays that do not fit the faces, gaps in the identities, or no protocol.
    """

    name: str
    faces: Faces
    masked: np.ndarray
    listed: Mapping[str, Pairs] = field(default_factory=dict)
    all_pairs: bool = True

    def __post_init__(self) -> None:
        if self.masked.dtype != np.bool_ or self.masked.shape != (len(self.faces),):
            actual = f"{self.masked.dtype} {list(self.masked.shape)}"
            raise ValueError(f"{self.name}: masked must be bool [{len(self.faces)}], not {actual}.")
        people = np.unique(self.faces.identity.numpy())
        if not np.array_equal(people, np.arange(len(people))):
            raise ValueError(f"{self.name}: identities must be numbered from 0 without a gap.")
        if not self.listed and not self.all_pairs:
            raise ValueError(f"{self.name}: needs listed pairs, or all_pairs=True.")
        for protocol, pairs in self.listed.items():
            index = np.concatenate([pairs.first, pairs.second])
            if len(index) == 0 or index.min() < 0 or index.max() >= len(self.faces):
                raise ValueError(f"{self.name}: {protocol} pairs must be indices of its {len(self.faces)} pictures.")

    @property
    def protocols(self) -> tuple[str, ...]:
        """Names of the protocols, listed ones first."""
        return (*self.listed, ALL_PAIRS) if self.all_pairs else tuple(self.listed)

    def pairs(self, protocol: str) -> Pairs:
        """Return the pairs of a protocol."""
        if protocol in self.listed:
            return self.listed[protocol]
        first, second = np.triu_indices(len(self.faces), 1)
        return Pairs(first=first.astype(np.int32), second=second.astype(np.int32))

    def _inside(self, pairs: Pairs, condition: str) -> np.ndarray:
        """Return bool [P], which pairs are of a condition."""
        if condition == "all":
            return np.ones(len(pairs), bool)
        number_masked = self.masked[pairs.first].astype(np.int8) + self.masked[pairs.second]
        return number_masked == CASES.index(condition)

    def counts(self, protocol: str) -> dict[str, Counts]:
        """Return condition -> numbers of genuine and impostor pairs, repeated ones counted as often as listed."""
        pairs, identity = self.pairs(protocol), self.faces.identity.numpy()
        genuine = identity[pairs.first] == identity[pairs.second]
        inside = {condition: self._inside(pairs, condition) for condition in CASES}
        return {name: Counts(int(genuine[part].sum()), int((~genuine[part]).sum())) for name, part in inside.items()}

    def comparisons(self, templates: np.ndarray, protocol: str) -> Iterator[tuple[str, Comparisons]]:
        """Yield (condition, comparisons) of a protocol; a condition without genuine or impostor pairs is left out."""
        identity, pairs = self.faces.identity.numpy().astype(np.int32), self.pairs(protocol)
        scores, first, second = _scores(templates, pairs), identity[pairs.first], identity[pairs.second]
        for condition, counts in self.counts(protocol).items():
            if 0 not in counts:
                part = self._inside(pairs, condition)
                sides = {"first": first[part], "second": second[part]}
                yield condition, Comparisons(scores=scores[part], genuine=(first == second)[part], **sides)

    def only(self, protocol: str, name: str) -> "OneProtocol":
        """Return one protocol as a benchmark of its own, called ``name``."""
        if protocol not in self.protocols:
            raise ValueError(f"{self.name} has no {protocol} pairs. It has: {', '.join(self.protocols)}.")
        return OneProtocol(name=name, of=self, protocol=protocol)

    def confounding(self, protocol: str) -> str:
        """Return in words how the share of genuine pairs of a protocol depends on the mask state.

        If only the number of masks of a pair is known, the best guess at its label is the more frequent label of its
        condition. How much more often that is right than always guessing the more frequent label of all pairs measures
        the confounding.
        """
        counts = {name: count for name, count in self.counts(protocol).items() if sum(count)}
        total = counts.pop("all")
        shares = ", ".join(
            f"{name} {count.genuine / sum(count):.1%} ({count.genuine:,} of {sum(count):,})"
            for name, count in counts.items()
        )
        repeated = self.listed[protocol].repeated if protocol in self.listed else 0
        guess, blind = sum(max(count) for count in counts.values()) / sum(total), max(total) / sum(total)
        return (
            f"{self.name}, {protocol}: {sum(total):,} pairs"
            + (f" ({repeated} listed a second time, kept)" if repeated else "")
            + f". Share of genuine pairs: {shares}. Guessing the label from the mask state alone is right for"
            f" {guess:.1%} of the pairs, without it for {blind:.1%}."
        )


REAL = "real"
"""The mask kinds of ``OneProtocol`` for pairs with a mask: it was not drawn."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OneProtocol:
    """One protocol of a set of real masks, with the conditions of every other benchmark."""

    name: str
    of: RealBenchmark
    protocol: str

    @property
    def identities(self) -> int:
        """Number of people."""
        return self.of.faces.identities

    @property
    def in_words(self) -> str:
        """What is compared with what, for a reader, with the confounding of label and mask state."""
        masked = int(self.of.masked.sum())
        return (
            f"{len(self.of.faces):,} pictures of {self.identities} people, {masked:,} of them in *real* masks. Pairs of"
            " one person are *genuine*, all others *impostor*; a condition says how many of the two faces wear a mask."
            f" {self.of.confounding(self.protocol)}"
        )

    @property
    def pictures(self) -> int:
        """Number of faces of which ``templates`` makes templates."""
        return len(self.of.faces)

    def templates(self, recogniser: Callable[[Tensor], Tensor]) -> dict[str, np.ndarray]:
        """Return the templates, float32 [N, D], under the one name "none": masks are part of the pictures.

        recogniser: gets uint8 [N, 3, 112, 112].
        """
        return {"none": recogniser(self.of.faces.images).numpy()}

    def comparisons(self, templates: dict[str, np.ndarray]) -> Iterator[tuple[str, str, Comparisons]]:
        """Yield (condition, "none" for unmasked pairs and ``REAL`` for others, comparisons) of the protocol."""
        for condition, comparisons in self.of.comparisons(templates["none"], self.protocol):
            yield condition, "none" if condition == UNMASKED else REAL, comparisons


def _scores(templates: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Return the cosine similarities, float32 [P], of pairs of unit templates [N, D]."""
    scores = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), CHUNK):
        part = slice(start, start + CHUNK)
        scores[part] = np.einsum("pd,pd->p", templates[pairs.first[part]], templates[pairs.second[part]])
    return scores
