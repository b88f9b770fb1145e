"""Intervals by hand, at the extremes, and their coverage where the truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from maskinv_lib.evaluation.evaluate import evaluate
from maskinv_lib.evaluation.metrics import Metric
from maskinv_lib.evaluation.resampling import identity_weights
from maskinv_lib.evaluation.uncertainty import (
    holm,
    metric_over_seeds,
    p_value,
    paired_difference,
    seed_and_identity_interval,
    two_variances,
    wilson_interval,
)
from tests.evaluation.simulated import population, true_eer


def metrics_over_seeds(evaluations):
    return {name: metric_over_seeds(evaluations, name) for name in evaluations[0].metrics}


@pytest.fixture(scope="module")
def ladder():
    people = population(60, seeds=3, generator=np.random.default_rng(7))
    weights = identity_weights(60, 300)
    return {key: evaluate(comparisons, weights) for key, comparisons in people.items()}


def seeds_of(ladder, stage, count=3):
    return [ladder[stage, seed] for seed in range(count)]


def test_both_variances_and_satterthwaites_freedom_by_hand():
    estimates = np.array([0.01, 0.03, 0.05])
    resamples = estimates[:, None] + np.array([[-0.01, 0.01, -0.02, 0.02]] * 3) * [[1], [2], [3]]
    identity = np.var([-0.02, 0.02, -0.04, 0.04], ddof=1)  # the seeds' mean in each resample
    seed = 0.02**2 / 3
    variance, freedom = two_variances(estimates, resamples, identities=21)
    assert variance == pytest.approx(identity + seed)
    assert freedom == pytest.approx((identity + seed) ** 2 / (identity**2 / 20 + seed**2 / 2))
    interval = seed_and_identity_interval(estimates, resamples, 21)
    assert interval.value == pytest.approx(0.03)
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
    assert (interval.low, interval.high) == pytest.approx((0.03 - reach, 0.03 + reach))
    assert (interval.seeds, interval.note) == (3, "")


def test_opposite_resamples_of_two_seeds_cancel_in_their_mean():
    wave = np.tile([-1.0, 1.0], 50)
    assert two_variances([0.5, 0.5], np.stack([wave, -wave]), 10)[0] == 0
    assert two_variances([0.5, 0.5], np.stack([wave, wave]), 10)[0] == pytest.approx(100 / 99)


def test_one_seed_has_identity_variance_only_and_says_so():
    resamples = np.random.default_rng(0).normal(0.1, 0.02, (1, 2000))
    interval = seed_and_identity_interval([0.1], resamples, 50)
    assert interval.freedom == 49
    assert interval.error == pytest.approx(resamples.std(ddof=1))
    assert interval.note == "one trained network"


def test_estimates_and_resamples_must_fit():
    for estimates, resamples in (([0.1, 0.2], np.ones((3, 5))), ([], np.ones((0, 5))), ([0.1], np.ones(5))):
        with pytest.raises(ValueError, match="do not fit"):
            two_variances(estimates, resamples, 10)


def test_wilson_solves_the_score_equation():
    for rate, size in ((0.2, 50), (0.01, 300), (0.5, 7.5)):
        for bound in wilson_interval(rate, size, 1.96):
            assert abs(rate - bound) == pytest.approx(1.96 * np.sqrt(bound * (1 - bound) / size))


def test_wilson_at_no_errors_and_at_nothing_but_errors():
    assert wilson_interval(0.0, 100, 2.0) == (0.0, pytest.approx(4 / 104))
    assert wilson_interval(1.0, 100, 2.0) == (pytest.approx(100 / 104), 1.0)
    for rate, size in ((-0.1, 10), (1.1, 10), (0.5, 0), (float("nan"), 10)):
        with pytest.raises(ValueError, match="Wilson"):
            wilson_interval(rate, size)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_p_values_agree_with_the_interval_and_with_the_margin():
    interval = seed_and_identity_interval([0.02], np.random.default_rng(1).normal(0.02, 0.01, (1, 500)), 40)
    assert p_value(interval, interval.high) == pytest.approx(0.05)
    assert p_value(interval, interval.low, "greater") == pytest.approx(0.025)
    assert p_value(interval, interval.high, "less") == pytest.approx(0.025)
    assert p_value(interval, 0.02) == pytest.approx(1)
    certain = replace(interval, error=0.0)
    assert p_value(certain, 0.02) == 1
    assert [p_value(certain, 0.05, side) for side in ("two-sided", "less", "greater")] == [0, 0, 1]


def test_intervals_of_all_metrics_hold_their_value_and_rates_stay_within_bounds(ladder):
    for evaluations in (seeds_of(ladder, 0), seeds_of(ladder, 1, 1)):
        found = metrics_over_seeds(evaluations)
        assert {"eer", "fmr100", "fmr1000", "gmean", "imean", "fdr"} <= set(found)
        for name, metric in found.items():
            assert metric.value == pytest.approx(np.mean([e.metrics[name].value for e in evaluations]))
            assert metric.low < metric.value < metric.high
            assert metric.note == ("one trained network" if len(evaluations) == 1 else "")
        assert found["fmr1000"].low >= 0
        assert found["fmr1000"].high <= 1


def test_no_errors_at_all_still_leave_an_upper_bound(ladder):
    spotless = _with_value(ladder[0, 0], "eer", 0.0, np.zeros(300))
    found = metric_over_seeds([spotless], "eer")
    assert found.low == 0
    square = stats.t.ppf(0.975, 59) ** 2
    assert found.high == pytest.approx(square / (spotless.effective_genuine + square))
    difference = paired_difference([spotless], [spotless], "eer")
    assert difference.value == 0
    assert difference.low < 0 < difference.high


def _with_value(evaluation, name, value, resamples):
    metric = replace(evaluation.metrics[name], value=value)
    return replace(
        evaluation,
        metrics={**evaluation.metrics, name: metric},
        resamples={**evaluation.resamples, name: resamples.astype(np.float32)},
    )


def test_an_unmeasurable_seed_makes_the_mean_unmeasurable(ladder):
    empty = replace(ladder[0, 1].metrics["fmr1000"], value=None, note="not measurable")
    broken = replace(ladder[0, 1], metrics={**ladder[0, 1].metrics, "fmr1000": empty})
    found = metric_over_seeds([ladder[0, 0], broken], "fmr1000")
    assert (found.value, found.low, found.note) == (None, None, "not measurable")
    assert paired_difference([ladder[1, 0], broken], seeds_of(ladder, 0, 2), "fmr1000") is None


def test_accuracy_carries_the_error_over_folds(ladder):
    metric = Metric(name="accuracy", value=0.9, genuine=3000, impostor=3000)
    one = replace(ladder[0, 0], metrics={"accuracy": metric}, fold_error=0.01)
    found = metric_over_seeds([one], "accuracy")
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 9) * 0.01)
    assert found.note == "interval over folds"


def test_a_metric_without_resamples_has_no_interval(ladder):
    found = metric_over_seeds([replace(ladder[0, 0], resamples={})], "gmean")
    assert (found.value, found.low, found.high) == (ladder[0, 0].metrics["gmean"].value, None, None)


def test_differences_are_paired_by_resample(ladder):
    same = paired_difference(seeds_of(ladder, 0), seeds_of(ladder, 0), "gmean")
    assert (same.value, same.error) == (0, 0)
    found = paired_difference(seeds_of(ladder, 1, 1), seeds_of(ladder, 0, 1), "gmean")
    apart = np.hypot(*(_interval_error(seeds_of(ladder, stage, 1), "gmean") for stage in (0, 1)))
    assert found.value == pytest.approx(ladder[1, 0].metrics["gmean"].value - ladder[0, 0].metrics["gmean"].value)
    assert found.error < 0.85 * apart  # the same people on both sides: what is hard for both cancels
    with pytest.raises(ValueError, match="same seeds on both sides"):
        paired_difference(seeds_of(ladder, 0), seeds_of(ladder, 1, 2), "eer")


def _interval_error(evaluations, name):
    values = [evaluation.metrics[name].value for evaluation in evaluations]
    resamples = np.stack([evaluation.resamples[name] for evaluation in evaluations])
    return np.sqrt(two_variances(values, resamples, 60)[0])


def test_coverage_over_seeds_and_identities_of_a_mean_difference():
    """Person effects shared by all seeds, seed effects, and their interaction: 600 studies of 5 seeds, 60 people."""
    generator = np.random.default_rng(11)
    weights = identity_weights(60, 400)
    for person_spread, seed_spread, mixed_spread in ((1.0, 0.05, 0.2), (0.2, 1.0, 0.2), (1.0, 0.5, 1.0)):
        covered = 0
        for _ in range(200):
            person = generator.normal(size=60) * person_spread
            mixed = generator.normal(size=(5, 60)) * mixed_spread
            differences = 0.3 + person + mixed + generator.normal(size=(5, 1)) * seed_spread  # [seeds, people]
            interval = seed_and_identity_interval(differences.mean(axis=1), differences @ weights.T / 60, 60)
            covered += interval.low <= 0.3 <= interval.high
        assert 0.90 <= covered / 200 <= 1.0


def test_coverage_of_the_eer_and_of_its_difference_between_stages():
    """100 studies of 4 seeds and 30 people, thresholds chosen anew in each resample; both true values are known."""
    weights = identity_weights(30, 200)
    truth = [true_eer(0), true_eer(1)]
    difference = level = 0
    for study in range(100):
        people = population(30, generator=np.random.default_rng(study))
        found = {key: evaluate(comparisons, weights) for key, comparisons in people.items()}
        interval = paired_difference(seeds_of(found, 1, 4), seeds_of(found, 0, 4), "eer")
        difference += interval.low <= truth[1] - truth[0] <= interval.high
        metric = metric_over_seeds(seeds_of(found, 0, 4), "eer")
        level += metric.low <= truth[0] <= metric.high
    assert difference >= 90
    assert level >= 90


def test_coverage_of_wilson_with_few_and_dependent_errors():
    """100 people answer five times alike: counted as 500 trials Wilson's interval fails, as 100 it holds."""
    generator = np.random.default_rng(3)
    rates = generator.binomial(100, 0.01, 1000) / 100
    covers = {
        size: np.mean([low <= 0.01 <= high for low, high in (wilson_interval(r, size) for r in rates)])
        for size in (100, 500)
    }
    assert covers[100] >= 0.90
    assert covers[500] < 0.85
