"""A run's measured results on disk: numbers and curves as JSON, the rates in every resample as bytes."""

import dataclasses
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from maskinv_lib import files
from maskinv_lib.benchmarks import Comparisons
from maskinv_lib.evaluation import Evaluation
from maskinv_lib.metrics import RATES, ErrorCurve, Metric
from maskinv_lib.study import Run

HERE = "evaluated here"
PUBLISHED = "read from the published results, because it was not run here"


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A run's results: an evaluation and an error curve per (condition, mask kinds).

    comparisons: the scores themselves, only where they were just computed. facts: what ``run.json`` says of the
    training. source: where the numbers come from.
    """

    run: Run
    evaluations: dict[tuple[str, str], Evaluation]
    curves: dict[tuple[str, str], ErrorCurve]
    comparisons: dict[tuple[str, str], Comparisons] = dataclasses.field(default_factory=dict)
    facts: dict = dataclasses.field(default_factory=dict)
    source: str = HERE


MISSING = 255


def packed(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Return a resampled rate [R] as bytes with its lowest value and step; NaN is ``MISSING``.

    254 steps over the range of thousands of resamples add less than a hundredth of their standard deviation, and
    make a study of many seeds small enough to be published.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    low = finite.min() if len(finite) else 0.0
    step = (finite.max() - low) / (MISSING - 1) if len(finite) and finite.max() > low else 1.0
    levels = np.where(np.isfinite(values), np.round((values - low) / step), MISSING).astype(np.uint8)
    return {name: levels, f"{name}/scale": np.array([low, step])}


def unpacked(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the resampled rates by name, float32 [R], from what ``packed`` made."""
    found = {}
    for name in (name for name in arrays if not name.endswith("/scale")):
        low, step = arrays[f"{name}/scale"]
        found[name] = np.where(arrays[name] == MISSING, np.nan, low + step * arrays[name]).astype(np.float32)
    return found


CURVE_POINTS = 120


def _thinned(curve: ErrorCurve) -> dict:
    """Return a curve as JSON, about ``CURVE_POINTS`` points with five digits, most of them at low FMR."""
    by_fmr = len(curve.fmr) - np.geomspace(1, len(curve.fmr), CURVE_POINTS * 2 // 3).round().astype(int)
    evenly = np.linspace(0, len(curve.fmr) - 1, CURVE_POINTS // 3).round().astype(int)
    index = np.unique(np.concatenate([by_fmr, evenly]))
    values = {name: [float(f"{x:.5g}") for x in getattr(curve, name)[index]] for name in ("thresholds", "fmr", "fnmr")}
    return {**values, "genuine": curve.genuine, "impostor": curve.impostor}


def write_evaluation(found: Evaluated, benchmark: str) -> None:
    """Write what later comparisons need: numbers and curves as JSON, the rates in every resample as bytes."""
    records = []
    arrays: dict[str, np.ndarray] = {}
    for (condition, kinds), evaluation in found.evaluations.items():
        plain = {
            name: getattr(evaluation, name)
            for name in ("identities", "fold_error", "threshold", "effective_genuine", "effective_impostor")
        }
        records.append(
            {
                "condition": condition,
                "mask_kinds": kinds,
                "metrics": [asdict(metric) for metric in evaluation.metrics.values()],
                "curve": _thinned(found.curves[condition, kinds]),
                **plain,
            }
        )
        rates = {name: values for name, values in evaluation.resamples.items() if name in RATES}
        for name, values in rates.items():
            arrays |= packed(f"{condition}/{kinds}/{name}", values)
    with files.whole_file(found.run.folder / "resamples.npz") as temporary:
        np.savez_compressed(temporary, **arrays)
    head = {"key": found.run.evaluation_key, "benchmark": benchmark}
    text = json.dumps({**head, "conditions": records}, allow_nan=False, separators=(",", ":"))
    files.write_text(found.run.folder / "metrics.json", text.replace('{"condition"', '\n{"condition"') + "\n")


def read_evaluation(run: Run, folder: Path | None = None) -> Evaluated:
    """Read what ``write_evaluation`` wrote, from the run's folder or another one.

    An unreadable file, or in the run's own folder one made by other code or settings, raises an error that names the
    remedy; from elsewhere such numbers are read and ``source`` says so.
    """
    own, folder = folder is None, folder or run.folder
    command = run.command.replace("02-train", "03-evaluate")
    try:
        record, facts = (files.read_json(folder / f"{name}.json") for name in ("metrics", "run"))
        with np.load(folder / "resamples.npz") as arrays:
            resamples = unpacked({name: arrays[name] for name in arrays.files})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise FileNotFoundError(
            f"{run.name}, seed {run.seed} has no readable evaluation: {error}. Make it with: {command}"
        ) from None
    current = record["key"] == run.evaluation_key
    if own and not current:
        raise ValueError(
            f"{run.name}, seed {run.seed} was evaluated with other code or settings. Make it anew with: {command}"
        )
    evaluations, curves = {}, {}
    for part in record["conditions"]:
        place = (part["condition"], part["mask_kinds"])
        curves[place] = ErrorCurve(**{n: np.array(v) if isinstance(v, list) else v for n, v in part["curve"].items()})
        evaluations[place] = Evaluation(
            metrics={metric["name"]: Metric(**metric) for metric in part["metrics"]},
            resamples={n.rpartition("/")[2]: v for n, v in resamples.items() if n.startswith("/".join(place) + "/")},
            thresholds=None,
            **{
                n: part[n] for n in ("identities", "fold_error", "threshold", "effective_genuine", "effective_impostor")
            },
        )
    source = HERE if own else PUBLISHED + ("" if current else ", made with other code or settings than today's")
    return Evaluated(run=run, evaluations=evaluations, curves=curves, facts=facts, source=source)
