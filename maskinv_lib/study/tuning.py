"""Trials: settings that are tried on validation people, and the best one of each stage as a file to be committed.

``choices`` reads what was chosen, before any test set is opened.
"""

import csv
import dataclasses
import io
from pathlib import Path

from maskinv_lib.study import choices
from maskinv_lib.study.data import CONDITIONS
from maskinv_lib.study.profiles import known_stages
from maskinv_lib.study.recipes import Profile, Stage
from maskinv_lib.study.runs import Run
from maskinv_lib.utils import files

COLUMNS = ("stage", "learning_rate", "faces", *(f"eer {condition}" for condition in CONDITIONS), "chosen")

TRIAL_RESULT = "validation.json"
"""What a finished trial leaves in its folder."""

TRIAL_SEED = 100
"""Seed of the trials that choose settings: none of a study's own."""


def tuned_stages(profile: Profile) -> list[Stage]:
    """Return the stages whose settings are chosen on validation people: those that train and take no other's settings.

    With the scope "all" also the other methods, all of our own candidates among them.
    """
    stages = known_stages(profile)
    others = [stage.name for stage in stages.values() if stage.question != "ablation"]
    names = (*profile.stages, *(others if profile.scope == "all" else ()))
    return [stages[name] for name in names if stages[name].is_tuned]


def stages_without_choice(profile: Profile) -> list[str]:
    """Return the stages of a profile that still wait for a choice of their settings before they may be tested.

    Where the rungs of rendered people run without one, they have the profile's own rate, the same for all.
    """
    if not profile.trial_rates or (profile.scope == "ablation" and profile.faces.publishable):
        return []
    return [stage.name for stage in tuned_stages(profile) if stage.name not in profile.learning_rates]


def trials(profile: Profile) -> list[Run]:
    """Return the runs that choose a learning rate on validation people where none was chosen; their teacher is first.

    Three rates a stage, each at the profile's ``trial_budget``. The teacher itself has the whole budget and the
    profile's own rate, so that no trial depends on a choice. Empty where nothing is left to choose.
    """
    unchosen = [stage for stage in tuned_stages(profile) if stage.name not in profile.learning_rates]
    if not (unchosen and profile.trial_rates):
        return []
    bare = dataclasses.replace(profile, learning_rates={})
    baseline = known_stages(profile)[profile.stages[0]]
    runs = [Run(profile=bare, stage=baseline, seed=TRIAL_SEED, overrides={})]
    for stage in unchosen:
        for rate in (profile.head_rates if stage.base else ()) or profile.trial_rates:
            overrides = {"budget": profile.trial_budget, "learning_rate": rate}
            runs.append(Run(profile=bare, stage=stage, seed=TRIAL_SEED, overrides=overrides))
    return runs


def choice_rows(trials: list[dict]) -> list[dict[str, str]]:
    """Return one row per trial; a stage's best has the lowest mean EER of the two masked conditions, unseen masks.

    trials: what ``pipeline.evaluate.trial`` returned, of all stages. Of equals the first is chosen; the trials' teacher
    was given no rate and chooses nothing.
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
    """Add to the choices of a profile those of its finished trials; one that is missing raises FileNotFoundError.

    What was chosen before stays as it is: a new method is tried alone.
    """
    path = choices.choices_file(profile.faces)
    before = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.exists() else []
    listed = {(row["stage"], row["learning_rate"]) for row in before}
    rows = choice_rows([files.read_json(run.folder / TRIAL_RESULT) for run in trials(profile)])
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*before, *(row for row in rows if (row["stage"], row["learning_rate"]) not in listed)])
    files.write_text(path, text.getvalue())
    return path
