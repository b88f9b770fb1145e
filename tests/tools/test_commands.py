"""The commands for your own faces, as a user types them; those of the README run in a folder as it describes."""

import re
import shlex
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from maskinv_lib.__main__ import main
from maskinv_lib.evaluation.benchmarks.bins import read_bin
from maskinv_lib.faces import TEMPLATE, landmarks
from maskinv_lib.faces.alignment import COLUMNS
from maskinv_lib.networks import build_network
from maskinv_lib.networks.weights import save_network
from maskinv_lib.pipeline import evaluate
from maskinv_lib.pipeline.train import train
from maskinv_lib.study.runs import open_run
from tests import tiny
from tests.conftest import ROOT, run_module
from tests.tools.samples import save, save_people

CHAPTER = "## Use it on your own faces"
MODEL = "runs/laptop/seed-0/maskinv-hg"


@pytest.fixture
def folder(ablation, patterned, tmp_path, monkeypatch):
    """A working directory: two photographs, people to train on and others, a run of the tiny profile."""
    save_people(tmp_path / "people-to-train", patterned, range(8))
    save_people(tmp_path / "people", patterned, range(8, 12))
    for name, index in (("ann", 0), ("ben", 5)):
        save(tmp_path / f"{name}.png", patterned.images[index])
    (tmp_path / "pairs.txt").write_text("p08 1 2\np08 1 p09 1\n")
    (tmp_path / MODEL).parent.mkdir(parents=True)
    (tmp_path / MODEL).symlink_to(tiny.run_of("maskinv-hg").folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def output(capsys, *arguments):
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def refusal(capsys, *arguments):
    """Return the one line on standard error of a command that fails with exit code 2."""
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("Error: ") == 1 and "Traceback" not in err
    return err


def test_compare_prints_one_sentence(folder, capsys):
    text = output(capsys, "compare", MODEL, "ann.png", "ben.png")
    assert text.count("\n") == 1 and "unmasked-unmasked pairs of rendered-test" in text
    text = output(capsys, "compare", MODEL, "ann.png", "ben.png", "--condition", "masked-masked")
    assert "masked-masked pairs (unseen masks)" in text
    text = output(capsys, "compare", MODEL, "ann.png", "ann.png", "--threshold", "0.9")
    assert text.startswith("Taken as the same person: similarity 1.000 reaches the threshold 0.900, chosen by hand")


def test_compare_aligns_by_landmarks(folder, capsys):
    wide = Image.new("RGB", (150, 130))
    wide.paste(Image.open("ann.png"), (20, 10))
    wide.save("wide.png")
    points = ",".join(f"{x + 20},{y + 10}" for x, y in TEMPLATE)
    (folder / "points.csv").write_text(",".join(("image", *COLUMNS)) + f"\nwide.png,{points}\n")
    assert "without landmarks" in refusal(capsys, "compare", MODEL, "ann.png", "wide.png")
    text = output(capsys, "compare", MODEL, "ann.png", "wide.png", "--landmarks", "points.csv", "--threshold", "0.9")
    assert float(re.search(r"similarity (\S+)", text)[1]) > 0.99


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere", "ann.png", "ben.png"], "nowhere does not exist"),
        ([MODEL, "ann.png", "nobody.png"], "no picture nobody.png"),
        ([MODEL, "ann.png", "pairs.txt"], "pairs.txt does not decode"),
        ([MODEL, "ann.png", "ben.png", "--condition", "maskd"], "Unknown condition 'maskd'"),
        ([MODEL, "ann.png", "ben.png", "--benchmark", "lfw"], "Unknown benchmark 'lfw'"),
        ([MODEL, "ann.png", "ben.png", "--fmr", "0.5"], "FMR 0.5"),
        ([MODEL, "ann.png", "ben.png", "--threshold", "7"], "from -1 to 1"),
        ([MODEL, "ann.png", "ben.png", "--threshold", "0.5", "--condition", "all"], "omit --threshold"),
        ([MODEL, "ann.png", "ben.png", "--landmarks", "no.csv"], "no.csv does not exist"),
    ],
)
def test_bad_comparisons_are_one_error(folder, capsys, arguments, text):
    assert text in refusal(capsys, "compare", *arguments)


def test_shared_lists_both_directions_and_counts(folder, capsys):
    shutil.copytree("people-to-train/p03", "people/somebody")
    text = output(capsys, "shared", MODEL, "people-to-train", "people", "--threshold", "0.9999")
    rows = [line.split() for line in text.splitlines()[1:-1]]
    assert {("a in b", row[3], row[4]) for row in rows if row[0] == "a"} >= {("a in b", "p03", "somebody")}
    assert {("b in a", row[3], row[4]) for row in rows if row[0] == "b"} >= {("b in a", "somebody", "p03")}
    assert "of 8 people of the first set" in text and "of 5 people of the second set" in text
    shutil.rmtree("people/somebody")
    assert "0 of 8 people" in output(capsys, "shared", MODEL, "people-to-train", "people", "--threshold", "1")


def test_shared_names_a_missing_threshold_or_folder(folder, capsys):
    save_network(folder / "bare.safetensors", build_network("compact", 16), {})
    assert "threshold of your own" in refusal(capsys, "shared", "bare.safetensors", "people", "people-to-train")
    assert "nobody is no folder" in refusal(capsys, "shared", MODEL, "people", "nobody", "--threshold", "0.5")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["mask", "people", "people/masked"], "lies inside"),
        (["mask", "people", "people-to-train"], "not an empty folder"),
        (["mask", "nobody", "out"], "nobody is not a folder"),
        (["mask", "people", "out", "--kinds", "real"], "Unknown kinds of masks 'real'"),
        (["mask", "people", "out", "--seed", "-1"], "seed must be"),
        (["verification-set", "people", "out"], "does not end in .bin"),
        (["verification-set", "people", "out.bin", "--pairs", "no.txt"], "no.txt does not exist"),
        (["verification-set", "people", "out.bin", "--most", "0"], "most must be"),
        (["records", "people/p08", "out"], "pictures directly"),
        (["records", "people", "people/out"], "lies inside"),
        (["export", "nowhere", "out.onnx"], "nowhere does not exist"),
        (["export", MODEL, "out.pt"], "does not end in .onnx"),
        (["data", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_bad_input_is_one_error_and_writes_nothing(folder, capsys, arguments, text):
    before = sorted(folder.rglob("*"))
    assert text in refusal(capsys, *arguments)
    assert sorted(folder.rglob("*")) == before


def test_data_counts_the_sets(folder, capsys):
    (folder / "own").mkdir()
    (folder / "own" / "maskinv.toml").write_text("")
    text = output(capsys, "data", "own")
    assert text.count("published by:") == 9 and "maskinv.toml exists" in text
    assert text.endswith("0 complete, 0 incomplete, 9 missing\n")


def test_export_without_the_packages_names_them(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install -e '.[onnx]'" in refusal(capsys, "export", MODEL, "out.onnx")


def test_a_command_by_itself_runs_without_torch():
    done = run_module("maskinv_lib", "--help", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0 and "verification-set" in done.stdout
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)


# The chapter of the README


def chapter() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    if CHAPTER not in text:
        pytest.skip(f"README.md has no chapter {CHAPTER!r} yet")
    return text.partition(CHAPTER)[2].partition("\n## ")[0]


def test_the_commands_of_the_readme_run(folder, capsys, monkeypatch):
    pytest.importorskip("onnxscript")
    for name in ("holiday.jpg", "passport.jpg"):  # twice as large as an aligned face, so that points are needed
        Image.open("ann.png").resize((224, 224)).save(name)
    monkeypatch.setattr(landmarks, "find_landmarks", lambda picture, where: 2 * np.array(TEMPLATE) + 0.5)
    lines = re.findall(r"^ {4}\.venv/bin/python -m maskinv_lib (.+)$", chapter(), re.MULTILINE)
    assert {line.split()[0] for line in lines} == {
        "compare", "mask", "verification-set", "shared", "records", "export", "data"
    }  # fmt: skip
    for line in lines:
        output(capsys, *shlex.split(line))
    assert len(list((folder / "people-masked").rglob("*.png"))) == 16
    assert read_bin(folder / "own" / "listed.bin").genuine.tolist() == [True, False]
    assert (folder / "maskinv-hg.onnx").stat().st_size > 1e5
    for python in re.findall(r"^```python\n(.+?)^```", chapter(), re.MULTILINE | re.DOTALL):
        exec(python, {})
        assert "similarity" in capsys.readouterr().out


def test_the_settings_of_the_readme_train_on_your_own_folder(folder, capsys, monkeypatch):
    (toml,) = re.findall(r"^```toml\n(.+?)^```", chapter(), re.MULTILINE | re.DOTALL)
    text = output(capsys, "records", "people-to-train", "own/people")
    assert 'training = "people"' in text and "without = []" in text
    output(capsys, "verification-set", "people", "own/test.bin")
    for large, small in (('"mobilefacenet"', '"compact"'), ("128", "16")):
        assert large in toml
        toml = toml.replace(large, small)
    (folder / "own" / "maskinv.toml").write_text(toml)
    save_network(folder / "own" / "teacher.safetensors", build_network("compact", 16), {})
    monkeypatch.setenv("MASKINV_DATA", "own")
    monkeypatch.setenv("MASKINV_RUNS", str(folder / "runs"))
    for stage in ("teacher", "kd-only"):
        overrides = "budget=8, batch=4" if stage != "teacher" else ""
        run = open_run(profile="real", stage=stage, seed=0, overrides=overrides)
        train(run)
    assert run.folder.joinpath("model.safetensors").exists()
    evaluate.evaluate_run(run)
    assert "own" in output(capsys, "compare", str(run.folder), "ann.png", "ben.png")
