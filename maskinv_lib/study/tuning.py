"""Trials: settings tried on validation people; the best one of each stage is recorded in a file to be committed.

``choices`` reads the chosen settings, before any test set is opened.
"""

import csv
import dataclasses
from pathlib import Path

from maskinv_lib.study import choices
from maskinv_lib.study.data import CONDITIONS
from maskinv_lib.study.profiles import known_stages
from maskinv_lib.study.recipes import Profile, Stage
from maskinv_lib.study.runs import Run
from maskinv_lib.utils import files

COLUMNS = ("stage", "learning_rate", "faces", *(f"eer {condition}" for condition in CONDITIONS), "chosen")

TRIAL_RESULT = "validation.json"
"""The result file of a finished trial."""

TRIAL_SEED = 100
"""Seed of the trials; no study uses it."""


def tuned_stages(profile: Profile) -> list[Stage]:
    """Return the stages that have a chosen learning rate of their own (``Stage.is_tuned``).

    With the scope "all" also the other methods, among them all of our own candidates.
    """
    stages = known_stages(profile)
    others = [name for name, stage in stages.items() if stage.question != "ablation" and name not in profile.stages]
    names = (*profile.stages, *(others if profile.scope == "all" else ()))
    return [stages[name] for name in names if stages[name].is_tuned]


def stages_without_choice(profile: Profile) -> list[str]:
    """Return the stages of a profile whose settings must still be chosen before they may be tested.

    The rungs on rendered people need no choice: without one, all of them have the profile's learning rate.
    """
    if not profile.trial_rates or (profile.scope == "ablation" and profile.faces.publishable):
        return []
    return [stage.name for stage in tuned_stages(profile) if stage.name not in profile.learning_rates]


def trials(profile: Profile) -> list[Run]:
    """Return the trials of the stages without a chosen learning rate; their teacher is the first run.

    Three rates per stage, each with the profile's ``trial_budget``. The teacher has the whole budget and the profile's
    learning rate, so that no trial depends on a choice. Empty if nothing is left to choose.
    """
    unchosen = [stage for stage in tuned_stages(profile) if stage.name not in profile.learning_rates]
    if not (unchosen and profile.trial_rates):
        return []
    untuned = dataclasses.replace(profile, learning_rates={})
    baseline = known_stages(profile)[profile.stages[0]]
    runs = [Run(profile=untuned, stage=baseline, seed=TRIAL_SEED, overrides={})]
    for stage in unchosen:
        for rate in (profile.head_rates if stage.base else ()) or profile.trial_rates:
            overrides = {"budget": profile.trial_budget, "learning_rate": rate}
            runs.append(Run(profile=untuned, stage=stage, seed=TRIAL_SEED, overrides=overrides))
    return runs


def choice_rows(trials: list[dict]) -> list[dict[str, str]]:
    """Return one row per trial; a stage's best has the lowest mean EER of the two masked conditions.

    trials: the results of ``pipeline.evaluate.trial``, of all stages. Of equal ones the first is chosen; the teacher of
    the trials has no tried rate, so that it is never chosen.
    """
    best: dict[str, dict] = {}
    for trial in trials:
        if trial["learning_rate"] is not None:
            best[trial["stage"]] = min(best.get(trial["stage"], trial), trial, key=_masked_eer)
    return [
        {
            "stage": trial["stage"],
            "learning_rate": "" if trial["learning_rate"] is None else f"{trial['learning_rate']:g}",
            "faces": str(trial["faces"]),
            **{f"eer {condition}": f"{trial['eer'][condition]:.6f}" for condition in CONDITIONS},
            "chosen": "yes" if best.get(trial["stage"]) is trial else "no",
        }
        for trial in trials
    ]


def _masked_eer(trial: dict) -> float:
    return (trial["eer"]["masked-unmasked"] + trial["eer"]["masked-masked"]) / 2


def write_choices(profile: Profile) -> Path:
    """Add the finished trials of a profile to its file of choices; a missing trial raises FileNotFoundError.

    Earlier choices stay: only a new method is tried.
    """
    path = choices.choices_file(profile.faces)
    before = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.exists() else []
    listed = {(row["stage"], row["learning_rate"]) for row in before}
    rows = choice_rows([files.read_json(run.folder / TRIAL_RESULT) for run in trials(profile)])
    with files.whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*before, *(row for row in rows if (row["stage"], row["learning_rate"]) not in listed)])
    return path
