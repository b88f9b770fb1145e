"""Ask the package index which pinned versions have no wheel for a Python and a platform: ``make wheels``, some minutes.

Nothing is installed or downloaded. A pin that has no wheel at all, but a source archive, is named as such.
"""

import os
import re
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PYTHONS = ("3.11", "3.12", "3.13", "3.14")

PLATFORMS = {
    f"{system}, {name}": [platform.format(machine) for platform in platforms]
    for system, machines, platforms in (
        (
            "Linux",
            {"x86-64": "x86_64", "arm64": "aarch64"},
            [f"manylinux_2_{minor}_{{}}" for minor in (28, 27, 26, 24, 17, 12, 5)] + ["manylinux2014_{}"],
        ),
        ("macOS", {"x86-64": "x86_64", "arm64": "arm64"}, ["macosx_15_0_{}"]),
    )
    for name, machine in machines.items()
}
"""Platform in words -> the tags of the wheels that it takes; pip adds those of earlier versions of macOS."""

PURE = ("--platform", "any", "--abi", "none", "--implementation", "py")
"""Options that leave only wheels for every platform."""


def pins(path: Path) -> dict[str, str]:
    """Return package -> version of a file with lines such as ``numpy==2.4.6``."""
    return dict(line.split("==") for line in path.read_text(encoding="utf-8").split())


def offered(message: str) -> list[str]:
    """Return the versions that pip names in its error about a version that does not exist."""
    return re.search(r"\(from versions: ([^)]*)\)", message).group(1).split(", ")


def is_offered(package: str, version: str, python: str, *options: str) -> bool:
    """Ask the index whether it has a version for a Python with these options.

    pip is asked for version 0.dev0, which nobody has: its error lists what it could take, and nothing is downloaded.
    """
    command = [sys.executable, "-m", "pip", "download", f"{package}==0.dev0", "--no-deps", "--python-version", python]
    environment = {**os.environ, "PIP_CONSTRAINT": os.devnull}
    done = subprocess.run([*command, *options], capture_output=True, text=True, env=environment, check=False)
    if "No matching distribution" not in done.stderr:
        raise RuntimeError(f"pip could not ask for {package}: {done.stderr.strip().splitlines()[-1:]}")
    return version in offered(done.stderr)


def missing(package: str, version: str) -> dict[str, list[str]]:
    """Return platform in words -> the Pythons for which a version has no wheel; {} if it has all of them."""
    if all(is_offered(package, version, python, "--only-binary=:all:", *PURE) for python in (PYTHONS[0], PYTHONS[-1])):
        return {}
    lacking = defaultdict(list)
    for platform, tags in PLATFORMS.items():
        options = [part for tag in tags for part in ("--platform", tag)]
        for python in PYTHONS:
            if not is_offered(package, version, python, "--only-binary=:all:", *options):
                lacking[platform].append(python)
    everywhere = sum(map(len, lacking.values())) == len(PLATFORMS) * len(PYTHONS)
    if everywhere and is_offered(package, version, PYTHONS[0], "--no-binary=:all:"):
        return {"any platform (pip builds its source archive)": [*PYTHONS]}
    return dict(lacking)


def main() -> int:
    """Print each pin without a wheel and where it lacks one; return 1 if there is any."""
    pinned = pins(Path(__file__).parents[1] / "constraints.txt")
    with ThreadPoolExecutor(4) as pool:
        answers = dict(zip(pinned, pool.map(missing, pinned, pinned.values()), strict=True))
    for package, lacking in answers.items():
        for platform, pythons in lacking.items():
            print(f"{package}=={pinned[package]}: no wheel for {platform}, Python {', '.join(pythons)}")
    complete = sum(not lacking for lacking in answers.values())
    print(f"{complete} of {len(pinned)} pins have a wheel for Python {PYTHONS[0]} to {PYTHONS[-1]} everywhere.")
    return int(complete < len(pinned))


if __name__ == "__main__":
    sys.exit(main())
