"""The study as data: the folder and the key of every run, and what a notebook's parameters name.

Importable without torch, because the workflow reads it at the start of every job.
"""

import ast
import dataclasses
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from maskinv_lib import checks, fingerprints, ladders
from maskinv_lib.files import content_hash
from maskinv_lib.ladders import (
    PROFILES,
    STAGES,
    choices_file,
    get_profile,
    seed_range,
    stages_of,
)
from maskinv_lib.places import results, root, runs
from maskinv_lib.populations import Benchmark, RealFaces, RenderedFaces, fingerprint
from maskinv_lib.recipes import Plan, Point, Profile, Stage, check, override, parse_overrides, plan
from maskinv_lib.stages import BASELINE, LADDER
from maskinv_lib.systems import OTHER_MASKS

__all__ = [
    "BASELINE",
    "LADDER",
    "PROFILES",
    "STAGES",
    "choices_file",
    "get_profile",
    "results",
    "root",
    "runs",
    "seed_range",
    "stages_of",
]


def checked_stage(name: object, profile: Profile | None = None) -> Stage:
    """Return the stage called ``name``; an unknown one raises ValueError with the nearest known name."""
    known = stages_of(profile) if profile else STAGES
    return known[checks.choose("stage", name, known)]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One stage, trained with one seed at the scale of one profile, perhaps with overrides: its folder and key.

    benchmark: what it is evaluated on; None is the profile's first benchmark.
    """

    profile: Profile
    stage: Stage
    seed: int
    overrides: dict
    benchmark: Benchmark | None = None

    @property
    def measured_on(self) -> Benchmark:
        """The benchmark that this run is evaluated on."""
        return self.benchmark or self.profile.benchmarks[0]

    @property
    def measured(self) -> Path:
        """Where this run's evaluation is written: beside the model, or where there are several, in a folder each."""
        return self.folder if len(self.profile.benchmarks) == 1 else self.folder / self.measured_on.name

    @property
    def name(self) -> str:
        """The stage's name, followed by the overrides: ``maskinv-lg+lambda=300``."""
        values = {k: f"{v:g}" if isinstance(v, float) else str(v) for k, v in self.overrides.items()}  # 300.0 is 300
        return "+".join([self.stage.name, *(f"{name}={value}" for name, value in values.items())])

    @property
    def folder(self) -> Path:
        """Where this run writes; a run with overrides has a folder of its own."""
        return runs() / self.profile.name / f"seed-{self.seed}" / self.name

    @cached_property
    def plan(self) -> Plan:
        """The resolved training; raises ValueError for an override that does not fit."""
        return check(override(plan(self.stage, self.profile), self.overrides))

    @property
    def weights_seed(self) -> int:
        """Seed of the first weights and class centres: each stage's own, so that no student starts at its teacher."""
        return int(content_hash(["weights", self.seed, self.stage.name]), 16) >> 12

    @property
    def draws_seed(self) -> int:
        """Seed of order, flips and masks: shared by all stages that start anew, so that pairs see the same draws.

        A stage that continues another has its own: it must not see its parent's first batches again.
        """
        anew = self.stage.start is None or self.parent.stage.imported
        return self.seed if anew else self.weights_seed

    @property
    def teacher(self) -> "Run | None":
        """The run whose templates are this run's targets."""
        return self._other(self.stage.teacher)

    @property
    def parent(self) -> "Run | None":
        """The run whose backbone this run starts from."""
        return self._other(self.stage.start and self.stage.start.stage)

    @property
    def base(self) -> "Run | None":
        """The run on whose frozen templates this run's head works."""
        return self._other(self.stage.base)

    @property
    def parts(self) -> "tuple[Run, ...]":
        """The runs that this run combines."""
        return tuple(self._other(name) for name in self.stage.parts)

    @property
    def ancestors(self) -> "tuple[Run, ...]":
        """Every run that this one builds on directly, each once."""
        found = (self.teacher, self.parent, self.base, *self.parts)
        return tuple({run.name: run for run in found if run}.values())

    def _other(self, stage: str | None) -> "Run | None":
        if stage is None:
            return None
        return Run(profile=self.profile, stage=stages_of(self.profile)[stage], seed=self.seed, overrides={})

    @property
    def is_rung(self) -> bool:
        """Whether this is a rung of the ladder as it is, which notebooks train and evaluate for readers."""
        return self.stage.name in self.profile.stages and not self.overrides

    @property
    def milestone(self) -> Path | None:
        """The file that this run starts from."""
        return milestone(self.parent, self.stage.start.at) if self.stage.start else None

    @property
    def training_faces(self) -> RenderedFaces | RealFaces:
        """The people whose training faces this run sees: the profile's, or as many as an override says."""
        faces, people = self.profile.faces, self.plan.people
        if people and not isinstance(faces, RenderedFaces):
            raise ValueError(f"people={people} works with rendered people only; leave labels out in maskinv.toml.")
        return dataclasses.replace(faces, train=people) if people else faces

    @property
    def train_code(self) -> tuple[str, ...]:
        """The modules that decide this run's training."""
        around, _, inner = self.plan.network.rpartition(":")
        network = [f"networks.{NETWORK_MODULES.get(inner, 'iresnet')}"]
        network += [f"networks.{around.replace('-', '_')}"] if around else []
        sources = FACES_CODE[self.profile.ladder]
        if self.stage.imported:
            return ("networks.published", *network)
        if self.stage.parts:
            return ("combining",)
        if self.stage.base:
            return ("adapting", *sources, "masks", "templates", *network)
        objectives = sorted({f"objectives.{term.objective.partition('.')[0]}" for term in self.plan.objectives})
        targets = ("templates",) if self.stage.teacher else ()
        return ("training", *sources, "masks", *network, *targets, *objectives)

    @cached_property
    def config(self) -> dict:
        """What decides the model: the plan, the faces, the seed and the runs it builds on."""
        if self.stage.imported:
            return {"weights": self.profile.faces.config()["teacher"], "network": self.plan.network}
        if self.stage.parts:
            return {"how": self.stage.how, "parts": [part.key for part in self.parts]}
        seeds = {"seed": self.seed, "weights_seed": self.weights_seed, "draws_seed": self.draws_seed}
        common = {"plan": self.plan.as_dict(), "faces": self.training_faces.config("train"), **seeds}
        if self.stage.base:
            return {**common, "head": self.stage.head, "base": self.base.key}
        return {**common, "teacher": self.teacher and self.teacher.key, "parent": self.parent and self.parent.key}

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits that stand for the model: its configuration and the code that trains it."""
        return content_hash({"config": self.config, "code": fingerprints.code_hash(*self.train_code)})

    @property
    def evaluation_config(self) -> dict:
        """What decides the evaluation beside the model: the test people and the number of resamples."""
        faces = self.profile.faces
        if isinstance(faces, RenderedFaces):
            return {"faces": faces.config("test"), "resamples": self.profile.resamples}
        place, data = self.measured_on, fingerprint(faces.root, self.measured_on.path)
        how = {"name": place.name, "protocol": place.protocol, "kinds": list(place.kinds)}
        return {**how, "data": data, "resamples": self.profile.resamples}

    @property
    def evaluation_key(self) -> str:
        """16 hexadecimal digits that stand for this run's measured results."""
        applied = ("adapting", "combining") if self.stage.parts else ()
        code = fingerprints.code_hash(*EVALUATION_CODE[self.profile.ladder], *applied)
        return content_hash({"model": self.key, "config": self.evaluation_config, "code": code})

    @property
    def command(self) -> str:
        """The command that makes this run on its own."""
        extra = f" -p overrides '{overrides_text(self)}'" if self.overrides else ""
        inside = ".venv/bin/" if Path(sys.prefix).name == ".venv" else ""
        return (
            f"{inside}papermill notebooks/02-train-a-stage.ipynb out.ipynb "
            f"-p profile {self.profile.name} -p stage {self.stage.name} -p seed {self.seed}{extra}"
        )


EVALUATION_CODE = {
    "rendered": ("benchmarks.rendered", "evaluation", "templates"),
    "real": ("benchmarks.drawn", "benchmarks.bins", "benchmarks.real_sets", "evaluation", "templates"),
}
"""Ladder -> the modules that decide what an evaluation measures."""

FACES_CODE = {"rendered": ("faces.synthetic",), "real": ("faces.recordio",)}
"""Ladder -> the modules that decide what faces a student is trained on."""

NETWORK_MODULES = {"mobilefacenet": "mobilefacenet"}
"""Network -> its module below ``networks``, where that is not ``iresnet``."""


def milestone(run: Run, at: float) -> Path:
    """Return the file in which ``run`` keeps its backbone at the share ``at`` of its schedule."""
    if at == 1:
        return run.folder / "model.safetensors"
    return run.folder / f"milestone-{at:.4f}.safetensors"


def model_file(run: Run) -> Path:
    """Return the file that says a run was trained: its network or head; a combination has neither, so its facts."""
    return run.folder / ("run.json" if run.stage.parts else "model.safetensors")


def overrides_text(run: Run) -> str:
    """Return a run's overrides as a notebook or a command takes them: ``lambda=300.0, people=100``."""
    return ", ".join(f"{name}={value}" for name, value in run.overrides.items())


def ancestor_files(run: Run) -> list[Path]:
    """Return the files of other runs that ``run`` needs before it can train or be evaluated."""
    needed = [one for one in run.ancestors if one != run.parent or one == run.teacher]
    needed += [part.base for part in run.parts if part.base]
    models = [one.folder / "model.safetensors" for one in needed]
    return list(dict.fromkeys(models + ([run.milestone] if run.milestone else [])))


def published(run: Run) -> Path:
    """Return the folder of a run's published numbers."""
    place = results() / run.profile.name / "stages" / run.name / f"seed-{run.seed}"
    return place / run.measured.relative_to(run.folder)


def planned(profile: Profile, seeds: range) -> list[Run]:
    """Return the runs that a study compares, seed by seed, in the order of the ladder and of the systems beside it.

    Systems beside the ladder get the profile's ``few_seeds`` at most; the verdicts rest on the rungs.
    """
    known = stages_of(profile)
    return [
        Run(profile=profile, stage=known[name], seed=seed, overrides={})
        for seed in seeds
        for name in (profile.systems if seed < profile.few_seeds else profile.stages)
    ]


def point_run(profile: Profile, point: Point, seed: int = 0) -> Run:
    """Return the run that a point of a sweep stands for."""
    return Run(profile=profile, stage=stages_of(profile)[point.stage], seed=seed, overrides=dict(point.overrides))


def sweep_runs(profile: Profile) -> list[Run]:
    """Return the runs of a profile's sweeps that no stage of its own already is; one seed each."""
    points = [point for sweep in profile.sweeps for line in sweep.lines.values() for point in line]
    points += OTHER_MASKS if profile.sweeps else []
    found = [point_run(profile, point) for point in points if point.overrides]
    return list({run.name: run for run in found}.values())


def with_ancestors(runs: Iterable[Run]) -> list[Run]:
    """Return the runs, and before each every run that it is made of, each once."""
    found: dict[tuple[str, int], Run] = {}

    def add(run: Run) -> None:
        for one in run.ancestors:
            add(one)
        found.setdefault((run.name, run.seed), run)

    for run in runs:
        add(run)
    return list(found.values())


def everything(profile: Profile, seeds: range) -> list[Run]:
    """Return every run of a study: what it compares, its sweeps, and what they are made of."""
    return with_ancestors([*planned(profile, seeds), *sweep_runs(profile)])


TRIAL_SEED = 100
"""Seed of the trials that choose settings: none of a study's own."""


def trials(profile: Profile) -> list[Run]:
    """Return the runs that choose a learning rate on validation people where none was; what teaches them stands first.

    Three rates a stage, each at the profile's ``trial_budget``. The teacher itself has the whole budget and the
    profile's own rate, so that no trial depends on a choice. Empty where nothing is left to choose.
    """
    bare = dataclasses.replace(profile, learning_rates={})
    left = [stage for stage in ladders.tried(profile) if stage.name not in profile.learning_rates]
    if not (left and profile.trial_rates):
        return []
    teacher = Run(profile=bare, stage=stages_of(profile)[profile.stages[0]], seed=TRIAL_SEED, overrides={})
    found = [teacher]
    for stage in left:
        for rate in (profile.head_rates if stage.base else ()) or profile.trial_rates:
            overrides = {"budget": profile.trial_budget, "learning_rate": rate}
            found.append(Run(profile=bare, stage=stage, seed=TRIAL_SEED, overrides=overrides))
    return found


def evaluations(run: Run) -> list[Run]:
    """Return ``run`` once for each benchmark of its profile that it is judged on: a rung on all."""
    judged = [one for one in run.profile.benchmarks if one.beside or run.is_rung]
    return [dataclasses.replace(run, benchmark=benchmark) for benchmark in judged]


def checked_benchmark(profile: Profile, name: object) -> Benchmark:
    """Return a profile's benchmark by name, its first for ""; an unknown name raises ValueError with the nearest."""
    known = {one.name: one for one in profile.benchmarks}
    return profile.benchmarks[0] if name == "" else known[checks.choose("benchmark", name, known)]


def open_run(*, profile: object, stage: object, seed: object, overrides: object = "", benchmark: object = "") -> Run:
    """Check what a notebook was given and return the run it names. Nothing is written.

    Inside a notebook, a parameter that papermill handed over but this function does not know is an error too:
    papermill itself only warns about it.
    """
    _refuse_unknown_parameters({"profile", "stage", "seed", "overrides", "benchmark"})
    chosen = get_profile(profile)
    found = Run(
        profile=chosen,
        stage=checked_stage(stage, chosen),
        seed=checks.whole_number("seed", seed),
        overrides=parse_overrides(overrides),
        benchmark=checked_benchmark(chosen, benchmark),
    )
    assert found.plan  # raises for an override that does not fit
    return found


def open_profile(
    *, profile: object, seeds: object = None, benchmark: object = "", ladder: object = "six"
) -> tuple[Profile, range]:
    """Check what a notebook about a whole profile was given; return the profile and its seeds.

    On a benchmark that judges no system beside the ladder, the profile is the one of the six rungs.
    """
    _refuse_unknown_parameters({"profile", "seeds", "benchmark", "ladder"})
    chosen = get_profile(profile, ladder)
    if not checked_benchmark(chosen, benchmark).beside:
        chosen = get_profile(profile)
    return chosen, seed_range(chosen, seeds)


def _refuse_unknown_parameters(known: set[str]) -> None:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    for source in shell.user_ns.get("In", []) if shell else []:
        if source.startswith("# Parameters\n"):
            for name, value in _assignments(source):
                if name not in known:
                    checks.choose(f"parameter (its value was {value})", name, sorted(known))


def _assignments(source: str) -> list[tuple[str, str]]:
    lines = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    return [(target.id, ast.unparse(node.value)) for node in lines for target in node.targets]
