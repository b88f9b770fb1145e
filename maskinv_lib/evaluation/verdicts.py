"""The claims of the paper as contrasts fixed before any run, and the verdict that the data give on each.

A claim is supported when its interval lies wholly on the claimed side of its margin under every condition and metric it
names, contradicted when one interval lies wholly on the other side, else undecided. Other metrics and the mask kinds
seen in training are reported but never decide. Claims 7 to 9 came from the differences of earlier people; like all,
they were written down before the people on whom they are tested were rendered.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product

from maskinv_lib.evaluation.evaluate import Case, Evaluations
from maskinv_lib.evaluation.metrics import NOT_MEASURABLE, RATES
from maskinv_lib.evaluation.uncertainty import ONE_NETWORK, holm, p_value, paired_difference, pairs
from maskinv_lib.study.data import UNMASKED

CLEAN: Case = (UNMASKED, "none")
MIXED: Case = ("masked-unmasked", "unseen")
MASKED: Case = ("masked-masked", "unseen")

SUPPORTED, CONTRADICTED, UNDECIDED, NOT_RUN = "supported", "contradicted", "undecided", "not run"

UNADJUSTED = " (unadjusted)"
"""Follows a verdict that the contrast's own intervals give, but not Holm's adjustment over all contrasts."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """stage - against, under each of ``cases``; ``against`` under ``case_against`` where one is set."""

    stage: str
    against: str
    cases: tuple[Case, ...] = (MIXED, MASKED)
    case_against: Case | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One sentence and what decides it.

    metrics: rates in [0, 1]. lower: whether the difference is claimed to lie below ``margin`` (else above it);
    ``equal``: whether instead between - ``margin`` and ``margin``. contrasts: the first decides the claim; with
    ``any_contrast`` one of them is enough, Holm-adjusted over them.
    """

    number: int
    sentence: str
    contrasts: tuple[Contrast, ...]
    metrics: tuple[str, ...] = ("eer",)
    margin: float = 0.0
    lower: bool = True
    equal: bool = False
    any_contrast: bool = False

    def bound(self, difference: float) -> float:
        """Return the margin that a difference is compared with: of two, the nearer one."""
        return math.copysign(self.margin, difference) if self.equal else self.margin

    def holds(self, difference: float) -> bool:
        """Return whether a difference lies on the claimed side of its margin."""
        if self.equal:
            return abs(difference) < self.margin
        return difference < self.margin if self.lower else difference > self.margin


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
            Contrast(stage="maskinv-hg", against="maskinv-lambda100-continued"),
            Contrast(stage="maskinv-hg", against="maskinv-lambda0-continued"),
            Contrast(stage="maskinv-hg", against="maskinv-lg"),
        ),
    ),
    Claim(
        number=5,
        sentence="The whole recipe gains with one masked face and with two.",
        contrasts=(
            Contrast(stage="maskinv-hg", against="elasticface-arc"),
            Contrast(stage="maskinv-lambda3000", against="elasticface-arc"),
        ),
    ),
    Claim(
        number=6,
        sentence="The whole recipe loses less than one point on unmasked faces.",
        contrasts=(
            Contrast(stage="maskinv-hg", against="elasticface-arc", cases=(CLEAN,)),
            Contrast(stage="maskinv-lambda3000", against="elasticface-arc", cases=(CLEAN,)),
        ),
        metrics=("fmr100",),
        margin=0.01,
    ),
    Claim(
        number=7,
        sentence="On unmasked faces guidance gives back what training with masks costs.",
        contrasts=(Contrast(stage="maskinv-lambda3000", against="elasticface-arc-aug", cases=(CLEAN,)),),
        metrics=("eer", "fmr100"),
    ),
    Claim(
        number=8,
        sentence="A teacher that sees the mask, as in the published code, is a mistake.",
        contrasts=(Contrast(stage="released-masked-teacher", against="maskinv-hg"),),
        lower=False,
    ),
    Claim(
        number=9,
        sentence="Where masks are worn, the upper face alone is as good as the whole recipe, within half a point.",
        contrasts=(Contrast(stage="upper-face", against="maskinv-hg"),),
        margin=0.005,
        equal=True,
    ),
)
"""The claims in order: six of the paper, and three of this study. ``fmr100`` is the FNMR at FMR 1 %; 0.01 is one point.

Claim 9 depends on the renderer, which may put more of a person into the forehead than real faces have there.
"""

FIRM_SEEDS = 5
"""With fewer seeds a verdict carries a note, because t and the standard deviation over seeds are uncertain."""

CONTROL = "finetune-clean"
"""The stage that separates fine-tuning from masks, where students start from a published network."""


def claims_of(stages: Sequence[str], stands_for: Mapping[str, str], masks: str = "unseen") -> tuple[Claim, ...]:
    """Return the claims with the stages of a profile and the name of its masks ("unseen" or "real").

    stands_for: a claim's stage -> the stage that replaces it. Contrasts that become equal are kept once. Where there
    is a control for fine-tuning, claim 2 is reported against it too, in a second contrast that does not decide.
    """

    def renamed(contrast: Contrast) -> Contrast:
        names = {side: getattr(contrast, side) for side in ("stage", "against")}
        cases = tuple((condition, kinds if kinds == "none" else masks) for condition, kinds in contrast.cases)
        return replace(contrast, cases=cases, **{side: stands_for.get(name, name) for side, name in names.items()})

    claims = []
    for claim in CLAIMS:
        contrasts = tuple(dict.fromkeys(renamed(contrast) for contrast in claim.contrasts))
        if claim.number == 2 and CONTROL in stages:
            contrasts += (replace(contrasts[0], against=CONTROL),)
        claims.append(replace(claim, contrasts=contrasts))
    return tuple(claims)


def main_cases(cases: Sequence[Case]) -> list[Case]:
    """Return the unmasked case and the two masked ones that decide: real masks, or drawn ones of unseen kinds.

    A benchmark without unmasked pairs, such as a session protocol with masked probes alone, has only the latter two.
    """
    masks = "real" if (MIXED[0], "real") in cases else "unseen"
    return [case for case in (CLEAN, (MIXED[0], masks), (MASKED[0], masks)) if case in cases]


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
        return {name: getattr(self, name) for name in COLUMNS}


COLUMNS = tuple(field.name for field in fields(Difference) if field.name not in ("p", "note"))
"""The columns of ``differences.csv``."""


def _row(
    evaluations: Evaluations, claim: Claim, contrast: Contrast, case: Case, metric: str, level: float, names: dict
) -> Difference:
    seeds, ours, theirs = pairs(evaluations, contrast.stage, contrast.against, case, contrast.case_against)
    sides = {"stage": contrast.stage, "against": contrast.against, "condition": case[0], "mask_kinds": case[1]}
    row = Difference(claim=claim.number, seeds=len(seeds), metric=metric, **sides, **names)
    if not seeds:
        return replace(row, note=NOT_RUN)
    interval = paired_difference(ours, theirs, metric, level)
    if interval is None:
        return replace(row, note=NOT_MEASURABLE)
    numbers = {"difference": interval.value, "low": interval.low, "high": interval.high}
    return replace(row, p=p_value(interval, claim.bound(interval.value)), note=interval.note, **numbers)


def _evidence(claim: Claim, rows: Sequence[Difference]) -> tuple[float, float]:
    """Return (p for the claim: the largest, of all conditions; p against it: the smallest, of any condition)."""
    on_side = [claim.holds(row.difference) for row in rows]
    support = max(row.p if right else 1.0 for row, right in zip(rows, on_side, strict=True))
    against = min(1.0 if right else row.p for row, right in zip(rows, on_side, strict=True))
    return support, against


def _verdicts(claim: Claim, contrasts: Sequence[Sequence[Difference]], level: float) -> list[str]:
    """Return the verdict on the rows of each contrast, all with numbers, Holm-adjusted where the claim says so."""
    support, against = zip(*(_evidence(claim, rows) for rows in contrasts), strict=True)
    if claim.any_contrast:
        support, against = holm(support), holm(against)
    return [
        SUPPORTED if p < 1 - level else CONTRADICTED if q < 1 - level else UNDECIDED
        for p, q in zip(support, against, strict=True)
    ]


def _complete(rows: Sequence[Difference]) -> bool:
    return all(row.p is not None for row in rows)


def _judged(claim: Claim, contrasts: Sequence[list[Difference]], level: float) -> list[list[Difference]]:
    """Return the rows of each contrast with their verdict and note."""
    complete = [rows for rows in contrasts if _complete(rows)]
    verdicts = iter(_verdicts(claim, complete, level) if complete else [])
    judged = []
    for rows in contrasts:
        if _complete(rows):
            verdict, note = _cautious(next(verdicts), min(row.seeds for row in rows))
        else:
            verdict, note = NOT_RUN if any(row.note == NOT_RUN for row in rows) else UNDECIDED, ""
        judged.append([replace(row, verdict=verdict, note=note or row.note) for row in rows])
    return judged


def _cautious(verdict: str, seeds: int) -> tuple[str, str]:
    """Return (verdict, note) as the number of seeds allows: one seed decides nothing."""
    if seeds < 2:
        return UNDECIDED, f"{ONE_NETWORK} each: of these networks {verdict}"
    return verdict, f"fewer than {FIRM_SEEDS} seeds" if seeds < FIRM_SEEDS else ""


def claim_differences(
    evaluations: Evaluations, *, profile: str, benchmark: str, claims: Sequence[Claim] = CLAIMS, level: float = 0.95
) -> list[Difference]:
    """Return the rows that decide the claims, with verdicts.

    A contrast that lacks a stage, a condition or a common seed is ``not run``. With one seed a verdict is at most
    ``undecided``, and its note gives the verdict on these networks alone.
    """
    names = {"profile": profile, "benchmark": benchmark}
    contrasts = []  # (claim, its rows with verdicts)
    for claim in claims:
        rows = [
            [
                _row(evaluations, claim, contrast, case, metric, level, names)
                for metric, case in product(claim.metrics, contrast.cases)
            ]
            for contrast in claim.contrasts
        ]
        contrasts += [(claim, judged) for judged in _judged(claim, rows, level)]
    tested = {index: _p_of_contrast(*pair) for index, pair in enumerate(contrasts) if _complete(pair[1])}
    p_holm = dict(zip(tested, holm(list(tested.values())), strict=True))
    return [
        _adjusted(replace(row, p_holm=p_holm.get(index)), level)
        for index, (_, rows) in enumerate(contrasts)
        for row in rows
    ]


def _adjusted(row: Difference, level: float) -> Difference:
    """Return a row whose verdict says so where it holds for its own interval, but not after Holm's adjustment."""
    decided = row.verdict in (SUPPORTED, CONTRADICTED)
    return replace(row, verdict=row.verdict + UNADJUSTED) if decided and row.p_holm >= 1 - level else row


def _p_of_contrast(claim: Claim, rows: Sequence[Difference]) -> float:
    if rows[0].verdict == CONTRADICTED:
        return min(1.0, len(rows) * _evidence(claim, rows)[1])
    return max(row.p for row in rows)


def in_words(stage: str, against: str) -> str:
    """Return a contrast as tables name it; a stage against itself is compared with its own unmasked pairs."""
    return f"{stage} − {'itself unmasked' if stage == against else against}"


def other_differences(
    evaluations: Evaluations, *, profile: str, benchmark: str, claims: Sequence[Claim] = CLAIMS, level: float = 0.95
) -> list[Difference]:
    """Return the claims' contrasts in every other rate and condition that was run, without claim or verdict."""
    names, differences = {"profile": profile, "benchmark": benchmark}, []
    contrasts = [(claim, contrast) for claim in claims for contrast in claim.contrasts]
    decided = {
        (c.stage, c.against, case, metric) for claim, c in contrasts for case in c.cases for metric in claim.metrics
    }
    cases = dict.fromkeys(case for conditions in evaluations.values() for case in conditions)
    for stage, against in dict.fromkeys((c.stage, c.against) for _, c in contrasts if c.case_against is None):
        contrast = Contrast(stage=stage, against=against)
        for case, metric in product(cases, RATES):
            if (stage, against, case, metric) not in decided:
                row = _row(evaluations, claims[0], contrast, case, metric, level, names)
                differences += [replace(row, claim=None, p=None)] if row.difference is not None else []
    return differences


def claim_verdicts(differences: Sequence[Difference], claims: Sequence[Claim] = CLAIMS) -> dict[int, str]:
    """Return the verdict on each claim, by number, from the rows of ``claim_differences``.

    The claim's first contrast decides it. Where one of several is enough: supported if one is, contradicted if all
    that ran are, not run if none was.
    """
    verdicts = {}
    for claim in claims:
        contrasts = claim.contrasts if claim.any_contrast else claim.contrasts[:1]
        sides = {(contrast.stage, contrast.against) for contrast in contrasts}
        rows = [row for row in differences if row.claim == claim.number and (row.stage, row.against) in sides]
        verdicts[claim.number] = _of_contrasts({row.verdict for row in rows if row.verdict != NOT_RUN})
    return verdicts


def _of_contrasts(words: set[str]) -> str:
    """Return the verdict on a claim from those on its deciding contrasts that ran."""
    for word in (SUPPORTED, SUPPORTED + UNADJUSTED):
        if word in words:
            return word
    if words == {CONTRADICTED, CONTRADICTED + UNADJUSTED}:
        return CONTRADICTED + UNADJUSTED
    return UNDECIDED if len(words) > 1 else next(iter(words), NOT_RUN)
