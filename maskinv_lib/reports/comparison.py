"""The results of a whole study: read and compared, and written as CSV files and figures."""

import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from maskinv_lib.evaluation import verdicts
from maskinv_lib.evaluation.benchmarks import RELEASED, Comparisons
from maskinv_lib.evaluation.evaluate import Case, Evaluation, Evaluations
from maskinv_lib.evaluation.metrics import Metric
from maskinv_lib.evaluation.uncertainty import metric_over_seeds
from maskinv_lib.pipeline import records
from maskinv_lib.pipeline.records import Evaluated
from maskinv_lib.reports.tables import title
from maskinv_lib.study.data import CONDITIONS, Benchmark
from maskinv_lib.study.jobs import study_folder
from maskinv_lib.study.recipes import Profile
from maskinv_lib.study.runs import METRICS, RESTORE, Run, find_benchmark, planned_runs
from maskinv_lib.utils import files, paths

Results = dict[str, list[Evaluated]]
"""Name of a stage -> its evaluations, seed by seed."""

NUMBERS = ("value", "low", "high", "genuine", "impostor", "note")
METRIC_COLUMNS = ("profile", "stage", "seed", "benchmark", "condition", "mask_kinds", "metric", *NUMBERS)
"""The columns of ``metrics.csv``; seed is a number, or "all" for the mean over seeds with its interval."""


# Reading


def read_results(profile: Profile, seeds: int | None = None, benchmark: str = "") -> tuple[Results, str]:
    """Return the evaluations of a study by stage, seed by seed, and their source in words.

    benchmark: its name, "" for the profile's first. seeds: how many, from 0; None takes those that all stages have in
    ``runs``, or else in the published results. A result that is missing, or was computed with other code or settings,
    raises an error that names the command to compute it.
    """
    tested_on = find_benchmark(profile, benchmark)
    numbers = range(seeds) if seeds is not None else _complete(profile, tested_on, lambda run: run.evaluation_folder)
    if numbers:
        return _by_stage(profile, numbers, tested_on, lambda run: None), records.HERE
    return read_published(profile, benchmark)


def read_published(profile: Profile, benchmark: str = "") -> tuple[Results, str]:
    """Return the published evaluations of a study by stage, seed by seed, and their source in words.

    Without the stages that were no part of the published study. Where nothing is published, FileNotFoundError names
    the command to compute it.
    """
    tested_on, profile = find_benchmark(profile, benchmark), _as_published(profile)
    numbers = _complete(profile, tested_on, lambda run: run.published_folder) if profile.stages else []
    if not numbers:
        command = f"make study PROFILE={profile.name}"
        raise FileNotFoundError(f"No seed of {profile.name} has all its stages evaluated. Make them with: {command}")
    results = _by_stage(profile, numbers, tested_on, lambda run: run.published_folder)
    return results, max((part.source for evaluated in results.values() for part in evaluated), key=len)


def _as_published(profile: Profile) -> Profile:
    """Return a profile with the stages that its published study has."""
    folder = paths.results() / profile.name / RESTORE
    names = {
        part: tuple(name for name in getattr(profile, part) if (folder / f"{name}.zip").exists())
        for part in ("stages", "others")
    }
    return replace(profile, **names)


def _tests(profile: Profile, seed: int, benchmark: Benchmark) -> list[Run]:
    return [test for run in planned_runs(profile, [seed]) for test in run.evaluations if test.benchmark == benchmark]


def _complete(profile: Profile, benchmark: Benchmark, folder: Callable[[Run], Path | zipfile.Path]) -> list[int]:
    """Return the seeds below 100 for which every stage has its metrics in ``folder(run)``."""
    tests = {seed: _tests(profile, seed, benchmark) for seed in range(100)}
    return [seed for seed, runs in tests.items() if all((folder(run) / METRICS).exists() for run in runs)]


def _by_stage(
    profile: Profile, seeds: Iterable[int], benchmark: Benchmark, folder: Callable[[Run], Path | zipfile.Path | None]
) -> Results:
    results: Results = {}
    for seed in seeds:
        for run in _tests(profile, seed, benchmark):
            results.setdefault(run.stage.name, []).append(records.read_evaluation(run, folder(run)))
    return results


def seeds_in_words(results: Results) -> str:
    """Return how many seeds were read: ``5 seeds``, ``1 seed``, or ``5 seeds, of the other methods 3``."""
    counts = [len(evaluated) for evaluated in results.values()]
    fewer = f", of the other methods {min(counts)}" if min(counts) < max(counts) else ""
    return f"{max(counts)} seed{'s' if max(counts) != 1 else ''}{fewer}"


def rungs_of(results: Results, profile: Profile) -> Results:
    """Return the results of the ablation's rungs, without the other methods."""
    return {name: evaluated for name, evaluated in results.items() if name in profile.stages}


# Cases: the mask conditions of the two faces of a comparison


def _first(results: Results) -> Evaluated:
    return next(iter(results.values()))[0]


def conditions(results: Results) -> list[Case]:
    """Return the (condition, mask kinds) of the benchmark that the claims are about."""
    return verdicts.main_cases(list(_first(results).evaluations))


def masked_cases(results: Results) -> list[Case]:
    """Return every (condition, mask kinds) with one masked face or two, seen kinds before unseen ones."""
    cases = list(_first(results).evaluations)
    return [case for condition in CONDITIONS[1:] for case in cases if case[0] == condition]


def released_cases(results: Results) -> list[Case]:
    """Return the mixed condition and the published code's protocol for it; [] for a benchmark without this protocol."""
    mixed = conditions(results)[1:2]
    return [*mixed, (RELEASED, mixed[0][1])] if (RELEASED, mixed[0][1]) in _first(results).evaluations else []


def shown_scores(evaluated: Evaluated) -> dict[str, Comparisons]:
    """Return title -> comparisons of the main conditions whose scores a figure may show; {} where none were kept."""
    cases = verdicts.main_cases(list(evaluated.comparisons))
    least = 0 if evaluated.run.profile.faces.publishable else FEW
    comparisons = {title(*case): evaluated.comparisons[case].sampled() for case in cases}
    return {heading: scores for heading, scores in comparisons.items() if scores.genuine.sum() >= least}


FEW = 200
"""With fewer genuine pairs of real people, a histogram would show single scores."""


# Metrics over seeds


def over_seeds(seeds: list[dict[Case, Evaluation]]) -> dict[Case, dict[str, Metric]]:
    """Return each metric's mean over seeds with its interval over seeds and identities; one seed: over identities."""
    return {
        case: {name: metric_over_seeds([seed[case] for seed in seeds], name) for name in seeds[0][case].metrics}
        for case in seeds[0]
    }


def metrics_by_stage(results: Results, cases: Iterable[Case], *names: str) -> dict[str, dict[str, dict[str, Metric]]]:
    """Return title of a case -> stage -> metric name -> its mean over seeds; metrics a benchmark lacks are left out."""
    by_case: dict[str, dict[str, dict[str, Metric]]] = {}
    for case in cases:
        stages = by_case.setdefault(title(*case), {})
        for stage, evaluated in results.items():
            parts = [part.evaluations[case] for part in evaluated]
            stages[stage] = {name: metric_over_seeds(parts, name) for name in names if name in parts[0].metrics}
    return by_case


def rate_by_stage(results: Results, cases: Iterable[Case], name: str = "eer") -> dict[str, dict[str, Metric]]:
    """Return title of a case -> stage -> one rate, its mean over seeds with its interval."""
    metrics = metrics_by_stage(results, cases, name)
    return {heading: {stage: rates[name] for stage, rates in stages.items()} for heading, stages in metrics.items()}


def seed_values(results: Results, cases: Iterable[Case], name: str = "eer") -> dict[str, dict[str, list[float]]]:
    """Return title of a case -> stage -> the value of a rate for each seed, a fraction; seeds without one left out."""
    return {
        title(*case): {
            stage: [value for part in evaluated if (value := part.evaluations[case].metrics[name].value) is not None]
            for stage, evaluated in results.items()
        }
        for case in cases
    }


# Claims


def claims(results: Results, profile: Profile) -> tuple[verdicts.Claim, ...]:
    """Return the claims with the stages of a profile and the masks of the benchmark."""
    return verdicts.claims_of(profile.stages, profile.stands_for, conditions(results)[1][1])


def evaluations_of(results: Results) -> Evaluations:
    """Return the evaluations by (stage, seed)."""
    return {(name, part.run.seed): part.evaluations for name, evaluated in results.items() for part in evaluated}


def differences(results: Results, profile: Profile) -> tuple[list[verdicts.Difference], list[verdicts.Difference]]:
    """Return (the rows that decide the claims, the same contrasts in other metrics and conditions)."""
    names = {"profile": profile.name, "benchmark": _first(results).run.tested_on.name}
    names["claims"] = claims(results, profile)
    evaluations = evaluations_of(results)
    return verdicts.claim_differences(evaluations, **names), verdicts.other_differences(evaluations, **names)


# Tables and figures on disk


def evaluation_rows(run: Run, seed: int | str, metrics: dict[Case, dict[str, Metric]]) -> list[dict]:
    """Return rows of ``metrics.csv`` from metrics by (condition, mask kinds) and name."""
    head = {"profile": run.profile.name, "stage": run.name, "seed": seed, "benchmark": run.tested_on.name}
    return [
        {**head, "condition": condition, "mask_kinds": kinds, "metric": metric.name}
        | {name: getattr(metric, name) for name in NUMBERS}
        for (condition, kinds), by_name in metrics.items()
        for metric in by_name.values()
    ]


def metrics_frame(results: Results) -> pd.DataFrame:
    """Return ``metrics.csv`` as a frame: every seed of a rung, then the mean over seeds; of other methods the mean."""
    rows = []
    for evaluated in results.values():
        run = evaluated[0].run
        for part in evaluated if run.is_rung or len(evaluated) == 1 else []:
            rows += evaluation_rows(part.run, part.run.seed, over_seeds([part.evaluations]))
        if len(evaluated) > 1:
            rows += evaluation_rows(run, "all", over_seeds([part.evaluations for part in evaluated]))
    return pd.DataFrame(rows, columns=METRIC_COLUMNS)


def differences_frame(rows: Iterable[verdicts.Difference]) -> pd.DataFrame:
    """Return ``differences.csv`` as a frame."""
    return pd.DataFrame([row.row() for row in rows], columns=list(verdicts.COLUMNS))


def save_figure(profile: Profile, source: str, name: str, figure: Figure, benchmark: str = "") -> None:
    """Write a figure of this study as PNG at 110 dots per inch and as SVG; nothing for published results."""
    folder = study_folder(profile, find_benchmark(profile, benchmark), "figures")
    for kind in ("png", "svg") if source == records.HERE else ():
        with files.whole_file(folder / f"{name}.{kind}") as temporary:
            figure.savefig(temporary, dpi=110, metadata={"Date": None} if kind == "svg" else None)


def save_tables(profile: Profile, source: str, benchmark: str = "", **frames: pd.DataFrame) -> str:
    """Write the frames of this study as CSV, missing values empty; return the number of rows of each, in words.

    Nothing is written for published results.
    """
    if source != records.HERE:
        return "Nothing written: these numbers are published already."
    folder = study_folder(profile, find_benchmark(profile, benchmark), "tables")
    for name, frame in frames.items():
        files.write_text(folder / f"{name}.csv", frame.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
    return ", ".join(f"{len(frame):,} rows in {name}.csv" for name, frame in frames.items())
