"""Weights that others published, read into the registered networks: strictly, and without running a pickle's code.

Known: iResNet state dicts of InsightFace, ElasticFace, MaskInv and MagFace (``.pth``, ``.pt``, ``.safetensors``),
InsightFace's MobileFaceNet with its MXNet names (``.safetensors``), and the files of this study.
"""

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

from maskinv_lib.networks import MINUS_ONE_TO_ONE, NETWORKS, InputContract, Network, mobilefacenet, outline
from maskinv_lib.networks.weights import OWN, differences, load_network, read_tensors
from maskinv_lib.utils import checks, files

ZERO_TO_ONE = InputContract(name="zero to one", mean=0.0, scale=255.0)
"""The contract of MagFace weights."""

CONTRACTS = {contract.name: contract for contract in (MINUS_ONE_TO_ONE, ZERO_TO_ONE, mobilefacenet.CONTRACT)}
"""Known input contracts by name."""

PICKLES = (".pth", ".pt", ".tar")
"""Suffixes of what torch.save wrote."""

NESTS = ("state_dict", "backbone")
"""Keys under which training programs store a backbone's state dict together with other data."""

PREFIXES = ("module.", "features.module.", "module.features.", "backbone.")
"""Prefixes that wrappers of a backbone add to its tensors' names; the longest that fits is removed."""

COUNTER = "num_batches_tracked"


def import_weights(path: Path, contract: InputContract | str | None = None) -> tuple[Network, dict]:
    """Read published weights: (network on the CPU in training mode, facts about them for the record).

    contract: the pixel scaling of the weights, an InputContract or the name of a known one, such as "zero to one" for
    MagFace; None takes the network's usual one. A file of this study has its own and accepts no other. Half precision
    becomes float32, missing batch-norm counters become 0, and the embedding size is read from the tensors.
    facts: file (name without folder), file_sha256 (16 digits), network, embedding_size, input_contract (its name).
    A missing file raises FileNotFoundError; one that is damaged, would run code, or fits no registered network raises
    a ValueError that names the file and, for the nearest network, the tensors missing, unexpected or misshaped.
    """
    path = Path(path)
    contract = _contract(contract)
    tensors, metadata = _read(path)
    if all(name in metadata for name in OWN):
        if contract is not None:
            raise ValueError(f"{path.name} has its own input contract. Leave contract={contract.name!r} out.")
        network = load_network(path)[0]
    else:
        network = _fitted(path, _prepared(path, tensors))
        network.contract = contract or network.contract
    return network, {
        "file": path.name,
        "file_sha256": files.file_hash(path),
        "network": network.name,
        "embedding_size": network.embedding_size,
        "input_contract": network.contract.name,
    }


def _contract(contract: InputContract | str | None) -> InputContract | None:
    if contract is None or isinstance(contract, InputContract):
        return contract
    return CONTRACTS[checks.choose("contract", contract, CONTRACTS)]


def _read(path: Path) -> tuple[dict, dict]:
    """Return (state dict, metadata) of a file; its suffix says the format."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    if path.suffix == ".safetensors":
        return read_tensors(path)
    if path.suffix not in PICKLES:
        known = ", ".join((*PICKLES, ".safetensors"))
        raise ValueError(f"{path.name} has the suffix {path.suffix!r}; weights are read from {known}.")
    try:
        return _state_dict(path, torch.load(path, weights_only=True, map_location="cpu")), {}
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError) as error:
        raise ValueError(_refused_pickle(path, str(error))) from None


def _refused_pickle(path: Path, message: str) -> str:
    code = re.search(r"GLOBAL (\S+)", message)
    if code is None:
        return f"{path.name} is half-written, damaged, or no file of torch.save. Download it again."
    return (
        f"{path.name} asks for code beyond tensors ({code[1]}); nothing of it was executed. If you trust its author, "
        "load it in a program of yours and save the bare state dict."
    )


def _state_dict(path: Path, loaded: object) -> dict[str, Tensor]:
    """Return the mapping of names to tensors in an object that torch.load returned."""
    for _ in NESTS:
        nest = next((n for n in NESTS if isinstance(loaded, dict) and isinstance(loaded.get(n), dict)), None)
        loaded = loaded if nest is None else loaded[nest]
    if not isinstance(loaded, dict):
        raise ValueError(f"{path.name} holds a {type(loaded).__name__}, not a state dict. Save network.state_dict().")
    odd = [str(name) for name, value in loaded.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if odd or not loaded:
        reason = f"no tensor: {', '.join(odd[:4])}" if odd else "it is empty"
        raise ValueError(f"{path.name} holds no state dict ({reason}), nor one under {' or '.join(NESTS)}.")
    return loaded


def _prepared(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under our names, in float32, with counters; ValueError if no backbone is among them."""
    if not any(tensor.ndim == 4 for tensor in tensors.values()):
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in list(tensors.items())[:4])
        raise ValueError(
            f"{path.name} holds no convolution ({shapes}): it looks like the classifier (head) of a training, "
            "not a network. Hand over the backbone's file."
        )
    tensors = _with_our_names(_without_prefix(tensors))
    tensors = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
    not_finite = next((name for name, t in tensors.items() if not t.isfinite().all()), None)
    if not_finite is not None:
        raise ValueError(f"{path.name} is no usable network: {not_finite} holds NaN or infinity. Download it again.")
    norms = [name.removesuffix("running_mean") for name in tensors if name.endswith(".running_mean")]
    return {f"{norm}{COUNTER}": torch.tensor(0) for norm in norms} | tensors


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    fitting = [prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in tensors)]
    prefix = max(fitting, key=len, default="")
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _with_our_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename MXNet's tensors of MobileFaceNet; a gamma that MXNet fixes to 1 counts as 1 whatever is stored."""
    if not any(name.endswith("_conv2d_weight") for name in tensors):
        return tensors
    ours = [name for name in outline("mobilefacenet").state_dict() if not name.endswith(COUNTER)]
    from_mxnet = {mxnet_name(name): name for name in ours}
    tensors = {from_mxnet.get(name, name): tensor for name, tensor in tensors.items()}
    if "features.weight" in tensors:
        tensors["features.weight"] = torch.ones_like(tensors["features.weight"])
    return tensors


def mxnet_name(name: str) -> str:
    """Return the name in MXNet's graph of one of MobileFaceNet's tensors: stage1.0.expand.bn.bias becomes
    dconv_23_conv_sep_batchnorm_beta."""
    statistics = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
    unit, _, tensor = name.rpartition(".")
    if unit == "fc":
        return {"weight": "fc1_weight", "bias": "pre_fc1_bias"}[tensor]
    if unit == "features":
        return f"fc1_{statistics[tensor]}"
    unit, _, layer = unit.rpartition(".")
    suffix = {"conv": "conv2d_weight", "bn": f"batchnorm_{statistics[tensor]}", "prelu": "relu_gamma"}[layer]
    return f"{_mxnet_unit(unit)}_{suffix}"


def _mxnet_unit(unit: str) -> str:
    """MXNet counts its resolutions from 1 (ours: stage1 leads from its second to its third)."""
    bottleneck = re.fullmatch(r"stage(\d)\.(\d)\.(\w+)", unit)
    if bottleneck is None:
        return {"stem": "conv_1", "stem_depthwise": "conv_2_dw", "expand": "conv_6sep", "pool": "conv_6dw7_7"}[unit]
    stage, number = int(bottleneck[1]), int(bottleneck[2])
    block = f"dconv_{stage + 1}{stage + 2}" if number == 0 else f"res_{stage + 2}_block{number - 1}"
    return f"{block}_conv_{ {'expand': 'sep', 'depthwise': 'dw', 'project': 'proj'}[bottleneck[3]] }"


def _fitted(path: Path, tensors: dict[str, Tensor]) -> Network:
    """Return the registered network whose tensors these are, or raise ValueError about the nearest one."""
    last = tensors.get("features.weight", torch.empty(()))
    size = len(last) if last.ndim == 1 and len(last) else None
    network = min((outline(name, size) for name in NETWORKS), key=lambda network: _distance(network, tensors))
    differs = differences(network, tensors)
    if differs:
        raise ValueError(
            f"{path.name} fits no registered network ({', '.join(NETWORKS)}). "
            f"The nearest is {network.name} at embedding size {network.embedding_size}: {differs}."
        )
    network.to_empty(device="cpu").load_state_dict(tensors)
    return network


def _distance(network: Network, tensors: dict[str, Tensor]) -> int:
    """Return the number of tensors that only one of the two has or that differ in shape."""
    own, others = ({name: tensor.shape for name, tensor in of.items()} for of in (network.state_dict(), tensors))
    return len(own.items() ^ others.items())
