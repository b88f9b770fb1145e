"""The ladders as data: every stage, and the profiles that scale them. Importable without torch."""

import csv
import dataclasses
import os
import re
import tomllib
from pathlib import Path

from maskinv_lib import checks, places
from maskinv_lib.files import content_hash
from maskinv_lib.populations import MASK_KINDS, PROTOCOLS, Benchmark, RealFaces, RenderedFaces
from maskinv_lib.recipes import PRECISIONS, Profile, Schedule, Stage
from maskinv_lib.stages import BASELINE, LADDER, REAL_LADDER, TEACHER
from maskinv_lib.systems import BESIDE, BESIDE_REAL, OURS, SWEEPS

LADDERS = {
    "rendered": {stage.name: stage for stage in LADDER + BESIDE},
    "real": {stage.name: stage for stage in REAL_LADDER + BESIDE_REAL},
}
"""Ladder -> every stage that its profiles can run, by name: the rungs first, then the systems beside them."""

STAGES = LADDERS["rendered"]

BREADTHS = ("six", "all")
"""How much of the study runs: the ladder's rungs alone, or every system that is compared with them."""


def stages_of(profile: Profile) -> dict[str, Stage]:
    """Return every stage that a profile can run, by name."""
    return LADDERS[profile.ladder]


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
        stages=tuple(stage.name for stage in LADDER),
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
        stages=tuple(stage.name for stage in LADDER),
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
    root = places.data()
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
        stages=tuple(stage.name for stage in REAL_LADDER),
        head={"margin": 0.3, "scale": 32.0},
        ladder="real",
        benchmarks=there,
        absent=tuple(one.name for one in known if one not in there),
        learning_rates=_chosen_rates(people),
        trial_rates=(5e-4, 1e-3, 2e-3),
        head_rates=(0.025, 0.05, 0.1),
        stands_for={BASELINE: TEACHER, "maskinv-lambda3000": "maskinv-hg"},
    )


TOLD_OF_FACES = {
    "training": str,
    "teacher": str,
    "without": list,
    "validation": int,
    "seed": int,
    "skip_bad": bool,
    "contract": str,
}
TOLD = TOLD_OF_FACES | {"network": str, "embedding_size": int, "benchmarks": list}
"""What ``maskinv.toml`` in the data folder may say, each of its kind."""

TAKEN = ("tables", "figures", "keys", "logs")
"""Folders of a study, which no benchmark may be called."""


def _told(path: Path) -> dict:
    """Return what a data folder says of itself; a name or value that cannot be raises ValueError."""
    if not path.exists():
        return {}
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}. Mend that line.") from None
    for name, value in told.items():
        kind = TOLD[checks.choose(f"name in {path}", name, TOLD)]
        if type(value) is not kind:
            raise ValueError(f"{path}: {name} must be {_KINDS[kind]}, not {value!r}.")
    if "without" in told:
        told["without"] = tuple(checks.whole_number(f"{path}: a label of without", one) for one in told["without"])
    if "benchmarks" in told:
        told["benchmarks"] = tuple(_benchmark(path, one) for one in told["benchmarks"])
        names = [one.name for one in told["benchmarks"]]
        if len(set(names)) < len(names) or not names:
            raise ValueError(f"{path}: benchmarks must be one or more, each with a name of its own, not {names}.")
    return told


_KINDS = {str: "a text", int: "a whole number", bool: "true or false", list: "a list"}


def _benchmark(path: Path, told: object) -> Benchmark:
    """Return a benchmark as ``maskinv.toml`` describes it: name and path, and where wanted protocol and kinds."""
    fields = [field.name for field in dataclasses.fields(Benchmark)]
    if not isinstance(told, dict) or not {"name", "path"} <= set(told):
        raise ValueError(f'{path}: a benchmark is {{name = "lfw", path = "lfw.bin"}}, not {told!r}.')
    for name in told:
        checks.choose(f"name of a benchmark's value in {path}", name, fields)
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", str(told["name"])) or told["name"] in TAKEN:
        raise ValueError(f"{path}: a benchmark cannot be called {told['name']!r}: use letters, digits and hyphens.")
    checks.choose(f"protocol in {path}", told.get("protocol", "all-pairs"), PROTOCOLS)
    if type(told.get("beside", True)) is not bool:
        raise ValueError(f"{path}: beside must be true or false, not {told['beside']!r}.")
    kinds = tuple(checks.choose(f"kinds in {path}", kind, MASK_KINDS) for kind in told.get("kinds", MASK_KINDS))
    return Benchmark(**{**told, "kinds": kinds})


def choices_file(of: RenderedFaces | RealFaces) -> Path:
    """Return the file of the settings tried on a data set's validation people, and which of them were chosen.

    Each training set, and each teacher of real people, has its own: what suits one need not suit another.
    """
    kind = "real" if isinstance(of, RealFaces) else "rendered"
    decides = of.config("train") if kind == "real" else of.config("train", "validation")
    return places.root() / "workflow" / "choices" / f"{kind}-{content_hash(decides)[:8]}.csv"


def _choices(of: RenderedFaces | RealFaces) -> list[dict[str, str]]:
    path = choices_file(of)
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["chosen"] == "yes"]


def _chosen_rates(of: RenderedFaces | RealFaces) -> dict[str, float]:
    """Return stage -> the learning rate that was chosen for it; empty before any choice."""
    return {row["stage"]: float(row["learning_rate"]) for row in _choices(of)}


def best_candidate(of: RenderedFaces | RealFaces) -> str | None:
    """Return which of our own candidates did best on validation people, masked in unseen kinds; None before any choice.

    It alone is tested; the others are only listed in the file of the choices.
    """
    own = {stage.name for stage in OURS}
    tried = [row for row in _choices(of) if row["stage"] in own]
    masked = ("eer masked-unmasked", "eer masked-masked")
    return min(tried, key=lambda row: sum(float(row[name]) for name in masked))["stage"] if tried else None


PROFILES = {"smoke": _smoke, "laptop": _laptop, "gpu": _gpu, "real": _real}


def get_profile(name: object, ladder: object = "six") -> Profile:
    """Return the profile called ``name``; an unknown one raises ValueError with the nearest known name.

    ladder: "six" is the published ablation; "all" adds every system beside it, of our own candidates the one that was
    chosen, and the sweeps where people are rendered. The setting MASKINV_PRECISION (auto, fp32 or bf16) replaces the
    profile's precision.
    """
    found = PROFILES[checks.choose("profile", name, PROFILES)]()
    precision = os.environ.get("MASKINV_PRECISION") or found.precision
    found = dataclasses.replace(found, precision=checks.choose("MASKINV_PRECISION", precision, PRECISIONS))
    return found if checks.choose("ladder", ladder, BREADTHS) == "six" else _widened(found)


def _widened(profile: Profile) -> Profile:
    own = best_candidate(profile.faces)
    beside = [stage for stage in stages_of(profile).values() if stage.name not in profile.stages]
    few = [stage.name for stage in beside if stage.question not in ("ladder", "ingredient", "own")]
    sweeps = SWEEPS if profile.ladder == "rendered" else ()
    benchmarks = profile.benchmarks
    if not any(one.beside for one in benchmarks):
        benchmarks = tuple(dataclasses.replace(one, beside=True) for one in benchmarks)
    few = (*few, *([own] if own else []))
    return dataclasses.replace(profile, few=few, sweeps=sweeps, benchmarks=benchmarks, breadth="all")


def tried(profile: Profile) -> list[Stage]:
    """Return the stages whose settings are chosen on validation people: all that train, but for those tuned as others.

    Of a widened profile also the systems beside the ladder, all of our own candidates among them.
    """
    beside = [stage.name for stage in stages_of(profile).values() if stage.question != "ladder"]
    names = (*profile.stages, *(beside if profile.breadth == "all" else ()))
    stages = (stages_of(profile)[name] for name in names)
    return [stage for stage in stages if not (stage.tuned_as or stage.parts or stage.imported)]


def unchosen(profile: Profile) -> list[str]:
    """Return the stages of a profile that still wait for a choice of their settings before they may be tested.

    Where the six rungs of rendered people run without one, they have the profile's own rate, the same for all.
    """
    if not profile.trial_rates or (profile.breadth == "six" and profile.ladder == "rendered"):
        return []
    return [stage.name for stage in tried(profile) if stage.name not in profile.learning_rates]


def seed_range(of: Profile, count: object = None) -> range:
    """Return the seeds of a study: 0, 1, ... as many as ``count`` says, or as the profile does."""
    return range(of.seeds if count is None else checks.whole_number("seeds", count, minimum=1))


def caveat(profile: Profile) -> str:
    """Return in words what a profile's results cannot say."""
    if profile.ladder == "rendered":
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
