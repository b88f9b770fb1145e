"""Any model as a recogniser: a finished run, weights, an ONNX file, or a Python function, with its thresholds.

A threshold is valid for its network, and on the pairs on which it was set: every decision names these pairs.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskinv_lib.faces import Faces
from maskinv_lib.faces.folders import Folder, read_folder
from maskinv_lib.faces.names import shown, some
from maskinv_lib.faces.photographs import Photographs, pixels_of
from maskinv_lib.networks import Network
from maskinv_lib.networks.foreign import FUNCTION, ForeignRecogniser, imported_function, opened_onnx
from maskinv_lib.networks.published import import_weights
from maskinv_lib.networks.templates import NetworkRecogniser, similarity
from maskinv_lib.study.runs import MODEL
from maskinv_lib.tools import thresholds as stored
from maskinv_lib.tools.thresholds import Decision, Threshold
from maskinv_lib.utils import contents, files

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar", ".model", ".onnx")
"""Suffixes by which files in a folder are named as possible models."""

KINDS = "a run's folder (runs/<profile>/seed-<n>/<stage>), a file of weights, an ONNX file, or module:function"
"""What can be opened, in words."""


class OpenedRecogniser:
    """A model that turns photographs into templates, with the thresholds that its evaluation stored.

    name: short, for tables: the stage of a run, a file's name, or module:function. sha256: 16 digits of the file, None
    for a Python function. facts: what the file says about itself. thresholds: one for each benchmark, condition, kind
    of masks and FMR; empty for a model without an evaluation, and may be set.
    """

    def __init__(
        self,
        recogniser: NetworkRecogniser | ForeignRecogniser,
        *,
        name: str,
        facts: dict,
        path: Path | None = None,
        thresholds: list[Threshold] | None = None,
    ) -> None:
        self._recogniser = recogniser
        self.name, self.facts, self.path = name, facts, path
        self.sha256: str | None = facts.get("file_sha256")
        self.thresholds = thresholds or []

    @property
    def network(self) -> Network:
        """The torch network; ValueError for an ONNX file and for a function, which have none."""
        if not isinstance(self._recogniser, NetworkRecogniser):
            raise ValueError(f"{self.name} is no network of torch, so it cannot be exported. Give a run or weights.")
        return self._recogniser.network

    def templates(self, faces: Photographs, landmarks: Mapping[str, np.ndarray] | None = None) -> Tensor:
        """Return flip-summed templates of aligned faces, float32 [N, D] of unit length, as the evaluation makes them.

        landmarks: picture name -> five points, float [5, 2]; a file of that name is aligned by them, every other file
        must contain an aligned 112 x 112 face. A folder of people is read in the order of ``read_folder``. Any other
        picture raises ValueError naming the file, and so does a face whose embedding is zero or not finite.
        """
        if isinstance(faces, str | Path) and Path(faces).is_dir():
            faces = read_folder(Path(faces), landmarks=landmarks or None)
        templates = self._recogniser.templates(pixels_of(faces, landmarks))
        bad = torch.nonzero(~(templates.norm(dim=1) > 0.5)).flatten().tolist()  # so that NaN is bad
        if bad:
            raise ValueError(
                f"{self.name} gives an embedding that is zero or not finite for {len(bad)} of {len(templates)} faces: "
                f"{some([_face_name(faces, index) for index in bad])}. Look at these pictures, or at the model."
            )
        return templates

    def threshold(self, **choices: object) -> Threshold:
        """Return the stored threshold for a mask condition at an FMR; choices as for ``select_threshold``.

        Without an evaluation, raises FileNotFoundError naming the command that makes one; for an unknown choice,
        ValueError naming the known ones.
        """
        if not self.thresholds:
            reason = "" if self.path is None or self.path.name == MODEL else f" (only the {MODEL} of a run has them)"
            raise FileNotFoundError(f"{self.path or self.name} has no thresholds{reason}. {stored.remedy(self.facts)}")
        return stored.select_threshold(self.thresholds, **choices)

    def decide(self, a: Tensor, b: Tensor, threshold: Threshold | None = None, **choices: object) -> Decision:
        """Compare two templates, [D] or [1, D] each, at ``threshold``, or else at ``self.threshold(**choices)``.

        Printed, the decision is a sentence. More than one template in ``a`` or ``b`` raises ValueError.
        """
        a, b = (templates[None] if templates.ndim == 1 else templates for templates in (a, b))
        if len(a) != 1 or len(b) != 1:
            raise ValueError(f"decide compares one template with one, not {len(a)} and {len(b)}: use similarity.")
        return stored.decide(float(similarity(a, b)), threshold or self.threshold(**choices))


def _face_name(faces: Photographs, index: int) -> str:
    if isinstance(faces, Folder):
        return shown(faces.names[index])
    if isinstance(faces, Faces | Tensor):
        return f"face {index}" + (f" of {faces.source}" if isinstance(faces, Faces) else "")
    return shown(str(faces if isinstance(faces, str | Path) else faces[index]))


def open_recogniser(
    model: str | Path, contract: str | None = None, device: torch.device | str = "cpu"
) -> OpenedRecogniser:
    """Open a finished run's folder, its ``model.safetensors``, weights, an ONNX file, or ``module:function``.

    A file is judged by its content. An existing path is never taken for ``module:function``. contract: the pixel
    scaling of weights or an ONNX file of others, a name of ``published.CONTRACTS``; None takes the usual one. device:
    where a torch network computes; an ONNX file does on the processor. Only runs and the weights published with
    them have thresholds.
    Raises FileNotFoundError for a path without a model. Raises ValueError for a damaged model, and for an evaluation
    made with other code, other settings or another model; the error names the command that evaluates it again.
    """
    path = Path(model)
    if not path.exists() and FUNCTION.fullmatch(str(model)):
        if contract is not None:
            raise ValueError(f"{model} scales the pixels itself. Leave contract={contract!r} out.")
        recogniser = imported_function(str(model))
        return OpenedRecogniser(recogniser, name=str(model), facts=recogniser.facts)
    file = path / MODEL if path.is_dir() else path
    if not file.is_file():
        _refuse_combination(path)
        raise FileNotFoundError(f"{file} does not exist. {_models_in(path) or f'Give {KINDS}.'}")
    if contents.network_kind(file) == contents.ONNX:
        recogniser = opened_onnx(file, contract)
        return OpenedRecogniser(recogniser, name=file.name, facts=recogniser.facts, path=file)
    network, facts = import_weights(file, contract)
    evaluated = file.name == MODEL and "key" in facts
    named = path if path.is_dir() else file
    return OpenedRecogniser(
        NetworkRecogniser(network, device),
        name=str(facts.get("stage")) if evaluated else named.resolve().name,
        facts=facts,
        path=file,
        thresholds=stored.stored_thresholds(file.parent, facts) if evaluated else [],
    )


def _models_in(folder: Path) -> str:
    """Name the models in a folder, or in the folders in it, for a remedy; "" if there is none."""
    found = [file for file in folder.glob("*") if file.suffix.lower() in SUFFIXES and file.is_file()]
    found += [file.parent for file in folder.glob(f"*/{MODEL}")]
    names = sorted(str(path) for path in found if not path.name.startswith("."))
    return f"Name a model in it: {some([shown(name) for name in names])}." if names else ""


def _refuse_combination(folder: Path) -> None:
    record = folder / "run.json"
    if record.is_file() and "how" in files.read_json(record).get("config", {}):
        raise ValueError(f"{folder} combines other methods and has no model of its own. Open one of its parts.")
