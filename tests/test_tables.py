"""Tables say what the data say, in words and per cent."""

import dataclasses

import pandas as pd
import pytest

from maskinv_lib import pipeline, records, study, tables
from maskinv_lib.metrics import Metric
from maskinv_lib.verdicts import CLAIMS, Difference

STAGES = ("elasticface-arc", "elasticface-arc-aug")


def metric(value=0.031, low=0.026, high=0.037, name="eer"):
    return Metric(name=name, value=value, low=low, high=high, genuine=400, impostor=5000)


@pytest.mark.parametrize(
    ("given", "text"),
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
def test_cells(given, text):
    assert tables.cell(given) == text


def test_metrics_table_has_a_column_per_metric_that_any_row_has():
    rows = {"one": {"eer": metric(), "fmr1000": metric(None, None, None, "fmr1000")}, "two": {"eer": metric(0.02)}}
    shown = tables.metrics(rows, caption="masked pairs")
    assert list(shown.data.columns) == ["EER %", "FMR1000 %"]
    assert shown.data.loc["one"].tolist() == ["3.10 [2.60, 3.70]", "not measurable"]
    assert shown.data.loc["two", "FMR1000 %"] == ""
    assert shown.to_html() == tables.metrics(rows, caption="masked pairs").to_html()  # no random identifiers
    assert "masked pairs" in shown.to_html()


def difference(**changed):
    base = {
        "profile": "smoke",
        "claim": 2,
        "stage": STAGES[1],
        "against": STAGES[0],
        "seeds": 5,
        "benchmark": "b",
        "condition": "masked-masked",
        "mask_kinds": "unseen",
        "metric": "eer",
        "difference": -0.0312,
        "low": -0.04,
        "high": -0.02,
        "p_holm": 0.0001,
        "verdict": "supported",
    }
    return Difference(**{**base, **changed})


def test_verdict_table_reads_like_the_claims():
    missing = difference(claim=5, difference=None, low=None, high=None, p_holm=None, verdict="not run", note="not run")
    shown = tables.contrasts([difference(), difference(condition="masked-unmasked"), missing, difference(claim=None)])
    assert len(shown.data) == 3
    assert shown.data["claim"].tolist() == [f"2. {CLAIMS[1].sentence}", "", f"5. {CLAIMS[4].sentence}"]
    first = shown.data.iloc[0]
    assert first["contrast"] == "elasticface-arc-aug − elasticface-arc"
    assert first["condition"] == "masked-masked, unseen masks"
    assert first["difference in points"] == "-3.12 [-4.00, -2.00]"
    assert first["p (Holm)"] == "< 0.001"
    assert shown.data.iloc[2]["verdict"] == "not run"
    assert CLAIMS[4].sentence in shown.to_html()


def test_the_recipe_names_what_decides_the_result():
    run = study.open_run(profile="laptop", stage="maskinv-hg", seed=0, overrides="lambda=300")
    shown = dict(tables.recipe(run).data.values)
    assert shown["template_kd.TemplateKD"] == "lambda = 300"
    assert shown["starts from"] == "maskinv-lg at 77% of its schedule"
    assert shown["teacher"] == "elasticface-arc"
    assert f"{run.plan.schedule.steps:,} steps" in shown["budget"]


def test_the_cost_counts_the_ancestors_share():
    run = study.open_run(profile="laptop", stage="maskinv-hg", seed=0)
    facts = {"seconds": 10.4, "faces_per_second": 250.2, "precision": "bfloat16", "device": "cpu (x)", "threads": 1}
    shown = dict(tables.cost(pipeline.Trained(run=run, records=[], facts=facts)).data.values)
    assert shown["faces, ancestors included"] == f"{pipeline.spent(run):,}"
    assert shown["seconds of training"] == "10"


def test_stages_show_the_mean_time_of_their_seeds():
    run = study.open_run(profile="laptop", stage="kd-only", seed=0)
    one = records.Evaluated(run=run, evaluations={}, curves={}, facts={"seconds": 10.0, "precision": "float32"})
    two = dataclasses.replace(one, facts={"seconds": 20.0, "precision": "bfloat16"})
    row = tables.stages({"kd-only": [one, two]}).data.iloc[0]
    assert row["seconds"] == "15" and row["precision"] == "bfloat16, float32"
    assert row["idea"] == run.stage.idea


def test_splits_count_faces():
    shown = tables.splits(study.get_profile("smoke")).data.set_index("set")
    assert shown.loc["train"].tolist() == [24, 8, "192"]


def test_nothing_is_cut_off():
    html = tables.table(pd.DataFrame({"text": ["x" * 300]}), "a caption").to_html()
    assert "x" * 300 in html and "a caption" in html


def test_the_summary_has_a_line_per_claim():
    shown = tables.verdicts([difference(), difference(condition="masked-unmasked")]).data
    assert shown["claim"].tolist() == [claim.number for claim in CLAIMS]
    assert shown["verdict"].tolist()[1] == "supported" and shown["verdict"].tolist()[0] == "not run"
