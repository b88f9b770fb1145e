"""Rankings of stages with known differences: order, the best, both differences, and Holm by hand."""

from zlib import crc32

import numpy as np
import pytest
from scipy import stats

from maskinv_lib.evaluation import rankings
from maskinv_lib.evaluation.metrics import NOT_MEASURABLE, Metric
from maskinv_lib.evaluation.rankings import standings
from maskinv_lib.evaluation.uncertainty import metric_over_seeds, paired_difference
from maskinv_lib.evaluation.verdicts import CLEAN, MASKED
from tests.evaluation.simulated import evaluation

REFERENCE = "elasticface-arc-aug"
LEVELS = {"far": 0.12, REFERENCE: 0.08, "near": 0.0795, "best": 0.05, "second": 0.052, "oracle": 0.02}


def study(levels=LEVELS, seeds=5, case=MASKED):
    """stage -> value, or (value, seeds): each seed with a small offset of its own."""
    evaluations = {}
    for stage, level in levels.items():
        value, count = level if isinstance(level, tuple) else (level, seeds)
        for seed in range(count):
            key = crc32(repr((stage, seed)).encode())
            evaluations[stage, seed] = {case: evaluation(value + 1e-4 * (key % 5 - 2), seed=key)}
    return evaluations


def ranked(evaluations, **settings):
    return {standing.stage: standing for standing in standings(evaluations, MASKED, REFERENCE, **settings)}


def test_stages_are_in_order_and_carry_their_interval_over_seeds():
    evaluations = study()
    table = standings(evaluations, MASKED, REFERENCE)
    assert [standing.stage for standing in table] == ["oracle", "best", "second", "near", REFERENCE, "far"]
    assert [standing.rank for standing in table] == [1, 2, 3, 4, 5, 6]
    own = metric_over_seeds([evaluations["second", seed][MASKED] for seed in range(5)], "eer")
    assert (table[2].value, table[2].low, table[2].high, table[2].seeds) == (own.value, own.low, own.high, 5)


def test_both_differences_are_paired_over_the_common_seeds():
    evaluations = {key: value for key, value in study().items() if key not in (("far", 0), ("best", 4))}
    far = ranked(evaluations)["far"]
    assert (far.seeds, far.to_reference.seeds, far.to_best.against, far.to_best.seeds) == (4, 4, "oracle", 4)
    far = ranked(evaluations, oracles=["oracle"])["far"]
    assert (far.to_best.against, far.to_best.seeds) == ("best", 3)
    ours, theirs = ([evaluations[stage, seed][MASKED] for seed in (1, 2, 3)] for stage in ("far", "best"))
    expected = paired_difference(ours, theirs, "eer")
    gap = far.to_best
    assert (gap.difference, gap.low, gap.high) == (expected.value, expected.low, expected.high)
    assert gap.p == pytest.approx(2 * stats.t.sf(abs(expected.value / expected.error), expected.freedom), abs=1e-12)


def test_words_say_better_worse_or_undecided_and_nothing_of_a_stage_against_itself():
    table = ranked(study(), oracles=["oracle"])
    words = {stage: (standing.to_reference.word, standing.to_best.word) for stage, standing in table.items()}
    assert words["best"] == ("better", "")
    assert words["second"] == ("better", "undecided")
    assert words["near"] == ("undecided", "worse")
    assert words[REFERENCE] == ("", "worse")
    assert words["far"] == ("worse", "worse")
    assert words["oracle"] == ("better", "better")
    assert table["best"].to_best.difference is None and table["best"].to_best.p_holm is None


def test_holm_runs_over_both_columns_and_counts_each_pair_of_stages_once():
    """Five stages against two: 4 + 4 differences of which reference against best stands in both columns."""
    levels = {"a": 0.081, "b": 0.0787, REFERENCE: 0.08, "best": 0.0762, "c": 0.084}
    table = standings(study(levels), MASKED, REFERENCE)
    gaps = {}
    for standing in table:
        for gap in (standing.to_reference, standing.to_best):
            if gap.p is not None:
                gaps[tuple(sorted((standing.stage, gap.against)))] = gap
    assert len(gaps) == 7
    largest = 0.0
    for rank, gap in enumerate(sorted(gaps.values(), key=lambda gap: gap.p)):
        largest = max(largest, min(1.0, (7 - rank) * gap.p))
        assert gap.p_holm == pytest.approx(largest)
        assert (gap.word == "undecided") == (largest >= 0.05)
    assert len({gap.word for gap in gaps.values()}) > 1


def test_the_adjustment_can_take_a_word_away():
    levels = {REFERENCE: 0.08, "near": 0.0763}
    assert ranked(study(levels))["near"].to_reference.word == "better"
    crowd = {f"other {number}": 0.08 for number in range(30)}
    gap = ranked(study(levels | crowd))["near"].to_reference
    assert gap.p < 0.05 and gap.word == "undecided"


def test_oracles_and_single_seeds_are_shown_but_are_not_the_best():
    table = ranked(study(LEVELS | {"lucky": (0.01, 1)}), oracles=["oracle"])
    assert list(table)[:3] == ["lucky", "oracle", "best"]
    assert (table["oracle"].rank, table["lucky"].rank, table["best"].rank) == (None, 1, 2)
    assert (table["oracle"].note, table["lucky"].note, table["best"].note) == ("oracle", "one trained network", "")
    assert {standing.to_best.against for standing in table.values()} == {"best"}
    assert table["lucky"].to_reference.word == table["lucky"].to_best.word == "undecided"
    assert table["lucky"].to_reference.p_holm < 0.05


def test_with_one_seed_everywhere_nothing_is_decided():
    table = ranked(study(seeds=1), oracles=["oracle"])
    assert table["far"].to_best.against == "best"
    gaps = [gap for standing in table.values() for gap in (standing.to_reference, standing.to_best)]
    assert {gap.word for gap in gaps} == {"", "undecided"}


def test_equal_values_share_a_rank():
    evaluations = study({REFERENCE: 0.08, "twin": 0.08, "last": 0.1})
    for seed in range(5):
        evaluations["twin", seed] = evaluations[REFERENCE, seed]
    table = ranked(evaluations)
    assert [standing.rank for standing in table.values()] == [1, 1, 3]
    assert table["twin"].to_reference.word == "undecided"


def test_not_measurable_is_last_without_rank_or_difference():
    evaluations = study()
    empty = Metric(name="eer", value=None, note=NOT_MEASURABLE, genuine=10, impostor=50)
    evaluations["best", 3][MASKED].metrics["eer"] = empty
    table = ranked(evaluations, oracles=["oracle"])
    last = list(table.values())[-1]
    assert (last.stage, last.rank, last.value, last.note) == ("best", None, None, NOT_MEASURABLE)
    assert (last.to_reference.difference, last.to_reference.word) == (None, "")
    assert table["far"].to_best.against == "second"


def test_stages_without_the_case_or_a_common_seed_are_left_out_or_empty():
    evaluations = study() | study({"elsewhere": 0.01}, case=CLEAN)
    evaluations["late", 7] = {MASKED: evaluation(0.06)}
    table = ranked(evaluations)
    assert "elsewhere" not in table
    assert (table["late"].to_reference.seeds, table["late"].to_reference.word) == (0, "")


def test_a_missing_reference_and_a_metric_that_is_no_rate_are_named():
    with pytest.raises(ValueError, match=r"reference stage under masked-masked unseen 'elasticface-aug'.*Did you mean"):
        standings(study(), MASKED, "elasticface-aug")
    with pytest.raises(ValueError, match="metric to rank by 'gmean'"):
        standings(study(), MASKED, REFERENCE, "gmean")


def test_rows_fill_the_columns_with_two_lines_a_stage():
    table = standings(study(), MASKED, REFERENCE, oracles=["oracle"])
    rows = rankings.rows(table, profile="smoke", benchmark="rendered")
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


def test_equal_stages_rarely_differ_clearly_and_the_best_is_biased():
    """Forty studies of ten equal stages: a clear difference to the reference in about 5 %, as Holm guarantees.

    Test people shift each stage as much as its resamples show. The best is chosen on them: no stage is below it.
    """
    adjusted = unadjusted = 0
    generator = np.random.default_rng(5)
    for _ in range(40):
        people = generator.normal(0.08, 0.002 / np.sqrt(3), 10)  # of three seeds' mean, resampled independently
        levels = {REFERENCE if i == 0 else f"stage {i}": float(level) for i, level in enumerate(people)}
        table = standings(study(levels, seeds=3), MASKED, REFERENCE)
        adjusted += any(standing.to_reference.word in ("better", "worse") for standing in table)
        unadjusted += any(standing.to_reference.p is not None and standing.to_reference.p < 0.05 for standing in table)
        assert all(standing.to_best.difference is None or standing.to_best.difference > 0 for standing in table)
    assert adjusted <= 4
    assert unadjusted >= 8
