"""A study as a whole: its evaluations side by side, and the two CSV files and figures that it leaves."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from maskinv_lib import files, pipeline, study
from maskinv_lib.evaluation import Evaluation
from maskinv_lib.metrics import Metric
from maskinv_lib.pipeline import Evaluated
from maskinv_lib.recipes import Profile
from maskinv_lib.study import Run
from maskinv_lib.tables import title
from maskinv_lib.uncertainty import metric_over_seeds
from maskinv_lib.verdicts import COLUMNS, Difference, claim_differences, other_differences

METRIC_COLUMNS = (
    "profile",
    "stage",
    "seed",
    "benchmark",
    "condition",
    "mask_kinds",
    "metric",
    "value",
    "low",
    "high",
    "genuine",
    "impostor",
    "note",
)
"""The columns of ``metrics.csv``; seed is a number, or "all" for the mean over seeds with its interval."""


def evaluation_rows(run: Run, seed: int | str, metrics: dict[tuple[str, str], dict[str, Metric]]) -> list[dict]:
    """Return rows of ``metrics.csv`` from metrics by (condition, mask kinds) and name."""
    place = {"profile": run.profile.name, "stage": run.name, "seed": seed, "benchmark": pipeline.BENCHMARK}
    rows = []
    for (condition, kinds), found in metrics.items():
        for metric in found.values():
            numbers = {name: getattr(metric, name) for name in ("value", "low", "high", "genuine", "impostor", "note")}
            rows.append({**place, "condition": condition, "mask_kinds": kinds, "metric": metric.name, **numbers})
    return rows


def own_metrics(evaluations: dict[tuple[str, str], Evaluation]) -> dict[tuple[str, str], dict[str, Metric]]:
    """Return every metric of one trained network with its interval over identities."""
    return over_seeds([evaluations])


def over_seeds(
    seeds: list[dict[tuple[str, str], Evaluation]],
) -> dict[tuple[str, str], dict[str, Metric]]:
    """Return every metric's mean over seeds with its interval over seeds and identities."""
    first = seeds[0]
    return {
        place: {name: metric_over_seeds([one[place] for one in seeds], name) for name in first[place].metrics}
        for place in first
    }


def gather(profile: Profile, seeds: range) -> tuple[dict[str, list[Evaluated]], str]:
    """Return the evaluations of a study by stage, seed by seed, and where they come from, in words.

    If nothing of the profile was run here, the published results are read instead, of whatever seeds there are. An
    evaluation that is missing raises FileNotFoundError naming the command that makes it.
    """
    planned = study.planned(profile, seeds)
    published = study.results() / profile.name / "stages"
    if published.exists() and not any((run.folder / "metrics.json").exists() for run in planned):
        count = max(len(list((published / name).glob("seed-*"))) for name in profile.stages)
        places = [
            (run, published / run.stage.name / f"seed-{run.seed}") for run in study.planned(profile, range(count))
        ]
        return _by_stage(places), "read from the published results, because nothing of it was run here"
    return _by_stage([(run, run.folder) for run in planned]), "evaluated here"


def _by_stage(places: list[tuple[Run, Path]]) -> dict[str, list[Evaluated]]:
    found: dict[str, list[Evaluated]] = {}
    for run, folder in places:
        found.setdefault(run.stage.name, []).append(pipeline.read_evaluation(run, folder))
    return found


def seeds_in_words(gathered: dict[str, list[Evaluated]]) -> str:
    """Return how many seeds were gathered: ``5 seeds``, or ``1 seed``."""
    count = min(len(found) for found in gathered.values())
    return f"{count} seed{'s' if count != 1 else ''}"


def rungs(
    gathered: dict[str, list[Evaluated]], places: Iterable[tuple[str, str]], *names: str
) -> tuple[dict[str, dict], dict[str, dict[str, list[float]]]]:
    """Return (title -> stage -> metrics over seeds, title -> stage -> each seed's value) for the figures and tables.

    With one name, the first holds the metric itself, else a dict by name; the second is of the first name.
    """
    means: dict[str, dict] = {}
    dots: dict[str, dict[str, list[float]]] = {}
    for place in places:
        heading = title(*place)
        for stage, found in gathered.items():
            parts = [one.evaluations[place] for one in found]
            metrics = {name: metric_over_seeds(parts, name) for name in names}
            means.setdefault(heading, {})[stage] = metrics[names[0]] if len(names) == 1 else metrics
            values = [part.metrics[names[0]].value for part in parts]
            dots.setdefault(heading, {})[stage] = [value for value in values if value is not None]
    return means, dots


def folder(profile: Profile, kind: str = "tables") -> Path:
    """Return where a study's tables, or its figures, are written."""
    return study.runs() / profile.name / kind


def save_figure(profile: Profile, name: str, figure: Figure) -> None:
    """Write a figure of the study as PNG at 110 dots per inch and as SVG, whole or not at all."""
    for kind in ("png", "svg"):
        with files.whole_file(folder(profile, "figures") / f"{name}.{kind}") as temporary:
            figure.savefig(temporary, dpi=110, metadata={"Date": None} if kind == "svg" else None)


def metrics_frame(gathered: dict[str, list[Evaluated]]) -> pd.DataFrame:
    """Return ``metrics.csv`` as a frame: every seed of every stage, then the mean over seeds."""
    rows = []
    for evaluated in gathered.values():
        for one in evaluated:
            rows += evaluation_rows(one.run, one.run.seed, own_metrics(one.evaluations))
        if len(evaluated) > 1:
            rows += evaluation_rows(evaluated[0].run, "all", over_seeds([one.evaluations for one in evaluated]))
    return pd.DataFrame(rows, columns=METRIC_COLUMNS)


def differences(gathered: dict[str, list[Evaluated]], profile: Profile) -> tuple[list[Difference], list[Difference]]:
    """Return (the rows that decide the claims, the same contrasts in other metrics and conditions)."""
    evaluations = {(name, one.run.seed): one.evaluations for name, all_ in gathered.items() for one in all_}
    names = {"profile": profile.name, "benchmark": pipeline.BENCHMARK}
    return claim_differences(evaluations, **names), other_differences(evaluations, **names)


def differences_frame(rows: Iterable[Difference]) -> pd.DataFrame:
    """Return ``differences.csv`` as a frame."""
    return pd.DataFrame([row.row() for row in rows], columns=list(COLUMNS))


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as CSV, whole or not at all; missing values are empty, numbers have nine digits."""
    files.write_text(path, frame.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
