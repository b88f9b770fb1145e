import numpy as np
import pytest

from maskinv_lib.tools.speed import all_pairs
from tests.tools.speed import small


def test_scikit_learn_s_curve_has_the_same_equal_error_rate():
    templates, people = all_pairs.random_templates(300, 8)
    eer = all_pairs.measured(templates, people)["eer"].value
    assert 0.05 < eer < 0.45
    assert all_pairs.plain_eer(templates, people) == pytest.approx(eer, abs=5e-4)


def test_templates_have_length_one_and_ten_are_of_each_person():
    templates, people = all_pairs.random_templates(40, 8)
    np.testing.assert_allclose(np.linalg.norm(templates, axis=1), 1, rtol=1e-5)
    assert np.bincount(people).tolist() == [10, 10, 10, 10]
    assert templates.dtype == np.float32


def test_the_baseline_is_scaled_per_comparison(tmp_path):
    (row,) = all_pairs.error_rates(small.setting(tmp_path))
    assert row.unit == "comparisons/s" and "60 templates" in row.name
    assert "40 templates" in row.against and "per comparison" in row.against
    assert all_pairs.pairs(5) == 10
