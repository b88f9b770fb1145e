"""Trials: settings tried on validation people; the best one of each stage is recorded in a file to be committed.

``choices`` reads the chosen settings, before any test set is opened.
"""

import csv
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean

from maskinv_lib.study import choices
from maskinv_lib.study.ablation import TRIED
from maskinv_lib.study.data import CONDITIONS
from maskinv_lib.study.profiles import known_stages
from maskinv_lib.study.recipes import Profile, Stage
from maskinv_lib.study.runs import Run
from maskinv_lib.utils import files

COLUMNS = ("stage", "learning_rate", "faces", *(f"eer {condition}" for condition in CONDITIONS), "seeds", "chosen")

TRIAL_RESULT = "validation.json"
"""The result file of a finished trial."""

TRIAL_SEEDS = (100, 101, 102)
"""Seeds of the trials; no study uses them."""


def tuned_stages(profile: Profile) -> list[Stage]:
    """Return the stages whose learning rates are tried (``Stage.is_tuned``).

    Where all stages have one rate, these are the rungs of ``TRIED``. Otherwise, with the scope "all", they are also
    the other methods, among them all of our own candidates.
    """
    stages = known_stages(profile)
    if profile.one_rate:
        return [stages[name] for name in TRIED]
    others = [name for name, stage in stages.items() if stage.question != "ablation" and name not in profile.stages]
    wide = profile.scope == "all"
    return [stages[name] for name in (*profile.stages, *(others if wide else ())) if stages[name].is_tuned]


def candidates(profile: Profile) -> list[Stage]:
    """Return our own candidates where all stages have one rate: they are tried with it, to find the best of them."""
    known = [stage for stage in known_stages(profile).values() if stage.question == "own"]
    return known if profile.one_rate and profile.scope == "all" else []


def stages_without_choice(profile: Profile) -> list[str]:
    """Return the stages of a profile whose settings must still be chosen before they may be tested.

    Rendered people need no choice for the rungs: without one, all of them have the profile's learning rate.
    """
    if not profile.trial_rates or (profile.scope == "ablation" and profile.faces.publishable):
        return []
    chosen = choices.chosen_rates(profile.faces)
    return [stage.name for stage in (*tuned_stages(profile), *candidates(profile)) if stage.name not in chosen]


def trials(profile: Profile) -> list[Run]:
    """Return the trials of the stages without a chosen learning rate, after the teachers that they need.

    Each rate is tried with the whole budget and every seed of ``TRIAL_SEEDS``. The teachers have the profile's own
    learning rate. Our own candidates of a profile with one rate are tried once that is chosen, with it alone. Empty if
    nothing is left to choose.
    """
    if not profile.trial_rates:
        return []
    chosen = choices.chosen_rates(profile.faces)
    unchosen = [(stage, _rates(profile, stage)) for stage in tuned_stages(profile) if stage.name not in chosen]
    if profile.one_rate and not unchosen:
        rate = profile.schedule.learning_rate
        unchosen = [(stage, (rate,)) for stage in candidates(profile) if stage.name not in chosen]
    if not unchosen:
        return []
    untuned = dataclasses.replace(profile, learning_rates={})
    baseline = known_stages(profile)[profile.stages[0]]
    runs = [Run(profile=untuned, stage=baseline, seed=seed, overrides={}) for seed in TRIAL_SEEDS]
    for stage, rates in unchosen:
        for rate in rates:
            overrides = {"learning_rate": rate}
            runs += [Run(profile=untuned, stage=stage, seed=seed, overrides=overrides) for seed in TRIAL_SEEDS]
    return runs


def _rates(profile: Profile, stage: Stage) -> tuple[float, ...]:
    return (profile.head_rates if stage.base else ()) or profile.trial_rates


def choice_rows(trials: list[dict], masked: Mapping[str, bool], one_rate: bool = False) -> list[dict[str, str]]:
    """Return one row per stage and rate, with the mean error rates of its trials, and which are chosen.

    trials: the results of ``pipeline.evaluate.trial``, of all seeds. masked: stage -> whether it learns from masked
    faces; it is then judged by the mean EER of the two masked conditions, otherwise by that of unmasked pairs. The best
    rate of a stage is chosen, of equal ones the first; with ``one_rate`` all take the rate with the best mean over
    stages. The teachers of the trials have no tried rate, so that they are never chosen.
    """
    groups: dict[tuple, list[dict]] = {}
    for trial in trials:
        groups.setdefault((trial["stage"], trial["learning_rate"]), []).append(trial)
    means = {of: {name: fmean(t["eer"][name] for t in found) for name in CONDITIONS} for of, found in groups.items()}
    scores = {(stage, rate): _score(eer, masked[stage]) for (stage, rate), eer in means.items() if rate is not None}
    best = _common_rate(scores) if one_rate else _best_rates(scores)
    return [
        {
            "stage": stage,
            "learning_rate": "" if rate is None else f"{rate:g}",
            "faces": str(found[0]["faces"]),
            **{f"eer {condition}": f"{means[stage, rate][condition]:.6f}" for condition in CONDITIONS},
            "seeds": str(len(found)),
            "chosen": "yes" if rate is not None and best[stage] == rate else "no",
        }
        for (stage, rate), found in groups.items()
    ]


def _score(eer: Mapping[str, float], masked: bool) -> float:
    return (eer["masked-unmasked"] + eer["masked-masked"]) / 2 if masked else eer["unmasked-unmasked"]


def _best_rates(scores: Mapping[tuple[str, float], float]) -> dict[str, float]:
    best: dict[str, float] = {}
    for stage, rate in scores:
        best[stage] = min(best.get(stage, rate), rate, key=lambda tried, of=stage: scores[of, tried])
    return best


def _common_rate(scores: Mapping[tuple[str, float], float]) -> dict[str, float]:
    rates = list(dict.fromkeys(rate for _, rate in scores))
    best = min(rates, key=lambda rate: fmean(score for (_, tried), score in scores.items() if tried == rate))
    return {stage: best for stage, _ in scores}


def on_the_edge(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Return the stages whose chosen rate is the smallest or the largest of several that were tried."""
    tried: dict[str, list[float]] = {}
    chosen: dict[str, float] = {}
    for row in (row for row in rows if row["learning_rate"]):
        tried.setdefault(row["stage"], []).append(float(row["learning_rate"]))
        if row["chosen"] == "yes":
            chosen[row["stage"]] = float(row["learning_rate"])
    return [of for of, rate in chosen.items() if len(tried[of]) > 1 and rate in (min(tried[of]), max(tried[of]))]


def write_choices(profile: Profile) -> Path:
    """Add the finished trials of a profile to its file of choices; a missing trial raises FileNotFoundError.

    Earlier choices stay: only a new method is tried.
    """
    path = choices.choices_file(profile.faces)
    before = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.exists() else []
    listed = {(row["stage"], row["learning_rate"]) for row in before}
    masked = {name: stage.mask_probability > 0 for name, stage in known_stages(profile).items()}
    results = [files.read_json(run.folder / TRIAL_RESULT) for run in trials(profile)]
    rows = choice_rows(results, masked, profile.one_rate)
    with files.whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*before, *(row for row in rows if (row["stage"], row["learning_rate"]) not in listed)])
    return path
