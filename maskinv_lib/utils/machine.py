"""What differs between machines: usable cores, the allocator's settings, short folders for sockets, other homes."""

import contextlib
import ctypes
import os
import sys
import tempfile
from pathlib import Path

COMPUTING = {
    "OMP_WAIT_POLICY": "passive",  # waiting threads that spin take the cores from those that compute
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_ARENA_MAX": "1",
}
"""Environment of every process that computes. The settings of glibc's allocator reuse the memory of a batch: new pages
for each batch cost more than half of the time. Other systems ignore them."""

MALLOPT = {"MALLOC_MMAP_MAX_": -4, "MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_ARENA_MAX": -8}
"""Setting of glibc -> its number in mallopt: a process that runs already does not read its environment again."""

SOCKET_BYTES = 103
"""Longest path of a local socket on macOS; Linux allows 107."""

SHORT = SOCKET_BYTES - len("/maskinv-12345678/kernel-10")
"""Longest path in bytes of the folder in which ``short_folder`` makes a folder."""


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1  # macOS; process_cpu_count is new in Python 3.13


def prepare_computing() -> None:
    """Set what makes computing fast in this process and in those that it starts; call it before torch is imported.

    Values that the user has set in the environment stay.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    for name, value in COMPUTING.items():
        if name not in os.environ:
            os.environ[name] = value
            if name in MALLOPT and hasattr(libc, "gnu_get_libc_version"):
                libc.mallopt(MALLOPT[name], int(value))


def short_folder() -> tempfile.TemporaryDirectory:
    """Make a private temporary folder whose path is short enough for sockets in it; ``with`` removes it at the end.

    It lies in the usual temporary folder, or in /tmp or /var/tmp where that path is too long. Raises OSError naming
    TMPDIR where no folder can be made.
    """
    usual = tempfile.gettempdir()
    for parent in (usual, "/tmp", "/var/tmp"):
        if len(os.fsencode(parent)) <= SHORT:
            with contextlib.suppress(OSError):
                return tempfile.TemporaryDirectory(prefix="maskinv-", dir=parent)
    remedy = f"a folder that can be written, with a path of at most {SHORT} characters"
    raise OSError(
        f"No folder for the sockets of notebooks: neither {usual}, /tmp nor /var/tmp. Set TMPDIR to {remedy}."
    )


def homes_below(folder: Path) -> dict[str, str]:
    """Return an environment in which other programs keep caches, state and settings in ``folder``, whatever HOME is."""
    jupyter = {f"JUPYTER_{kind}_DIR": f"jupyter/{kind.lower()}" for kind in ("CONFIG", "DATA", "RUNTIME")}
    names = {"XDG_CACHE_HOME": "cache", "XDG_DATA_HOME": "data", "XDG_STATE_HOME": "state"}
    names |= {"MPLCONFIGDIR": "matplotlib", "IPYTHONDIR": "ipython", **jupyter}
    return {name: str(folder / place) for name, place in names.items()}
