"""The machine that is measured, in rows of the benchmark."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path

import torch

from maskinv_lib.pipeline.train import git_commit
from maskinv_lib.tools.speed.measuring import Row
from maskinv_lib.tools.speed.tasks import Setting
from maskinv_lib.training.loop import choose_precision

GROUP = "machine"

FEATURES = {"bf16": ("avx512_bf16", "amx_bf16"), "AVX-512": ("avx512_f", "avx512f"), "AVX2": ("avx2",)}
"""Feature of a processor -> its names in ``torch.cpu.get_capabilities`` and in /proc/cpuinfo."""


def rows(setting: Setting) -> list[Row]:
    """Return the description of the machine: rows whose value is a text."""
    facts = {
        "processor": processor(),
        "cores": str(setting.cores),
        "threads": f"as the name of each row says, at most {setting.cores}",
        "load": load(),
        "features": ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in features().items()),
        "precision": str(choose_precision("auto", torch.device("cpu"))).removeprefix("torch."),
        "GPU": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "torch": torch.__version__,
        "OpenCV": version("opencv-python-headless") or version("opencv-python") or "none",
        "scikit-learn": version("scikit-learn") or "none",
        "commit": git_commit(),
    }
    return [Row(group=GROUP, name=name, value=value) for name, value in facts.items()]


def load() -> str:
    """Return how many processes wanted a core in the last minute: what other programs took is missing here."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def cpuinfo() -> str:
    """Return what Linux says of its processors; "" elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def processor() -> str:
    """Return the name of the processor, as far as the system tells it."""
    named = re.search(r"^model name\s*:\s*(.+)$", cpuinfo(), re.MULTILINE)
    return named.group(1).strip() if named else platform.processor() or platform.machine()


def features() -> dict[str, bool]:
    """Return which features of ``FEATURES`` the processor has."""
    known = {name for name, has in getattr(torch.cpu, "get_capabilities", dict)().items() if has}
    flags = re.search(r"^flags\s*:\s*(.+)$", cpuinfo(), re.MULTILINE)
    known |= set(flags.group(1).split()) if flags else set()
    return {feature: bool(known & set(names)) for feature, names in FEATURES.items()}


def version(package: str) -> str:
    """Return the version of an installed package; "" where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
