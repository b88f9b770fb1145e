"""The settings in the ``maskinv.toml`` of a folder of real data, read and checked."""

import dataclasses
import re
import tomllib
from pathlib import Path

from maskinv_lib.study.data import MASK_KINDS, PROTOCOLS, Benchmark
from maskinv_lib.utils import checks

FACES_SETTINGS = {
    "training": str,
    "teacher": str,
    "without": list,
    "validation": int,
    "seed": int,
    "skip_bad": bool,
    "contract": str,
}
"""Settings that are fields of ``RealFaces``."""

SETTINGS = FACES_SETTINGS | {"network": str, "embedding_size": int, "benchmarks": list}
"""Name of a setting in ``maskinv.toml`` -> its type."""

KINDS = {str: "a text", int: "a whole number", bool: "true or false", list: "a list"}

RESERVED = ("tables", "figures", "keys", "logs")
"""Names of folders of a study, which no benchmark may have."""


def read_settings(path: Path) -> dict:
    """Return the settings in ``maskinv.toml``, {} without the file; a wrong name or value raises ValueError."""
    if not path.exists():
        return {}
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}. Correct that line.") from None
    for name, value in settings.items():
        kind = SETTINGS[checks.choose(f"name in {path}", name, SETTINGS)]
        if type(value) is not kind:
            raise ValueError(f"{path}: {name} must be {KINDS[kind]}, not {value!r}.")
    if "without" in settings:
        labels = settings["without"]
        settings["without"] = tuple(checks.whole_number(f"{path}: a label of without", label) for label in labels)
    if "benchmarks" in settings:
        settings["benchmarks"] = tuple(_benchmark(path, entry) for entry in settings["benchmarks"])
        names = [benchmark.name for benchmark in settings["benchmarks"]]
        if len(set(names)) < len(names) or not names:
            raise ValueError(f"{path}: benchmarks must be one or more, each with a name of its own, not {names}.")
    return settings


def _benchmark(path: Path, settings: object) -> Benchmark:
    """Return the benchmark of one entry: name and path, and optionally protocol, kinds and all_methods."""
    fields = [field.name for field in dataclasses.fields(Benchmark)]
    if not isinstance(settings, dict) or not {"name", "path"} <= set(settings):
        raise ValueError(f'{path}: a benchmark is {{name = "lfw", path = "lfw.bin"}}, not {settings!r}.')
    for name in settings:
        checks.choose(f"name of a benchmark's value in {path}", name, fields)
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", str(settings["name"])) or settings["name"] in RESERVED:
        raise ValueError(f"{path}: a benchmark cannot be called {settings['name']!r}: use letters, digits and hyphens.")
    checks.choose(f"protocol in {path}", settings.get("protocol", "all-pairs"), PROTOCOLS)
    if type(settings.get("all_methods", True)) is not bool:
        raise ValueError(f"{path}: all_methods must be true or false, not {settings['all_methods']!r}.")
    kinds = tuple(checks.choose(f"kinds in {path}", kind, MASK_KINDS) for kind in settings.get("kinds", MASK_KINDS))
    return Benchmark(**{**settings, "kinds": kinds})
