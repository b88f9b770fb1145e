"""What the README shows to those who add something works as it stands, and its maps of the code are complete."""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from maskinv_lib.evaluation.benchmarks.bins import write_bin
from maskinv_lib.study.profiles import STAGES
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
RUN = (
    "import pytest, pathlib\nfrom tests import tiny\nfrom maskinv_lib.pipeline.evaluate import evaluate_run\n"
    "from maskinv_lib.pipeline.train import train\nfrom maskinv_lib.study.profiles import get_profile\n"
    "patch = pytest.MonkeyPatch(); tiny.register(patch, pathlib.Path('runs').resolve())\n"
)


def examples(heading: str) -> list[str]:
    """Return the Python examples of a section."""
    section = README.partition(f"### {heading}\n")[2].partition("\n##")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of the repository's code, to add to."""
    for name in ("maskinv_lib", "tests", "workflow", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def add_entry(path: Path, opening: str, entry: str) -> None:
    """Put an entry last into the tuple that ``opening`` begins."""
    before, begin, rest = path.read_text().partition(f"\n{opening}\n")
    entries, end, after = rest.partition("\n)\n")
    assert begin and end
    path.write_text(f"{before}{begin}{entries}\n{entry.rstrip()},{end}{after}")


def printed(checkout: Path, code: str, **settings: str) -> str:
    """Run Python code on the copy and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", **settings}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_method_is_one_file_and_one_entry(checkout):
    objective, entry = examples("Add a method")
    (checkout / "maskinv_lib/training/objectives/template_l1.py").write_text(objective)
    add_entry(checkout / "maskinv_lib/study/methods.py", "NEIGHBOURS = (", entry)
    code = (
        "for name in ('elasticface-arc', 'template-l1'): trained = train(tiny.run_of(name))\n"
        "evaluate_run(trained.run)\n"
        "assert 'template-l1' in get_profile('laptop', 'all').others\n"
        "print(sorted(name for name in trained.records[-1] if name in ('margin', 'template_l1')))\n"
    )
    assert printed(checkout, RUN + code) == "['margin', 'template_l1']"
    contract = "import pytest; print(pytest.main(['-qq', 'tests/training/objectives', '-k', 'template_l1']))"
    assert printed(checkout, contract).splitlines()[-1] == "0"  # 5 if no test has this name


def test_a_rung_is_one_entry(checkout):
    (entry,) = examples("Add a rung")
    add_entry(checkout / "maskinv_lib/study/ablation.py", "ABLATION = (", entry)
    code = (
        "trained = train(tiny.run_of('elasticface-arc-few-masks'))\nevaluate_run(trained.run)\n"
        "assert 'elasticface-arc-few-masks' in get_profile('laptop').stages\n"
        "print(trained.run.is_rung, trained.run.plan.mask_probability)"
    )
    assert printed(checkout, RUN + code) == "True 0.1"


def test_a_benchmark_is_one_entry(checkout):
    (entry,) = examples("Add a benchmark")
    add_entry(checkout / "maskinv_lib/study/profiles.py", "BENCHMARKS = (", entry)
    picture = np.zeros((112, 112, 3), np.uint8)
    (checkout / "data/faces").mkdir(parents=True)
    write_bin(checkout / "data/faces/xqlfw.bin", [picture, picture, picture, picture + 200], [True, False])
    code = (
        "from maskinv_lib.study.profiles import get_profile\nfrom maskinv_lib.pipeline.sources import benchmark_of\n"
        "profile = get_profile('real')\nbenchmark = benchmark_of(profile, profile.benchmarks[0])\n"
        "print(benchmark.name, len(benchmark.index) // 2, benchmark.kinds)"
    )
    assert printed(checkout, code, MASKINV_DATA=str(checkout / "data")) == "xqlfw 2 ('unseen',)"


def test_the_tree_names_every_package():
    tree = README.partition("\n    maskinv_lib/\n")[2].partition("\n\n")[0]
    listed = set(re.findall(r"^\s*([a-z]+)/ ", tree, re.MULTILINE))
    assert listed == {path.parent.name for path in (ROOT / "maskinv_lib").glob("*/**/__init__.py")}


def test_the_index_of_methods_names_every_stage_and_every_objective():
    table = README.partition("### The methods\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if "`" in line]
    patterns = [name for _, stages, _, _ in rows for name in re.findall(r"`([^`]+)`", stages)]
    files = {name for *_, paths in rows for name in re.findall(r"`([^`]+)`", paths)}
    missing = [name for name in STAGES if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    assert not missing, f"Add {missing} to the table 'The methods' of README.md."
    assert all((ROOT / "maskinv_lib" / name).is_file() for name in files)
    objectives = {
        f"training/objectives/{path.name}" for path in (ROOT / "maskinv_lib/training/objectives").glob("*.py")
    }
    assert objectives - {"training/objectives/__init__.py"} == {n for n in files if n.startswith("training/objectives")}
