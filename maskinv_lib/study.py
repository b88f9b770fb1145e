"""The study as data: the ladder of stages, the profiles that scale it, and the folder and key of every run.

Importable without torch, because the workflow reads it at the start of every job.
"""

import ast
import dataclasses
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from maskinv_lib import checks, fingerprints
from maskinv_lib.files import content_hash
from maskinv_lib.recipes import (
    PRECISIONS,
    Plan,
    Profile,
    RenderedFaces,
    Schedule,
    Stage,
    Start,
    Term,
    check,
    override,
    parse_overrides,
    plan,
)

ELASTIC = Term(objective="margins.ElasticFaceArc", settings={"deviation": 0.05})


def _guided(strength: float) -> Term:
    return Term(objective="template_kd.TemplateKD", settings={"lambda_": strength})


BASELINE = "elasticface-arc"

LADDER = (
    Stage(
        name=BASELINE,
        title="ElasticFace-Arc",
        idea="The baseline and every student's teacher: a margin loss on clean faces.",
        objectives=(ELASTIC,),
    ),
    Stage(
        name="elasticface-arc-aug",
        title="ElasticFace-Arc-Aug",
        idea="The same loss, but half of the faces wear a drawn mask.",
        objectives=(ELASTIC,),
        mask_probability=0.5,
    ),
    Stage(
        name="kd-only",
        title="KD only",
        idea="No margin loss: the student only imitates the teacher's template of the clean face.",
        objectives=(_guided(3000.0),),
        mask_probability=0.5,
        teacher=BASELINE,
    ),
    Stage(
        name="maskinv-lg",
        title="MaskInv-LG",
        idea="Margin loss and template distillation with low guidance, lambda 100, from random weights.",
        objectives=(ELASTIC, _guided(100.0)),
        mask_probability=0.5,
        teacher=BASELINE,
        milestones=(20 / 26,),
    ),
    Stage(
        name="maskinv-lambda3000",
        title="MaskInv, lambda 3000",
        idea="High guidance, lambda 3000, from random weights: tells guidance from the start that HG also changes.",
        objectives=(ELASTIC, _guided(3000.0)),
        mask_probability=0.5,
        teacher=BASELINE,
    ),
    Stage(
        name="maskinv-hg",
        title="MaskInv-HG",
        idea="High guidance, lambda 3000, from MaskInv-LG's backbone at 20/26 of its schedule, with a fresh head.",
        objectives=(ELASTIC, _guided(3000.0)),
        mask_probability=0.5,
        teacher=BASELINE,
        start=Start(stage="maskinv-lg", at=20 / 26),
        share=6 / 26,
    ),
)
"""The six rungs of the published step-wise ablation, with the crossed rung that it lacks (Huber et al., FG 2021)."""

STAGES = {stage.name: stage for stage in LADDER}


RENDERING = {"pose": 1.4, "light": 1.4, "expression": 1.4, "hair": 1.4, "degradation": 1.4, "jitter": 1.4}
"""How hard the rendered faces are. Chosen on validation people with the baseline alone, before any student."""


def _smoke() -> Profile:
    return Profile(
        name="smoke",
        idea="Two rungs in about a minute: shows that everything runs, says nothing about the method.",
        faces=RenderedFaces(
            train=24, train_views=8, validation=20, validation_views=4, test=24, test_views=8, rendering=RENDERING
        ),
        network="compact",
        embedding_size=64,
        schedule=Schedule(budget=1920, batch=32),
        stages=(BASELINE, "elasticface-arc-aug"),
        head={"margin": 0.3, "scale": 32.0},
    )


def _laptop() -> Profile:
    return Profile(
        name="laptop",
        idea="The whole ladder on rendered faces, sized for two CPU cores and a quarter of an hour a seed.",
        faces=RenderedFaces(rendering=RENDERING),
        network="compact",
        embedding_size=128,
        schedule=Schedule(budget=19_200),
        stages=tuple(STAGES),
        head={"margin": 0.3, "scale": 32.0},
    )


def _gpu() -> Profile:
    return Profile(
        name="gpu",
        idea="The ladder on rendered faces at the scale of one GPU.",
        faces=RenderedFaces(train=4000, train_views=24, validation=200, test=600, rendering=RENDERING),
        network="iresnet18",
        embedding_size=512,
        schedule=Schedule(budget=1_536_000, batch=256, learning_rate=0.1),
        stages=tuple(STAGES),
        head={"margin": 0.5, "scale": 64.0},
        seeds=3,
        threads=4,
        gpus=1,
    )


PROFILES = {"smoke": _smoke, "laptop": _laptop, "gpu": _gpu}


def get_profile(name: object) -> Profile:
    """Return the profile called ``name``; an unknown one raises ValueError with the nearest known name.

    The setting MASKINV_PRECISION (auto, fp32 or bf16) replaces the profile's precision.
    """
    found = PROFILES[checks.choose("profile", name, PROFILES)]()
    precision = os.environ.get("MASKINV_PRECISION") or found.precision
    return dataclasses.replace(found, precision=checks.choose("MASKINV_PRECISION", precision, PRECISIONS))


def seed_range(of: Profile, count: object = None) -> range:
    """Return the seeds of a study: 0, 1, ... as many as ``count`` says, or as the profile does."""
    return range(of.seeds if count is None else checks.whole_number("seeds", count, minimum=1))


def root() -> Path:
    """Return the project's folder: the setting MASKINV_ROOT, else the checkout that holds this library.

    A library installed elsewhere takes the nearest folder with a pyproject.toml at or above the working directory.
    """
    if setting := os.environ.get("MASKINV_ROOT"):
        return Path(setting).resolve()
    here = Path.cwd()
    for folder in (Path(__file__).resolve().parents[1], here, *here.parents):
        if (folder / "pyproject.toml").exists():
            return folder
    raise FileNotFoundError(f"No pyproject.toml in {here} or above. Start in the project, or set MASKINV_ROOT.")


def runs() -> Path:
    """Return the folder for everything that runs write: the setting MASKINV_RUNS, else ``runs`` in the project."""
    return Path(os.environ.get("MASKINV_RUNS") or root() / "runs").resolve()


def results() -> Path:
    """Return the folder of published results: the setting MASKINV_RESULTS, else ``results`` in the project."""
    return Path(os.environ.get("MASKINV_RESULTS") or root() / "results").resolve()


def checked_stage(name: object) -> Stage:
    """Return the stage called ``name``; an unknown one raises ValueError with the nearest known name."""
    return STAGES[checks.choose("stage", name, STAGES)]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One stage, trained with one seed at the scale of one profile, perhaps with overrides: its folder and key."""

    profile: Profile
    stage: Stage
    seed: int
    overrides: dict

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
        return self.seed if self.stage.start is None else self.weights_seed

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
        return Run(profile=self.profile, stage=STAGES[stage], seed=self.seed, overrides={})

    @property
    def milestone(self) -> Path | None:
        """The file that this run starts from."""
        return milestone(self.parent, self.stage.start.at) if self.stage.start else None

    @property
    def train_code(self) -> tuple[str, ...]:
        """The modules that decide this run's training."""
        objectives = sorted({f"objectives.{term.objective.partition('.')[0]}" for term in self.plan.objectives})
        targets = ("templates",) if self.stage.teacher else ()
        return ("training", "faces.synthetic", "masks", "networks.iresnet", *targets, *objectives)

    @cached_property
    def config(self) -> dict:
        """What decides the model: the plan, the faces, the seed and the runs it builds on."""
        faces = dataclasses.asdict(self.profile.faces)
        train = {name: faces[name] for name in ("seed", "train", "train_views", "rendering")}
        ancestors = {"teacher": self.teacher and self.teacher.key, "parent": self.parent and self.parent.key}
        seeds = {"seed": self.seed, "weights_seed": self.weights_seed, "draws_seed": self.draws_seed}
        return {"plan": self.plan.as_dict(), "faces": train, **seeds, **ancestors}

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits that stand for the model: its configuration and the code that trains it."""
        return content_hash({"config": self.config, "code": fingerprints.code_hash(*self.train_code)})

    @property
    def evaluation_config(self) -> dict:
        """What decides the evaluation beside the model: the test people and the number of resamples."""
        faces = dataclasses.asdict(self.profile.faces)
        test = {name: faces[name] for name in ("seed", "test", "test_views", "rendering")}
        return {"faces": test, "resamples": self.profile.resamples}

    @property
    def evaluation_key(self) -> str:
        """16 hexadecimal digits that stand for this run's measured results."""
        code = fingerprints.code_hash(*EVALUATION_CODE)
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


EVALUATION_CODE = ("benchmarks.rendered", "evaluation", "templates")
"""The modules that decide what an evaluation measures."""


def milestone(run: Run, at: float) -> Path:
    """Return the file in which ``run`` keeps its backbone at the share ``at`` of its schedule."""
    return run.folder / f"milestone-{at:.4f}.safetensors"


def ancestor_files(run: Run) -> list[Path]:
    """Return the files of other runs that ``run`` needs before it can train: its teacher, what it starts from."""
    teacher = [run.teacher.folder / "model.safetensors"] if run.teacher else []
    return teacher + ([run.milestone] if run.milestone else [])


def published(run: Run) -> Path:
    """Return the folder of a run's published numbers."""
    return results() / run.profile.name / "stages" / run.name / f"seed-{run.seed}"


def planned(profile: Profile, seeds: range) -> list[Run]:
    """Return the runs of a study, seed by seed, in the order of the ladder."""
    return [
        Run(profile=profile, stage=STAGES[name], seed=seed, overrides={}) for seed in seeds for name in profile.stages
    ]


def open_run(*, profile: object, stage: object, seed: object, overrides: object = "") -> Run:
    """Check what a notebook was given and return the run it names. Nothing is written.

    Inside a notebook, a parameter that papermill handed over but this function does not know is an error too:
    papermill itself only warns about it.
    """
    _refuse_unknown_parameters({"profile", "stage", "seed", "overrides"})
    chosen = get_profile(profile)
    known = checked_stage(stage)
    found = Run(
        profile=chosen,
        stage=known,
        seed=checks.whole_number("seed", seed),
        overrides=parse_overrides(overrides),
    )
    assert found.plan  # raises for an override that does not fit
    return found


def open_profile(*, profile: object, seeds: object = None) -> tuple[Profile, range]:
    """Check what a notebook about a whole profile was given; return the profile and its seeds."""
    _refuse_unknown_parameters({"profile", "seeds"})
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
