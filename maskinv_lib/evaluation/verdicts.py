"""The claims of the paper as contrasts fixed before any run, and the verdict that the data give on each.

A claim is supported when its interval lies wholly on the claimed side of its margin under every condition it names,
contradicted when one lies wholly on the other side, else undecided. Other metrics and the mask kinds seen in training
are shown but never decide.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from maskinv_lib.evaluation.evaluate import Evaluation
from maskinv_lib.evaluation.metrics import NOT_MEASURABLE, RATES
from maskinv_lib.evaluation.uncertainty import ONE_NETWORK, Interval, holm, p_value, paired_difference
from maskinv_lib.study.data import UNMASKED

Case = tuple[str, str]
"""(condition, mask kinds): what the two faces of a comparison wear."""

CLEAN: Case = (UNMASKED, "none")
MIXED: Case = ("masked-unmasked", "unseen")
MASKED: Case = ("masked-masked", "unseen")

SUPPORTED, CONTRADICTED, UNDECIDED, NOT_RUN = "supported", "contradicted", "undecided", "not run"


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """stage - against, under each of ``cases``; ``case_against`` where the other side is another condition."""

    stage: str
    against: str
    cases: tuple[Case, ...] = (MIXED, MASKED)
    case_against: Case | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One sentence and what decides it.

    metric: a rate in [0, 1]. lower: whether the difference is claimed to lie below ``margin`` (else above it).
    contrasts: the first decides the claim; with ``any_contrast`` one of them is enough, Holm-adjusted over them.
    """

    number: int
    sentence: str
    contrasts: tuple[Contrast, ...]
    metric: str = "eer"
    margin: float = 0.0
    lower: bool = True
    any_contrast: bool = False


CLAIMS = (
    Claim(
        number=1,
        sentence="Masks hurt a network trained without them.",
        contrasts=(Contrast(stage="elasticface-arc", against="elasticface-arc", cases=(MIXED,), case_against=CLEAN),),
        lower=False,
    ),
    Claim(
        number=2,
        sentence="Training with drawn masks helps.",
        contrasts=(Contrast(stage="elasticface-arc-aug", against="elasticface-arc"),),
    ),
    Claim(
        number=3,
        sentence="Template distillation helps beyond training with drawn masks.",
        contrasts=(
            Contrast(stage="maskinv-lg", against="elasticface-arc-aug"),
            Contrast(stage="maskinv-lambda3000", against="elasticface-arc-aug"),
        ),
        any_contrast=True,
    ),
    Claim(
        number=4,
        sentence="High guidance beats low guidance.",
        contrasts=(
            Contrast(stage="maskinv-lambda3000", against="maskinv-lg"),
            Contrast(stage="maskinv-hg", against="maskinv-lg"),
        ),
    ),
    Claim(
        number=5,
        sentence="The whole recipe gains with one masked face and with two.",
        contrasts=(Contrast(stage="maskinv-hg", against="elasticface-arc"),),
    ),
    Claim(
        number=6,
        sentence="The whole recipe loses less than one point on unmasked faces.",
        contrasts=(Contrast(stage="maskinv-hg", against="elasticface-arc", cases=(CLEAN,)),),
        metric="fmr100",
        margin=0.01,
    ),
)
"""The six claims, in order. ``fmr100`` is the FNMR at FMR 1 %; 0.01 is one point."""

FIRM_SEEDS = 5
"""Seeds that a verdict wants: with fewer it carries a note, because t and the spread of the seeds are uncertain."""

CONTROL = "finetune-clean"
"""The stage that tells fine-tuning from masks, where students start from a published network."""


def claims_of(stages: Sequence[str], stands_for: Mapping[str, str], masks: str = "unseen") -> tuple[Claim, ...]:
    """Return the claims in the words of a profile: its stages, and what its masks are called ("unseen" or "real").

    stands_for: a claim's stage -> the stage that takes its place. Contrasts that become one are named once. Where
    there is a control for fine-tuning, claim 2 is shown against it too, in a second line that does not decide.
    """

    def told(contrast: Contrast) -> Contrast:
        both = {"stage": contrast.stage, "against": contrast.against}
        names = {side: stands_for.get(name, name) for side, name in both.items()}
        cases = tuple((condition, kinds if kinds == "none" else masks) for condition, kinds in contrast.cases)
        return replace(contrast, cases=cases, **names)

    found = []
    for claim in CLAIMS:
        contrasts = tuple(dict.fromkeys(told(contrast) for contrast in claim.contrasts))
        if claim.number == 2 and CONTROL in stages:
            contrasts += (replace(contrasts[0], against=CONTROL),)
        found.append(replace(claim, contrasts=contrasts))
    return tuple(found)


def main_cases(found: Sequence[Case]) -> list[Case]:
    """Return the unmasked case and the two masked ones that decide: real masks, or drawn ones of unseen kinds.

    A benchmark without unmasked pairs, as the protocol of masked sessions is, has the latter two alone.
    """
    masks = "real" if (MIXED[0], "real") in found else "unseen"
    return [case for case in (CLEAN, (MIXED[0], masks), (MASKED[0], masks)) if case in found]


Evaluations = Mapping[tuple[str, int], Mapping[Case, Evaluation]]
"""(stage, seed) -> (condition, mask kinds) -> evaluation, all with the same weights."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One row of ``differences.csv``, column by column; ``p`` and ``note`` are for the notebooks.

    difference, low, high: fractions, unadjusted 95 % interval, None where not run or not measurable. p: two-sided,
    against the claim's margin. p_holm: of the row's contrast, Holm-adjusted over all contrasts of the verdict table:
    the largest p of its conditions; of a contradicted one, for which a single condition is enough, the smallest of
    those against the claim, times the number of all. verdict: of the row's contrast. seeds: how many pairs of trained
    networks.
    """

    profile: str
    claim: int | None
    stage: str
    against: str
    seeds: int
    benchmark: str
    condition: str
    mask_kinds: str
    metric: str
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_holm: float | None = None
    verdict: str = ""
    p: float | None = None
    note: str = ""

    def row(self) -> dict[str, object]:
        """Return the columns of ``differences.csv``."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("p", "note")}


COLUMNS = tuple(field.name for field in fields(Difference) if field.name not in ("p", "note"))
"""The columns of ``differences.csv``."""


def _interval(
    evaluations: Evaluations, contrast: Contrast, case: Case, metric: str, level: float
) -> tuple[int, Interval | None]:
    """Return (number of seeds that both stages have, stage - against over them or None)."""
    other = contrast.case_against or case
    ours = {seed for stage, seed in evaluations if stage == contrast.stage and case in evaluations[stage, seed]}
    theirs = {seed for stage, seed in evaluations if stage == contrast.against and other in evaluations[stage, seed]}
    seeds = sorted(ours & theirs)
    if not seeds:
        return 0, None
    stage = [evaluations[contrast.stage, seed][case] for seed in seeds]
    against = [evaluations[contrast.against, seed][other] for seed in seeds]
    if any(metric not in evaluation.metrics for evaluation in [*stage, *against]):
        return len(seeds), None
    return len(seeds), paired_difference(stage, against, metric, level)


def _row(
    evaluations: Evaluations, claim: Claim, contrast: Contrast, case: Case, metric: str, level: float, names: dict
) -> Difference:
    seeds, interval = _interval(evaluations, contrast, case, metric, level)
    place = {"stage": contrast.stage, "against": contrast.against, "condition": case[0], "mask_kinds": case[1]}
    row = Difference(claim=claim.number, seeds=seeds, metric=metric, **place, **names)
    if interval is None:
        return replace(row, note=NOT_MEASURABLE if seeds else NOT_RUN)
    numbers = {"difference": interval.value, "low": interval.low, "high": interval.high}
    return replace(row, p=p_value(interval, claim.margin), note=interval.note, **numbers)


def _evidence(claim: Claim, rows: Sequence[Difference]) -> tuple[float, float]:
    """Return (p for the claim: the largest, of all conditions; p against it: the smallest, of any condition)."""
    sign = 1 if claim.lower else -1
    inside = [sign * (row.difference - claim.margin) < 0 for row in rows]
    support = max(row.p if right else 1.0 for row, right in zip(rows, inside, strict=True))
    against = min(1.0 if right else row.p for row, right in zip(rows, inside, strict=True))
    return support, against


def _words(claim: Claim, lines: Sequence[Sequence[Difference]], level: float) -> list[str]:
    """Return the verdict on each contrast that has numbers, Holm-adjusted over them where the claim says so."""
    support, against = zip(*(_evidence(claim, rows) for rows in lines), strict=True)
    if claim.any_contrast:
        support, against = holm(support), holm(against)
    return [
        SUPPORTED if p < 1 - level else CONTRADICTED if q < 1 - level else UNDECIDED
        for p, q in zip(support, against, strict=True)
    ]


def _judged(claim: Claim, lines: Sequence[list[Difference]], level: float) -> list[list[Difference]]:
    complete = [rows for rows in lines if all(row.p is not None for row in rows)]
    words = iter(_words(claim, complete, level) if complete else [])
    judged = []
    for rows in lines:
        if rows not in complete:
            word = NOT_RUN if any(row.note == NOT_RUN for row in rows) else UNDECIDED
            judged.append([replace(row, verdict=word) for row in rows])
            continue
        word = next(words)
        if min(row.seeds for row in rows) < 2:
            note = f"{ONE_NETWORK} each: of these networks {word}"
            judged.append([replace(row, verdict=UNDECIDED, note=note) for row in rows])
        else:
            note = f"fewer than {FIRM_SEEDS} seeds" if min(row.seeds for row in rows) < FIRM_SEEDS else ""
            judged.append([replace(row, verdict=word, note=row.note or note) for row in rows])
    return judged


def claim_differences(
    evaluations: Evaluations, *, profile: str, benchmark: str, claims: Sequence[Claim] = CLAIMS, level: float = 0.95
) -> list[Difference]:
    """Return the rows that decide the claims, with verdicts.

    A contrast that lacks a stage, a condition or a common seed is ``not run``. With one seed a verdict is at most
    ``undecided`` and its note says what holds of these networks.
    """
    names = {"profile": profile, "benchmark": benchmark}
    lines, asked = [], []
    for claim in claims:
        rows = [
            [_row(evaluations, claim, contrast, case, claim.metric, level, names) for case in contrast.cases]
            for contrast in claim.contrasts
        ]
        lines += _judged(claim, rows, level)
        asked += [claim] * len(rows)
    tested = [index for index, rows in enumerate(lines) if all(row.p is not None for row in rows)]
    adjusted = dict(zip(tested, holm([_p_of_contrast(asked[index], lines[index]) for index in tested]), strict=True))
    return [replace(row, p_holm=adjusted.get(index)) for index, rows in enumerate(lines) for row in rows]


def _p_of_contrast(claim: Claim, rows: Sequence[Difference]) -> float:
    if rows[0].verdict == CONTRADICTED:
        return min(1.0, len(rows) * _evidence(claim, rows)[1])
    return max(row.p for row in rows)


def in_words(stage: str, against: str) -> str:
    """Return a contrast as tables name it; a stage against itself is compared with its own unmasked pairs."""
    return f"{stage} − {'itself unmasked' if stage == against else against}"


def _cases(evaluations: Evaluations) -> Iterator[Case]:
    yield from dict.fromkeys(case for conditions in evaluations.values() for case in conditions)


def other_differences(
    evaluations: Evaluations, *, profile: str, benchmark: str, claims: Sequence[Claim] = CLAIMS, level: float = 0.95
) -> list[Difference]:
    """Return the claims' contrasts in every other rate and condition that was run: shown, without claim or verdict."""
    names, found = {"profile": profile, "benchmark": benchmark}, []
    decided = {
        (contrast.stage, contrast.against, case, claim.metric)
        for claim in claims
        for contrast in claim.contrasts
        for case in contrast.cases
    }
    within = dict.fromkeys(c for claim in claims for c in claim.contrasts if c.case_against is None)
    for stage, against in dict.fromkeys((contrast.stage, contrast.against) for contrast in within):
        for case in _cases(evaluations):
            for metric in (name for name in RATES if (stage, against, case, name) not in decided):
                contrast = Contrast(stage=stage, against=against, cases=(case,))
                row = _row(evaluations, claims[0], contrast, case, metric, level, names)
                found += [replace(row, claim=None, p=None)] if row.difference is not None else []
    return found


def claim_verdicts(differences: Sequence[Difference], claims: Sequence[Claim] = CLAIMS) -> dict[int, str]:
    """Return the verdict on each claim, by number, from the rows of ``claim_differences``.

    The claim's first contrast decides it. Where one of several is enough: supported if one is, contradicted if all
    that ran are, not run if none was.
    """
    found = {}
    for claim in claims:
        contrasts = claim.contrasts if claim.any_contrast else claim.contrasts[:1]
        pairs = {(contrast.stage, contrast.against) for contrast in contrasts}
        rows = [row for row in differences if row.claim == claim.number and (row.stage, row.against) in pairs]
        words = {row.verdict for row in rows if row.verdict != NOT_RUN}
        found[claim.number] = SUPPORTED if SUPPORTED in words else UNDECIDED if len(words) > 1 else NOT_RUN
        found[claim.number] = words.pop() if len(words) == 1 else found[claim.number]
    return found
