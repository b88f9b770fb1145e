"""Sentences made from numbers: each changes when its number does."""

import csv
import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
import torch

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.evaluation.metrics import Metric, curve_of_scores
from maskinv_lib.evaluation.verdicts import CLAIMS, COLUMNS
from maskinv_lib.reports import findings
from maskinv_lib.utils import files

CLEAN, ONE, TWO = "unmasked-unmasked", "masked-unmasked", "masked-masked"


def metric(value, low=None, high=None):
    return Metric(name="eer", value=value, low=low, high=high, genuine=400, impostor=5000)


# Figures


def panels(**changed):
    rates = {"a clean": 0.02, "b clean": 0.03, "a masked": 0.30, "b masked": 0.06} | changed
    return {
        title: {name: metric(rates[f"{name} {title}"]) for name in "ab" if rates[f"{name} {title}"] is not None}
        for title in ("clean", "masked")
    }


def test_rates_name_the_lowest_of_each_panel_and_the_largest_change():
    text = findings.of_rates(panels()).data
    assert "The lowest EER is 2.00 % for clean (a) and 6.00 % for masked (b)" in text
    assert "a changes most, from 2.00 % to 30.0 %" in text
    text = findings.of_rates(panels(**{"b clean": 0.01, "b masked": 0.4})).data
    assert "1.00 % for clean (b) and 30.0 % for masked (a)" in text and "b changes most, from 1.00 % to 40.0 %" in text
    assert "No EER could be measured" in findings.of_rates({"clean": {"a": metric(None)}}).data


def test_differences_name_the_stages_whose_whole_interval_differs():
    rows = {"a": metric(-0.02, -0.03, -0.01), "b": metric(0.02, 0.01, 0.03), "c": metric(0.01, -0.01, 0.03)}
    text = findings.of_differences({"one": rows, "two": {"c": rows["c"]}}, "aug").data
    assert text.endswith("Against aug, with the whole interval: one: a better, b worse; two: no difference.")
    rows["a"] = metric(-0.02, -0.03, 0.01)
    assert "one: b worse; two" in findings.of_differences({"one": rows, "two": {"c": rows["c"]}}, "aug").data


def test_families_are_compared_within_their_condition():
    rates = {f"{TWO}, seen masks": {"a": metric(0.02), "b": metric(0.05)}}
    rates[f"{TWO}, unseen masks"] = {"a": metric(0.10), "b": metric(0.04)}
    text = findings.of_families(rates).data
    assert "the EER changes by: masked-masked +8.00 points for a and -1.00 points for b." in text
    assert findings.of_families({f"{TWO}, real masks": {"a": metric(0.1)}}).data == ""


def test_curves_are_compared_at_one_fmr():
    generator = np.random.default_rng(0)
    good, bad = (
        curve_of_scores(generator.normal(shift, 0.1, 400), generator.normal(0, 0.1, 5000)) for shift in (0.8, 0.2)
    )
    text = findings.of_curves({"one": {"bad": [bad, bad], "good": [good, good]}}).data
    assert "At an FMR of 1 % the lowest FNMR is 0.00 % for one (good)." in text
    alone = findings.of_curves({"one": {"bad": bad}}).data
    assert "(bad)" not in alone and "the FNMR is" in alone
    few = curve_of_scores(generator.normal(0.5, 0.1, 40), generator.normal(0, 0.1, 50))
    assert "No FNMR is measurable" in findings.of_curves({"one": {"few": few}}).data


def test_scores_training_and_coverage_say_their_numbers():
    scores = np.array([0.8, 0.6, 0.1, 0.3], np.float32)
    comparisons = Comparisons(
        scores=scores,
        genuine=np.array([True, True, False, False]),
        first=np.array([0, 1, 0, 1]),
        second=np.array([0, 1, 1, 0]),
    )
    assert "are 0.700 and 0.200 for one." in findings.of_scores({"one": comparisons}).data
    records = [{"faces": faces, "loss": loss} for faces, loss in ((100, 9.0), (500, 3.0), (1000, 1.0))]
    text = findings.of_training(records).data
    assert "from 9.00 to 1.00 over 1,000 faces, 25% of the fall in the second half" in text
    columns = {"kinds": ["seen", "seen", "unseen", "unseen"], "kind": list("aabb"), "coverage": [0.2, 0.2, 0.4, 0.4]}
    frame = pd.DataFrame(columns)
    assert (
        "20% of the picture for seen masks and 40% of the picture for unseen masks; b covers most (40%), a least"
        in (findings.of_coverage(frame).data)
    )
    assert "44% of the identity signal" in findings.of_signal(0.44).data


def test_views_count_the_masked_ones(patterned):
    images = torch.cat([patterned.images[:3], patterned.images[:3]])
    images[4] = 255 - images[4]
    views = dataclasses.replace(patterned, images=images, identity=patterned.identity[:3].repeat(2))
    assert "1 of these 3 faces wear a mask" in findings.of_views(views).data


def test_a_sweep_names_the_lowest_point_of_each_line():
    lines = {"guided": [(0.0, metric(0.05), [0.05]), (100.0, metric(0.03), [0.03])], "none": [(0.0, metric(None), [])]}
    assert findings.of_sweep({"one": lines}, "lambda").data.endswith("by lambda, one: guided at 100 (3.00 %).")


# The meaning of a study


def written(tmp_path, verdicts=None, numbers=None):
    """Write the tables of a study in which all claims ran; return its folder."""
    rows = []
    for claim in CLAIMS:
        for contrast in claim.contrasts:
            for case in contrast.cases:
                for name in claim.metrics:
                    word = (verdicts or {}).get(claim.number, "supported")
                    value = (numbers or {}).get(claim.number, 0.02 if not claim.lower else -0.02)
                    row = {"profile": "p", "claim": claim.number, "stage": contrast.stage, "against": contrast.against}
                    row |= {"seeds": 5, "benchmark": "t", "condition": case[0], "mask_kinds": case[1], "metric": name}
                    row |= {"difference": value, "low": value - 0.01, "high": value + 0.01, "p_holm": 0.01}
                    rows.append(row | {"verdict": word})
    rates = [
        {"stage": stage, "seed": seed, "condition": case, "mask_kinds": kinds, "metric": "eer", "value": value}
        for stage in ("elasticface-arc", "elasticface-arc-aug")
        for seed, value in ((0, 0.9), ("all", 0.123))
        for case, kinds in ((CLEAN, "none"), (ONE, "unseen"), (TWO, "unseen"))
    ]
    for name, table, columns in (("differences", rows, COLUMNS), ("metrics", rates, tuple(rates[0]))):
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        files.write_text(tmp_path / f"{name}.csv", text.getvalue())
    return findings.read_tables(tmp_path)


def test_at_most_eight_sentences_say_what_a_study_means(tmp_path):
    sentences = findings.meaning(written(tmp_path))
    assert len(sentences) == 8 and all(sentence.endswith(".") and sentence.count(". ") == 0 for sentence in sentences)
    assert "EER of 12.3 % on unmasked pairs, 12.3 % with one masked face and 12.3 % with two" in sentences[0]
    assert "2.00 points lower [-3.00, -1.00] with one masked face" in sentences[2]


@pytest.mark.parametrize("number", [number for number in findings.MEANINGS if number != 1] + [6])
def test_a_sentence_changes_with_its_verdict_and_with_its_number(tmp_path, number):
    before = findings.meaning(written(tmp_path / "before"))
    position = list(findings.MEANINGS).index(5 if number == 6 else number)
    for word in ("undecided", "contradicted"):
        after = findings.meaning(written(tmp_path / word, verdicts={number: word}))
        assert [a != b for a, b in zip(after, before, strict=True)] == [n == position for n in range(8)]
    if number != 2:  # its sentence has the error rates themselves
        other = findings.meaning(written(tmp_path / "other", numbers={number: 0.0345}))
        assert other[position] != before[position] and "3.45 points higher" in other[position]


def test_an_unadjusted_verdict_means_the_same(tmp_path):
    plain = findings.meaning(written(tmp_path / "a"))
    assert findings.meaning(written(tmp_path / "b", verdicts={4: "supported (unadjusted)"})) == plain


def test_a_claim_that_did_not_run_has_no_sentence(tmp_path):
    tables = written(tmp_path)
    kept = [row for row in tables.differences if row.claim not in (8, 9)]
    fewer = findings.Tables(rates=tables.rates, differences=kept)
    assert len(findings.meaning(fewer)) == 6 and fewer.verdicts[8] == "not run"


def test_of_several_contrasts_the_one_that_decides_is_shown(tmp_path):
    tables = written(tmp_path)
    rows = [row for row in tables.differences if row.claim == 3]
    changed = [
        row if row not in rows[: len(rows) // 2] else dataclasses.replace(row, verdict="undecided")
        for row in tables.differences
    ]
    mixed = findings.Tables(rates={}, differences=changed)
    assert mixed.verdicts[3] == "supported" and mixed.of_claim(3)[0].stage == "maskinv-lambda3000"


def test_verdicts_stand_side_by_side_and_changes_with_scale_are_named(tmp_path):
    large, small = written(tmp_path / "a"), written(tmp_path / "b", verdicts={2: "undecided"})
    lines = findings.verdict_table({"desk": large, "laptop": small})
    assert lines[0] == "| claim | desk | laptop |" and len(lines) == 2 + len(CLAIMS)
    assert "| supported: -2.00, -2.00 | undecided: -2.00, -2.00 |" in lines[3]
    assert findings.changes({"desk": large, "laptop": small}) == (
        "Verdicts that change with scale: claim 2 (desk: supported, laptop: undecided)."
    )
    assert findings.changes({"desk": large, "laptop": large}) == "No verdict changes with scale (desk, laptop)."
    assert findings.changes({"desk": large}) == ""
