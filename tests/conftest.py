"""Shared by all tests: one thread, temporary folders for runs and results, and trained runs of the tiny profile."""

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from maskinv_lib.faces import Faces
from maskinv_lib.pipeline import evaluate
from maskinv_lib.pipeline.train import train
from maskinv_lib.study import methods
from maskinv_lib.study.runs import with_ancestors
from maskinv_lib.utils import files, fingerprints
from maskinv_lib.utils.randomness import key, uniform
from tests import tiny

ROOT = Path(__file__).parents[1]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU, and torch sees none")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKINV_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MASKINV_RESULTS", str(tmp_path / "results"))
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def patterned() -> Faces:
    """Twelve people, four views each, as random colour patterns: quick to compute, and enough to learn from."""
    identity = torch.arange(12).repeat_interleave(4)
    pattern = uniform(key("pattern", torch.arange(12)), 3 * 49).reshape(12, 3, 7, 7)[identity]
    noise = uniform(key("noise", torch.arange(48)), 3 * 49).reshape(48, 3, 7, 7)
    images = (255 * (0.8 * pattern + 0.2 * noise)).to(torch.uint8)
    images = images.repeat_interleave(16, 2).repeat_interleave(16, 3)
    return Faces(images=images, identity=identity, source="12 patterns, 4 views each", publishable=True)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A function that lets one process of the test run fill a folder, and copies the folder for every other."""
    own = tmp_path_factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def made(name: str, make: Callable[[Path], object], into: Path) -> object:
        folder, value = common / f"common-{name}", common / f"common-{name}.pickle"
        with files.only_process(common / f"{name}.lock", name, wait=True):
            if not value.exists():
                result = pickle.dumps(make(folder))
                with files.whole_file(value) as temporary:
                    temporary.write_bytes(result)
        shutil.copytree(folder, into, dirs_exist_ok=True)
        return pickle.loads(value.read_bytes())

    return made


@pytest.fixture(scope="session")
def shared(made_once, tmp_path_factory):
    """A folder with the trained ablation of the tiny profile, its trainings and its evaluations by rung."""
    folder = tmp_path_factory.mktemp("ablation")
    return folder, *made_once("ablation", _ablation, folder)


def _ablation(folder: Path) -> tuple[dict, dict]:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        tiny.register(patch, folder)
        done = {run.name: train(run) for run in with_ancestors(map(tiny.run_of, tiny.RUNGS))}
        trained = {name: done[name] for name in tiny.RUNGS}
        return trained, {name: evaluate.evaluate_run(tiny.run_of(name)) for name in tiny.RUNGS}


@pytest.fixture(scope="session")
def measured_methods(made_once, shared):
    """The trainings, and the evaluations, of all other methods by name, in the folder of the tiny ablation.

    A method that is only a part of others is not evaluated.
    """
    return made_once("methods", partial(_methods, shared[0]), shared[0])


def _methods(rungs: Path, folder: Path) -> tuple[dict, dict]:
    shutil.copytree(rungs, folder, dirs_exist_ok=True)
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        tiny.register(patch, folder)
        order = sorted(methods.METHODS, key=lambda stage: len(stage.parts))  # parts before combinations
        trained = {stage.name: train(tiny.method_run(stage.name)) for stage in order}
        compared = [stage.name for stage in methods.METHODS if stage.question != "ingredient"]
        return trained, {name: evaluate.evaluate_run(tiny.method_run(name)) for name in compared}


@pytest.fixture(scope="session")
def trained_methods(measured_methods):
    """The trainings of all other methods, in the folder of the tiny ablation, by name."""
    return measured_methods[0]


@pytest.fixture
def ablation(shared, monkeypatch):
    """The trainings and evaluations of the tiny ablation by rung; tests only read its files."""
    tiny.register(monkeypatch, shared[0])
    return shared[1:]


@pytest.fixture
def fresh(shared, tmp_path, monkeypatch):
    """An empty folder for runs that shares only the rendered faces."""
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / ".cache").symlink_to(shared[0] / ".cache")
    tiny.register(monkeypatch, runs)
    return runs


def forget_code() -> None:
    """Let the hashes of the library's code be computed again from its files."""
    for function in vars(fingerprints).values():
        getattr(function, "cache_clear", lambda: None)()


def run_module(*arguments: str, cwd: Path = ROOT, **settings: str) -> subprocess.CompletedProcess:
    """Run ``python -m ...`` as a user would, in a process of its own, with further environment variables."""
    environment = {**os.environ, "PYTHONPATH": str(cwd), **settings}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def rules_of(process: subprocess.CompletedProcess) -> set[str]:
    """Return the names of the rules in the output of a dry run of Snakemake."""
    lines = (process.stdout + process.stderr).splitlines()
    return {line.split()[1].rstrip(":") for line in lines if line.startswith(("rule ", "localrule "))}
