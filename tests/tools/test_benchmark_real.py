"""The benchmark of the published teacher gives the rates that the study published, where the data are there."""

import csv
import os
from pathlib import Path

import pytest

from maskinv_lib.evaluation.benchmarks.opening import open_set
from maskinv_lib.tools.benchmark import benchmark
from maskinv_lib.tools.recogniser import open_recogniser
from tests.conftest import ROOT

DATA = os.environ.get("MASKINV_DATA")


@pytest.mark.skipif(not DATA, reason="needs MFR2 and the teacher's weights in a data folder (MASKINV_DATA)")
def test_the_teacher_on_mfr2_has_its_published_rates():
    result = benchmark(
        [open_recogniser(Path(DATA) / "models/mobilefacenet_y1.safetensors")], open_set(Path(DATA) / "faces/mfr2")
    )
    rows = csv.DictReader((ROOT / "results/real/tables/mfr2/metrics.csv").read_text(encoding="utf-8").splitlines())
    published = {
        (row["condition"], row["mask_kinds"], row["metric"]): float(row["value"])
        for row in rows
        if row["stage"] == "teacher" and row["seed"] == "all" and row["metric"] in ("eer", "fmr100") and row["value"]
    }
    metrics = result.measured[0].metrics
    assert len(published) == 8
    for (condition, kinds, name), value in published.items():
        assert metrics[condition, kinds][name].value == pytest.approx(value, abs=2e-3)
