"""Networks on disk: safetensors with all that is needed to use them, read strictly, never a pickle."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from maskinv_lib.networks import NETWORKS, InputContract, Network, outline
from maskinv_lib.utils import checks, files

OWN = ("network", "embedding_size", "input_contract")
"""Metadata that a network's file always has; the caller may add others."""

HALF = (torch.bfloat16, torch.float16)

CHECKSUM = "tensors_sha256"


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict | None = None) -> None:
    """Write named tensors and JSON-serialisable metadata to a safetensors file, whole or not at all.

    Equal tensors and metadata give equal bytes.
    """
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    texts = {name: json.dumps(value, allow_nan=False) for name, value in (metadata or {}).items()}
    with files.whole_file(path) as temporary:
        save_file(tensors, temporary, metadata=texts | {CHECKSUM: json.dumps(_checksum(tensors))})
        _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """Sort the metadata in the header of a safetensors file: they are written in random order."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        assert len(text) <= size  # it is the same text in another order
        file.seek(8)
        file.write(text.ljust(size))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Read what ``write_tensors`` wrote: (tensors on the CPU, metadata).

    A missing file raises FileNotFoundError; a half-written or damaged one ValueError. Both name the file. A checksum
    over the tensors, which safetensors itself lacks, detects changed bytes too; files without one are not checked.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            metadata = {name: _value(text) for name, text in (file.metadata() or {}).items()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is half-written or damaged ({error}). Delete it and write it again.") from None
    if metadata.pop(CHECKSUM, None) not in (None, _checksum(tensors)):
        raise ValueError(f"{path} is damaged: its tensors differ from its checksum. Delete it and write it again.")
    return tensors, metadata


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text  # other programs write plain text, such as format = pt


def _checksum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save_network(path: Path, network: Network, metadata: dict) -> None:
    """Write a network whole or not at all, with its name, embedding size and input contract.

    metadata: further JSON-serialisable facts (stage, seed, teacher hash); a name of ``OWN`` among them raises
    ValueError.
    """
    own = {
        "network": network.name,
        "embedding_size": network.embedding_size,
        "input_contract": asdict(network.contract),
    }
    write_tensors(path, network.state_dict(), with_own(metadata, own, "network"))


def with_own(metadata: dict, own: dict, what: str) -> dict:
    """Return both; ``metadata`` with a name of ``own``, which the ``what`` ("network") writes, raises ValueError."""
    taken = [name for name in own if name in metadata]
    if taken:
        raise ValueError(f"Metadata {', '.join(taken)} is written by the {what} itself; leave it out.")
    return metadata | own


def load_network(path: Path) -> tuple[Network, dict]:
    """Read a network that ``save_network`` wrote: (network on the CPU in training mode, all metadata).

    Half-precision tensors become float32. Strict: a missing file raises FileNotFoundError; a damaged one, one without
    the metadata, or one whose tensors are not those of the network it names raises one ValueError that names the file
    and what differs.
    """
    tensors, metadata = read_tensors(path)
    try:
        network = outline(*_described(metadata))
        contract = InputContract(**metadata["input_contract"])
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} does not say which network of this study it is: {error} {_fit(tensors)}") from None
    tensors = {name: tensor.float() if tensor.dtype in HALF else tensor for name, tensor in tensors.items()}
    differs = differences(network, tensors)
    if differs:
        raise ValueError(f"{path} does not hold the network {network.name} it names: {differs}. {_fit(tensors)}")
    network.load_state_dict(tensors, assign=True)
    network.contract = contract
    return network, metadata


def _described(metadata: dict) -> tuple[str, int]:
    missing = [name for name in OWN if name not in metadata]
    if missing:
        raise ValueError(f"metadata missing: {', '.join(missing)}.")
    return metadata["network"], checks.whole_number("embedding_size", metadata["embedding_size"], minimum=1)


def differences(network: Network, tensors: dict[str, Tensor]) -> str:
    """Say which keys of a state dict are missing, unexpected or misshaped for ``network``; "" if it fits."""
    own = network.state_dict()
    both = [name for name in own if name in tensors]
    parts = (
        ("missing", [name for name in own if name not in tensors]),
        ("unexpected", [name for name in tensors if name not in own]),
        ("misshaped", [_mismatch(n, own[n], tensors[n]) for n in both if _kind(own[n]) != _kind(tensors[n])]),
    )
    return "; ".join(f"{len(names)} {word} ({_first(names)})" for word, names in parts if names)


def _kind(tensor: Tensor) -> tuple:
    return tuple(tensor.shape), tensor.dtype


def _mismatch(name: str, own: Tensor, tensor: Tensor) -> str:
    return f"{name}: {tensor.dtype} {list(tensor.shape)} instead of {own.dtype} {list(own.shape)}"


def _first(names: list[str], count: int = 4) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def _fit(tensors: dict[str, Tensor]) -> str:
    fitting = [name for name in NETWORKS if fits(name, tensors)]
    return f"Its tensors fit: {', '.join(fitting) or 'no registered network'}."


def fits(name: str, tensors: dict[str, Tensor]) -> bool:
    """Say whether a state dict is that of the registered network ``name``, at any embedding size."""
    size = len(tensors["features.weight"]) if tensors.get("features.weight", torch.empty(())).ndim == 1 else None
    return size != 0 and not differences(outline(name, size), tensors)
