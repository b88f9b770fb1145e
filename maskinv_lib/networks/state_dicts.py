"""The tensors in a file of torch.save or safetensors, judged by its content whatever its suffix.

Training programs keep the tensors beside settings and counters, and some levels deep. No pickle's code is run.
"""

import re
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor

from maskinv_lib.networks.weights import read_tensors
from maskinv_lib.utils import contents

DEEPEST = 6
"""Levels of dicts in which tensors are looked for."""


class Setting:
    """Takes the place of a setting or number beside the tensors; it keeps nothing and does nothing."""

    def __new__(cls, *_: object) -> "Setting":
        """Ignore what the class that it stands for would be made of."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Ignore the values of the class that it stands for."""


_SETTINGS = (
    "argparse.Namespace",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"pathlib.{name}" for name in ("PosixPath", "WindowsPath", "_local.PosixPath", "_local.WindowsPath")),
)
_DICTS = (
    "easydict.EasyDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "yacs.config.CfgNode",
)
KNOWN = [(Setting, name) for name in _SETTINGS] + [(OrderedDict, name) for name in _DICTS]
"""Classes of settings that are common beside tensors, and what takes their place: none of their code is imported."""


def read_state_dicts(path: Path) -> dict[str, dict[str, Tensor]]:
    """Return where -> state dict (name -> tensor on the CPU) for every dict in a file that holds a tensor.

    where: the keys that lead to the dict, joined by dots, "" for the file's outermost dict. Values that are no tensors
    are left out, and so are empty dicts. Raises FileNotFoundError, and ValueError naming the file and the remedy: not a
    file of weights, damaged, code beside the tensors (nothing of it is run), no tensor at all.
    """
    path = Path(path)
    kind = contents.network_kind(path)
    if kind == contents.ONNX:
        raise ValueError(f"{path} is an ONNX file. Commands take it as a model; here the state dict is needed.")
    loaded = read_tensors(path)[0] if kind == contents.SAFETENSORS else _unpickled(path, kind)
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, not a state dict. Save network.state_dict().")
    found: dict[str, dict[str, Tensor]] = {}
    _collect(loaded, (), found)
    if not found:
        keys = f"its keys: {', '.join(map(str, list(loaded)[:4]))}" if loaded else "it is empty"
        raise ValueError(f"{path} holds no tensor ({keys}). Save network.state_dict().")
    return found


def _collect(level: dict, where: tuple[str, ...], found: dict) -> None:
    tensors = {str(name): value.detach() for name, value in level.items() if isinstance(value, Tensor)}
    if tensors:
        found[".".join(where)] = tensors
    for name, value in level.items():
        if isinstance(value, dict) and len(where) < DEEPEST:
            _collect(value, (*where, str(name)), found)


def _unpickled(path: Path, kind: str) -> object:
    if kind == contents.ZIP:
        _check_zip(path)
    try:
        with open(path, "rb") as file, torch.serialization.safe_globals(KNOWN):  # by its name torch would judge a path
            return torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:  # a damaged pickle can raise any error
        raise ValueError(f"{path} {_reason(str(error))}") from None


def _check_zip(path: Path) -> None:
    """Refuse a zip that is cut short, changed, or not of torch.save, which does not look at checksums itself."""
    try:
        with zipfile.ZipFile(path) as archive:
            names, damaged = archive.namelist(), archive.testzip()
    except (zipfile.BadZipFile, OSError, NotImplementedError, EOFError) as error:
        raise ValueError(f"{path} is half-written or damaged ({error}). Download it again.") from None
    if damaged is not None:
        raise ValueError(f"{path} is damaged: {damaged} in it differs from its checksum. Download it again.")
    if any(name.endswith("/constants.pkl") for name in names):
        raise ValueError(f"{path} is a TorchScript program. Save its state dict: torch.jit.load(file).state_dict().")
    if not any(name.endswith("/data.pkl") for name in names):
        listed = ", ".join(names[:3])
        raise ValueError(
            f"{path} is a zip archive ({listed}), but not of torch.save. Unpack it and name the file in it."
        )


def _reason(message: str) -> str:
    """Say why torch refused a file whose outer form is right."""
    code = re.search(r"GLOBAL (\S+)|Can only (?:build|create|SETITEM).* got (.+)", message)
    if code is not None:
        return (
            f"asks for code beyond tensors ({(code[1] or code[2]).strip()}); nothing of it was executed. If you trust "
            "its author, load it in a program of yours and save the bare state dict: "
            "torch.save(network.state_dict(), file)."
        )
    if "Unsupported operand" in message or "persistent" in message:
        return "is a pickle, but not of torch.save. Save the bare state dict: torch.save(network.state_dict(), file)."
    return "is half-written, damaged, or no file of torch.save. Download it again."
