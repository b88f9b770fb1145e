"""The study as people run it: through Snakemake and papermill, interrupted, repeated, with wrong parameters."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from maskinv_lib.evaluation.benchmarks import RELEASED
from maskinv_lib.evaluation.metrics import NOT_MEASURABLE
from maskinv_lib.evaluation.verdicts import CLAIMS, COLUMNS
from maskinv_lib.reports.comparison import METRIC_COLUMNS
from maskinv_lib.study.profiles import STAGES, get_profile
from tests.conftest import ROOT, rules_of, run_module
from tests.study.done import cut

pytestmark = pytest.mark.study

CHECKOUT = ("maskinv_lib", "notebooks", "workflow", "pyproject.toml")
LESS = {"budget=1920": "budget=960", "test=24, test_views=8": "test=20, test_views=4"}
"""What the profile "smoke" says -> what it says here, so that its jobs take seconds: all tests use such a checkout."""

STUDY = {"render_faces", "show_faces_and_masks", "compare_the_stages"}
JOBS = STUDY | {
    f"{job}_{stage}_seed_0" for job in ("train", "evaluate") for stage in ("elasticface_arc", "elasticface_arc_aug")
}


def settings(folder: Path) -> dict[str, str]:
    return {"MASKINV_RUNS": str(folder / "runs"), "MASKINV_RESULTS": str(folder / "results")}


def snakemake(root: Path, folder: Path, *options: str) -> subprocess.CompletedProcess:
    command = ["snakemake", "--snakefile", str(root / "workflow/Snakefile"), "--directory", str(folder)]
    command += ["--workflow-profile", str(root / "workflow/profiles/default"), "--cores", "2", "--nocolor"]
    return run_module(*command, "--config", "profile=smoke", *options, cwd=root, **settings(folder))


def planned_jobs(root: Path, folder: Path, *options: str) -> set[str]:
    """Return the names of the jobs that the workflow would run now."""
    process = snakemake(root, folder, *options, "--dry-run")
    assert process.returncode == 0, process.stdout + process.stderr
    return rules_of(process) - {"all"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the repository with a smaller profile "smoke"."""
    root = tmp_path_factory.mktemp("checkout")
    for name in CHECKOUT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__", ".snakemake"))
        else:
            shutil.copy2(source, root / name)
    profiles = root / "maskinv_lib/study/profiles.py"
    text = profiles.read_text()
    for old, new in LESS.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    profiles.write_text(text)
    return root


@pytest.fixture(scope="module")
def finished(checkout, tmp_path_factory) -> Path:
    """A smoke study, run to its end by the command behind ``make study``."""
    folder = tmp_path_factory.mktemp("finished")
    done = run_module("maskinv_lib", "study", "--profile", "smoke", cwd=checkout, **settings(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "output").write_text(done.stdout)
    return folder


@pytest.fixture
def copy(checkout, finished, tmp_path) -> tuple[Path, Path]:
    """A checkout that a test may change, in a folder with a space, and a copy of a finished study, with new times."""
    root, folder = tmp_path / "a check out", tmp_path / "study"
    shutil.copytree(checkout, root)
    shutil.copytree(finished, folder, copy_function=shutil.copyfile)
    return root, folder


def test_a_study_says_what_it_does_and_what_to_open(finished):
    output = (finished / "output").read_text()
    assert "train elasticface-arc, seed 0: done in" in output and "left" in output
    assert "masked-masked" in output and f"Open first: {finished}/runs/smoke/compare.ipynb" in output


def test_a_study_leaves_executed_notebooks_models_and_tables(finished):
    folder = finished / "runs" / "smoke"
    for name in ("faces-and-masks", "compare", "seed-0/elasticface-arc/train", "seed-0/elasticface-arc/evaluate"):
        notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
        assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    progress = nbformat.read(folder / "seed-0/elasticface-arc/train.ipynb", as_version=4)
    lines = [cell.outputs for cell in progress.cells if "= train(run" in cell.source]
    assert [len(outputs) for outputs in lines] == [1] and "100%" in lines[0][0]["data"]["text/plain"]
    assert json.loads((folder / "seed-0/elasticface-arc/run.json").read_text())["status"] == "finished"


def test_the_tables_have_their_schema(finished):
    metrics = pd.read_csv(finished / "runs/smoke/tables/metrics.csv", keep_default_na=False, na_values=[""])
    assert tuple(metrics.columns) == METRIC_COLUMNS
    assert set(metrics["condition"]) == {*("unmasked-unmasked", "masked-unmasked", "masked-masked", "all"), RELEASED}
    assert set(metrics["mask_kinds"]) == {"none", "seen", "unseen"}
    assert (metrics["mask_kinds"] == "none").eq(metrics["condition"] == "unmasked-unmasked").all()
    rates = metrics[metrics["metric"].isin(["eer", "fmr100", "fmr1000", "accuracy"])]
    assert rates[["value", "low", "high"]].stack().between(0, 1).all()
    assert (rates["low"] <= rates["value"]).all() and (rates["value"] <= rates["high"]).all()
    assert metrics["value"].isna().eq(metrics["note"] == NOT_MEASURABLE).all()
    assert (metrics[["genuine", "impostor"]] > 0).all().all()
    differences = pd.read_csv(finished / "runs/smoke/tables/differences.csv", keep_default_na=False, na_values=[""])
    assert tuple(differences.columns) == COLUMNS
    claims = differences[differences["claim"].notna()]
    assert set(claims["claim"]) == {claim.number for claim in CLAIMS}
    assert set(claims["verdict"]) <= {"supported", "contradicted", "undecided", "not run"}
    assert set(claims[claims["claim"] > 2]["verdict"]) == {"not run"}


def test_a_second_study_has_nothing_to_do(checkout, finished):
    assert planned_jobs(checkout, finished) == set()
    again = run_module("maskinv_lib", "study", "--profile", "smoke", cwd=checkout, **settings(finished))
    assert again.returncode == 0 and "Nothing to do" in again.stdout


def append(path: Path, code: str) -> None:
    """Add code to a module; a definition given again takes the place of the one before."""
    path.write_text(f"{path.read_text()}\n{code}\n")


def test_comments_and_docstrings_run_nothing_again(copy):
    root, folder = copy
    append(root / "maskinv_lib/training/loop.py", '# a comment\n"""A text that does nothing."""')
    append(root / "maskinv_lib/faces/masks/drawing.py", "# another comment")
    assert planned_jobs(root, folder) == set()


def test_a_changed_loss_runs_its_stages_again_and_an_undone_change_nothing(copy):
    root, folder = copy
    path = root / "maskinv_lib/training/objectives/margins.py"
    text = path.read_text()
    append(path, "NEW = 1")
    assert planned_jobs(root, folder) == JOBS - STUDY | {"compare_the_stages"}
    path.write_text(text)
    assert planned_jobs(root, folder) == set()


def test_a_changed_notebook_runs_its_jobs_again_and_an_undone_change_nothing(copy):
    root, folder = copy
    path = root / "notebooks/04-compare-the-ladder.ipynb"
    text = path.read_text()
    path.write_text(text.replace('"source": [', '"source": [\n    "One more line.\\n",', 1))
    assert planned_jobs(root, folder) == {"compare_the_stages"}
    path.write_text(text)
    assert planned_jobs(root, folder) == set()


CUT = {
    "seed-0/elasticface-arc/metrics.json": "elasticface-arc, seed 0",
    "seed-0/elasticface-arc/resamples.npz": "elasticface-arc, seed 0",
    "seed-0/elasticface-arc-aug/model.safetensors": "elasticface-arc-aug, seed 0",
    "seed-0/elasticface-arc-aug/run.json": "elasticface-arc-aug, seed 0",
    "faces.json": "render faces",
}


def test_cut_results_are_not_published_and_are_made_again_with_a_line_each(copy, finished):
    root, folder = copy
    before = {name: cut(folder / "runs/smoke" / name) for name in CUT}
    published = run_module("maskinv_lib", "publish", "--profile", "smoke", cwd=root, **settings(folder))
    assert published.returncode == 2 and "is damaged or was changed, so nothing was published" in published.stderr
    assert not (folder / "results").exists() or (finished / "results").exists()
    again = run_module("maskinv_lib", "study", "--profile", "smoke", cwd=root, **settings(folder))
    assert again.returncode == 0, again.stdout + again.stderr
    for name, owner in CUT.items():
        line = f"{Path(name).name} of {owner} is damaged or was changed: it is made again"
        assert again.stdout.count(line) == 1, again.stdout
    done = {"render faces", "train elasticface-arc-aug, seed 0", "evaluate elasticface-arc, seed 0"}
    assert {line.split("] ")[1].split(": done")[0] for line in again.stdout.splitlines() if ": done in" in line} == done
    for name in ("seed-0/elasticface-arc/metrics.json", "seed-0/elasticface-arc/resamples.npz"):
        assert (folder / "runs/smoke" / name).read_bytes() == before[name]
    for name in ("metrics.csv", "differences.csv", "ranking.csv"):
        tables = [(study / "runs/smoke/tables" / name).read_bytes() for study in (folder, finished)]
        assert tables[0] == tables[1]
    assert planned_jobs(root, folder) == set()


def test_another_objective_runs_nothing_again(copy):
    root, folder = copy
    append(root / "maskinv_lib/training/objectives/template_kd.py", "NEW = 1")
    assert planned_jobs(root, folder) == set()


def test_a_changed_figure_runs_only_the_notebooks_that_draw_it(copy):
    root, folder = copy
    append(root / "maskinv_lib/reports/figures.py", "def stage_rates(*panels, **settings):\n    return None")
    assert planned_jobs(root, folder) == {"compare_the_stages"}


def test_an_added_stage_runs_only_itself_and_the_comparison(copy):
    root, folder = copy
    stage = 'Stage(name="more-masks", title="T", idea="I", objectives=(ELASTIC,), mask_probability=0.9)'
    append(root / "maskinv_lib/study/ablation.py", f"ABLATION += ({stage},)")
    stages = '(*_smoke().stages, "more-masks")'
    wider = f'PROFILES["smoke"] = lambda: dataclasses.replace(_smoke(), stages={stages})'
    append(root / "maskinv_lib/study/profiles.py", wider)
    assert planned_jobs(root, folder) == {"train_more_masks_seed_0", "evaluate_more_masks_seed_0", "compare_the_stages"}


def test_a_second_seed_runs_only_itself_and_the_comparison(copy):
    root, folder = copy
    second = {name.replace("seed_0", "seed_1") for name in JOBS - STUDY}
    assert planned_jobs(root, folder, "seeds=2") == second | {"compare_the_stages"}


def test_published_stages_are_put_back_and_not_trained_again(copy):
    root, folder = copy
    published = run_module("maskinv_lib", "publish", "--profile", "smoke", cwd=root, **settings(folder))
    assert published.returncode == 0, published.stderr
    shutil.rmtree(folder / "runs/smoke")
    assert {"train_elasticface_arc_seed_0"} <= planned_jobs(root, folder)
    restored = run_module("maskinv_lib", "restore", "--profile", "smoke", cwd=root, **settings(folder))
    assert restored.stdout.count(": restored") == 2, restored.stderr
    assert planned_jobs(root, folder) == STUDY
    append(root / "maskinv_lib/training/loop.py", "NEW = 1")
    stale = run_module("maskinv_lib", "restore", "--profile", "smoke", cwd=root, **settings(folder))
    assert stale.stdout.count(": stale") == 2


@pytest.mark.parametrize("name", ["03-evaluate-a-stage", "04-compare-the-ladder"])
def test_without_a_run_the_published_results_are_opened_and_named(checkout, finished, tmp_path, name):
    environment = {**settings(finished), "MASKINV_RUNS": str(tmp_path / "none")}
    if not (finished / "results").exists():
        published = run_module("maskinv_lib", "publish", "--profile", "smoke", cwd=checkout, **settings(finished))
        assert published.returncode == 0
    parameters = ["-p", "profile", "smoke"] + (["-p", "stage", "elasticface-arc"] if name.startswith("03") else [])
    out = tmp_path / "out.ipynb"
    command = ["papermill", f"notebooks/{name}.ipynb", str(out), "--no-progress-bar", *parameters]
    done = run_module(*command, cwd=checkout, **environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "read from the published results" in out.read_text()


@pytest.mark.parametrize("name", ["04-compare-the-ladder", "06-how-much-guidance"])
def test_the_wide_study_in_the_repository_opens_without_a_run(tmp_path, name):
    environment = {"MASKINV_RUNS": str(tmp_path / "none"), "MASKINV_RESULTS": str(ROOT / "results")}
    out = tmp_path / "out.ipynb"
    command = ["papermill", f"notebooks/{name}.ipynb", str(out), "--no-progress-bar", "-p", "scope", "all"]
    done = run_module(*command, **environment)
    assert done.returncode == 0, done.stderr[-2000:]
    text = out.read_text()
    assert "read from the published results" in text and "Nothing written" in text
    assert not (tmp_path / "none").exists()


BAD = {
    ("seed", "1e3"): ("seed", "1000.0", "whole number"),
    ("seed", "True"): ("seed", "True", "whole number"),
    ("seed", "0x10"): ("seed", "'0x10'", "whole number"),
    ("stage", "100"): ("stage", "100", "elasticface-arc-aug"),
    ("sede", "3"): ("sede", "3", "Did you mean 'seed'"),
    ("profile", "Smoke"): ("profile", "'Smoke'", "Did you mean 'smoke'"),
}


@pytest.mark.parametrize("parameter", BAD)
def test_wrong_parameters_end_with_one_clear_error_and_write_nothing(parameter, tmp_path):
    command = ["papermill", "notebooks/02-train-a-stage.ipynb", str(tmp_path / "out.ipynb"), "--no-progress-bar"]
    done = run_module(*command, "-p", "profile", "smoke", "-p", *parameter, MASKINV_RUNS=str(tmp_path / "runs"))
    assert done.returncode != 0
    last = [line for line in done.stderr.splitlines() if line.strip()][-1]
    assert last.startswith("ValueError: ") and all(word in last for word in BAD[parameter]), last
    assert not (tmp_path / "runs").exists()


TOY = """
rule all:
    input: "b.txt"
rule a:
    output: "a.txt"
    shell: "echo half > {output}; test -f ok || exit 1; echo whole > {output}"
rule b:
    input: "a.txt"
    output: "b.txt"
    shell: "cat {input} > {output}"
"""


def test_a_failed_job_s_half_result_does_not_count(tmp_path):
    (tmp_path / "Snakefile").write_text(TOY)
    shutil.copytree(ROOT / "workflow/profiles/default", tmp_path / "profile")
    call = ["snakemake", "--snakefile", "Snakefile", "--workflow-profile", "profile", "--cores", "1", "all"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(2):
        failed = subprocess.run(
            [sys.executable, "-m", *call], cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        assert failed.returncode != 0 and not (tmp_path / "b.txt").exists()
    (tmp_path / "ok").touch()
    subprocess.run([sys.executable, "-m", *call], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert (tmp_path / "b.txt").read_text() == "whole\n"


def wait_for(condition, seconds: float = 120.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := condition():
            return result
        time.sleep(0.05)
    pytest.fail(f"nothing happened in {seconds} s")


def test_a_killed_kernel_fails_the_study_and_the_same_command_finishes_it(copy, finished):
    """From a checkout and an environment whose path has a space, while a second study is refused."""
    root, folder = copy
    shutil.rmtree(folder / "runs/smoke")
    (root / ".venv").symlink_to(Path(sys.prefix))
    python = root / ".venv/bin/python"
    command = [str(python), "-m", "maskinv_lib", "study", "--profile", "smoke"]
    environment = {**os.environ, "PYTHONPATH": str(root), **settings(folder)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, cwd=root, env=environment, **pipes)
    run = folder / "runs/smoke/seed-0/elasticface-arc"
    wait_for(lambda: (run / "lock").exists())
    second = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode != 0 and "is in use by process" in second.stderr
    wait_for(lambda: (run / "log.jsonl").exists())
    os.kill(int((run / "lock").read_text()), signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "FAILED: train elasticface-arc, seed 0" in output and str(run / "train.failed.ipynb") in output
    assert not (run / "model.safetensors").exists() and not (run / "train.ipynb").exists()
    again = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    for name in ("metrics.csv", "differences.csv"):
        tables = [(study / "runs/smoke/tables" / name).read_bytes() for study in (folder, finished)]
        assert tables[0] == tables[1]


def test_a_missing_teacher_names_the_command_and_writes_nothing(tmp_path):
    command = ["papermill", "notebooks/02-train-a-stage.ipynb", str(tmp_path / "out.ipynb"), "--no-progress-bar"]
    done = run_module(*command, "-p", "stage", "kd-only", MASKINV_RUNS=str(tmp_path / "runs"))
    last = [line for line in done.stderr.splitlines() if line.strip()][-1]
    assert done.returncode != 0 and "needs elasticface-arc, seed 0" in last
    assert last.endswith(
        "papermill notebooks/02-train-a-stage.ipynb out.ipynb -p profile smoke -p stage elasticface-arc -p seed 0"
    )
    assert not list((tmp_path / "runs").rglob("run.json"))


@pytest.mark.parametrize(
    "arguments", [("--profile", "Smoke"), ("--profile", "smoke", "--seeds", "0"), ("--seeds", "1.5")]
)
def test_a_study_that_cannot_be_is_refused(arguments, tmp_path):
    done = run_module("maskinv_lib", "study", *arguments, **settings(tmp_path))
    assert done.returncode == 2 and done.stderr.startswith("ValueError: ") and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_the_workflow_reads_the_study_without_torch():
    code = "import sys; from maskinv_lib.study import jobs, launch, runs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    assert set(STAGES) >= set(get_profile("laptop").stages)
