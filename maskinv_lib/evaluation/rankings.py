"""Many methods ranked under one condition: each compared with a reference and with the best, with Holm's adjustment.

A rank says nothing by itself: with few seeds and people, neighbours often do not differ clearly. So each method has
two paired differences, to a reference named in advance and to the best. The best is chosen on the same people that it
is then compared on, so its own value is a little too low by chance, and differences to it are too large (the winner's
curse). Of these differences, "undecided" is the safe reading; "worse" than the best is weaker evidence than "worse"
than the reference.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from maskinv_lib.evaluation.evaluate import Case, Evaluations
from maskinv_lib.evaluation.metrics import RATES, Metric
from maskinv_lib.evaluation.uncertainty import holm, metric_over_seeds, p_value, paired_difference, pairs, seeds_of
from maskinv_lib.evaluation.verdicts import UNDECIDED
from maskinv_lib.utils import checks

BETTER, WORSE = "better", "worse"

ORACLE = "oracle"
"""The note of a stage that uses information which the others may not use: it is listed by its value, without a rank."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A stage minus another over the seeds that both have; a number is None where it cannot be computed.

    against: the other stage, "" where there is none. seeds: how many both have. difference, low, high: fractions, the
    interval at the table's level, unadjusted. p: two-sided, against no difference. p_holm: adjusted over the table.
    word: ``better`` (lower), ``worse`` or ``undecided`` by p_holm; with one common seed at most ``undecided``; "" for
    a stage against itself, without a common seed, or not measurable.
    """

    against: str
    seeds: int = 0
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    word: str = ""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One stage under one condition, among all stages.

    rank: 1 + the number of ranked stages with a lower value; None for oracles and where not measurable. value, low,
    high: mean over the stage's seeds with its interval (``metric_over_seeds``), fractions. note: ``oracle``,
    ``one trained network``, ``not measurable`` or "".
    """

    stage: str
    case: Case
    metric: str
    rank: int | None
    value: float | None
    low: float | None
    high: float | None
    seeds: int
    to_reference: Gap
    to_best: Gap
    note: str = ""


def _gap(evaluations: Evaluations, stage: str, against: str, case: Case, metric: str, level: float) -> Gap:
    seeds, ours, theirs = pairs(evaluations, stage, against, case)
    gap = Gap(against=against, seeds=len(seeds))
    interval = paired_difference(ours, theirs, metric, level) if seeds and stage != against else None
    if interval is None:
        return gap
    return replace(gap, difference=interval.value, low=interval.low, high=interval.high, p=p_value(interval))


def _values(evaluations: Evaluations, case: Case, metric: str, level: float) -> dict[str, tuple[Metric, int]]:
    """Return stage -> (metric over its seeds, number of seeds) of the stages that have the metric under the case."""
    values = {}
    for stage in dict.fromkeys(stage for stage, _ in evaluations):
        parts = [evaluations[stage, seed][case] for seed in seeds_of(evaluations, stage, case)]
        if parts and all(metric in part.metrics for part in parts):
            values[stage] = metric_over_seeds(parts, metric, level), len(parts)
    return values


def _best(values: dict[str, tuple[Metric, int]], oracles: Collection[str]) -> str:
    """Return the stage of lowest mean that is no oracle and has two seeds; of one seed where none has two; "" if none.

    Of equals, the first.
    """
    able = [name for name, (metric, _) in values.items() if name not in oracles and metric.value is not None]
    several = [name for name in able if values[name][1] > 1]
    return min(several or able, key=lambda name: values[name][0].value, default="")


def _worded(gap: Gap, p_holm: float | None, level: float) -> Gap:
    if p_holm is None:
        return gap
    clear = p_holm < 1 - level and gap.seeds > 1
    return replace(gap, p_holm=p_holm, word=(BETTER if gap.difference < 0 else WORSE) if clear else UNDECIDED)


def _adjusted(gaps: dict[tuple[str, str], Gap], level: float) -> dict[tuple[str, str], Gap]:
    """Return the gaps by (stage, against) with p_holm and words; two stages are one comparison, in either order."""
    p_values = {frozenset(pair): gap.p for pair, gap in gaps.items() if gap.p is not None}
    p_holm = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return {pair: _worded(gap, p_holm.get(frozenset(pair)), level) for pair, gap in gaps.items()}


def standings(
    evaluations: Evaluations,
    case: Case,
    reference: str,
    metric: str = "eer",
    oracles: Collection[str] = (),
    *,
    level: float = 0.95,
) -> list[Standing]:
    """Return every stage that was evaluated under a case, the lowest mean first, those not measurable last.

    reference: the stage named in advance that all are compared with. metric: an error rate. oracles: stages that are
    listed but neither ranked nor chosen as the best. The best is the stage of lowest mean among those with two seeds;
    it is chosen on the same data (see the module). Holm's adjustment runs over all differences of the table, each pair
    of stages once. Raises ValueError for a metric that is no rate or a reference without numbers.
    """
    checks.choose("metric to rank by", metric, RATES)
    values = _values(evaluations, case, metric, level)
    checks.choose(f"reference stage under {' '.join(case)}", reference, values)
    best = _best(values, oracles)
    compared = dict.fromkeys((stage, against) for stage in values for against in (reference, best))
    gaps = _adjusted({pair: _gap(evaluations, *pair, case, metric, level) for pair in compared}, level)
    ranked = []
    for stage, (value, seeds) in values.items():
        note = ORACLE if stage in oracles else value.note
        names = {"stage": stage, "case": case, "metric": metric, "rank": _rank(stage, values, oracles), "note": note}
        both = {"to_reference": gaps[stage, reference], "to_best": gaps[stage, best]}
        ranked.append(Standing(**names, value=value.value, low=value.low, high=value.high, seeds=seeds, **both))
    return sorted(ranked, key=lambda standing: (standing.value is None, standing.value or 0.0))


def _rank(stage: str, values: dict[str, tuple[Metric, int]], oracles: Collection[str]) -> int | None:
    own = values[stage][0].value
    if own is None or stage in oracles:
        return None
    others = (metric.value for name, (metric, _) in values.items() if name not in oracles)
    return 1 + sum(value is not None and value < own for value in others)


COLUMNS = (
    "profile",
    "benchmark",
    "condition",
    "mask_kinds",
    "metric",
    "rank",
    "stage",
    "seeds",
    "value",
    "low",
    "high",
    "against",
    "difference",
    "difference_low",
    "difference_high",
    "p_holm",
    "word",
)
"""The columns of ``ranking.csv``. seeds: of the stage; a difference rests on those that both stages have."""


def rows(standings: Sequence[Standing], *, profile: str, benchmark: str) -> list[dict[str, object]]:
    """Return rows of ``ranking.csv``: one against the reference and one against the best; one alone if they are equal.

    A stage against itself has a row without a difference, so that every stage has as many rows.
    """
    table = []
    for standing in standings:
        condition, kinds = standing.case
        case = {"profile": profile, "benchmark": benchmark, "condition": condition, "mask_kinds": kinds}
        own = {name: getattr(standing, name) for name in ("metric", "rank", "stage", "seeds", "value", "low", "high")}
        for gap in dict.fromkeys((standing.to_reference, standing.to_best)):
            bounds = {"difference": gap.difference, "difference_low": gap.low, "difference_high": gap.high}
            table.append({**case, **own, "against": gap.against, **bounds, "p_holm": gap.p_holm, "word": gap.word})
    return table
