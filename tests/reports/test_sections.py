"""The sections of the comparison: methods by question, their references, ranking, power and sweeps."""

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
def measured(shared, measured_methods):
    """The evaluations of every method of the tiny profile, each used as if from two seeds."""
    evaluated = shared[2] | measured_methods[1]
    return {name: [of_seed(part, seed) for seed in (0, 1)] for name, part in evaluated.items()}


def of_seed(evaluated, seed, **changed):
    """Return the evaluation as that of another seed."""
    facts = {"seconds": 1.0, "precision": "float32"}
    return dataclasses.replace(evaluated, run=dataclasses.replace(evaluated.run, seed=seed), facts=facts, **changed)


def text_of(outputs) -> str:
    return "\n".join(output.to_html() for output in outputs if hasattr(output, "to_html"))


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_section_compares_its_methods_with_the_rung_that_they_change(question, measured, ablation):
    profile = tiny.profile()
    outputs = sections.compare_methods(measured, profile, question=question)
    names = [stage.name for stage in STAGES.values() if stage.question == question]
    assert names and all(f">{name}<" in text_of(outputs) for name in names)
    assert sum(isinstance(output, Figure) for output in outputs) == 1
    assert f"minus that of {sections.reference_of(profile, question)}" in text_of(outputs)
    assert ("minus that of maskinv-lambda3000" in text_of(outputs)) == (question == "own")


def test_a_section_whose_methods_did_not_run_names_the_command(measured, ablation):
    rungs = comparison.rungs_of(measured, tiny.profile())
    (sentence,) = sections.compare_methods(rungs, tiny.profile(), question="neighbours")
    assert isinstance(sentence, Markdown) and "SCOPE=all" in sentence.data


def test_every_question_has_a_reference_in_both_ablations():
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


def test_the_ranking_has_every_method_under_every_condition_and_marks_oracles(measured, ablation):
    standings = sections.rank_methods(measured, tiny.profile())
    assert len(standings) == 3 * len(measured)
    assert {row.stage for row in standings if row.rank is None} == {"srt-oracle", "mask-aware-oracle"}
    tables = sections.ranking_tables(measured, standings)
    assert len(tables) == 3 and "our reading" in text_of(tables) and "oracle: given the truth" in text_of(tables)
    frame = sections.ranking_frame(measured, tiny.profile(), standings)
    assert list(frame.columns) == list(rankings.COLUMNS) and set(frame["benchmark"]) == {"rendered-test"}
    assert set(frame["against"]) >= {"elasticface-arc-aug"}


def test_the_ranking_uses_only_seeds_that_every_method_has(measured, ablation):
    def better(evaluated):
        parts = {
            case: dataclasses.replace(part, metrics={**part.metrics, "eer": LUCKY})
            for case, part in evaluated.evaluations.items()
        }
        return of_seed(evaluated, 2, evaluations=parts)

    lucky = {**measured, "kd-only": [*measured["kd-only"], better(measured["kd-only"][0])]}
    assert sections.rank_methods(lucky, tiny.profile()) == sections.rank_methods(measured, tiny.profile())
    assert {row.seeds for row in sections.rank_methods(lucky, tiny.profile())} == {2}


def test_rungs_trained_with_masks_are_compared_with_masks_alone(measured, ablation):
    figure, shows = sections.compare_rungs(measured, tiny.profile())
    assert shows.data.startswith(f"**What it shows.** Against {AUG}")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["kd-only", "maskinv-lg", "maskinv-lambda3000", "maskinv-hg"]
    rates = [measured[name][0].evaluations["masked-masked", "unseen"].metrics["eer"].value for name in (names[0], AUG)]
    drawn = [x for line in figure.axes[-1].get_lines() for x in line.get_xdata()]
    assert any(x == pytest.approx(100 * (rates[0] - rates[1])) for x in drawn)
    assert "elasticface-arc-aug, points" in figure.axes[0].get_xlabel()
    few = {name: measured[name] for name in ("elasticface-arc", AUG)}
    (sentence,) = sections.compare_rungs(few, tiny.profile())
    assert isinstance(sentence, Markdown)


def test_power_needs_two_seeds(measured, ablation):
    assert "seeds for 1 point" in sections.power_table(measured, tiny.profile()).to_html()
    one = {name: evaluated[:1] for name, evaluated in measured.items()}
    assert isinstance(sections.power_table(one, tiny.profile()), Markdown)


def test_sweeps_mix_rungs_with_runs_of_their_own(measured, ablation):
    own = tiny.run_of("kd-only", overrides="mask_probability=0.25")
    train(own)
    points = (Point(x=0.25, stage="kd-only", overrides={"mask_probability": 0.25}), Point(x=0.5, stage="kd-only"))
    sweep = Sweep(name="masks", question="?", axis="mask probability", lines={"guided": points}, logarithmic=False)
    profile = dataclasses.replace(tiny.profile(), sweeps=(sweep,))
    results = {**measured, own.name: [evaluate.evaluate_run(own)]}
    panels = sections.sweep_panels(results, profile, sweep)
    lines = next(iter(panels.values()))["guided"]
    assert [x for x, _, _ in lines] == [0.25, 0.5] and [len(seeds) for _, _, seeds in lines] == [1, 2]
    figure, shows = sections.sweep_figure(results, profile, sweep)
    assert isinstance(figure, Figure) and "Lowest EER by mask probability, unmasked" in shows.data
    fewer = {name: evaluated for name, evaluated in results.items() if name != own.name}
    assert [x for x, _, _ in next(iter(sections.sweep_panels(fewer, profile, sweep).values()))["guided"]] == [0.5]
    frame = sections.sweep_frame(results, profile)
    assert isinstance(frame, pd.DataFrame) and len(frame) == 2 * len(panels)
    assert set(frame["sweep"]) == {"masks"} and (frame["low"] <= frame["eer"]).all()


def test_methods_trained_with_swapped_masks_are_tested_on_both_families(measured, ablation):
    results = dict(measured)
    for point in methods.OTHER_MASKS:
        run = tiny.run_of(point.stage, overrides="mask_kinds=unseen")
        assert run.plan.mask_kinds == "unseen"
        train(run)
        results[run.name] = [evaluate.evaluate_run(run)]
    table = sections.swapped_masks(results, tiny.profile()).data
    families = ("seen masks", "unseen masks")
    cases = [f"{condition}, {masks}" for condition in ("masked-unmasked", "masked-masked") for masks in families]
    assert len(table) == 4 and list(table.columns) == cases


def test_what_was_not_run_is_one_sentence(measured, ablation):
    sentence = sections.swapped_masks(measured, tiny.profile())
    assert isinstance(sentence, Markdown) and "make study SCOPE=all" in sentence.data
