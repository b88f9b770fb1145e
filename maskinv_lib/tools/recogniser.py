"""Verification of your own photographs: a finished run as a recogniser that decides at the run's own thresholds.

A threshold is valid for its network, and on the pairs on which it was set: every decision names these pairs.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskinv_lib.faces.photographs import Photographs, pixels_of
from maskinv_lib.networks.published import import_weights
from maskinv_lib.networks.templates import NetworkRecogniser, similarity
from maskinv_lib.networks.weights import OWN, read_tensors
from maskinv_lib.study.data import UNMASKED
from maskinv_lib.tools.thresholds import Decision, Threshold, remedy, stored_thresholds
from maskinv_lib.utils import checks, files

MODEL = "model.safetensors"
"""Name of the model's file in the folder of a finished run."""


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
        self.thresholds = stored_thresholds(path.parent, self.facts) if evaluated else []

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
            raise FileNotFoundError(f"{self.path} has no thresholds{reason}. {remedy(self.facts)}")
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
