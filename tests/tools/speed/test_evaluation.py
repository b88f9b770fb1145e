import dataclasses
import os

import pytest

from maskinv_lib.study.profiles import get_profile
from maskinv_lib.tools.speed import evaluation
from maskinv_lib.tools.speed.measuring import Row
from tests.tools.speed import small


def test_the_sum_of_the_parts_is_set_against_the_training_of_a_stage(tmp_path):
    setting = small.setting(tmp_path)
    for number, part in enumerate(evaluation.PARTS, 1):
        setting.done.append(Row(group="evaluation", name=evaluation._named(setting, part), value=float(number)))
    setting.done.append(Row(group="training", name="compact, batch 4, fp32, 1 thread", value=100.0))
    total, share = evaluation.share(setting)
    assert (total.value, total.unit) == (15.0, "s")
    training = get_profile("laptop").schedule.budget / 100  # seconds, at 100 faces/s
    assert share.value == pytest.approx(100 * 15 / training) and share.unit == "%"
    assert f"of {training:,.0f} s" in share.against
    setting.done[0] = dataclasses.replace(setting.done[0], error="failed")
    with pytest.raises(RuntimeError, match="not measured"):
        evaluation.share(setting)


def test_the_parts_of_an_evaluation_are_timed_one_by_one(tmp_path):
    setting = small.setting(tmp_path)
    rows = evaluation.parts(setting)
    assert [row.name for row in rows] == [evaluation._named(setting, part) for part in evaluation.PARTS[:-1]]
    assert all(row.unit == "s" and row.value >= 0 for row in rows)


def test_stages_are_compared_with_the_first_one(tmp_path, monkeypatch):
    compared = []
    monkeypatch.setattr(evaluation, "paired_difference", lambda ours, first, name: compared.append((ours, first)))
    pool = evaluation.random_evaluations(small.setting(tmp_path), 3)
    evaluation.compare_stages({"a": pool[:2], "b": pool[1:]})
    case = next(iter(pool[0]))
    assert compared[0] == ([pool[1][case], pool[2][case]], [pool[0][case], pool[1][case]])
    assert len(compared) == sum(len(pool[0][case].resamples) for case in pool[0])


@pytest.mark.study
def test_the_start_of_a_notebook_leaves_the_environment_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    before = dict(os.environ)
    (row,) = evaluation.start(small.setting(tmp_path))
    assert row.value > 0 and dict(os.environ) == before
