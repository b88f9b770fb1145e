"""Recognisers that are no networks of torch: an ONNX file, and a Python function named ``module:function``."""

import importlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskinv_lib.faces import SIZE
from maskinv_lib.networks import MINUS_ONE_TO_ONE, InputContract, check_shape
from maskinv_lib.networks.published import CONTRACTS
from maskinv_lib.utils import checks, files

BATCH = 64
"""Faces that are handed over at a time, unless an ONNX file fixes another number."""

FUNCTION = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*(?:\.[^\W\d]\w*)*)")
"""The form of ``package.module:function``."""

_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


class ForeignRecogniser:
    """A function from faces to embeddings as a recogniser with the methods of ``NetworkRecogniser``.

    embed: uint8 RGB [B, 3, 112, 112] on the CPU -> embeddings [B, D], a tensor or an array. name: for errors. facts:
    about it, for the record. batch: the largest B.
    """

    def __init__(self, embed: Callable[[Tensor], object], name: str, facts: dict, batch: int = BATCH) -> None:
        self._embed, self.name, self.facts, self.batch = embed, name, facts, batch

    def templates(self, images: Tensor) -> Tensor:
        """Return flip-summed templates, float32 [N, D]: embedding(face) + embedding(mirrored face), unit length."""
        return F.normalize(self.embeddings(images, flip=False) + self.embeddings(images, flip=True), dim=1)

    def embeddings(self, images: Tensor, flip: bool) -> Tensor:
        """Return raw embeddings of uint8 faces, or of their mirror images if ``flip``, float32 [N, D].

        Raises ValueError for other faces, and for a result that is not float [B, D] with the same D for every batch.
        Raises RuntimeError naming the recogniser for an error inside it.
        """
        check_shape(images)
        if images.dtype != torch.uint8:
            raise ValueError(f"{self.name} takes faces as uint8, not {images.dtype}.")
        parts = [self._of_batch(part.flip(-1) if flip else part.clone()) for part in images.cpu().split(self.batch)]
        widths = sorted({part.shape[1] for part in parts})
        if len(widths) > 1:
            raise ValueError(f"{self.name} gave embeddings of different sizes: {widths}. One size is needed.")
        return torch.cat(parts).to(images.device)

    @torch.no_grad()
    def _of_batch(self, faces: Tensor) -> Tensor:
        count = len(faces)
        try:
            result = self._embed(faces)
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {error}"
            raise RuntimeError(f"{self.name} failed on faces uint8 {list(faces.shape)} ({reason}).") from error
        floats = isinstance(result, np.ndarray) and result.dtype.kind == "f"
        floats = floats or (isinstance(result, Tensor) and result.is_floating_point())
        if not floats or result.ndim != 2 or len(result) != count:
            raise ValueError(
                f"{self.name} must give embeddings float [{count}, D] for {count} faces, as a tensor or a NumPy array, "
                f"not {checks.dtype_and_shape(result)}."
            )
        return torch.as_tensor(result.astype(np.float32) if isinstance(result, np.ndarray) else result).cpu().float()


def imported_function(text: str) -> ForeignRecogniser:
    """Return the recogniser ``package.module:function``; modules of the working directory are found first.

    The function takes faces uint8 RGB [B, 3, 112, 112] and returns embeddings float [B, D]. A torch module in its place
    is put in evaluation mode. Raises ValueError naming the module or function that cannot be imported, and why.
    """
    module_name, name = FUNCTION.fullmatch(text).groups()
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # a module can raise any error when it is imported
        where = f"Modules are looked for in {Path.cwd()} and among the installed ones"
        reason = f"and it cannot be imported ({type(error).__name__}: {error})"
        raise ValueError(f"There is no file {text}, {reason}. {where}.") from error
    if not callable(found) or isinstance(found, type):
        raise ValueError(f"{text} is a {type(found).__name__}, not a function of faces. Name a function.")
    found = found.eval() if isinstance(found, nn.Module) else found
    return ForeignRecogniser(found, text, {"network": text, "input_contract": "its own"})


def opened_onnx(path: Path, contract: InputContract | str | None = None) -> ForeignRecogniser:
    """Return an ONNX file as a recogniser, run by onnxruntime on as many threads as torch has.

    It needs one image input [N, 3, 112, 112] or [N, 112, 112, 3] of floats, N free or fixed, and one output of
    embeddings [N, D]. contract: the pixel scaling that it expects, as for ``import_weights``; None takes "minus one to
    one". A file that this library exported scales the pixels itself and accepts none.
    Raises ValueError naming the file for any other input or output and for a file that does not open, and RuntimeError
    with the command that installs onnxruntime if it is missing.
    """
    path = Path(path)
    session = _session(path)
    metadata = session.get_modelmeta().custom_metadata_map
    own = metadata.get("library", "").startswith("maskinv ") and "0 to 255" in metadata.get("input", "")
    if own and contract is not None:
        raise ValueError(f"{path.name} scales the pixels itself. Leave contract={contract!r} out.")
    if isinstance(contract, str):
        contract = CONTRACTS[checks.choose("contract", contract, CONTRACTS)]
    contract = InputContract(name="raw pixels", mean=0.0, scale=1.0) if own else contract or MINUS_ONE_TO_ONE
    image, channels = _image_input(path, session.get_inputs())
    output, others = _embedding_output(path, session.get_outputs())
    batch = image.shape[0] if isinstance(image.shape[0], int) else None

    def embed(faces: Tensor) -> np.ndarray:
        pixels = contract.scaled(_padded(faces, batch)).movedim(1, channels).contiguous().numpy()
        return session.run([output.name], {image.name: pixels.astype(_FLOATS[image.type])})[0][: len(faces)]

    facts = {
        **({name: _value(text) for name, text in metadata.items() if name not in ("input", "output")} if own else {}),
        "file": path.name,
        "file_sha256": files.file_hash(path),
        "network": metadata.get("network", "onnx") if own else "onnx",
        **({"embedding_size": output.shape[1]} if len(output.shape) == 2 and _fixed(output.shape[1]) else {}),
        "input_contract": contract.name,
        **({"left_out": others} if others else {}),
    }
    return ForeignRecogniser(embed, path.name, facts, batch or BATCH)


def _session(path: Path) -> object:
    """Return the file opened by onnxruntime."""
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeError(f"{path} needs onnxruntime ({error}). Install: pip install -e '.[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes of errors have no common one
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} does not open with onnxruntime ({reason}). Export or download it again.") from None


def _image_input(path: Path, inputs: Sequence) -> tuple[object, int]:
    """Return the one input and the axis of its channels, 1 or 3."""
    described = ", ".join(f"{part.name} {part.type} {part.shape}" for part in inputs)
    wanted = f"one input float [N, 3, {SIZE}, {SIZE}] or [N, {SIZE}, {SIZE}, 3]"
    refusal = f"{path.name} must have {wanted}, not: {described or 'none'}. Export it again for aligned faces."
    if len(inputs) != 1 or inputs[0].type not in _FLOATS or len(inputs[0].shape) != 4:
        raise ValueError(refusal)
    shape = inputs[0].shape
    for axis, form in ((1, (3, SIZE, SIZE)), (3, (SIZE, SIZE, 3))):
        if shape[axis] == 3 and all(size == fixed for size, fixed in zip(shape[1:], form, strict=True) if _fixed(size)):
            return inputs[0], axis
    raise ValueError(refusal)


def _fixed(size: object) -> bool:
    return isinstance(size, int)


def _embedding_output(path: Path, outputs: Sequence) -> tuple[object, list[str]]:
    """Return the one output of embeddings, and the names of others with a single number per face, such as a norm."""
    single = [part.name for part in outputs if len(part.shape) == 2 and part.shape[1] == 1]
    rest = [part for part in outputs if part.name not in single]
    if len(rest) != 1 or len(rest[0].shape) not in (0, 2) or rest[0].type not in _FLOATS:
        described = ", ".join(f"{part.name} {part.type} {part.shape}" for part in outputs)
        raise ValueError(f"{path.name} must have one output float [N, D], the embeddings, not: {described}.")
    return rest[0], single


def _padded(faces: Tensor, batch: int | None) -> Tensor:
    """Return the faces, the last one repeated up to a fixed batch."""
    missing = 0 if batch is None else batch - len(faces)
    return torch.cat([faces, faces[-1:].expand(missing, -1, -1, -1)]) if missing else faces


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
