"""Rankings of stages whose differences are known: order, the best, both differences, and Holm by hand."""

from zlib import crc32

import numpy as np
import pytest
from scipy import stats

from maskinv_lib.evaluation import rankings
from maskinv_lib.evaluation.metrics import NOT_MEASURABLE, Metric
from maskinv_lib.evaluation.rankings import standings
from maskinv_lib.evaluation.uncertainty import metric_over_seeds, paired_difference
from maskinv_lib.evaluation.verdicts import CLEAN, MASKED
from tests.evaluation.test_verdicts import evaluation

REFERENCE = "elasticface-arc-aug"
LEVELS = {"far": 0.12, REFERENCE: 0.08, "near": 0.0795, "best": 0.05, "second": 0.052, "oracle": 0.02}


def study(levels=LEVELS, seeds=5, case=MASKED):
    """stage -> value, or (value, seeds): each seed a little off in a direction of its own."""
    found = {}
    for stage, level in levels.items():
        value, count = level if isinstance(level, tuple) else (level, seeds)
        for seed in range(count):
            key = crc32(repr((stage, seed)).encode())
            found[stage, seed] = {case: evaluation(value + 1e-4 * (key % 5 - 2), seed=key)}
    return found


def ranked(evaluations, **settings):
    return {one.stage: one for one in standings(evaluations, MASKED, REFERENCE, **settings)}


def test_stages_are_in_order_and_carry_their_interval_over_seeds():
    evaluations = study()
    found = standings(evaluations, MASKED, REFERENCE)
    assert [one.stage for one in found] == ["oracle", "best", "second", "near", REFERENCE, "far"]
    assert [one.rank for one in found] == [1, 2, 3, 4, 5, 6]
    own = metric_over_seeds([evaluations["second", seed][MASKED] for seed in range(5)], "eer")
    assert (found[2].value, found[2].low, found[2].high, found[2].seeds) == (own.value, own.low, own.high, 5)


def test_both_differences_are_paired_over_the_common_seeds():
    evaluations = {key: value for key, value in study().items() if key not in (("far", 0), ("best", 4))}
    far = ranked(evaluations)["far"]
    assert (far.seeds, far.to_reference.seeds, far.to_best.against, far.to_best.seeds) == (4, 4, "oracle", 4)
    far = ranked(evaluations, oracles=["oracle"])["far"]
    assert (far.to_best.against, far.to_best.seeds) == ("best", 3)
    one, other = ([evaluations[stage, seed][MASKED] for seed in (1, 2, 3)] for stage in ("far", "best"))
    expected = paired_difference(one, other, "eer")
    found = far.to_best
    assert (found.difference, found.low, found.high) == (expected.value, expected.low, expected.high)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(expected.value / expected.error), expected.freedom), abs=1e-12)


def test_words_say_better_worse_or_undecided_and_nothing_of_a_stage_against_itself():
    found = ranked(study(), oracles=["oracle"])
    words = {stage: (one.to_reference.word, one.to_best.word) for stage, one in found.items()}
    assert words["best"] == ("better", "")
    assert words["second"] == ("better", "undecided")
    assert words["near"] == ("undecided", "worse")
    assert words[REFERENCE] == ("", "worse")
    assert words["far"] == ("worse", "worse")
    assert words["oracle"] == ("better", "better")
    assert found["best"].to_best.difference is None and found["best"].to_best.p_holm is None


def test_holm_runs_over_both_columns_and_counts_each_pair_of_stages_once():
    """Five stages against two: 4 + 4 differences of which reference against best stands in both columns."""
    levels = {"a": 0.081, "b": 0.0787, REFERENCE: 0.08, "best": 0.0762, "c": 0.084}
    found = standings(study(levels), MASKED, REFERENCE)
    gaps = {}
    for one in found:
        for gap in (one.to_reference, one.to_best):
            if gap.p is not None:
                gaps[tuple(sorted((one.stage, gap.against)))] = gap
    assert len(gaps) == 7
    largest = 0.0
    for rank, gap in enumerate(sorted(gaps.values(), key=lambda gap: gap.p)):
        largest = max(largest, min(1.0, (7 - rank) * gap.p))
        assert gap.p_holm == pytest.approx(largest)
        assert (gap.word == "undecided") == (largest >= 0.05)
    assert len({gap.word for gap in gaps.values()}) > 1


def test_the_adjustment_can_take_a_word_away():
    levels = {REFERENCE: 0.08, "some": 0.0763}
    assert ranked(study(levels))["some"].to_reference.word == "better"
    crowd = {f"other {number}": 0.08 for number in range(30)}
    some = ranked(study(levels | crowd))["some"].to_reference
    assert some.p < 0.05 and some.word == "undecided"


def test_oracles_and_single_seeds_are_shown_but_are_not_the_best():
    found = ranked(study(LEVELS | {"lucky": (0.01, 1)}), oracles=["oracle"])
    assert list(found)[:3] == ["lucky", "oracle", "best"]
    assert (found["oracle"].rank, found["lucky"].rank, found["best"].rank) == (None, 1, 2)
    assert (found["oracle"].note, found["lucky"].note, found["best"].note) == ("oracle", "one trained network", "")
    assert {one.to_best.against for one in found.values()} == {"best"}
    assert found["lucky"].to_reference.word == found["lucky"].to_best.word == "undecided"
    assert found["lucky"].to_reference.p_holm < 0.05


def test_with_one_seed_everywhere_nothing_is_decided():
    found = ranked(study(seeds=1), oracles=["oracle"])
    assert found["far"].to_best.against == "best"
    assert {gap.word for one in found.values() for gap in (one.to_reference, one.to_best)} == {"", "undecided"}


def test_equal_values_share_a_rank():
    evaluations = study({REFERENCE: 0.08, "twin": 0.08, "last": 0.1})
    for seed in range(5):
        evaluations["twin", seed] = evaluations[REFERENCE, seed]
    found = ranked(evaluations)
    assert [one.rank for one in found.values()] == [1, 1, 3]
    assert found["twin"].to_reference.word == "undecided"


def test_not_measurable_stands_last_without_rank_or_difference():
    evaluations = study()
    empty = Metric(name="eer", value=None, note=NOT_MEASURABLE, genuine=10, impostor=50)
    evaluations["best", 3][MASKED].metrics["eer"] = empty
    found = ranked(evaluations, oracles=["oracle"])
    last = list(found.values())[-1]
    assert (last.stage, last.rank, last.value, last.note) == ("best", None, None, NOT_MEASURABLE)
    assert (last.to_reference.difference, last.to_reference.word) == (None, "")
    assert found["far"].to_best.against == "second"


def test_stages_without_the_case_or_a_common_seed_are_left_out_or_empty():
    evaluations = study() | study({"elsewhere": 0.01}, case=CLEAN)
    evaluations["late", 7] = {MASKED: evaluation(0.06)}
    found = ranked(evaluations)
    assert "elsewhere" not in found
    assert (found["late"].to_reference.seeds, found["late"].to_reference.word) == (0, "")


def test_a_missing_reference_and_a_metric_that_is_no_rate_are_named():
    with pytest.raises(ValueError, match=r"reference stage under masked-masked unseen 'elasticface-aug'.*Did you mean"):
        standings(study(), MASKED, "elasticface-aug")
    with pytest.raises(ValueError, match="metric to rank by 'gmean'"):
        standings(study(), MASKED, REFERENCE, "gmean")


def test_rows_fill_the_columns_with_two_lines_a_stage():
    found = standings(study(), MASKED, REFERENCE, oracles=["oracle"])
    rows = rankings.rows(found, profile="smoke", benchmark="rendered")
    assert all(tuple(row) == rankings.COLUMNS for row in rows)
    assert len(rows) == 12 and len({(row["stage"], row["against"]) for row in rows}) == 12
    row = next(row for row in rows if (row["stage"], row["against"]) == ("far", "best"))
    assert row["difference"] == pytest.approx(0.07, abs=1e-3)
    assert row["difference_low"] < row["difference"] < row["difference_high"]
    assert (row["condition"], row["mask_kinds"], row["metric"], row["word"]) == (*MASKED, "eer", "worse")
    assert next(row for row in rows if row["stage"] == row["against"] == "best")["difference"] is None


def test_one_line_a_stage_where_the_reference_is_the_best():
    rows = rankings.rows(standings(study({REFERENCE: 0.05, "b": 0.06}), MASKED, REFERENCE), profile="p", benchmark="b")
    assert [(row["stage"], row["against"]) for row in rows] == [(REFERENCE, REFERENCE), ("b", REFERENCE)]


def test_stages_that_are_alike_are_rarely_told_apart_and_the_best_leans():
    """Forty studies of ten stages alike: words against the reference in one of twenty at most, as Holm promises.

    The test people move each stage by what its resamples show. The best was picked on them: no stage is below it.
    """
    told = unadjusted = 0
    generator = np.random.default_rng(5)
    for _ in range(40):
        people = generator.normal(0.08, 0.002 / np.sqrt(3), 10)  # of three seeds' mean, resampled independently
        levels = {REFERENCE if i == 0 else f"stage {i}": float(level) for i, level in enumerate(people)}
        found = standings(study(levels, seeds=3), MASKED, REFERENCE)
        told += any(one.to_reference.word in ("better", "worse") for one in found)
        unadjusted += any(one.to_reference.p is not None and one.to_reference.p < 0.05 for one in found)
        assert all(one.to_best.difference is None or one.to_best.difference > 0 for one in found)
    assert told <= 4
    assert unadjusted >= 8
