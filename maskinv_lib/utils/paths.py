"""Folders that the study reads and writes, each found by a setting of its own or beside this library."""

import os
from pathlib import Path


def root() -> Path:
    """Return the project's folder: the setting MASKINV_ROOT, else the checkout that holds this library.

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
    """Return the folder for everything that runs write: the setting MASKINV_RUNS, else ``runs`` in the project."""
    return Path(os.environ.get("MASKINV_RUNS") or root() / "runs").resolve()


def results() -> Path:
    """Return the folder of published results: the setting MASKINV_RESULTS, else ``results`` in the project."""
    return Path(os.environ.get("MASKINV_RESULTS") or root() / "results").resolve()


SETTINGS = ("MASKINV_ROOT", "MASKINV_RUNS", "MASKINV_RESULTS", "MASKINV_DATA")


def settle() -> None:
    """Make the settings absolute, so that notebooks and jobs, which run in other folders, find the same places."""
    for name in SETTINGS:
        if os.environ.get(name):
            os.environ[name] = str(Path(os.environ[name]).resolve())


def data() -> Path | None:
    """Return the folder of real data, from the setting MASKINV_DATA; None where it is not set.

    A setting that names no folder raises FileNotFoundError.
    """
    setting = os.environ.get("MASKINV_DATA")
    if not setting:
        return None
    if not Path(setting).is_dir():
        raise FileNotFoundError(f"MASKINV_DATA={setting} is no folder. Set it to the folder that holds the data.")
    return Path(setting).resolve()
