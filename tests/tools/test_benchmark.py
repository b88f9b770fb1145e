"""A model on a set: numbers as computed directly from the scores, differences of a model to itself, thresholds."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from maskinv_lib.evaluation.benchmarks.drawn import DrawnSet
from maskinv_lib.evaluation.benchmarks.real_masks import RealBenchmark
from maskinv_lib.evaluation.metrics import curve_of_scores, equal_error_rate, fnmr_at_fmr
from maskinv_lib.tools import benchmark as module
from maskinv_lib.tools.benchmark import as_json, benchmark, calibrate, differences_frame, metrics_frame, write_results
from maskinv_lib.tools.benchmark_page import as_text, findings, page
from maskinv_lib.tools.thresholds import read_thresholds
from tests.tools.models import block_templates, pixel_model


@pytest.fixture
def on(patterned):
    return DrawnSet(name="patterns", faces=patterned)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(module, "RESAMPLES", 50)


@pytest.fixture
def model(tmp_path, monkeypatch):
    return pixel_model(tmp_path, monkeypatch)


def scores_of(patterned):
    templates = block_templates(patterned.images).numpy()
    first, second = np.triu_indices(len(templates), 1)
    genuine = (patterned.identity[first] == patterned.identity[second]).numpy()
    scores = (templates @ templates.T)[first, second].astype(np.float32)
    return scores[genuine], scores[~genuine]


def test_the_rates_are_those_of_the_scores(quick, on, model, patterned):
    result = benchmark([model], on)
    curve = curve_of_scores(*scores_of(patterned))
    metrics = result.measured[0].metrics["unmasked-unmasked", "none"]
    assert metrics["eer"].value == pytest.approx(equal_error_rate(curve)[0], abs=1e-9)
    assert metrics["fmr100"].value == pytest.approx(fnmr_at_fmr(curve, 0.01)[0], abs=1e-9)
    assert metrics["eer"].low <= metrics["eer"].value <= metrics["eer"].high
    kinds = {case[1] for case in result.cases}
    assert kinds == {"none", "seen", "unseen"} and result.people == 12
    masked = result.measured[0].metrics["masked-masked", "unseen"]
    assert masked["fnmr_at_unmasked_threshold"].threshold == fnmr_at_fmr(curve, 0.01)[1]


def test_a_model_against_itself_differs_by_nothing(quick, on, model):
    frame = differences_frame(benchmark([model, model], on))
    measurable = frame[frame.metric == "eer"]
    assert (measurable["value"] == 0).all() and (measurable.low <= 0).all() and (measurable.high >= 0).all()


def test_differences_are_the_first_less_the_second(quick, on, model, tmp_path, monkeypatch):
    other = pixel_model(tmp_path, monkeypatch, "upper")
    result = benchmark([model, other], on)
    rows = metrics_frame(result).set_index(["model", "condition", "mask_kinds", "metric"])["value"]
    for row in differences_frame(result).dropna(subset="value").itertuples():
        place = (row.condition, row.mask_kinds, row.metric)
        expected = rows[("pixel_models:blocks", *place)] - rows[("pixel_models:upper", *place)]
        assert row.value == pytest.approx(expected, abs=1e-6)
        assert -1 <= row.low <= row.high <= 1


def test_written_results_can_be_read_again(quick, on, model, tmp_path):
    result = benchmark([model], on)
    write_results(result, tmp_path / "out", page(result))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "benchmark.html",
        "benchmark.json",
        "metrics.csv",
        "thresholds.json",
    ]
    frame = pd.read_csv(tmp_path / "out/metrics.csv")
    assert len(frame) == len(metrics_frame(result)) and set(frame.condition) == {case[0] for case in result.cases}
    record = json.loads((tmp_path / "out/benchmark.json").read_text())
    assert record["models"] == [{"name": "pixel_models:blocks", "sha256": None}] and record["differences"] == []
    eer = next(row["value"] for row in record["metrics"] if row["metric"] == "eer")
    assert eer == result.measured[0].metrics["unmasked-unmasked", "none"]["eer"].value
    thresholds = read_thresholds(tmp_path / "out/thresholds.json", None)
    assert {threshold.fmr for threshold in thresholds} == {0.01, 0.001}
    with pytest.raises(FileExistsError, match="not an empty folder"):
        write_results(result, tmp_path / "out", "")


def test_the_page_needs_no_other_file_and_names_nobody(quick, on, model):
    text = page(benchmark([model], on))
    assert "http://" not in text.split("<svg")[0] and "<script" not in text and 'src="data:image/svg+xml' in text
    addresses = [part.split('"')[0] for part in text.split('src="')[1:]]
    assert addresses and all(address.startswith("data:") for address in addresses)
    assert "href" not in text and "Error rates" in text


def test_text_has_each_condition_and_the_finding(quick, on, model):
    result = benchmark([model], on)
    text = as_text(result)
    assert findings(result) in text and "masked-masked, unseen masks" in text
    eer = result.measured[0].metrics["unmasked-unmasked", "none"]["eer"].value
    assert f"{100 * eer:.2f} % without masks" in findings(result)
    masked = result.measured[0].metrics["masked-masked", "unseen"]["fnmr_at_unmasked_threshold"].value
    assert f"with two masked faces (unseen masks) it rejects {100 * masked:.1f} % of genuine pairs" in findings(result)


def test_thresholds_accept_what_their_fmr_allows(quick, on, model, patterned):
    genuine, impostor = scores_of(patterned)
    (threshold,) = calibrate(model, on, rates=(0.02,), condition="unmasked-unmasked")
    assert (
        (impostor >= threshold.value).mean()
        <= 0.02
        < (impostor >= np.sort(impostor)[::-1][int(0.02 * len(impostor))]).mean()
    )
    assert threshold.fnmr == pytest.approx((genuine < threshold.value).mean())
    assert threshold.impostor == len(impostor) and threshold.low <= threshold.value <= threshold.high


def test_too_few_impostors_are_said_and_give_no_threshold(quick, on, model):
    (threshold,) = calibrate(model, on, rates=(1e-6,), condition="unmasked-unmasked")
    assert threshold.value is None and threshold.low is None and "not measurable" in str(threshold)


@pytest.mark.parametrize(
    ("choice", "text"), [({"rates": (1.0,)}, "share between 0 and 1"), ({"condition": "masked"}, "Known")]
)
def test_wrong_choices_are_refused(quick, on, model, choice, text):
    with pytest.raises(ValueError, match=text):
        calibrate(model, on, **choice)


def test_progress_counts_all_faces(quick, on, model, monkeypatch):
    monkeypatch.setattr(module, "EVERY", -1.0)
    lines = []
    calibrate(model, on, rates=(0.05,), show=lines.append)
    assert f"{on.pictures:,} of {on.pictures:,} faces" in lines[-1]
    assert on.pictures == 3 * 48 and torch.is_tensor(on.faces.images)


def test_a_set_in_which_everybody_wears_a_mask_has_its_finding(quick, model, patterned):
    masked = RealBenchmark(name="masked", faces=patterned, masked=np.ones(len(patterned), bool))
    result = benchmark([model], masked.only("all-pairs", "masked"))
    assert result.main_cases == [("masked-masked", "real")] and "with two masked faces (real masks)." in findings(
        result
    )
    assert "masked-masked, real masks" in page(result)


def test_infinite_ratios_are_null_in_json(quick, on, model):
    result = benchmark([model], on)
    metrics = result.measured[0].metrics["unmasked-unmasked", "none"]
    metrics["fdr"] = dataclasses.replace(metrics["fdr"], value=np.inf, high=np.inf)
    rows = json.loads(json.dumps(as_json(result), allow_nan=False))["metrics"]
    assert next(row for row in rows if row["metric"] == "fdr")["value"] is None
