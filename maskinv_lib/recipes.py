"""What a stage, a profile and a training are made of: plain frozen data that needs no torch to be read."""

import ast
import dataclasses
import os
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from maskinv_lib import checks, files

PROTOCOLS = ("all-pairs", "official", "sessions")
MASK_KINDS = ("seen", "unseen")
OPTIMIZERS = ("sgd", "adamw")
POLICIES = ("one-cycle", "steps")
PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True, kw_only=True)
class Term:
    """One objective of a stage: its class below ``maskinv_lib.objectives`` and the settings it is built with."""

    objective: str
    settings: dict = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a student starts when not from random weights: another stage's backbone at a share of its schedule.

    at: 1.0 is the finished network, any other share one of that stage's milestones.
    """

    stage: str
    at: float


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One rung of the ladder, as data.

    objectives: what the student is trained for; settings left out come from the profile.
    mask_probability: share of the student's faces that get a mask. teacher: the stage whose templates are targets.
    start: None means random weights. share: part of the profile's budget that this stage itself spends.
    milestones: shares of the schedule at which the backbone is kept for other stages to start from.
    imported: nothing is trained, the network is the profile's published teacher.
    """

    name: str
    title: str
    idea: str
    objectives: tuple[Term, ...]
    mask_probability: float = 0.0
    teacher: str | None = None
    start: Start | None = None
    share: float = 1.0
    milestones: tuple[float, ...] = ()
    imported: bool = False


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast a student learns: SGD with momentum, as published, at the scale of a profile.

    budget: faces that pass forward through the student. optimizer: "sgd", or "adamw", whose momentum is its own and
    whose weight decay is decoupled. policy: "one-cycle" (linear warm-up, then a cosine to zero)
    or "steps" (x 0.1 after 7, 13, 19 and 24 of 26 equal parts). warm_up: share of the schedule. clip: largest
    gradient norm of the backbone. head_warm_up: whether the head warms up with the backbone or starts at the peak.
    """

    budget: int
    batch: int = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.05
    policy: str = "one-cycle"
    warm_up: float = 0.15
    head_warm_up: bool = True
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float = 5.0

    @property
    def steps(self) -> int:
        """Number of optimiser steps: whole batches within the budget."""
        return self.budget // self.batch


@dataclass(frozen=True, kw_only=True)
class RenderedFaces:
    """Rendered people of a profile: identities and views per split, disjoint, and the renderer's settings."""

    seed: int = 2021
    train: int = 300
    train_views: int = 20
    validation: int = 80
    validation_views: int = 8
    test: int = 240
    test_views: int = 8
    rendering: dict = field(default_factory=dict)

    def split(self, name: str) -> tuple[range, int]:
        """Return (identity numbers, views) of "train", "validation" or "test"; the splits share nobody."""
        counts = {"train": self.train, "validation": self.validation, "test": self.test}
        first = {"train": 0, "validation": 1_000_000, "test": 2_000_000}[checks.choose("split", name, counts)]
        return range(first, first + counts[name]), getattr(self, f"{name}_views")

    def config(self, *splits: str) -> dict:
        """Return what decides the faces of the splits, as JSON-serialisable data."""
        sizes = {name: getattr(self, name) for split in splits for name in (split, f"{split}_views")}
        return {"seed": self.seed, "rendering": self.rendering, **sizes}


@dataclass(frozen=True, kw_only=True)
class RealFaces:
    """Real people: a RecordIO training set, people held back from it for every choice, and the published teacher.

    root: folder of real data, None where there is none. training, teacher: paths below it. without: original labels
    to leave out of training and validation. validation: how many people are held back, drawn by ``seed``.
    skip_bad: leave out pictures that do not decode, with a warning, where otherwise the first one is an error.
    contract: name of the teacher's input contract where it is not its network's usual one.
    """

    root: Path | None
    training: str
    teacher: str
    without: tuple[int, ...] = ()
    validation: int = 34
    seed: int = 2021
    skip_bad: bool = False
    contract: str = ""

    def check(self) -> None:
        """Raise FileNotFoundError, naming the setting or file and the remedy, unless training set and teacher exist."""
        for name in (self.training, self.teacher):
            self.path(name)

    def path(self, name: str) -> Path:
        """Return the path of a file or folder of the data; one that is not there raises FileNotFoundError."""
        if self.root is None:
            raise FileNotFoundError(f"{name} is real data. Set MASKINV_DATA to the folder that holds it.")
        if not (self.root / name).exists():
            remedy = "Put it there, or name another one in maskinv.toml in that folder"
            raise FileNotFoundError(f"There is no {name} in the data folder {self.root}. {remedy}.")
        return self.root / name

    def config(self, *splits: str) -> dict:
        """Return what decides training and validation faces and the teacher: hashes of the files, not their places."""
        known = {"without": list(self.without), "validation": self.validation, "seed": self.seed}
        known |= {name: value for name in ("skip_bad", "contract") if (value := getattr(self, name))}
        sources = {name: fingerprint(self.root, getattr(self, name)) for name in ("training", "teacher")}
        return {**known, **sources}


LARGE = 2**30
"""Bytes above which a set's content stands for itself by names, sizes and times of change: to read it costs minutes."""


def fingerprint(root: Path | None, name: str) -> str:
    """Return a text that stands for a file or folder of the data, "missing" where it is not there.

    A file is the first digits of its SHA-256; a folder hashes all its files, links followed, hidden ones left out.
    """
    path = root / name if root else None
    if path is None or not path.exists():
        return "missing"
    if path.is_file():
        return _hash(path, *_stamp(path))
    found = [Path(place) / one for place, _, names in os.walk(path, followlinks=True) for one in names if one[0] != "."]
    named = sorted((one.relative_to(path).as_posix(), one) for one in found)
    if sum(one.stat().st_size for one in found) > LARGE:
        return files.content_hash([[name, *_stamp(one)] for name, one in named])
    return files.content_hash([[name, _hash(one, *_stamp(one))] for name, one in named])


def _stamp(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns


@lru_cache(maxsize=100_000)
def _hash(path: Path, size: int, changed: int) -> str:
    return files.file_hash(path)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A verification benchmark of a profile. path: file or folder of the real data, "" for rendered people.

    protocol: which pairs of a set of real masks. kinds: which masks are drawn on a set without.
    """

    name: str
    path: str = ""
    protocol: str = "all-pairs"
    kinds: tuple[str, ...] = ("seen", "unseen")


RENDERED_TEST = Benchmark(name="rendered-test")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The scale of a study: faces, network, budget and seeds. ``head`` holds the margin settings.

    precision: of the student's forward pass; auto is bf16 where the device computes in it, else fp32.
    threads, gpus: what each training and evaluation takes; a result must not depend on who runs it.
    ladder: "rendered" or "real", the definitions of its stages. absent: benchmarks that it knows but whose files are
    not at hand. learning_rates: of single stages, chosen on validation people among trial_rates. stands_for: stage of
    a claim -> the stage that takes its place here.
    """

    name: str
    idea: str
    faces: RenderedFaces | RealFaces
    network: str
    embedding_size: int
    schedule: Schedule
    stages: tuple[str, ...]
    head: dict = field(default_factory=dict)
    seeds: int = 1
    threads: int = 1
    gpus: int = 0
    resamples: int = 2000
    precision: str = "auto"
    ladder: str = "rendered"
    benchmarks: tuple[Benchmark, ...] = (RENDERED_TEST,)
    absent: tuple[str, ...] = ()
    learning_rates: dict = field(default_factory=dict)
    trial_rates: tuple[float, ...] = ()
    stands_for: dict = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides one training, resolved from a stage, a profile and overrides."""

    network: str
    embedding_size: int
    objectives: tuple[Term, ...]
    mask_probability: float
    mask_kinds: str
    schedule: Schedule
    milestones: tuple[float, ...]
    precision: str = "auto"

    def as_dict(self) -> dict:
        """Return the plan as JSON-serialisable data."""
        return dataclasses.asdict(self)


def plan(stage: Stage, profile: Profile) -> Plan:
    """Resolve ``stage`` at the scale of ``profile``: margins get the profile's head, the budget the stage's share."""
    terms = [
        dataclasses.replace(term, settings={**profile.head, **term.settings})
        if term.objective.startswith("margins.")
        else term
        for term in stage.objectives
    ]
    budget = round(profile.schedule.budget * stage.share)
    rate = profile.learning_rates.get(stage.name, profile.schedule.learning_rate)
    schedule = dataclasses.replace(
        profile.schedule, budget=budget, learning_rate=rate, head_warm_up=stage.start is None
    )
    return Plan(
        network=profile.network,
        embedding_size=profile.embedding_size,
        objectives=tuple(terms),
        mask_probability=stage.mask_probability,
        mask_kinds="seen",
        schedule=schedule,
        milestones=stage.milestones,
        precision=profile.precision,
    )


def check(plan: Plan) -> Plan:
    """Return ``plan`` if it can be trained; else raise ValueError naming the value that is in the way."""
    checks.choose("policy", plan.schedule.policy, POLICIES)
    checks.choose("optimizer", plan.schedule.optimizer, OPTIMIZERS)
    checks.choose("precision", plan.precision, PRECISIONS)
    if plan.schedule.steps < 1:
        raise ValueError(f"budget {plan.schedule.budget} is less than one batch of {plan.schedule.batch} faces.")
    return plan


def parse_overrides(text: object) -> dict[str, object]:
    """Read ``"lambda=300, mask_probability=0.1"`` into a dict sorted by name; anything else raises ValueError."""
    if not isinstance(text, str):
        raise ValueError(f'overrides must be text such as "lambda=300", not {text!r} ({type(text).__name__}).')
    found = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not value or name in found:
            raise ValueError(f'overrides: {part!r} is not a new name=value. Example: "lambda=300, batch=32".')
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return dict(sorted(found.items()))


def override(base: Plan, changes: dict[str, object]) -> Plan:
    """Return ``base`` with named values replaced: of the plan, its schedule or its objectives' settings.

    An unknown name, or a value of another kind than the one it replaces, raises ValueError.
    """
    for name, value in changes.items():
        known = _open_values(base)
        current = known[checks.choose("override", name, known)]
        base = _replaced(base, name, _same_kind(name, value, current))
    return base


def _open_values(base: Plan) -> dict[str, object]:
    settings = {name.rstrip("_"): value for term in base.objectives for name, value in term.settings.items()}
    plain = {"mask_probability": base.mask_probability, "precision": base.precision}
    return {**settings, **dataclasses.asdict(base.schedule), **plain}


def _same_kind(name: str, value: object, current: object) -> object:
    wanted = type(current)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted or (wanted is float and not abs(value) < float("inf")):
        raise ValueError(f"override {name} must be {wanted.__name__} such as {current!r}, not {value!r}.")
    if wanted is int:
        return checks.whole_number(f"override {name}", value, minimum=1)
    if wanted is float and value < 0:
        raise ValueError(f"override {name} must not be negative, such as {current!r}, not {value!r}.")
    if wanted is str and not re.fullmatch(r"[\w-]+", value):
        raise ValueError(f"override {name} must be a name such as {current!r}, not {value!r}.")
    return checks.fraction(name, value) if name == "mask_probability" else value


def _replaced(base: Plan, name: str, value: object) -> Plan:
    if name in {field.name for field in dataclasses.fields(Schedule)}:
        return dataclasses.replace(base, schedule=dataclasses.replace(base.schedule, **{name: value}))
    if hasattr(base, name):
        return dataclasses.replace(base, **{name: value})
    terms = tuple(
        dataclasses.replace(
            term, settings={key: value if key.rstrip("_") == name else old for key, old in term.settings.items()}
        )
        for term in base.objectives
    )
    return dataclasses.replace(base, objectives=terms)
