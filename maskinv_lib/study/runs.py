"""The runs of a study: folder, ancestors, budget and key of each, and the run that given parameters define.

Read without torch, because the workflow reads it at the start of every job.
"""

import ast
import dataclasses
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from maskinv_lib.study.data import CONDITIONS, FOLDS, Benchmark, RealFaces, RenderedFaces
from maskinv_lib.study.methods import OTHER_MASKS
from maskinv_lib.study.plan import Plan, check, override, parse_overrides, plan
from maskinv_lib.study.profiles import get_profile, known_stages, seed_range
from maskinv_lib.study.recipes import Point, Profile, Stage
from maskinv_lib.utils import checks, files, fingerprints, paths
from maskinv_lib.utils.files import content_hash

MODEL, FACTS, LOG = "model.safetensors", "run.json", "log.jsonl"
"""Files of a training: the network or head, its facts, one line per logged step."""

RESTORE = "restore"
"""The folder of a profile's published results with one zip file per stage, for the computer and not for readers."""

METRICS, RESAMPLES = "metrics.json", "resamples.npz"
"""Files of an evaluation: numbers and curves, and the rates in every resample."""

NOTEBOOKS = {
    "gallery": "01-faces-and-masks.ipynb",
    "train": "02-train-a-stage.ipynb",
    "evaluate": "03-evaluate-a-stage.ipynb",
    "compare": "04-compare-the-ladder.ipynb",
    "sweeps": "06-how-much-guidance.ipynb",
}
"""Kind of job -> its notebook."""


def find_stage(name: object, profile: Profile) -> Stage:
    """Return the profile's stage called ``name``; an unknown one raises ValueError with the most similar known name."""
    stages = known_stages(profile)
    return stages[checks.choose("stage", name, stages)]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One stage, trained with one seed at the scale of one profile, optionally with overrides.

    benchmark: the one that it is evaluated on; None is the profile's first.
    """

    profile: Profile
    stage: Stage
    seed: int
    overrides: dict
    benchmark: Benchmark | None = None

    @property
    def tested_on(self) -> Benchmark:
        """The benchmark that this run is evaluated on."""
        return self.benchmark or self.profile.benchmarks[0]

    @property
    def evaluation_folder(self) -> Path:
        """The folder of this run's evaluation: that of the model, or with several benchmarks one subfolder each."""
        return self.folder / self.profile.subfolder(self.tested_on)

    @property
    def name(self) -> str:
        """The stage's name, followed by the overrides: ``maskinv-lg+lambda=300``."""
        values = {k: f"{v:g}" if isinstance(v, float) else str(v) for k, v in self.overrides.items()}  # 300.0 is 300
        return "+".join([self.stage.name, *(f"{name}={value}" for name, value in values.items())])

    @property
    def folder(self) -> Path:
        """The folder of this run; a run with overrides has its own."""
        return paths.runs() / self.profile.name / f"seed-{self.seed}" / self.name

    @cached_property
    def plan(self) -> Plan:
        """The resolved training; raises ValueError for an override that does not fit."""
        return check(override(plan(self.stage, self.profile), self.overrides))

    @property
    def weights_seed(self) -> int:
        """Seed of the initial weights and class centres.

        Stages that are compared share it: those trained on clean faces alone, such as the teacher; those that see
        masks; and those that continue the same parent. So no student starts with its teacher's weights.
        """
        shared = "masks" if self.stage.mask_probability else "clean faces"
        return (
            int(content_hash(["weights", self.seed, f"after {self.parent.name}" if self._continues else shared]), 16)
            >> 12
        )

    @property
    def draws_seed(self) -> int:
        """Seed of order, flips and masks; all stages share it, so that compared stages see the same draws.

        Stages that continue another one share one of their own: they must not see their parent's first batches again.
        """
        return self.weights_seed if self._continues else self.seed

    @property
    def _continues(self) -> bool:
        return self.parent is not None and not self.parent.stage.imported

    @property
    def teacher(self) -> "Run | None":
        """The run whose templates are this run's targets."""
        return self._other(self.stage.teacher)

    @property
    def parent(self) -> "Run | None":
        """The run whose backbone this run starts from."""
        return self._other(self.stage.start)

    @property
    def base(self) -> "Run | None":
        """The run whose frozen templates are the input of this run's head."""
        return self._other(self.stage.base)

    @property
    def parts(self) -> "tuple[Run, ...]":
        """The runs that this run combines."""
        return tuple(self._other(name) for name in self.stage.parts)

    @property
    def ancestors(self) -> "tuple[Run, ...]":
        """Every run that this one depends on directly, each once."""
        runs = (self.teacher, self.parent, self.base, *self.parts)
        return tuple({run.name: run for run in runs if run}.values())

    def _other(self, stage: str | None) -> "Run | None":
        if stage is None:
            return None
        return Run(profile=self.profile, stage=known_stages(self.profile)[stage], seed=self.seed, overrides={})

    @property
    def is_rung(self) -> bool:
        """Whether this is a rung of the ablation without overrides: it is trained and evaluated in notebooks."""
        return self.stage.name in self.profile.stages and not self.overrides

    @property
    def model_file(self) -> Path:
        """The file that exists once a run is trained: its network or head, or for a combination its facts."""
        return self.folder / (FACTS if self.stage.parts else MODEL)

    @property
    def ancestor_files(self) -> list[Path]:
        """The files of other runs that this one needs for its training or evaluation."""
        needed = [*self.ancestors, *(part.base for part in self.parts if part.base)]
        return list(dict.fromkeys(run.folder / MODEL for run in needed))

    @property
    def published_archive(self) -> Path:
        """The zip file with the published numbers of this run and of the same stage with other seeds."""
        return paths.results() / self.profile.name / RESTORE / f"{self.name}.zip"

    @property
    def published_folder(self) -> Path | zipfile.Path:
        """The folder of this run's published evaluation, inside ``published_archive``."""
        parts = (f"seed-{self.seed}", self.profile.subfolder(self.tested_on))
        return files.inside(self.published_archive, "".join(f"{part}/" for part in parts if part))

    @property
    def evaluations(self) -> "list[Run]":
        """This run once for each benchmark that it is tested on: a rung on all of its profile's."""
        benchmarks = [benchmark for benchmark in self.profile.benchmarks if benchmark.all_methods or self.is_rung]
        return [dataclasses.replace(self, benchmark=benchmark) for benchmark in benchmarks]

    @property
    def overrides_text(self) -> str:
        """The overrides as a notebook or a command takes them: ``lambda=300.0, people=100``."""
        return ", ".join(f"{name}={value}" for name, value in self.overrides.items())

    @property
    def faces_spent(self) -> int:
        """The used budget: faces that pass forward through the student, including its parent's.

        For a combination it is the sum over its parts. Faces seen by a frozen teacher or base never count; those of a
        trained head do.
        """
        if self.stage.imported or self.stage.head == "mask-classifier":
            return 0
        if self.parts:
            frozen = {part.teacher.name for part in self.parts if part.teacher}
            frozen |= {part.stage.base for part in self.parts}
            return sum(part.faces_spent for part in self.parts if part.name not in frozen)
        own = self.plan.last_step * self.plan.faces_per_step
        return own + (self.parent.faces_spent if self.parent else 0)

    @property
    def training_faces(self) -> RenderedFaces | RealFaces:
        """The people that this run is trained on: the profile's, or as many as an override sets."""
        return self.profile.faces.limited_to(self.plan.people) if self.plan.people else self.profile.faces

    @property
    def train_code(self) -> tuple[str, ...]:
        """The modules that decide this run's training."""
        around, _, inner = self.plan.network.rpartition(":")
        registered = fingerprints.constant("networks", "NETWORKS") | fingerprints.constant("networks", "AROUND")
        network = [f"networks.{registered[name].partition('.')[0]}" for name in (inner, around) if name]
        sources = self.profile.faces.faces_code
        if self.stage.imported:
            return ("networks.published", *network)
        if self.stage.parts:
            return ("networks.combining",)
        if self.stage.base:
            return ("training.frozen_heads", *sources, "faces.masks.drawing", "networks.templates", *network)
        objectives = sorted(
            {f"training.objectives.{term.objective.partition('.')[0]}" for term in self.plan.objectives}
        )
        targets = ("networks.templates",) if self.stage.teacher else ()
        return ("training.loop", *sources, "faces.masks.drawing", *network, *targets, *objectives)

    @cached_property
    def config(self) -> dict:
        """Everything that decides the model: the plan, the faces, the seed and the keys of other runs."""
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
        """Hash of the configuration and of the code that trains the model, 16 hexadecimal digits."""
        return content_hash({"config": self.config, "code": fingerprints.code_hash(*self.train_code)})

    @property
    def evaluation_config(self) -> dict:
        """Everything else that decides the evaluation: the test people and the number of resamples."""
        common = {"resamples": self.profile.resamples, "conditions": CONDITIONS, "folds": FOLDS}
        return {**self.profile.faces.test_config(self.tested_on), **common}

    @property
    def evaluation_key(self) -> str:
        """Hash of the model's key and of the evaluation's configuration and code, 16 hexadecimal digits."""
        applied = ("networks.heads", "networks.combining") if self.stage.parts else ()
        code = fingerprints.code_hash(*self.profile.faces.test_code, *EVALUATION_CODE, *applied)
        return content_hash({"model": self.key, "config": self.evaluation_config, "code": code})

    def command(self, job: str = "train") -> str:
        """Return the shell command that trains this run, or with job "evaluate" evaluates it."""
        values = {"profile": self.profile.name, "stage": self.stage.name, "seed": self.seed}
        values |= {"overrides": f"'{self.overrides_text}'"} if self.overrides else {}
        parameters = " ".join(f"-p {name} {value}" for name, value in values.items())
        environment = ".venv/bin/" if Path(sys.prefix).name == ".venv" else ""
        return f"{environment}papermill notebooks/{NOTEBOOKS[job]} out.ipynb {parameters}"

    def label(self, job: str = "") -> str:
        """Return the name of this run or of its job: ``maskinv-lg, seed 0``; ``evaluate maskinv-lg, seed 0 on lfw``."""
        benchmark = self.profile.suffix(self.tested_on, " on ") if job == "evaluate" else ""
        return f"{job} {self.name}, seed {self.seed}{benchmark}".strip()


EVALUATION_CODE = ("evaluation.evaluate", "networks.templates")
"""The modules that decide the metrics of every evaluation; those of its benchmark come from the faces."""


def planned_runs(profile: Profile, seeds: Iterable[int]) -> list[Run]:
    """Return the runs that a study compares, seed by seed, first the rungs, then the other methods.

    The other methods run with at most ``other_seeds`` seeds, because the verdicts depend only on the rungs.
    """
    stages = known_stages(profile)
    return [
        Run(profile=profile, stage=stages[name], seed=seed, overrides={})
        for seed in seeds
        for name in (profile.methods if seed < profile.other_seeds else profile.stages)
    ]


def point_run(profile: Profile, point: Point, seed: int = 0) -> Run:
    """Return the run of a point of a sweep."""
    return Run(profile=profile, stage=known_stages(profile)[point.stage], seed=seed, overrides=dict(point.overrides))


def sweep_runs(profile: Profile) -> list[Run]:
    """Return the runs of a profile's sweeps that have overrides, one seed each; the other points are its stages."""
    points = [point for sweep in profile.sweeps for line in sweep.lines.values() for point in line]
    points += OTHER_MASKS if profile.sweeps else []
    runs = [point_run(profile, point) for point in points if point.overrides]
    return list({run.name: run for run in runs}.values())


def with_ancestors(runs: Iterable[Run]) -> list[Run]:
    """Return the runs and all their ancestors, each once, ancestors before the runs that need them."""
    ordered: dict[tuple[str, int], Run] = {}

    def add(run: Run) -> None:
        for ancestor in run.ancestors:
            add(ancestor)
        ordered.setdefault((run.name, run.seed), run)

    for run in runs:
        add(run)
    return list(ordered.values())


def all_runs(profile: Profile, seeds: range) -> list[Run]:
    """Return every run of a study: those that it compares, those of its sweeps, and their ancestors."""
    return with_ancestors([*planned_runs(profile, seeds), *sweep_runs(profile)])


def find_benchmark(profile: Profile, name: object) -> Benchmark:
    """Return a profile's benchmark by name, its first for ""; an unknown one raises ValueError."""
    benchmarks = {benchmark.name: benchmark for benchmark in profile.benchmarks}
    return profile.benchmarks[0] if name == "" else benchmarks[checks.choose("benchmark", name, benchmarks)]


def open_run(*, profile: object, stage: object, seed: object, overrides: object = "", benchmark: object = "") -> Run:
    """Check the parameters of a notebook or command and return their run. Nothing is written.

    Inside a notebook, a parameter that was passed to papermill but is unknown here is an error too: papermill itself
    only warns about it.
    """
    _refuse_unknown_parameters("benchmark", "overrides", "profile", "seed", "stage")
    profile = get_profile(profile)
    run = Run(
        profile=profile,
        stage=find_stage(stage, profile),
        seed=checks.whole_number("seed", seed),
        overrides=parse_overrides(overrides),
        benchmark=find_benchmark(profile, benchmark),
    )
    assert run.plan  # raises for an override that does not fit
    return run


def open_profile(
    *, profile: object, seeds: object = None, benchmark: object = "", scope: object = "ablation"
) -> tuple[Profile, range]:
    """Check the parameters of a notebook about a whole profile; return the profile and its seeds.

    On a benchmark that tests only the rungs, the profile has the scope "ablation".
    """
    _refuse_unknown_parameters("benchmark", "profile", "scope", "seeds")
    profile = get_profile(profile, scope)
    if not find_benchmark(profile, benchmark).all_methods:
        profile = get_profile(profile)
    return profile, seed_range(profile, seeds)


def _refuse_unknown_parameters(*known: str) -> None:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    cells = shell.user_ns.get("In", []) if shell else []
    lines = [line for cell in cells if cell.startswith("# Parameters\n") for line in ast.parse(cell).body]
    for line in lines:
        for target in line.targets if isinstance(line, ast.Assign) else ():
            checks.choose(f"parameter (its value was {ast.unparse(line.value)})", target.id, known)
