"""Intervals by hand, at the extremes, and their coverage where the truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from maskinv_lib.evaluation.evaluate import evaluate
from maskinv_lib.evaluation.metrics import Metric
from maskinv_lib.evaluation.resampling import identity_weights
from maskinv_lib.evaluation.uncertainty import (
    Interval,
    holm,
    metric_over_seeds,
    p_value,
    paired_difference,
    seed_and_identity_interval,
    two_variances,
    wilson_interval,
)
from tests.evaluation.simulated import population, true_eer


@pytest.fixture(scope="module")
def evaluations():
    people = population(60, seeds=3, generator=np.random.default_rng(7))
    weights = identity_weights(60, 300)
    return {key: evaluate(comparisons, weights) for key, comparisons in people.items()}


def evaluations_of(evaluations, stage, count=3):
    return [evaluations[stage, seed] for seed in range(count)]


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
    assert p_value(interval, interval.low) == pytest.approx(0.05)
    assert p_value(interval, 0.02) == pytest.approx(1)
    certain = replace(interval, error=0.0)
    assert (p_value(certain, 0.02), p_value(certain, 0.05)) == (1, 0)


@pytest.mark.parametrize("value", [-0.9, 0.9])
def test_a_tiny_p_value_is_not_rounded_to_zero(value):
    clear = Interval(value=value, low=value, high=value, error=0.01, freedom=60.0, seeds=3)
    assert p_value(clear) == pytest.approx(2 * stats.t.sf(90, 60), rel=1e-6) and p_value(clear) > 0


def test_intervals_of_all_metrics_hold_their_value_and_rates_stay_within_bounds(evaluations):
    for parts in (evaluations_of(evaluations, 0), evaluations_of(evaluations, 1, 1)):
        metrics = {name: metric_over_seeds(parts, name) for name in parts[0].metrics}
        assert {"eer", "fmr100", "fmr1000", "gmean", "imean", "fdr"} <= set(metrics)
        for name, metric in metrics.items():
            assert metric.value == pytest.approx(np.mean([part.metrics[name].value for part in parts]))
            assert metric.low < metric.value < metric.high
            assert metric.note == ("one trained network" if len(parts) == 1 else "")
        assert metrics["fmr1000"].low >= 0
        assert metrics["fmr1000"].high <= 1


def test_no_errors_at_all_still_leave_an_upper_bound(evaluations):
    spotless = _with_value(evaluations[0, 0], "eer", 0.0, np.zeros(300))
    metric = metric_over_seeds([spotless], "eer")
    assert metric.low == 0
    square = stats.t.ppf(0.975, 59) ** 2
    assert metric.high == pytest.approx(square / (spotless.effective_genuine + square))
    difference = paired_difference([spotless], [spotless], "eer")
    assert difference.value == 0
    assert difference.error == pytest.approx(1 / (spotless.effective_genuine + 2))
    assert difference.low < 0 < difference.high


def test_few_errors_are_worth_no_more_comparisons_than_the_data_hold(evaluations):
    count = evaluations[0, 0].metrics["eer"].genuine
    still = np.full(300, 3 / count) + np.tile([-1e-5, 1e-5], 150)  # hardly any variance in the resamples
    few = _with_value(evaluations[0, 0], "eer", 3 / count, still)
    quantile = stats.t.ppf(0.975, 59)
    expected = wilson_interval(3 / count, few.effective_genuine, quantile)
    metric = metric_over_seeds([few], "eer")
    assert (metric.low, metric.high) == pytest.approx(expected)
    many = _with_value(evaluations[0, 0], "eer", 30 / count, still + 27 / count)
    assert metric_over_seeds([many], "eer").high - 30 / count < 1e-3 < metric.high - 3 / count


@pytest.mark.parametrize("errors", [3, 9, 11, 40])
def test_the_width_of_a_paired_interval_does_not_jump_where_errors_become_few(evaluations, errors):
    count = evaluations[0, 0].metrics["eer"].genuine
    wave = np.tile([-0.01, 0.01], 150)
    one, two = (
        _with_value(evaluations[0, 0], "eer", n / count, n / count + share * wave) for n, share in ((errors, 2), (9, 1))
    )
    interval = paired_difference([one], [two], "eer")
    expected = max(1 / (one.effective_genuine + 2), np.std(wave, ddof=1))
    assert interval.error == pytest.approx(expected, rel=1e-4)


def test_the_paired_interval_holds_the_truth_where_errors_are_few():
    held, widths = [], []
    weights = identity_weights(45, 300)
    for draw in range(100):
        people = population(45, 1, seeds=2, gain=0.0, generator=np.random.default_rng(draw))
        made = {key: evaluate(comparisons, weights) for key, comparisons in people.items()}
        interval = paired_difference(evaluations_of(made, 0, 2), evaluations_of(made, 1, 2), "eer")
        held.append(interval.low <= 0 <= interval.high)
        widths.append(interval.high - interval.low)
    assert np.mean(held) >= 0.93 and np.median(widths) < 0.25


def _with_value(evaluation, name, value, resamples):
    metric = replace(evaluation.metrics[name], value=value)
    return replace(
        evaluation,
        metrics={**evaluation.metrics, name: metric},
        resamples={**evaluation.resamples, name: resamples.astype(np.float32)},
    )


def test_an_unmeasurable_seed_makes_the_mean_unmeasurable(evaluations):
    empty = replace(evaluations[0, 1].metrics["fmr1000"], value=None, note="not measurable")
    broken = replace(evaluations[0, 1], metrics={**evaluations[0, 1].metrics, "fmr1000": empty})
    metric = metric_over_seeds([evaluations[0, 0], broken], "fmr1000")
    assert (metric.value, metric.low, metric.note) == (None, None, "not measurable")
    assert paired_difference([evaluations[1, 0], broken], evaluations_of(evaluations, 0, 2), "fmr1000") is None


def test_accuracy_carries_the_error_over_folds(evaluations):
    metric = Metric(name="accuracy", value=0.9, genuine=3000, impostor=3000)
    evaluation = replace(evaluations[0, 0], metrics={"accuracy": metric}, fold_error=0.01)
    metric = metric_over_seeds([evaluation], "accuracy")
    assert metric.high - metric.value == pytest.approx(stats.t.ppf(0.975, 9) * 0.01)
    assert metric.note == "interval over folds"


def test_a_metric_without_resamples_has_no_interval(evaluations):
    metric = metric_over_seeds([replace(evaluations[0, 0], resamples={})], "gmean")
    assert (metric.value, metric.low, metric.high) == (evaluations[0, 0].metrics["gmean"].value, None, None)
    assert paired_difference([evaluations[0, 0]], [replace(evaluations[1, 0], resamples={})], "eer") is None


def test_differences_are_paired_by_resample(evaluations):
    same = paired_difference(evaluations_of(evaluations, 0), evaluations_of(evaluations, 0), "gmean")
    assert (same.value, same.error) == (0, 0)
    ours, theirs = (evaluations_of(evaluations, stage, 1) for stage in (1, 0))
    difference = paired_difference(ours, theirs, "gmean")
    unpaired = np.hypot(*(_interval_error(side, "gmean") for side in (ours, theirs)))
    assert difference.value == pytest.approx(ours[0].metrics["gmean"].value - theirs[0].metrics["gmean"].value)
    assert difference.error < 0.85 * unpaired  # the same people on both sides: what is hard for both cancels
    with pytest.raises(ValueError, match="same seeds on both sides"):
        paired_difference(evaluations_of(evaluations, 0), evaluations_of(evaluations, 1, 2), "eer")


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
    """100 studies of 4 seeds and 30 people, thresholds chosen again in each resample; both true values are known."""
    weights = identity_weights(30, 200)
    truth = [true_eer(0), true_eer(1)]
    differences = levels = 0
    for study in range(100):
        people = population(30, generator=np.random.default_rng(study))
        evaluated = {key: evaluate(comparisons, weights) for key, comparisons in people.items()}
        interval = paired_difference(evaluations_of(evaluated, 1, 4), evaluations_of(evaluated, 0, 4), "eer")
        differences += interval.low <= truth[1] - truth[0] <= interval.high
        metric = metric_over_seeds(evaluations_of(evaluated, 0, 4), "eer")
        levels += metric.low <= truth[0] <= metric.high
    assert differences >= 90
    assert levels >= 90


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
