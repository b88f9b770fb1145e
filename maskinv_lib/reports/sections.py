"""The sections of the comparison: the methods that answer a question, their differences, the ranking and the sweeps."""

from collections.abc import Iterable
from itertools import groupby

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from maskinv_lib.evaluation import power, rankings
from maskinv_lib.evaluation.evaluate import Case
from maskinv_lib.evaluation.metrics import Metric
from maskinv_lib.evaluation.rankings import Gap, Standing
from maskinv_lib.evaluation.uncertainty import pairs, seed_differences
from maskinv_lib.pipeline import records
from maskinv_lib.reports import comparison, figures, findings, tables
from maskinv_lib.reports.comparison import Results
from maskinv_lib.study.ablation import BASELINE
from maskinv_lib.study.methods import OTHER_MASKS
from maskinv_lib.study.profiles import known_stages
from maskinv_lib.study.recipes import Profile, Sweep
from maskinv_lib.study.runs import point_run, sweep_runs

REFERENCE = "elasticface-arc-aug"
"""The rung that every method has to beat: it only draws masks on the training faces."""

VARIED = {
    "as released": "maskinv-hg",
    "guidance": "maskinv-hg",
    "margins": BASELINE,
    "neighbours": REFERENCE,
    "baselines": REFERENCE,
    "own": REFERENCE,
}
"""Question -> the rung that its methods change, or have to beat."""

SHOWN_TOO = {"guidance": ("maskinv-lg", "maskinv-lambda3000"), "own": ("maskinv-lambda3000",)}
"""Question -> further rungs shown with its methods."""

BUILT_ON_RUNGS = ("own",)
"""Questions whose methods extend the rungs shown with them: the differences to these rungs are shown too."""


def reference_of(profile: Profile, question: str) -> str:
    """Return the rung that a question's methods are compared with; on real people clean margins change the control."""
    if question == "margins" and "finetune-clean" in profile.stages:
        return "finetune-clean"
    return profile.stands_for.get(VARIED[question], VARIED[question])


def compare_methods(results: Results, profile: Profile, *, question: str) -> list[Markdown | Styler | Figure]:
    """Return a question's outputs: its methods, a figure with what it shows, and differences to the rung they change.

    Where the study contains none of its methods, one sentence says how to run them.
    """
    stages = known_stages(profile).values()
    methods = [stage.name for stage in stages if stage.question == question and stage.name in results]
    if not methods:
        return [Markdown("None of these is part of this study. `make study SCOPE=all` runs them all.")]
    reference = reference_of(profile, question)
    rungs = [profile.stands_for.get(name, name) for name in SHOWN_TOO.get(question, ())]
    compared = {name: results[name] for name in dict.fromkeys([reference, *rungs, *methods]) if name in results}
    cases = comparison.conditions(results)
    rates, seeds = comparison.rate_by_stage(compared, cases), comparison.seed_values(compared, cases)
    differences = [_difference_table(compared, reference)]
    for rung in (rung for rung in rungs if question in BUILT_ON_RUNGS and rung in results):
        differences.append(_difference_table({name: results[name] for name in (rung, *methods)}, rung))
    own = {name: results[name] for name in methods}
    return [tables.stages(own), figures.stage_rates(rates, seeds=seeds), findings.of_rates(rates), *differences]


def _difference_table(results: Results, reference: str) -> Styler:
    standings = {tables.title(*case): _standings(results, case, reference) for case in comparison.conditions(results)}
    caption = f"EER minus that of {reference}, in points, unadjusted intervals, verdicts by Holm over this table"
    return tables.against(standings, names=[name for name in results if name != reference], caption=caption)


def compare_rungs(results: Results, profile: Profile) -> list[Figure | Markdown]:
    """Return a figure of the paired differences of the rungs trained with masks to ``REFERENCE``, and what it shows.

    Where no other rung saw masks, one sentence says so.
    """
    reference = profile.stands_for.get(REFERENCE, REFERENCE)
    rungs = comparison.rungs_of(results, profile)
    masked = {name: seeds for name, seeds in rungs.items() if seeds[0].run.plan.mask_probability}
    if set(masked) <= {reference}:
        return [Markdown(f"Except for {reference} no rung saw masks.")]
    evaluations, panels, dots = comparison.evaluations_of(masked), {}, {}
    for case in comparison.conditions(masked):
        gaps = {row.stage: row.to_reference for row in _standings(masked, case, reference)}
        names, title = [name for name in masked if gaps[name].difference is not None], tables.title(*case)
        panels[title] = {name: _gap_metric(gaps[name]) for name in names}
        sides = {name: pairs(evaluations, name, reference, case)[1:] for name in names}
        dots[title] = {name: seed_differences(*parts, "eer").tolist() for name, parts in sides.items()}
    figure = figures.stage_rates(panels, seeds=dots, label=f"EER minus that of\n{reference}, points")
    return [figure, findings.of_differences(panels, reference)]


def _gap_metric(gap: Gap) -> Metric:
    return Metric(name="eer", value=gap.difference, low=gap.low, high=gap.high, genuine=0, impostor=0)


def _standings(results: Results, case: Case, reference: str) -> list[Standing]:
    oracles = [name for name, seeds in results.items() if seeds[0].run.stage.oracle]
    return rankings.standings(comparison.evaluations_of(results), case, reference, oracles=oracles)


# Ranking and power


def rank_methods(results: Results, profile: Profile) -> list[Standing]:
    """Return the standing of every method under each condition that the claims name, condition by condition.

    Only seeds that all methods have count: otherwise further seeds of some methods could change the order by chance.
    """
    reference = profile.stands_for.get(REFERENCE, REFERENCE)
    common = set.intersection(*({part.run.seed for part in evaluated} for evaluated in results.values()))
    paired = {name: [part for part in evaluated if part.run.seed in common] for name, evaluated in results.items()}
    return [standing for case in comparison.conditions(paired) for standing in _standings(paired, case, reference)]


def ranking_tables(results: Results, standings: Iterable[Standing]) -> list[Styler]:
    """Return a table per condition: every method in order, with its differences to the reference and to the best."""
    notes = {name: evaluated[0].run.stage.note for name, evaluated in results.items()}
    by_case = groupby(standings, key=lambda standing: standing.case)
    return [tables.ranking(list(rows), tables.title(*case), notes=notes) for case, rows in by_case]


def ranking_frame(results: Results, profile: Profile, standings: Iterable[Standing]) -> pd.DataFrame:
    """Return ``ranking.csv`` as a frame."""
    benchmark = next(iter(results.values()))[0].run.tested_on.name
    rows = rankings.rows(list(standings), profile=profile.name, benchmark=benchmark)
    return pd.DataFrame(rows, columns=list(rankings.COLUMNS))


def power_table(results: Results, profile: Profile) -> Styler | Markdown:
    """Return the smallest differences that the claims' contrasts could show, and the seeds that smaller ones need."""
    if len(next(iter(results.values()))) < 2:
        return Markdown("One seed says nothing about the spread of seeds, so nothing can be planned from it.")
    contrasts = dict.fromkeys(
        (contrast.stage, contrast.against)
        for claim in comparison.claims(results, profile)
        for contrast in claim.contrasts
        if contrast.case_against is None and "eer" in claim.metrics
    )
    cases = [case for case in comparison.conditions(results) if case[1] != "none"]
    rows = power.prospects(comparison.evaluations_of(results), list(contrasts), cases)
    return tables.power(rows, caption="For a power of 80 % at the 5 % level; points of EER")


# Sweeps


def read_sweeps(profile: Profile, seeds: int | None = None) -> tuple[Results, str]:
    """Return the evaluations of a study and of its sweeps, by the run's name, and their source in words.

    Of published results, runs that were no part of the published study are left out.
    """
    results, source = comparison.read_results(profile, seeds)
    for run in sweep_runs(profile):
        if source == records.HERE:
            results[run.name] = [records.read_evaluation(run)]
        elif run.published_archive.exists():
            results[run.name] = [records.read_evaluation(run, run.published_folder)]
    return results, source


def sweep_panels(results: Results, profile: Profile, sweep: Sweep) -> dict[str, dict[str, list]]:
    """Return title of a case -> line -> points (x, EER over seeds, each seed's EER), to be drawn.

    Points without results are left out.
    """
    cases = comparison.conditions(results)
    rates, seeds = comparison.rate_by_stage(results, cases), comparison.seed_values(results, cases)
    lines = {name: [(point.x, point_run(profile, point).name) for point in line] for name, line in sweep.lines.items()}
    return {
        title: {
            name: [(x, rates[title][run], seeds[title][run]) for x, run in line if run in results]
            for name, line in lines.items()
        }
        for title in rates
    }


def sweep_figure(results: Results, profile: Profile, sweep: Sweep) -> list[Figure | Markdown]:
    """Return a figure of a sweep, EER against its setting, a panel per condition, and what it shows."""
    panels = sweep_panels(results, profile, sweep)
    figure = figures.sweep(panels, x_label=sweep.axis, log_x=sweep.logarithmic)
    return [figure, findings.of_sweep(panels, sweep.axis)]


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


def swapped_masks(results: Results, profile: Profile) -> Styler | Markdown:
    """Return the EER of methods trained with each of the two mask families and tested on both."""
    if any(point_run(profile, point).name not in results for point in OTHER_MASKS):
        return Markdown("This is no part of the published study. `make study SCOPE=all` runs it.")
    cases, rows = comparison.masked_cases(results), {}
    for point in OTHER_MASKS:
        for family, name in (("seen", point.stage), ("unseen", point_run(profile, point).name)):
            rates = comparison.rate_by_stage({name: results[name][:1]}, cases)
            rows[f"{point.stage}, trained with {family} kinds"] = {title: row[name] for title, row in rates.items()}
    return tables.metrics(rows, names=[tables.title(*case) for case in cases], caption="EER %, seed 0")
