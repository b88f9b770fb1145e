"""Plans are checked in simulated studies: a difference of the planned size is shown as often as planned."""

import math

import numpy as np
import pytest
from scipy import stats

from maskinv_lib.evaluation import power
from maskinv_lib.evaluation.metrics import Metric
from maskinv_lib.evaluation.power import chance, people_needed, prospects, seeds_needed, smallest_difference, variances
from maskinv_lib.evaluation.resampling import identity_weights
from maskinv_lib.evaluation.uncertainty import paired_difference, seed_and_identity_interval, two_variances
from maskinv_lib.evaluation.verdicts import CLEAN, MASKED
from tests.evaluation.simulated import evaluation

DESIGNS = ((0.003, 0.004, 200), (0.001, 0.01, 53), (0.01, 0.002, 53), (0.002, 0.006, 120))


def shown(people_sd, seed_sd, identities, seeds, size, interaction=0.0, studies=500):
    """How often the interval of a whole study of normal draws, resampled as the real ones are, excludes zero."""
    generator, hits = np.random.default_rng(seeds), 0
    weights = identity_weights(identities, 300)
    for _ in range(studies):
        people = generator.normal(size=identities) * people_sd * math.sqrt(identities)
        mixed = generator.normal(size=(seeds, identities)) * interaction * math.sqrt(identities)
        drawn = size + people + mixed + generator.normal(size=(seeds, 1)) * seed_sd  # [seeds, people]
        interval = seed_and_identity_interval(drawn.mean(axis=1), drawn @ weights.T / identities, identities)
        hits += interval.low > 0
    return hits / studies


@pytest.mark.parametrize(
    ("people_sd", "seed_sd", "seeds"), [(0.003, 0.004, 3), (0.003, 0.004, 8), (0.001, 0.01, 5), (0.002, 0.006, 2)]
)
def test_the_smallest_difference_is_shown_in_four_of_five_simulated_studies(people_sd, seed_sd, seeds):
    size = smallest_difference(seeds, people_sd**2, seed_sd, 60)
    assert chance(size, seeds, people_sd**2, seed_sd, 60) == pytest.approx(0.8, abs=1e-6)
    assert shown(people_sd, seed_sd, 60, seeds, size) == pytest.approx(0.8, abs=0.06)


def test_the_planned_number_of_seeds_is_enough_and_no_more_than_that():
    people_sd, seed_sd, size = 0.002, 0.008, 0.01
    seeds = seeds_needed(people_sd**2, seed_sd, size, 60)
    assert shown(people_sd, seed_sd, 60, seeds, size) > 0.76
    assert shown(people_sd, seed_sd, 60, seeds - 2, size) < 0.78


def test_the_interaction_makes_a_plan_give_too_many_seeds_rather_than_too_few():
    """Both variances contain the interaction: sd over seeds grows by it, and so does the variance over identities."""
    people_sd, seed_sd, mixed, seeds = 0.002, 0.004, 0.004, 4
    over_identities, over_seeds = people_sd**2 + mixed**2 / seeds, math.hypot(seed_sd, mixed)
    size = smallest_difference(seeds, over_identities, over_seeds, 60)
    assert shown(people_sd, seed_sd, 60, seeds, size, interaction=mixed) > 0.8


def test_without_variance_over_seeds_it_is_the_students_t_of_the_people():
    """The textbook's power of a one-sample t test, from the noncentral t."""
    error, freedom = 0.004, 79
    for size in (0.004, 0.008, 0.016):
        textbook = stats.nct.sf(stats.t.ppf(0.975, freedom), freedom, size / error)
        assert chance(size, 4, error**2, 0.0, 80) == pytest.approx(textbook, abs=0.005)


def test_without_variance_over_people_it_is_the_students_t_of_the_seeds():
    for seeds in (2, 3, 6, 20):
        for size in (0.01, 0.03, 0.09):
            textbook = stats.nct.sf(stats.t.ppf(0.975, seeds - 1), seeds - 1, size / (0.02 / math.sqrt(seeds)))
            assert chance(size, seeds, 0.0, 0.02, 50) == pytest.approx(textbook, abs=0.005)


def test_the_errors_are_those_of_the_interval():
    """At its expected variances, a study's half width is t times the error of ``two_variances``."""
    generator = np.random.default_rng(2)
    estimates = np.array([0.01, 0.03, 0.05, 0.02])
    wave = generator.normal(size=500)
    wave *= 0.004 / wave.std(ddof=1)
    total, freedom = two_variances(estimates, np.tile(wave, (4, 1)), 1000)
    people, seed = 0.004**2, np.var(estimates, ddof=1) / 4
    assert total == pytest.approx(people + seed)
    assert freedom == pytest.approx((people + seed) ** 2 / (people**2 / 999 + seed**2 / 3))
    half_widths = power._half_widths(4, people, float(np.std(estimates, ddof=1)), 1000, 0.95)
    assert half_widths.shape == (64, 9)
    assert half_widths.min() < stats.t.ppf(0.975, freedom) * math.sqrt(total) < half_widths.max()


@pytest.mark.parametrize(("people_sd", "seed_sd", "identities"), DESIGNS)
def test_the_search_agrees_with_trying_every_number(people_sd, seed_sd, identities):
    for size in (0.0005, 0.005, 0.01, 0.02):
        tried = [n for n in range(2, 61) if chance(size, n, people_sd**2, seed_sd, identities) >= 0.8]
        assert seeds_needed(people_sd**2, seed_sd, size, identities, most=60) == (tried[0] if tried else None)


def test_more_seeds_a_larger_size_or_a_lower_power_need_less():
    sizes = [smallest_difference(seeds, 0.003**2, 0.004, 100) for seeds in (2, 3, 5, 10, 100)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] > 2.8 * 0.003  # seeds do not lower the variance over people: 1.96 + 0.84 standard errors
    assert seeds_needed(0.002**2, 0.01, 0.01, 100) > seeds_needed(0.002**2, 0.01, 0.02, 100)
    assert seeds_needed(0.002**2, 0.01, 0.01, 100) > seeds_needed(0.002**2, 0.01, 0.01, 100, power=0.5)
    assert seeds_needed(0.002**2, 0.01, 0.01, 100, level=0.99) > seeds_needed(0.002**2, 0.01, 0.01, 100)
    assert seeds_needed(0.002**2, 0.01, -0.01, 100) == seeds_needed(0.002**2, 0.01, 0.01, 100)


def test_where_the_people_are_too_few_it_says_how_many_more():
    settings = {"over_identities": 0.01**2, "over_seeds_sd": 0.002, "size": 0.01, "identities": 53}
    assert seeds_needed(**settings) is None
    factor = people_needed(**settings)
    assert factor == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) ** 2, rel=0.05)  # of (0.01 / 0.01)^2
    people = math.ceil(53 * factor)
    assert seeds_needed(0.01**2 / (1.01 * factor), 0.002, 0.01, people) is not None
    assert seeds_needed(0.01**2 / (0.95 * factor), 0.002, 0.01, people) is None
    assert people_needed(0.001**2, 0.002, 0.01, 53) == 1.0


def test_where_the_seeds_alone_hide_it_no_number_of_people_helps():
    assert seeds_needed(0.001**2, 0.05, 0.002, 53) is None
    assert people_needed(0.001**2, 0.05, 0.002, 53) == math.inf
    assert (seeds_needed(0.001**2, 0.01, 0.0, 53), people_needed(0.001**2, 0.01, 0.0, 53)) == (None, math.inf)


def test_without_any_variance_every_difference_but_zero_is_shown():
    assert smallest_difference(2, 0.0, 0.0, 10) == 0
    assert seeds_needed(0.0, 0.0, 1e-9, 10) == 2
    assert seeds_needed(0.0, 0.0, 0.0, 10) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 1}, "number of seeds must be a whole number from 2 up"),
        ({"identities": 1}, "number of identities must be a whole number from 2 up"),
        ({"over_identities": -1e-9}, "variance over identities must be a number from 0 up"),
        ({"over_seeds_sd": float("nan")}, "deviation over seeds must be a number from 0 up"),
        ({"power": 1.0}, "power must lie between 0 and 1"),
        ({"level": 95}, "level must be a number from 0 to 1"),
    ],
)
def test_designs_that_make_no_sense_are_named(settings, message):
    design = {"seeds": 3, "over_identities": 1e-6, "over_seeds_sd": 0.001, "identities": 50}
    with pytest.raises(ValueError, match=message):
        smallest_difference(**(design | settings))


def pair(seeds=4, gap=0.02, spread=0.004):
    ours = [evaluation(0.08 - gap + 0.003 * (-1) ** s, spread, seed=s) for s in range(seeds)]
    theirs = [evaluation(0.08 + 0.001 * s, spread, seed=100 + s) for s in range(seeds)]
    return ours, theirs


def test_variances_are_those_of_the_paired_difference():
    ours, theirs = pair()
    both = list(zip(ours, theirs, strict=True))
    differences = [a.metrics["eer"].value - b.metrics["eer"].value for a, b in both]
    draws = np.mean([a.resamples["eer"].astype(float) - b.resamples["eer"] for a, b in both], 0)
    people, seed_sd, identities = variances(ours, theirs, "eer")
    assert people == pytest.approx(np.var(draws, ddof=1))
    assert seed_sd == pytest.approx(np.std(differences, ddof=1))
    assert identities == 200
    assert people + seed_sd**2 / 4 == pytest.approx(paired_difference(ours, theirs, "eer").error ** 2)


def test_variances_keep_the_floor_of_few_errors():
    ours = [evaluation(0.0, 0.0, seed=s) for s in range(3)]
    people, seed_sd, _ = variances(ours, ours, "eer")
    assert seed_sd == 0
    assert people == pytest.approx(paired_difference(ours, ours, "eer").error ** 2)
    assert people > 0


def test_variances_need_two_seeds_and_something_measured():
    ours, theirs = pair(1)
    with pytest.raises(ValueError, match=r"needs two seeds or more, not 1: train further seeds"):
        variances(ours, theirs, "eer")
    ours, theirs = pair(2)
    ours[0].metrics["eer"] = Metric(name="eer", value=None, genuine=1, impostor=1)
    with pytest.raises(ValueError, match="eer is not measurable"):
        variances(ours, theirs, "eer")


def test_prospects_give_the_observed_difference_and_what_is_needed():
    ours, theirs = pair()
    evaluations = {(name, s): {MASKED: side[s]} for name, side in (("one", ours), ("two", theirs)) for s in range(4)}
    (prospect,) = prospects(evaluations, [("one", "two"), ("one", "missing")], [MASKED, CLEAN], sizes=(0.01, 0.02))
    names = (prospect.stage, prospect.against, prospect.case, prospect.metric, prospect.seeds)
    assert names == ("one", "two", MASKED, "eer", 4)
    assert prospect.difference == paired_difference(ours, theirs, "eer").value
    spread = {name: getattr(prospect, name) for name in ("over_identities", "over_seeds_sd", "identities")}
    assert tuple(spread.values()) == variances(ours, theirs, "eer")
    assert prospect.identities == 200
    assert prospect.smallest == smallest_difference(4, **spread)
    assert [need.size for need in prospect.needs] == [0.01, 0.02]
    assert [need.seeds for need in prospect.needs] == [seeds_needed(size=size, **spread) for size in (0.01, 0.02)]
    assert prospect.observed.size == abs(prospect.difference)
    assert prospect.observed.seeds == seeds_needed(size=prospect.difference, **spread)


def test_a_contrast_with_one_seed_has_no_prospect():
    ours, theirs = pair(1)
    assert prospects({("one", 0): {MASKED: ours[0]}, ("two", 0): {MASKED: theirs[0]}}, [("one", "two")], [MASKED]) == []
