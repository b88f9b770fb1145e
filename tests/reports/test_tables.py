"""Tables: their rows, columns and cells, in words and per cent."""

import dataclasses
import math

import pandas as pd
import pytest

from maskinv_lib.evaluation.metrics import Metric
from maskinv_lib.evaluation.power import Need, Prospect
from maskinv_lib.evaluation.rankings import Gap, Standing
from maskinv_lib.evaluation.verdicts import CLAIMS, Difference
from maskinv_lib.pipeline import records
from maskinv_lib.pipeline.train import Trained
from maskinv_lib.reports import tables
from maskinv_lib.study.runs import open_run

STAGES = ("elasticface-arc", "elasticface-arc-aug")


def metric(value=0.031, low=0.026, high=0.037, name="eer"):
    return Metric(name=name, value=value, low=low, high=high, genuine=400, impostor=5000)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (metric(), "3.10 [2.60, 3.70]"),
        (metric(0.25, 0.2, 0.31), "25.0 [20.0, 31.0]"),
        (metric(low=None, high=None), "3.10"),
        (metric(0.9876, 0.98, 0.99, name="accuracy"), "98.8 [98.0, 99.0]"),
        (metric(0.512, 0.5, 0.52, name="gmean"), "0.512 [0.500, 0.520]"),
        (metric(-1e-9, -0.001, 0.001, name="imean"), "0.000 [-0.001, 0.001]"),
        (metric(5.128, 5.0, 5.25, name="fdr"), "5.13 [5.00, 5.25]"),
        (metric(None, None, None), "not measurable"),
    ],
)
def test_cells(value, text):
    assert tables.cell(value) == text


def test_metrics_table_has_a_column_per_metric_that_any_row_has():
    rows = {"one": {"eer": metric(), "fmr1000": metric(None, None, None, "fmr1000")}, "two": {"eer": metric(0.02)}}
    shown = tables.metrics(rows, caption="masked pairs")
    assert list(shown.data.columns) == ["EER %", "FMR1000 %"]
    assert shown.data.loc["one"].tolist() == ["3.10 [2.60, 3.70]", "not measurable"]
    assert shown.data.loc["two", "FMR1000 %"] == ""
    assert shown.to_html() == tables.metrics(rows, caption="masked pairs").to_html()  # no random identifiers
    assert "masked pairs" in shown.to_html()


def difference(**changed):
    base = {"profile": "smoke", "claim": 2, "stage": STAGES[1], "against": STAGES[0], "seeds": 5, "benchmark": "b"}
    base |= {"condition": "masked-masked", "mask_kinds": "unseen", "metric": "eer", "difference": -0.0312}
    base |= {"low": -0.04, "high": -0.02, "p_holm": 0.0001, "verdict": "supported"}
    return Difference(**base | changed)


def test_verdict_table_reads_like_the_claims():
    missing = difference(claim=5, difference=None, low=None, high=None, p_holm=None, verdict="not run", note="not run")
    shown = tables.contrasts([difference(), difference(condition="masked-unmasked"), missing, difference(claim=None)])
    assert len(shown.data) == 3
    assert shown.data["claim"].tolist() == [f"2. {CLAIMS[1].sentence}", "", f"5. {CLAIMS[4].sentence}"]
    first = shown.data.iloc[0]
    assert first["contrast"] == "elasticface-arc-aug − elasticface-arc"
    assert first["condition"] == "masked-masked, unseen masks"
    assert first["difference in points"] == "-3.12 [-4.00, -2.00]"
    assert not [column for column in shown.data.columns if column.startswith("p ")]  # p-values are in the CSV
    noted = tables.contrasts([difference(note="few"), difference(note="few"), difference(note="other")])
    assert noted.data["note"].tolist() == ["few", "", "other"]
    assert shown.data["verdict"].tolist() == ["supported", "", "not run"] and shown.data["seeds"].iloc[1] == 5
    assert CLAIMS[4].sentence in shown.to_html()


def test_the_recipe_names_what_decides_the_result():
    run = open_run(profile="laptop", stage="maskinv-hg", seed=0, overrides="lambda=300")
    shown = dict(tables.recipe(run).data.values)
    assert shown["template_kd.TemplateKD"] == "lambda = 300"
    assert shown["starts from"] == "maskinv-lg-start"
    assert shown["teacher"] == "elasticface-arc"
    assert f"{run.plan.steps:,} steps" in shown["budget"]


def test_a_training_that_ends_before_its_schedule_says_so():
    shown = dict(tables.recipe(open_run(profile="laptop", stage="maskinv-lg-start", seed=0)).data.values)
    assert shown["budget"].endswith("in 600 steps of 32 samples; it ends after step 462")


def test_the_cost_counts_the_ancestors_share():
    run = open_run(profile="laptop", stage="maskinv-hg", seed=0)
    facts = {"seconds": 10.4, "faces_per_second": 250.2, "precision": "bfloat16", "device": "cpu (x)", "threads": 1}
    shown = dict(tables.cost(Trained(run=run, records=[], facts=facts)).data.values)
    assert shown["faces, ancestors included"] == f"{run.faces_spent:,}"
    assert shown["seconds of training"] == "10"


def test_stages_show_the_mean_time_of_their_seeds():
    run = open_run(profile="laptop", stage="kd-only", seed=0)
    one = records.Evaluated(run=run, evaluations={}, curves={}, facts={"seconds": 10.0, "precision": "float32"})
    two = dataclasses.replace(one, facts={"seconds": 20.0, "precision": "bfloat16"})
    row = tables.stages({"kd-only": [one, two]}).data.iloc[0]
    assert row["seconds"] == "15" and row["precision"] == "bfloat16, float32"
    assert row["idea"] == run.stage.idea
    assert (row["steps"], row["faces"], row["passes"]) == ("1,062", "33,984", "5.7")
    assert row["learning rate"] == f"{run.plan.schedule.learning_rate:g}" and "note" not in row
    hg = dataclasses.replace(one, run=open_run(profile="laptop", stage="maskinv-hg", seed=0))
    row = tables.stages({"maskinv-hg": [hg]}).data.iloc[0]
    assert (row["steps"], row["faces"], row["passes"]) == ("462, then 600", "33,984", "5.7")


def test_splits_count_faces(patterned):
    shown = tables.splits({"train": patterned}).data.set_index("set")
    assert shown.loc["train"].tolist() == [12, "4", "48"]


def test_nothing_is_cut_off():
    html = tables.table(pd.DataFrame({"text": ["x" * 300]}), "a caption").to_html()
    assert "x" * 300 in html and "a caption" in html


def test_the_summary_has_a_line_per_claim():
    shown = tables.verdicts([difference(), difference(condition="masked-unmasked")]).data
    assert shown["claim"].tolist() == [claim.number for claim in CLAIMS]
    assert shown["verdict"].tolist()[1] == "supported" and shown["verdict"].tolist()[0] == "not run"


def standing(stage="b", rank=2, reference=None, best=None, **changed):
    gap = {"seeds": 3, "difference": -0.012, "low": -0.02, "high": -0.004, "p": 0.01, "p_holm": 0.03, "word": "better"}
    small = gap | {"difference": 0.002, "high": 0.03, "word": "undecided"}
    gaps = {"to_reference": reference or Gap(against="r", **gap), "to_best": best or Gap(against="a", **small)}
    names = {"stage": stage, "case": ("masked-masked", "unseen"), "metric": "eer"}
    numbers = {"rank": rank, "value": 0.031, "low": 0.026, "high": 0.037, "seeds": 3}
    return Standing(**names | numbers | gaps | changed)


def test_a_ranking_has_a_row_per_stage_and_both_differences_with_their_verdict():
    alone = standing("a", 1, best=Gap(against="a", seeds=3))
    oracle = standing("o", None, note="oracle")
    empty = standing("x", None, reference=Gap(against="r"), value=None, low=None, high=None, note="not measurable")
    shown = tables.ranking([alone, standing(), oracle, empty], "masked", notes={"b": "two of five"})
    expected = ["rank", "stage", "EER %", "seeds", "points to r", "points to the best, a", "note"]
    assert list(shown.data.columns) == expected
    assert shown.data["rank"].tolist() == [1, 2, "", ""]
    assert shown.data["stage"].tolist() == ["a", "b", "o", "x"]
    gaps = ["-1.20 [-2.00, -0.40] better", "0.20 [-2.00, 3.00] undecided"]
    assert shown.data.iloc[1].tolist()[2:] == ["3.10 [2.60, 3.70]", 3, *gaps, "two of five"]
    assert shown.data.iloc[0, 5] == "—"
    assert shown.data.iloc[3, [2, 4]].tolist() == ["not measurable", ""]
    assert shown.data["note"].tolist() == ["", "two of five", "oracle", "not measurable"]
    assert "masked" in shown.to_html()


def test_notes_are_added_to_the_standings_own_without_repetition():
    shown = tables.ranking([standing(note="oracle"), standing("c", note="oracle")], notes={"b": "sees", "c": "oracle"})
    assert shown.data["note"].tolist() == ["oracle; sees", "oracle"]
    with pytest.raises(ValueError, match="no standing to show"):
        tables.ranking([])


def test_the_power_table_gives_seeds_or_a_factor_on_the_people():
    needs = (Need(size=0.005, seeds=None, people=2.34), Need(size=0.01, seeds=12, people=1.0))
    numbers = {"difference": -0.0312, "seeds": 5, "identities": 200, "over_identities": 1e-6, "over_seeds_sd": 0.001}
    names = {"stage": "b", "against": "a", "case": ("masked-masked", "unseen"), "metric": "eer", "smallest": 0.0071}
    one = Prospect(**names, **numbers, needs=needs, observed=Need(size=0.0312, seeds=2, people=1.0))
    two = dataclasses.replace(one, observed=Need(size=1e-4, seeds=None, people=math.inf))
    three = dataclasses.replace(one, observed=Need(size=1e-4, seeds=None, people=4e5))
    shown = tables.power([one, two, three], "what these seeds can show").data
    assert shown.iloc[0].to_dict() == {
        "contrast": "b − a",
        "condition": "masked-masked, unseen masks",
        "difference in points": "-3.12",
        "seeds": 5,
        "shown from, points": "0.71",
        "seeds for 0.5 point": "200, people × 2.3",
        "seeds for 1 point": "12",
        "seeds for the observed": "2",
    }
    assert shown["seeds for the observed"].tolist()[1:] == ["over 200", "200, people × over 1,000"]
    assert len(tables.power([]).data) == 0
