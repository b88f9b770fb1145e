"""What ``maskinv.toml`` in a folder of real data may say, read and checked."""

import dataclasses
import re
import tomllib
from pathlib import Path

from maskinv_lib.study.data import MASK_KINDS, PROTOCOLS, Benchmark
from maskinv_lib.utils import checks

TOLD_OF_FACES = {
    "training": str,
    "teacher": str,
    "without": list,
    "validation": int,
    "seed": int,
    "skip_bad": bool,
    "contract": str,
}


TOLD = TOLD_OF_FACES | {"network": str, "embedding_size": int, "benchmarks": list}
"""What ``maskinv.toml`` in the data folder may say, each of its kind."""


TAKEN = ("tables", "figures", "keys", "logs")
"""Folders of a study, which no benchmark may be called."""


def _told(path: Path) -> dict:
    """Return what a data folder says of itself; a name or value that cannot be raises ValueError."""
    if not path.exists():
        return {}
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}. Mend that line.") from None
    for name, value in told.items():
        kind = TOLD[checks.choose(f"name in {path}", name, TOLD)]
        if type(value) is not kind:
            raise ValueError(f"{path}: {name} must be {_KINDS[kind]}, not {value!r}.")
    if "without" in told:
        told["without"] = tuple(checks.whole_number(f"{path}: a label of without", one) for one in told["without"])
    if "benchmarks" in told:
        told["benchmarks"] = tuple(_benchmark(path, one) for one in told["benchmarks"])
        names = [one.name for one in told["benchmarks"]]
        if len(set(names)) < len(names) or not names:
            raise ValueError(f"{path}: benchmarks must be one or more, each with a name of its own, not {names}.")
    return told


_KINDS = {str: "a text", int: "a whole number", bool: "true or false", list: "a list"}


def _benchmark(path: Path, told: object) -> Benchmark:
    """Return a benchmark as ``maskinv.toml`` describes it: name and path, and where wanted protocol and kinds."""
    fields = [field.name for field in dataclasses.fields(Benchmark)]
    if not isinstance(told, dict) or not {"name", "path"} <= set(told):
        raise ValueError(f'{path}: a benchmark is {{name = "lfw", path = "lfw.bin"}}, not {told!r}.')
    for name in told:
        checks.choose(f"name of a benchmark's value in {path}", name, fields)
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", str(told["name"])) or told["name"] in TAKEN:
        raise ValueError(f"{path}: a benchmark cannot be called {told['name']!r}: use letters, digits and hyphens.")
    checks.choose(f"protocol in {path}", told.get("protocol", "all-pairs"), PROTOCOLS)
    if type(told.get("beside", True)) is not bool:
        raise ValueError(f"{path}: beside must be true or false, not {told['beside']!r}.")
    kinds = tuple(checks.choose(f"kinds in {path}", kind, MASK_KINDS) for kind in told.get("kinds", MASK_KINDS))
    return Benchmark(**{**told, "kinds": kinds})
