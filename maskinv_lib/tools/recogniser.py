"""Verification of your own photographs: a finished run as a recogniser that decides at the run's own thresholds.

A threshold is valid for its network, and on the pairs on which it was set: every decision names these pairs.
"""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskinv_lib.evaluation.benchmarks import RELEASED
from maskinv_lib.evaluation.metrics import NOT_MEASURABLE, OPERATING_POINTS
from maskinv_lib.faces.photographs import Photographs, pixels_of
from maskinv_lib.networks.published import import_weights
from maskinv_lib.networks.templates import NetworkRecogniser, similarity
from maskinv_lib.networks.weights import OWN, read_tensors
from maskinv_lib.study.data import UNMASKED
from maskinv_lib.study.runs import Run, open_run
from maskinv_lib.utils import checks, files

MODEL = "model.safetensors"
"""Name of the model's file in the folder of a finished run."""

BY_HAND = "chosen by hand"
"""Stands in place of a benchmark in a threshold that no evaluation set."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A score stored by a run's evaluation: two templates that reach it are accepted as the same person.

    value: cosine in [-1, 1], None where it is not measurable. fmr: the false match rate for which it was set.
    benchmark, condition, mask_kinds: the pairs on which it was set. fnmr: the share of their genuine pairs that it
    rejects, None if ``value`` is None. impostor: the number of their impostor pairs.
    """

    value: float | None
    fmr: float
    benchmark: str
    condition: str
    mask_kinds: str
    fnmr: float | None
    impostor: int

    @property
    def pairs(self) -> str:
        """The pairs on which it was set, as text."""
        kinds = "" if self.mask_kinds == "none" else f" ({self.mask_kinds} masks)"
        return f"the {self.condition} pairs{kinds} of {self.benchmark}, {self.impostor:,} of them impostor"

    def __str__(self) -> str:
        if self.value is None:
            return f"FMR {self.fmr:.1%} is {NOT_MEASURABLE} on {self.pairs}"
        if self.benchmark == BY_HAND:
            return f"threshold {self.value:.3f}, {BY_HAND}: no false match rate is known for it"
        return f"threshold {self.value:.3f}, set for FMR {self.fmr:.1%} (FNMR {self.fnmr:.1%}) on {self.pairs}"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The result of comparing two templates. score: their cosine.

    same: whether the score reaches the threshold, None for a threshold without a value.
    """

    score: float
    same: bool | None
    threshold: Threshold

    def __str__(self) -> str:
        if self.same is None:
            return f"No decision at similarity {self.score:.3f}: {self.threshold}."
        people, relation = ("the same person", "reaches") if self.same else ("different people", "is below")
        return f"Taken as {people}: similarity {self.score:.3f} {relation} the {self.threshold}."


class OpenedRecogniser:
    """A network with the thresholds that its evaluation stored.

    thresholds: one for each benchmark, condition, kind of masks and FMR; none for a model without an evaluation, and
    ``decide`` then names the command that evaluates it. path: the model's file. network, facts: the file's content.
    """

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        self.path = path
        self.network, self.facts = import_weights(path)
        if path.suffix == ".safetensors":
            self.facts |= {name: value for name, value in read_tensors(path)[1].items() if name not in OWN}
        self._recogniser = NetworkRecogniser(self.network, device)
        evaluated = path.name == MODEL and "key" in self.facts  # a milestone has the run's key, but not its thresholds
        self.thresholds = _thresholds(path.parent, self.facts) if evaluated else []

    def templates(self, faces: Photographs, landmarks: Mapping[str, np.ndarray] | None = None) -> Tensor:
        """Return flip-summed templates of aligned faces, float32 [N, D] of unit length, as the evaluation makes them.

        landmarks: picture name -> five points, float [5, 2]; a file of that name is aligned by them, every other file
        must contain an aligned 112 x 112 face. A folder of people is read in the order of ``read_folder``. Any other
        picture raises ValueError naming the file.
        """
        return self._recogniser.templates(pixels_of(faces, landmarks))

    def threshold(
        self, *, condition: str = UNMASKED, fmr: float = 0.01, benchmark: str = "", mask_kinds: str = ""
    ) -> Threshold:
        """Return the stored threshold for a mask condition at an FMR (0.01 or 0.001).

        benchmark: "" takes the one with most impostor pairs. mask_kinds: "" takes masks that training did not draw.
        Without an evaluation, raises FileNotFoundError naming the command that makes one; for an unknown choice,
        ValueError naming the known ones.
        """
        if not self.thresholds:
            reason = "" if self.path.name == MODEL else f" (only the {MODEL} of a run has them)"
            raise FileNotFoundError(f"{self.path} has no thresholds{reason}. {_remedy(self.facts)}")
        thresholds = self.thresholds
        for name, value in {"condition": condition, "benchmark": benchmark, "mask_kinds": mask_kinds}.items():
            if value:
                checks.choose(name, value, dict.fromkeys(getattr(threshold, name) for threshold in thresholds))
                thresholds = [threshold for threshold in thresholds if getattr(threshold, name) == value]
        rates = sorted({threshold.fmr for threshold in thresholds})
        if fmr not in rates:
            raise ValueError(f"No threshold is stored for FMR {fmr!r}. Known: {', '.join(map(str, rates))}.")
        preference = {"unseen": 2, "real": 2, "none": 1}
        return max(
            (threshold for threshold in thresholds if threshold.fmr == fmr),
            key=lambda threshold: (threshold.impostor, preference.get(threshold.mask_kinds, 0)),
        )

    def decide(self, a: Tensor, b: Tensor, threshold: Threshold | None = None, **choices: object) -> Decision:
        """Compare two templates, [D] or [1, D] each, at ``threshold``, or else at ``self.threshold(**choices)``.

        Printed, the decision is a sentence. More than one template in ``a`` or ``b`` raises ValueError.
        """
        a, b = (templates[None] if templates.ndim == 1 else templates for templates in (a, b))
        if len(a) != 1 or len(b) != 1:
            raise ValueError(f"decide compares one template with one, not {len(a)} and {len(b)}: use similarity.")
        threshold = threshold or self.threshold(**choices)
        score = float(similarity(a, b))
        same = None if threshold.value is None else score >= threshold.value
        return Decision(score=score, same=same, threshold=threshold)


def open_recogniser(path: Path | str, device: torch.device | str = "cpu") -> OpenedRecogniser:
    """Open a finished run's folder, its ``model.safetensors``, or published weights (which have no thresholds).

    Raises FileNotFoundError for a path without a model. Raises ValueError for a damaged model, and for an evaluation
    made with other code, other settings or another model; the error names the command that evaluates it again.
    """
    path = Path(path)
    file = path / MODEL if path.is_dir() else path
    if not file.is_file():
        _refuse_combination(path)
        raise FileNotFoundError(f"{file} does not exist. Give a run's folder, runs/<profile>/seed-<n>/<stage>.")
    return OpenedRecogniser(file, device)


def _refuse_combination(folder: Path) -> None:
    record = folder / "run.json"
    if record.is_file() and "how" in files.read_json(record).get("config", {}):
        raise ValueError(f"{folder} combines other methods and has no model of its own. Open one of its parts.")


def fixed_threshold(value: float) -> Threshold:
    """Return a threshold chosen by hand, a cosine in [-1, 1]: no false match rate is known for it."""
    if not -1 <= value <= 1:
        raise ValueError(f"A threshold must be a cosine from -1 to 1, not {value!r}.")
    rates = {"fmr": math.nan, "fnmr": math.nan, "impostor": 0}
    return Threshold(value=float(value), benchmark=BY_HAND, condition="", mask_kinds="none", **rates)


def _thresholds(folder: Path, facts: dict) -> list[Threshold]:
    """Return the thresholds of every evaluation in a run's folder: directly in it, or in one folder per benchmark."""
    thresholds = []
    for path in sorted([*folder.glob("metrics.json"), *folder.glob("*/metrics.json")]):
        record = files.read_json(path)
        if path.parent != folder and record.get("benchmark") != path.parent.name:
            continue  # the folder of another run, not of a benchmark of this run
        try:
            _check_current(path, record, facts)
            for condition in record["conditions"]:
                if condition["condition"] != RELEASED:  # the published code's condition, in which no photograph is
                    thresholds += _of_condition(record["benchmark"], condition)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is not an evaluation of this study ({error!r}). {_remedy(facts)}") from None
    return thresholds


def _of_condition(benchmark: str, condition: dict) -> list[Threshold]:
    return [
        Threshold(
            value=metric.get("threshold"),
            fmr=OPERATING_POINTS[metric["name"]],
            benchmark=benchmark,
            condition=condition["condition"],
            mask_kinds=condition["mask_kinds"],
            fnmr=metric["value"],
            impostor=metric["impostor"],
        )
        for metric in condition["metrics"]
        if metric["name"] in OPERATING_POINTS
    ]


def _run_of(facts: dict) -> Run | None:
    """Return the run that a model's file names; None if this study does not know it."""
    stage, *overrides = str(facts.get("stage")).split("+")
    names = {"profile": facts.get("profile"), "stage": stage, "seed": facts.get("seed")}
    with contextlib.suppress(ValueError, FileNotFoundError):
        return open_run(**names, overrides=", ".join(overrides))
    return None


def _check_current(path: Path, record: dict, facts: dict) -> None:
    """Refuse an evaluation that is not of this model, if the study knows the run and the model is current."""
    run = _run_of(facts)
    if run is None or run.key != facts["key"]:
        return
    by_benchmark = {evaluation.tested_on.name: evaluation for evaluation in run.evaluations}
    current = by_benchmark.get(path.parent.name) or (run if len(by_benchmark) == 1 else None)
    if current is not None and current.evaluation_key != record["key"]:
        raise ValueError(f"{path} was made with other code, other settings or another model. {_remedy(facts)}")


def _remedy(facts: dict) -> str:
    run = _run_of(facts)
    if run is None:
        return "Give a threshold of your own, or the folder of a run that was evaluated."
    return f"Evaluate it with: {run.command('evaluate')}"
