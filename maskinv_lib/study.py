"""The study as data: the folder and the key of every run, and what a notebook's parameters name.

Importable without torch, because the workflow reads it at the start of every job.
"""

import ast
import dataclasses
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from maskinv_lib import checks, fingerprints
from maskinv_lib.files import content_hash
from maskinv_lib.ladders import (
    BASELINE,
    LADDER,
    PROFILES,
    STAGES,
    choices_file,
    get_profile,
    seed_range,
    stages_of,
)
from maskinv_lib.places import results, root, runs
from maskinv_lib.recipes import (
    Benchmark,
    Plan,
    Profile,
    RenderedFaces,
    Stage,
    check,
    fingerprint,
    override,
    parse_overrides,
    plan,
)

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

    def _other(self, stage: str | None) -> "Run | None":
        if stage is None:
            return None
        return Run(profile=self.profile, stage=stages_of(self.profile)[stage], seed=self.seed, overrides={})

    @property
    def milestone(self) -> Path | None:
        """The file that this run starts from."""
        return milestone(self.parent, self.stage.start.at) if self.stage.start else None

    @property
    def train_code(self) -> tuple[str, ...]:
        """The modules that decide this run's training."""
        objectives = sorted({f"objectives.{term.objective.partition('.')[0]}" for term in self.plan.objectives})
        targets = ("templates",) if self.stage.teacher else ()
        network = f"networks.{NETWORK_MODULES.get(self.plan.network, 'iresnet')}"
        sources = FACES_CODE[self.profile.ladder]
        if self.stage.imported:
            return ("networks.published", network)
        return ("training", *sources, "masks", network, *targets, *objectives)

    @cached_property
    def config(self) -> dict:
        """What decides the model: the plan, the faces, the seed and the runs it builds on."""
        if self.stage.imported:
            return {"weights": self.profile.faces.config()["teacher"], "network": self.plan.network}
        ancestors = {"teacher": self.teacher and self.teacher.key, "parent": self.parent and self.parent.key}
        seeds = {"seed": self.seed, "weights_seed": self.weights_seed, "draws_seed": self.draws_seed}
        return {"plan": self.plan.as_dict(), "faces": self.profile.faces.config("train"), **seeds, **ancestors}

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
        code = fingerprints.code_hash(*EVALUATION_CODE[self.profile.ladder])
        return content_hash({"model": self.key, "config": self.evaluation_config, "code": code})

    @property
    def command(self) -> str:
        """The command that makes this run on its own."""
        extra = f" -p overrides '{', '.join(f'{k}={v}' for k, v in self.overrides.items())}'" if self.overrides else ""
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


def ancestor_files(run: Run) -> list[Path]:
    """Return the files of other runs that ``run`` needs before it can train: its teacher, what it starts from."""
    teacher = [run.teacher.folder / "model.safetensors"] if run.teacher else []
    return list(dict.fromkeys(teacher + ([run.milestone] if run.milestone else [])))


def published(run: Run) -> Path:
    """Return the folder of a run's published numbers."""
    place = results() / run.profile.name / "stages" / run.name / f"seed-{run.seed}"
    return place / run.measured.relative_to(run.folder)


def planned(profile: Profile, seeds: range) -> list[Run]:
    """Return the runs of a study, seed by seed, in the order of the ladder."""
    known = stages_of(profile)
    return [
        Run(profile=profile, stage=known[name], seed=seed, overrides={}) for seed in seeds for name in profile.stages
    ]


TRIAL_SEED = 100
"""Seed of the trials that choose settings: none of a study's own."""

TRIAL_BUDGET = 3200


def trials(profile: Profile) -> list[Run]:
    """Return the runs that choose each stage's learning rate on validation people; the imported teacher stands first.

    Three rates a stage, each at ``TRIAL_BUDGET`` faces. Empty where a profile chooses nothing.
    """
    found = []
    for stage in (stages_of(profile)[name] for name in profile.stages if profile.trial_rates):
        settings = [{}] if stage.imported else [{"learning_rate": rate} for rate in profile.trial_rates]
        for setting in settings:
            overrides = {"budget": TRIAL_BUDGET, **setting} if setting else {}
            found.append(Run(profile=profile, stage=stage, seed=TRIAL_SEED, overrides=overrides))
    return found


def evaluations(run: Run) -> list[Run]:
    """Return ``run`` once for each benchmark of its profile."""
    return [dataclasses.replace(run, benchmark=benchmark) for benchmark in run.profile.benchmarks]


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


def open_profile(*, profile: object, seeds: object = None, benchmark: object = "") -> tuple[Profile, range]:
    """Check what a notebook about a whole profile was given; return the profile and its seeds."""
    _refuse_unknown_parameters({"profile", "seeds", "benchmark"})
    chosen = get_profile(profile)
    checked_benchmark(chosen, benchmark)
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
