"""The study where home is missing, the temporary folder's path is long, and the project must not be written."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.study

LIBRARY = ("maskinv_lib", "notebooks", "workflow", "pyproject.toml")


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of the project, as a user's clone."""
    for name in LIBRARY:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        options = {"ignore": shutil.ignore_patterns("__pycache__", ".snakemake")} if source.is_dir() else {}
        copy(source, tmp_path / "clone" / name, **options)
    return tmp_path / "clone"


def content(folder: Path) -> dict[str, str]:
    """Return the hash of every file of a folder but compiled Python, which a system that cannot write omits."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_study_writes_below_runs_alone(checkout, tmp_path):
    temporary = tmp_path / ("t" * (120 - len(str(tmp_path))))
    temporary.mkdir()
    before = content(checkout)
    runs = tmp_path / "elsewhere/runs"
    settings = {
        "HOME": "/nonexistent",
        "TMPDIR": str(temporary),
        "MASKINV_RUNS": str(runs),
        "PYTHONPATH": str(checkout),
    }
    own = ("XDG_", "MPL", "JUPYTER", "IPYTHON", "MASKINV_", "MALLOC", "OMP", "PYTEST")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)} | settings
    command = [sys.executable, "-B", "-m", "maskinv_lib", "study", "--profile", "smoke", "--cores", "2"]
    start = tmp_path / "start"  # not the project: no path may depend on the working directory
    start.mkdir()
    done = subprocess.run(command, cwd=start, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert content(checkout) == before and not list(checkout.rglob(".snakemake")) and not any(start.iterdir())
    assert not Path("/nonexistent").exists()
    assert (runs / ".snakemake").is_dir() and (runs / ".homes/matplotlib").is_dir()
    assert (runs / "smoke/tables/metrics.csv").exists()
    assert "temporary cache" not in (runs / "smoke/compare.ipynb").read_text(), "matplotlib found its folder"
