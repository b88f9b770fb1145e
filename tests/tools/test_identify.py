"""Search among many people: candidates in order, and the false-positive identification rate, expected and measured."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from maskinv_lib.faces.folders import folder_of
from maskinv_lib.tools.identify import (
    NPZ,
    Gallery,
    candidates,
    expected_fpir,
    gallery_of,
    in_words,
    measured_fpir,
    open_gallery,
    read_templates,
    score_pairs,
    write_templates,
)
from maskinv_lib.tools.thresholds import fixed_threshold
from maskinv_lib.utils import files
from tests.tools.models import block_templates, pixel_model
from tests.tools.samples import save_people, threshold

EYE = torch.eye(3)


@pytest.fixture
def gallery():
    templates = torch.cat([EYE, F.normalize(EYE[:1] + 0.1 * EYE[1:2], dim=1)])
    return Gallery(templates=templates, names=("b/1", "a/1", "c/1", "b/2"), person=("b", "a", "c", "b"))


def test_a_person_is_enrolled_with_the_mean_template(gallery):
    assert gallery.people == ("a", "b", "c")
    expected = F.normalize(gallery.templates[0] + gallery.templates[3], dim=0)
    torch.testing.assert_close(gallery.enrolled(), torch.stack([EYE[1], expected, EYE[2]]))


def test_candidates_are_ordered_by_similarity(gallery):
    probes = F.normalize(torch.tensor([[0.9, 0.5, 0.1]]), dim=1)
    table = candidates(probes, ["x.png"], gallery, fixed_threshold(0.6), 2)
    assert table.person.tolist() == ["b", "a"] and table["rank"].tolist() == [1, 2]
    assert table.similarity.tolist() == sorted(table.similarity, reverse=True)
    assert table.decision.tolist() == ["same", "different"]
    assert len(candidates(probes, ["x.png"], gallery, None, 9)) == 3


def test_expected_rate_of_many_independent_comparisons():
    assert expected_fpir(0.01, 1) == pytest.approx(0.01)
    assert expected_fpir(0.001, 1000) == pytest.approx(1 - 0.999**1000)
    assert expected_fpir(1e-9, 10) == pytest.approx(1e-8, rel=1e-6)


def test_measured_rate_searches_each_picture_among_other_people(gallery):
    own = F.normalize(gallery.templates, dim=1) @ gallery.enrolled().T
    mates = [1, 0, 2, 1]
    expected = sum(
        max(row[j] for j in range(3) if j != mate) >= 0.09 for row, mate in zip(own.tolist(), mates, strict=True)
    )
    assert measured_fpir(gallery, fixed_threshold(0.09)) == (expected, 4) and 0 < expected < 4


def test_words_name_both_rates(gallery):
    text = in_words(gallery, threshold(0.5, fmr=0.01, fnmr=0.1, impostor=900))
    assert "3 people" in text and f"{expected_fpir(0.01, 3):.1%}" in text and "0 of 4 pictures" in text
    assert "FPIR" not in in_words(gallery, fixed_threshold(0.5))
    assert "calibrate" in in_words(gallery, None)
    assert math.isnan(fixed_threshold(0.5).fmr)


def test_templates_can_be_read_again_by_their_model_alone(patterned, tmp_path, monkeypatch):
    model = pixel_model(tmp_path, monkeypatch)
    persons = [f"p{number:02d}" for number in patterned.identity.tolist()]
    names = [f"{person}/{index}.png" for index, person in enumerate(persons)]
    folder = folder_of(patterned.images.permute(0, 2, 3, 1).numpy(), names, persons, "patterns")
    gallery = gallery_of(model, folder)
    torch.testing.assert_close(gallery.templates, block_templates(patterned.images))
    write_templates(gallery, model, tmp_path / "t.npz")
    again = read_templates(tmp_path / "t.npz", model)
    assert again.names == gallery.names and again.person == gallery.person
    assert torch.equal(again.templates, gallery.templates)
    with np.load(tmp_path / "t.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"names", "person", "embeddings", "model", "model_sha256"}
    model.sha256 = "another"
    with pytest.raises(ValueError, match="another model"):
        read_templates(tmp_path / "t.npz", model)


def test_a_gallery_is_a_folder_or_a_file(patterned, tmp_path, monkeypatch):
    model = pixel_model(tmp_path, monkeypatch)
    save_people(tmp_path / "people", patterned, range(3))
    gallery = open_gallery(tmp_path / "people", model)
    assert len(gallery.people) == 3 and len(gallery.names) == 12
    with pytest.raises(FileNotFoundError, match="no gallery"):
        open_gallery(tmp_path / "missing", model)
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"bad\.npz is no file of templates"):
        open_gallery(tmp_path / "bad.npz", model)


@pytest.mark.parametrize(("name", "text"), [("t.npy", "end in .npz"), ("there.npz", "exists already")])
def test_targets_are_checked_first(tmp_path, name, text):
    (tmp_path / "there.npz").touch()
    with pytest.raises(ValueError, match=text):
        files.check_new_file(tmp_path / name, *NPZ)


def test_pairs_are_scored_by_their_cosine():
    templates = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), dim=1)
    table = score_pairs(templates, ["a", "b", "c"], [("a", "b"), ("c", "a"), ("b", "b")], fixed_threshold(0.7))
    assert table.similarity.tolist() == pytest.approx([0.5**0.5, 0, 1])
    assert table.decision.tolist() == ["same", "different", "same"]
    assert score_pairs(templates, ["a", "b", "c"], [("a", "b")], None).decision.tolist() == [""]


@pytest.mark.parametrize("damage", ["cut", "nan", "flat", "text", "fewer", "other"])
def test_damaged_templates_are_refused(tmp_path, monkeypatch, gallery, damage):
    model, path = pixel_model(tmp_path, monkeypatch), tmp_path / "t.npz"
    write_templates(gallery, model, path)
    with np.load(path) as arrays:
        content = dict(arrays)
    if damage == "nan":
        content["embeddings"][0, 0] = np.nan
    content |= {
        "flat": {"embeddings": content["embeddings"][0]},
        "text": {"embeddings": np.array(["a"])},
        "fewer": {"names": content["names"][:2]},
        "other": {"model": np.array("another:function")},
    }.get(damage, {})
    np.savez(path, **content)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ValueError, match="another model" if damage == "other" else "no file of templates"):
        read_templates(path, model)
