"""A network as an ONNX file, for programs without torch; the graph scales the pixels itself."""

import contextlib
import importlib
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from maskinv_lib import __version__
from maskinv_lib.faces import SIZE
from maskinv_lib.networks import Network
from maskinv_lib.networks.templates import inference
from maskinv_lib.utils import files

INPUT, OUTPUT = "pixels", "embedding"

CONTRACT = {
    "input": f"{INPUT}: float32 [batch, 3, {SIZE}, {SIZE}], aligned faces, RGB, values 0 to 255, not scaled",
    "output": f"{OUTPUT}: float32 [batch, embedding_size], of the faces as they are (no mirror image added), not of"
    " unit length; divide by its length to get a template, compare templates by their cosine",
}
"""Metadata of the file about its input and output."""

NEEDED = ("onnx", "onnxscript")


class FromPixels(nn.Module):
    """A network in evaluation mode with its scaling: float32 [B, 3, 112, 112] in 0..255 -> raw embeddings [B, D]."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """Return embeddings, float32 [B, D]; values are not checked, since a graph cannot raise an error."""
        contract = self.network.contract
        return self.network.embed((pixels - contract.mean) / contract.scale)


def export_onnx(network: Network, path: Path, facts: dict | None = None) -> Path:
    """Write a network as float32 ONNX for any batch size, whole or not at all; return the path.

    The graph takes raw pixels and gives plain embeddings, see ``CONTRACT``, which the file's metadata repeats with
    ``facts`` (JSON-serialisable values by name). A template of this study sums the embeddings of a face and of its
    mirror image: run the graph on both to get one. The network's modes stay as they were. Raises ValueError for a name
    that does not end in .onnx, and RuntimeError with the command that installs the optional packages if they are
    missing.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"{path} does not end in .onnx. Give the exported file that ending.")
    onnx, _ = [_optional(name) for name in NEEDED]
    model = _graph(network)
    about = {"network": network.name, "embedding_size": network.embedding_size, "library": f"maskinv {__version__}"}
    for name, value in {**about, **CONTRACT, **(facts or {})}.items():
        model.metadata_props.add(key=name, value=value if isinstance(value, str) else json.dumps(value))
    onnx.checker.check_model(model, full_check=True)
    with files.whole_file(path) as temporary:
        onnx.save_model(model, temporary)
    return path


def _optional(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeError(f"Exporting needs the package {name} ({error}). Install: pip install -e '.[onnx]'") from None


def _graph(network: Network) -> object:
    """Return the network's graph as an onnx ModelProto, without the file paths of this machine that torch writes."""
    device = next(network.parameters()).device
    with inference(network), torch.no_grad(), warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            FromPixels(network).eval(),
            (torch.zeros(2, 3, SIZE, SIZE, device=device),),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
            verbose=False,
        )
    return _without_paths(program.model_proto)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's log messages about operators that no network here uses."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _without_paths(model: object) -> object:
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model
