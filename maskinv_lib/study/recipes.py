"""The settings of a stage, a sweep, a training schedule and a profile: frozen dataclasses, read without torch."""

from dataclasses import dataclass, field

from maskinv_lib.study.data import MASK_KINDS, RENDERED_TEST, Benchmark, RealFaces, RenderedFaces

ALLOWED = {
    "policy": ("one-cycle", "steps"),
    "optimizer": ("sgd", "adamw"),
    "precision": ("auto", "fp32", "bf16"),
    "compiled": ("no", "yes"),
    "mask_kinds": (*MASK_KINDS, "recoloured"),
    "sampler": ("shuffled", "half balanced"),
    "teacher_view": ("clean", "masked"),
    "flips": ("shared", "separate"),
    "batch_norm": ("live", "frozen after half an epoch"),
    "view": ("masked", "clean", "masked-2", "restored"),
}
"""Setting of a training -> its allowed values."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One objective of a stage: its class below ``training.objectives`` and the settings it is built with."""

    objective: str
    settings: dict = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One method of the study, defined by its settings: a rung of the ablation, or one of the other methods.

    A stage trains a network. Exceptions: with ``imported`` it is the profile's published teacher, unchanged; with
    ``base`` it trains a ``head`` (of ``HEADS``) on that stage's frozen templates; with ``parts`` it combines finished
    stages (one of ``HOWS``; to choose by mask, the parts are the stage for unmasked faces, the stage for masked faces,
    and the mask classifier).

    question: the part of the comparison that it belongs to, "ablation" for a rung. objectives: the losses of the
    student; settings left out come from the profile. views: the versions of a face that pass through the student in a
    step; each counts in the budget. mask_probability: share of the faces that get a mask. mask_kinds: which masks
    training draws; "recoloured" are the seen ones in any colour. The values of ``views``, ``mask_kinds``, ``sampler``,
    ``teacher_view``, ``flips`` and ``batch_norm`` are in ``ALLOWED``. network: "" is the profile's own, otherwise the
    name of what is built around it. sampler: "half balanced" fills half of a batch with groups of four faces of one
    person. teacher: the stage whose templates are targets. teacher_view, flips, batch_norm: what the teacher sees,
    whether it sees the student's flip, and when batch norm stops learning. start: the stage whose backbone the student
    starts from; None means random weights. share: part of the profile's budget that its schedule takes. stop: share of
    the schedule after which it ends. tuned_as: the stage whose chosen learning rate it takes, "" if it has its own.
    reading: which unpublished details are our reading. scaled: which published setting was converted to this study's
    scale. reduced: which defining part cannot act fully at this scale. oracle: whether it is given the truth about
    which test faces wear masks.
    """

    name: str
    title: str
    idea: str
    question: str = "ablation"
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
    start: str | None = None
    share: float = 1.0
    stop: float = 1.0
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
    def is_tuned(self) -> bool:
        """Whether its learning rate is chosen on validation people, and not taken from another stage."""
        return not (self.tuned_as or self.parts or self.imported)

    @property
    def note(self) -> str:
        """What a reader of a table must know about this row, in words; "" for nothing."""
        oracle = "given the truth about which faces wear masks" if self.oracle else ""
        notes = {"oracle": oracle, "our reading": self.reading, "scaled": self.scaled, "reduced": self.reduced}
        return "; ".join(f"{name}: {text}" for name, text in notes.items() if text)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One trained method of a sweep: a stage with overrides, at a value x of the axis."""

    x: float
    stage: str
    overrides: dict = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One setting varied over its range for some methods. lines: method in words -> its points, ascending."""

    name: str
    question: str
    axis: str
    lines: dict[str, tuple[Point, ...]]
    logarithmic: bool = True


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast a student learns: SGD with momentum, as published, at the scale of a profile.

    budget: faces that pass forward through the student. optimizer: "sgd", or "adamw", which has its own momentum and
    decoupled weight decay. policy: "one-cycle" (linear warm-up, then a cosine to zero) or "steps" (x 0.1 after 7, 13,
    19 and 24 of 26 equal parts). warm_up: share of the schedule. clip: largest gradient norm of the backbone.
    head_warm_up: whether the head warms up with the backbone or starts at the peak.
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

    precision: of the student's forward pass; auto is bf16 where the device computes in it, otherwise fp32. compiled:
    whether torch.compile makes the student faster, which needs a C++ compiler and rounds differently.
    threads, gpus: used by each training and evaluation, so that a result does not depend on the machine.
    scope: "ablation" or "all". stages: the rungs, and what else claims are about, run with every seed. others: the
    other methods, with other_seeds at most. sweeps: settings varied over their range, with one seed. absent: known
    benchmarks whose files are missing.
    learning_rates: stage -> rate, chosen on validation people among trial_rates; for heads on frozen templates, which
    always learn by SGD from random weights, among head_rates if there are any. one_rate: whether all stages have one
    rate instead, that of the schedule, chosen among trial_rates on three rungs.
    stands_for: stage of a claim -> the stage that replaces it here.
    """

    name: str
    idea: str
    faces: RenderedFaces | RealFaces
    network: str
    embedding_size: int
    schedule: Schedule
    stages: tuple[str, ...]
    others: tuple[str, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    head: dict = field(default_factory=dict)
    seeds: int = 1
    other_seeds: int = 3
    threads: int = 1
    gpus: int = 0
    resamples: int = 2000
    precision: str = "auto"
    compiled: str = "no"
    scope: str = "ablation"
    benchmarks: tuple[Benchmark, ...] = (RENDERED_TEST,)
    absent: tuple[str, ...] = ()
    learning_rates: dict = field(default_factory=dict)
    trial_rates: tuple[float, ...] = ()
    head_rates: tuple[float, ...] = ()
    one_rate: bool = False
    stands_for: dict = field(default_factory=dict)

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of all stages that a study of this profile runs, the rungs first."""
        return self.stages + self.others

    def subfolder(self, benchmark: Benchmark) -> str:
        """Return the name of the folder with a benchmark's results: "" where there is only one benchmark."""
        return benchmark.name if len(self.benchmarks) > 1 else ""

    def suffix(self, benchmark: Benchmark, before: str = "-") -> str:
        """Return the end of a name that distinguishes benchmarks: "-lfw", or "" where there is only one."""
        return before + benchmark.name if len(self.benchmarks) > 1 else ""
