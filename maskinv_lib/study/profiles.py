"""The profiles: the scale, faces and benchmarks with which the stages run. Read without torch."""

import dataclasses
import os

from maskinv_lib.study.ablation import ABLATION, BASELINE, REAL_ABLATION, TEACHER, TWINS
from maskinv_lib.study.choices import best_candidate, chosen_rates, common_rate
from maskinv_lib.study.data import Benchmark, RealFaces, RenderedFaces
from maskinv_lib.study.data_folder import FACES_SETTINGS, read_settings
from maskinv_lib.study.methods import CLAIMED, METHODS, REAL_METHODS, SWEEPS
from maskinv_lib.study.recipes import ALLOWED, Profile, Schedule, Stage
from maskinv_lib.utils import checks, paths

STAGES_BY_PEOPLE = {
    "rendered": {stage.name: stage for stage in ABLATION + METHODS},
    "real": {stage.name: stage for stage in REAL_ABLATION + REAL_METHODS},
}
"""Kind of people -> every stage that a profile with them can run, by name: the rungs first, then the other methods."""

STAGES = STAGES_BY_PEOPLE["rendered"]

SCOPES = ("ablation", "all")
"""Which methods a study runs: the rungs of the ablation alone, or all other methods too."""


def known_stages(profile: Profile) -> dict[str, Stage]:
    """Return every stage that a profile can run, by name."""
    return STAGES_BY_PEOPLE[profile.faces.people]


RENDERING = {"pose": 1.2, "light": 1.2, "expression": 1.2, "hair": 1.2, "degradation": 1.2, "jitter": 1.2}
"""How strongly the rendered faces vary. Chosen on validation people with the baseline alone, before any student."""


def _smoke() -> Profile:
    sizes = dict(train=24, train_views=8, validation=20, validation_views=4, test=24, test_views=8)
    return Profile(
        name="smoke",
        idea="Two rungs in about a minute: shows that everything runs, but its numbers have no meaning.",
        faces=RenderedFaces(seed=1, rendering=RENDERING, **sizes),  # no test person of another profile is opened
        network="compact",
        embedding_size=64,
        schedule=Schedule(budget=1920, batch=32),
        stages=(BASELINE, "elasticface-arc-aug"),
        head={"margin": 0.3, "scale": 32.0},
    )


def _laptop() -> Profile:
    faces = RenderedFaces(test=400, rendering=RENDERING)
    return Profile(
        name="laptop",
        idea="The whole ablation on rendered faces, sized for two CPU cores and a quarter of an hour a seed.",
        faces=faces,
        network="compact",
        embedding_size=128,
        schedule=Schedule(budget=33_984, batch=32, learning_rate=common_rate(faces, 0.1)),
        stages=(*(stage.name for stage in ABLATION + TWINS), *CLAIMED),
        head={"margin": 0.3, "scale": 32.0},
        trial_rates=(0.05, 0.1, 0.2, 0.4),
        one_rate=True,
    )


def _desk() -> Profile:
    laptop = _laptop()
    return dataclasses.replace(
        laptop,
        name="desk",
        idea="The ablation on rendered faces with six times the faces of laptop, for recognisers that make few errors.",
        faces=dataclasses.replace(laptop.faces, train=2000, train_views=24, validation=200, test=600),
        schedule=dataclasses.replace(laptop.schedule, budget=6 * laptop.schedule.budget),
        seeds=5,
        trial_rates=(),  # its learning rate is the one chosen for laptop
    )


BENCHMARKS = (
    Benchmark(name="mfr2", path="faces/mfr2"),
    Benchmark(name="mfr2-official", path="faces/mfr2", protocol="official"),
    Benchmark(name="rmfrd", path="faces/rmfrd"),
    Benchmark(name="lfw", path="faces/lfw.bin", kinds=("unseen",), all_methods=False),
    Benchmark(name="cfp-fp", path="faces/cfp_fp.bin", kinds=("unseen",), all_methods=False),
    Benchmark(name="agedb-30", path="faces/agedb_30.bin", all_methods=False),
    Benchmark(name="calfw", path="faces/calfw.bin", all_methods=False),
    Benchmark(name="cplfw", path="faces/cplfw.bin", all_methods=False),
)
"""Real masks on MFR2 and RMFRD; drawn ones on the five sets from InsightFace packages that the paper uses.

LFW and CFP-FP are tested with unseen mask kinds alone: no claim depends on the seen ones, and they cost hours of
processor time per study. For the same reason only the rungs are tested with drawn masks; the other methods are tested
on real masks.
"""

LOOKALIKES = (13, 46, 66, 169, 234, 238)
"""Labels of the default training set whose people look like people of CFP-FP."""


def _real() -> Profile:
    root = paths.data()
    settings = read_settings(root / "maskinv.toml") if root else {}
    faces = {"training": "faces/celeba_subset", "teacher": "models/mobilefacenet_y1.safetensors"}
    faces |= {} if "training" in settings else {"without": LOOKALIKES}
    faces |= {name: value for name, value in settings.items() if name in FACES_SETTINGS}
    people = RealFaces(root=root, **faces)
    benchmarks = settings.get("benchmarks", BENCHMARKS)
    present = tuple(benchmark for benchmark in benchmarks if root is None or (root / benchmark.path).exists())
    if not present:
        names = ", ".join(benchmark.path for benchmark in benchmarks)
        raise FileNotFoundError(f"No benchmark in the data folder {root}. Put one of these there: {names}.")
    scale = {"budget": settings.get("budget", 12_800), "batch": settings.get("batch", 64)}
    return Profile(
        name="real",
        idea="Real people in real and in drawn masks: students of a published network, fine-tuned on few identities.",
        faces=people,
        network=settings.get("network", "mobilefacenet"),
        embedding_size=settings.get("embedding_size", 128),
        schedule=Schedule(**scale, optimizer="adamw", learning_rate=1e-3, weight_decay=0.01),
        stages=tuple(stage.name for stage in REAL_ABLATION),
        seeds=settings.get("seeds", 1),
        head={"margin": 0.3, "scale": 32.0},
        benchmarks=present,
        absent=tuple(benchmark.name for benchmark in benchmarks if benchmark not in present),
        learning_rates=chosen_rates(people),
        trial_rates=(5e-4, 1e-3, 2e-3),
        head_rates=(0.025, 0.05, 0.1),
        stands_for={
            BASELINE: TEACHER,
            "maskinv-lambda3000": "maskinv-hg",
            "maskinv-lambda100-continued": "maskinv-lg",
            "maskinv-lambda0-continued": "elasticface-arc-aug",
        },
    )


def _real_smoke() -> Profile:
    real = _real()
    small = {"budget": min(real.schedule.budget, 640), "batch": min(real.schedule.batch, 32)}
    return dataclasses.replace(
        real,
        name="real-smoke",
        idea="The profile real in minutes: shows that one's own data run, but its numbers have no meaning.",
        schedule=dataclasses.replace(real.schedule, **small),
        benchmarks=tuple(dataclasses.replace(one, kinds=one.kinds[-1:]) for one in real.benchmarks),
        seeds=1,
        learning_rates={},
        trial_rates=(),
        head_rates=(),
    )


PROFILES = {"smoke": _smoke, "laptop": _laptop, "desk": _desk, "real": _real, "real-smoke": _real_smoke}


VARIABLES = {"MASKINV_PRECISION": "precision", "MASKINV_COMPILE": "compiled"}
"""Environment variable -> the setting of a profile that it replaces."""


def get_profile(name: object, scope: object = "ablation") -> Profile:
    """Return the profile called ``name``; an unknown one raises ValueError with the most similar known name.

    A profile is opened again by its name, so that a notebook's cell can run twice.
    scope: "ablation" is the published ablation; "all" adds every other method (of our own candidates only the chosen
    one), and for rendered people the sweeps. The environment variables ``VARIABLES`` replace a profile's settings.
    """
    name = name.name if isinstance(name, Profile) else name
    profile = PROFILES[checks.choose("profile", name, PROFILES)]()
    for variable, setting in VARIABLES.items():
        value = os.environ.get(variable) or getattr(profile, setting)
        profile = dataclasses.replace(profile, **{setting: checks.choose(variable, value, ALLOWED[setting])})
    return profile if checks.choose("scope", scope, SCOPES) == "ablation" else _with_other_methods(profile)


def _with_other_methods(profile: Profile) -> Profile:
    candidate = best_candidate(profile.faces)
    stages = known_stages(profile).values()
    others = [stage.name for stage in stages if stage.question not in ("ablation", "ingredient", "own")]
    others = [name for name in others if name not in profile.stages]
    others += [candidate] if candidate else []
    benchmarks = profile.benchmarks
    if not any(benchmark.all_methods for benchmark in benchmarks):
        benchmarks = tuple(dataclasses.replace(benchmark, all_methods=True) for benchmark in benchmarks)
    sweeps = SWEEPS[profile.faces.people]
    return dataclasses.replace(profile, others=tuple(others), sweeps=sweeps, benchmarks=benchmarks, scope="all")


def seed_range(profile: Profile, count: object = None) -> range:
    """Return the seeds of a study: 0, 1, ... as many as ``count`` says, or as the profile does."""
    return range(profile.seeds if count is None else checks.whole_number("seeds", count, minimum=1))
