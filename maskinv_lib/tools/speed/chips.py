"""How many operations a GPU can do, and how many a training step needs."""

import re

from maskinv_lib.tools.speed.measuring import Row

GFLOP = {"iresnet50": 37.9, "iresnet100": 72.5}
"""10^9 floating-point operations of a training step per face, forward and backward, by network."""

PEAKS = {
    "A100": 312.0,
    "A10G": 70.0,
    "A10": 125.0,
    "A40": 149.7,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "H200": 989.0,
    "B200": 2250.0,
    "RTX 3090": 71.0,
    "RTX 4090": 165.2,
}
"""Words of a device's name -> 10^12 operations per second in bf16 without sparsity, from the maker's data sheets.

The first name that fits counts, so longer names stand before shorter ones.
"""


def peak_of(device: str) -> float | None:
    """Return the peak of a GPU in 10^12 operations per second in bf16; None where it is unknown."""
    matching = (peak for name, peak in PEAKS.items() if re.search(rf"\b{name}\b", device))
    return next(matching, None)


def share_of_peak(achieved: float, device: str, *, group: str, name: str) -> Row:
    """Return the row with the achieved 10^12 operations per second; its ratio is the share of the GPU's peak."""
    peak = peak_of(device)
    against = f"the peak of {device} in bf16" if peak else f"peak of {device} unknown"
    shared = {"baseline": peak, "ratio": achieved / peak} if peak else {}
    return Row(group=group, name=name, value=achieved, unit="TFLOP/s", repeats=1, against=against, **shared)
