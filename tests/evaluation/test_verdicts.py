"""Verdicts on the claims, from evaluations with a known difference."""

from zlib import crc32

import pytest

from maskinv_lib.evaluation import verdicts
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
from tests.evaluation.simulated import evaluation

ARC, AUG, LOW, HIGH, FULL = "elasticface-arc", "elasticface-arc-aug", "maskinv-lg", "maskinv-lambda3000", "maskinv-hg"
NAMES = {"profile": "smoke", "benchmark": "rendered"}


def study(levels, seeds=5):
    """{stage: {case: value}} -> evaluations, each seed with a small offset of its own."""
    return {
        (stage, seed): {
            case: evaluation(value + 1e-4 * (seed - 2), seed=crc32(repr((stage, seed, case)).encode()))
            for case, value in cases.items()
        }
        for stage, cases in levels.items()
        for seed in range(seeds)
    }


TWIN_100, TWIN_0 = "maskinv-lambda100-continued", "maskinv-lambda0-continued"
MASKED_TEACHER, UPPER = "released-masked-teacher", "upper-face"


def levels(changed=()):
    return {
        ARC: {CLEAN: 0.02, MIXED: 0.12, MASKED: 0.15},
        AUG: {CLEAN: 0.03, MIXED: 0.08, MASKED: 0.08},
        LOW: {CLEAN: 0.03, MIXED: 0.06, MASKED: 0.06},
        HIGH: {CLEAN: 0.02, MIXED: 0.04, MASKED: 0.04},
        FULL: {CLEAN: 0.02, MIXED: 0.05, MASKED: 0.05},
        TWIN_100: {CLEAN: 0.03, MIXED: 0.06, MASKED: 0.06},
        TWIN_0: {CLEAN: 0.03, MIXED: 0.07, MASKED: 0.07},
        MASKED_TEACHER: {CLEAN: 0.02, MIXED: 0.07, MASKED: 0.09},
        UPPER: {CLEAN: 0.09, MIXED: 0.05, MASKED: 0.0502},
    } | dict(changed)


def verdicts_of(evaluations, **settings):
    return claim_verdicts(claim_differences(evaluations, **NAMES, **settings))


def test_the_claims_are_contrasts_with_fixed_endpoints():
    assert [claim.number for claim in CLAIMS] == list(range(1, 10))
    assert {claim.metrics for claim in (*CLAIMS[:5], *CLAIMS[7:])} == {("eer",)}
    assert (CLAIMS[5].metrics, CLAIMS[5].margin) == (("fmr100",), 0.01)
    assert (CLAIMS[6].metrics, CLAIMS[6].margin, CLAIMS[8].margin) == (("eer", "fmr100"), 0.0, 0.005)
    assert [claim.number for claim in CLAIMS if claim.any_contrast] == [3]
    assert [claim.number for claim in CLAIMS if claim.equal] == [9]
    assert {kinds for claim in CLAIMS for c in claim.contrasts for _, kinds in c.cases} == {"unseen", "none"}


def test_an_ablation_as_claimed_supports_every_claim():
    assert set(verdicts_of(study(levels())).values()) == {"supported"}


def test_rows_carry_the_differences_and_the_columns_of_the_table():
    rows = claim_differences(study(levels()), **NAMES)
    assert len(rows) == 1 + 2 + 4 + 8 + 4 + 2 + 2 + 2 + 2
    assert list(rows[0].row()) == list(verdicts.COLUMNS)
    first = rows[0]
    assert (first.condition, first.mask_kinds, first.seeds) == ("masked-unmasked", "unseen", 5)
    assert first.difference == pytest.approx(0.10)
    assert first.low < 0.10 < first.high
    high_low = [row for row in rows if row.claim == 4]
    assert [row.stage for row in high_low] == [HIGH, HIGH, *[FULL] * 6]


def test_guidance_is_judged_at_equal_start_too():
    pairs = {(c.stage, c.against) for c in CLAIMS[3].contrasts}
    assert {(HIGH, LOW), (FULL, TWIN_100), (FULL, TWIN_0)} <= pairs
    worse = study(levels({FULL: {CLEAN: 0.02, MIXED: 0.065, MASKED: 0.065}}))
    rows = {(row.stage, row.against): row.verdict for row in claim_differences(worse, **NAMES) if row.claim == 4}
    assert (rows[FULL, TWIN_100], rows[FULL, TWIN_0], rows[HIGH, LOW]) == ("contradicted", "supported", "supported")


def test_what_guidance_gives_back_must_be_seen_in_both_metrics():
    rows = [row for row in claim_differences(study(levels()), **NAMES) if row.claim == 7]
    assert [(row.metric, row.condition) for row in rows] == [("eer", CLEAN[0]), ("fmr100", CLEAN[0])]
    evaluations = study(levels())
    for (stage, _), cases in evaluations.items():
        if stage == HIGH:
            worse = evaluation(0.05)
            cases[CLEAN].metrics["fmr100"] = worse.metrics["fmr100"]
            cases[CLEAN].resamples["fmr100"] = worse.resamples["fmr100"]
    assert verdicts_of(evaluations)[7] == "contradicted"


@pytest.mark.parametrize(
    ("upper", "word"),
    [(0.0499, "supported"), (0.0501, "supported"), (0.046, "undecided"), (0.054, "undecided"), (0.03, "contradicted")],
)
def test_as_good_means_within_half_a_point_on_either_side(upper, word):
    assert verdicts_of(study(levels({UPPER: {CLEAN: 0.02, MIXED: upper, MASKED: upper}})))[9] == word


def test_a_verdict_that_holm_s_adjustment_takes_back_says_so():
    rows = claim_differences(study(levels()), **NAMES)
    assert not any("unadjusted" in row.verdict for row in rows)
    row = verdicts.replace(rows[0], p_holm=0.2)
    assert verdicts._adjusted(row, 0.95).verdict == "supported (unadjusted)"
    assert verdicts._adjusted(verdicts.replace(row, verdict="undecided"), 0.95).verdict == "undecided"
    first = [verdicts._adjusted(row, 0.95), *rows[1:]]
    assert claim_verdicts(first)[1] == "supported (unadjusted)"
    for words, word in {
        ("supported (unadjusted)", "supported"): "supported",
        ("supported (unadjusted)", "contradicted"): "supported (unadjusted)",
        ("contradicted (unadjusted)", "contradicted"): "contradicted (unadjusted)",
        ("contradicted (unadjusted)", "undecided"): "undecided",
        (): "not run",
    }.items():
        assert verdicts._of_contrasts(set(words)) == word


def test_an_effect_on_the_other_side_contradicts():
    assert verdicts_of(study(levels({AUG: {CLEAN: 0.03, MIXED: 0.16, MASKED: 0.19}})))[2] == "contradicted"


def test_both_conditions_must_hold_and_one_on_the_other_side_contradicts():
    level = levels()[ARC][MASKED]
    assert verdicts_of(study(levels({AUG: {MIXED: 0.08, MASKED: level}})))[2] == "undecided"
    assert verdicts_of(study(levels({AUG: {MIXED: 0.08, MASKED: level + 0.03}})))[2] == "contradicted"


def test_claim_three_needs_one_of_two_contrasts():
    rows = claim_differences(study(levels({LOW: levels()[AUG]})), **NAMES)
    assert [row.verdict for row in rows if row.claim == 3] == ["undecided"] * 2 + ["supported"] * 2
    assert claim_verdicts(rows)[3] == "supported"
    worse = {MIXED: 0.12, MASKED: 0.12}
    assert verdicts_of(study(levels({LOW: worse, HIGH: worse})))[3] == "contradicted"
    assert verdicts_of(study(levels({LOW: worse, HIGH: levels()[AUG]})))[3] == "undecided"


def test_claim_three_is_adjusted_over_its_two_contrasts():
    def rows(stage, p):
        names = {"claim": 3, "stage": stage, "against": AUG, "condition": "", "mask_kinds": "", "metric": "eer"}
        return [verdicts.Difference(**names, **NAMES, seeds=5, difference=-0.01, p=p)] * 2

    claim = CLAIMS[2]
    assert verdicts._verdicts(claim, [rows(LOW, 0.03), rows(HIGH, 0.2)], 0.95) == ["undecided"] * 2  # 2 x 0.03 > 0.05
    assert verdicts._verdicts(claim, [rows(LOW, 0.02), rows(HIGH, 0.04)], 0.95) == ["supported"] * 2
    assert verdicts._verdicts(CLAIMS[3], [rows(LOW, 0.03)], 0.95) == ["supported"]


def test_p_holm_runs_over_all_contrasts_by_hand():
    rows = claim_differences(study(levels({LOW: levels()[AUG]})), **NAMES)
    contrasts = {}
    for row in rows:
        contrasts.setdefault((row.claim, row.stage, row.against), []).append(row)
    largest = {contrast: max(row.p for row in part) for contrast, part in contrasts.items()}
    weakest = max(largest, key=largest.get)
    assert weakest == (3, LOW, AUG)
    # the factor of the last step is 1
    assert all(row.p_holm == pytest.approx(largest[weakest]) for row in contrasts[weakest])
    strongest = min(largest, key=largest.get)
    assert contrasts[strongest][0].p_holm == pytest.approx(len(contrasts) * largest[strongest])


@pytest.mark.parametrize(("seeds", "note"), [(5, ""), (3, "fewer than 5 seeds")])
def test_verdicts_from_fewer_than_five_seeds_say_so(seeds, note):
    rows = claim_differences(study(levels(), seeds=seeds), **NAMES)
    assert {row.note for row in rows if row.claim == 2} == {note}


def test_p_of_a_contradicted_contrast_is_that_of_the_condition_which_contradicts_it():
    rows = claim_differences(study(levels({AUG: {MIXED: 0.08, MASKED: levels()[ARC][MASKED] + 0.1}})), **NAMES)
    two = [row for row in rows if row.claim == 2]
    assert {row.verdict for row in two} == {"contradicted"}
    mixed, masked = two
    two = [verdicts.replace(mixed, p=1e-9), verdicts.replace(masked, p=0.01)]  # the first supports the claim
    assert mixed.difference < 0 < masked.difference
    assert verdicts._p_of_contrast(CLAIMS[1], two) == pytest.approx(0.02)
    supported = [verdicts.replace(row, verdict="supported") for row in two]
    assert verdicts._p_of_contrast(CLAIMS[1], supported) == 0.01


@pytest.mark.parametrize(
    ("clean", "word"), [(0.02, "supported"), (0.025, "supported"), (0.03, "undecided"), (0.06, "contradicted")]
)
def test_claim_six_is_a_non_inferiority_within_one_point(clean, word):
    assert verdicts_of(study(levels({FULL: {CLEAN: clean, MIXED: 0.05, MASKED: 0.05}})))[6] == word


def test_one_seed_is_at_most_undecided_and_the_note_is_about_these_networks():
    rows = claim_differences(study(levels(), seeds=1), **NAMES)
    assert set(claim_verdicts(rows).values()) == {"undecided"}
    assert rows[0].note == "one trained network each: of these networks supported"
    assert rows[0].low is not None


def test_missing_stages_leave_their_claims_out():
    subset = {stage: levels()[stage] for stage in (ARC, AUG)}
    rows = claim_differences(study(subset), **NAMES)
    assert claim_verdicts(rows) == {1: "supported", 2: "supported", **dict.fromkeys(range(3, 10), "not run")}
    missing = [row for row in rows if row.claim == 5]
    assert all(row.difference is None and row.p_holm is None and row.seeds == 0 for row in missing)


def test_only_common_seeds_are_compared():
    evaluations = {key: value for key, value in study(levels()).items() if key not in ((AUG, 0), (ARC, 4))}
    rows = claim_differences(evaluations, **NAMES)
    assert next(row for row in rows if row.claim == 2).seeds == 3


def test_an_unmeasurable_endpoint_is_undecided():
    evaluations = study(levels())
    for cases in evaluations.values():
        cases[CLEAN].metrics["fmr100"] = Metric(
            name="fmr100", value=None, note="not measurable", genuine=10, impostor=50
        )
    row = next(row for row in claim_differences(evaluations, **NAMES) if row.claim == 6)
    assert (row.difference, row.verdict, row.note) == (None, "undecided", "not measurable")


def test_other_differences_have_no_verdict():
    seen = ("masked-masked", "seen")
    seen_too = {stage: {**cases, seen: 0.03} for stage, cases in levels().items()}
    rows = other_differences(study(seen_too), **NAMES)
    assert {row.verdict for row in rows} == {""}
    assert {row.claim for row in rows} == {None}
    contrasts = {(row.stage, row.against, row.condition, row.mask_kinds, row.metric) for row in rows}
    assert (AUG, ARC, *seen, "eer") in contrasts
    assert (AUG, ARC, *MASKED, "fmr100") in contrasts
    assert (AUG, ARC, *MASKED, "eer") not in contrasts  # it decides claim 2
    assert len(contrasts) == len(rows)
