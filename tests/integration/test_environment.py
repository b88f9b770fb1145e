"""The same dependencies in three files: ranges for pip and for conda, exact versions for both."""

import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from maskinv_lib.utils import files
from tests.conftest import ROOT

CONDA_NAMES = {"torch": "pytorch", "opencv-python-headless": "py-opencv"}
"""Packages that are called otherwise on conda-forge."""

PLUGINS = {"pillow-heif"}
"""Packages that the library uses only where somebody has installed them."""


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


@pytest.fixture
def wheels():
    """The script behind ``make wheels``."""
    spec = importlib.util.spec_from_file_location("wheels", ROOT / "workflow/wheels.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_reads_what_pip_offers(wheels):
    error = "ERROR: Could not find a version that satisfies the requirement x==0.dev0 (from versions: {})\nERROR: No"
    assert wheels.offered(error.format("1.0, 1.0.post1, 2.0rc1")) == ["1.0", "1.0.post1", "2.0rc1"]
    assert wheels.offered(error.format("none")) == ["none"]
    assert wheels.pins(ROOT / "constraints.txt")["torch"] == pins()["torch"]


def test_the_script_asks_for_every_python_and_platform(wheels, monkeypatch):
    assert list(wheels.PLATFORMS) == ["Linux, x86-64", "Linux, arm64", "macOS, x86-64", "macOS, arm64"]
    assert wheels.PYTHONS == ("3.11", "3.12", "3.13", "3.14")

    def offers(pure: bool, source: bool, lacking=lambda python, tags: False):
        def is_offered(package, version, python, *options):
            if "--no-binary=:all:" in options:
                return source
            return pure if "any" in options else not lacking(python, options)

        monkeypatch.setattr(wheels, "is_offered", is_offered)
        return wheels.missing("x", "1.0")

    assert offers(pure=True, source=True) == offers(pure=False, source=True) == {}
    assert offers(False, True, lambda python, tags: python == "3.14" and "macosx_15_0_arm64" in tags) == {
        "macOS, arm64": ["3.14"]
    }
    nowhere = offers(False, True, lambda python, tags: True)
    assert list(nowhere) == ["any platform (pip builds its source archive)"]
    assert set(offers(False, False, lambda python, tags: True)) == set(wheels.PLATFORMS)


def test_what_the_library_imports_is_declared():
    names = {"sklearn": "scikit-learn", "PIL": "pillow", "IPython": "ipykernel", "traitlets": "ipykernel"}
    names["cv2"] = "opencv-python-headless"
    standard_library = __import__("sys").stdlib_module_names
    extras = [text for texts in project()["optional-dependencies"].values() for text in texts]
    declared = ranges() | specifiers_of(extras)
    for path in sorted((ROOT / "maskinv_lib").rglob("*.py")):
        for name in re.findall(r"^\s*(?:from|import) (\w+)", _code(path.read_text()), re.MULTILINE):
            if name != "maskinv_lib" and name not in standard_library:
                assert canonicalize_name(names.get(name, name)) in declared, f"{path.name} imports {name}"


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


def texts_of(path: Path) -> dict[str, str]:
    """Return name -> text of a tracked file, or of the files in an archive, without what is no text."""
    contents = files.read_archive(path) if path.suffix == ".zip" else {path.name: path.read_bytes()}
    binary = (".png", ".npz", ".safetensors")
    return {name: content.decode() for name, content in contents.items() if not name.endswith(binary)}


def test_no_tracked_file_names_a_machine_s_folders_or_registry():
    traces, archives = [], 0
    for path in (ROOT / name for name in tracked() if (ROOT / name).is_file()):
        archives += path.suffix == ".zip"
        for inside, text in texts_of(path).items():
            for number, line in enumerate(text.splitlines(), 1):
                if trace := TRACES.search(line):
                    traces.append(f"{path.relative_to(ROOT)}:{inside}:{number}: {trace.group()}")
    assert not traces and archives, "\n".join(traces)


def test_what_runs_write_is_ignored_by_git():
    assert not [name for name in tracked() if name.startswith(("runs/", ".venv/"))]


def test_the_only_weights_are_those_trained_on_rendered_people():
    weights = [name for name in tracked() if name.endswith((".safetensors", ".pth", ".pt", ".ckpt", ".onnx", ".bin"))]
    assert weights and all(name.startswith("results/models/laptop/") for name in weights)
    assert all((ROOT / name).stat().st_size < 5e6 for name in weights)
