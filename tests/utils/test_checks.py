import numpy as np
import pytest

from maskinv_lib.utils import checks


def test_choose_names_value_kind_and_nearest():
    with pytest.raises(ValueError, match=r"Unknown profile 'Smoke' \(str\)\. Did you mean 'smoke'\? Known: smoke, gpu"):
        checks.choose("profile", "Smoke", ["smoke", "gpu"])
    with pytest.raises(ValueError, match=r"Unknown stage 100 \(int\)\. Known: a"):
        checks.choose("stage", 100, ["a"])
    assert checks.choose("stage", "a", {"a": 1}) == "a"


@pytest.mark.parametrize("value", [-1, 1.5, 1000.0, True, "3", float("nan"), float("inf"), None, 2**53, np.bool_(True)])
def test_whole_number_refuses(value):
    with pytest.raises(ValueError, match="seed must be a whole number from 0 up"):
        checks.whole_number("seed", value)


def test_whole_number_accepts_integers_of_any_type():
    assert checks.whole_number("seed", np.int32(7)) == 7
    assert checks.whole_number("seeds", 1, minimum=1) == 1
    with pytest.raises(ValueError, match="from 1 up"):
        checks.whole_number("seeds", 0, minimum=1)


@pytest.mark.parametrize("value", [-0.1, 1.1, True, "0.5", float("nan")])
def test_fraction_refuses(value):
    with pytest.raises(ValueError, match="mask_probability must be a number from 0 to 1"):
        checks.fraction("mask_probability", value)


def test_number_accepts_its_range_and_names_it():
    assert checks.number("scale", np.float32(2), minimum=1) == 2.0 and checks.fraction("share", 1) == 1.0
    with pytest.raises(ValueError, match=r"scale must be a number from 1 up, not inf \(float\)"):
        checks.number("scale", float("inf"), minimum=1)


def test_only_known_names_the_unknown_name():
    with pytest.raises(ValueError, match=r"Unknown setting 'margni'.*Did you mean 'margin'"):
        checks.only_known("setting", ["scale", "margni"], ["margin", "scale"])
