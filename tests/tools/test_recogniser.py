"""Opened runs: the templates of the evaluation, decisions at stored thresholds, and models without thresholds."""

import dataclasses
import json
import shutil
import sys

import pytest
import torch
import torch.nn.functional as F

from maskinv_lib.faces.folders import folder_of
from maskinv_lib.networks import build_network
from maskinv_lib.networks.published import CONTRACTS
from maskinv_lib.networks.templates import NetworkRecogniser
from maskinv_lib.networks.weights import load_network, save_network
from maskinv_lib.study.profiles import PROFILES
from maskinv_lib.tools.recogniser import open_recogniser
from maskinv_lib.tools.thresholds import fixed_threshold
from maskinv_lib.utils import files
from tests import tiny
from tests.tools.samples import save, threshold


@pytest.fixture
def run(ablation):
    return tiny.run_of("maskinv-hg")


@pytest.fixture
def opened(run):
    return open_recogniser(run.folder)


@pytest.fixture
def bare(tmp_path):
    """A model without an evaluation, in a file that does not name its run."""
    path = tmp_path / "bare.safetensors"
    save_network(path, build_network("compact", 16, seed=2), {})
    return path


def copied(run, folder):
    return shutil.copytree(run.folder, folder, ignore=shutil.ignore_patterns("checkpoints", "lock"))


@pytest.fixture
def moved(run, tmp_path):
    """A copy of the run's folder, for tests that change it."""
    return copied(run, tmp_path / "moved")


def test_three_lines_decide_on_two_photographs(run, patterned, tmp_path):
    files = [save(tmp_path / f"{name}.png", patterned.images[index]) for name, index in (("ann", 0), ("ben", 1))]
    recogniser = open_recogniser(run.folder)
    a, b = recogniser.templates(files)
    decision = recogniser.decide(a, b)
    assert decision.score == pytest.approx(float(a @ b), abs=1e-6)
    assert decision.same == (decision.score >= decision.threshold.value)
    text = str(decision)
    assert "\n" not in text and text.endswith("impostor.")
    assert f"{decision.score:.3f}" in text and "FMR 1.00%" in text
    assert "unmasked-unmasked pairs of rendered-test" in text


def test_templates_are_those_of_the_evaluation(opened, run, patterned, tmp_path):
    expected = NetworkRecogniser(load_network(run.folder / "model.safetensors")[0]).templates(patterned.images)
    names = [f"{p}/{i}.png" for i, p in enumerate(patterned.identity.tolist())]
    paths = [save(tmp_path / name, image) for name, image in zip(names, patterned.images, strict=True)]
    for faces in (patterned, patterned.images, paths):
        assert torch.allclose(opened.templates(faces), expected, atol=1e-6)
    assert torch.allclose(opened.templates(str(paths[3])), expected[3:4], atol=1e-6)
    folder = folder_of(patterned.images.permute(0, 2, 3, 1).numpy(), names, [n[:2] for n in names], "x")
    assert torch.allclose(opened.templates(folder), expected, atol=1e-6)


def test_a_folder_of_people_becomes_templates_in_the_order_of_its_names(opened, patterned, tmp_path):
    for person, index in (("b", 4), ("a", 0)):
        save(tmp_path / "people" / person / "1.png", patterned.images[index])
    assert torch.allclose(opened.templates(tmp_path / "people"), opened.templates(patterned.images[[0, 4]]), atol=1e-6)


def test_thresholds_are_those_of_metrics_json(opened, run):
    record = json.loads((run.folder / "metrics.json").read_text())
    expected = {
        (part["condition"], part["mask_kinds"], fmr): (metric.get("threshold"), metric["value"], metric["impostor"])
        for part in record["conditions"]
        if part["condition"] != "as released"  # no photograph is in that condition
        for metric in part["metrics"]
        for name, fmr in (("fmr100", 0.01), ("fmr1000", 0.001))
        if metric["name"] == name
    }
    assert {(t.condition, t.mask_kinds, t.fmr): (t.value, t.fnmr, t.impostor) for t in opened.thresholds} == expected
    assert len(expected) == len(opened.thresholds) == 14
    assert {t.benchmark for t in opened.thresholds} == {"rendered-test"}


def test_the_threshold_is_chosen_by_condition_and_kinds(opened):
    assert opened.threshold().condition == "unmasked-unmasked"
    assert opened.threshold().fmr == 0.01
    assert opened.threshold(condition="masked-masked").mask_kinds == "unseen"
    assert opened.threshold(condition="masked-masked", mask_kinds="seen").mask_kinds == "seen"
    a = opened.templates(torch.randint(0, 255, (2, 3, 112, 112), dtype=torch.uint8))
    assert opened.decide(a[0], a[1:], condition="masked-unmasked").threshold.condition == "masked-unmasked"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"condition": "maskd-masked"}, "Did you mean 'masked-masked'"),
        ({"benchmark": "lfw"}, "Unknown benchmark 'lfw'.*rendered-test"),
        ({"condition": "masked-masked", "mask_kinds": "none"}, "Known: seen, unseen"),
        ({"fmr": 0.02}, r"FMR 0\.02\. Choose one with --fmr: 0\.001, 0\.01"),
    ],
)
def test_unknown_choices_are_refused(opened, choices, message):
    with pytest.raises(ValueError, match=message):
        opened.threshold(**choices)


def test_of_several_benchmarks_the_one_with_most_impostor_pairs_decides(moved):
    record = json.loads((moved / "metrics.json").read_text())
    (moved / "metrics.json").unlink()
    for name, first_digit in (("small", ""), ("large", "5")):
        text = json.dumps(record | {"benchmark": name}).replace('"impostor": ', f'"impostor": {first_digit}')
        (moved / name).mkdir()
        (moved / name / "metrics.json").write_text(text)
    opened = open_recogniser(moved)
    assert len(opened.thresholds) == 28
    assert opened.threshold().benchmark == "large"
    assert opened.threshold(benchmark="small").benchmark == "small"


@pytest.mark.parametrize(("score", "same"), [(0.5, True), (0.4999, False)])
def test_a_score_at_the_threshold_is_accepted(bare, score, same):
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([score, (1 - score**2) ** 0.5])
    decision = open_recogniser(bare).decide(a, b, threshold(0.5, fmr=0.01, fnmr=0.1, impostor=1000))
    assert decision.same is same
    assert str(decision).startswith("Taken as the same" if same else "Taken as different")


def test_without_a_measurable_threshold_there_is_no_decision(bare):
    missing = threshold(None, fmr=0.001, fnmr=None, impostor=424)
    decision = open_recogniser(bare).decide(torch.ones(4), torch.ones(4), missing)
    assert decision.same is None
    assert "No decision" in str(decision) and "FMR 0.10% is not measurable" in str(decision) and "424" in str(decision)


def test_a_threshold_by_hand_claims_no_rate(bare):
    decision = open_recogniser(bare).decide(torch.ones(4), torch.ones(4), fixed_threshold(0.3))
    assert decision.same and "chosen by hand" in str(decision) and "%" not in str(decision)
    for value in (1.5, float("nan")):
        with pytest.raises(ValueError, match="cosine from -1 to 1"):
            fixed_threshold(value)


def test_a_run_without_an_evaluation_names_the_command(moved):
    (moved / "metrics.json").unlink()
    opened = open_recogniser(moved)
    assert opened.templates(torch.zeros(1, 3, 112, 112, dtype=torch.uint8)).shape == (1, 16)
    with pytest.raises(
        FileNotFoundError, match=r"papermill notebooks/03-evaluate.* -p profile tiny -p stage maskinv-hg"
    ):
        opened.threshold()


def test_the_error_for_a_model_of_no_known_run_names_the_remedy(bare):
    with pytest.raises(
        FileNotFoundError, match=r"no thresholds \(only the model\.safetensors of a run has them\)\. Set one"
    ):
        open_recogniser(bare).threshold()


def test_an_evaluation_of_another_model_is_refused(moved):
    shutil.copy(tiny.run_of("kd-only").folder / "metrics.json", moved / "metrics.json")
    with pytest.raises(ValueError, match=r"metrics\.json was made with other code.*03-evaluate"):
        open_recogniser(moved)


def test_an_evaluation_of_an_unknown_run_is_used_unchecked(moved, monkeypatch):
    monkeypatch.delitem(PROFILES, "tiny")
    assert len(open_recogniser(moved).thresholds) == 14


@pytest.mark.parametrize("text", ["{", '{"key": "x"}', '{"key": "x", "benchmark": "b", "conditions": [{}]}'])
def test_a_damaged_evaluation_is_named(moved, monkeypatch, text):
    monkeypatch.delitem(PROFILES, "tiny")
    (moved / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.json is"):
        open_recogniser(moved)


def test_the_folder_of_another_run_is_not_a_benchmark(moved):
    copied(tiny.run_of("kd-only"), moved / "kd-only")
    assert len(open_recogniser(moved).thresholds) == 14


def test_a_path_without_a_model_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "no.safetensors"):
        with pytest.raises(FileNotFoundError, match=r"safetensors does not exist.*run's folder"):
            open_recogniser(path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10" + bytes(7) + b"{}")
    with pytest.raises(ValueError, match="damaged"):
        open_recogniser(tmp_path)


# Models of other kinds


def test_a_run_is_named_by_its_stage_and_a_file_by_its_name(opened, run, bare, tmp_path):
    assert opened.name == open_recogniser(run.folder / "model.safetensors").name == "maskinv-hg"
    assert opened.sha256 == files.file_hash(run.folder / "model.safetensors") and opened.facts["seed"] == 0
    assert open_recogniser(bare).name == "bare.safetensors"
    (tmp_path / "downloads").mkdir()
    bare.rename(tmp_path / "downloads" / "model.safetensors")
    assert open_recogniser(tmp_path / "downloads").name == "downloads"


FUNCTION = """
import torch
def means(faces):
    return faces.float().mean((2, 3)) - 100
def kernel(faces):
    return torch.stack([means(face[None])[0] if face.float().mean() > 40 else torch.zeros(3) for face in faces])
"""


@pytest.fixture
def function(tmp_path, monkeypatch):
    (tmp_path / "maskinv_function.py").write_text(FUNCTION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "maskinv_function:means"
    sys.modules.pop("maskinv_function", None)


def test_a_function_is_a_recogniser_without_a_file(function, patterned):
    opened = open_recogniser(function)
    expected = F.normalize(patterned.images.float().mean((2, 3)) - 100, dim=1)
    assert torch.allclose(opened.templates(patterned), expected, atol=1e-5)
    assert (opened.name, opened.sha256, opened.thresholds) == (function, None, [])
    with pytest.raises(ValueError, match=r"maskinv_function:means is no network of torch, so it cannot be exported"):
        _ = opened.network
    with pytest.raises(FileNotFoundError, match=r"function:means has no thresholds\. Set one"):
        opened.threshold()
    with pytest.raises(ValueError, match=r"Leave contract='zero to one' out"):
        open_recogniser(function, contract="zero to one")


def test_an_existing_path_is_never_taken_for_a_function(function, bare):
    bare.rename(function)
    assert open_recogniser(function).network.name == "compact"
    with pytest.raises(FileNotFoundError, match=r"C:\\weights\.pth does not exist"):
        open_recogniser("C:\\weights.pth")
    with pytest.raises(FileNotFoundError, match=r"runs/a:b/model\.pth does not exist.* or module:function"):
        open_recogniser("runs/a:b/model.pth")


def test_an_onnx_file_is_a_recogniser_under_any_name(tmp_path, patterned):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from maskinv_lib.networks.onnx import export_onnx

    network = build_network("compact", 16, seed=2)
    path = export_onnx(network, tmp_path / "mine.onnx").rename(tmp_path / "mine.bin")
    opened = open_recogniser(path)
    assert (opened.name, opened.sha256) == ("mine.bin", files.file_hash(path))
    expected = NetworkRecogniser(network).templates(patterned.images)
    assert torch.allclose(opened.templates(patterned), expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"mine\.bin is no network of torch"):
        _ = opened.network


def test_the_contract_reaches_weights_of_others(tmp_path, patterned):
    network = build_network("compact", 16, seed=2)
    torch.save({"model": network.state_dict()}, tmp_path / "a.ckpt")
    network.contract = CONTRACTS["zero to one"]
    opened = open_recogniser(tmp_path / "a.ckpt", contract="zero to one")
    assert torch.allclose(
        opened.templates(patterned), NetworkRecogniser(network).templates(patterned.images), atol=1e-6
    )
    assert opened.facts["input_contract"] == "zero to one"


def test_a_face_without_an_embedding_is_named(function, patterned, tmp_path):
    images = patterned.images[:3].clone()
    images[1] //= 8
    opened = open_recogniser("maskinv_function:kernel")
    paths = [save(tmp_path / "p" / f"{name}.png", image) for name, image in zip("abc", images, strict=True)]
    named = dataclasses.replace(patterned, images=images, identity=torch.arange(3))
    given = ((paths, r"\S+b\.png"), (images, "face 1"), (named, "face 1 of 12 patterns"), (tmp_path, r"p/b\.png"))
    for faces, name in given:
        with pytest.raises(ValueError, match=rf"zero or not finite for 1 of 3 faces: {name}"):
            opened.templates(faces)


def test_weights_with_values_beyond_measure_are_named(bare, patterned):
    opened = open_recogniser(bare)
    with torch.no_grad():
        opened.network.features.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"bare\.safetensors gives an embedding .* for 48 of 48 faces: face 0 of 12"):
        opened.templates(patterned)


def test_a_folder_without_its_model_names_the_models_in_it(tmp_path):
    for name in ("epoch-1.ckpt", "b/model.safetensors", "c.onnx", ".hidden.pth", "log.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FileNotFoundError) as caught:
        open_recogniser(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/model.safetensors does not exist. "
        f"Name a model in it: {tmp_path}/b, {tmp_path}/c.onnx, {tmp_path}/epoch-1.ckpt."
    )


def test_several_templates_at_once_are_refused(bare):
    with pytest.raises(ValueError, match="not 2 and 1"):
        open_recogniser(bare).decide(torch.ones(2, 4), torch.ones(4), fixed_threshold(0))
