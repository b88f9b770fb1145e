"""Error curves: hand cases with ties and extremes, and comparison with scikit-learn's curves."""

import numpy as np
import pytest
from sklearn.metrics import det_curve, roc_curve

from maskinv_lib.evaluation import curves


def random_scores(seed, ties):
    generator = np.random.default_rng(seed)
    genuine, impostor = generator.normal(1, 1, 83), generator.normal(0, 1, 207)
    return (genuine.round(1), impostor.round(1)) if ties else (genuine, impostor)


def test_separated_scores_have_eer_zero_at_a_finite_threshold():
    value, threshold = curves.equal_error_rate(curves.curve_of_scores([0.9, 0.8], [0.1, 0.2]))
    assert value == 0
    assert 0.2 < threshold <= 0.8


def test_one_error_of_four_on_both_sides():
    curve = curves.curve_of_scores([0.9, 0.8, 0.7, 0.2], [0.6, 0.3, 0.1, 0.0])
    assert curves.equal_error_rate(curve)[0] == 0.25


def test_eer_between_two_points_lies_on_the_straight_line():
    # FNMR - FMR is -1/2 at 0.3 and 1/6 at 0.5 (one of two accepted falsely -> none; 1/6 rejected meanwhile)
    curve = curves.curve_of_scores([0.4, 0.9, 0.9, 0.9, 0.9, 0.9], [0.1, 0.4])
    left, right = curves.rates_at(curve, 0.4), curves.rates_at(curve, 0.9)
    assert left == (0.5, 0.0)
    assert right == (0.0, 1 / 6)
    assert curves.equal_error_rate(curve)[0] == pytest.approx(0.125)  # FMR = FNMR on the segment between them


def test_scores_all_equal_and_scores_reversed():
    value, threshold = curves.equal_error_rate(curves.curve_of_scores([0.5, 0.5], [0.5]))
    assert (value, threshold) == (0.5, 0.5)
    assert curves.equal_error_rate(curves.curve_of_scores([0.1, 0.2], [0.8, 0.9]))[0] == 1


def test_fmr100_allows_four_false_matches_of_424_and_fmr1000_is_not_measurable():
    curve = curves.curve_of_scores([0.4195] * 10 + [1.0] * 414, np.arange(424) / 1000)
    value, threshold = curves.fnmr_at_fmr(curve, 0.01)
    assert value == 0
    assert (np.arange(424) / 1000 >= threshold).sum() == 4
    assert curves.fnmr_at_fmr(curve, 0.001) == (None, None)


def test_exactly_one_false_match_is_measurable_although_a_tenth_is_no_binary_number():
    curve = curves.curve_of_scores([0.5], np.linspace(-1, 0, 1000))
    assert curves.fnmr_at_fmr(curve, 0.001)[0] == 0
    assert curves.fnmr_at_fmr(curves.curve_of_scores([0.5], np.linspace(-1, 0, 999)), 0.001) == (None, None)


def test_ties_at_the_top_leave_no_threshold_but_one_that_rejects_all():
    curve = curves.curve_of_scores([1.0, 1.0], [1.0] * 5 + [0.0] * 95)
    value, threshold = curves.fnmr_at_fmr(curve, 0.01)
    assert value == 1
    assert np.isfinite(threshold)
    assert threshold > 1


@pytest.mark.parametrize("fmr", [0, -0.1, 1.5, float("nan")])
def test_an_impossible_operating_point_is_refused(fmr):
    with pytest.raises(ValueError, match="operating point"):
        curves.fnmr_at_fmr(curves.curve_of_scores([1.0], [0.0]), fmr)


@pytest.mark.parametrize("side", ["genuine", "impostor"])
def test_an_empty_side_is_named(side):
    scores = {"genuine": [0.5], "impostor": [0.1], side: []}
    with pytest.raises(ValueError, match=f"no {side} scores"):
        curves.curve_of_scores(**scores)
    with pytest.raises(ValueError, match=f"NaN or infinite {side} scores"):
        curves.curve_of_scores(**{**scores, side: [0.1, float("nan")]})


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_curve_is_scikit_learns(seed, ties):
    genuine, impostor = random_scores(seed, ties)
    labels = np.repeat([1, 0], [len(genuine), len(impostor)])
    curve = curves.curve_of_scores(genuine, impostor)
    false, true, thresholds = roc_curve(labels, np.concatenate([genuine, impostor]), drop_intermediate=False)
    np.testing.assert_allclose(curve.thresholds[:-1][::-1], thresholds[1:])
    np.testing.assert_allclose(curve.fmr[::-1], false, atol=1e-12)
    np.testing.assert_allclose(1 - curve.fnmr[::-1], true, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rates_at_thresholds_are_scikit_learns_det_curve(seed):
    genuine, impostor = random_scores(seed, ties=True)
    labels = np.repeat([1, 0], [len(genuine), len(impostor)])
    curve = curves.curve_of_scores(genuine, impostor)
    for fmr, fnmr, threshold in zip(*det_curve(labels, np.concatenate([genuine, impostor])), strict=True):
        assert curves.rates_at(curve, threshold) == pytest.approx((fmr, fnmr))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("fmr", [0.01, 0.05, 0.2, 1.0])
def test_fnmr_at_fmr_is_the_best_of_all_thresholds(fmr, ties):
    genuine, impostor = random_scores(3, ties)
    possible = [-np.inf, *genuine, *impostor, np.inf]
    best = min(float((genuine < t).mean()) for t in possible if (impostor >= t).mean() <= fmr)
    value, threshold = curves.fnmr_at_fmr(curves.curve_of_scores(genuine, impostor), fmr)
    assert value == pytest.approx(best)
    assert (impostor >= threshold).mean() <= fmr
    assert (genuine < threshold).mean() == pytest.approx(value)


def test_rates_at_any_threshold():
    curve = curves.curve_of_scores([0.9, 0.5, 0.2], [0.5, 0.4, 0.0, -0.3])
    assert curves.rates_at(curve, 0.5) == (0.25, pytest.approx(1 / 3))  # a score equal to the threshold is accepted
    assert curves.rates_at(curve, 0.45) == (0.25, pytest.approx(1 / 3))
    assert curves.rates_at(curve, -5.0) == (1.0, 0.0)
    assert curves.rates_at(curve, 5.0) == (0.0, 1.0)
