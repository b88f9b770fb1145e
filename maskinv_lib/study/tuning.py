"""Settings that were tried on validation people, and the best one of each stage, as a file to be committed.

The chosen ones are read by ``ladders`` before any test set is opened.
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


def rows(found: list[dict]) -> list[dict[str, str]]:
    """Return one row per trial; a stage's best has the lowest mean EER of the two masked conditions, unseen masks.

    found: what ``pipeline.trial`` returned, of all stages. Of equals the first is chosen; what teaches the
    trials was given no rate and chooses nothing.
    """
    best: dict[str, dict] = {}
    for trial in found:
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
        for trial in found
    ]


def _masked_eer(trial: dict) -> float:
    return (trial["eer"]["masked-unmasked"] + trial["eer"]["masked-masked"]) / 2


def write(profile: Profile) -> Path:
    """Add to the choices of a profile those of its finished trials; one that is missing raises FileNotFoundError.

    What was chosen before stays as it is: a new method is tried alone.
    """
    path = choices.choices_file(profile.faces)
    before = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.exists() else []
    known = {(row["stage"], row["learning_rate"]) for row in before}
    found = rows([files.read_json(run.folder / "validation.json") for run in trials(profile)])
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*before, *(row for row in found if (row["stage"], row["learning_rate"]) not in known)])
    files.write_text(path, out.getvalue())
    return path


def tried(profile: Profile) -> list[Stage]:
    """Return the stages whose settings are chosen on validation people: all that train, but for those tuned as others.

    Of a widened profile also the systems beside the ladder, all of our own candidates among them.
    """
    beside = [stage.name for stage in known_stages(profile).values() if stage.question != "ablation"]
    names = (*profile.stages, *(beside if profile.scope == "all" else ()))
    stages = (known_stages(profile)[name] for name in names)
    return [stage for stage in stages if not (stage.tuned_as or stage.parts or stage.imported)]


def unchosen(profile: Profile) -> list[str]:
    """Return the stages of a profile that still wait for a choice of their settings before they may be tested.

    Where the six rungs of rendered people run without one, they have the profile's own rate, the same for all.
    """
    if not profile.trial_rates or (profile.scope == "ablation" and profile.people == "rendered"):
        return []
    return [stage.name for stage in tried(profile) if stage.name not in profile.learning_rates]


TRIAL_SEED = 100
"""Seed of the trials that choose settings: none of a study's own."""


def trials(profile: Profile) -> list[Run]:
    """Return the runs that choose a learning rate on validation people where none was; what teaches them stands first.

    Three rates a stage, each at the profile's ``trial_budget``. The teacher itself has the whole budget and the
    profile's own rate, so that no trial depends on a choice. Empty where nothing is left to choose.
    """
    bare = dataclasses.replace(profile, learning_rates={})
    left = [stage for stage in tried(profile) if stage.name not in profile.learning_rates]
    if not (left and profile.trial_rates):
        return []
    teacher = Run(profile=bare, stage=known_stages(profile)[profile.stages[0]], seed=TRIAL_SEED, overrides={})
    found = [teacher]
    for stage in left:
        for rate in (profile.head_rates if stage.base else ()) or profile.trial_rates:
            overrides = {"budget": profile.trial_budget, "learning_rate": rate}
            found.append(Run(profile=bare, stage=stage, seed=TRIAL_SEED, overrides=overrides))
    return found
