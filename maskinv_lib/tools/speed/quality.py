"""Time to quality: how many seconds and faces a candidate for the small network needs to reach an error rate.

Each candidate trains the baseline of the profile ``laptop`` with several budgets, each with its whole schedule, one
after the other until the lowest level is reached. It is judged by the EER of unmasked pairs of validation people; no
test set is opened. Two trainings run side by side with one thread each, as in a study on two cores; their time is that
of the processor, so that other work on the machine hardly changes it.
"""

import dataclasses
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from maskinv_lib.evaluation.metrics import measure
from maskinv_lib.networks import Network, initialised
from maskinv_lib.networks.iresnet import COMPACT, IResNet
from maskinv_lib.networks.templates import NetworkRecogniser
from maskinv_lib.pipeline.sources import benchmark_of, faces_of
from maskinv_lib.study.ablation import BASELINE, RUNGS
from maskinv_lib.study.plan import plan
from maskinv_lib.study.profiles import get_profile
from maskinv_lib.study.recipes import Profile
from maskinv_lib.training.loop import Training
from maskinv_lib.training.views import Views
from maskinv_lib.utils import files, machine

NAME = "quality.csv"

REMEDY = "Make it with: python -m maskinv_lib bench --quality"

LEVELS = (0.05, 0.03, 0.02, 0.01)
"""Equal error rates to reach."""

BUDGETS = (9600, 19_200, 38_400, 76_800)
"""Faces per training; between two of them, the logarithm of the error rate is interpolated over that of the faces."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network, and what it is trained with.

    network: settings of ``IResNet``. people, views: of the training set. The others are those of the schedule.
    """

    name: str
    network: dict
    batch: int = 64
    people: int = 300
    views: int = 20
    learning_rate: float = 0.1
    policy: str = "one-cycle"


EARLIER = {"blocks": (1, 1, 1, 1), "widths": (24, 48, 96, 192), "stem_stride": 2}
"""The earlier small network, whose first layer sees 56 x 56 positions."""

CANDIDATES = (
    Candidate(name="56 x 56, widths 24 to 192 (earlier)", network=EARLIER),
    Candidate(name="28 x 28, widths 32 to 256", network=COMPACT),
    Candidate(name="28 x 28, widths 48 to 384", network={**COMPACT, "widths": (48, 96, 192, 384)}),
    Candidate(name="28 x 28, widths 32 to 256, two units per layer", network={**COMPACT, "blocks": (1, 2, 2, 2)}),
    Candidate(name="28 x 28, widths 32 to 256, batch 32", network=COMPACT, batch=32),
    Candidate(name="28 x 28, widths 32 to 256, batch 128", network=COMPACT, batch=128),
    Candidate(name="28 x 28, widths 32 to 256, rate 0.05", network=COMPACT, learning_rate=0.05),
    Candidate(name="28 x 28, widths 32 to 256, rate in steps", network=COMPACT, policy="steps"),
    Candidate(name="28 x 28, widths 32 to 256, 600 people x 10", network=COMPACT, people=600, views=10),
)


def run_candidates(
    path: Path,
    candidates: Sequence[Candidate] = CANDIDATES,
    budgets: Sequence[int] = BUDGETS,
    *,
    profile: Profile | None = None,
    show: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Train all candidates; return a row per training, also written into the CSV ``path`` whenever a candidate is done.

    Columns: candidate, faces, seconds (of the processor), eer (a fraction). profile: whose validation people judge, or
    None for ``laptop``.
    """
    profile, rows = profile or get_profile("laptop"), []
    for candidate in candidates:
        faces_of(_at_scale(profile, candidate, budgets[0]), "train")  # rendered once, before trainings share the cores
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(machine.usable_cores(), mp_context=context) as pool:
        waiting = {pool.submit(_trained, candidate, budgets, profile) for candidate in candidates}
        for done in as_completed(waiting):
            rows += done.result()
            write(_frame(rows, candidates), path)
            show("\n".join(str(row) for row in done.result()))
    return _frame(rows, candidates)


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write the rows of the trainings as CSV, whole or not at all."""
    files.write_text(path, rows.to_csv(index=False, lineterminator="\n"))


def read(path: Path) -> pd.DataFrame:
    """Return the rows of a file that ``write`` wrote; a missing or another file raises ValueError naming the remedy."""
    columns = ["candidate", "faces", "seconds", "eer"]
    try:
        rows = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}). {REMEDY}") from None
    if (
        rows.empty
        or list(rows) != columns
        or not all(map(pd.api.types.is_numeric_dtype, (rows[c] for c in columns[1:])))
    ):
        raise ValueError(f"{path} is not the table of the candidates, with the columns {', '.join(columns)}. {REMEDY}")
    return rows


def _frame(rows: list[dict], candidates: Sequence[Candidate]) -> pd.DataFrame:
    order = [candidate.name for candidate in candidates]
    return pd.DataFrame(rows).sort_values(
        ["candidate", "faces"], key=lambda of: of.map(lambda value: order.index(value) if value in order else value)
    )


def _at_scale(profile: Profile, candidate: Candidate, budget: int) -> Profile:
    faces = dataclasses.replace(profile.faces, train=candidate.people, train_views=candidate.views)
    schedule = dataclasses.replace(profile.schedule, budget=budget, batch=candidate.batch, policy=candidate.policy)
    return dataclasses.replace(
        profile, faces=faces, schedule=schedule, learning_rates={BASELINE: candidate.learning_rate}
    )


def _trained(candidate: Candidate, budgets: Sequence[int], profile: Profile) -> list[dict]:
    machine.prepare_computing()
    torch.set_num_threads(1)
    rows: list[dict] = []
    for budget in budgets:
        if not rows or rows[-1]["eer"] > LEVELS[-1]:
            rows.append(_one(candidate, _at_scale(profile, candidate, budget)))
    return rows


def _one(candidate: Candidate, profile: Profile) -> dict:
    """Train a candidate with one budget; return the row of the table."""
    setting = plan(RUNGS[BASELINE], profile)
    views = Views(faces=faces_of(profile, "train"), plan=setting, seed=0, device=torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        build = partial(_network, candidate)
        training = Training(setting, views, seed=0, folder=Path(folder), key="time to quality", build=build)
        started = time.process_time()
        training.run()
        seconds = time.process_time() - started
    return {
        "candidate": candidate.name,
        "faces": training.records[-1]["faces"],
        "seconds": round(seconds, 1),
        "eer": round(_unmasked_eer(training.network, profile), 6),
    }


def _network(candidate: Candidate, name: str, embedding_size: int, seed: int) -> Network:
    return initialised(IResNet(name=name, embedding_size=embedding_size, **candidate.network), seed)


def _unmasked_eer(network: Network, profile: Profile) -> float:
    benchmark = benchmark_of(profile, split="validation")
    templates = NetworkRecogniser(network).templates(benchmark.faces.images).numpy()
    _, _, unmasked = next(benchmark.comparisons({"none": templates}))  # the first needs no masked face
    return measure(unmasked)["eer"].value


def times_to_levels(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row per candidate: seconds and faces to each of ``LEVELS``, and its last EER.

    Where the smallest budget already reaches a level, its own numbers stand, an upper bound; a level that no budget
    reached is NaN.
    """
    return pd.DataFrame([_times(name, of) for name, of in rows.groupby("candidate", sort=False)])


def _times(name: str, of: pd.DataFrame) -> dict:
    times: dict[str, object] = {"candidate": name}
    for level in LEVELS:
        faces = _faces_to(level, of["faces"].tolist(), of["eer"].tolist())
        seconds = math.nan if math.isnan(faces) else faces * of["seconds"].sum() / of["faces"].sum()
        times |= {f"seconds to {100 * level:g} %": seconds, f"faces to {100 * level:g} %": faces}
    return {**times, "faces": of["faces"].iloc[-1], "eer": of["eer"].iloc[-1]}


def _faces_to(level: float, faces: list[int], rates: list[float]) -> float:
    for number, rate in enumerate(rates):
        if rate <= level:
            if number == 0:
                return float(faces[0])
            high, low = (math.log(max(value, 1e-6)) for value in rates[number - 1 : number + 1])
            share = (high - math.log(level)) / (high - low)
            return faces[number - 1] * (faces[number] / faces[number - 1]) ** share
    return math.nan
