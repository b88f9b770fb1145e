"""Folders that the study reads and writes: each is set by an environment variable or lies in the project's folder."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

SETTINGS = ("MASKINV_ROOT", "MASKINV_RUNS", "MASKINV_RESULTS", "MASKINV_DATA")
"""The environment variables."""


def root() -> Path:
    """Return the project's folder: MASKINV_ROOT, else the checkout that holds this library.

    A library installed elsewhere takes the nearest folder with a pyproject.toml at or above the working directory.
    """
    if setting := os.environ.get("MASKINV_ROOT"):
        return Path(setting).resolve()
    here = Path.cwd()
    for folder in (Path(__file__).resolve().parents[2], here, *here.parents):
        if (folder / "pyproject.toml").exists():
            return folder
    raise FileNotFoundError(f"No pyproject.toml in {here} or above. Start in the project, or set MASKINV_ROOT.")


def runs() -> Path:
    """Return the folder for everything that runs write: MASKINV_RUNS, else ``runs`` in the project."""
    return Path(os.environ.get("MASKINV_RUNS") or root() / "runs").resolve()


def results() -> Path:
    """Return the folder of published results: MASKINV_RESULTS, else ``results`` in the project."""
    return Path(os.environ.get("MASKINV_RESULTS") or root() / "results").resolve()


def settle() -> None:
    """Make the paths in the environment absolute: notebooks and jobs run in other folders."""
    for name in SETTINGS:
        if os.environ.get(name):
            os.environ[name] = str(Path(os.environ[name]).resolve())


@contextlib.contextmanager
def data_in(folder: Path) -> Iterator[None]:
    """Let ``data`` return ``folder`` in the block."""
    before = os.environ.get("MASKINV_DATA")
    os.environ["MASKINV_DATA"] = str(folder.resolve())
    try:
        yield
    finally:
        os.environ.pop("MASKINV_DATA")
        os.environ |= {} if before is None else {"MASKINV_DATA": before}


def data() -> Path | None:
    """Return the folder of real data, MASKINV_DATA; None where it is not set.

    Raises FileNotFoundError if it names no folder.
    """
    setting = os.environ.get("MASKINV_DATA")
    if not setting:
        return None
    if not Path(setting).is_dir():
        raise FileNotFoundError(f"MASKINV_DATA={setting} is no folder. Set it to the folder that holds the data.")
    return Path(setting).resolve()
