"""Checkpoints of a training: safetensors and JSON, never pickles; no file is left half-written."""

import contextlib
from pathlib import Path

import torch
from torch import Tensor, nn

from maskinv_lib.networks.weights import read_tensors, write_tensors


def _state(parts: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    state = {f"{name}/{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    for name, optimizer in optimizers.items():
        for index, slots in optimizer.state_dict()["state"].items():
            state |= {f"{name}/{index}/{slot}": value for slot, value in slots.items() if isinstance(value, Tensor)}
    return state


def save(path: Path, parts: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer], facts: dict) -> None:
    """Write the state of modules and optimisers and ``facts`` (JSON-serialisable) to ``path``, whole or not at all."""
    write_tensors(path, _state(parts, optimizers), facts)


def load(path: Path, key: str) -> tuple[dict[str, Tensor], dict] | None:
    """Return (tensors, facts) of the checkpoint at ``path`` if it is undamaged and has this ``key``, else None."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        tensors, facts = read_tensors(path)
        return (tensors, facts) if facts.get("key") == key else None
    return None


def restore(
    tensors: dict[str, Tensor], parts: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]
) -> None:
    """Load the tensors of a checkpoint into modules and optimisers of the same layout."""
    for name, part in parts.items():
        part.load_state_dict(_state_of(tensors, name))
    for name, optimizer in optimizers.items():
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in _state_of(tensors, name).items():
            index, slot = key.split("/")
            slots.setdefault(int(index), {})[slot] = value
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})


def _state_of(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}
