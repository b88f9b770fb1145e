"""Statistical power: the smallest difference that a number of seeds shows, and the seeds that a difference needs.

A paired difference of two stages has two variances: over the test people, which more seeds do not lower, and over the
seeds, which falls with their number S: v_people + v_seed / S, with Satterthwaite's (1946) degrees of freedom, as in
``uncertainty``. A difference counts as shown when its interval lies wholly on its own side of zero. The probability of
that is the mean of Phi((size - t * error) / sigma) over the errors that a study of this design would estimate: those
of the two variances, each a chi-square with its degrees of freedom. This is exact for normal estimates; the usual
noncentral t is not when the variance comes from two or three seeds.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import scipy
from scipy import special

from maskinv_lib.evaluation.evaluate import Case, Evaluation, Evaluations
from maskinv_lib.evaluation.uncertainty import paired_difference, pairs, seed_differences
from maskinv_lib.utils import checks

MOST = 200
"""The largest number of seeds that a plan considers."""

SIZES = (0.005, 0.01, 0.02)
"""Differences to plan for, fixed in advance: half a percentage point, one and two."""


@lru_cache
def _draws(freedom: int, count: int) -> np.ndarray:
    """Return [count] equally likely values of chi-square / freedom, without touching a random generator."""
    return 2 * special.gammaincinv(freedom / 2, (np.arange(count) + 0.5) / count) / freedom


def _half_widths(seeds: int, over_identities: float, over_seeds_sd: float, identities: int, level: float) -> np.ndarray:
    """Return half the interval's width in equally likely studies of this design, float64 [64, 9]."""
    checks.whole_number("The number of seeds", seeds, 2)
    checks.whole_number("The number of identities", identities, 2)
    for name, value in (("variance over identities", over_identities), ("deviation over seeds", over_seeds_sd)):
        checks.number(f"The {name}", value)
    people = over_identities * _draws(identities - 1, 9)
    seed = over_seeds_sd**2 / seeds * _draws(seeds - 1, 64)[:, None]
    total = people + seed
    if not over_identities + over_seeds_sd:
        return total
    share = people / total
    freedom = 1 / (share**2 / (identities - 1) + (1 - share) ** 2 / (seeds - 1))
    return special.stdtrit(freedom, 0.5 + level / 2) * np.sqrt(total)


def chance(
    size: float, seeds: int, over_identities: float, over_seeds_sd: float, identities: int, *, level: float = 0.95
) -> float:
    """Return the probability that a true difference of ``size`` is shown: its interval lies on its own side of zero.

    size: of either sign. over_identities: variance of the difference over resampled identities (of the mean of all
    seeds). over_seeds_sd: standard deviation of the difference over seeds. seeds: at least 2.
    """
    half_widths = _half_widths(seeds, over_identities, over_seeds_sd, identities, level)
    return _chance(abs(size), half_widths, math.sqrt(over_identities + over_seeds_sd**2 / seeds))


def _chance(size: float, half_widths: np.ndarray, error: float) -> float:
    if error == 0:
        return float(size > 0)
    return float(special.ndtr((size - half_widths) / error).mean())


def smallest_difference(
    seeds: int,
    over_identities: float,
    over_seeds_sd: float,
    identities: int,
    power: float = 0.8,
    level: float = 0.95,
) -> float:
    """Return the smallest true difference that ``seeds`` seeds show with probability ``power`` (0 without variance)."""
    _checked(power, level)
    half_widths = _half_widths(seeds, over_identities, over_seeds_sd, identities, level)
    error = math.sqrt(over_identities + over_seeds_sd**2 / seeds)
    if error == 0:
        return 0.0
    largest = float(half_widths.max()) / error + 10  # in standard errors, as the root is sought
    root = scipy.optimize.brentq(lambda size: _chance(size, half_widths / error, 1.0) - power, -10.0, largest)
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
    """Return the fewest seeds, of 2 to ``most``, that show a difference of ``size`` with probability ``power``.

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
    """Return how many times as many test people show a difference of ``size`` with ``most`` seeds, at least 1.

    The variance over identities falls as 1 / people. Infinite where the variance over seeds alone is too large.
    """
    _checked(power, level)

    def shortfall(doublings: float) -> float:
        people = round(identities * 2**doublings)
        return power - chance(size, most, over_identities / 2**doublings, over_seeds_sd, people, level=level)

    if shortfall(0.0) <= 0:
        return 1.0
    if size == 0 or chance(size, most, 0.0, over_seeds_sd, identities, level=level) <= power:
        return math.inf
    high = next((step for step in range(1, 40) if shortfall(step) <= 0), None)
    return math.inf if high is None else 2.0 ** float(scipy.optimize.brentq(shortfall, high - 1, high, xtol=1e-4))


def _checked(power: float, level: float) -> None:
    for name, value in (("power", power), ("level", level)):
        if not 0 < checks.fraction(f"The {name}", value) < 1:
            raise ValueError(f"The {name} must lie between 0 and 1, such as 0.8, not {value}.")


def variances(stage: Sequence[Evaluation], against: Sequence[Evaluation], metric: str) -> tuple[float, float, int]:
    """Return (variance over identities, standard deviation over seeds, identities) of stage - against.

    Both hold the same seeds in the same order, two or more. The variance over identities is that of the seeds' mean,
    not below the floor that ``paired_difference`` sets where errors are few. Both parts contain some of the interaction
    of seeds and people, so plans made with them give too many seeds rather than too few. Raises ValueError with
    fewer than two seeds or where the metric is not measurable.
    """
    if len(stage) < 2:
        raise ValueError(f"The variance over seeds needs two seeds or more, not {len(stage)}: train further seeds.")
    interval = paired_difference(stage, against, metric)
    if interval is None:
        raise ValueError(f"{metric} is not measurable in every seed of both stages: plan with another metric.")
    over_seeds = float(np.var(seed_differences(stage, against, metric), ddof=1))
    return max(0.0, interval.error**2 - over_seeds / len(stage)), math.sqrt(over_seeds), stage[0].identities


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a difference of ``size``, a fraction, needs to be shown: seeds, or None and ``people`` times the people."""

    size: float
    seeds: int | None
    people: float


@dataclass(frozen=True, kw_only=True)
class Prospect:
    """The power of a contrast under one condition, and what smaller differences would need.

    difference: observed, stage - against. smallest: the smallest true difference that these seeds show. over_identities
    and over_seeds_sd: see ``variances``. needs: for sizes fixed in advance; observed: for the observed size, which is
    as uncertain as its interval says.
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
    results = []
    for (stage, against), case in product(contrasts, cases):
        seeds, ours, theirs = pairs(evaluations, stage, against, case)
        if len(seeds) > 1 and paired_difference(ours, theirs, metric) is not None:
            names = {"stage": stage, "against": against, "case": case, "metric": metric, "seeds": len(seeds)}
            results.append(Prospect(**names, **_numbers(ours, theirs, metric, sizes, power=power, level=level)))
    return results


def _numbers(
    stage: Sequence[Evaluation], against: Sequence[Evaluation], metric: str, sizes: Sequence[float], **settings: float
) -> dict[str, object]:
    """Return the numbers of a prospect; settings: power and level."""
    over_identities, over_seeds_sd, identities = variances(stage, against, metric)
    spread = {"over_identities": over_identities, "over_seeds_sd": over_seeds_sd, "identities": identities}
    difference = float(seed_differences(stage, against, metric).mean())

    def need(size: float) -> Need:
        design = {**spread, **settings, "size": size}
        return Need(size=size, seeds=seeds_needed(**design), people=people_needed(**design))

    smallest = smallest_difference(len(stage), **spread, **settings)
    needs = tuple(need(size) for size in sizes)
    return {**spread, "difference": difference, "smallest": smallest, "needs": needs, "observed": need(abs(difference))}
