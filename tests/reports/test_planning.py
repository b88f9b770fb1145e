"""The power of a study, computed before it runs from the variances of a published one."""

import dataclasses

import pandas as pd
import pytest
from IPython.display import Markdown

from maskinv_lib.evaluation import power
from maskinv_lib.evaluation.uncertainty import pairs
from maskinv_lib.evaluation.verdicts import CLAIMS
from maskinv_lib.reports import comparison, planning
from maskinv_lib.study import profiles
from maskinv_lib.utils import paths
from tests import tiny

MASKED = ("masked-masked", "unseen")


@pytest.fixture
def published(shared, ablation, tmp_path, monkeypatch):
    """The tiny study, published as if from two seeds; the committed plans lie elsewhere."""
    for name in tiny.RUNGS:
        tiny.archive(shared[0], tmp_path, name, seeds=2)
    monkeypatch.setenv("MASKINV_RESULTS", str(tmp_path))
    monkeypatch.setattr(planning, "power_file", lambda profile: tmp_path / f"power-{profile.name}.csv")
    return tiny.profile()


def test_the_power_of_every_contrast_follows_from_the_variances_of_the_earlier_study(published):
    larger = dataclasses.replace(published, faces=dataclasses.replace(published.faces, test=2 * published.faces.test))
    frame = pd.read_csv(planning.plan_power(larger, published, 7))
    assert tuple(frame.columns) == planning.COLUMNS
    expected = sum(len(contrast.cases) * len(claim.metrics) for claim in CLAIMS for contrast in claim.contrasts)
    assert len(frame) == expected and set(frame["seeds"]) == {7} and set(frame["people"]) == {larger.faces.test}
    row = frame[(frame["claim"] == 3) & (frame["stage"] == "maskinv-lg") & (frame["condition"] == MASKED[0])].iloc[0]
    evaluations = comparison.evaluations_of(comparison.read_published(published)[0])
    sides = pairs(evaluations, "maskinv-lg", "elasticface-arc-aug", MASKED)[1:]
    over_people, over_seeds, people = power.variances(*sides, "eer")
    chance = power.chance(0.005, 7, over_people / 2, over_seeds, larger.faces.test)
    assert row["power"] == pytest.approx(chance, rel=1e-4) and row["from_people"] == people
    assert row["sd_people"] ** 2 == pytest.approx(over_people / 2, rel=1e-4)


def test_a_contrast_that_the_earlier_study_lacks_is_kept_without_numbers(published):
    planning.plan_power(published, published, 5)
    text = planning.planned_power(published).to_html()
    assert "not known before" in text and "5 seeds" in text and "2 seeds" in text


def test_without_a_plan_one_sentence_says_so(published):
    sentence = planning.planned_power(published)
    assert isinstance(sentence, Markdown) and "No power was computed" in sentence.data


def test_power_is_not_planned_for_real_people(published):
    real = dataclasses.replace(published, name="real", faces=dataclasses.replace(published.faces))
    object.__setattr__(real.faces, "publishable", False)
    with pytest.raises(ValueError, match="real from tiny: power is planned for rendered people alone"):
        planning.plan_power(real, published, 5)


def test_the_committed_plans_fit_the_profiles():
    for path in sorted((paths.root() / "workflow/power").glob("*.csv")):
        frame, profile = pd.read_csv(path), profiles.get_profile(path.stem)
        assert set(frame["people"]) == {profile.faces.test} and set(frame["profile"]) == {profile.name}
        assert set(frame["claim"]) == {claim.number for claim in CLAIMS}
