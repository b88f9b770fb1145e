"""The settings in the ``maskinv.toml`` of a folder of real data, read and checked."""

import dataclasses
import re
import tomllib
from pathlib import Path

from maskinv_lib.study.data import MASK_KINDS, PROTOCOLS, Benchmark
from maskinv_lib.utils import checks
from maskinv_lib.utils.texts import read_text

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

SCALE = {"budget": int, "batch": int, "seeds": int}
"""Settings of the scale of a study."""

SETTINGS = FACES_SETTINGS | SCALE | {"network": str, "embedding_size": int, "benchmarks": list}
"""Name of a setting in ``maskinv.toml`` -> its type."""

MINIMA = {"budget": 1, "batch": 2, "seeds": 1, "validation": 2, "embedding_size": 1, "seed": 0}
"""Setting -> the smallest number that it may be: batch normalisation needs two faces, validation two people."""

KINDS = {str: "a text", int: "a whole number", bool: "true or false", list: "a list"}

RESERVED = ("tables", "figures", "keys", "logs")
"""Names of folders of a study, which no benchmark may have."""


def read_settings(path: Path) -> dict:
    """Return the settings in ``maskinv.toml``, {} without the file; a wrong name or value raises ValueError."""
    if not path.exists():
        return {}
    text = read_text(path)
    try:
        settings = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}. {_remedy(text, str(error))}") from None
    for name, value in settings.items():
        kind = SETTINGS[checks.choose(f"name in {path}", name, SETTINGS)]
        if type(value) is not kind:
            raise ValueError(f"{path}: {name} must be {KINDS[kind]}, not {value!r}.")
        if name in MINIMA:
            checks.whole_number(f"{path}: {name}", value, minimum=MINIMA[name])
    for name in ("training", "teacher"):
        _check_path(path, name, settings.get(name, ""))
    if "without" in settings:
        labels = settings["without"]
        settings["without"] = tuple(checks.whole_number(f"{path}: a label of without", label) for label in labels)
    if "benchmarks" in settings:
        settings["benchmarks"] = tuple(_benchmark(path, entry) for entry in settings["benchmarks"])
        names = [benchmark.name for benchmark in settings["benchmarks"]]
        if len(set(names)) < len(names) or not names:
            raise ValueError(f"{path}: benchmarks must be one or more, each with a name of its own, not {names}.")
    return settings


SLASHES = "Write paths with forward slashes: faces/my_people."


def _remedy(text: str, error: str) -> str:
    """Return what to do about a line that is not TOML; on Windows a path in double quotes is the usual cause."""
    lines, number = text.split("\n"), re.search(r"at line (\d+)", error)
    line = lines[int(number.group(1)) - 1] if number else ""
    return SLASHES if "\\" in line else "Correct that line."


def _check_path(path: Path, name: str, value: object) -> None:
    r"""Raise ValueError for a backslash in a path, or what became of it in double quotes, such as \t for a tab."""
    if isinstance(value, str) and re.search(r"[\x00-\x1f\\]", value):
        raise ValueError(f"{path}: {name} holds a backslash or a control character: {value!r}. {SLASHES}")


def _benchmark(path: Path, settings: object) -> Benchmark:
    """Return the benchmark of one entry: name and path, and optionally protocol, kinds and all_methods."""
    fields = [field.name for field in dataclasses.fields(Benchmark)]
    if not isinstance(settings, dict) or not {"name", "path"} <= set(settings):
        raise ValueError(f'{path}: a benchmark is {{name = "lfw", path = "lfw.bin"}}, not {settings!r}.')
    for name in settings:
        checks.choose(f"name of a benchmark's value in {path}", name, fields)
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", str(settings["name"])) or settings["name"] in RESERVED:
        raise ValueError(f"{path}: a benchmark cannot be called {settings['name']!r}: use letters, digits and hyphens.")
    _check_path(path, f"the path of {settings['name']}", settings["path"])
    checks.choose(f"protocol in {path}", settings.get("protocol", "all-pairs"), PROTOCOLS)
    if type(settings.get("all_methods", True)) is not bool:
        raise ValueError(f"{path}: all_methods must be true or false, not {settings['all_methods']!r}.")
    kinds = tuple(checks.choose(f"kinds in {path}", kind, MASK_KINDS) for kind in settings.get("kinds", MASK_KINDS))
    return Benchmark(**{**settings, "kinds": kinds})
