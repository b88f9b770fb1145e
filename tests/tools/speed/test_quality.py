"""Time to quality: rows per training, levels between two budgets, and levels that were not reached."""

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from maskinv_lib.networks.iresnet import COMPACT
from maskinv_lib.study.profiles import get_profile
from maskinv_lib.tools.speed import quality
from maskinv_lib.tools.speed.quality import CANDIDATES, Candidate, run_candidates, times_to_levels


def test_every_candidate_has_a_row_per_budget_in_the_file_and_in_the_table(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKINV_RUNS", str(tmp_path))
    monkeypatch.setattr(quality, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(1))
    small = {"network": {**COMPACT, "widths": (8, 8, 8, 8)}, "batch": 8, "people": 4, "views": 4}
    candidates = [Candidate(name=name, **small) for name in ("second", "first")]
    rows = run_candidates(tmp_path / "quality.csv", candidates, (16, 32), profile=get_profile("smoke"))
    expected = [["second", 16], ["second", 32], ["first", 16], ["first", 32]]
    assert rows[["candidate", "faces"]].values.tolist() == expected
    assert (rows["eer"] > quality.LEVELS[-1]).all()
    assert pd.read_csv(tmp_path / "quality.csv")["faces"].tolist() == rows["faces"].tolist()
    same = rows.groupby("faces")["eer"].nunique()
    assert (same == 1).all()  # the name decides nothing


def test_levels_are_interpolated_bounded_or_not_reached():
    rows = pd.DataFrame(
        [("a", 100, 10.0, 0.04), ("a", 400, 40.0, 0.01), ("b", 100, 20.0, 0.06), ("b", 400, 80.0, 0.025)],
        columns=["candidate", "faces", "seconds", "eer"],
    )
    a, b = times_to_levels(rows).to_dict("records")
    assert (a["faces to 5 %"], a["seconds to 5 %"]) == (100, 10.0)
    assert a["faces to 2 %"] == pytest.approx(200) and a["seconds to 2 %"] == pytest.approx(20)
    assert a["faces to 1 %"] == pytest.approx(400)
    assert 100 < b["faces to 5 %"] < b["faces to 3 %"] < 400
    assert math.isnan(b["faces to 2 %"]) and math.isnan(b["seconds to 2 %"]) and b["eer"] == 0.025


def test_the_candidates_differ_and_hold_the_network_of_the_study():
    assert len({dataclasses.replace(one, name="").__repr__() for one in CANDIDATES}) == len(CANDIDATES) >= 6
    assert any(one.network == COMPACT and one == dataclasses.replace(CANDIDATES[1]) for one in CANDIDATES)


def test_a_table_that_is_missing_or_another_one_is_named_with_the_remedy(tmp_path):
    path = tmp_path / "quality.csv"
    with pytest.raises(ValueError, match=r"quality\.csv cannot be read .*bench --quality"):
        quality.read(path)
    for text in ("a,b\n1,2\n", "candidate,faces,seconds,eer\n", "candidate,faces,seconds,eer\nx,1,2,=1+1\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"is not the table of the candidates.*bench --quality"):
            quality.read(path)
