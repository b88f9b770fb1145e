"""How the cost grows with the size: four sizes of each kind, and the exponent of the power law that fits them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from maskinv_lib.networks import build_network
from maskinv_lib.networks.templates import NetworkRecogniser
from maskinv_lib.study import jobs
from maskinv_lib.study.profiles import get_profile
from maskinv_lib.study.runs import find_stage, planned_runs
from maskinv_lib.tools.speed import all_pairs, networks
from maskinv_lib.tools.speed.faces import VIEWS, render
from maskinv_lib.tools.speed.measuring import Row, seconds_row
from maskinv_lib.tools.speed.tasks import SEED, Setting, Task, in_words, threads, variables

GROUP = "growth"
EXPONENT = "exponent"
"""The unit of the rows with a fitted exponent."""


@dataclass(frozen=True, kw_only=True)
class Grown:
    """One kind of growth. what: its name; of: what is counted. sizes: four counts. prepare: count -> the work."""

    what: str
    of: str
    sizes: Sequence[int]
    prepare: Callable[[int], Callable[[], object]]


def tasks(setting: Setting) -> list[Task]:
    """Return the measurements of this module."""
    kinds = _kinds(setting)
    return [Task(group=GROUP, name=kind.what, run=partial(grown, setting, kind)) for kind in kinds]


def _kinds(setting: Setting) -> list[Grown]:
    sizes = setting.sizes
    recogniser = NetworkRecogniser(build_network("compact", seed=SEED))
    counts = [all_pairs.pairs(count) for count in sizes.grown_templates]
    by_pairs = dict(zip(counts, sizes.grown_templates, strict=True))

    def embedding(count: int) -> Callable[[], object]:
        return partial(recogniser.templates, setting.faces.images[torch.arange(count) % len(setting.faces)])

    def head(count: int) -> Callable[[], object]:
        embeddings = networks.random_embeddings(sizes.head_batch, 128, torch.device("cpu"))
        return partial(networks.head_step, networks.head_of(count, 128, embeddings.device), embeddings)

    def metrics(count: int) -> Callable[[], object]:
        return partial(all_pairs.measured, *all_pairs.random_templates(by_pairs[count], 128))

    faces = sizes.grown_faces
    return [
        Grown(what="rendering", of="faces", sizes=faces, prepare=lambda count: partial(render, count // VIEWS)),
        Grown(what="templates", of="faces", sizes=faces, prepare=embedding),
        Grown(what="head", of="people", sizes=sizes.grown_identities, prepare=head),
        Grown(what="all-pairs metrics", of="comparisons", sizes=counts, prepare=metrics),
        Grown(what="preparing a study", of="stages", sizes=sizes.grown_stages, prepare=partial(study, setting)),
    ]


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the exponent k of the power law, seconds = c * size^k, that fits best in the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def grown(setting: Setting, kind: Grown) -> list[Row]:
    """Return the seconds at each size, with one thread, and the exponent."""
    rows = []
    with threads(1):
        for size in kind.sizes:
            measured = setting.measure(kind.prepare(size))
            name = f"{kind.what}, {size:,} {kind.of}, {in_words(1)}"
            rows.append(seconds_row(measured, group=GROUP, name=name))
    power = exponent(kind.sizes, [row.value for row in rows])
    against = f"of the {kind.of}: 1 means twice the time for twice as many"
    fitted = Row(group=GROUP, name=kind.what, value=power, unit=EXPONENT, repeats=len(rows), against=against)
    return [*rows, fitted]


# Preparing a study


def study(setting: Setting, count: int) -> Callable[[], object]:
    """Return a function that finds out which jobs of a study of ``count`` stages must run; it runs none."""
    profile = get_profile("laptop")
    names = get_profile("laptop", "all").methods
    stages = [find_stage(name, profile).name for name in names if not find_stage(name, profile).parts][:count]
    if len(stages) < count:
        raise ValueError(f"The profile laptop has {len(stages)} stages, fewer than {count}: choose smaller sizes.")

    def prepare() -> None:
        runs = [run for run in planned_runs(get_profile("laptop", "all"), range(1)) if run.name in stages]
        with variables(MASKINV_RUNS=str(setting.folder / f"study-{count}")):
            jobs.prepare(get_profile("laptop"), runs)

    return prepare
