"""Counts for the bootstrap: from tiles they are those from a list."""

from dataclasses import replace

import numpy as np
import pytest

from maskinv_lib.evaluation import counting, metrics, resampling, tallies
from maskinv_lib.evaluation.benchmarks import tiles
from maskinv_lib.evaluation.benchmarks.all_pairs import both_ways, every_pair
from maskinv_lib.evaluation.evaluate import evaluate, resampled_thresholds
from tests.evaluation.simulated import faces_of

PAIRS = {
    "every pair": lambda: every_pair(*faces_of()),
    "both ways": lambda: both_ways(faces_of()[0], *faces_of(noise=2)),
    "ties": lambda: every_pair(*faces_of(decimals=1)),
}


@pytest.fixture(params=PAIRS.values(), ids=PAIRS)
def pairs(request, monkeypatch):
    monkeypatch.setattr(tiles, "SIDE", 64)
    return request.param()


@pytest.fixture(scope="module")
def weights():
    return resampling.identity_weights(60, 150)


def test_the_bootstrap_from_tiles_is_that_from_lists(pairs, weights):
    grid = tallies.threshold_grid(metrics.error_curve(pairs), np.array([0.1, 0.1234567]))
    rates = [resampling.resampled_rates(tallies.tally(part, 60, *grid), weights) for part in (pairs, pairs.listed())]
    for name in ("fmr", "fnmr", "data"):
        np.testing.assert_array_equal(*(getattr(part, name) for part in rates))
    centres = [tallies.tally(part, 60, *grid).centre for part in (pairs, pairs.listed())]
    statistics = [resampling.resampled_scores(*part) for part in zip(rates, centres, strict=True)]
    for name, values in statistics[0].items():
        np.testing.assert_allclose(values, statistics[1][name], rtol=1e-5, atol=1e-6)


def test_an_evaluation_of_tiles_is_that_of_a_list(pairs, weights):
    unmasked = evaluate(every_pair(*faces_of(seed=1)), weights)
    tiled, listed = (evaluate(part, weights, unmasked=unmasked) for part in (pairs, pairs.listed()))
    assert list(tiled.resamples) == list(listed.resamples)
    assert (tiled.identities, tiled.threshold) == (listed.identities, listed.threshold)
    for name, values in listed.resamples.items():
        spread = values.std()
        assert np.abs(tiled.resamples[name] - values).max() < 0.5 * spread  # each has its own grid of thresholds
        assert np.abs(tiled.resamples[name].mean() - values.mean()) < 0.1 * spread
        assert tiled.resamples[name].std() == pytest.approx(spread, rel=0.1)
    for name in ("effective_genuine", "effective_impostor"):
        assert getattr(tiled, name) == pytest.approx(getattr(listed, name), rel=0.2)


def test_the_last_row_of_the_rates_is_the_data_itself(pairs, weights):
    curve = metrics.error_curve(pairs)
    rates = resampling.resampled_rates(tallies.tally(pairs, 60, *tallies.threshold_grid(curve, np.empty(0))), weights)
    expected = [metrics.rates_at(curve, threshold) for threshold in rates.thresholds]
    np.testing.assert_array_equal(rates.data, expected)


def test_a_long_list_is_counted_in_parts(pairs, weights, monkeypatch):
    lists = pairs.listed()
    grid = tallies.threshold_grid(metrics.error_curve(lists), np.empty(0))
    whole = resampling.resampled_rates(tallies.tally(lists, 60, *grid), weights)
    monkeypatch.setattr(tallies, "PART", 10_000)
    parts = tallies.tally(lists, 60, *grid)
    assert len(list(parts.impostor_parts(lambda part: part))) > 5
    np.testing.assert_array_equal(resampling.resampled_rates(parts, weights).fmr, whole.fmr)


def test_the_grid_holds_the_scores_of_chosen_ranks(pairs):
    lists = pairs.listed()
    curve = metrics.error_curve(lists)
    thresholds, exact = tallies.threshold_grid(curve, np.empty(0))
    impostor = np.sort(lists.scores[~lists.genuine].astype(float))[::-1]
    genuine = np.sort(lists.scores[lists.genuine].astype(float))
    assert exact == (len(curve.thresholds) <= 2 * tallies.GRID)
    assert np.isin(thresholds[:-1], lists.scores.astype(float)).all()
    if not exact:
        lowest = impostor[int(4 * max(0.01, metrics.equal_error_rate(curve)[0]) * len(impostor)) - 1]
        assert np.isin(impostor[:20], thresholds).all()
        assert thresholds[1] == pytest.approx(lowest)
        assert np.isin(genuine[:20][genuine[:20] >= lowest], thresholds).all()


@pytest.mark.parametrize("count", [100, 50_000])
def test_the_table_of_cells_finds_what_a_search_finds(count):
    generator = np.random.default_rng(count)
    close = 0.5 + 1e-9 * generator.random(400)
    thresholds = np.unique(np.concatenate([generator.random(300), close, [0.0, 1.0]]))
    scores = np.concatenate([generator.random(count), thresholds, np.nextafter(thresholds[1:], 0)])
    expected = np.searchsorted(thresholds, scores, side="right") - 1
    assert np.array_equal(tallies._bins(thresholds, scores), expected)


def test_thresholds_at_several_fmrs_are_those_of_an_evaluation_at_each(pairs, weights):
    curve, thresholds = resampled_thresholds(pairs, weights, [0.01, 0.05])
    for fmr, values in thresholds.items():
        evaluation = evaluate(pairs, weights, threshold_fmr=fmr, curve=curve)
        np.testing.assert_array_equal(values, evaluation.thresholds)


def test_a_curve_that_does_not_hold_the_points_is_computed_again(weights, monkeypatch):
    monkeypatch.setattr(counting, "KEPT", 3000)
    pairs = every_pair(*faces_of())
    curve = metrics.error_curve(pairs)
    assert not curve.holds(0.07)
    unmasked = evaluate(every_pair(*faces_of(seed=1)), weights, threshold_fmr=0.07)
    evaluation = evaluate(pairs, weights, unmasked=unmasked, threshold_fmr=0.07, curve=curve)
    expected = metrics.measure(pairs.listed(), unmasked.threshold)
    assert evaluation.threshold == metrics.fnmr_at_fmr(metrics.error_curve(pairs.listed()), 0.07)[1]
    assert evaluation.metrics["fmr_at_unmasked_threshold"] == expected["fmr_at_unmasked_threshold"]
    assert metrics.measure(pairs, unmasked.threshold, curve)["eer"] == expected["eer"]


def test_a_resample_without_a_threshold_does_not_spoil_the_others(weights):
    pairs = every_pair(*faces_of())
    unmasked = evaluate(every_pair(*faces_of(seed=1)), weights)
    unmasked = replace(unmasked, thresholds=np.where(np.arange(len(weights)) == 3, np.nan, unmasked.thresholds))
    for part in (pairs, pairs.listed()):
        values = evaluate(part, weights, unmasked=unmasked).resamples["fmr_at_unmasked_threshold"]
        assert np.flatnonzero(np.isnan(values)).tolist() == [3]
