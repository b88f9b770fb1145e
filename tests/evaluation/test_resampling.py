"""Resampled metrics compared with a slow computation that weights every comparison, and with scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from maskinv_lib.evaluation import metrics, resampling, tallies
from maskinv_lib.evaluation.benchmarks import Comparisons


def all_pairs(identities, views, seed, decimals=None, signal=1.5):
    """Every reference against every probe, both (i, j) and (j, i); ``decimals`` makes ties."""
    generator = np.random.default_rng(seed)
    person = np.repeat(np.arange(identities), views).astype(np.int32)
    first, second = np.repeat(person, len(person)), np.tile(person, len(person))
    effect = generator.normal(size=(identities, identities)) * 0.5
    scores = signal * (first == second) + effect[first, second] + generator.normal(size=len(first))
    scores = scores / 4 if decimals is None else (scores / 4).round(decimals)
    return Comparisons(scores=scores.astype(np.float32), genuine=first == second, first=first, second=second)


def tallied(comparisons, identities, extra=()):
    curve = metrics.error_curve(comparisons)
    return tallies.tally(comparisons, identities, *tallies.threshold_grid(curve, np.array(extra)))


def comparison_weights(comparisons, row):
    """w_i for a genuine comparison of i, w_i w_j for an impostor comparison of i and j."""
    return row[comparisons.first] * np.where(comparisons.genuine, 1, row[comparisons.second])


def direct_rates(comparisons, row, threshold):
    weight, accepted = comparison_weights(comparisons, row), comparisons.scores.astype(float) >= threshold
    genuine = comparisons.genuine
    fmr = (weight * accepted)[~genuine].sum() / weight[~genuine].sum()
    return fmr, (weight * ~accepted)[genuine].sum() / weight[genuine].sum()


def direct_eer(comparisons, row):
    """Walk along scikit-learn's weighted curve to where FNMR meets FMR."""
    false, true, _ = roc_curve(
        comparisons.genuine,
        comparisons.scores,
        sample_weight=comparison_weights(comparisons, row),
        drop_intermediate=False,
    )
    for k in range(1, len(false)):
        gap, before = (1 - true[k]) - false[k], (1 - true[k - 1]) - false[k - 1]
        if gap <= 1e-12:
            return false[k - 1] + before / (before - gap) * (false[k] - false[k - 1])
    raise AssertionError("the curve has no crossing")


CASES = {"ties": (7, 2, 1), "no ties": (6, 2, None)}


@pytest.fixture(params=CASES.values(), ids=CASES)
def small(request):
    identities, views, decimals = request.param
    comparisons = all_pairs(identities, views, seed=3, decimals=decimals)
    weights = resampling.identity_weights(identities, 40, seed=1)
    counts = tallied(comparisons, identities)
    assert counts.exact
    return comparisons, weights, counts, resampling.resampled_rates(counts, weights)


def test_weights_are_draws_with_replacement_and_repeat():
    weights = resampling.identity_weights(50, 2000, seed=4)
    assert weights.shape == (2000, 50)
    assert weights.dtype == np.float32
    assert (weights.sum(axis=1) == 50).all()
    assert weights.var() == pytest.approx(1 - 1 / 50, rel=0.02)
    np.testing.assert_array_equal(weights, resampling.identity_weights(50, 2000, seed=4))
    assert (weights != resampling.identity_weights(50, 2000, seed=5)).any()
    with pytest.raises(ValueError, match="two identities"):
        resampling.identity_weights(1)


def test_rates_are_those_of_weighting_every_comparison(small):
    comparisons, weights, _, rates = small
    for row, fmr, fnmr in zip(weights, rates.fmr, rates.fnmr, strict=True):
        direct = np.array([direct_rates(comparisons, row, threshold) for threshold in rates.thresholds])
        np.testing.assert_allclose(np.stack([fmr, fnmr], axis=1), direct, atol=1e-12)


def test_unit_weights_give_the_metrics_of_the_data(small):
    comparisons, weights, counts, _ = small
    rates = resampling.resampled_rates(counts, np.ones_like(weights[:2]))
    results = metrics.measure(comparisons)
    assert resampling.resampled_eer(rates) == pytest.approx(results["eer"].value)
    curve = metrics.error_curve(comparisons)
    np.testing.assert_allclose(rates.fmr[0], curve.fmr)
    np.testing.assert_allclose(rates.fnmr[0], curve.fnmr)
    for name, values in resampling.resampled_scores(rates, counts.centre).items():
        assert values == pytest.approx(results[name].value, rel=1e-5, abs=1e-6)


def test_eer_is_that_of_scikit_learns_weighted_curve(small):
    comparisons, weights, _, rates = small
    expected = [direct_eer(comparisons, row) for row in weights]
    np.testing.assert_allclose(resampling.resampled_eer(rates), expected, atol=1e-9)


@pytest.mark.parametrize("fmr", [0.05, 0.2])
def test_fnmr_at_fmr_chooses_its_threshold_again_in_each_resample(small, fmr):
    comparisons, weights, _, rates = small
    fnmr, threshold = resampling.resampled_fnmr_at_fmr(rates, fmr)
    for row, value, chosen in zip(weights, fnmr, threshold, strict=True):
        possible = [direct_rates(comparisons, row, t) for t in [*np.unique(comparisons.scores).astype(float), 9.0]]
        assert value == pytest.approx(min(b for a, b in possible if a <= fmr + 1e-12))
        assert direct_rates(comparisons, row, chosen)[1] == pytest.approx(value)
    assert len(np.unique(threshold)) > 3


def test_rates_at_one_threshold_or_at_one_per_resample(small):
    comparisons, weights, _, rates = small
    for threshold in (np.full(len(weights), 0.2), np.linspace(-2, 2, len(weights))):
        expected = [direct_rates(comparisons, *pair) for pair in zip(weights, threshold, strict=True)]
        rates_at = resampling.resampled_rates_at(rates, threshold)
        np.testing.assert_allclose(np.stack(rates_at, axis=1), expected, atol=1e-12)
    fixed = resampling.resampled_rates_at(rates, 0.2)
    np.testing.assert_allclose(fixed[0], [direct_rates(comparisons, row, 0.2)[0] for row in weights], atol=1e-12)


def test_score_statistics_are_the_weighted_ones(small):
    comparisons, weights, counts, rates = small
    statistics = resampling.resampled_scores(rates, counts.centre)
    genuine, scores = comparisons.genuine, comparisons.scores.astype(float)
    for index, row in enumerate(weights):
        weight = comparison_weights(comparisons, row)
        mean, variance = [], []
        for side in (genuine, ~genuine):
            mean.append(np.average(scores[side], weights=weight[side]))
            variance.append(np.average((scores[side] - mean[-1]) ** 2, weights=weight[side]))
        assert statistics["gmean"][index] == pytest.approx(mean[0], abs=1e-5)
        assert statistics["imean"][index] == pytest.approx(mean[1], abs=1e-5)
        assert statistics["fdr"][index] == pytest.approx((mean[0] - mean[1]) ** 2 / sum(variance), rel=1e-4)


def test_many_scores_on_a_grid_stay_close_to_the_exact_answer():
    comparisons = all_pairs(30, 4, seed=2)
    weights = resampling.identity_weights(30, 30, seed=1)
    fixed = 0.3
    counts = tallied(comparisons, 30, extra=[fixed])
    assert not counts.exact
    assert len(counts.thresholds) < 2 * tallies.GRID
    rates = resampling.resampled_rates(counts, weights)
    exact = [direct_eer(comparisons, row) for row in weights]
    spread = np.std(exact)
    assert np.abs(resampling.resampled_eer(rates) - exact).max() < 0.1 * spread
    np.testing.assert_allclose(
        np.stack(resampling.resampled_rates_at(rates, fixed), axis=1),
        [direct_rates(comparisons, row, fixed) for row in weights],
        atol=1e-12,
    )
    scores = np.append(np.unique(comparisons.scores).astype(float), 9.0)
    for row, value in zip(weights, resampling.resampled_fnmr_at_fmr(rates, 0.01)[0], strict=True):
        low, high = 0, len(scores) - 1  # bisection for the smallest threshold with FMR <= 1 %
        while low < high:
            middle = (low + high) // 2
            low, high = (
                (low, middle) if direct_rates(comparisons, row, scores[middle])[0] <= 0.01 else (middle + 1, high)
            )
        assert value == pytest.approx(direct_rates(comparisons, row, scores[low])[1], abs=0.02)


def test_a_sparse_list_of_many_people_needs_no_table_of_all_pairs(monkeypatch):
    generator = np.random.default_rng(0)
    first = generator.integers(0, 5000, 600).astype(np.int32)
    second = np.where(np.arange(600) < 300, first, (first + 1 + generator.integers(0, 4000, 600)) % 5000)
    scores = generator.normal(size=600).astype(np.float32)
    lists = Comparisons(scores=scores, genuine=first == second, first=first, second=second.astype(np.int32))
    monkeypatch.setattr(resampling.np, "bincount", _small_bincount(np.bincount))
    weights = resampling.identity_weights(5000, 5)
    curve = metrics.error_curve(lists)
    thresholds = curve.thresholds[::20]
    rates = resampling.resampled_rates(tallies.tally(lists, 5000, thresholds, False), weights)
    expected = [[direct_rates(lists, row, t)[1] for t in thresholds[1:]] for row in weights]
    np.testing.assert_allclose(rates.fnmr[:, 1:], expected, atol=1e-12)


def _small_bincount(original):
    def bincount(values, weights=None, minlength=0):
        assert minlength < 1_000_000
        return original(values, weights, minlength)

    return bincount


def test_a_resample_without_genuine_comparisons_is_nan_not_a_number():
    comparisons = all_pairs(4, 2, seed=0)
    weights = np.array([[4, 0, 0, 0], [1, 1, 1, 1]], np.float32)  # one person alone: no impostor comparison
    rates = resampling.resampled_rates(tallied(comparisons, 4), weights)
    for values in (resampling.resampled_eer(rates), *resampling.resampled_fnmr_at_fmr(rates, 0.5)):
        assert np.isnan(values[0])
        assert np.isfinite(values[1])


def test_design_effect_counts_copies_of_one_person_as_one():
    generator = np.random.default_rng(1)
    rejected = generator.random(400) < 0.2  # one answer per person, given five times
    weights = resampling.identity_weights(400, 2000)
    rates = (weights @ rejected / weights.sum(axis=1))[:, None]
    effect = resampling.design_effect(rates, np.array([rejected.mean()]), 2000, 400)
    assert effect == pytest.approx(5, rel=0.1)
    assert resampling.design_effect(rates, np.array([0.001]), 2000, 400) == 5  # too few errors: one vote a person
