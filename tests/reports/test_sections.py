"""The comparison's sections: which systems answer which question, against what, and what stands where nothing ran."""

import dataclasses

import pandas as pd
import pytest
from IPython.display import Markdown
from matplotlib.figure import Figure

from maskinv_lib.evaluation import rankings
from maskinv_lib.evaluation.metrics import Metric
from maskinv_lib.pipeline import evaluate
from maskinv_lib.pipeline.train import train
from maskinv_lib.reports import comparison, sections
from maskinv_lib.study import methods
from maskinv_lib.study.ablation import BASELINE
from maskinv_lib.study.profiles import STAGES
from maskinv_lib.study.recipes import Point, Sweep
from tests import tiny

QUESTIONS = tuple(sections.VARIED)
AUG = sections.REFERENCE
LUCKY = Metric(name="eer", value=0.0, low=0.0, high=0.0, genuine=9, impostor=9)


@pytest.fixture(scope="module")
def measured(shared, trained_methods):
    """Every system of the tiny profile, measured, as if with two seeds."""
    with pytest.MonkeyPatch.context() as patch:
        tiny.register(patch, shared[0])
        beside = [stage.name for stage in methods.METHODS if stage.question != "ingredient"]
        found = dict(shared[2]) | {name: evaluate.evaluate_run(tiny.method_run(name)) for name in beside}
    again = {name: dataclasses.replace(one, run=dataclasses.replace(one.run, seed=1)) for name, one in found.items()}
    return {name: [dataclasses.replace(one, facts=FACTS), dataclasses.replace(again[name], facts=FACTS)]
            for name, one in found.items()}  # fmt: skip


FACTS = {"seconds": 1.0, "precision": "float32"}


def text_of(shown) -> str:
    return "\n".join(one.to_html() for one in shown if hasattr(one, "to_html"))


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_section_shows_its_systems_against_what_they_vary(question, measured, ladder):
    profile = tiny.profile()
    shown = sections.compare_methods(measured, profile, question=question)
    names = [stage.name for stage in STAGES.values() if stage.question == question]
    assert names and all(f">{name}<" in text_of(shown) for name in names)
    assert sum(isinstance(one, Figure) for one in shown) == 1
    assert f"minus that of {sections.reference_of(profile, question)}" in text_of(shown)
    assert ("minus that of maskinv-lambda3000" in text_of(shown)) == (question == "own")


def test_a_section_whose_systems_did_not_run_says_how_to_run_them(measured, ladder):
    rungs = comparison.rungs_of(measured, tiny.profile())
    (said,) = sections.compare_methods(rungs, tiny.profile(), question="neighbours")
    assert isinstance(said, Markdown) and "SCOPE=all" in said.data


def test_every_question_has_a_rung_to_be_compared_with_on_either_ladder():
    questions = {stage.question for stage in methods.METHODS} - {"ingredient"}
    assert questions == set(QUESTIONS)
    real = dataclasses.replace(
        tiny.profile(),
        stages=("teacher", "finetune-clean", "elasticface-arc-aug", "maskinv-hg"),
        stands_for={BASELINE: "teacher"},
    )
    assert {sections.reference_of(real, question) for question in questions} <= set(real.stages)
    assert sections.reference_of(real, "margins") == "finetune-clean"
    assert {sections.reference_of(tiny.profile(), question) for question in questions} <= set(tiny.RUNGS)


def test_the_ranking_holds_every_system_under_every_condition_and_marks_oracles(measured, ladder):
    standings = sections.rank_methods(measured, tiny.profile())
    assert len(standings) == 3 * len(measured)
    assert {one.stage for one in standings if one.rank is None} == {"srt-oracle", "mask-aware-oracle"}
    tables = sections.ranking_tables(measured, standings)
    assert len(tables) == 3 and "our reading" in text_of(tables) and "oracle: told which" in text_of(tables)
    frame = sections.ranking_frame(measured, tiny.profile(), standings)
    assert list(frame.columns) == list(rankings.COLUMNS) and set(frame["benchmark"]) == {"rendered-test"}
    assert set(frame["against"]) >= {"elasticface-arc-aug"}


def test_all_places_of_the_ranking_rest_on_the_seeds_that_every_system_has(measured, ladder):
    def better(one):
        parts = {
            case: dataclasses.replace(part, metrics={**part.metrics, "eer": LUCKY})
            for case, part in one.evaluations.items()
        }
        return dataclasses.replace(one, run=dataclasses.replace(one.run, seed=2), evaluations=parts)

    lucky = {**measured, "kd-only": [*measured["kd-only"], better(measured["kd-only"][0])]}
    assert sections.rank_methods(lucky, tiny.profile()) == sections.rank_methods(measured, tiny.profile())
    assert {one.seeds for one in sections.rank_methods(lucky, tiny.profile())} == {2}


def test_rungs_that_saw_masks_are_drawn_against_masks_alone(measured, ladder):
    figure = sections.compare_rungs(measured, tiny.profile())
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["kd-only", "maskinv-lg", "maskinv-lambda3000", "maskinv-hg"]
    rates = [measured[name][0].evaluations["masked-masked", "unseen"].metrics["eer"].value for name in (names[0], AUG)]
    drawn = [x for line in figure.axes[-1].get_lines() for x in line.get_xdata()]
    assert any(x == pytest.approx(100 * (rates[0] - rates[1])) for x in drawn)
    assert "elasticface-arc-aug, points" in figure.axes[0].get_xlabel()
    few = {name: measured[name] for name in ("elasticface-arc", AUG)}
    assert isinstance(sections.compare_rungs(few, tiny.profile()), Markdown)


def test_power_needs_two_seeds(measured, ladder):
    assert "seeds for 1 point" in sections.power_table(measured, tiny.profile()).to_html()
    one = {name: found[:1] for name, found in measured.items()}
    assert isinstance(sections.power_table(one, tiny.profile()), Markdown)


def test_sweeps_mix_rungs_with_runs_of_their_own(measured, ladder):
    own = tiny.run_of("kd-only", overrides="mask_probability=0.25")
    train(own)
    points = (Point(x=0.25, stage="kd-only", overrides={"mask_probability": 0.25}), Point(x=0.5, stage="kd-only"))
    sweep = Sweep(name="some", question="?", axis="mask probability", lines={"guided": points}, logarithmic=False)
    profile = dataclasses.replace(tiny.profile(), sweeps=(sweep,))
    found = {**measured, own.name: [evaluate.evaluate_run(own)]}
    panels = sections.sweep_panels(found, profile, sweep)
    lines = next(iter(panels.values()))["guided"]
    assert [x for x, _, _ in lines] == [0.25, 0.5] and [len(seeds) for _, _, seeds in lines] == [1, 2]
    assert isinstance(sections.sweep_figure(found, profile, sweep), Figure)
    frame = sections.sweep_frame(found, profile)
    assert isinstance(frame, pd.DataFrame) and len(frame) == 2 * len(panels)
    assert set(frame["sweep"]) == {"some"} and (frame["low"] <= frame["eer"]).all()


def test_masks_that_trade_places_are_judged_on_both_families(measured, ladder):
    found = dict(measured)
    for point in methods.OTHER_MASKS:
        run = tiny.run_of(point.stage, overrides="mask_kinds=unseen")
        assert run.plan.mask_kinds == "unseen"
        train(run)
        found[run.name] = [evaluate.evaluate_run(run)]
    shown = sections.swapped_masks(found, tiny.profile()).data
    assert len(shown) == 4 and list(shown.columns) == [
        "masked-unmasked, seen masks", "masked-unmasked, unseen masks",
        "masked-masked, seen masks", "masked-masked, unseen masks",
    ]  # fmt: skip
