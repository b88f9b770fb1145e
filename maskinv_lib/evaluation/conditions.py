"""One network on one benchmark, under every mask condition: scores, error curves and metrics with their resamples."""

from dataclasses import dataclass

import numpy as np

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.evaluation.evaluate import Case, Evaluation, evaluate
from maskinv_lib.evaluation.metrics import ErrorCurve, error_curve
from maskinv_lib.evaluation.resampling import identity_weights
from maskinv_lib.study.data import UNMASKED


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What was measured, by (condition, mask kinds)."""

    evaluations: dict[Case, Evaluation]
    curves: dict[Case, ErrorCurve]
    comparisons: dict[Case, Comparisons]


def evaluate_conditions(
    benchmark: object, templates: dict[str, np.ndarray], *, resamples: int = 2000, threshold_fmr: float = 0.01
) -> Conditions:
    """Evaluate a network's templates on a benchmark (see ``evaluation.benchmarks``) under each of its conditions.

    The threshold that unmasked pairs set at FMR ``threshold_fmr`` is applied to the masked ones. Two networks evaluated
    with as many ``resamples`` of one benchmark are paired.
    """
    weights = identity_weights(benchmark.identities, resamples)
    comparisons = {(condition, kinds): part for condition, kinds, part in benchmark.comparisons(templates)}
    curves = {case: error_curve(part) for case, part in comparisons.items()}
    evaluations: dict[Case, Evaluation] = {}
    for case, part in comparisons.items():
        unmasked = evaluations.get((UNMASKED, "none"))
        options = {"unmasked": unmasked, "curve": curves[case], "threshold_fmr": threshold_fmr}
        evaluations[case] = evaluate(part, weights, **options)
    return Conditions(evaluations=evaluations, curves=curves, comparisons=comparisons)
