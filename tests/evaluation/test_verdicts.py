"""Verdicts on the claims, from evaluations with a known difference."""

from zlib import crc32

import numpy as np
import pytest

from maskinv_lib.evaluation import verdicts
from maskinv_lib.evaluation.evaluate import Evaluation
from maskinv_lib.evaluation.metrics import Metric
from maskinv_lib.evaluation.verdicts import (
    CLAIMS,
    CLEAN,
    MASKED,
    MIXED,
    claim_differences,
    claim_verdicts,
    other_differences,
)

ARC, AUG, LOW, HIGH, FULL = "elasticface-arc", "elasticface-arc-aug", "maskinv-lg", "maskinv-lambda3000", "maskinv-hg"
NAMES = {"profile": "smoke", "benchmark": "rendered"}


def evaluation(value, spread=0.002, seed=0, metrics=("eer", "fmr100")):
    """An evaluation whose metrics are all ``value``, with independent resamples of standard deviation ``spread``."""
    draws = np.random.default_rng(seed).normal(value, spread, 2000)
    found = {name: Metric(name=name, value=value, genuine=3200, impostor=800_000) for name in metrics}
    return Evaluation(
        metrics=found,
        resamples={name: draws.astype(np.float32) for name in found},
        identities=200,
        fold_error=None,
        threshold=0.3,
        thresholds=np.full(2000, 0.3),
        effective_genuine=1500.0,
        effective_impostor=1e5,
    )


def study(levels, seeds=5, **settings):
    """{stage: {case: value}} -> evaluations, each seed a little off in its own direction."""
    return {
        (stage, seed): {
            case: evaluation(value + 1e-4 * (seed - 2), seed=crc32(repr((stage, seed, case)).encode()), **settings)
            for case, value in cases.items()
        }
        for stage, cases in levels.items()
        for seed in range(seeds)
    }


def ladder(**changed):
    levels = {
        ARC: {CLEAN: 0.02, MIXED: 0.12, MASKED: 0.15},
        AUG: {CLEAN: 0.03, MIXED: 0.08, MASKED: 0.08},
        LOW: {CLEAN: 0.03, MIXED: 0.06, MASKED: 0.06},
        HIGH: {CLEAN: 0.03, MIXED: 0.04, MASKED: 0.04},
        FULL: {CLEAN: 0.02, MIXED: 0.05, MASKED: 0.05},
    }
    return levels | {name.replace("_", "-"): cases for name, cases in changed.items()}


def words(evaluations, **settings):
    return claim_verdicts(claim_differences(evaluations, **NAMES, **settings))


def test_the_six_claims_are_contrasts_with_fixed_endpoints():
    assert [claim.number for claim in CLAIMS] == [1, 2, 3, 4, 5, 6]
    assert {claim.metric for claim in CLAIMS[:5]} == {"eer"}
    assert (CLAIMS[5].metric, CLAIMS[5].margin) == ("fmr100", 0.01)
    assert [claim.any_contrast for claim in CLAIMS] == [False, False, True, False, False, False]
    assert {kinds for claim in CLAIMS for c in claim.contrasts for _, kinds in c.cases} == {"unseen", "none"}


def test_a_ladder_that_does_all_it_should_supports_every_claim():
    assert set(words(study(ladder())).values()) == {"supported"}


def test_rows_carry_the_differences_and_the_columns_of_the_table():
    rows = claim_differences(study(ladder()), **NAMES)
    assert len(rows) == 1 + 2 + 4 + 4 + 2 + 1
    assert list(rows[0].row()) == list(verdicts.COLUMNS)
    first = rows[0]
    assert (first.condition, first.mask_kinds, first.seeds) == ("masked-unmasked", "unseen", 5)
    assert first.difference == pytest.approx(0.10)
    assert first.low < 0.10 < first.high
    high_low = [row for row in rows if row.claim == 4]
    assert [row.stage for row in high_low] == [HIGH, HIGH, FULL, FULL]


def test_an_effect_on_the_other_side_contradicts():
    found = words(study(ladder(**{AUG: {CLEAN: 0.03, MIXED: 0.16, MASKED: 0.19}})))
    assert found[2] == "contradicted"


def test_both_conditions_must_hold_and_one_on_the_other_side_contradicts():
    level = ladder()[ARC][MASKED]
    assert words(study(ladder(**{AUG: {MIXED: 0.08, MASKED: level}})))[2] == "undecided"
    assert words(study(ladder(**{AUG: {MIXED: 0.08, MASKED: level + 0.03}})))[2] == "contradicted"


def test_claim_three_needs_one_of_two_contrasts():
    rows = claim_differences(study(ladder(**{LOW: ladder()[AUG]})), **NAMES)
    assert [row.verdict for row in rows if row.claim == 3] == ["undecided"] * 2 + ["supported"] * 2
    assert claim_verdicts(rows)[3] == "supported"
    worse = {MIXED: 0.12, MASKED: 0.12}
    assert words(study(ladder(**{LOW: worse, HIGH: worse})))[3] == "contradicted"
    assert words(study(ladder(**{LOW: worse, HIGH: ladder()[AUG]})))[3] == "undecided"


def test_claim_three_is_adjusted_over_its_two_contrasts():
    claim = CLAIMS[2]
    line = [
        [
            verdicts.Difference(
                claim=3,
                stage=stage,
                against=AUG,
                seeds=5,
                condition="",
                mask_kinds="",
                metric="eer",
                difference=-0.01,
                p=p,
                **NAMES,
            )
            for _ in range(2)
        ]
        for stage, p in ((LOW, 0.03), (HIGH, 0.2))
    ]
    assert verdicts._words(claim, line, 0.95) == ["undecided", "undecided"]  # 2 x 0.03 > 0.05
    line[1] = [verdicts.replace(row, p=0.04) for row in line[1]]
    line[0] = [verdicts.replace(row, p=0.02) for row in line[0]]
    assert verdicts._words(claim, line, 0.95) == ["supported", "supported"]
    assert verdicts._words(CLAIMS[3], [[verdicts.replace(row, p=0.03) for row in line[0]]], 0.95) == ["supported"]


def test_p_holm_runs_over_all_contrasts_by_hand():
    rows = claim_differences(study(ladder(**{LOW: ladder()[AUG]})), **NAMES)
    lines = {}
    for row in rows:
        lines.setdefault((row.claim, row.stage), []).append(row)
    largest = {line: max(row.p for row in some) for line, some in lines.items()}
    weakest = max(largest, key=largest.get)
    assert weakest == (3, LOW)
    assert all(row.p_holm == pytest.approx(largest[weakest]) for row in lines[weakest])  # the last step's factor is 1
    strongest = min(largest, key=largest.get)
    assert lines[strongest][0].p_holm == pytest.approx(8 * largest[strongest])


@pytest.mark.parametrize(("seeds", "note"), [(5, ""), (3, "fewer than 5 seeds")])
def test_verdicts_from_fewer_than_five_seeds_say_so(seeds, note):
    rows = claim_differences(study(ladder(), seeds=seeds), **NAMES)
    assert {row.note for row in rows if row.claim == 2} == {note}


def test_p_of_a_contradicted_contrast_is_that_of_the_condition_which_contradicts_it():
    level = ladder()[ARC]
    rows = claim_differences(study(ladder(**{AUG: {MIXED: 0.08, MASKED: level[MASKED] + 0.1}})), **NAMES)
    two = [row for row in rows if row.claim == 2]
    assert {row.verdict for row in two} == {"contradicted"}
    mixed, masked = two
    two = [verdicts.replace(mixed, p=1e-9), verdicts.replace(masked, p=0.01)]  # the first speaks for the claim
    assert mixed.difference < 0 < masked.difference
    assert verdicts._p_of_contrast(CLAIMS[1], two) == pytest.approx(0.02)
    supported = [verdicts.replace(row, verdict="supported") for row in two]
    assert verdicts._p_of_contrast(CLAIMS[1], supported) == 0.01


@pytest.mark.parametrize(
    ("clean", "word"), [(0.02, "supported"), (0.025, "supported"), (0.03, "undecided"), (0.06, "contradicted")]
)
def test_claim_six_is_a_non_inferiority_within_one_point(clean, word):
    assert words(study(ladder(**{FULL: {CLEAN: clean, MIXED: 0.05, MASKED: 0.05}})))[6] == word


def test_one_seed_is_at_most_undecided_and_the_note_speaks_of_these_networks():
    rows = claim_differences(study(ladder(), seeds=1), **NAMES)
    assert set(claim_verdicts(rows).values()) == {"undecided"}
    assert rows[0].note == "one trained network each: of these networks supported"
    assert rows[0].low is not None


def test_missing_stages_leave_their_claims_out():
    levels = {stage: cases for stage, cases in ladder().items() if stage in (ARC, AUG)}
    rows = claim_differences(study(levels), **NAMES)
    assert claim_verdicts(rows) == {1: "supported", 2: "supported", **dict.fromkeys((3, 4, 5, 6), "not run")}
    missing = [row for row in rows if row.claim == 5]
    assert all(row.difference is None and row.p_holm is None and row.seeds == 0 for row in missing)


def test_only_common_seeds_are_compared():
    evaluations = {key: value for key, value in study(ladder()).items() if key not in ((AUG, 0), (ARC, 4))}
    rows = claim_differences(evaluations, **NAMES)
    assert next(row for row in rows if row.claim == 2).seeds == 3


def test_an_unmeasurable_endpoint_is_undecided():
    evaluations = study(ladder())
    for cases in evaluations.values():
        cases[CLEAN].metrics["fmr100"] = Metric(
            name="fmr100", value=None, note="not measurable", genuine=10, impostor=50
        )
    row = next(row for row in claim_differences(evaluations, **NAMES) if row.claim == 6)
    assert (row.difference, row.verdict, row.note) == (None, "undecided", "not measurable")


def test_other_differences_are_shown_without_verdict():
    seen = ("masked-masked", "seen")
    levels = {stage: {**cases, seen: 0.03} for stage, cases in ladder().items()}
    rows = other_differences(study(levels), **NAMES)
    assert {row.verdict for row in rows} == {""}
    assert {row.claim for row in rows} == {None}
    shown = {(row.stage, row.against, row.condition, row.mask_kinds, row.metric) for row in rows}
    assert (AUG, ARC, *seen, "eer") in shown
    assert (AUG, ARC, *MASKED, "fmr100") in shown
    assert (AUG, ARC, *MASKED, "eer") not in shown  # it decides claim 2
    assert len(shown) == len(rows)
