"""Random numbers that are a pure function of their keys: no state, so order, batch, workers and resume do not matter.

A key is one int64 number of a tensor, made from whole numbers such as (seed, epoch, index) by a counter-based hash: the
finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). A key yields any number of independent random numbers.
"""

import hashlib
import math

import torch
from torch import Tensor

_GAMMA = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MIX = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # torch copies the sign bit; the hash needs zeros


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX[0]
    x = (x ^ _shift(x, 27)) * _MIX[1]
    return x ^ _shift(x, 31)


def key(*parts: int | str | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Hash whole numbers, strings and int64 tensors (broadcast together) into an int64 tensor of keys.

    Different parts, or the same parts in another order, give unrelated keys; a string names the purpose of a draw.
    Whole numbers and strings are hashed on the CPU, so that a GPU has not to be waited for.
    """
    state = torch.zeros((), dtype=torch.int64)
    for part in parts:
        if isinstance(part, str):
            part = int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "little", signed=True)
        if not isinstance(part, Tensor):
            part = torch.tensor(part, dtype=torch.int64)
        part = part.to(device) if part.dim() else part
        state = _mix(state + _GAMMA) ^ _mix(part + _GAMMA)
        state = _mix(state * 3 + _GAMMA)
    return state.to(device)


def uniform(keys: Tensor, count: int) -> Tensor:
    """Return float64 numbers in (0, 1), shape [*keys.shape, count]: the first ``count`` of each key's stream."""
    steps = torch.arange(1, count + 1, dtype=torch.int64, device=keys.device) * _GAMMA
    bits = _shift(_mix(keys.unsqueeze(-1) + steps), 11)  # 53 bits
    return (bits.to(torch.float64) + 0.5) / 2.0**53


def normal(keys: Tensor, count: int) -> Tensor:
    """Return float64 standard normal numbers, shape [*keys.shape, count] (Box-Muller on ``uniform``)."""
    pairs = uniform(keys, 2 * count)
    radius = torch.sqrt(-2 * torch.log(pairs[..., :count]))
    return radius * torch.cos(2 * math.pi * pairs[..., count:])


def permutation(keys: Tensor, count: int) -> Tensor:
    """Return a permutation of 0..count-1, int64 [count], decided by one scalar key."""
    return torch.argsort(key(keys, torch.arange(count, device=keys.device), device=keys.device), stable=True)
