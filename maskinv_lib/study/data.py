"""The faces of a study: rendered or real people, their splits, and the benchmarks that test on them.

``RenderedFaces`` and ``RealFaces`` have the same methods, so that other modules rarely need to distinguish them.
"""

import os
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from maskinv_lib.utils import checks, files

MASK_KINDS = ("seen", "unseen")
"""The two families of drawn masks in a test: those that training draws, and those kept for the test."""

VALIDATION_KINDS = ("validation",)
"""The family of drawn masks that settings are chosen with, so that neither of the other two chooses."""

PROTOCOLS = ("all-pairs", "official", "sessions")
"""Which pairs of a set of real masks are compared."""

CONDITIONS = ("unmasked-unmasked", "masked-unmasked", "masked-masked")
"""Which faces of a compared pair wear a mask."""

UNMASKED = CONDITIONS[0]
"""The condition whose pairs fix the threshold that is applied to masked pairs."""

FOLDS = 10
"""Folds of a verification set for its cross-validated accuracy, as in LFW."""

HEADS = ("mask-classifier", "eum")
"""What is trained on frozen templates: a classifier that predicts masks, and SRT's embedding unmasking model."""

HOWS = ("concatenate", "by predicted mask", "by true mask")
"""Ways to combine finished recognisers. The last one is given the truth about who wears a mask: an oracle."""


@dataclass(frozen=True, kw_only=True)
class RenderedFaces:
    """Rendered people of a profile: identities and views per split, disjoint, and the renderer's settings.

    people: the kind of people. splits: the sets of faces; real test sets are benchmarks instead. publishable: whether
    their images may be shown. faces_code, test_code, validation_code: the modules that decide their faces, their
    results on benchmarks, and their results on validation people.
    """

    people: ClassVar[str] = "rendered"
    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")
    publishable: ClassVar[bool] = True
    faces_code: ClassVar[tuple[str, ...]] = ("faces.rendering.synthetic",)
    test_code: ClassVar[tuple[str, ...]] = ("evaluation.benchmarks.rendered",)
    validation_code: ClassVar[tuple[str, ...]] = test_code

    seed: int = 2026
    train: int = 300
    train_views: int = 20
    validation: int = 80
    validation_views: int = 8
    test: int = 240
    test_views: int = 8
    rendering: dict = field(default_factory=dict)

    def split(self, name: str) -> tuple[range, int]:
        """Return (identity numbers, views) of "train", "validation" or "test"; the identities are disjoint."""
        counts = {"train": self.train, "validation": self.validation, "test": self.test}
        first = {"train": 0, "validation": 1_000_000, "test": 2_000_000}[checks.choose("split", name, counts)]
        return range(first, first + counts[name]), getattr(self, f"{name}_views")

    def config(self, *splits: str) -> dict:
        """Return the settings that decide the faces of the splits, as JSON-serialisable data."""
        sizes = {name: getattr(self, name) for split in splits for name in (split, f"{split}_views")}
        return {"seed": self.seed, "rendering": self.rendering, **sizes}

    def check(self) -> None:
        """Do nothing: rendered faces need no file."""

    @property
    def training_count(self) -> int | None:
        """Number of training faces, None where it is not known without reading them."""
        return self.train * self.train_views

    @property
    def in_words(self) -> str:
        """The training faces, for a reader."""
        return f"{self.train:,} people, {self.train_views} views each, set {self.seed}"

    def limited_to(self, people: int) -> "RenderedFaces":
        """Return the same set with another number of training people."""
        return replace(self, train=people)

    def test_config(self, benchmark: "Benchmark") -> dict:
        """Return the settings that decide the test faces, as JSON-serialisable data."""
        return {"faces": self.config("test")}


@dataclass(frozen=True, kw_only=True)
class RealFaces:
    """Real people: a RecordIO training set, validation people held back from it, and the published teacher.

    The class attributes are those of ``RenderedFaces``. root: folder of real data, None if there is none. training,
    teacher: paths below it. without: original labels to leave out of training and validation. validation: how many
    people are held back, drawn by ``seed``. skip_bad: leave out images that cannot be decoded, with a warning;
    otherwise the first one is an error. contract: name of the teacher's input contract, "" for its network's default.
    """

    people: ClassVar[str] = "real"
    splits: ClassVar[tuple[str, ...]] = ("train", "validation")
    publishable: ClassVar[bool] = False
    faces_code: ClassVar[tuple[str, ...]] = ("faces.recordio",)
    test_code: ClassVar[tuple[str, ...]] = tuple(
        f"evaluation.benchmarks.{name}" for name in ("bins", "drawn", "opening", "real_sets")
    )
    validation_code: ClassVar[tuple[str, ...]] = ("evaluation.benchmarks.drawn",)

    root: Path | None
    training: str
    teacher: str
    without: tuple[int, ...] = ()
    validation: int = 34
    seed: int = 2021
    skip_bad: bool = False
    contract: str = ""

    def check(self) -> None:
        """Raise FileNotFoundError, naming the file and the remedy, unless training set and teacher exist."""
        for name in (self.training, self.teacher):
            self.path(name)

    @property
    def training_count(self) -> int | None:
        """Number of training faces, None where it is not known without reading them."""
        return None

    @property
    def in_words(self) -> str:
        """The training faces, for a reader."""
        return f"{self.training} without {self.validation} validation people and {len(self.without)} others"

    def path(self, name: str) -> Path:
        """Return the path of a file or folder of the data; a missing one raises FileNotFoundError."""
        if self.root is None:
            raise FileNotFoundError(f"{name} is real data. Set MASKINV_DATA to the folder that holds it.")
        if not (self.root / name).exists():
            remedy = "Put it there, or name another one in the maskinv.toml of that folder"
            raise FileNotFoundError(f"There is no {name} in the data folder {self.root}. {remedy}.")
        return self.root / name

    def config(self, *splits: str) -> dict:
        """Return what decides all faces and the teacher, whatever the splits: settings and hashes of files."""
        settings = {"without": list(self.without), "validation": self.validation, "seed": self.seed}
        settings |= {name: value for name in ("skip_bad", "contract") if (value := getattr(self, name))}
        return settings | {name: fingerprint(self.root, getattr(self, name)) for name in ("training", "teacher")}

    def limited_to(self, people: int) -> "RealFaces":
        """Raise ValueError: the training set decides the number of people."""
        raise ValueError(f"people={people} works with rendered people only; leave labels out in maskinv.toml.")

    def test_config(self, benchmark: "Benchmark") -> dict:
        """Return what decides a benchmark: the hash of its files, its pairs and its masks."""
        settings = {"name": benchmark.name, "protocol": benchmark.protocol, "kinds": list(benchmark.kinds)}
        return {**settings, "data": fingerprint(self.root, benchmark.path)}


LARGE = 2**30
"""Bytes above which a folder is identified by names, sizes and times of change: hashing its content takes minutes."""


def fingerprint(root: Path | None, name: str) -> str:
    """Return a hash that identifies a file or folder of the data; "missing" if it does not exist.

    Of a file it is the first digits of the SHA-256; of a folder a hash of all files, links followed, hidden ones left
    out.
    """
    path = root / name if root else None
    if path is None or not path.exists():
        return "missing"
    if path.is_file():
        return _hash(path, *_stamp(path))
    members = [Path(folder) / name for folder, _, names in os.walk(path, followlinks=True) for name in names]
    named = sorted((file.relative_to(path).as_posix(), file) for file in members if file.name[0] != ".")
    if sum(file.stat().st_size for _, file in named) > LARGE:
        return files.content_hash([[name, *_stamp(file)] for name, file in named])
    return files.content_hash([[name, _hash(file, *_stamp(file))] for name, file in named])


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=100_000)
def _hash(path: Path, size: int, changed: int) -> str:
    return files.file_hash(path)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A verification benchmark of a profile. path: file or folder of the real data, "" for rendered people.

    protocol: which pairs of a set of real masks are compared. kinds: which masks are drawn on a set without real ones.
    all_methods: whether the other methods are tested on it too, or only the rungs.
    """

    name: str
    path: str = ""
    protocol: str = "all-pairs"
    kinds: tuple[str, ...] = ("seen", "unseen")
    all_methods: bool = True


RENDERED_TEST = Benchmark(name="rendered-test")
