"""The same dependencies in three files: ranges for pip and for conda, exact versions for both."""

import re
import subprocess
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import ROOT

CONDA_NAMES = {"torch": "pytorch"}
"""Packages that are called otherwise on conda-forge."""


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def ranges() -> dict[str, str]:
    """Return the range of every dependency in pyproject.toml, tests' included, by its name in lower case."""
    texts = project()["dependencies"] + project()["optional-dependencies"]["test"]
    specifiers = specifiers_of(texts)
    assert len(specifiers) == len(texts), "a dependency is named twice"
    return specifiers


def specifiers_of(texts: list[str]) -> dict[str, str]:
    return {canonicalize_name(Requirement(text).name): str(Requirement(text).specifier) for text in texts}


def conda() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().split()
    return dict((canonicalize_name(line.partition("==")[0]), line.partition("==")[2]) for line in lines)


def test_conda_s_ranges_are_those_of_pyproject():
    texts = [text for text in conda()["dependencies"] if isinstance(text, str) and text != "pip"]
    expected = {canonicalize_name(CONDA_NAMES.get(name, name)): text for name, text in ranges().items()}
    assert specifiers_of(texts) == {**expected, "python": project()["requires-python"]}


def test_conda_has_both_channels_and_installs_the_project_itself():
    assert conda()["name"] == "maskinv"
    assert conda()["channels"][:2] == ["conda-forge", "bioconda"]
    assert "pip" in conda()["dependencies"]
    assert conda()["dependencies"][-1] == {"pip": ["-e ."]}


def test_every_dependency_says_what_it_is_for():
    lines = (ROOT / "environment.yml").read_text().partition("dependencies:")[2].splitlines()
    named = [line for line in lines if line.strip().startswith("-") and line.strip() != "- pip:"]
    assert len(named) == len(ranges()) + 3
    assert all(re.search(r"  # \w.{3,}$", line) for line in named), named


def test_constraints_pin_every_dependency_within_its_range():
    versions = pins()
    assert versions["torch"] == "2.13.0"
    for name, text in ranges().items():
        assert Version(versions[name]) in Requirement(f"{name}{text}").specifier, name
    assert all(version and not Version(version).local for version in versions.values())


def test_constraints_are_plain_pins_each_once():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert len(pins()) == len(lines)


@pytest.mark.parametrize(("name", "floor"), [("torch", "2.6"), ("nbconvert", "7.17.1"), ("jupyter-server", "2.20")])
def test_security_floors_stay(name, floor):
    lowest = [
        Version(part.version) for part in Requirement(f"{name}{ranges()[name]}").specifier if part.operator == ">="
    ]
    assert max(lowest) >= Version(floor)


def test_what_the_library_imports_is_declared():
    names = {"sklearn": "scikit-learn", "PIL": "pillow", "IPython": "ipykernel", "traitlets": "ipykernel"}
    standard_library = __import__("sys").stdlib_module_names
    for path in sorted((ROOT / "maskinv_lib").rglob("*.py")):
        for name in re.findall(r"^\s*(?:from|import) (\w+)", _code(path.read_text()), re.MULTILINE):
            if name != "maskinv_lib" and name not in standard_library:
                assert canonicalize_name(names.get(name, name)) in ranges(), f"{path.name} imports {name}"


def _code(text: str) -> str:
    return re.sub(r'""".*?"""', "", text, flags=re.DOTALL)


def tracked() -> list[str]:
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this folder is no git checkout")
    return done.stdout.splitlines()


TRACES = re.compile(
    "|".join(
        (
            r"(?<![\w./+-])/(?:home|root|Users|work|workspace|mnt|scratch)/\w+",  # somebody's folders
            r"index[-_]url\s*[=: ]\s*\S+|find[-_]links\s*[=: ]\s*\S+",  # a registry of one's own
            r"https?://(?:localhost|\d+\.\d+\.\d+\.\d+|[\w.-]+:\d{2,5}/|[\w.-]*(?:\.internal|\.local|\.lan)\b)",
        )
    )
)


@pytest.mark.parametrize(
    "text", ["see /ho" + "me/ann/x", "--index-" + "url https://x", "ht" + "tp://10.0.0.3/x", "ht" + "tps://a.internal/"]
)
def test_traces_of_a_machine_are_recognised(text):
    assert TRACES.search(text)


@pytest.mark.parametrize("text", ["/path/to/x", "results/mnt/x", "https://arxiv.org/abs/2110.09416", "~/data"])
def test_harmless_paths_and_links_are_not(text):
    assert not TRACES.search(text)


def test_no_tracked_file_names_a_machine_s_folders_or_registry():
    traces = []
    for name in tracked():
        path = ROOT / name
        if path.suffix in (".png", ".npz", ".safetensors") or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if trace := TRACES.search(line):
                traces.append(f"{name}:{number}: {trace.group()}")
    assert not traces, "\n".join(traces)


def test_what_runs_write_is_ignored_by_git():
    assert not [name for name in tracked() if name.startswith(("runs/", ".venv/")) or name.endswith(".safetensors")]
