"""An evaluation holds the same metrics in the data and in every resample."""

import numpy as np
import pytest

from maskinv_lib.evaluation import metrics
from maskinv_lib.evaluation.evaluate import evaluate
from maskinv_lib.evaluation.resampling import identity_weights
from tests.evaluation.simulated import population

CLEAN, MASKED = ("unmasked-unmasked", "none"), ("masked-masked", "unseen")


@pytest.fixture(scope="module")
def conditions():
    people = population(60, stages=2, seeds=1, generator=np.random.default_rng(0), gain=-0.8)
    return {CLEAN: people[0, 0], MASKED: people[1, 0]}


@pytest.fixture(scope="module")
def weights():
    return identity_weights(60, 200)


@pytest.fixture(scope="module")
def evaluations(conditions, weights):
    clean = evaluate(conditions[CLEAN], weights, threshold_fmr=0.05)
    return {CLEAN: clean, MASKED: evaluate(conditions[MASKED], weights, unmasked=clean)}


def test_values_are_those_of_the_metrics_module(conditions, evaluations):
    threshold = metrics.fnmr_at_fmr(metrics.error_curve(conditions[CLEAN]), 0.05)[1]
    assert evaluations[CLEAN].metrics == metrics.measure(conditions[CLEAN])
    assert evaluations[MASKED].metrics == metrics.measure(conditions[MASKED], threshold)
    assert evaluations[CLEAN].threshold == threshold


def test_the_threshold_that_is_applied_to_masked_pairs_has_an_fmr_of_one_percent(conditions, weights):
    clean = evaluate(conditions[CLEAN], weights)
    impostors = np.sort(conditions[CLEAN].scores[~conditions[CLEAN].genuine])[::-1]
    assert (impostors >= clean.threshold).sum() == int(0.01 * len(impostors))
    masked = evaluate(conditions[MASKED], weights, unmasked=clean)
    genuine = conditions[MASKED].scores[conditions[MASKED].genuine]
    assert masked.metrics["fnmr_at_unmasked_threshold"].value == (genuine < clean.threshold).mean()


def test_resamples_scatter_around_the_value(evaluations):
    for evaluation in evaluations.values():
        for name, values in evaluation.resamples.items():
            assert values.shape == (200,)
            assert values.dtype == np.float32
            assert abs(values.mean() - evaluation.metrics[name].value) < values.std()


def test_the_unmasked_threshold_is_chosen_again_in_each_resample(conditions, weights, evaluations):
    chosen = evaluations[CLEAN].thresholds
    assert chosen.std() > 0
    masked = conditions[MASKED]
    for index in (0, 7):
        weight = weights[index][masked.first]
        rejected = masked.scores[masked.genuine] < chosen[index]
        expected = np.average(rejected, weights=weight[masked.genuine])
        assert evaluations[MASKED].resamples["fnmr_at_unmasked_threshold"][index] == pytest.approx(expected, abs=0.01)


def test_a_curve_computed_before_changes_nothing(conditions, weights, evaluations):
    curve = metrics.error_curve(conditions[CLEAN])
    evaluation = evaluate(conditions[CLEAN], weights, threshold_fmr=0.05, curve=curve)
    assert evaluation.metrics == evaluations[CLEAN].metrics
    np.testing.assert_array_equal(evaluation.resamples["eer"], evaluations[CLEAN].resamples["eer"])


def test_a_threshold_that_cannot_be_fixed_leaves_its_metrics_unmeasurable(conditions, weights):
    clean = evaluate(conditions[CLEAN], weights, threshold_fmr=1e-6)
    evaluation = evaluate(conditions[MASKED], weights, unmasked=clean)
    assert clean.threshold is None
    for name in ("fnmr_at_unmasked_threshold", "fmr_at_unmasked_threshold"):
        assert evaluation.metrics[name].value is None
        assert evaluation.metrics[name].note == "not measurable"


def test_effective_sizes_lie_between_people_and_comparisons(conditions, evaluations):
    assert 30 < evaluations[CLEAN].effective_genuine < conditions[CLEAN].genuine.sum()
    assert 60 < evaluations[CLEAN].effective_impostor <= (~conditions[CLEAN].genuine).sum()


def test_weights_must_cover_the_identities(conditions):
    with pytest.raises(ValueError, match="Weights for 59 identities, comparisons of 60"):
        evaluate(conditions[CLEAN], identity_weights(59, 10))
