"""Verification metrics: hand cases with ties and extremes."""

import numpy as np
import pytest

from maskinv_lib.evaluation import curves, metrics
from maskinv_lib.evaluation.benchmarks import Comparisons


def comparisons(genuine, impostor, fold=None):
    """Genuine scores of persons 0, 1, ... and impostor scores of each against the next."""
    first = np.concatenate([np.arange(len(genuine)), np.arange(len(impostor))]).astype(np.int32)
    second = np.concatenate([np.arange(len(genuine)), np.arange(len(impostor)) + 1]).astype(np.int32)
    scores = np.concatenate([genuine, impostor]).astype(np.float32)
    return Comparisons(scores=scores, genuine=first == second, first=first, second=second, fold=fold)


def test_unmeasurable_metrics_say_so_in_the_table():
    results = metrics.measure(comparisons([0.4195] * 10 + [1.0] * 414, np.arange(424) / 1000))
    assert results["fmr100"].value == 0
    assert results["fmr100"].note == ""
    assert results["fmr1000"].value is None
    assert results["fmr1000"].note == "not measurable"
    assert (results["fmr1000"].genuine, results["fmr1000"].impostor) == (424, 424)


def test_the_names_of_the_operating_points_are_their_fmr():
    impostor, genuine = np.arange(10_000) / 10_000, np.array([0.5, 0.97, 0.985, 0.995, 0.9985, 0.9995, 1.0, 1.0])
    results = metrics.measure(comparisons(genuine, impostor), operating_points=metrics.FINE_POINTS)
    for name, fmr in {"fmr100": 1 / 100, "fmr1000": 1 / 1000, "fmr10000": 1 / 10_000}.items():
        threshold = impostor[-round(fmr * 10_000)]
        assert results[name].value == (genuine < threshold).mean(), name
    assert [results[name].value for name in ("fmr100", "fmr1000", "fmr10000")] == [3 / 8, 5 / 8, 6 / 8]


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
    assert curves.fisher_ratio(np.ones(2), np.zeros(2)) == float("inf")
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
