"""Plans: stages at the scale of a profile, overrides, and what cannot be trained."""

import dataclasses

import pytest

from maskinv_lib.study import plan, recipes
from maskinv_lib.study.profiles import STAGES, get_profile


@pytest.fixture
def base() -> plan.Plan:
    return plan.plan(STAGES["maskinv-lg"], get_profile("laptop"))


def test_margins_and_their_deviation_take_the_profile_s_scale_and_other_terms_do_not(base):
    margin, guided = base.objectives
    assert margin.settings == {"margin": 0.3, "scale": 32.0, "deviation": 0.03}
    assert guided.settings == {"lambda_": 100.0}


def test_the_share_of_a_stage_scales_its_budget():
    profile = get_profile("laptop")
    hg = plan.plan(STAGES["maskinv-hg"], profile)
    assert hg.schedule.budget == round(profile.schedule.budget * 26 / 46)
    assert not hg.schedule.head_warm_up


def test_overrides_reach_settings_schedule_and_plan(base):
    changed = plan.override(base, plan.parse_overrides("lambda=300, batch=16, mask_probability=0.1"))
    assert changed.objectives[1].settings == {"lambda_": 300.0}
    assert changed.schedule.batch == 16
    assert changed.mask_probability == 0.1
    assert changed.objectives[0] == base.objectives[0]
    assert base.schedule.batch == 32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lamda=3", "Unknown override 'lamda'.*Did you mean 'lambda'"),
        ("lambda=high", "override lambda must be float such as 100.0, not 'high'"),
        ("batch=32.5", "override batch must be int such as 32, not 32.5"),
        ("batch=True", "override batch must be int"),
        ("mask_probability=2", "mask_probability must be a number from 0 to 1"),
        ("lambda=1e999", "override lambda must be float"),
    ],
)
def test_overrides_that_do_not_fit_are_refused(base, text, message):
    with pytest.raises(ValueError, match=message):
        plan.override(base, plan.parse_overrides(text))


def test_an_objective_that_is_used_twice_is_refused(base):
    twice = dataclasses.replace(base, objectives=(*base.objectives, base.objectives[-1]))
    with pytest.raises(ValueError, match=r"template_kd\.TemplateKD is 2 times among the objectives"):
        plan.check(twice)


@pytest.mark.parametrize("text", ["lambda", "=3", "lambda=", "lambda=1, lambda=2", 300, None])
def test_texts_that_are_no_overrides_are_refused(text):
    with pytest.raises(ValueError, match="overrides"):
        plan.parse_overrides(text)


def test_overrides_are_sorted_so_that_one_run_has_one_folder():
    assert list(plan.parse_overrides("scale=16, batch=32")) == ["batch", "scale"]
    assert plan.parse_overrides("") == {}


def test_splits_share_nobody():
    faces = recipes.RenderedFaces()
    splits = [set(faces.split(name)[0]) for name in ("train", "validation", "test")]
    assert not set.intersection(*splits) and sum(map(len, splits)) == len(set.union(*splits))
    with pytest.raises(ValueError, match="Unknown split 'tset'"):
        faces.split("tset")


def test_a_plan_is_plain_data_without_defaults(base):
    assert base.as_dict()["schedule"]["batch"] == 32 and "sampler" not in base.as_dict()
    assert all(dataclasses.is_dataclass(term) for term in base.objectives)
