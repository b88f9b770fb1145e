"""Masks drawn on published pairs and on all pairs of a set."""

import numpy as np
import pytest
import torch

from maskinv_lib.evaluation.benchmarks import RELEASED, drawn
from maskinv_lib.evaluation.benchmarks.all_pairs import AllPairs
from maskinv_lib.evaluation.benchmarks.drawn import DrawnPairs, DrawnSet
from maskinv_lib.faces import Faces
from maskinv_lib.faces.masks.drawing import draw_masks
from maskinv_lib.utils.randomness import key


def recogniser(images):
    """Return templates of all pixels: equal only for equal pictures."""
    small = torch.nn.functional.avg_pool2d(images.float(), 8).flatten(1)
    return torch.nn.functional.normalize(small - small.mean(1, keepdim=True), dim=1)


@pytest.fixture(scope="module")
def pairs(patterned):
    """Twenty pairs: genuine (two views of one person) and impostor in turn; many pictures occur twice."""
    genuine = [(4 * p, 4 * p + 1 + p % 3) for p in range(10)]
    impostor = [(4 * p, 4 * p + 5) for p in range(10)]
    order = [pair for both in zip(genuine, impostor, strict=True) for pair in both]
    return DrawnPairs(name="pairs", faces=patterned, index=torch.tensor(order).flatten(), released=True)


def compare(benchmark):
    templates = benchmark.templates(recogniser)
    return templates, {(c, k): comparisons for c, k, comparisons in benchmark.comparisons(templates)}


def test_conditions_and_labels_of_published_pairs(pairs):
    _, compared = compare(pairs)
    conditions = ["masked-unmasked", "masked-masked", "all", RELEASED]
    expected = [("unmasked-unmasked", "none"), *((c, k) for k in ("seen", "unseen") for c in conditions)]
    assert list(compared) == expected
    for (condition, _), comparisons in compared.items():
        times = 3 if condition == "all" else 1
        assert comparisons.genuine.tolist() == [True, False] * 10 * times
        assert comparisons.fold.tolist() == [p // 2 for p in range(20)] * times


def test_exactly_one_face_of_a_mixed_pair_is_masked_and_both_sides_occur(pairs):
    _, compared = compare(pairs)
    positions = torch.arange(40)
    plain = recogniser(pairs.faces.images[pairs.index])
    keys = key("benchmark mask", pairs.faces.source, "unseen", positions)
    masked = recogniser(draw_masks(pairs.faces.images[pairs.index], keys, "unseen")[0])
    second = pairs.second_masked()
    assert 0 < second.sum() < 20
    first, other = (
        torch.where(torch.tensor(second)[:, None], plain[::2], masked[::2]),
        torch.where(torch.tensor(second)[:, None], masked[1::2], plain[1::2]),
    )
    assert np.allclose(compared["masked-unmasked", "unseen"].scores, (first * other).sum(1).numpy(), atol=1e-5)
    assert np.allclose(compared["masked-masked", "unseen"].scores, (masked[::2] * masked[1::2]).sum(1), atol=1e-5)
    assert np.allclose(compared["unmasked-unmasked", "none"].scores, (plain[::2] * plain[1::2]).sum(1), atol=1e-5)


def test_a_mask_depends_on_pair_and_side_not_on_the_picture_or_the_order_of_computing(pairs):
    templates, _ = compare(pairs)
    again, _ = compare(pairs)
    assert np.array_equal(templates["seen"], again["seen"])
    same = [(i, j) for i in range(40) for j in range(i) if pairs.index[i] == pairs.index[j]]
    assert same
    assert all(np.abs(templates["seen"][i] - templates["seen"][j]).max() > 1e-4 for i, j in same)


def test_the_released_protocol_mixes_no_pair(pairs):
    _, compared = compare(pairs)
    released = compared[RELEASED, "seen"].scores
    assert np.array_equal(released[:10], compared["unmasked-unmasked", "none"].scores[:10])
    assert np.array_equal(released[10:], compared["masked-masked", "seen"].scores[10:])


def test_pairs_of_pictures_that_are_not_there_are_refused(patterned):
    with pytest.raises(ValueError, match="pairs: a pair names picture 48 of 48"):
        DrawnPairs(name="pairs", faces=patterned, index=torch.tensor([0, 48]))
    with pytest.raises(ValueError, match=r"index must be int64 \[2P\]"):
        DrawnPairs(name="pairs", faces=patterned, index=torch.tensor([0, 1, 2]))


def test_all_pairs_of_a_set(patterned):
    few = Faces(images=patterned.images[:8], identity=patterned.identity[:8], source="few", publishable=False)
    templates, compared = compare(DrawnSet(name="few", faces=few, kinds=("unseen",)))
    assert list(compared) == [("unmasked-unmasked", "none"), ("masked-unmasked", "unseen"), ("masked-masked", "unseen")]
    assert [len(comparisons) for comparisons in compared.values()] == [28, 56, 28]
    assert [int(comparisons.genuine.sum()) for comparisons in compared.values()] == [12, 24, 12]
    mixed = compared["masked-unmasked", "unseen"]
    expected = [templates["none"][i] @ templates["unseen"][j] for i in range(8) for j in range(8) if i != j]
    assert np.allclose(np.sort(mixed.scores), np.sort(expected), atol=1e-6)


def test_all_pairs_of_a_large_set_are_not_listed(patterned, monkeypatch):
    on = DrawnSet(name="many", faces=patterned)
    _, listed = compare(on)
    monkeypatch.setattr(drawn, "LISTED", 1000)
    _, tiled = compare(on)
    assert list(tiled) == list(listed)
    for case, pairs in tiled.items():
        assert isinstance(pairs, AllPairs)
        assert (len(pairs), pairs.genuine) == (len(listed[case]), listed[case].genuine.sum())
        assert np.allclose(np.sort(pairs.listed().scores), np.sort(listed[case].scores), atol=1e-6)
