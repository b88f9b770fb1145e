"""The conditions of a benchmark are evaluated as each would be alone, at thresholds of its unmasked pairs."""

import numpy as np

from maskinv_lib.evaluation.benchmarks.drawn import DrawnSet
from maskinv_lib.evaluation.conditions import evaluate_conditions
from maskinv_lib.evaluation.evaluate import evaluate
from maskinv_lib.evaluation.metrics import fnmr_at_fmr
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
