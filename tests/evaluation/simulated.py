"""Comparisons and evaluations drawn from known distributions, so that the tests know the true values."""

import numpy as np
from scipy import stats

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.evaluation.evaluate import Evaluation
from maskinv_lib.evaluation.metrics import Metric


def population(identities=40, views=3, stages=2, seeds=4, *, generator, gain=0.4, seed_spread=0.15, person_spread=0.6):
    """Return {(stage, seed): Comparisons}; the people are the same for all stages and seeds.

    A genuine score is 2 + gain * stage + seed effect + person effect + noise, an impostor score the sum of two person
    effects + noise.
    """
    easy, alike = generator.normal(size=(2, identities)) * person_spread  # genuine and impostor effects of a person
    person = np.repeat(np.arange(identities), views)
    upper = np.triu_indices(identities, 1)
    first, second = (np.concatenate([person, side]).astype(np.int32) for side in upper)
    comparisons = {}
    for stage in range(stages):
        for seed in range(seeds):
            shift = 2 + gain * stage + generator.normal() * seed_spread
            genuine = shift + easy[person] + generator.normal(size=len(person))
            impostor = alike[np.stack(upper)].sum(0) / np.sqrt(2) + generator.normal(size=len(upper[0]))
            scores = np.concatenate([genuine, impostor]).astype(np.float32)
            labels = {"genuine": first == second, "first": first, "second": second}
            comparisons[stage, seed] = Comparisons(scores=scores, **labels)
    return comparisons


def true_eer(stage, *, gain=0.4, seed_spread=0.15, person_spread=0.6):
    """Return the expected EER of a stage, over all people and seeds: both sides are normal, of equal spread."""
    points, weights = np.polynomial.hermite_e.hermegauss(21)
    spread = 2 * np.sqrt(1 + person_spread**2)
    return float(weights @ stats.norm.cdf(-(2 + gain * stage + seed_spread * points) / spread) / weights.sum())


def evaluation(value, spread=0.002, seed=0, names=("eer", "fmr100")):
    """An evaluation whose metrics are all ``value``, with independent resamples of standard deviation ``spread``."""
    draws = np.random.default_rng(seed).normal(value, spread, 2000)
    metrics = {name: Metric(name=name, value=value, genuine=3200, impostor=800_000) for name in names}
    return Evaluation(
        metrics=metrics,
        resamples={name: draws.astype(np.float32) for name in metrics},
        identities=200,
        fold_error=None,
        threshold=0.3,
        thresholds=np.full(2000, 0.3),
        effective_genuine=1500.0,
        effective_impostor=1e5,
    )


def faces_of(people=60, views=6, width=32, noise=1.5, seed=0, decimals=None):
    """Return (templates float32 [N, D], identities [N] in mixed order); ``decimals`` makes ties."""
    generator = np.random.default_rng(seed)
    identity = generator.permutation(np.repeat(np.arange(people), views))
    templates = np.random.default_rng(99).normal(size=(people, width))[identity]
    templates = templates + noise * generator.normal(size=templates.shape)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    return (templates if decimals is None else templates.round(decimals)).astype(np.float32), identity
