"""The rendered benchmark compares the same pairs under every mask condition, and its masks are always the same."""

import itertools

import numpy as np
import pytest
import torch

from maskinv_lib.evaluation import metrics
from maskinv_lib.evaluation.benchmarks import rendered
from maskinv_lib.evaluation.benchmarks.rendered import CASES, RenderedBenchmark, masked_copy
from maskinv_lib.faces import Faces
from maskinv_lib.study.data import FOLDS

PEOPLE, VIEWS = 30, 4


def faces_of(people=PEOPLE, views=VIEWS, source="noise"):
    images = torch.randint(0, 256, (people * views, 3, 112, 112), generator=torch.Generator().manual_seed(0))
    identity = torch.arange(people).repeat_interleave(views)
    return Faces(images=images.to(torch.uint8), identity=identity, source=source, publishable=True)


@pytest.fixture(scope="module")
def benchmark():
    return RenderedBenchmark(name="noise", faces=faces_of(), views=VIEWS)


@pytest.fixture(scope="module")
def templates():
    """Templates by mask kinds whose scores differ for each face and each kind of picture."""
    generator = np.random.default_rng(0)
    templates = {}
    for kinds in ("none", "seen", "unseen"):
        values = generator.normal(size=(PEOPLE * VIEWS, 8)).astype(np.float32)
        templates[kinds] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return templates


@pytest.fixture(scope="module")
def compared(benchmark, templates):
    return {(condition, kinds): comparisons for condition, kinds, comparisons in benchmark.comparisons(templates)}


def test_all_conditions_come_in_order_unmasked_first(compared):
    assert tuple(compared) == CASES
    assert CASES[0] == ("unmasked-unmasked", "none")
    assert all(kinds in ("seen", "unseen") for _, kinds in CASES[1:])


def test_every_reference_meets_every_probe_in_the_same_pairs_in_every_condition(compared):
    half = PEOPLE * VIEWS // 2
    first = compared[CASES[0]]
    assert len(first) == half * half
    assert first.genuine.sum() == PEOPLE * (VIEWS // 2) ** 2
    for (condition, _), comparisons in compared.items():
        if condition != "all":
            for name in ("first", "second", "genuine", "fold"):
                np.testing.assert_array_equal(getattr(comparisons, name), getattr(first, name))


def test_scores_are_cosines_of_the_right_faces_with_the_right_masks(compared, templates):
    """Half of each person's views are references, the rest probes; masked-unmasked masks the probe alone."""
    views = np.arange(PEOPLE * VIEWS) % VIEWS
    references, probes = np.flatnonzero(views < VIEWS // 2), np.flatnonzero(views >= VIEWS // 2)
    sides = {
        ("unmasked-unmasked", "none"): ("none", "none"),
        ("masked-unmasked", "seen"): ("none", "seen"),
        ("masked-masked", "seen"): ("seen", "seen"),
        ("masked-unmasked", "unseen"): ("none", "unseen"),
        ("masked-masked", "unseen"): ("unseen", "unseen"),
    }
    pairs = list(itertools.product(references, probes))
    for case, (left, right) in sides.items():
        expected = [float(templates[left][a] @ templates[right][b]) for a, b in pairs]
        np.testing.assert_allclose(compared[case].scores, expected, atol=1e-6)
        assert compared[case].scores.dtype == np.float32
        np.testing.assert_array_equal(compared[case].first, [a // VIEWS for a, _ in pairs])
        np.testing.assert_array_equal(compared[case].second, [b // VIEWS for _, b in pairs])


def test_no_face_is_compared_with_itself(compared, templates, benchmark):
    references, probes = benchmark._sides
    assert not set(references) & set(probes)
    assert sorted([*references, *probes]) == list(range(PEOPLE * VIEWS))


@pytest.mark.parametrize("kinds", ["seen", "unseen"])
def test_all_pools_the_three_conditions_of_one_kind_of_masks(compared, kinds):
    parts = [
        compared["unmasked-unmasked", "none"],
        compared["masked-unmasked", kinds],
        compared["masked-masked", kinds],
    ]
    pooled = compared["all", kinds]
    for name in ("scores", "genuine", "first", "second", "fold"):
        np.testing.assert_array_equal(getattr(pooled, name), np.concatenate([getattr(part, name) for part in parts]))


def test_folds_share_no_people_and_hold_as_many_impostor_as_genuine_pairs(compared):
    unmasked = compared[CASES[0]]
    people = []
    for fold in range(FOLDS):
        inside = unmasked.fold == fold
        people.append(set(unmasked.first[inside]) | set(unmasked.second[inside]))
        assert unmasked.genuine[inside].sum() == (~unmasked.genuine[inside]).sum() > 0
    assert sum(map(len, people)) == len(set.union(*people)) == PEOPLE
    assert (unmasked.fold[unmasked.genuine] >= 0).all()


def test_folds_are_the_same_for_every_network(benchmark, templates, compared):
    other = {kinds: values[:, ::-1].copy() for kinds, values in templates.items()}
    again = next(comparisons for _, _, comparisons in benchmark.comparisons(other))
    np.testing.assert_array_equal(again.fold, compared[CASES[0]].fold)


def test_masks_are_the_same_every_time_however_they_are_drawn():
    faces = faces_of(6, 2)
    before = faces.images.clone()
    seen = masked_copy(faces, "seen")
    assert torch.equal(seen, masked_copy(faces, "seen"))
    assert (seen.int() - masked_copy(faces, "seen", chunk=5).int()).abs().max() <= 1
    assert torch.equal(faces.images, before)
    assert seen.dtype == torch.uint8 and seen.shape == faces.images.shape


def test_every_face_gets_one_mask_of_its_own_that_leaves_its_forehead_alone():
    flat = torch.full((12, 3, 112, 112), 128, dtype=torch.uint8)
    faces = Faces(images=flat, identity=torch.arange(12), source="grey", publishable=True)
    drawn = masked_copy(faces, "seen")
    changed = (drawn != flat).any(1).float()
    assert (changed[:, 70:100].mean((1, 2)) > 0.2).all()
    assert changed[:, :20].mean() < 0.05
    assert len({bytes(picture.numpy()) for picture in drawn}) == 12


def test_seen_and_unseen_masks_differ_and_so_do_those_of_another_set():
    faces = faces_of(4, 2)
    assert not torch.equal(masked_copy(faces, "seen"), masked_copy(faces, "unseen"))
    assert not torch.equal(masked_copy(faces, "seen"), masked_copy(faces_of(4, 2, source="other"), "seen"))


def test_templates_show_each_network_the_same_pictures(benchmark):
    batches = []

    def recogniser(images):
        batches.append(images.clone())
        return images[:, 0, :8, 0].float()

    first, second = benchmark.templates(recogniser), benchmark.templates(recogniser)
    assert list(first) == ["none", "seen", "unseen"] == list(second)
    assert all(values.shape == (PEOPLE * VIEWS, 8) for values in first.values())
    assert torch.equal(batches[0], benchmark.faces.images)
    for left, right in zip(batches[:3], batches[3:], strict=True):
        assert torch.equal(left, right)


def test_nan_templates_are_named(benchmark, templates):
    broken = {kinds: values.copy() for kinds, values in templates.items()}
    broken["seen"][3] = np.nan
    with pytest.raises(ValueError, match=r"scores are NaN or infinite"):
        list(benchmark.comparisons(broken))


def test_the_number_of_people_is_counted(benchmark):
    assert benchmark.identities == PEOPLE


@pytest.mark.parametrize(
    ("people", "views", "message"),
    [(30, 3, "even number of views"), (30, 1, "even number of views"), (19, 2, "at least 20 identities.*not 19")],
)
def test_views_must_be_even_and_people_enough_for_the_folds(people, views, message):
    with pytest.raises(ValueError, match=f"small: needs .*{message}"):
        RenderedBenchmark(name="small", faces=faces_of(people, views), views=views)


@pytest.mark.parametrize("views", [0, -2, 2, 8])
def test_views_that_do_not_fit_the_faces_are_refused(views):
    with pytest.raises(ValueError, match="even number of views of each identity in a row"):
        RenderedBenchmark(name="small", faces=faces_of(), views=views)


def test_identities_must_be_in_a_row():
    faces = faces_of()
    mixed = Faces(images=faces.images, identity=faces.identity.flip(0), source="mixed", publishable=True)
    with pytest.raises(ValueError, match="each identity in a row"):
        RenderedBenchmark(name="mixed", faces=mixed, views=VIEWS)


def test_a_large_benchmark_has_the_same_metrics_without_lists(benchmark, templates, compared, monkeypatch):
    monkeypatch.setattr(rendered, "LISTED", 1000)
    tiled = {case: pairs for *case, pairs in benchmark.comparisons(templates) for case in [tuple(case)]}
    assert tuple(tiled) == tuple(compared)
    for case, pairs in tiled.items():
        lists = compared[case]
        assert (len(pairs), pairs.genuine, pairs.people) == (len(lists), lists.genuine.sum(), lists.people)
        assert np.allclose(np.sort(pairs.listed().scores), np.sort(lists.scores), atol=1e-6)
        for name, metric in metrics.measure(lists).items():
            assert metrics.measure(pairs)[name].value == pytest.approx(metric.value, abs=2e-3, rel=1e-4)
        assert np.array_equal(pairs.folded.fold, lists.fold[lists.fold >= 0])


def test_people_and_folds_are_worked_out_once(benchmark, templates, compared):
    arrays = [comparisons.fold for (condition, _), comparisons in compared.items() if condition != "all"]
    assert all(fold is arrays[0] for fold in arrays)
