"""Names of tensors in files of others: what wrappers insert into them, and MXNet's names of MobileFaceNet."""

import re

import torch
from torch import Tensor

from maskinv_lib.networks import outline

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts that torch's wrappers insert anywhere in a tensor's name."""

COUNTER = "num_batches_tracked"
"""How the names of a batch norm's counters end; other programs leave these tensors out."""


def with_our_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without wrappers' parts and with our names for MXNet's; other names and prefixes stay."""
    plain = {".".join(part for part in name.split(".") if part not in WRAPPERS): t for name, t in tensors.items()}
    return _from_mxnet(plain if len(plain) == len(tensors) else tensors)


def _from_mxnet(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename MXNet's tensors of MobileFaceNet; a gamma that MXNet fixes to 1 counts as 1 whatever is stored."""
    if not any(name.endswith("_conv2d_weight") for name in tensors):
        return tensors
    ours = [name for name in outline("mobilefacenet").state_dict() if not name.endswith(COUNTER)]
    from_mxnet = {mxnet_name(name): name for name in ours}
    renamed = {}
    for name, tensor in tensors.items():
        before, dot, last = name.rpartition(".")
        fixed = from_mxnet.get(last) == "features.weight"
        renamed[before + dot + from_mxnet.get(last, last)] = torch.ones_like(tensor) if fixed else tensor
    return renamed


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
