"""What a stage, a profile and a training are made of: plain frozen data that needs no torch to be read."""

import ast
import dataclasses
import re
from dataclasses import dataclass, field

from maskinv_lib import checks
from maskinv_lib.populations import MASK_KINDS, RENDERED_TEST, Benchmark, RealFaces, RenderedFaces

OPTIMIZERS = ("sgd", "adamw")
POLICIES = ("one-cycle", "steps")
PRECISIONS = ("auto", "fp32", "bf16")
VIEWS = ("masked", "clean", "masked-2", "restored")
SAMPLERS = ("shuffled", "half balanced")
TEACHER_VIEWS = ("clean", "masked")
FLIPS = ("shared", "separate")
BATCH_NORMS = ("live", "frozen after half an epoch")
TRAINING_MASKS = (*MASK_KINDS, "recoloured")
HEADS = ("mask-classifier", "eum")
HOWS = ("concatenate", "by predicted mask", "by true mask")


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
    """One system of the study, as data: a rung of the ladder, or one of those that are compared with it.

    A stage trains a network; with ``imported`` it is the profile's published teacher as it is; with ``base`` it
    trains a ``head`` (of ``HEADS``) on that stage's frozen templates; with ``parts`` it combines finished stages (one
    of ``HOWS``; to choose by mask, parts are the unmasked faces' stage, the masked ones', and the mask classifier).

    question: the part of the comparison that it belongs to, "ladder" for a rung. objectives: what the student is
    trained for; settings left out come from the profile. views: what passes through the student in a step, of
    ``VIEWS``; each counts in the budget. mask_probability: share of the faces that get a mask. mask_kinds: which, of
    ``TRAINING_MASKS``; "recoloured" are the seen ones in any colour. network: "" is the profile's own, else what is
    built around it. sampler: "half balanced" fills half of a batch with groups of four faces of one person. teacher:
    the stage whose templates are targets. teacher_view, flips, batch_norm: what the teacher sees, whether it sees the
    student's flip, and when batch norm stops learning. start: None means random weights. share: part of the profile's
    budget that this stage itself spends. milestones: shares of the schedule at which the backbone is kept for other
    stages to start from. tuned_as: the stage whose chosen learning rate it takes, "" for one of its own. reading: what
    of it is our reading of an unpublished detail. scaled: what was scaled to this study by what it meant at its own
    size. reduced: which defining part cannot act at this scale. oracle: told
    at the test which faces wear masks.
    """

    name: str
    title: str
    idea: str
    question: str = "ladder"
    objectives: tuple[Term, ...] = ()
    views: tuple[str, ...] = ("masked",)
    mask_probability: float = 0.0
    mask_kinds: str = "seen"
    network: str = ""
    sampler: str = "shuffled"
    teacher: str | None = None
    teacher_view: str = "clean"
    flips: str = "shared"
    batch_norm: str = "live"
    start: Start | None = None
    share: float = 1.0
    milestones: tuple[float, ...] = ()
    imported: bool = False
    base: str | None = None
    head: str = ""
    parts: tuple[str, ...] = ()
    how: str = ""
    tuned_as: str = ""
    reading: str = ""
    scaled: str = ""
    reduced: str = ""
    oracle: bool = False

    @property
    def trained(self) -> bool:
        """Whether it trains a network of its own."""
        return not (self.imported or self.base or self.parts)

    @property
    def note(self) -> str:
        """What a reader of a table must know of this row, in words; "" for nothing."""
        marks = [f"our reading: {self.reading}"] if self.reading else []
        marks += [f"scaled: {self.scaled}"] if self.scaled else []
        marks += [f"reduced: {self.reduced}"] if self.reduced else []
        return "; ".join((["oracle: told which faces wear masks"] if self.oracle else []) + marks)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One trained system of a sweep: a stage with overrides, at a place on the axis."""

    x: float
    stage: str
    overrides: dict = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One setting turned over its range for some methods. lines: method in words -> its points, ascending."""

    name: str
    question: str
    axis: str
    lines: dict[str, tuple[Point, ...]]
    logarithmic: bool = True


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


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The scale of a study: faces, network, budget and seeds. ``head`` holds the margin settings.

    precision: of the student's forward pass; auto is bf16 where the device computes in it, else fp32.
    threads, gpus: what each training and evaluation takes; a result must not depend on who runs it.
    ladder: "rendered" or "real", the definitions of its stages. breadth: "six" or "all". stages, few, sweeps: the
    rungs, run with every seed; the systems beside the ladder, with few_seeds at most; sweeps, with one seed.
    absent: benchmarks that it knows but whose files are not at hand. learning_rates: of single stages, chosen on
    validation people among trial_rates, each tried on trial_budget faces; of heads on frozen templates, which learn by
    SGD from random weights everywhere, among head_rates, if any. stands_for: stage of a claim -> the stage
    that takes its place here.
    """

    name: str
    idea: str
    faces: RenderedFaces | RealFaces
    network: str
    embedding_size: int
    schedule: Schedule
    stages: tuple[str, ...]
    few: tuple[str, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    head: dict = field(default_factory=dict)
    seeds: int = 1
    few_seeds: int = 3
    threads: int = 1
    gpus: int = 0
    resamples: int = 2000
    precision: str = "auto"
    ladder: str = "rendered"
    breadth: str = "six"
    benchmarks: tuple[Benchmark, ...] = (RENDERED_TEST,)
    absent: tuple[str, ...] = ()
    learning_rates: dict = field(default_factory=dict)
    trial_rates: tuple[float, ...] = ()
    head_rates: tuple[float, ...] = ()
    trial_budget: int = 3200
    stands_for: dict = field(default_factory=dict)

    @property
    def systems(self) -> tuple[str, ...]:
        """The names of all stages that a study of this profile runs, the rungs first."""
        return self.stages + self.few


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides one training, resolved from a stage, a profile and overrides.

    people: how many of the profile's training people take part, 0 for all of its own. The other fields are a stage's.
    """

    network: str
    embedding_size: int
    objectives: tuple[Term, ...]
    mask_probability: float
    mask_kinds: str
    schedule: Schedule
    milestones: tuple[float, ...]
    precision: str = "auto"
    people: int = 0
    views: tuple[str, ...] = ("masked",)
    sampler: str = "shuffled"
    teacher_view: str = "clean"
    flips: str = "shared"
    batch_norm: str = "live"

    @property
    def faces_per_step(self) -> int:
        """Faces that pass forward through the student in a step: every view of every sample."""
        return self.schedule.batch * len(self.views)

    @property
    def steps(self) -> int:
        """Number of optimiser steps: whole ones within the budget."""
        return self.schedule.budget // self.faces_per_step

    def as_dict(self) -> dict:
        """Return the plan as JSON-serialisable data; what is as everywhere is left out."""
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: value for name, value in dataclasses.asdict(self).items() if value != usual[name]}


def plan(stage: Stage, profile: Profile) -> Plan:
    """Resolve ``stage`` at the scale of ``profile``: margins get the profile's head, the budget the stage's share."""
    budget = round(profile.schedule.budget * stage.share)
    rate = profile.learning_rates.get(stage.tuned_as or stage.name, profile.schedule.learning_rate)
    schedule = dataclasses.replace(
        profile.schedule, budget=budget, learning_rate=rate, head_warm_up=stage.start is None
    )
    same = ("mask_probability", "mask_kinds", "milestones", "views", "sampler", "teacher_view", "flips", "batch_norm")
    return Plan(
        network=f"{stage.network}:{profile.network}" if stage.network else profile.network,
        embedding_size=profile.embedding_size,
        objectives=tuple(_scaled(term, profile) for term in stage.objectives),
        schedule=schedule,
        precision=profile.precision,
        **{name: getattr(stage, name) for name in same},
    )


def _scaled(term: Term, profile: Profile) -> Term:
    """Return an objective with a margin at the profile's scale: shrunk as the profile shrinks ArcFace's 0.5."""
    settings = dict(term.settings)
    if term.objective.startswith("margins."):
        settings.setdefault("margin", PUBLISHED_MARGIN)
    if "margin" in settings and profile.head:
        settings["margin"] = round(settings["margin"] * profile.head["margin"] / PUBLISHED_MARGIN, 4)
        settings.setdefault("scale", profile.head["scale"])
    return dataclasses.replace(term, settings=settings)


PUBLISHED_MARGIN = 0.5
"""The margin of ArcFace and ElasticFace-Arc, to which a profile's own margin is the measure."""


def check(plan: Plan) -> Plan:
    """Return ``plan`` if it can be trained; else raise ValueError naming the value that is in the way."""
    checks.choose("policy", plan.schedule.policy, POLICIES)
    checks.choose("optimizer", plan.schedule.optimizer, OPTIMIZERS)
    checks.choose("precision", plan.precision, PRECISIONS)
    checks.choose("mask_kinds", plan.mask_kinds, TRAINING_MASKS)
    checks.choose("sampler", plan.sampler, SAMPLERS)
    checks.choose("teacher_view", plan.teacher_view, TEACHER_VIEWS)
    checks.choose("flips", plan.flips, FLIPS)
    checks.choose("batch_norm", plan.batch_norm, BATCH_NORMS)
    checks.only_known("view", plan.views, VIEWS)
    names = [term.objective for term in plan.objectives]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"{name} stands {names.count(name)} times among the objectives, and each loss has one name."
            )
    if plan.steps < 1:
        raise ValueError(f"budget {plan.schedule.budget} is less than one step of {plan.faces_per_step} faces.")
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
    plain = {name: getattr(base, name) for name in ("mask_probability", "mask_kinds", "precision", "people")}
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
