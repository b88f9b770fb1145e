"""Settings that were tried on validation people, and the best one of each stage, as a file to be committed.

The chosen ones are read by ``ladders`` before any test set is opened.
"""

import csv
import io
from pathlib import Path

from maskinv_lib import files, ladders, study
from maskinv_lib.recipes import Profile

CONDITIONS = ("unmasked-unmasked", "masked-unmasked", "masked-masked")
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
    path = ladders.choices_file(profile.faces)
    before = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.exists() else []
    known = {(row["stage"], row["learning_rate"]) for row in before}
    found = rows([files.read_json(run.folder / "validation.json") for run in study.trials(profile)])
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*before, *(row for row in found if (row["stage"], row["learning_rate"]) not in known)])
    files.write_text(path, out.getvalue())
    return path
