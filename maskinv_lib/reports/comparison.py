"""A study as a whole: its evaluations side by side, and the two CSV files and figures that it leaves."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from maskinv_lib.evaluation.benchmarks import RELEASED, Comparisons
from maskinv_lib.evaluation.evaluate import Evaluation
from maskinv_lib.evaluation.metrics import Metric
from maskinv_lib.evaluation.uncertainty import metric_over_seeds
from maskinv_lib.evaluation.verdicts import (
    COLUMNS,
    Claim,
    Difference,
    claim_differences,
    claims_of,
    main_cases,
    other_differences,
)
from maskinv_lib.pipeline import records
from maskinv_lib.pipeline.records import Evaluated
from maskinv_lib.reports.tables import title
from maskinv_lib.study import jobs
from maskinv_lib.study.data import Benchmark
from maskinv_lib.study.recipes import Profile
from maskinv_lib.study.runs import Run, find_benchmark, planned_runs
from maskinv_lib.utils import files

METRIC_COLUMNS = (
    "profile",
    "stage",
    "seed",
    "benchmark",
    "condition",
    "mask_kinds",
    "metric",
    "value",
    "low",
    "high",
    "genuine",
    "impostor",
    "note",
)
"""The columns of ``metrics.csv``; seed is a number, or "all" for the mean over seeds with its interval."""


def evaluation_rows(run: Run, seed: int | str, metrics: dict[tuple[str, str], dict[str, Metric]]) -> list[dict]:
    """Return rows of ``metrics.csv`` from metrics by (condition, mask kinds) and name."""
    place = {"profile": run.profile.name, "stage": run.name, "seed": seed, "benchmark": run.tested_on.name}
    rows = []
    for (condition, kinds), found in metrics.items():
        for metric in found.values():
            numbers = {name: getattr(metric, name) for name in ("value", "low", "high", "genuine", "impostor", "note")}
            rows.append({**place, "condition": condition, "mask_kinds": kinds, "metric": metric.name, **numbers})
    return rows


FEW = 200
"""Genuine pairs of real people below which a histogram would show single scores."""


def shown_scores(evaluated: Evaluated) -> dict[str, Comparisons]:
    """Return title -> comparisons of the main conditions whose scores a figure may show; none where not at hand."""
    found = {case: evaluated.comparisons[case] for case in main_cases(list(evaluated.comparisons))}
    drawn = evaluated.run.profile.people == "rendered"
    return {title(*case): one for case, one in found.items() if drawn or one.genuine.sum() >= FEW}


def own_metrics(evaluations: dict[tuple[str, str], Evaluation]) -> dict[tuple[str, str], dict[str, Metric]]:
    """Return every metric of one trained network with its interval over identities."""
    return over_seeds([evaluations])


def over_seeds(
    seeds: list[dict[tuple[str, str], Evaluation]],
) -> dict[tuple[str, str], dict[str, Metric]]:
    """Return every metric's mean over seeds with its interval over seeds and identities."""
    first = seeds[0]
    return {
        place: {name: metric_over_seeds([one[place] for one in seeds], name) for name in first[place].metrics}
        for place in first
    }


def gather(profile: Profile, seeds: int | None = None, benchmark: str = "") -> tuple[dict[str, list[Evaluated]], str]:
    """Return the evaluations of a study by stage, seed by seed, and where they come from, in words.

    benchmark: its name, "" for the profile's first. seeds: how many, from 0; None takes those that all stages have
    here, or else in the published results. What is missing, or made by other code or settings, raises an error naming
    the command that makes it.
    """
    place = find_benchmark(profile, benchmark)
    numbers = _complete(profile, place, lambda run: run.evaluation_folder) if seeds is None else range(seeds)
    if numbers:
        return _by_stage(profile, numbers, place, lambda run: None), records.HERE
    numbers = _complete(profile, place, lambda run: run.published_folder)
    if not numbers:
        command = f"make study PROFILE={profile.name}"
        raise FileNotFoundError(f"No seed of {profile.name} has all its stages evaluated. Make them with: {command}")
    found = _by_stage(profile, numbers, place, lambda run: run.published_folder)
    return found, max((one.source for evaluated in found.values() for one in evaluated), key=len)


def _runs(profile: Profile, seed: int, benchmark: Benchmark) -> list[Run]:
    runs = planned_runs(profile, range(seed, seed + 1))
    return [one for run in runs for one in run.evaluations if one.benchmark == benchmark]


def _complete(profile: Profile, benchmark: Benchmark, place: Callable[[Run], Path]) -> list[int]:
    """Return the seeds, of the first hundred, of which every stage has numbers in the folder that ``place`` names."""
    runs = {seed: _runs(profile, seed, benchmark) for seed in range(100)}
    return [seed for seed, some in runs.items() if all((place(run) / "metrics.json").exists() for run in some)]


def _by_stage(
    profile: Profile, seeds: Iterable[int], benchmark: Benchmark, place: Callable[[Run], Path | None]
) -> dict[str, list[Evaluated]]:
    found: dict[str, list[Evaluated]] = {}
    for run in (run for seed in seeds for run in _runs(profile, seed, benchmark)):
        found.setdefault(run.stage.name, []).append(records.read_evaluation(run, place(run)))
    return found


def seeds_in_words(gathered: dict[str, list[Evaluated]]) -> str:
    """Return how many seeds were gathered: ``5 seeds``, ``1 seed``, or ``5 seeds, of systems beside the ladder 3``."""
    counts = [len(found) for found in gathered.values()]
    fewer = f", of systems beside the ladder {min(counts)}" if min(counts) < max(counts) else ""
    return f"{max(counts)} seed{'s' if max(counts) != 1 else ''}{fewer}"


def rungs_of(gathered: dict[str, list[Evaluated]], profile: Profile) -> dict[str, list[Evaluated]]:
    """Return what was gathered of the ladder's rungs, without the systems beside them."""
    return {name: found for name, found in gathered.items() if name in profile.stages}


def rungs(
    gathered: dict[str, list[Evaluated]], places: Iterable[tuple[str, str]], *names: str
) -> tuple[dict[str, dict], dict[str, dict[str, list[float]]]]:
    """Return (title -> stage -> metrics over seeds, title -> stage -> each seed's value) for the figures and tables.

    With one name, the first holds the metric itself, else a dict by name; the second is of the first name.
    """
    means: dict[str, dict] = {}
    dots: dict[str, dict[str, list[float]]] = {}
    for place in places:
        heading = title(*place)
        for stage, found in gathered.items():
            parts = [one.evaluations[place] for one in found]
            known = [name for name in names if name in parts[0].metrics]  # a set without folds has no accuracy
            metrics = {name: metric_over_seeds(parts, name) for name in known}
            means.setdefault(heading, {})[stage] = metrics[names[0]] if len(names) == 1 else metrics
            values = [part.metrics[names[0]].value for part in parts]
            dots.setdefault(heading, {})[stage] = [value for value in values if value is not None]
    return means, dots


def _folder(profile: Profile, benchmark: str, kind: str) -> Path:
    return jobs.tables(profile, find_benchmark(profile, benchmark), kind)


def save_figure(profile: Profile, source: str, name: str, figure: Figure, benchmark: str = "") -> None:
    """Write a figure of a study evaluated here as PNG at 110 dots per inch and as SVG; one of published numbers not."""
    for kind in ("png", "svg") if source == records.HERE else ():
        with files.whole_file(_folder(profile, benchmark, "figures") / f"{name}.{kind}") as temporary:
            figure.savefig(temporary, dpi=110, metadata={"Date": None} if kind == "svg" else None)


def save_tables(profile: Profile, source: str, benchmark: str = "", **frames: pd.DataFrame) -> str:
    """Write the frames of a study evaluated here as CSV; say how many rows each has, or that nothing was written."""
    if source != records.HERE:
        return "Nothing written: these numbers are published already."
    for name, frame in frames.items():
        write_csv(_folder(profile, benchmark, "tables") / f"{name}.csv", frame)
    return ", ".join(f"{len(frame):,} rows in {name}.csv" for name, frame in frames.items())


def metrics_frame(gathered: dict[str, list[Evaluated]]) -> pd.DataFrame:
    """Return ``metrics.csv`` as a frame: every seed of a rung, then the mean over seeds; of others the mean."""
    rows = []
    for evaluated in gathered.values():
        for one in evaluated if evaluated[0].run.is_rung or len(evaluated) == 1 else []:
            rows += evaluation_rows(one.run, one.run.seed, own_metrics(one.evaluations))
        if len(evaluated) > 1:
            rows += evaluation_rows(evaluated[0].run, "all", over_seeds([one.evaluations for one in evaluated]))
    return pd.DataFrame(rows, columns=METRIC_COLUMNS)


def differences(gathered: dict[str, list[Evaluated]], profile: Profile) -> tuple[list[Difference], list[Difference]]:
    """Return (the rows that decide the claims, the same contrasts in other metrics and conditions)."""
    evaluations = {(name, one.run.seed): one.evaluations for name, all_ in gathered.items() for one in all_}
    names = {"profile": profile.name, "benchmark": _first(gathered).run.tested_on.name}
    names["claims"] = claims(gathered, profile)
    return claim_differences(evaluations, **names), other_differences(evaluations, **names)


def _first(gathered: dict[str, list[Evaluated]]) -> Evaluated:
    return next(iter(gathered.values()))[0]


def conditions(gathered: dict[str, list[Evaluated]]) -> list[tuple[str, str]]:
    """Return the (condition, mask kinds) of the gathered benchmark that the claims speak of."""
    return main_cases(list(_first(gathered).evaluations))


def masked_cases(gathered: dict[str, list[Evaluated]]) -> list[tuple[str, str]]:
    """Return every (condition, mask kinds) with one masked face or two, seen kinds before unseen ones."""
    found = list(_first(gathered).evaluations)
    wanted = ("masked-unmasked", "masked-masked")
    return [case for condition in wanted for case in found if case[0] == condition]


def released_cases(gathered: dict[str, list[Evaluated]]) -> list[tuple[str, str]]:
    """Return the mixed condition and the published code's protocol for it; empty where a benchmark lacks the latter."""
    mixed = conditions(gathered)[1:2]
    return [*mixed, (RELEASED, mixed[0][1])] if (RELEASED, mixed[0][1]) in _first(gathered).evaluations else []


def claims(gathered: dict[str, list[Evaluated]], profile: Profile) -> tuple[Claim, ...]:
    """Return the claims in the words of a profile and of the gathered benchmark's masks."""
    return claims_of(profile.stages, profile.stands_for, conditions(gathered)[1][1])


def differences_frame(rows: Iterable[Difference]) -> pd.DataFrame:
    """Return ``differences.csv`` as a frame."""
    return pd.DataFrame([row.row() for row in rows], columns=list(COLUMNS))


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as CSV, whole or not at all; missing values are empty, numbers have nine digits."""
    files.write_text(path, frame.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
