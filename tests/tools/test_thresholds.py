"""Files of thresholds: valid for one model, selected by condition and FMR, and read strictly."""

import dataclasses
import json

import pytest

from maskinv_lib.tools.thresholds import (
    Threshold,
    decide,
    fixed_threshold,
    lowest_measured,
    read_thresholds,
    select_threshold,
    thresholds_json,
)
from maskinv_lib.utils import files


def at(value, fmr, **changes):
    base = {"benchmark": "own", "condition": "unmasked-unmasked", "mask_kinds": "none", "fnmr": 0.1, "impostor": 500}
    return Threshold(**{**base, "value": value, "fmr": fmr, **changes})


STORED = [
    at(0.3, 0.01, low=0.28, high=0.33),
    at(None, 0.001, fnmr=None),
    at(0.4, 0.01, condition="masked-masked", mask_kinds="seen"),
    at(0.5, 0.01, condition="masked-masked", mask_kinds="unseen"),
]


@pytest.fixture
def path(tmp_path):
    files.write_json(tmp_path / "t.json", thresholds_json("net", "abc", STORED))
    return tmp_path / "t.json"


def test_a_file_gives_back_the_thresholds(path):
    assert read_thresholds(path, "abc") == STORED


def test_thresholds_of_another_model_are_refused(path):
    with pytest.raises(ValueError, match="another model"):
        read_thresholds(path, "abd")


@pytest.mark.parametrize(
    "content", ['{"a": 1}', "[]", '{"thresholds": [{"value": 1}], "model": "", "sha256": null}', "{"]
)
def test_another_kind_of_file_is_named(path, content):
    path.write_text(content)
    with pytest.raises(ValueError, match=r"t\.json"):
        read_thresholds(path, "abc")


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match="calibrate"):
        read_thresholds(tmp_path / "no.json", "abc")


def test_selection_prefers_unseen_masks_and_names_what_is_known():
    assert select_threshold(STORED).value == 0.3
    assert select_threshold(STORED, condition="masked-masked").value == 0.5
    assert select_threshold(STORED, condition="masked-masked", mask_kinds="seen").value == 0.4
    with pytest.raises(ValueError, match="0\\.001, 0\\.01"):
        select_threshold(STORED, fmr=0.5)
    with pytest.raises(ValueError, match="masked-masked"):
        select_threshold(STORED, condition="masked")


def test_the_only_rate_of_a_file_is_its_default():
    assert select_threshold([at(0.7, 0.05)]).value == 0.7
    with pytest.raises(ValueError, match=r"FMR 0\.01\. Choose one with --fmr: 0\.02, 0\.05"):
        select_threshold([at(0.7, 0.05), at(0.8, 0.02)])


def test_the_lowest_measured_threshold_is_found():
    assert lowest_measured(STORED).value == 0.3
    assert lowest_measured([at(0.9, 0.001), *STORED]).value == 0.9
    assert lowest_measured([STORED[1]]).value is None


def test_a_threshold_says_its_interval_and_a_decision_its_word():
    assert "0.300 [0.280, 0.330], set for FMR 1.00%" in str(STORED[0])
    assert [decide(score, STORED[0]).word for score in (0.3, 0.299)] == ["same", "different"]
    assert decide(0.9, STORED[1]).word == "" and "not measurable" in str(decide(0.9, STORED[1]))


def test_a_decision_as_json_has_no_number_that_json_lacks():
    record = json.loads(json.dumps(decide(0.7, fixed_threshold(0.5)).as_json(), allow_nan=False))
    assert record["decision"] == "same" and record["threshold"]["fmr"] is None and record["similarity"] == 0.7
    assert decide(0.9, STORED[1]).as_json()["decision"] is None
    assert dataclasses.asdict(STORED[0])["low"] == 0.28


@pytest.mark.parametrize(
    "change",
    [{"value": float("nan")}, {"value": 2.0}, {"value": "0.4"}, {"fnmr": None}, {"fmr": "0.01"}, {"impostor": "x"}],
)
def test_impossible_values_are_refused(path, change):
    record = json.loads(path.read_text())
    record["thresholds"][0] |= change
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="threshold 1 has an impossible value"):
        read_thresholds(path, "abc")


def test_a_file_without_thresholds_and_one_of_another_function_are_refused(path):
    files.write_json(path, thresholds_json("m:f", None, []))
    with pytest.raises(ValueError, match="no threshold"):
        read_thresholds(path, None)
    files.write_json(path, thresholds_json("m:f", None, STORED))
    assert read_thresholds(path, None, "m:f") == STORED
    with pytest.raises(ValueError, match="another model"):
        read_thresholds(path, None, "m:g")
