import os

import pytest

from maskinv_lib.tools.speed import growth
from tests.tools.speed import small


def test_the_exponent_of_a_power_law_is_found():
    sizes = [10, 20, 40, 80]
    assert growth.exponent(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert growth.exponent(sizes, [7.0] * 4) == pytest.approx(0, abs=1e-9)


def test_each_kind_has_four_sizes_and_an_exponent(tmp_path):
    for task in growth.tasks(small.setting(tmp_path)):
        *points, power = task.run()
        assert len(points) == 4 and all(row.unit == "s" for row in points)
        assert power.unit == growth.EXPONENT and power.name == task.name
        assert all(row.name.startswith(f"{power.name}, ") for row in points)


def test_preparing_a_study_marks_its_stages_in_a_folder_of_its_own(tmp_path):
    before, setting = os.environ["MASKINV_RUNS"], small.setting(tmp_path / "bench")
    growth.study(setting, 3)()
    assert os.environ["MASKINV_RUNS"] == before
    assert len(list((setting.folder / "study-3").rglob("keys/*"))) > 3
    with pytest.raises(ValueError, match="fewer than 1000"):
        growth.study(setting, 1000)
