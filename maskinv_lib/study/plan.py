"""The plan of one training: a stage at the scale of a profile, with single values replaced by overrides."""

import ast
import dataclasses
import re
from dataclasses import dataclass

from maskinv_lib.study.recipes import ALLOWED, Profile, Schedule, Stage, Term
from maskinv_lib.utils import checks


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides one training, resolved from a stage, a profile and overrides.

    people: number of training people, 0 for all of the profile's. The other fields are those of a stage.
    """

    network: str
    embedding_size: int
    objectives: tuple[Term, ...]
    mask_probability: float
    mask_kinds: str
    schedule: Schedule
    stop: float = 1.0
    precision: str = "auto"
    compiled: str = "no"
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
        """Number of whole optimiser steps within the budget: those of the whole schedule."""
        return self.schedule.budget // self.faces_per_step

    @property
    def last_step(self) -> int:
        """Number of steps after which the training ends: all, or with ``stop`` a share of the schedule."""
        return round(self.stop * self.steps)

    def as_dict(self) -> dict:
        """Return the plan as JSON-serialisable data, without the fields that have their default value."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: value for name, value in dataclasses.asdict(self).items() if value != defaults[name]}


def plan(stage: Stage, profile: Profile) -> Plan:
    """Resolve ``stage`` at the scale of ``profile``: margins get the profile's head, the budget the stage's share."""
    budget = round(profile.schedule.budget * stage.share)
    rate = profile.learning_rates.get(stage.tuned_as or stage.name, profile.schedule.learning_rate)
    schedule = dataclasses.replace(
        profile.schedule, budget=budget, learning_rate=rate, head_warm_up=stage.start is None
    )
    copied = ("mask_probability", "mask_kinds", "stop", "views", "sampler", "teacher_view", "flips", "batch_norm")
    return Plan(
        network=f"{stage.network}:{profile.network}" if stage.network else profile.network,
        embedding_size=profile.embedding_size,
        objectives=tuple(_scaled(term, profile) for term in stage.objectives),
        schedule=schedule,
        precision=profile.precision,
        compiled=profile.compiled,
        **{name: getattr(stage, name) for name in copied},
    )


def _scaled(term: Term, profile: Profile) -> Term:
    """Return an objective with its margin, and the margin's deviation, shrunk as the profile shrinks ArcFace's 0.5."""
    settings = dict(term.settings)
    if term.objective.startswith("margins."):
        settings.setdefault("margin", PUBLISHED_MARGIN)
    if "margin" in settings and profile.head:
        for name in ("margin", "deviation"):
            if name in settings:
                settings[name] = round(settings[name] * profile.head["margin"] / PUBLISHED_MARGIN, 4)
        settings.setdefault("scale", profile.head["scale"])
    return dataclasses.replace(term, settings=settings)


PUBLISHED_MARGIN = 0.5
"""The margin of ArcFace and ElasticFace-Arc. A profile's margin divided by it scales every other margin."""


def check(plan: Plan) -> Plan:
    """Return ``plan`` if it can be trained; otherwise raise ValueError naming the wrong value."""
    settings = {**vars(plan.schedule), **vars(plan)}
    for name, allowed in ALLOWED.items():
        checks.only_known(name, plan.views if name == "view" else [settings[name]], allowed)
    names = [term.objective for term in plan.objectives]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is {names.count(name)} times among the objectives. Use each objective once.")
    if plan.schedule.batch < 2:
        raise ValueError(f"batch {plan.schedule.batch}: batch normalisation needs two faces or more in a batch.")
    if plan.last_step < 1:
        raise ValueError(f"budget {plan.schedule.budget} is less than one step of {plan.faces_per_step} faces.")
    return plan


def parse_overrides(text: object) -> dict[str, object]:
    """Read ``"lambda=300, mask_probability=0.1"`` into a dict sorted by name; anything else raises ValueError."""
    if not isinstance(text, str):
        raise ValueError(f'overrides must be text such as "lambda=300", not {text!r} ({type(text).__name__}).')
    overrides = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not value or name in overrides:
            raise ValueError(f'overrides: {part!r} is not a new name=value. Example: "lambda=300, batch=32".')
        try:
            overrides[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            overrides[name] = value
    return dict(sorted(overrides.items()))


def override(base: Plan, changes: dict[str, object]) -> Plan:
    """Return ``base`` with named values replaced: of the plan, its schedule or its objectives' settings.

    An unknown name, or a value of another type than the one it replaces, raises ValueError.
    """
    for name, value in changes.items():
        values = _current_values(base)
        current = values[checks.choose("override", name, values)]
        base = _replaced(base, name, _checked(name, value, current))
    return base


def _current_values(base: Plan) -> dict[str, object]:
    settings = {name.rstrip("_"): value for term in base.objectives for name, value in term.settings.items()}
    plain = {
        name: getattr(base, name) for name in ("mask_probability", "mask_kinds", "precision", "compiled", "people")
    }
    return {**settings, **dataclasses.asdict(base.schedule), **plain}


def _checked(name: str, value: object, current: object) -> object:
    kind = type(current)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (kind is float and not abs(value) < float("inf")):
        raise ValueError(f"override {name} must be {kind.__name__} such as {current!r}, not {value!r}.")
    if kind is int:
        return checks.whole_number(f"override {name}", value, minimum=1)
    if kind is float and value < 0:
        raise ValueError(f"override {name} must not be negative, such as {current!r}, not {value!r}.")
    if kind is str and not re.fullmatch(r"[\w-]+", value):
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
