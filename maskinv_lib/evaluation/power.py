"""How much a study could have seen: the smallest difference that some seeds show, and the seeds that one would need.

A paired difference of two stages has two variances: over the test people, which no seed lowers, and over the seeds,
which falls with their number S: v_people + v_seed / S, with Satterthwaite's (1946) degrees of freedom, as in
``uncertainty``. A difference counts as shown when its interval lies wholly on its own side of zero. The chance of that
is the mean of Phi((size - t * error) / sigma) over the errors that a study of this design would estimate: those of the
two variances, each a chi-square with its degrees of freedom. This is exact for normal estimates, where the usual
noncentral t is not when two or three seeds carry the variance.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special, stats

from maskinv_lib.evaluation.evaluate import Evaluation
from maskinv_lib.evaluation.rankings import pairs
from maskinv_lib.evaluation.uncertainty import paired_difference
from maskinv_lib.evaluation.verdicts import Case, Evaluations
from maskinv_lib.utils import checks

MOST = 200
"""Seeds beyond which nobody asks."""

SIZES = (0.005, 0.01, 0.02)
"""Differences that a reader may care about: half a point, one and two."""


@lru_cache
def _draws(freedom: int, count: int) -> np.ndarray:
    """Return [count] equally likely values of chi-square / freedom, without touching a random generator."""
    return stats.chi2.ppf((np.arange(count) + 0.5) / count, freedom) / freedom


def _reaches(seeds: int, over_identities: float, over_seeds_sd: float, identities: int, level: float) -> np.ndarray:
    """Return half the interval's width in equally likely studies of this design, float64 [64, 9]."""
    checks.whole_number("The number of seeds", seeds, 2)
    checks.whole_number("The number of identities", identities, 2)
    for name, value in (("variance over identities", over_identities), ("deviation over seeds", over_seeds_sd)):
        if not 0 <= value < math.inf:
            raise ValueError(f"The {name} must be a finite number from 0 up, not {value!r}.")
    people = over_identities * _draws(identities - 1, 9)
    seed = over_seeds_sd**2 / seeds * _draws(seeds - 1, 64)[:, None]
    total = people + seed
    if not over_identities + over_seeds_sd:
        return total
    share = people / total
    freedom = 1 / (share**2 / (identities - 1) + (1 - share) ** 2 / (seeds - 1))
    return stats.t.ppf(0.5 + level / 2, freedom) * np.sqrt(total)


def chance(
    size: float, seeds: int, over_identities: float, over_seeds_sd: float, identities: int, *, level: float = 0.95
) -> float:
    """Return the chance that a true difference of ``size`` is shown: its interval lies on its own side of zero.

    size: of either sign. over_identities: variance of the difference over resampled identities (of the mean of all
    seeds). over_seeds_sd: standard deviation of the difference over seeds. seeds: at least 2.
    """
    reaches = _reaches(seeds, over_identities, over_seeds_sd, identities, level)
    return _chance(abs(size), reaches, math.sqrt(over_identities + over_seeds_sd**2 / seeds))


def _chance(size: float, reaches: np.ndarray, error: float) -> float:
    if error == 0:
        return float(size > 0)
    return float(special.ndtr((size - reaches) / error).mean())


def smallest_difference(
    seeds: int,
    over_identities: float,
    over_seeds_sd: float,
    identities: int,
    power: float = 0.8,
    level: float = 0.95,
) -> float:
    """Return the smallest true difference that ``seeds`` seeds show with a chance of ``power`` (0 without variance)."""
    _checked(power, level)
    reaches = _reaches(seeds, over_identities, over_seeds_sd, identities, level)
    error = math.sqrt(over_identities + over_seeds_sd**2 / seeds)
    if error == 0:
        return 0.0
    largest = float(reaches.max()) / error + 10  # in standard errors, as the root is sought
    root = optimize.brentq(lambda size: _chance(size, reaches / error, 1.0) - power, -10.0, largest)
    return max(0.0, error * float(root))


def seeds_needed(
    over_identities: float,
    over_seeds_sd: float,
    size: float,
    identities: int,
    power: float = 0.8,
    level: float = 0.95,
    most: int = MOST,
) -> int | None:
    """Return the fewest seeds, of 2 to ``most``, that show a difference of ``size`` with a chance of ``power``.

    None where not even ``most`` seeds do: then more test people are needed (``people_needed``).
    """
    _checked(power, level)
    checks.whole_number("The largest number of seeds", most, 2)

    def enough(seeds: int) -> bool:
        return chance(size, seeds, over_identities, over_seeds_sd, identities, level=level) >= power

    if size == 0 or not enough(most):
        return None
    low, high = 1, most  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def people_needed(
    over_identities: float,
    over_seeds_sd: float,
    size: float,
    identities: int,
    power: float = 0.8,
    level: float = 0.95,
    most: int = MOST,
) -> float:
    """Return how many times as many test people show a difference of ``size`` with ``most`` seeds; 1 if these do.

    The variance over identities falls as 1 / people. Infinite where the seeds' share alone hides the difference.
    """
    _checked(power, level)

    def lack(doublings: float) -> float:
        people = round(identities * 2**doublings)
        return power - chance(size, most, over_identities / 2**doublings, over_seeds_sd, people, level=level)

    if lack(0.0) <= 0:
        return 1.0
    if size == 0 or chance(size, most, 0.0, over_seeds_sd, identities, level=level) <= power:
        return math.inf
    high = next((step for step in range(1, 40) if lack(step) <= 0), None)
    return math.inf if high is None else 2.0 ** float(optimize.brentq(lack, high - 1, high, xtol=1e-4))


def _checked(power: float, level: float) -> None:
    for name, value in (("power", power), ("level", level)):
        if not 0 < checks.fraction(f"The {name}", value) < 1:
            raise ValueError(f"The {name} must lie between 0 and 1, such as 0.8, not {value}.")


def variances(stage: Sequence[Evaluation], against: Sequence[Evaluation], metric: str) -> tuple[float, float, int]:
    """Return (variance over identities, standard deviation over seeds, identities) of stage - against.

    Both hold the same seeds in the same order, two or more. The variance over identities is that of the seeds' mean,
    not below the floor that ``paired_difference`` sets where errors are few. Both parts hold some of the interaction
    of seeds and people, so plans made with them ask for too many seeds rather than too few. Raises ValueError with
    fewer than two seeds or where the metric is not measurable.
    """
    if len(stage) < 2:
        raise ValueError(f"The variance over seeds needs two seeds or more, not {len(stage)}: train further seeds.")
    interval = paired_difference(stage, against, metric)
    if interval is None:
        raise ValueError(f"{metric} is not measurable in every seed of both stages: plan with another metric.")
    over_seeds = float(np.var(seed_differences(stage, against, metric), ddof=1))
    return max(0.0, interval.error**2 - over_seeds / len(stage)), math.sqrt(over_seeds), stage[0].identities


def seed_differences(stage: Sequence[Evaluation], against: Sequence[Evaluation], metric: str) -> np.ndarray:
    """Return stage - against seed by seed, float64 [S]."""
    return np.array([a.metrics[metric].value - b.metrics[metric].value for a, b in zip(stage, against, strict=True)])


@dataclass(frozen=True, kw_only=True)
class Need:
    """What it takes to show a difference of ``size``, a fraction: seeds, or None and ``people`` times the people."""

    size: float
    seeds: int | None
    people: float


@dataclass(frozen=True, kw_only=True)
class Prospect:
    """What a contrast under one condition could show, and what it would take to show more.

    difference: observed, stage - against. smallest: the smallest true difference that these seeds show. over_identities
    and over_seeds_sd: see ``variances``. needs: for sizes fixed in advance; observed: for the size that was seen, which
    varies as much as its interval says.
    """

    stage: str
    against: str
    case: Case
    metric: str
    difference: float
    seeds: int
    identities: int
    over_identities: float
    over_seeds_sd: float
    smallest: float
    needs: tuple[Need, ...]
    observed: Need


def prospects(
    evaluations: Evaluations,
    contrasts: Iterable[tuple[str, str]],
    cases: Iterable[Case],
    metric: str = "eer",
    *,
    sizes: Sequence[float] = SIZES,
    power: float = 0.8,
    level: float = 0.95,
) -> list[Prospect]:
    """Return a prospect for each (stage, against) under each case that has two common seeds and can be measured."""
    cases, found = list(cases), []
    for stage, against in contrasts:
        for case in cases:
            seeds, one, other = pairs(evaluations, stage, against, case)
            if len(seeds) > 1 and all(_measured(side, metric) for side in (*one, *other)):
                place = {"stage": stage, "against": against, "case": case, "metric": metric, "seeds": len(seeds)}
                found.append(Prospect(**place, **_numbers(one, other, metric, sizes, power, level)))
    return found


def _measured(evaluation: Evaluation, metric: str) -> bool:
    return metric in evaluation.metrics and evaluation.metrics[metric].value is not None


def _numbers(
    one: Sequence[Evaluation],
    other: Sequence[Evaluation],
    metric: str,
    sizes: Sequence[float],
    power: float,
    level: float,
) -> dict[str, object]:
    over_identities, over_seeds_sd, identities = variances(one, other, metric)
    spread = {"over_identities": over_identities, "over_seeds_sd": over_seeds_sd, "identities": identities}
    difference = float(seed_differences(one, other, metric).mean())
    asked = {"power": power, "level": level}

    def need(size: float) -> Need:
        settings = {**spread, **asked, "size": size}
        return Need(size=size, seeds=seeds_needed(**settings), people=people_needed(**settings))

    smallest = smallest_difference(len(one), **spread, **asked)
    needs = tuple(need(size) for size in sizes)
    return {**spread, "difference": difference, "smallest": smallest, "needs": needs, "observed": need(abs(difference))}
