"""The parts of a comparison: a question each, the systems that answer it, and how they stand to the one they vary."""

from collections.abc import Iterable

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from maskinv_lib.evaluation import rankings
from maskinv_lib.evaluation.metrics import Metric
from maskinv_lib.evaluation.power import prospects, seed_differences
from maskinv_lib.evaluation.rankings import Standing
from maskinv_lib.evaluation.uncertainty import metric_over_seeds
from maskinv_lib.evaluation.verdicts import Case
from maskinv_lib.pipeline import records
from maskinv_lib.pipeline.records import Evaluated
from maskinv_lib.reports import comparison, figures, tables
from maskinv_lib.study.ablation import BASELINE
from maskinv_lib.study.methods import OTHER_MASKS
from maskinv_lib.study.profiles import known_stages
from maskinv_lib.study.recipes import Profile, Sweep
from maskinv_lib.study.runs import point_run, sweep_runs

Gathered = dict[str, list[Evaluated]]

REFERENCE = "elasticface-arc-aug"
"""What every system has to beat: masks drawn on the training faces, and nothing else."""

VARIED = {
    "as released": "maskinv-hg",
    "guidance": "maskinv-hg",
    "margins": BASELINE,
    "neighbours": REFERENCE,
    "baselines": REFERENCE,
    "own": REFERENCE,
}
"""Question -> the rung that its systems vary, or that they have to beat."""

BESIDE_IT = {"guidance": ("maskinv-lg", "maskinv-lambda3000"), "own": ("maskinv-lambda3000",)}
"""Question -> rungs that are shown beside its systems."""


BUILDS_ON_THEM = ("own",)
"""Questions whose systems add something to the rungs beside them, so that the difference to these counts too."""


def anchor_of(profile: Profile, question: str) -> str:
    """Return the rung that a question's systems are compared with; on real people clean margins vary the control."""
    if question == "margins" and "finetune-clean" in profile.stages:
        return "finetune-clean"
    return profile.stands_for.get(VARIED[question], VARIED[question])


def section(gathered: Gathered, profile: Profile, question: str) -> list[Markdown | Styler | Figure]:
    """Return what a notebook shows of a question: its systems, a figure, and differences to what they vary.

    Where none of its systems is part of the study, one sentence says how to run them.
    """
    names = _asked(gathered, profile, question)
    if not names:
        return [Markdown("None of these is part of this study. `make study SCOPE=all` runs them all.")]
    anchor = anchor_of(profile, question)
    beside = [profile.stands_for.get(name, name) for name in BESIDE_IT.get(question, ())]
    shown = {name: gathered[name] for name in dict.fromkeys([anchor, *beside, *names]) if name in gathered}
    means, dots = comparison.rungs(shown, comparison.conditions(gathered), "eer")
    apart = [_against(shown, anchor)]
    if question in BUILDS_ON_THEM:
        apart += [_against({name: gathered[name] for name in (one, *names)}, one) for one in beside if one in gathered]
    return [tables.stages({name: gathered[name] for name in names}), figures.stage_rates(means, seeds=dots), *apart]


def _against(shown: Gathered, anchor: str) -> Styler:
    ranked = {tables.title(*case): _standings(shown, case, anchor) for case in comparison.conditions(shown)}
    caption = f"EER minus that of {anchor}, in points, with unadjusted intervals; words by Holm over this table alone"
    return tables.against(ranked, names=[name for name in shown if name != anchor], caption=caption)


def paired(gathered: Gathered, profile: Profile) -> Figure | Markdown:
    """Draw how far the rungs that saw masks lie from the one that saw nothing else, over the same seeds and people."""
    anchor = profile.stands_for.get(REFERENCE, REFERENCE)
    rungs = comparison.rungs_of(gathered, profile)
    masked = {name: found for name, found in rungs.items() if found[0].run.plan.mask_probability}
    if set(masked) <= {anchor}:
        return Markdown(f"Beside {anchor} no rung saw masks.")
    evaluations, panels, dots = _evaluations(masked), {}, {}
    for case in comparison.conditions(masked):
        place, gaps = tables.title(*case), {one.stage: one.to_reference for one in _standings(masked, case, anchor)}
        panels[place], dots[place] = {}, {}
        for name in (name for name in masked if gaps[name].difference is not None):
            gap, (_, ours, theirs) = gaps[name], rankings.pairs(evaluations, name, anchor, case)
            numbers = {"value": gap.difference, "low": gap.low, "high": gap.high, "genuine": 0, "impostor": 0}
            panels[place][name] = Metric(name="eer", **numbers)
            dots[place][name] = seed_differences(ours, theirs, "eer").tolist()
    return figures.stage_rates(panels, seeds=dots, label=f"EER minus that of\n{anchor}, points")


def _asked(gathered: Gathered, profile: Profile, question: str) -> list[str]:
    known = known_stages(profile).values()
    return [stage.name for stage in known if stage.question == question and stage.name in gathered]


def _evaluations(gathered: Gathered) -> dict:
    return {(name, one.run.seed): one.evaluations for name, all_ in gathered.items() for one in all_}


def _standings(gathered: Gathered, case: Case, reference: str) -> list[Standing]:
    oracles = [name for name, found in gathered.items() if found[0].run.stage.oracle]
    return rankings.standings(_evaluations(gathered), case, reference, oracles=oracles)


def ranked(gathered: Gathered, profile: Profile) -> list[Standing]:
    """Return the standing of every system under each condition that the claims speak of, condition by condition.

    On the seeds that all systems have: else a system with fewer could lead by the luck of the others' further seeds.
    """
    reference = profile.stands_for.get(REFERENCE, REFERENCE)
    common = set.intersection(*({one.run.seed for one in found} for found in gathered.values()))
    same = {name: [one for one in found if one.run.seed in common] for name, found in gathered.items()}
    return [one for case in comparison.conditions(same) for one in _standings(same, case, reference)]


def rankings_shown(gathered: Gathered, standings: Iterable[Standing]) -> list[Styler]:
    """Return a table per condition: every system in order, with its differences to the reference and to the best."""
    notes = {name: found[0].run.stage.note for name, found in gathered.items()}
    by_case: dict[Case, list[Standing]] = {}
    for one in standings:
        by_case.setdefault(one.case, []).append(one)
    return [tables.ranking(some, caption=tables.title(*case), notes=notes) for case, some in by_case.items()]


def ranking_frame(gathered: Gathered, profile: Profile, standings: Iterable[Standing]) -> pd.DataFrame:
    """Return ``ranking.csv`` as a frame."""
    benchmark = next(iter(gathered.values()))[0].run.tested_on.name
    rows = rankings.rows(list(standings), profile=profile.name, benchmark=benchmark)
    return pd.DataFrame(rows, columns=list(rankings.COLUMNS))


def power(gathered: Gathered, profile: Profile) -> Styler | Markdown:
    """Return how large a difference the contrasts of the claims could show, and how many seeds smaller ones need."""
    if len(next(iter(gathered.values()))) < 2:
        return Markdown("One seed tells nothing about the spread of seeds, so nothing can be planned from it.")
    claims = comparison.claims(gathered, profile)
    contrasts = dict.fromkeys(
        (contrast.stage, contrast.against)
        for claim in claims
        for contrast in claim.contrasts
        if contrast.case_against is None and claim.metric == "eer"
    )
    cases = [case for case in comparison.conditions(gathered) if case[1] != "none"]
    found = prospects(_evaluations(gathered), list(contrasts), cases)
    return tables.power(found, caption="For a power of 80 % at the 5 % level; points of EER")


# Sweeps


def open_sweeps(profile: Profile, seeds: int | None = None) -> tuple[Gathered, str]:
    """Return every run that a profile's sweeps name, by the run's name, and where the numbers come from, in words."""
    gathered, source = comparison.gather(profile, seeds)
    found = dict(gathered)
    for run in sweep_runs(profile):
        here = source == records.HERE
        found[run.name] = [records.read_evaluation(run, None if here else run.published_folder)]
    return found, source


def sweep_panels(found: Gathered, profile: Profile, sweep: Sweep) -> dict[str, dict[str, list]]:
    """Return condition -> line -> points (x, EER over seeds, each seed's), ready to be drawn."""
    panels: dict[str, dict[str, list]] = {}
    for case in comparison.conditions(found):
        for line, points in sweep.lines.items():
            runs = [(point.x, found[point_run(profile, point).name]) for point in points]
            drawn = [(x, *_eer(some, case)) for x, some in runs]
            panels.setdefault(tables.title(*case), {})[line] = drawn
    return panels


def _eer(some: list[Evaluated], case: Case) -> tuple[Metric, list[float]]:
    parts = [one.evaluations[case] for one in some]
    return metric_over_seeds(parts, "eer"), [part.metrics["eer"].value for part in parts]


def sweep_figure(found: Gathered, profile: Profile, sweep: Sweep) -> Figure:
    """Draw a sweep: EER against its setting, a panel per condition."""
    return figures.sweep(sweep_panels(found, profile, sweep), x_label=sweep.axis, log_x=sweep.logarithmic)


def sweep_frame(found: Gathered, profile: Profile) -> pd.DataFrame:
    """Return ``sweeps.csv``: a row per sweep, condition, line and point, as fractions."""
    rows = []
    for sweep in profile.sweeps:
        for condition, lines in sweep_panels(found, profile, sweep).items():
            for line, points in lines.items():
                for x, metric, seeds in points:
                    numbers = {"eer": metric.value, "low": metric.low, "high": metric.high, "seeds": len(seeds)}
                    place = {"sweep": sweep.name, "condition": condition, "line": line, "axis": sweep.axis, "x": x}
                    rows.append({**place, **numbers})
    return pd.DataFrame(rows)


def masks_traded(found: Gathered, profile: Profile) -> Styler:
    """Return EER of the methods trained with either family of masks, judged on both: what is seen trades places."""
    cases = comparison.masked_cases(found)
    rows = {}
    for point in OTHER_MASKS:
        for trained, name in (("seen", point.stage), ("unseen", point_run(profile, point).name)):
            rows[f"{point.stage}, trained with {trained} kinds"] = {
                tables.title(*case): _eer(found[name][:1], case)[0] for case in cases
            }
    return tables.cells(rows, caption="EER %, seed 0")
