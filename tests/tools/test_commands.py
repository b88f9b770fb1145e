"""The commands for your own faces, as a user types them; those of the README run in a folder as it describes."""

import argparse
import json
import re
import shlex
import shutil
import sys

import numpy as np
import pandas as pd
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
from maskinv_lib.tools import benchmark, folder_commands, model_commands
from maskinv_lib.tools.recogniser import open_recogniser
from maskinv_lib.utils import files
from tests import tiny
from tests.conftest import ROOT, run_module
from tests.tools.samples import save, save_people

CHAPTER = "## Use it on your own faces and models"
MODELS = "results/models/laptop"
MODEL = f"{MODELS}/maskinv-hg"


@pytest.fixture
def folder(ablation, patterned, tmp_path, monkeypatch):
    """A working directory: two photographs, people to train on and others, a run of the tiny profile."""
    save_people(tmp_path / "people-to-train", patterned, range(8))
    save_people(tmp_path / "people", patterned, range(8, 12))
    for name, index in (("ann", 0), ("ben", 5)):
        save(tmp_path / f"{name}.png", patterned.images[index])
    (tmp_path / "pairs.txt").write_text("p08 1 2\np08 1 p09 1\n")
    (tmp_path / MODELS).mkdir(parents=True)
    for stage in ("maskinv-hg", "elasticface-arc"):
        (tmp_path / MODELS / stage).symlink_to(tiny.run_of(stage).folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def output(capsys, *arguments, code=0):
    assert main(list(arguments)) == code
    return capsys.readouterr().out


def refusal(capsys, *arguments):
    """Return the one line on standard error of a command that fails with exit code 2."""
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("Error: ") == 1 and "Traceback" not in err
    return err


def test_compare_prints_one_sentence(folder, capsys):
    text = output(capsys, "compare", MODEL, "ann.png", "ben.png", code=1)
    assert text.count("\n") == 1 and "unmasked-unmasked pairs of rendered-test" in text
    text = output(capsys, "compare", MODEL, "ann.png", "ben.png", "--condition", "masked-masked", code=1)
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
        ([MODEL, "ann.png", "ben.png", "--threshold", "0.5", "--fmr", "0.01"], "omit --threshold"),
        ([MODEL, "ann.png", "ben.png", "--landmarks", "no.csv"], "no.csv does not exist"),
    ],
)
def test_bad_comparisons_are_one_error(folder, capsys, arguments, text):
    assert text in refusal(capsys, "compare", *arguments)


def test_the_exit_code_and_the_json_of_a_comparison(folder, capsys):
    same = json.loads(output(capsys, "compare", MODEL, "ann.png", "ann.png", "--threshold", "0.9", "--json"))
    assert (same["decision"], same["threshold"]["benchmark"]) == ("same", "chosen by hand")
    other = json.loads(output(capsys, "compare", MODEL, "ann.png", "ben.png", "--json", code=1))
    assert other["decision"] == "different" and other["similarity"] < other["threshold"]["value"]
    nothing = json.loads(output(capsys, "compare", MODEL, "ann.png", "ben.png", "--fmr", "0.001", "--json", code=2))
    assert nothing["decision"] is None and nothing["threshold"]["value"] is None


def test_options_that_exclude_each_other_are_refused(folder, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["compare", MODEL, "ann.png", "ben.png", "--threshold", "0.5", "--thresholds", "own.json"])
    assert "not allowed with" in capsys.readouterr().err


def test_own_thresholds_serve_the_other_commands(folder, capsys):
    text = output(capsys, "calibrate", MODEL, "people-to-train", "--kinds", "unseen", "--fmr", "0.05")
    assert text.count("set for FMR 5.00%") == 3 and "thresholds.json" in text
    record = files.read_json(folder / "thresholds.json")
    clean = next(part for part in record["thresholds"] if part["condition"] == "unmasked-unmasked")
    assert clean["impostor"] == 448 and clean["low"] <= clean["value"] <= clean["high"]
    assert "exists already" in refusal(capsys, "calibrate", MODEL, "people-to-train")
    own = ("--thresholds", "thresholds.json", "--fmr", "0.05")
    decision = json.loads(output(capsys, "compare", MODEL, "ann.png", "ann.png", "--json", *own))
    assert decision["threshold"]["value"] == clean["value"] and decision["threshold"]["benchmark"] == "people-to-train"
    assert f"threshold {clean['value']:.3f}" in output(capsys, "shared", MODEL, "people-to-train", "people", *own[:2])
    assert json.loads(output(capsys, "compare", MODEL, "ann.png", "ann.png", "--json", *own[:2])) == decision
    save_network(folder / "bare.safetensors", build_network("compact", 16), {})
    assert "another model" in refusal(capsys, "compare", "bare.safetensors", "ann.png", "ann.png", *own)


def test_score_writes_a_row_per_pair(folder, capsys):
    (folder / "list.csv").write_text(
        "first,second\nann.png,ben.png\nben.png,people/p08/p08_0001.png\nann.png,ann.png\n"
    )
    text = output(capsys, "score", MODEL, "list.csv", "scores.csv", "--threshold", "0.99")
    table = pd.read_csv("scores.csv")
    assert "3 pairs of 3 pictures; 1 same, 2 different" in text
    assert table.decision.tolist() == ["different", "different", "same"]
    a, b = open_recogniser(MODEL).templates(["ann.png", "ben.png"])
    assert table.similarity[0] == pytest.approx(float(a @ b), abs=2e-6)
    assert "exists already" in refusal(capsys, "score", MODEL, "list.csv", "scores.csv")
    save_network(folder / "bare.safetensors", build_network("compact", 16), {})
    assert "no decision" in output(capsys, "score", "bare.safetensors", "list.csv", "bare.csv")
    assert pd.read_csv("bare.csv").decision.isna().all()


def test_score_aligns_by_a_list_relative_to_the_folder(folder, capsys):
    points = ",".join(str(2 * value + 0.5) for point in TEMPLATE for value in point)
    lines = [",".join(("image", *COLUMNS))]
    for person in ("p08", "p09"):
        name = f"{person}/{person}_0001.png"
        (folder / "large" / person).mkdir(parents=True)
        Image.open(f"people/{name}").resize((224, 224), Image.Resampling.NEAREST).save(f"large/{person}/1.png")
        lines.append(f"{person}/1.png,{points}")
    (folder / "points.csv").write_text("\n".join(lines) + "\n")
    (folder / "list.csv").write_text("first,second\np08/1.png,p09/1.png\n")
    arguments = ("score", MODEL, "list.csv", "out.csv", "--folder", "large", "--threshold", "0.5")
    assert "without landmarks" in refusal(capsys, *arguments) and not (folder / "out.csv").exists()
    output(capsys, *arguments, "--landmarks", "points.csv")
    a, b = open_recogniser(MODEL).templates(["people/p08/p08_0001.png", "people/p09/p09_0001.png"])
    assert pd.read_csv("out.csv").similarity[0] == pytest.approx(float(a @ b), abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["benchmark", MODEL, "people", "--contract2", "zero to one"], "--against"),
        (["benchmark", MODEL, "people", "--protocol", "official"], "no official pairs"),
        (["benchmark", MODEL, "people", "--masks", "masks.csv", "--kinds", "seen"], "omit --kinds"),
        (["calibrate", MODEL, "people", "--fmr", "nan"], "between 0 and 1"),
        (["identify", MODEL, "people", "nobody.png"], "no picture nobody.png"),
        (["templates", MODEL, "people", "out.npy"], "end in .npz"),
    ],
)
def test_wrong_options_of_a_model_command_are_one_error(folder, capsys, arguments, text):
    names = [f"p{p:02d}/p{p:02d}_{n:04d}.png" for p in range(8, 12) for n in range(1, 5)]
    (folder / "masks.csv").write_text("image,masked\n" + "".join(f"{name},{int('1.png' in name)}\n" for name in names))
    before = sorted(folder.rglob("*"))
    assert text in refusal(capsys, *arguments)
    assert sorted(folder.rglob("*")) == before


def test_identify_finds_the_person_in_a_folder_or_in_its_templates(folder, capsys):
    text = output(capsys, "templates", MODEL, "people-to-train", "own.npz")
    assert "32 templates, 16-D, of 8 people" in text
    ann = ("ann.png", "--threshold", "0.5", "--most", "2")
    by_folder = output(capsys, "identify", MODEL, "people-to-train", *ann)
    assert by_folder == output(capsys, "identify", MODEL, "own.npz", *ann)
    assert "8 people, 32 pictures" in by_folder and "pictures of the gallery reach" in by_folder
    rows = json.loads(output(capsys, "identify", MODEL, "own.npz", *ann, "--json"))
    assert rows["threshold"]["value"] == 0.5 and len(rows["candidates"]) == 2
    rows = rows["candidates"]
    assert [row["rank"] for row in rows] == [1, 2] and rows[0]["similarity"] >= rows[1]["similarity"]
    assert "exists already" in refusal(capsys, "templates", MODEL, "people-to-train", "own.npz")


def test_benchmark_prints_and_writes(folder, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "RESAMPLES", 50)
    arguments = ("benchmark", MODEL, "people", "--kinds", "unseen", "--output", "out")
    text = output(capsys, *arguments, "--against", MODEL)
    assert "Paired differences" in text and text.count("maskinv-hg (2)") >= 3
    names = {path.name for path in (folder / "out").iterdir()}
    assert names >= {"metrics.csv", "differences.csv", "benchmark.json", "benchmark.html", "thresholds-2.json"}
    assert "p08" not in "".join((folder / "out" / name).read_text() for name in names)
    assert "not an empty folder" in refusal(capsys, *arguments)
    assert "share between 0 and 1" in refusal(capsys, "benchmark", MODEL, "people", "--fmr", "2")


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
    assert "calibrate" in refusal(capsys, "shared", "bare.safetensors", "people", "people-to-train")
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
    text = output(capsys, "data", "own")
    assert text.count("published by:") == 9 and "0 complete, 0 incomplete, 9 missing\nFiles of other names" in text


@pytest.fixture
def own(folder, capsys):
    """A data folder of one's own; returns a function that writes its maskinv.toml with other settings."""
    output(capsys, "records", "people-to-train", "own/people")
    output(capsys, "verification-set", "people", "own/test.bin")
    save_network(folder / "own/t.safetensors", build_network("compact", 16), {})
    usual = {"training": "people", "teacher": "t.safetensors", "network": "compact", "embedding_size": 16}
    usual |= {"validation": 2, "batch": 4, "benchmarks": "[{name = 'own', path = 'test.bin'}]"}

    def settings(**others):
        values = {name: repr(value) if name != "benchmarks" else value for name, value in {**usual, **others}.items()}
        (folder / "own/maskinv.toml").write_text("".join(f"{name} = {value}\n" for name, value in values.items()))

    return settings


def test_data_opens_what_the_settings_name(own, capsys):
    own()
    text = output(capsys, "data", "own")
    assert "maskinv.toml exists" in text
    assert "PROFILE=real can run: 24 faces for train, 8 faces for validation; tests: own; teacher: compact" in text


@pytest.mark.parametrize(
    ("others", "text"),
    [
        ({"benchmarks": "[{name = 'own', path = 'no.bin'}]"}, "No benchmark"),
        ({"validation": 9}, "at most 6"),
        ({"batch": 64}, "24 faces are fewer than a batch of 64"),
        ({"teacher": "no.pth"}, "no.pth"),
    ],
)
def test_data_refuses_settings_that_cannot_run(own, capsys, others, text):
    own(**others)
    assert main(["data", "own"]) == 2
    assert text in capsys.readouterr().err


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


def listed_commands() -> list[str]:
    """Return the commands for your own faces and models."""
    names = []

    def command(name, *_):
        names.append(name)
        return argparse.ArgumentParser()

    model_commands.add_to(command)
    folder_commands.add_to(command)
    return names


def test_the_commands_of_the_readme_run(folder, capsys, monkeypatch):
    pytest.importorskip("onnxscript")
    points = 2 * np.array(TEMPLATE) + 0.5
    (folder / "photographs").mkdir()
    for name in ("holiday.jpg", "passport.jpg", "photographs/ann.jpg"):  # twice as large, so that points are needed
        Image.open("ann.png").resize((224, 224)).save(name)
    monkeypatch.setattr(landmarks, "find_landmarks", lambda picture, where: points)
    (folder / "points.csv").write_text(
        ",".join(("image", *COLUMNS)) + "\nann.jpg," + ",".join(map(str, points.ravel()))
    )
    (folder / "pairs.csv").write_text("first,second\nann.png,ben.png\n")
    monkeypatch.setattr(benchmark, "RESAMPLES", 20)
    lines = re.findall(r"^ {4}\.venv/bin/python -m maskinv_lib (.+)$", chapter(), re.MULTILINE)
    assert {line.split()[0] for line in lines} == set(listed_commands())
    for line in lines:
        output(capsys, *shlex.split(line), code=1 if line.startswith("compare") and "ben" in line else 0)
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
    text = output(capsys, "compare", str(run.folder), "ann.png", "ben.png", code=2)
    assert "not measurable" in text and "own, 20 of them impostor" in text
