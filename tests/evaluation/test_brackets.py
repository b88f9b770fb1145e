"""The error curve counted in passes gives the metrics of all scores, for any scores and with hardly any memory."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from maskinv_lib.evaluation import brackets, counting, metrics
from maskinv_lib.evaluation.benchmarks import tiles
from maskinv_lib.evaluation.benchmarks.all_pairs import AllPairs, both_ways, crossed, every_pair
from maskinv_lib.evaluation.curves import curve_of_scores, equal_error_rate, fnmr_at_fmr
from tests.evaluation.simulated import faces_of

ONES = np.ones((150, 4), np.float32) / 2
BLOCKS = np.eye(60, dtype=np.float32)[np.arange(180) // 3]
GENERATOR = np.random.default_rng(5)
WILD = (GENERATOR.normal(size=(210, 8)) * 10.0 ** GENERATOR.integers(-20, 15, 210)[:, None]).astype(np.float32)
SCORES = {
    "few errors": lambda: every_pair(*faces_of(noise=0.5)),
    "an eighth": lambda: every_pair(*faces_of(noise=1.5)),
    "no better than chance": lambda: every_pair(*faces_of(views=3, noise=40)),
    "ties": lambda: every_pair(*faces_of(decimals=1)),
    "few values": lambda: every_pair(faces_of(width=2, decimals=0)[0], faces_of(width=2)[1]),
    "both ways": lambda: both_ways(faces_of()[0], *faces_of(noise=2)),
    "two people": lambda: every_pair(*faces_of(people=2, views=120)),
    "nearly one person": lambda: every_pair(faces_of(views=2)[0], (np.arange(120) > 117).astype(int)),
    "constant": lambda: every_pair(ONES, np.arange(150) // 3),
    "separated": lambda: every_pair(BLOCKS, np.arange(180) // 3),
    "reversed": lambda: both_ways(BLOCKS, -BLOCKS, np.arange(180) // 3),
    "all magnitudes": lambda: every_pair(WILD, np.arange(210) // 3),
    "three faces": lambda: every_pair(ONES[:3] * np.float32([[1], [0.5], [0.3]]), np.array([0, 0, 1])),
}


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(tiles, "SIDE", 64)


def tight(monkeypatch):
    """Keep hardly any score and trust a useless sample, so that every way to find a point is taken."""
    for module, name, value in ((counting, "KEPT", 200), (brackets, "SAMPLED", 8), (brackets, "DIVISIONS", 64)):
        monkeypatch.setattr(module, name, value)


def same(pairs, threshold=0.123):
    """Assert that the metrics are those of the list, and return them."""
    options = {"unmasked_threshold": threshold, "operating_points": metrics.FINE_POINTS | {"fmr4": 0.25}}
    counted, listed = metrics.measure(pairs, **options), metrics.measure(pairs.listed(), **options)
    assert list(counted) == list(listed)
    for name, metric in listed.items():
        if name in ("gmean", "imean", "fdr"):
            assert counted[name].value == pytest.approx(metric.value, rel=1e-9, abs=1e-12)
        else:
            assert counted[name] == metric
    return counted


@pytest.mark.parametrize("name", SCORES)
def test_metrics_are_those_of_all_scores(name):
    same(SCORES[name]())


@pytest.mark.parametrize("name", SCORES)
def test_metrics_do_not_rest_on_the_sample_or_on_the_memory(name, monkeypatch):
    tight(monkeypatch)
    same(SCORES[name]())


@pytest.mark.parametrize("name", ["an eighth", "ties", "separated", "both ways"])
def test_rates_are_those_of_scikit_learn_to_the_last_comparison(name):
    pairs = SCORES[name]()
    lists = pairs.listed()
    false, true, _ = roc_curve(lists.genuine, lists.scores, drop_intermediate=False)
    curve = metrics.error_curve(pairs)
    for fmr in (0.01, 0.001):
        allowed = np.flatnonzero(false <= fmr)[-1]
        assert fnmr_at_fmr(curve, fmr)[0] == pytest.approx(1 - true[allowed], abs=1e-12)
    gap = (1 - true) - false
    right = np.flatnonzero(gap <= 0)[0]  # the first threshold, from above, where FNMR is not above FMR
    share = gap[right - 1] / (gap[right - 1] - gap[right])
    expected = false[right - 1] + share * (false[right] - false[right - 1])
    assert equal_error_rate(curve)[0] == pytest.approx(expected, abs=1e-12)


def test_a_sample_of_the_wrong_people_costs_passes_not_correctness(monkeypatch):
    pairs, passes = SCORES["an eighth"](), []
    monkeypatch.setattr(brackets, "_sample", lambda pairs: np.linspace(0.9, 0.99, 5000, dtype=np.float32))
    monkeypatch.setattr(counting, "KEPT", 5000)
    original = brackets.counted
    monkeypatch.setattr(brackets, "counted", lambda *parts: passes.append(parts) or original(*parts))
    counted = brackets.counted_curve(pairs, [0.01])
    lists = pairs.listed()
    whole = curve_of_scores(lists.scores[lists.genuine], lists.scores[~lists.genuine])
    assert equal_error_rate(counted) == equal_error_rate(whole)
    assert fnmr_at_fmr(counted, 0.01) == fnmr_at_fmr(whole, 0.01)
    assert len(passes) > 1


@pytest.mark.parametrize("views", [2, 4, 8])
def test_what_is_kept_does_not_grow_with_the_comparisons(views, monkeypatch):
    largest = []
    original = counting._keep

    def watched(kept, sizes, part):
        original(kept, sizes, part)
        largest.append(sum(map(len, [scores for parts in kept.values() for scores in parts])))

    monkeypatch.setattr(counting, "_keep", watched)
    monkeypatch.setattr(counting, "KEPT", 3000)
    pairs = every_pair(*faces_of(views=views))
    curve = metrics.error_curve(pairs)
    assert max(largest) <= 3000
    assert len(curve.thresholds) < 4000
    assert len(pairs) > 2 * max(largest)


def test_a_curve_is_exact_at_what_was_asked_for_and_says_whether_it_is_whole(monkeypatch):
    monkeypatch.setattr(counting, "KEPT", 3000)
    pairs, asked = SCORES["an eighth"](), [-0.2, 0.05, 0.3, 0.7]
    lists = pairs.listed()
    curve = metrics.error_curve(pairs, fmrs=[0.07], thresholds=asked)
    whole = metrics.error_curve(lists)
    assert fnmr_at_fmr(curve, 0.07) == fnmr_at_fmr(whole, 0.07)
    for threshold in asked:
        assert metrics.rates_at(curve, threshold) == metrics.rates_at(whole, threshold)
    assert len(curve.thresholds) < len(whole.thresholds)
    assert not curve.whole
    assert metrics.error_curve(SCORES["separated"]()).whole
    for threshold, fmr, fnmr in zip(curve.thresholds, curve.fmr, curve.fnmr, strict=True):
        assert metrics.rates_at(whole, threshold) == (fmr, fnmr)  # every point lies on the whole curve


def test_too_few_impostors_for_an_operating_point_are_not_measurable():
    templates, identity = faces_of(people=20, views=2)
    results = same(every_pair(templates, identity))
    assert results["fmr1000"].impostor == 760
    assert (results["fmr1000"].value, results["fmr1000"].note) == (None, "not measurable")
    assert results["fmr100"].value is not None


def test_several_grids_are_one_set():
    templates, identity = faces_of()
    other = faces_of(noise=3)[0]
    grids = (crossed(templates, identity, other, identity), *every_pair(other, identity).grids)
    same(AllPairs(grids=grids))
