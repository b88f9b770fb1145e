"""The plan of one training: a stage at the scale of a profile, and single values of it replaced by overrides."""

import ast
import dataclasses
import re
from dataclasses import dataclass

from maskinv_lib.study.recipes import (
    BATCH_NORMS,
    FLIPS,
    OPTIMIZERS,
    POLICIES,
    PRECISIONS,
    SAMPLERS,
    TEACHER_VIEWS,
    TRAINING_MASKS,
    VIEWS,
    Profile,
    Schedule,
    Stage,
    Term,
)
from maskinv_lib.utils import checks


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
