"""Verification of pictures as they are: sets of real people, some of them wearing real masks.

Two protocols: the pairs that a set's publisher listed, and every pair of its pictures. Each is reported per condition,
because in published lists the label hangs together with the mask state (see ``confounding``).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch import Tensor

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.faces import Faces
from maskinv_lib.study.data import CONDITIONS

CASES = (*CONDITIONS, "all")
"""Mask states of a pair's two pictures, in either order; ``all`` pools the three."""

OFFICIAL, ALL_PAIRS = "official", "all-pairs"
"""Names of the two protocols, where a rendered benchmark names the kinds of masks: real masks are not drawn."""

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
        """How many pairs stand in the list a second time, in either order."""
        low, high = np.minimum(self.first, self.second), np.maximum(self.first, self.second)
        return len(self) - len(np.unique(np.stack([low, high]), axis=1).T)


class Counts(NamedTuple):
    """Numbers of genuine and impostor pairs."""

    genuine: int
    impostor: int


@dataclass(frozen=True, kw_only=True, eq=False)
class RealBenchmark:
    """Pictures to be verified as they are.

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
            found = f"{self.masked.dtype} {list(self.masked.shape)}"
            raise ValueError(f"{self.name}: masked must be bool [{len(self.faces)}], not {found}.")
        people = np.unique(self.faces.identity.numpy())
        if not np.array_equal(people, np.arange(len(people))):
            raise ValueError(f"{self.name}: identities must be numbered from 0 without a gap.")
        if not self.listed and not self.all_pairs:
            raise ValueError(f"{self.name}: needs listed pairs, or all_pairs=True.")
        for protocol, pairs in self.listed.items():
            places = np.concatenate([pairs.first, pairs.second])
            if len(places) == 0 or places.min() < 0 or places.max() >= len(self.faces):
                raise ValueError(f"{self.name}: {protocol} pairs must be indices of its {len(self.faces)} pictures.")

    @property
    def identities(self) -> int:
        """Number of people."""
        return self.faces.identities

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

    def _genuine(self, pairs: Pairs) -> np.ndarray:
        identity = self.faces.identity.numpy()
        return identity[pairs.first] == identity[pairs.second]

    def _inside(self, pairs: Pairs, condition: str) -> np.ndarray:
        """Return bool [P], which pairs are of a condition."""
        if condition == "all":
            return np.ones(len(pairs), bool)
        number_masked = self.masked[pairs.first].astype(np.int8) + self.masked[pairs.second]
        return number_masked == CASES.index(condition)

    def counts(self, protocol: str) -> dict[str, Counts]:
        """Return condition -> numbers of genuine and impostor pairs, repeated ones counted as often as listed."""
        pairs = self.pairs(protocol)
        genuine = self._genuine(pairs)
        inside = {condition: self._inside(pairs, condition) for condition in CASES}
        return {
            name: Counts(int((some & genuine).sum()), int((some & ~genuine).sum())) for name, some in inside.items()
        }

    @property
    def missing(self) -> tuple[tuple[str, str], ...]:
        """(condition, protocol) that ``comparisons`` leaves out, having no genuine or no impostor pair."""
        found = [(protocol, self.counts(protocol)) for protocol in self.protocols]
        return tuple((name, protocol) for protocol, counts in found for name in CASES if 0 in counts[name])

    def templates(self, recogniser: Callable[[Tensor], Tensor]) -> dict[str, np.ndarray]:
        """Return the templates, float32 [N, D], of the faces: ``recogniser`` gets uint8 [N, 3, 112, 112]."""
        return {"none": recogniser(self.faces.images).numpy()}

    def comparisons(self, templates: dict[str, np.ndarray]) -> Iterator[tuple[str, str, Comparisons]]:
        """Yield (condition, protocol, comparisons), protocol by protocol; ``missing`` lists what is left out."""
        identity = self.faces.identity.numpy().astype(np.int32)
        for protocol in self.protocols:
            pairs = self.pairs(protocol)
            scores, genuine = _scores(templates["none"], pairs), self._genuine(pairs)
            for condition, counts in self.counts(protocol).items():
                if 0 in counts:
                    continue
                inside = self._inside(pairs, condition)
                yield (
                    condition,
                    protocol,
                    Comparisons(
                        scores=scores[inside],
                        genuine=genuine[inside],
                        first=identity[pairs.first[inside]],
                        second=identity[pairs.second[inside]],
                    ),
                )

    def only(self, protocol: str, name: str) -> "OneProtocol":
        """Return one protocol as a benchmark of its own, called ``name``."""
        if protocol not in self.protocols:
            raise ValueError(f"{self.name} has no {protocol} pairs. It has: {', '.join(self.protocols)}.")
        return OneProtocol(name=name, of=self, protocol=protocol)

    def confounding(self) -> str:
        """Return in words, for each protocol, how the share of genuine pairs hangs together with the mask state.

        Knowing only how many masks a pair shows, the best guess at its label is the commoner label of its condition;
        how much more often that is right than always guessing the commoner label measures the confounding.
        """
        return "\n".join(self.confounding_of(protocol) for protocol in self.protocols)

    def confounding_of(self, protocol: str) -> str:
        """Return ``confounding`` of one protocol."""
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
"""What ``OneProtocol`` says in the place of mask kinds for pairs with a mask: nobody drew it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OneProtocol:
    """One protocol of a set of real masks, with the conditions of every other benchmark."""

    name: str
    of: RealBenchmark
    protocol: str

    @property
    def identities(self) -> int:
        """Number of people."""
        return self.of.identities

    @property
    def in_words(self) -> str:
        """What is compared with what, for a reader, with the confounding of label and mask state."""
        masked = int(self.of.masked.sum())
        return (
            f"{len(self.of.faces):,} pictures of {self.identities} people, {masked:,} of them in *real* masks. Pairs of"
            " one person are *genuine*, all others *impostor*; a condition says how many of the two faces wear a mask."
            f" {self.of.confounding_of(self.protocol)}"
        )

    def templates(self, recogniser: Callable[[Tensor], Tensor]) -> dict[str, np.ndarray]:
        """Return the templates, float32 [N, D], under the one name "none": masks are part of the pictures."""
        return self.of.templates(recogniser)

    def comparisons(self, templates: dict[str, np.ndarray]) -> Iterator[tuple[str, str, Comparisons]]:
        """Yield (condition, "none" for unmasked pairs and ``REAL`` for others, comparisons) of the protocol."""
        for condition, protocol, found in self.of.comparisons(templates):
            if protocol == self.protocol:
                yield condition, "none" if condition == CASES[0] else REAL, found


def _scores(templates: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Return the cosine similarities, float32 [P], of pairs of unit templates [N, D]."""
    scores = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), CHUNK):
        part = slice(start, start + CHUNK)
        scores[part] = np.einsum("pd,pd->p", templates[pairs.first[part]], templates[pairs.second[part]])
    return scores
