"""Verification metrics: hand cases with ties and extremes, and comparison with scikit-learn's curves."""

import numpy as np
import pytest
from sklearn.metrics import det_curve, roc_curve

from maskinv_lib.evaluation import metrics
from maskinv_lib.evaluation.benchmarks import Comparisons


def comparisons(genuine, impostor, fold=None):
    """Genuine scores of persons 0, 1, ... and impostor scores of each against the next."""
    first = np.concatenate([np.arange(len(genuine)), np.arange(len(impostor))]).astype(np.int32)
    second = np.concatenate([np.arange(len(genuine)), np.arange(len(impostor)) + 1]).astype(np.int32)
    scores = np.concatenate([genuine, impostor]).astype(np.float32)
    return Comparisons(scores=scores, genuine=first == second, first=first, second=second, fold=fold)


def random_scores(seed, ties):
    generator = np.random.default_rng(seed)
    genuine, impostor = generator.normal(1, 1, 83), generator.normal(0, 1, 207)
    return (genuine.round(1), impostor.round(1)) if ties else (genuine, impostor)


def test_separated_scores_have_eer_zero_at_a_finite_threshold():
    value, threshold = metrics.equal_error_rate(metrics.curve_of_scores([0.9, 0.8], [0.1, 0.2]))
    assert value == 0
    assert 0.2 < threshold <= 0.8


def test_one_error_of_four_on_both_sides():
    curve = metrics.curve_of_scores([0.9, 0.8, 0.7, 0.2], [0.6, 0.3, 0.1, 0.0])
    assert metrics.equal_error_rate(curve)[0] == 0.25


def test_eer_between_two_points_lies_on_the_straight_line():
    # FNMR - FMR is -1/2 at 0.3 and 1/6 at 0.5 (one of two accepted falsely -> none; 1/6 rejected meanwhile)
    curve = metrics.curve_of_scores([0.4, 0.9, 0.9, 0.9, 0.9, 0.9], [0.1, 0.4])
    left, right = metrics.rates_at(curve, 0.4), metrics.rates_at(curve, 0.9)
    assert left == (0.5, 0.0)
    assert right == (0.0, 1 / 6)
    assert metrics.equal_error_rate(curve)[0] == pytest.approx(0.125)  # FMR = FNMR on the segment between them


def test_scores_all_equal_and_scores_reversed():
    value, threshold = metrics.equal_error_rate(metrics.curve_of_scores([0.5, 0.5], [0.5]))
    assert (value, threshold) == (0.5, 0.5)
    assert metrics.equal_error_rate(metrics.curve_of_scores([0.1, 0.2], [0.8, 0.9]))[0] == 1


def test_fmr100_allows_four_false_matches_of_424_and_fmr1000_is_not_measurable():
    curve = metrics.curve_of_scores([0.4195] * 10 + [1.0] * 414, np.arange(424) / 1000)
    value, threshold = metrics.fnmr_at_fmr(curve, 0.01)
    assert value == 0
    assert (np.arange(424) / 1000 >= threshold).sum() == 4
    assert metrics.fnmr_at_fmr(curve, 0.001) == (None, None)


def test_unmeasurable_metrics_say_so_in_the_table():
    results = metrics.measure(comparisons([0.4195] * 10 + [1.0] * 414, np.arange(424) / 1000))
    assert results["fmr100"].value == 0
    assert results["fmr100"].note == ""
    assert results["fmr1000"].value is None
    assert results["fmr1000"].note == "not measurable"
    assert (results["fmr1000"].genuine, results["fmr1000"].impostor) == (424, 424)


def test_exactly_one_false_match_is_measurable_although_a_tenth_is_no_binary_number():
    curve = metrics.curve_of_scores([0.5], np.linspace(-1, 0, 1000))
    assert metrics.fnmr_at_fmr(curve, 0.001)[0] == 0
    assert metrics.fnmr_at_fmr(metrics.curve_of_scores([0.5], np.linspace(-1, 0, 999)), 0.001) == (None, None)


def test_ties_at_the_top_leave_no_threshold_but_one_that_rejects_all():
    curve = metrics.curve_of_scores([1.0, 1.0], [1.0] * 5 + [0.0] * 95)
    value, threshold = metrics.fnmr_at_fmr(curve, 0.01)
    assert value == 1
    assert np.isfinite(threshold)
    assert threshold > 1


@pytest.mark.parametrize("fmr", [0, -0.1, 1.5, float("nan")])
def test_an_impossible_operating_point_is_refused(fmr):
    with pytest.raises(ValueError, match="operating point"):
        metrics.fnmr_at_fmr(metrics.curve_of_scores([1.0], [0.0]), fmr)


@pytest.mark.parametrize("side", ["genuine", "impostor"])
def test_an_empty_side_is_named(side):
    scores = {"genuine": [0.5], "impostor": [0.1], side: []}
    with pytest.raises(ValueError, match=f"no {side} scores"):
        metrics.curve_of_scores(**scores)
    with pytest.raises(ValueError, match=f"NaN or infinite {side} scores"):
        metrics.curve_of_scores(**{**scores, side: [0.1, float("nan")]})


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_curve_is_scikit_learns(seed, ties):
    genuine, impostor = random_scores(seed, ties)
    labels = np.repeat([1, 0], [len(genuine), len(impostor)])
    curve = metrics.curve_of_scores(genuine, impostor)
    false, true, thresholds = roc_curve(labels, np.concatenate([genuine, impostor]), drop_intermediate=False)
    np.testing.assert_allclose(curve.thresholds[:-1][::-1], thresholds[1:])
    np.testing.assert_allclose(curve.fmr[::-1], false, atol=1e-12)
    np.testing.assert_allclose(1 - curve.fnmr[::-1], true, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rates_at_thresholds_are_scikit_learns_det_curve(seed):
    genuine, impostor = random_scores(seed, ties=True)
    labels = np.repeat([1, 0], [len(genuine), len(impostor)])
    curve = metrics.curve_of_scores(genuine, impostor)
    for fmr, fnmr, threshold in zip(*det_curve(labels, np.concatenate([genuine, impostor])), strict=True):
        assert metrics.rates_at(curve, threshold) == pytest.approx((fmr, fnmr))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("fmr", [0.01, 0.05, 0.2, 1.0])
def test_fnmr_at_fmr_is_the_best_of_all_thresholds(fmr, ties):
    genuine, impostor = random_scores(3, ties)
    possible = [-np.inf, *genuine, *impostor, np.inf]
    best = min(float((genuine < t).mean()) for t in possible if (impostor >= t).mean() <= fmr)
    value, threshold = metrics.fnmr_at_fmr(metrics.curve_of_scores(genuine, impostor), fmr)
    assert value == pytest.approx(best)
    assert (impostor >= threshold).mean() <= fmr
    assert (genuine < threshold).mean() == pytest.approx(value)


def test_rates_at_any_threshold():
    curve = metrics.curve_of_scores([0.9, 0.5, 0.2], [0.5, 0.4, 0.0, -0.3])
    assert metrics.rates_at(curve, 0.5) == (0.25, pytest.approx(1 / 3))  # a score equal to the threshold is accepted
    assert metrics.rates_at(curve, 0.45) == (0.25, pytest.approx(1 / 3))
    assert metrics.rates_at(curve, -5.0) == (1.0, 0.0)
    assert metrics.rates_at(curve, 5.0) == (0.0, 1.0)


def test_the_float32_threshold_of_one_condition_accepts_its_own_score_in_another():
    scores = comparisons([0.1, 0.7], [0.7, 0.3])
    threshold = metrics.fnmr_at_fmr(metrics.error_curve(scores), 0.5)[1]
    results = metrics.measure(scores, unmasked_threshold=threshold)
    assert results["fnmr_at_unmasked_threshold"].value == 0.5
    assert results["fmr_at_unmasked_threshold"].value == 0.5
    assert results["fmr_at_unmasked_threshold"].threshold == threshold


def test_means_and_fisher_ratio_by_hand():
    results = metrics.measure(comparisons([1.0, 0.5], [0.25, -0.25]))
    assert results["gmean"].value == 0.75
    assert results["imean"].value == 0
    assert results["fdr"].value == pytest.approx(0.75**2 / (0.25**2 + 0.25**2))
    assert metrics.fisher_ratio(np.ones(2), np.zeros(2)) == float("inf")
    assert "accuracy" not in results
    assert "fnmr_at_unmasked_threshold" not in results


def test_ten_fold_accuracy_takes_each_threshold_from_the_other_folds():
    # Fold 9 is shifted by 10: judged by the others' threshold all of it is accepted, so half of it is wrong.
    genuine, impostor = np.full(20, 0.8), np.full(20, 0.2)
    fold = np.tile(np.repeat(np.arange(10), 2), 2).astype(np.int8)
    scores = np.concatenate([genuine, impostor]) + 10 * (fold == 9)
    value, error = metrics.ten_fold_accuracy(comparisons(scores[:20], scores[20:], fold))
    assert value == pytest.approx(0.95)
    assert error == pytest.approx(np.std([1.0] * 9 + [0.5], ddof=1) / np.sqrt(10))


def test_accuracy_ignores_comparisons_outside_the_folds_and_needs_two_folds():
    fold = np.array([0, 1, -1, 0, 1, -1], np.int8)
    results = metrics.measure(comparisons([0.9, 0.8, -1.0], [0.1, 0.2, 1.0], fold))
    assert results["accuracy"].value == 1
    with pytest.raises(ValueError, match="at least two folds"):
        metrics.ten_fold_accuracy(comparisons([0.9], [0.1], np.array([0, 0], np.int8)))


def test_the_best_threshold_is_the_best_of_all_and_never_splits_ties():
    generator = np.random.default_rng(5)
    for _ in range(20):
        scores, genuine = generator.normal(size=40).round(1), generator.random(40) < 0.5
        threshold = metrics._best_threshold(scores, genuine)
        accuracies = [((scores >= t) == genuine).mean() for t in [*scores, np.inf]]
        assert ((scores >= threshold) == genuine).mean() == max(accuracies)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.array([0.1, np.nan], np.float32)}, "1 of 2 scores are NaN"),
        ({"scores": np.array([0.1, np.inf], np.float32)}, "infinite"),
        ({"scores": np.array([0.1], np.float32)}, "genuine has 2 entries, scores 1"),
        ({"scores": [0.1, 0.2]}, "must be a NumPy array"),
        ({"genuine": np.array([1, 0])}, "genuine must be"),
        ({"genuine": np.array([False, False])}, "No genuine comparison among 2"),
        ({"genuine": np.array([True, True])}, "No impostor comparison among 2"),
        ({"genuine": np.array([False, True])}, "2 comparisons contradict"),
        ({"first": np.array([-1, 0], np.int32)}, "not be negative"),
        ({"fold": np.array([0, 10], np.int8)}, "Folds must be"),
    ],
)
def test_invalid_comparisons_are_refused(change, message):
    good = {
        "scores": np.array([0.9, 0.1], np.float32),
        "genuine": np.array([True, False]),
        "first": np.array([0, 0], np.int32),
        "second": np.array([0, 1], np.int32),
    }
    assert Comparisons(**good).identities == 2
    with pytest.raises(ValueError, match=message):
        Comparisons(**{**good, **change})
