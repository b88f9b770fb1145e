"""The stored results of an evaluation are small and precise enough."""

import numpy as np
import pytest

from maskinv_lib.evaluation.metrics import curve_of_scores
from maskinv_lib.pipeline import records


def test_packed_resamples_lose_a_fiftieth_of_their_spread():
    values = np.random.default_rng(0).normal(0.03, 0.004, 2000).astype(np.float32)
    values[5] = np.nan
    arrays = records.packed({"a/b/eer": values, "a/b/fmr100": 2 * values})
    read = records.unpacked(arrays)["a/b/eer"]
    assert arrays["levels"].dtype == np.uint8 and list(records.unpacked(arrays)) == ["a/b/eer", "a/b/fmr100"]
    assert np.isnan(read[5]) and np.nanmax(np.abs(read - values)) < 0.04 * np.nanstd(values)
    assert np.nanstd(read) == pytest.approx(np.nanstd(values), rel=1e-3)
    for constant in (np.zeros(9), np.full(9, np.nan)):
        np.testing.assert_array_equal(records.unpacked(records.packed({"x": constant}))["x"], constant)


def test_a_thinned_curve_keeps_its_ends_and_shape():
    generator = np.random.default_rng(0)
    curve = curve_of_scores(generator.normal(0.6, 0.1, 3000), generator.normal(0.0, 0.1, 50_000))
    thin = records._thinned(curve, ("thresholds", "fmr", "fnmr"))
    assert len(thin["fmr"]) <= records.CURVE_POINTS and thin["impostor"] == 50_000
    assert (thin["fmr"][0], thin["fmr"][-1], thin["fnmr"][0], thin["fnmr"][-1]) == (1, 0, 0, 1)
    interpolated = np.interp(curve.thresholds, thin["thresholds"], thin["fnmr"])
    assert np.abs(interpolated - curve.fnmr).max() < 0.05
    assert "thresholds" not in records._thinned(curve, ("fmr", "fnmr"))
