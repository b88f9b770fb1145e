"""Comparisons drawn from known distributions, for the tests of intervals: what is true of them is known."""

import numpy as np
from scipy import stats

from maskinv_lib.evaluation.benchmarks import Comparisons


def population(identities=40, views=3, stages=2, seeds=4, *, generator, gain=0.4, seed_spread=0.15, person_spread=0.6):
    """Return {(stage, seed): Comparisons}; the people are the same for all stages and seeds.

    A genuine score is 2 + gain * stage + seed effect + person effect + noise, an impostor score the sum of two person
    effects + noise.
    """
    easy, alike = generator.normal(size=(2, identities)) * person_spread  # genuine and impostor effects of a person
    person = np.repeat(np.arange(identities), views)
    one, two = np.triu_indices(identities, 1)
    first, second = (np.concatenate([person, side]).astype(np.int32) for side in (one, two))
    found = {}
    for stage in range(stages):
        for seed in range(seeds):
            shift = 2 + gain * stage + generator.normal() * seed_spread
            genuine = shift + easy[person] + generator.normal(size=len(person))
            impostor = (alike[one] + alike[two]) / np.sqrt(2) + generator.normal(size=len(one))
            scores = np.concatenate([genuine, impostor]).astype(np.float32)
            found[stage, seed] = Comparisons(scores=scores, genuine=first == second, first=first, second=second)
    return found


def true_eer(stage, *, gain=0.4, seed_spread=0.15, person_spread=0.6):
    """Return the expected EER of a stage, over all people and seeds: both sides are normal, of equal spread."""
    points, weights = np.polynomial.hermite_e.hermegauss(21)
    spread = 2 * np.sqrt(1 + person_spread**2)
    return float(weights @ stats.norm.cdf(-(2 + gain * stage + seed_spread * points) / spread) / weights.sum())
