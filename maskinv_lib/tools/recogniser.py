"""Verification of one's own photographs: a finished run opened as a recogniser that decides at the thresholds it has.

A threshold belongs to the network it was set for, and to the pairs it was set on: every decision names both.
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
"""A finished run's model, in the run's folder."""

BY_HAND = "chosen by hand"
"""What a threshold says in the place of a benchmark where no evaluation set it."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A score that a run's evaluation stored: at or above it two templates count as one person's.

    value: cosine in [-1, 1], None where it is not measurable. fmr: the false match rate that it was set for. benchmark,
    condition, mask_kinds: the pairs that it was set on. fnmr: share of their genuine pairs that it rejects, None with
    value. impostor: how many impostor pairs the false match rate rests on.
    """

    value: float | None
    fmr: float
    benchmark: str
    condition: str
    mask_kinds: str
    fnmr: float | None
    impostor: int

    @property
    def on(self) -> str:
        """What it was set on, in words."""
        kinds = "" if self.mask_kinds == "none" else f" ({self.mask_kinds} masks)"
        return f"the {self.condition} pairs{kinds} of {self.benchmark}, {self.impostor:,} of them impostor"

    def __str__(self) -> str:
        if self.value is None:
            return f"FMR {self.fmr:.1%} is {NOT_MEASURABLE} on {self.on}"
        if self.benchmark == BY_HAND:
            return f"threshold {self.value:.3f}, {BY_HAND}: no false match rate is known for it"
        return f"threshold {self.value:.3f}, set for FMR {self.fmr:.1%} (FNMR {self.fnmr:.1%}) on {self.on}"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Two templates compared. score: their cosine. same: whether it reaches the threshold, None without a value."""

    score: float
    same: bool | None
    threshold: Threshold

    def __str__(self) -> str:
        if self.same is None:
            return f"No decision at similarity {self.score:.3f}: {self.threshold}."
        people, place = ("the same person", "reaches") if self.same else ("different people", "stays below")
        return f"Taken as {people}: similarity {self.score:.3f} {place} the {self.threshold}."


class OpenedRecogniser:
    """A network with the thresholds that its evaluation stored.

    thresholds: by benchmark, condition and FMR, empty for a model without an evaluation; ``decide`` then says which
    command makes one. path: the model's file. network, facts: what the file holds.
    """

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        self.path = path
        self.network, self.facts = import_weights(path)
        if path.suffix == ".safetensors":
            self.facts |= {name: value for name, value in read_tensors(path)[1].items() if name not in OWN}
        self._recogniser = NetworkRecogniser(self.network, device)
        own = path.name == MODEL and "key" in self.facts  # a milestone has the run's key, but not its thresholds
        self.thresholds = _thresholds(path.parent, self.facts) if own else []

    def templates(self, faces: Photographs, landmarks: Mapping[str, np.ndarray] | None = None) -> Tensor:
        """Return flip-summed templates, float32 [N, D] of unit length, of aligned faces, as the evaluation made them.

        A picture file must hold an aligned 112 x 112 face; with ``landmarks``, name -> five points [5, 2], a file of
        that name is aligned. Those of a folder of people come in the order of ``read_folder``. Anything else raises
        ValueError naming the file.
        """
        return self._recogniser.templates(pixels_of(faces, landmarks))

    def threshold(
        self, *, condition: str = UNMASKED, fmr: float = 0.01, benchmark: str = "", mask_kinds: str = ""
    ) -> Threshold:
        """Return the stored threshold for a mask condition at an FMR (0.01 or 0.001).

        benchmark: "" takes the one with most impostor pairs. mask_kinds: "" takes masks that training did not draw.
        Raises FileNotFoundError, naming the command, without an evaluation; ValueError naming what is known.
        """
        if not self.thresholds:
            where = "" if self.path.name == MODEL else f" (they are those of a run's {MODEL})"
            raise FileNotFoundError(f"{self.path} has no thresholds{where}. {_remedy(self.facts)}")
        found = self.thresholds
        for name, value in {"condition": condition, "benchmark": benchmark, "mask_kinds": mask_kinds}.items():
            if value:
                known = dict.fromkeys(getattr(one, name) for one in found)
                checks.choose(name, value, known)
                found = [one for one in found if getattr(one, name) == value]
        rates = sorted({one.fmr for one in found})
        if fmr not in rates:
            raise ValueError(f"No threshold is stored for FMR {fmr!r}. Known: {', '.join(map(str, rates))}.")
        order = {"unseen": 2, "real": 2, "none": 1}
        return max(
            (one for one in found if one.fmr == fmr), key=lambda one: (one.impostor, order.get(one.mask_kinds, 0))
        )

    def decide(self, a: Tensor, b: Tensor, threshold: Threshold | None = None, **chosen: object) -> Decision:
        """Compare two templates, [D] or [1, D] each, at ``threshold``, or at the one that ``threshold(**chosen)`` is.

        Printed, the decision is a sentence. More than one template a side raises ValueError.
        """
        sides = [side[None] if side.ndim == 1 else side for side in (a, b)]
        if any(len(side) != 1 for side in sides):
            raise ValueError(f"Decide on one template a side, not {len(sides[0])} and {len(sides[1])}: use similarity.")
        threshold = threshold or self.threshold(**chosen)
        score = float(similarity(*sides))
        same = None if threshold.value is None else score >= threshold.value
        return Decision(score=score, same=same, threshold=threshold)


def open_recogniser(path: Path | str, device: torch.device | str = "cpu") -> OpenedRecogniser:
    """Open a finished run's folder, its ``model.safetensors``, or published weights (which have no thresholds).

    Raises FileNotFoundError for a path without a model, and ValueError for a damaged one, or for an evaluation that
    other code, settings or another model made, naming the command that makes it anew.
    """
    path = Path(path)
    file = path / MODEL if path.is_dir() else path
    if not file.is_file():
        _refuse_combination(path)
        raise FileNotFoundError(f"{file} does not exist. Give a run's folder, runs/<profile>/seed-<n>/<stage>.")
    return OpenedRecogniser(file, device)


def _refuse_combination(folder: Path) -> None:
    about = folder / "run.json"
    if about.is_file() and "how" in files.read_json(about).get("config", {}):
        raise ValueError(f"{folder} combines other systems and has no model of its own. Open one of its parts.")


def fixed_threshold(value: float) -> Threshold:
    """Return a threshold that somebody chose by hand, a cosine in [-1, 1]: no false match rate is known for it."""
    if not -1 <= value <= 1:
        raise ValueError(f"A threshold must be a cosine from -1 to 1, not {value!r}.")
    told = {"benchmark": BY_HAND, "condition": "", "mask_kinds": "none"}
    return Threshold(value=float(value), fmr=math.nan, fnmr=math.nan, impostor=0, **told)


def _thresholds(folder: Path, facts: dict) -> list[Threshold]:
    """Return the thresholds of every evaluation in a run's folder: beside the model, or one folder a benchmark."""
    found = []
    for path in sorted([*folder.glob("metrics.json"), *folder.glob("*/metrics.json")]):
        record = files.read_json(path)
        if path.parent != folder and record.get("benchmark") != path.parent.name:
            continue  # another run's folder, not one of this run's benchmarks
        try:
            _check_current(path, record, facts)
            found += [one for part in _deployable(record) for one in _of_condition(record["benchmark"], part)]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is no evaluation of this study ({error!r}). {_remedy(facts)}") from None
    return found


def _deployable(record: dict) -> list[dict]:
    """Return an evaluation's conditions but the published code's, which is none that a face could be in."""
    return [part for part in record["conditions"] if part["condition"] != RELEASED]


def _of_condition(benchmark: str, part: dict) -> list[Threshold]:
    place = {"benchmark": benchmark, "condition": part["condition"], "mask_kinds": part["mask_kinds"]}
    return [
        Threshold(
            value=metric.get("threshold"),
            fmr=OPERATING_POINTS[metric["name"]],
            fnmr=metric["value"],
            impostor=metric["impostor"],
            **place,
        )
        for metric in part["metrics"]
        if metric["name"] in OPERATING_POINTS
    ]


def _run_of(facts: dict) -> Run | None:
    """Return the run that a model's file says it is; None where this study does not know it."""
    stage, *overrides = str(facts.get("stage")).split("+")
    with contextlib.suppress(ValueError, FileNotFoundError):
        told = {"profile": facts.get("profile"), "stage": stage, "seed": facts.get("seed")}
        return open_run(**told, overrides=", ".join(overrides))
    return None


def _check_current(path: Path, record: dict, facts: dict) -> None:
    """Refuse an evaluation that is not of this model, as far as the run is known here and its model is current."""
    run = _run_of(facts)
    if run is None or run.key != facts["key"]:
        return
    known = {one.tested_on.name: one for one in run.evaluations}
    own = known.get(path.parent.name) or (run if len(known) == 1 else None)
    if own is not None and own.evaluation_key != record["key"]:
        raise ValueError(f"{path} was made by other code, settings or another model. {_remedy(facts)}")


def _remedy(facts: dict) -> str:
    run = _run_of(facts)
    if run is None:
        return "Give a threshold of your own, or the folder of a run that was evaluated."
    return f"Evaluate it with: {run.command.replace('02-train', '03-evaluate')}"
