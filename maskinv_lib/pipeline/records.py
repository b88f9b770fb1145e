"""The results of a training and an evaluation, in memory and on disk: JSON, and resampled rates as bytes."""

import contextlib
import dataclasses
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.evaluation.evaluate import Evaluation
from maskinv_lib.evaluation.metrics import RATES, ErrorCurve, Metric
from maskinv_lib.study import made
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
    """Write numbers and curves as JSON, and the rates in every resample as bytes, for later comparisons; note both.

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
    head = {"key": run.evaluation_key, "benchmark": benchmark}
    if real:
        head["teacher_sha256"] = run.profile.faces.config()["teacher"]
    text = json.dumps({**head, "conditions": records}, allow_nan=False, separators=(",", ":"))
    with made.evaluation(run).making():
        with files.whole_file(run.evaluation_folder / RESAMPLES) as temporary:
            np.savez_compressed(temporary, **packed(rates))
        files.write_text(run.evaluation_folder / METRICS, text.replace('{"condition"', '\n{"condition"') + "\n")


def _without_empty(metric: Metric) -> dict:
    return {name: value for name, value in asdict(metric).items() if name == "value" or value not in (None, "")}


def read_evaluation(run: Run, folder: Path | zipfile.Path | None = None) -> Evaluated:
    """Read the files of ``write_evaluation`` from the run's folder or another one, such as one inside an archive.

    A missing or damaged file raises an error that names it and the remedy. So does, in the run's own folder, a file
    from other code or settings, or one that is not what its maker noted; from another folder such numbers are read, and
    ``source`` states it.
    """
    own, folder = folder is None, folder or run.evaluation_folder
    run_folder = folder if run.evaluation_folder == run.folder else folder.parent
    try:
        facts, resamples = _read_facts(run_folder / FACTS), _read_resamples(folder / RESAMPLES)
        record = files.read_json(folder / METRICS)
        with _naming(folder / METRICS):
            key, cases = record["key"], dict(_read_case(part, resamples) for part in record["conditions"])
    except (OSError, ValueError) as error:
        again = f"Make it with: {run.command('evaluate')}"
        raise FileNotFoundError(f"{run.label()} has no readable evaluation: {error} {again}") from None
    if own:
        _check_noted(run, key)
    current = key == run.evaluation_key
    source = HERE if own else PUBLISHED + ("" if current else ", with other code, settings or data than those here")
    evaluations, curves = ({case: pair[index] for case, pair in cases.items()} for index in range(2))
    return Evaluated(run=run, evaluations=evaluations, curves=curves, facts=facts, source=source)


DAMAGES = (
    *(ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError),
    *files.DAMAGED_ARCHIVE,
)
"""What NumPy and the code below raise for a file that was cut or changed."""


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes the block raise into one ValueError with the file's name."""
    try:
        yield
    except DAMAGES as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}).") from None


SHOWN_FACTS = ("precision", "seconds", "faces_per_second")
"""The facts of a training that the reports show."""


def _read_facts(path: Path) -> dict:
    facts = files.read_json(path)
    missing = [name for name in SHOWN_FACTS if name not in facts]
    if facts.get("status") != "finished" or missing:
        state = f"says that the training is {facts.get('status')}" if not missing else f"lacks {', '.join(missing)}"
        raise ValueError(f"{path} {state}.")
    return facts


def _read_resamples(path: Path) -> dict[str, np.ndarray]:
    with _naming(path), np.load(io.BytesIO(path.read_bytes())) as arrays:
        return unpacked({name: arrays[name] for name in arrays.files})


def _read_case(part: dict, resamples: dict[str, np.ndarray]) -> tuple[tuple[str, str], tuple[Evaluation, ErrorCurve]]:
    """Return ((condition, mask kinds), (evaluation, curve)) of one part of ``metrics.json``."""
    case = (part["condition"], part["mask_kinds"])
    curve = {n: np.array(v) if isinstance(v, list) else v for n, v in part["curve"].items()}
    evaluation = Evaluation(
        metrics={metric["name"]: Metric(**metric) for metric in part["metrics"]},
        resamples={n.rpartition("/")[2]: v for n, v in resamples.items() if n.startswith("/".join(case) + "/")},
        thresholds=None,
        **{name: part[name] for name in NUMBERS},
    )
    return case, (evaluation, ErrorCurve(**{"thresholds": np.full(len(curve["fmr"]), np.nan), **curve}))


def _check_noted(run: Run, key: str) -> None:
    """Raise ValueError unless the run's own files have today's key and are what training and evaluation noted."""
    again = f"Make it again with: {run.command('evaluate')}"
    if key != run.evaluation_key:
        raise ValueError(f"{run.label()} was evaluated with other code or settings. {again}")
    faults = made.evaluation(run).faults()
    if faults is None:
        raise ValueError(f"The evaluation of {run.label()} did not end, or was not noted. {again}")
    faults |= {path: fault for path, fault in (made.training(run).faults() or {}).items() if path.name == FACTS}
    for path, fault in faults.items():
        command = run.command("train" if path.name == FACTS else "evaluate")
        raise ValueError(f"{path} is {fault}. Make it again with: {command}")
