"""The sections of the comparison: the methods that answer a question, their differences, and the ranking."""

from collections.abc import Iterable

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from maskinv_lib.evaluation import power, rankings
from maskinv_lib.evaluation.metrics import Metric
from maskinv_lib.evaluation.rankings import Standing
from maskinv_lib.evaluation.verdicts import Case
from maskinv_lib.pipeline import records
from maskinv_lib.reports import comparison, figures, tables
from maskinv_lib.reports.comparison import Results
from maskinv_lib.study.ablation import BASELINE
from maskinv_lib.study.methods import OTHER_MASKS
from maskinv_lib.study.profiles import known_stages
from maskinv_lib.study.recipes import Point, Profile, Sweep
from maskinv_lib.study.runs import point_run, sweep_runs

REFERENCE = "elasticface-arc-aug"
"""What every method has to beat: masks drawn on the training faces, and nothing else."""

VARIED = {
    "as released": "maskinv-hg",
    "guidance": "maskinv-hg",
    "margins": BASELINE,
    "neighbours": REFERENCE,
    "baselines": REFERENCE,
    "own": REFERENCE,
}
"""Question -> the rung that its methods vary, or that they have to beat."""

SHOWN_TOO = {"guidance": ("maskinv-lg", "maskinv-lambda3000"), "own": ("maskinv-lambda3000",)}
"""Question -> rungs that are shown with its methods."""

BUILT_ON_RUNGS = ("own",)
"""Questions whose methods add something to the rungs shown with them, so that the difference to these counts too."""


def reference_of(profile: Profile, question: str) -> str:
    """Return the rung that a question's methods are compared with; on real people clean margins vary the control."""
    if question == "margins" and "finetune-clean" in profile.stages:
        return "finetune-clean"
    return profile.stands_for.get(VARIED[question], VARIED[question])


def compare_methods(results: Results, profile: Profile, *, question: str) -> list[Markdown | Styler | Figure]:
    """Return what a notebook shows of a question: its methods, a figure, and differences to what they vary.

    Where none of its methods is part of the study, one sentence says how to run them.
    """
    stages = known_stages(profile).values()
    methods = [stage.name for stage in stages if stage.question == question and stage.name in results]
    if not methods:
        return [Markdown("None of these is part of this study. `make study SCOPE=all` runs them all.")]
    reference = reference_of(profile, question)
    rungs = [profile.stands_for.get(name, name) for name in SHOWN_TOO.get(question, ())]
    shown = {name: results[name] for name in dict.fromkeys([reference, *rungs, *methods]) if name in results}
    cases = comparison.conditions(results)
    rates, seeds = comparison.rate_by_stage(shown, cases), comparison.seed_values(shown, cases)
    differences = [_difference_table(shown, reference)]
    for rung in rungs if question in BUILT_ON_RUNGS else ():
        if rung in results:
            differences.append(_difference_table({name: results[name] for name in (rung, *methods)}, rung))
    own = {name: results[name] for name in methods}
    return [tables.stages(own), figures.stage_rates(rates, seeds=seeds), *differences]


def _difference_table(results: Results, reference: str) -> Styler:
    standings = {tables.title(*case): _standings(results, case, reference) for case in comparison.conditions(results)}
    caption = f"EER minus that of {reference}, in points, intervals unadjusted, words by Holm over this table"
    return tables.against(standings, names=[name for name in results if name != reference], caption=caption)


def compare_rungs(results: Results, profile: Profile) -> Figure | Markdown:
    """Draw how far the rungs that saw masks lie from the one that saw nothing else, over the same seeds and people."""
    reference = profile.stands_for.get(REFERENCE, REFERENCE)
    rungs = comparison.rungs_of(results, profile)
    masked = {name: seeds for name, seeds in rungs.items() if seeds[0].run.plan.mask_probability}
    if set(masked) <= {reference}:
        return Markdown(f"Except for {reference} no rung saw masks.")
    evaluations, panels, dots = _evaluations(masked), {}, {}
    for case in comparison.conditions(masked):
        heading = tables.title(*case)
        gaps = {one.stage: one.to_reference for one in _standings(masked, case, reference)}
        panels[heading], dots[heading] = {}, {}
        for name in (name for name in masked if gaps[name].difference is not None):
            gap, (_, ours, theirs) = gaps[name], rankings.pairs(evaluations, name, reference, case)
            numbers = {"value": gap.difference, "low": gap.low, "high": gap.high, "genuine": 0, "impostor": 0}
            panels[heading][name] = Metric(name="eer", **numbers)
            dots[heading][name] = power.seed_differences(ours, theirs, "eer").tolist()
    return figures.stage_rates(panels, seeds=dots, label=f"EER minus that of\n{reference}, points")


def _evaluations(results: Results) -> dict:
    return {(name, one.run.seed): one.evaluations for name, seeds in results.items() for one in seeds}


def _standings(results: Results, case: Case, reference: str) -> list[Standing]:
    oracles = [name for name, seeds in results.items() if seeds[0].run.stage.oracle]
    return rankings.standings(_evaluations(results), case, reference, oracles=oracles)


# Ranking and power


def rank_methods(results: Results, profile: Profile) -> list[Standing]:
    """Return the standing of every method under each condition that the claims name, condition by condition.

    On the seeds that all methods have: else a method with fewer could lead by the luck of the others' further seeds.
    """
    reference = profile.stands_for.get(REFERENCE, REFERENCE)
    common = set.intersection(*({one.run.seed for one in seeds} for seeds in results.values()))
    paired = {name: [one for one in seeds if one.run.seed in common] for name, seeds in results.items()}
    return [standing for case in comparison.conditions(paired) for standing in _standings(paired, case, reference)]


def ranking_tables(results: Results, standings: Iterable[Standing]) -> list[Styler]:
    """Return a table per condition: every method in order, with its differences to the reference and to the best."""
    notes = {name: seeds[0].run.stage.note for name, seeds in results.items()}
    by_case: dict[Case, list[Standing]] = {}
    for standing in standings:
        by_case.setdefault(standing.case, []).append(standing)
    return [tables.ranking(rows, caption=tables.title(*case), notes=notes) for case, rows in by_case.items()]


def ranking_frame(results: Results, profile: Profile, standings: Iterable[Standing]) -> pd.DataFrame:
    """Return ``ranking.csv`` as a frame."""
    benchmark = next(iter(results.values()))[0].run.tested_on.name
    rows = rankings.rows(list(standings), profile=profile.name, benchmark=benchmark)
    return pd.DataFrame(rows, columns=list(rankings.COLUMNS))


def power_table(results: Results, profile: Profile) -> Styler | Markdown:
    """Return how large a difference the contrasts of the claims could show, and how many seeds smaller ones need."""
    if len(next(iter(results.values()))) < 2:
        return Markdown("One seed says nothing about the spread of seeds, so nothing can be planned from it.")
    contrasts = dict.fromkeys(
        (contrast.stage, contrast.against)
        for claim in comparison.claims(results, profile)
        for contrast in claim.contrasts
        if contrast.case_against is None and claim.metric == "eer"
    )
    cases = [case for case in comparison.conditions(results) if case[1] != "none"]
    rows = power.prospects(_evaluations(results), list(contrasts), cases)
    return tables.power(rows, caption="For a power of 80 % at the 5 % level; points of EER")


# Sweeps


def read_sweeps(profile: Profile, seeds: int | None = None) -> tuple[Results, str]:
    """Return every run that a profile's sweeps name, by the run's name, and where the numbers come from, in words."""
    results, source = comparison.read_results(profile, seeds)
    for run in sweep_runs(profile):
        folder = None if source == records.HERE else run.published_folder
        results[run.name] = [records.read_evaluation(run, folder)]
    return results, source


def sweep_panels(results: Results, profile: Profile, sweep: Sweep) -> dict[str, dict[str, list]]:
    """Return title of a case -> line -> points (x, EER over seeds, each seed's EER), ready to be drawn."""

    def points(case: Case, line: tuple[Point, ...]) -> list[tuple[float, Metric, list[float]]]:
        names = [point_run(profile, point).name for point in line]
        rates, seeds = (of({name: results[name] for name in names}, [case]) for of in RATE_AND_SEEDS)
        heading = tables.title(*case)
        return [(point.x, rates[heading][n], seeds[heading][n]) for point, n in zip(line, names, strict=True)]

    cases = comparison.conditions(results)
    return {tables.title(*case): {name: points(case, line) for name, line in sweep.lines.items()} for case in cases}


RATE_AND_SEEDS = (comparison.rate_by_stage, comparison.seed_values)


def sweep_figure(results: Results, profile: Profile, sweep: Sweep) -> Figure:
    """Draw a sweep: EER against its setting, a panel per condition."""
    return figures.sweep(sweep_panels(results, profile, sweep), x_label=sweep.axis, log_x=sweep.logarithmic)


def sweep_frame(results: Results, profile: Profile) -> pd.DataFrame:
    """Return ``sweeps.csv``: a row per sweep, condition, line and point, as fractions."""
    return pd.DataFrame(
        {"sweep": sweep.name, "condition": condition, "line": line, "axis": sweep.axis, "x": x}
        | {"eer": metric.value, "low": metric.low, "high": metric.high, "seeds": len(seeds)}
        for sweep in profile.sweeps
        for condition, lines in sweep_panels(results, profile, sweep).items()
        for line, points in lines.items()
        for x, metric, seeds in points
    )


def swapped_masks(results: Results, profile: Profile) -> Styler:
    """Return the EER of the methods trained with either family of masks, each tested on both families."""
    cases, rows = comparison.masked_cases(results), {}
    for point in OTHER_MASKS:
        for family, name in (("seen", point.stage), ("unseen", point_run(profile, point).name)):
            rates = comparison.rate_by_stage({name: results[name][:1]}, cases)
            rows[f"{point.stage}, trained with {family} kinds"] = {head: by[name] for head, by in rates.items()}
    return tables.cells(rows, caption="EER %, seed 0")
