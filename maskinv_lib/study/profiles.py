"""The ladders as data: every stage, and the profiles that scale them. Importable without torch."""

import dataclasses
import os

from maskinv_lib.study.ablation import ABLATION, BASELINE, REAL_ABLATION, TEACHER
from maskinv_lib.study.choices import _chosen_rates, best_candidate
from maskinv_lib.study.data import Benchmark, RealFaces, RenderedFaces
from maskinv_lib.study.data_folder import TOLD_OF_FACES, _told
from maskinv_lib.study.methods import METHODS, REAL_METHODS, SWEEPS
from maskinv_lib.study.recipes import PRECISIONS, Profile, Schedule, Stage
from maskinv_lib.utils import checks, paths

STAGES_BY_PEOPLE = {
    "rendered": {stage.name: stage for stage in ABLATION + METHODS},
    "real": {stage.name: stage for stage in REAL_ABLATION + REAL_METHODS},
}
"""Ladder -> every stage that its profiles can run, by name: the rungs first, then the systems beside them."""

STAGES = STAGES_BY_PEOPLE["rendered"]

SCOPES = ("ablation", "all")
"""How much of the study runs: the ladder's rungs alone, or every system that is compared with them."""


def known_stages(profile: Profile) -> dict[str, Stage]:
    """Return every stage that a profile can run, by name."""
    return STAGES_BY_PEOPLE[profile.people]


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
    faces = RenderedFaces(rendering=RENDERING)
    return Profile(
        name="laptop",
        idea="The whole ladder on rendered faces, sized for two CPU cores and a quarter of an hour a seed.",
        faces=faces,
        network="compact",
        embedding_size=128,
        schedule=Schedule(budget=19_200),
        stages=tuple(stage.name for stage in ABLATION),
        head={"margin": 0.3, "scale": 32.0},
        few_seeds=5,
        learning_rates=_chosen_rates(faces),
        trial_rates=(0.025, 0.05, 0.1),
        trial_budget=6400,
    )


def _gpu() -> Profile:
    return Profile(
        name="gpu",
        idea="The ladder on rendered faces at the scale of one GPU.",
        faces=RenderedFaces(train=4000, train_views=24, validation=200, test=600, rendering=RENDERING),
        network="iresnet18",
        embedding_size=512,
        schedule=Schedule(budget=1_536_000, batch=256, learning_rate=0.1),
        stages=tuple(stage.name for stage in ABLATION),
        head={"margin": 0.5, "scale": 64.0},
        seeds=5,
        threads=4,
        gpus=1,
    )


BENCHMARKS = (
    Benchmark(name="mfr2", path="faces/mfr2"),
    Benchmark(name="mfr2-official", path="faces/mfr2", protocol="official"),
    Benchmark(name="rmfrd", path="faces/rmfrd"),
    Benchmark(name="lfw", path="faces/lfw.bin", kinds=("unseen",), beside=False),
    Benchmark(name="cfp-fp", path="faces/cfp_fp.bin", kinds=("unseen",), beside=False),
    Benchmark(name="agedb-30", path="faces/agedb_30.bin", beside=False),
    Benchmark(name="calfw", path="faces/calfw.bin", beside=False),
    Benchmark(name="cplfw", path="faces/cplfw.bin", beside=False),
)
"""Real masks on MFR2 and RMFRD; drawn ones on the five sets of InsightFace packages that the paper uses.

LFW and CFP-FP get unseen kinds alone: the seen ones decide nothing, and cost hours of processor time a study. For the
same reason drawn masks judge the rungs alone; the systems beside the ladder meet the real ones.
"""

LOOKALIKES = (13, 46, 66, 169, 234, 238)
"""Labels of the default training set whose people look like people of CFP-FP."""


def _real() -> Profile:
    root = paths.data()
    told = _told(root / "maskinv.toml") if root else {}
    faces = {"training": "faces/celeba_subset", "teacher": "models/mobilefacenet_y1.safetensors"}
    faces |= {} if "training" in told else {"without": LOOKALIKES}
    faces |= {name: value for name, value in told.items() if name in TOLD_OF_FACES}
    people = RealFaces(root=root, **faces)
    known = told.get("benchmarks", BENCHMARKS)
    there = tuple(one for one in known if root is None or (root / one.path).exists())
    if not there:
        looked = ", ".join(one.path for one in known)
        raise FileNotFoundError(f"No benchmark in the data folder {root}. Put one of these there: {looked}.")
    return Profile(
        name="real",
        idea="Real people in real and in drawn masks: students of a published network, fine-tuned on few identities.",
        faces=people,
        network=told.get("network", "mobilefacenet"),
        embedding_size=told.get("embedding_size", 128),
        schedule=Schedule(budget=12_800, optimizer="adamw", learning_rate=1e-3, weight_decay=0.01),
        stages=tuple(stage.name for stage in REAL_ABLATION),
        head={"margin": 0.3, "scale": 32.0},
        people="real",
        benchmarks=there,
        absent=tuple(one.name for one in known if one not in there),
        learning_rates=_chosen_rates(people),
        trial_rates=(5e-4, 1e-3, 2e-3),
        head_rates=(0.025, 0.05, 0.1),
        stands_for={BASELINE: TEACHER, "maskinv-lambda3000": "maskinv-hg"},
    )


PROFILES = {"smoke": _smoke, "laptop": _laptop, "gpu": _gpu, "real": _real}


def get_profile(name: object, scope: object = "ablation") -> Profile:
    """Return the profile called ``name``; an unknown one raises ValueError with the nearest known name.

    scope: "ablation" is the published ablation; "all" adds every other method, of our own candidates the one that was
    chosen, and the sweeps where people are rendered. The setting MASKINV_PRECISION (auto, fp32 or bf16) replaces the
    profile's precision.
    """
    found = PROFILES[checks.choose("profile", name, PROFILES)]()
    precision = os.environ.get("MASKINV_PRECISION") or found.precision
    found = dataclasses.replace(found, precision=checks.choose("MASKINV_PRECISION", precision, PRECISIONS))
    return found if checks.choose("scope", scope, SCOPES) == "ablation" else _widened(found)


def _widened(profile: Profile) -> Profile:
    own = best_candidate(profile.faces)
    beside = [stage for stage in known_stages(profile).values() if stage.name not in profile.stages]
    few = [stage.name for stage in beside if stage.question not in ("ablation", "ingredient", "own")]
    sweeps = SWEEPS if profile.people == "rendered" else ()
    benchmarks = profile.benchmarks
    if not any(one.beside for one in benchmarks):
        benchmarks = tuple(dataclasses.replace(one, beside=True) for one in benchmarks)
    few = (*few, *([own] if own else []))
    return dataclasses.replace(profile, few=few, sweeps=sweeps, benchmarks=benchmarks, scope="all")


def seed_range(of: Profile, count: object = None) -> range:
    """Return the seeds of a study: 0, 1, ... as many as ``count`` says, or as the profile does."""
    return range(of.seeds if count is None else checks.whole_number("seeds", count, minimum=1))


def caveat(profile: Profile) -> str:
    """Return in words what a profile's results cannot say."""
    if profile.people == "rendered":
        return (
            "These are rendered people and drawn masks: the study shows what the method does under conditions that are"
            " fully known, not how well it works on photographs."
        )
    teacher = profile.faces.config()["teacher"]
    known = "" if teacher == "missing" else f" The SHA-256 of the teacher's file begins with {teacher}."
    absent = f" Not at hand when this ran: {', '.join(profile.absent)}." if profile.absent else ""
    return (
        "Every student starts from one published network, and every interval is conditional on it. That teacher was"
        " trained by others, probably on many of these people too: on the people of the training, the validation *and*"
        " the test sets. Only the students' own training identities are kept apart from the test sets. MaskInv-LG and"
        f" MaskInv-HG differ in lambda alone here.{known}{absent}"
    )
