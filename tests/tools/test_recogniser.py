"""Opened runs: templates as the evaluation made them, decisions at stored thresholds, and what has none."""

import json
import shutil

import pytest
import torch
from PIL import Image

from maskinv_lib.faces.folders import folder_of
from maskinv_lib.networks import build_network
from maskinv_lib.networks.templates import NetworkRecogniser
from maskinv_lib.networks.weights import load_network, save_network
from maskinv_lib.study.profiles import PROFILES
from maskinv_lib.tools.recogniser import Threshold, fixed_threshold, open_recogniser
from tests import tiny

MADE = {"benchmark": "pairs", "condition": "unmasked-unmasked", "mask_kinds": "none"}


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return path


@pytest.fixture
def run(ladder):
    return tiny.run_of("maskinv-hg")


@pytest.fixture
def opened(run):
    return open_recogniser(run.folder)


@pytest.fixture
def bare(tmp_path):
    """A model by itself: no evaluation, no word about its run."""
    path = tmp_path / "bare.safetensors"
    save_network(path, build_network("compact", 16, seed=2), {})
    return path


def copied(run, folder):
    shutil.copytree(run.folder, folder, ignore=shutil.ignore_patterns("checkpoints", "lock"))
    return folder


def test_three_lines_decide_on_two_photographs(run, patterned, tmp_path):
    files = [save(tmp_path / f"{name}.png", patterned.images[place]) for name, place in (("ann", 0), ("ben", 1))]
    recogniser = open_recogniser(run.folder)
    a, b = recogniser.templates(files)
    decision = recogniser.decide(a, b)
    assert decision.score == pytest.approx(float(a @ b), abs=1e-6)
    assert decision.same == (decision.score >= decision.threshold.value)
    text = str(decision)
    assert "\n" not in text and text.endswith("impostor.")
    assert f"{decision.score:.3f}" in text and "FMR 1.0%" in text and "unmasked-unmasked pairs of rendered-test" in text


def test_templates_are_those_of_the_evaluation(opened, run, patterned, tmp_path):
    expected = NetworkRecogniser(load_network(run.folder / "model.safetensors")[0]).templates(patterned.images)
    names = [f"{p}/{i}.png" for i, p in enumerate(patterned.identity.tolist())]
    paths = [save(tmp_path / name, image) for name, image in zip(names, patterned.images, strict=True)]
    for faces in (patterned, patterned.images, paths):
        assert torch.allclose(opened.templates(faces), expected, atol=1e-6)
    assert torch.allclose(opened.templates(str(paths[3])), expected[3:4], atol=1e-6)
    read = folder_of(patterned.images.permute(0, 2, 3, 1).numpy(), names, [n[:2] for n in names], "x")
    assert torch.allclose(opened.templates(read), expected, atol=1e-6)


def test_a_folder_of_people_becomes_templates_in_the_order_of_its_names(opened, patterned, tmp_path):
    for person, place in (("b", 4), ("a", 0)):
        save(tmp_path / "people" / person / "1.png", patterned.images[place])
    assert torch.allclose(opened.templates(tmp_path / "people"), opened.templates(patterned.images[[0, 4]]), atol=1e-6)


def test_thresholds_are_those_of_metrics_json(opened, run):
    record = json.loads((run.folder / "metrics.json").read_text())
    expected = {
        (part["condition"], part["mask_kinds"], fmr): (metric.get("threshold"), metric["value"], metric["impostor"])
        for part in record["conditions"]
        if part["condition"] != "as released"  # no face of a deployment could be in that condition
        for metric in part["metrics"]
        for name, fmr in (("fmr100", 0.01), ("fmr1000", 0.001))
        if metric["name"] == name
    }
    found = {(t.condition, t.mask_kinds, t.fmr): (t.value, t.fnmr, t.impostor) for t in opened.thresholds}
    assert found == expected
    assert len(found) == 14
    assert {t.benchmark for t in opened.thresholds} == {"rendered-test"}


def test_the_threshold_is_chosen_by_condition_and_kinds(opened):
    assert opened.threshold().condition == "unmasked-unmasked"
    assert opened.threshold().fmr == 0.01
    assert opened.threshold(condition="masked-masked").mask_kinds == "unseen"
    assert opened.threshold(condition="masked-masked", mask_kinds="seen").mask_kinds == "seen"
    a = opened.templates(torch.randint(0, 255, (2, 3, 112, 112), dtype=torch.uint8))
    assert opened.decide(a[0], a[1:], condition="masked-unmasked").threshold.condition == "masked-unmasked"


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"condition": "maskd-masked"}, "Did you mean 'masked-masked'"),
        ({"benchmark": "lfw"}, "Unknown benchmark 'lfw'.*rendered-test"),
        ({"condition": "masked-masked", "mask_kinds": "none"}, "Known: seen, unseen"),
        ({"fmr": 0.02}, r"FMR 0\.02\. Known: 0\.001, 0\.01"),
    ],
)
def test_unknown_choices_are_refused(opened, chosen, said):
    with pytest.raises(ValueError, match=said):
        opened.threshold(**chosen)


def test_of_several_benchmarks_the_one_with_most_impostor_pairs_decides(run, tmp_path):
    folder = copied(run, tmp_path / "moved")
    record = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").unlink()
    for name, more in (("small", 0), ("large", 5)):
        text = json.dumps(record | {"benchmark": name}).replace('"impostor": ', f'"impostor": {more or ""}')
        (folder / name).mkdir()
        (folder / name / "metrics.json").write_text(text)
    opened = open_recogniser(folder)
    assert len(opened.thresholds) == 28
    assert opened.threshold().benchmark == "large"
    assert opened.threshold(benchmark="small").benchmark == "small"


@pytest.mark.parametrize(("score", "same"), [(0.5, True), (0.4999, False)])
def test_a_score_at_the_threshold_is_accepted(bare, score, same):
    threshold = Threshold(value=0.5, fmr=0.01, fnmr=0.1, impostor=1000, **MADE)
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([score, (1 - score**2) ** 0.5])
    decision = open_recogniser(bare).decide(a, b, threshold)
    assert decision.same is same
    assert str(decision).startswith("Taken as the same" if same else "Taken as different")


def test_a_threshold_that_is_not_measurable_decides_nothing_and_says_so(bare):
    threshold = Threshold(value=None, fmr=0.001, fnmr=None, impostor=424, **MADE)
    decision = open_recogniser(bare).decide(torch.ones(4), torch.ones(4), threshold)
    assert decision.same is None
    assert "No decision" in str(decision) and "FMR 0.1% is not measurable" in str(decision) and "424" in str(decision)


def test_a_threshold_by_hand_claims_no_rate(bare):
    decision = open_recogniser(bare).decide(torch.ones(4), torch.ones(4), fixed_threshold(0.3))
    assert decision.same and "chosen by hand" in str(decision) and "%" not in str(decision)
    for value in (1.5, float("nan")):
        with pytest.raises(ValueError, match="cosine from -1 to 1"):
            fixed_threshold(value)


def test_a_run_without_an_evaluation_names_the_command(run, tmp_path):
    folder = copied(run, tmp_path / "moved")
    (folder / "metrics.json").unlink()
    opened = open_recogniser(folder)
    assert opened.templates(torch.zeros(1, 3, 112, 112, dtype=torch.uint8)).shape == (1, 16)
    with pytest.raises(
        FileNotFoundError, match=r"papermill notebooks/03-evaluate.* -p profile tiny -p stage maskinv-hg"
    ):
        opened.threshold()


def test_a_model_of_no_known_run_says_what_to_give(bare):
    with pytest.raises(
        FileNotFoundError, match=r"no thresholds \(they are those of a run's model\.safetensors\)\. Give a threshold"
    ):
        open_recogniser(bare).threshold()


def test_an_evaluation_of_another_model_is_refused(run, tmp_path):
    folder = copied(run, tmp_path / "moved")
    shutil.copy(tiny.run_of("kd-only").folder / "metrics.json", folder / "metrics.json")
    with pytest.raises(ValueError, match=r"metrics\.json was made by other code.*03-evaluate"):
        open_recogniser(folder)


def test_an_evaluation_of_a_run_that_is_not_known_here_is_taken_as_it_is(run, tmp_path, monkeypatch):
    folder = copied(run, tmp_path / "moved")
    monkeypatch.delitem(PROFILES, "tiny")
    assert len(open_recogniser(folder).thresholds) == 14


@pytest.mark.parametrize("text", ["{", '{"key": "x"}', '{"key": "x", "benchmark": "b", "conditions": [{}]}'])
def test_a_damaged_evaluation_is_named(run, tmp_path, monkeypatch, text):
    folder = copied(run, tmp_path / "moved")
    monkeypatch.delitem(PROFILES, "tiny")
    (folder / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.json is"):
        open_recogniser(folder)


def test_a_milestone_does_not_take_the_run_s_thresholds(ladder):
    folder = tiny.run_of("maskinv-lg").folder
    (path,) = folder.glob("milestone-*.safetensors")
    assert open_recogniser(folder).thresholds
    with pytest.raises(FileNotFoundError, match="no thresholds"):
        open_recogniser(path).threshold()


def test_folders_of_other_runs_beside_a_model_are_not_its_benchmarks(run, tmp_path):
    folder = copied(run, tmp_path / "moved")
    copied(tiny.run_of("kd-only"), folder / "kd-only")
    assert len(open_recogniser(folder).thresholds) == 14


def test_a_path_without_a_model_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "no.safetensors"):
        with pytest.raises(FileNotFoundError, match=r"safetensors does not exist.*run's folder"):
            open_recogniser(path)
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="damaged"):
        open_recogniser(tmp_path)


def test_more_than_one_template_a_side_is_refused(bare):
    with pytest.raises(ValueError, match="not 2 and 1"):
        open_recogniser(bare).decide(torch.ones(2, 4), torch.ones(4), fixed_threshold(0))
