"""The settings that were chosen on validation people and committed, as profiles read them."""

import csv
from pathlib import Path

from maskinv_lib.study.data import RealFaces, RenderedFaces
from maskinv_lib.study.methods import OURS
from maskinv_lib.utils import paths
from maskinv_lib.utils.files import content_hash


def choices_file(of: RenderedFaces | RealFaces) -> Path:
    """Return the file of the settings tried on a data set's validation people, and which of them were chosen.

    Each training set, and each teacher of real people, has its own: what suits one need not suit another.
    """
    kind = "real" if isinstance(of, RealFaces) else "rendered"
    decides = of.config("train") if kind == "real" else of.config("train", "validation")
    return paths.root() / "workflow" / "choices" / f"{kind}-{content_hash(decides)[:8]}.csv"


def _choices(of: RenderedFaces | RealFaces) -> list[dict[str, str]]:
    path = choices_file(of)
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["chosen"] == "yes"]


def _chosen_rates(of: RenderedFaces | RealFaces) -> dict[str, float]:
    """Return stage -> the learning rate that was chosen for it; empty before any choice."""
    return {row["stage"]: float(row["learning_rate"]) for row in _choices(of)}


def best_candidate(of: RenderedFaces | RealFaces) -> str | None:
    """Return which of our own candidates did best on validation people, masked in unseen kinds; None before any choice.

    It alone is tested; the others are only listed in the file of the choices.
    """
    own = {stage.name for stage in OURS}
    tried = [row for row in _choices(of) if row["stage"] in own]
    masked = ("eer masked-unmasked", "eer masked-masked")
    return min(tried, key=lambda row: sum(float(row[name]) for name in masked))["stage"] if tried else None
