"""Many systems under one condition, in order: each against a reference and against the best, with Holm's adjustment.

A place in the order says nothing by itself: neighbours often cannot be told apart with the seeds and people at hand.
So each system carries two paired differences, to a reference named in advance and to the best. The best is picked on
the very people it is then compared on, so its own value is a little too low by luck, and differences to it lean
towards it (the winner's curse): "not told apart from the best" is the safe reading of them, "worse than the best"
says less than the same word against the reference.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from maskinv_lib.evaluation.evaluate import Evaluation
from maskinv_lib.evaluation.metrics import RATES, Metric
from maskinv_lib.evaluation.uncertainty import holm, metric_over_seeds, p_value, paired_difference
from maskinv_lib.evaluation.verdicts import UNDECIDED, Case, Evaluations
from maskinv_lib.utils import checks

BETTER, WORSE = "better", "worse"

ORACLE = "oracle"
"""The note of a stage that was given what the others may not know: shown at its place, without a rank."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A stage minus another, seed by seed over the seeds of both; all numbers are None where there is nothing to say.

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


def pairs(
    evaluations: Evaluations, stage: str, against: str, case: Case
) -> tuple[tuple[int, ...], list[Evaluation], list[Evaluation]]:
    """Return (the seeds that both stages have under a case, ascending; the evaluations of each over them)."""
    ours, theirs = _seeds(evaluations, stage, case), _seeds(evaluations, against, case)
    seeds = tuple(seed for seed in ours if seed in theirs)
    one, other = ([evaluations[name, seed][case] for seed in seeds] for name in (stage, against))
    return seeds, one, other


def _seeds(evaluations: Evaluations, stage: str, case: Case) -> list[int]:
    return sorted(seed for name, seed in evaluations if name == stage and case in evaluations[name, seed])


def _gap(evaluations: Evaluations, stage: str, against: str, case: Case, metric: str, level: float) -> Gap:
    seeds, one, other = pairs(evaluations, stage, against, case)
    gap = Gap(against=against, seeds=len(seeds))
    if stage == against or not seeds or any(metric not in evaluation.metrics for evaluation in [*one, *other]):
        return gap
    found = paired_difference(one, other, metric, level)
    if found is None:
        return gap
    return replace(gap, difference=found.value, low=found.low, high=found.high, p=p_value(found))


def _values(evaluations: Evaluations, case: Case, metric: str, level: float) -> dict[str, tuple[Metric, int]]:
    """Return stage -> (metric over its seeds, how many); only stages that have the metric under the case."""
    found = {}
    for stage in dict.fromkeys(stage for stage, _ in evaluations):
        parts = [evaluations[stage, seed][case] for seed in _seeds(evaluations, stage, case)]
        if parts and all(metric in part.metrics for part in parts):
            found[stage] = metric_over_seeds(parts, metric, level), len(parts)
    return found


def _best(values: dict[str, tuple[Metric, int]], oracles: Collection[str]) -> str:
    """Return the stage of lowest mean that is no oracle and has two seeds; of one seed where none has two; "" if none.

    Of equals, the first.
    """
    able = {name: one for name, one in values.items() if name not in oracles and one[0].value is not None}
    several = {name: one for name, one in able.items() if one[1] > 1}
    return min(several or able, key=lambda name: able[name][0].value, default="")


def _worded(gap: Gap, p_holm: float | None, level: float) -> Gap:
    if p_holm is None:
        return gap
    clear = p_holm < 1 - level and gap.seeds > 1
    return replace(gap, p_holm=p_holm, word=(BETTER if gap.difference < 0 else WORSE) if clear else UNDECIDED)


def _adjusted(gaps: dict[tuple[str, str], Gap], level: float) -> dict[tuple[str, str], Gap]:
    """Return the gaps by (stage, against) with p_holm and words; two stages are one comparison, whichever is first."""
    found = {frozenset(pair): gap.p for pair, gap in gaps.items() if gap.p is not None}
    p_holm = dict(zip(found, holm(list(found.values())), strict=True))
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
    shown at their place but neither ranked nor taken for the best. The best is the stage of lowest mean among those
    with two seeds; it was picked on the same data (see the module). Holm's adjustment runs over all differences of the
    table, each pair of stages once. Raises ValueError for a metric that is no rate or a reference without numbers.
    """
    checks.choose("metric to rank by", metric, RATES)
    values = _values(evaluations, case, metric, level)
    checks.choose(f"reference stage under {' '.join(case)}", reference, values)
    best = _best(values, oracles)
    wanted = {(stage, against): None for stage in values for against in (reference, best)}
    gaps = _adjusted({pair: _gap(evaluations, *pair, case, metric, level) for pair in wanted}, level)
    found = []
    for stage, (value, seeds) in values.items():
        note = ORACLE if stage in oracles else value.note
        place = {"stage": stage, "case": case, "metric": metric, "rank": _rank(stage, values, oracles), "note": note}
        both = {"to_reference": gaps[stage, reference], "to_best": gaps[stage, best]}
        found.append(Standing(**place, value=value.value, low=value.low, high=value.high, seeds=seeds, **both))
    return sorted(found, key=lambda one: (one.value is None, one.value or 0.0))


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
    """Return rows of ``ranking.csv``: a line for the reference and one for the best, one alone where they are one.

    A stage against itself has a line without a difference, so that every stage has as many lines.
    """
    found = []
    for one in standings:
        place = {"profile": profile, "benchmark": benchmark, "condition": one.case[0], "mask_kinds": one.case[1]}
        own = {name: getattr(one, name) for name in ("metric", "rank", "stage", "seeds", "value", "low", "high")}
        for gap in dict.fromkeys((one.to_reference, one.to_best)):
            bounds = {"difference": gap.difference, "difference_low": gap.low, "difference_high": gap.high}
            found.append({**place, **own, "against": gap.against, **bounds, "p_holm": gap.p_holm, "word": gap.word})
    return found
