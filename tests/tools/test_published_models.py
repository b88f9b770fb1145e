"""Published weights: rounded, with their own thresholds, of today's runs alone; those in results have today's keys."""

import pytest
import torch

from maskinv_lib.networks.weights import load_network, read_tensors
from maskinv_lib.reports import index
from maskinv_lib.study.profiles import get_profile
from maskinv_lib.study.runs import MODEL, open_run
from maskinv_lib.tools import benchmark, published_models
from maskinv_lib.tools.published_models import models_folder, publish_models
from maskinv_lib.tools.recogniser import open_recogniser
from maskinv_lib.utils import files
from tests import tiny
from tests.conftest import ROOT


@pytest.fixture
def published(ablation, monkeypatch):
    monkeypatch.setattr(benchmark, "RESAMPLES", 20)
    return publish_models(get_profile("tiny"))


def test_each_rung_is_published_in_half_the_bytes_with_its_own_thresholds(published):
    assert [folder.name for folder in published] == list(tiny.RUNGS)
    run = tiny.run_of("maskinv-hg")
    folder = models_folder(run.profile) / "maskinv-hg"
    tensors, facts = read_tensors(folder / MODEL)
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.bfloat16}
    assert facts["key"] == run.key and facts["licence"] == "MIT" and "rendered people" in facts["trained_on"]
    network, original = load_network(folder / MODEL)[0], load_network(run.model_file)[0]
    for name, tensor in original.state_dict().items():
        expected = tensor.bfloat16().float() if tensor.is_floating_point() else tensor
        assert torch.equal(network.state_dict()[name], expected)
    model = open_recogniser(folder)
    assert model.name == "maskinv-hg" and model.threshold(condition="masked-masked").benchmark == "rendered-test"
    assert model.threshold().low is not None


def test_the_index_of_results_lists_them(published):
    text = index.index()
    path = published[0] / MODEL
    assert f"| tiny | [{published[0].name}](models/tiny/{published[0].name}) | {path.stat().st_size:,} |" in text
    assert files.file_hash(path) in text and text.count("](models/tiny/") == len(published)


def test_a_rung_of_other_code_stays_as_it_was_published(published, monkeypatch):
    before = {folder: (folder / MODEL).read_bytes() for folder in published}
    monkeypatch.setattr(published_models, "_is_current", lambda run: run.name == "kd-only")
    lines = []
    assert [folder.name for folder in publish_models(get_profile("tiny"), lines.append)] == ["kd-only"]
    assert len(lines) == len(tiny.RUNGS) - 1 and "not trained here" in lines[0]
    assert {folder: (folder / MODEL).read_bytes() for folder in published} == before


def test_without_a_trained_rung_nothing_is_published(published, monkeypatch):
    monkeypatch.setattr(published_models, "_is_current", lambda run: False)
    with pytest.raises(ValueError, match="make study PROFILE=tiny"):
        publish_models(get_profile("tiny"))


def test_weights_of_real_people_are_never_published(monkeypatch):
    monkeypatch.delenv("MASKINV_DATA", raising=False)
    with pytest.raises(ValueError, match="real people"):
        publish_models(get_profile("real"))


FOLDERS = sorted(path.parent for path in (ROOT / "results/models").glob(f"*/*/{MODEL}"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_the_published_weights_are_those_of_today_s_code_or_said_to_be_older(folder):
    facts = read_tensors(folder / MODEL)[1]
    run = open_run(profile=folder.parent.name, stage=folder.name, seed=0)
    assert facts["key"] == run.key or "older" in files.read_json(ROOT / "results" / folder.parent.name / "profile.json")
    assert open_recogniser(folder).threshold().value is not None


def test_every_rung_of_the_default_profile_has_published_weights():
    assert {folder.name for folder in FOLDERS if folder.parent.name == "laptop"} >= set(tiny.RUNGS)
