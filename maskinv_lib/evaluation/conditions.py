"""One network on one benchmark, under every mask condition: scores, error curves and metrics with their resamples."""

from dataclasses import dataclass

import numpy as np

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.evaluation.benchmarks.all_pairs import AllPairs
from maskinv_lib.evaluation.curves import ErrorCurve
from maskinv_lib.evaluation.evaluate import Case, Evaluation, curve_for, evaluate
from maskinv_lib.evaluation.resampling import identity_weights
from maskinv_lib.study.data import UNMASKED


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What was measured, by (condition, mask kinds)."""

    evaluations: dict[Case, Evaluation]
    curves: dict[Case, ErrorCurve]
    comparisons: dict[Case, Comparisons | AllPairs]


def evaluate_conditions(
    benchmark: object, templates: dict[str, np.ndarray], *, resamples: int = 2000, threshold_fmr: float = 0.01
) -> Conditions:
    """Evaluate a network's templates on a benchmark (see ``evaluation.benchmarks``) under each of its conditions.

    The threshold that unmasked pairs set at FMR ``threshold_fmr`` is applied to the masked ones. Two networks evaluated
    with as many ``resamples`` of one benchmark are paired.
    """
    weights = identity_weights(benchmark.identities, resamples)
    comparisons: dict[Case, Comparisons | AllPairs] = {}
    curves: dict[Case, ErrorCurve] = {}
    evaluations: dict[Case, Evaluation] = {}
    for condition, kinds, part in benchmark.comparisons(templates):
        case, unmasked = (condition, kinds), evaluations.get((UNMASKED, "none"))
        comparisons[case], curves[case] = part, curve_for(part, unmasked=unmasked, threshold_fmr=threshold_fmr)
        options = {"unmasked": unmasked, "curve": curves[case], "threshold_fmr": threshold_fmr}
        evaluations[case] = evaluate(part, weights, **options)
    return Conditions(evaluations=evaluations, curves=curves, comparisons=comparisons)
