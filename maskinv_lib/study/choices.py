"""The settings that were chosen on validation people and committed: profiles read them from here."""

import csv
from pathlib import Path

from maskinv_lib.study.data import RealFaces, RenderedFaces
from maskinv_lib.study.methods import OURS
from maskinv_lib.utils import paths
from maskinv_lib.utils.files import content_hash

Faces = RenderedFaces | RealFaces


def choices_file(faces: Faces) -> Path:
    """Return the file that lists the settings tried on a data set's validation people, and which were chosen.

    Each training set, and on real people each teacher, has its own file: its best settings may differ.
    """
    config = faces.config("train", "validation")
    return paths.root() / "workflow" / "choices" / f"{faces.people}-{content_hash(config)[:8]}.csv"


def chosen_settings(faces: Faces) -> list[dict[str, str]]:
    """Return the chosen rows of that file, one per stage; none before any choice."""
    path = choices_file(faces)
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["chosen"] == "yes"]


def chosen_rates(faces: Faces) -> dict[str, float]:
    """Return stage -> the learning rate that was chosen for it; empty before any choice."""
    return {row["stage"]: float(row["learning_rate"]) for row in chosen_settings(faces)}


def common_rate(faces: Faces, otherwise: float) -> float:
    """Return the learning rate that was chosen for all stages of a data set; ``otherwise`` before any choice."""
    return next(iter(chosen_rates(faces).values()), otherwise)


def best_candidate(faces: Faces) -> str | None:
    """Return the best of our own candidates on masked validation people; None before any choice.

    Only it is evaluated on test people; the others are only listed in the file of the choices.
    """
    candidates = {stage.name for stage in OURS}
    rows = [row for row in chosen_settings(faces) if row["stage"] in candidates]
    conditions = ("eer masked-unmasked", "eer masked-masked")
    return min(rows, key=lambda row: sum(float(row[name]) for name in conditions))["stage"] if rows else None
