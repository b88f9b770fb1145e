"""The results of a training and an evaluation, in memory and on disk: JSON, and resampled rates as bytes."""

import dataclasses
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.evaluation.evaluate import Evaluation
from maskinv_lib.evaluation.metrics import RATES, ErrorCurve, Metric
from maskinv_lib.study.runs import FACTS, METRICS, RESAMPLES, Run
from maskinv_lib.utils import files

HERE = "computed in this run"
PUBLISHED = "read from the published results, because it was not run here"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished training: its run, the records of its log and the facts in its ``run.json``."""

    run: Run
    records: list[dict]
    facts: dict


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A run's results: an evaluation and an error curve per (condition, mask kinds).

    comparisons: the scores, only if they were just computed. facts: the facts of the training in ``run.json``. source:
    where the numbers come from.
    """

    run: Run
    evaluations: dict[tuple[str, str], Evaluation]
    curves: dict[tuple[str, str], ErrorCurve]
    comparisons: dict[tuple[str, str], Comparisons] = dataclasses.field(default_factory=dict)
    facts: dict = dataclasses.field(default_factory=dict)
    source: str = HERE


LEVELS, MISSING = 127, 255


def packed(rates: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return resampled rates by name, [R] each, as one array of bytes with names and scales; NaN is ``MISSING``.

    With 127 steps over the range of thousands of resamples, the rounding error is a fiftieth of their standard
    deviation, less than a thousandth of their variance. So a study of many seeds is small enough to be published.
    """
    values = np.stack(list(rates.values())).astype(np.float64)  # [K, R]
    finite = np.isfinite(values)
    low = np.where(finite, values, np.inf).min(axis=1, initial=np.inf)
    high = np.where(finite, values, -np.inf).max(axis=1, initial=-np.inf)
    low, high = np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)
    step = np.where(high > low, (high - low) / LEVELS, 1.0)
    steps = np.round((np.where(finite, values, 0.0) - low[:, None]) / step[:, None])
    levels = np.where(finite, steps, MISSING).astype(np.uint8)
    return {"names": np.array(list(rates)), "levels": levels, "scales": np.stack([low, step], axis=1)}


def unpacked(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the resampled rates by name, float32 [R], from the arrays of ``packed``."""
    low, step = arrays["scales"].T[:, :, None]
    values = np.where(arrays["levels"] == MISSING, np.nan, low + step * arrays["levels"]).astype(np.float32)
    return dict(zip(arrays["names"].tolist(), values, strict=True))


CURVE_POINTS = 60


def _thinned(curve: ErrorCurve, names: tuple[str, ...]) -> dict:
    """Return a curve as JSON data: about ``CURVE_POINTS`` points with five digits, most of them at low FMR."""
    by_fmr = len(curve.fmr) - np.geomspace(1, len(curve.fmr), CURVE_POINTS * 2 // 3).round().astype(int)
    evenly = np.linspace(0, len(curve.fmr) - 1, CURVE_POINTS // 3).round().astype(int)
    index = np.unique(np.concatenate([by_fmr, evenly]))
    values = {name: [float(f"{x:.5g}") for x in getattr(curve, name)[index]] for name in names}
    return {**values, "genuine": curve.genuine, "impostor": curve.impostor}


NUMBERS = ("identities", "fold_error", "threshold", "effective_genuine", "effective_impostor")
"""Fields of an ``Evaluation`` that are written and read unchanged."""


def write_evaluation(evaluated: Evaluated, benchmark: str) -> None:
    """Write numbers and curves as JSON, and the rates in every resample as bytes, for later comparisons.

    Curves of real people are written without their thresholds, which are scores of single pairs, and read with NaN
    instead. Of the other methods, which are many, only the resampled EER is kept, which the ranking needs.
    """
    run = evaluated.run
    kept = RATES if run.is_rung else ("eer",)
    real = not run.profile.faces.publishable
    names = ("fmr", "fnmr") if real else ("thresholds", "fmr", "fnmr")
    records, rates = [], {}
    for (condition, kinds), evaluation in evaluated.evaluations.items():
        records.append(
            {
                "condition": condition,
                "mask_kinds": kinds,
                "metrics": [_without_empty(metric) for metric in evaluation.metrics.values()],
                "curve": _thinned(evaluated.curves[condition, kinds], names),
                **{name: getattr(evaluation, name) for name in NUMBERS},
            }
        )
        rates |= {f"{condition}/{kinds}/{n}": values for n, values in evaluation.resamples.items() if n in kept}
    with files.whole_file(run.evaluation_folder / RESAMPLES) as temporary:
        np.savez_compressed(temporary, **packed(rates))
    head = {"key": run.evaluation_key, "benchmark": benchmark}
    if real:
        head["teacher_sha256"] = run.profile.faces.config()["teacher"]
    text = json.dumps({**head, "conditions": records}, allow_nan=False, separators=(",", ":"))
    files.write_text(run.evaluation_folder / METRICS, text.replace('{"condition"', '\n{"condition"') + "\n")


def _without_empty(metric: Metric) -> dict:
    return {name: value for name, value in asdict(metric).items() if name == "value" or value not in (None, "")}


def read_evaluation(run: Run, folder: Path | None = None) -> Evaluated:
    """Read the files of ``write_evaluation`` from the run's folder or another one.

    An unreadable file raises an error that names the remedy. So does, in the run's own folder, a file from other code
    or settings; from another folder such numbers are read, and ``source`` states it.
    """
    own, folder = folder is None, folder or run.evaluation_folder
    run_folder = folder if run.evaluation_folder == run.folder else folder.parent
    command = run.command("evaluate")
    try:
        record, facts = files.read_json(folder / METRICS), files.read_json(run_folder / FACTS)
        with np.load(folder / RESAMPLES) as arrays:
            resamples = unpacked({name: arrays[name] for name in arrays.files})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise FileNotFoundError(f"{run.label()} has no readable evaluation: {error}. Make it with: {command}") from None
    current = record["key"] == run.evaluation_key
    if own and not current:
        raise ValueError(f"{run.label()} was evaluated with other code or settings. Make it again with: {command}")
    evaluations, curves = {}, {}
    for part in record["conditions"]:
        case = (part["condition"], part["mask_kinds"])
        curve = {n: np.array(v) if isinstance(v, list) else v for n, v in part["curve"].items()}
        curves[case] = ErrorCurve(**{"thresholds": np.full(len(curve["fmr"]), np.nan), **curve})
        evaluations[case] = Evaluation(
            metrics={metric["name"]: Metric(**metric) for metric in part["metrics"]},
            resamples={n.rpartition("/")[2]: v for n, v in resamples.items() if n.startswith("/".join(case) + "/")},
            thresholds=None,
            **{name: part[name] for name in NUMBERS},
        )
    source = HERE if own else PUBLISHED + ("" if current else ", with other code, settings or data than those here")
    return Evaluated(run=run, evaluations=evaluations, curves=curves, facts=facts, source=source)
