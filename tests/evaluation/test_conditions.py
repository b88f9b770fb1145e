"""The conditions of a benchmark are evaluated as each would be alone, at thresholds of its unmasked pairs."""

import numpy as np
import pytest

from maskinv_lib.evaluation.benchmarks import drawn
from maskinv_lib.evaluation.benchmarks.all_pairs import AllPairs
from maskinv_lib.evaluation.benchmarks.drawn import DrawnSet
from maskinv_lib.evaluation.conditions import evaluate_conditions
from maskinv_lib.evaluation.curves import fnmr_at_fmr
from maskinv_lib.evaluation.evaluate import evaluate
from maskinv_lib.evaluation.resampling import identity_weights
from tests.tools.models import block_templates


def test_each_condition_is_what_evaluate_gives(patterned):
    on = DrawnSet(name="patterns", faces=patterned, kinds=("seen",))
    templates = on.templates(block_templates)
    measured = evaluate_conditions(on, templates, resamples=20, threshold_fmr=0.05)
    weights = identity_weights(on.identities, 20)
    clean = evaluate(measured.comparisons["unmasked-unmasked", "none"], weights, threshold_fmr=0.05)
    case = ("masked-masked", "seen")
    masked = evaluate(measured.comparisons[case], weights, unmasked=clean, threshold_fmr=0.05)
    assert measured.evaluations[case].metrics == masked.metrics
    for name, values in masked.resamples.items():
        assert np.array_equal(measured.evaluations[case].resamples[name], values)
    threshold = fnmr_at_fmr(measured.curves["unmasked-unmasked", "none"], 0.05)[1]
    assert masked.metrics["fmr_at_unmasked_threshold"].threshold == threshold


def test_a_large_set_is_evaluated_without_lists(patterned, monkeypatch):
    on = DrawnSet(name="patterns", faces=patterned, kinds=("seen",))
    templates = on.templates(block_templates)
    listed = evaluate_conditions(on, templates, resamples=50, threshold_fmr=0.05)
    monkeypatch.setattr(drawn, "LISTED", 100)
    tiled = evaluate_conditions(on, templates, resamples=50, threshold_fmr=0.05)
    for case, evaluation in listed.evaluations.items():
        other = tiled.evaluations[case]
        assert isinstance(tiled.comparisons[case], AllPairs)
        assert list(other.metrics) == list(evaluation.metrics)
        assert other.threshold == pytest.approx(evaluation.threshold, abs=1e-6)
        for name, metric in evaluation.metrics.items():
            assert other.metrics[name].value == pytest.approx(metric.value, abs=2e-3, rel=1e-4)
            assert other.resamples[name].mean() == pytest.approx(evaluation.resamples[name].mean(), abs=0.02, rel=1e-2)
