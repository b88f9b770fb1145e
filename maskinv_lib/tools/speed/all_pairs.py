"""Error rates of all pairs of many templates, against scikit-learn on the full vector of the scores."""

from functools import partial

import numpy as np
from sklearn.metrics import roc_curve

from maskinv_lib.evaluation.benchmarks.all_pairs import every_pair
from maskinv_lib.evaluation.metrics import FINE_POINTS, Metric, measure
from maskinv_lib.tools.speed.measuring import Row
from maskinv_lib.tools.speed.tasks import SEED, Setting, Task, in_words, threads

GROUP = "all pairs"

EACH = 10
"""Templates of each person."""


def tasks(setting: Setting) -> list[Task]:
    """Return the measurement of this module."""
    return [Task(group=GROUP, name="error rates", run=partial(error_rates, setting))]


def random_templates(count: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return templates, float32 [N, width] of unit length, and their people, int32 [N], ``EACH`` of each."""
    generator = np.random.default_rng(SEED)
    people = (np.arange(count) // EACH).astype(np.int32)
    centres = generator.standard_normal((people[-1] + 1, width), dtype=np.float32)
    templates = centres[people] + 1.5 * generator.standard_normal((count, width), dtype=np.float32)
    return templates / np.linalg.norm(templates, axis=1, keepdims=True), people


def pairs(count: int) -> int:
    """Return how many pairs ``count`` templates have."""
    return count * (count - 1) // 2


def measured(templates: np.ndarray, people: np.ndarray) -> dict[str, Metric]:
    """Return the metrics of all pairs of templates, with the FNMR at FMR 1 %, 0.1 % and 0.01 %."""
    return measure(every_pair(templates, people), operating_points=FINE_POINTS)


def plain_eer(templates: np.ndarray, people: np.ndarray) -> float:
    """Return the equal error rate of all pairs, from scikit-learn's curve: where both rates are nearest."""
    first, second = np.triu_indices(len(templates), 1)
    scores = (templates @ templates.T)[first, second]
    fmr, accepted, _ = roc_curve(people[first] == people[second], scores, drop_intermediate=False)
    nearest = np.argmin(np.abs(fmr - (1 - accepted)))
    return float(fmr[nearest] + 1 - accepted[nearest]) / 2


def error_rates(setting: Setting) -> list[Row]:
    """Return the speed of the error rates of all pairs."""
    sizes = setting.sizes
    ours, fewer = (random_templates(count, sizes.width) for count in (sizes.templates, sizes.curve_templates))
    with threads(setting.cores):
        row = setting.rate(
            partial(measured, *ours),
            partial(plain_eer, *fewer),
            amounts=[pairs(sizes.templates), pairs(sizes.curve_templates)],
            group=GROUP,
            name=f"{sizes.templates:,} templates, {sizes.width}-D, {in_words(setting.cores)}",
            unit="comparisons/s",
            against=f"scikit-learn's roc_curve, measured on {sizes.curve_templates:,} templates, per comparison",
        )
    return [row]
