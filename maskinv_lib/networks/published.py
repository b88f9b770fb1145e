"""Weights that others published, read into the registered networks: strictly, and without running a pickle's code.

Known: iResNet state dicts of InsightFace, ElasticFace, MaskInv, MagFace and QMagFace, InsightFace's MobileFaceNet with
its MXNet names, and the files of this study; as torch.save or safetensors, alone or inside a training's checkpoint.
"""

import contextlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from maskinv_lib.networks import MINUS_ONE_TO_ONE, NETWORKS, InputContract, Network, mobilefacenet, outline
from maskinv_lib.networks.naming import COUNTER, with_our_names
from maskinv_lib.networks.state_dicts import read_state_dicts
from maskinv_lib.networks.weights import OWN, differences, load_network
from maskinv_lib.utils import checks, contents, files

ZERO_TO_ONE = InputContract(name="zero to one", mean=0.0, scale=255.0)
"""The contract of MagFace weights."""

CONTRACTS = {contract.name: contract for contract in (MINUS_ONE_TO_ONE, ZERO_TO_ONE, mobilefacenet.CONTRACT)}
"""Known input contracts by name."""

LISTED = 4
"""Tensors of another state dict in the file that are named one by one; of more, only the dict is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Candidate:
    """A place in a file where a registered network may be: the state dict ``where``, its names after ``prefix``.

    network: on the meta device, of the size found. tensors: those of the network's modules, by its names. heads: names
    of the tensors of classifiers. others: all other tensors of the state dict.
    """

    where: str
    prefix: str
    network: Network
    tensors: dict[str, Tensor]
    heads: list[str]
    others: dict[str, Tensor]

    def __str__(self) -> str:
        place = f"{self.where}.{self.prefix}".strip(".")
        return f"{self.network.name} at {self.network.embedding_size}-D" + (f" under {place!r}" if place else "")

    @property
    def distance(self) -> int:
        """The number of tensors that only one of file and network has or that differ in shape."""
        own, found = ({n: t.shape for n, t in of.items()} for of in (self.network.state_dict(), self.tensors))
        return len(own.items() ^ found.items())

    def equals(self, other: "_Candidate") -> bool:
        """Say whether two candidates have the same tensors under the same names."""
        same = self.tensors.keys() == other.tensors.keys()
        return same and all(torch.equal(tensor, other.tensors[name]) for name, tensor in self.tensors.items())


def import_weights(path: Path, contract: InputContract | str | None = None) -> tuple[Network, dict]:
    """Read published weights: (network on the CPU in training mode, facts about them for the record).

    The file is judged by its content, whatever its suffix. The network may lie some dicts deep and behind any prefix;
    all its tensors must be there with their shapes. Other precisions become float32, missing batch-norm counters 0,
    and the embedding size is read from the tensors.
    contract: the pixel scaling of the weights, an InputContract or the name of a known one, such as "zero to one" for
    MagFace; None takes the network's usual one. A file of this study has its own and accepts no other.
    facts: file (name without folder), file_sha256 (16 digits), network, embedding_size, input_contract (its name);
    left_out (names), only if the file holds other tensors: a classifier, or other state dicts; of a file of this
    study also its metadata. A missing file raises FileNotFoundError. ValueError, naming the file: it is damaged or
    something else, would run code, holds two networks, or none; then with the tensors missing, unexpected or misshaped
    for the nearest one.
    """
    path, contract, metadata, left_out = Path(path), _contract(contract), {}, []
    if _is_own(path):
        if contract is not None:
            raise ValueError(f"{path.name} has its own input contract. Leave contract={contract.name!r} out.")
        network, metadata = load_network(path)
    else:
        network, left_out = _fitted(path, read_state_dicts(path))
        network.contract = contract or network.contract
    return network, {
        **{name: value for name, value in metadata.items() if name not in OWN},
        "file": path.name,
        "file_sha256": files.file_hash(path),
        "network": network.name,
        "embedding_size": network.embedding_size,
        "input_contract": network.contract.name,
        **({"left_out": left_out} if left_out else {}),
    }


def _contract(contract: InputContract | str | None) -> InputContract | None:
    if contract is None or isinstance(contract, InputContract):
        return contract
    return CONTRACTS[checks.choose("contract", contract, CONTRACTS)]


def _is_own(path: Path) -> bool:
    if contents.network_kind(path) == contents.SAFETENSORS:
        with contextlib.suppress(SafetensorError, OSError), safe_open(path, framework="pt") as file:
            return set(OWN) <= set(file.metadata() or {})
    return False


def _fitted(path: Path, dicts: dict[str, dict[str, Tensor]]) -> tuple[Network, list[str]]:
    """Return the one registered network in a file's state dicts and the names of all other tensors."""
    if not any(tensor.ndim == 4 for tensors in dicts.values() for tensor in tensors.values()):
        shapes = [f"{name} {list(tensor.shape)}" for tensors in dicts.values() for name, tensor in tensors.items()]
        raise ValueError(
            f"{path.name} holds no convolution ({', '.join(shapes[:4])}): it looks like the classifier (head) of a "
            "training, not a network. Hand over the backbone's file."
        )
    candidates = _candidates(dicts)
    complete = [candidate for candidate in candidates if not differences(candidate.network, candidate.tensors)]
    chosen = complete[0] if complete else min(candidates, key=lambda candidate: candidate.distance)
    other = next((candidate for candidate in complete if not candidate.equals(chosen)), None)
    if other is not None:
        raise ValueError(f"{path.name} holds two networks: {chosen} and {other}. Save the state dict of one alone.")
    differs = differences(chosen.network, chosen.tensors | chosen.others)
    if differs:
        known = ", ".join(NETWORKS)
        raise ValueError(f"{path.name} fits no registered network ({known}). The nearest is {chosen}: {differs}.")
    bad = next((name for name, tensor in chosen.tensors.items() if not tensor.isfinite().all()), None)
    if bad is not None:
        raise ValueError(f"{path.name} is no usable network: {bad} holds NaN or infinity. Download it again.")
    # assign=True needs no to_empty, for which torch imports sympy: half a second
    chosen.network.load_state_dict({n: t.contiguous() for n, t in chosen.tensors.items()}, assign=True)
    return chosen.network, chosen.heads + _others(dicts, chosen.where)


def _others(dicts: dict[str, dict[str, Tensor]], chosen: str) -> list[str]:
    """Name the tensors in all other state dicts of a file, or the outer key of a dict with many of them."""
    names: dict[str, list[str]] = {}
    for where, tensors in dicts.items():
        if where != chosen:
            keys = where.split(".")
            levels = [".".join(keys[: level + 1]) for level in range(len(keys))]
            outer = next((level for level in levels if not f"{chosen}.".startswith(f"{level}.")), "")
            names.setdefault(outer, []).extend(f"{where}.{name}".lstrip(".") for name in tensors)
    return [name for key, some in names.items() for name in (some if len(some) <= LISTED or not key else [f"{key}.*"])]


def _candidates(dicts: dict[str, dict[str, Tensor]]) -> list[_Candidate]:
    """Return the places in state dicts where most names of a registered network occur; never none."""
    names = {name: {n for n in outline(name).state_dict() if not n.endswith(COUNTER)} for name in NETWORKS}
    candidates = []
    for where, tensors in dicts.items():
        tensors = _in_float32(with_our_names(tensors))
        for name, own in names.items():
            candidates += [_candidate(where, prefix, name, tensors) for prefix in _prefixes(tensors, own)]
    where, largest = max(dicts.items(), key=lambda item: len(item[1]))
    return candidates or [_candidate(where, "", name, _in_float32(largest)) for name in NETWORKS]


def _prefixes(tensors: dict[str, Tensor], own: set[str]) -> list[str]:
    """Return what stands before most of a network's own names in a state dict: "" or text that ends with a dot."""
    before: Counter[str] = Counter()
    for parts in (name.split(".") for name in tensors):
        ends = [at for at in range(len(parts)) if ".".join(parts[at:]) in own]
        before.update("".join(f"{part}." for part in parts[:at]) for at in ends)
    return [prefix for prefix, count in before.items() if count == max(before.values())]


def _candidate(where: str, prefix: str, name: str, tensors: dict[str, Tensor]) -> _Candidate:
    last = tensors.get(f"{prefix}features.weight", torch.empty(()))
    network = outline(name, len(last) if last.ndim == 1 and len(last) else None)
    own = network.state_dict()
    parts = {name.partition(".")[0] for name in own}
    inside, rest = {}, {}
    for full, tensor in tensors.items():
        short = full.removeprefix(prefix)
        belongs = full.startswith(prefix) and short.partition(".")[0] in parts
        (inside if belongs else rest)[short if belongs else full] = tensor
    heads = _of_heads(rest, network.embedding_size)
    counters = {name: torch.tensor(0) for name in own if name.endswith(COUNTER)}
    return _Candidate(
        where=where,
        prefix=prefix,
        network=network,
        tensors=counters | inside,
        heads=heads,
        others={name: tensor for name, tensor in rest.items() if name not in heads},
    )


def _in_float32(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.long() if name.endswith(COUNTER) else tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


def _of_heads(tensors: dict[str, Tensor], size: int) -> list[str]:
    """Return the names of tensors that belong to a classifier of embeddings [D], such as fc.weight or head.kernel.

    A classifier's module has a matrix [C, D] or [D, C], and else only vectors [C] and single numbers. A square matrix
    may map embeddings to embeddings, so it counts as a part of the network.
    """
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        modules.setdefault(name.rpartition(".")[0], {})[name] = tensor
    names = []
    for module in modules.values():
        shapes = [tuple(tensor.shape) for tensor in module.values() if tensor.numel() != 1]
        matrices = {tuple(sorted(shape)) for shape in shapes if len(shape) == 2 and size in shape}
        classes = {a if b == size else b for a, b in matrices} - {size}
        fitting = {(size, c) for c in classes} | {(c, size) for c in classes} | {(c,) for c in classes}
        names += list(module) if classes and set(shapes) <= fitting else []
    return names
