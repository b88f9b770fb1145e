"""Every other method trains, saves, loads, computes templates and is evaluated, and is defined as its entry says."""

import dataclasses
import itertools
import re

import numpy as np
import pytest

from maskinv_lib.evaluation.verdicts import CLAIMS
from maskinv_lib.pipeline import models, records, sources
from maskinv_lib.pipeline.train import train
from maskinv_lib.study import choices, methods, tuning
from maskinv_lib.study.ablation import ABLATION
from maskinv_lib.study.data import CONDITIONS, HEADS, HOWS
from maskinv_lib.study.launch import run_study
from maskinv_lib.study.profiles import STAGES, STAGES_BY_PEOPLE, get_profile
from maskinv_lib.study.runs import Run, all_runs, planned_runs, point_run, sweep_runs
from maskinv_lib.tools.recogniser import open_recogniser
from maskinv_lib.training.objectives import build_objective, known_objectives
from maskinv_lib.utils import files
from tests import tiny
from tests.conftest import rules_of, run_module

METHODS = [stage for stage in methods.METHODS if stage.question != "ingredient"]


@pytest.mark.parametrize("stage", METHODS, ids=lambda stage: stage.name)
def test_every_method_trains_saves_loads_and_is_evaluated(stage, measured_methods, ablation):
    run = tiny.method_run(stage.name)
    finished = {"status": "finished", "key": run.key}
    assert finished.items() <= files.read_json(run.folder / "run.json").items()
    benchmark = sources.benchmark_of(run.profile)
    templates = models.templates_of(run, benchmark)
    width = 32 if stage.how == "concatenate" else 16
    for rows in templates.values():
        assert rows.shape == (40, width) and rows.dtype == np.float32
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
    trained, evaluated = (made.get(stage.name) for made in measured_methods)
    eer = evaluated.evaluations["masked-unmasked", "unseen"].metrics["eer"].value
    assert 0 <= eer <= 1 and records.read_evaluation(run).evaluations.keys() == evaluated.evaluations.keys()
    if stage.trained:
        assert models.model_of(run).name == run.plan.network
        steps = run.plan.steps
        assert trained.records[-1]["step"] == steps >= 3
        assert trained.facts["faces"] == steps * run.plan.faces_per_step <= run.plan.schedule.budget


def test_a_combination_cannot_be_opened_as_one_model(trained_methods, ablation):
    with pytest.raises(ValueError, match=r"mask-aware combines other \w+ and has no model of its own"):
        open_recogniser(tiny.run_of("mask-aware").folder)
    assert open_recogniser(tiny.run_of("arcface").folder).templates is not None


def test_notes_name_our_readings_and_what_was_scaled_or_reduced():
    notes = {stage.name: stage.note for stage in STAGES.values() if stage.note}
    assert "reduced: " in notes["ekd"] and "scaled: " in notes["ekd"] and "scaled: " in notes["gkd"]
    assert notes["srt-oracle"].startswith("oracle: ") and notes["meer"].startswith("our reading: ")
    assert set(notes) == {"ekd", "gkd", "meer", "two-branch", "srt-oracle", "mask-aware-oracle"}


def test_of_the_other_methods_only_the_resampled_eer_is_kept(measured_methods, ablation):
    kept = records.read_evaluation(tiny.run_of("arcface")).evaluations["masked-masked", "unseen"]
    assert set(kept.resamples) == {"eer"} < set(kept.metrics)
    rung = records.read_evaluation(tiny.run_of("kd-only")).evaluations["masked-masked", "unseen"]
    assert {"eer", "fmr100"} <= set(rung.resamples)


def test_names_are_unique_and_every_part_is_known():
    for known in STAGES_BY_PEOPLE.values():
        for stage in known.values():
            others = {stage.teacher, stage.base, stage.tuned_as, stage.start, *stage.parts} - {None, ""}
            assert others <= set(known)
            assert bool(stage.head) == bool(stage.base) and stage.head in ("", *HEADS) and stage.how in ("", *HOWS)
    names = [stage.name for stage in ABLATION + methods.METHODS]
    assert len(set(names)) == len(names) == len(STAGES)


def test_every_objective_is_used_or_an_alternative_and_is_built_from_its_stage(ablation):
    used = {term.objective for stage in STAGES.values() for term in stage.objectives}
    assert set(known_objectives()) - used == {"margins.Softmax"}
    for stage in STAGES.values():
        plan = tiny.run_of(stage.name).plan
        for term in plan.objectives:
            objective = build_objective(term.objective, term.settings, embedding_size=16, classes=4, seed=0)
            assert set(objective.views) <= set(plan.views), stage.name
            assert objective.needs_teacher <= bool(stage.teacher), stage.name


def test_as_released_has_all_the_differences_of_the_single_ones():
    def differences(name: str) -> dict[str, object]:
        stage, hg = vars(STAGES[name]), vars(STAGES["maskinv-hg"])
        words = ("name", "title", "idea", "question")
        return {setting: value for setting, value in stage.items() if setting not in words and value != hg[setting]}

    single = [differences(name) for name in STAGES if name.startswith("released-")]
    assert [list(difference) for difference in single] == [["teacher_view"], ["flips"], ["batch_norm"], ["objectives"]]
    assert differences("as-released") == {name: value for part in single for name, value in part.items()}


def test_candidates_of_our_own_are_at_most_five_and_one_alone_is_tested(monkeypatch, tmp_path):
    assert len(methods.OURS) <= 5
    monkeypatch.setattr(choices, "choices_file", lambda of: tmp_path / "none.csv")
    assert not any(name.startswith("own-") for name in get_profile("laptop", "all").methods)
    head = "stage,learning_rate,faces,eer unmasked-unmasked,eer masked-unmasked,eer masked-masked,chosen\n"
    lines = "own-relations,0.05,1,0.1,0.2,0.3,yes\nown-coverage,0.05,1,0.1,0.2,0.2,yes\nown-coverage,0.1,1,0,0,0,no\n"
    (tmp_path / "choices.csv").write_text(head + lines)
    monkeypatch.setattr(choices, "choices_file", lambda of: tmp_path / "choices.csv")
    assert [n for n in get_profile("laptop", "all").methods if n.startswith("own-")] == ["own-coverage"]


def test_equal_budgets_count_every_view_and_ancestor(ablation):
    laptop = get_profile("laptop", "all")
    budget = laptop.schedule.budget
    for run in planned_runs(laptop, range(1)):
        if run.stage.how == "concatenate":
            assert run.faces_spent == 2 * budget
        elif run.stage.trained:
            assert 0.98 * budget <= run.faces_spent <= budget, run.name
    assert next(r for r in planned_runs(laptop, range(1)) if r.stage.name == "srt").faces_spent == budget


def test_seeds_go_to_the_rungs_first():
    laptop = dataclasses.replace(get_profile("laptop", "all"), other_seeds=2)
    runs = planned_runs(laptop, range(5))
    seeds = {name: [run.seed for run in runs if run.stage.name == name] for name in laptop.methods}
    assert seeds["kd-only"] == [0, 1, 2, 3, 4] and seeds["ekd"] == [0, 1]
    assert {run.seed for run in sweep_runs(laptop)} == {0}
    assert len({run.folder for run in all_runs(laptop, range(5))}) == len(all_runs(laptop, range(5)))


def test_the_six_rungs_and_every_other_stage_of_a_claim_are_the_default():
    further = ("maskinv-lambda100-continued", "maskinv-lambda0-continued", "released-masked-teacher", "upper-face")
    assert get_profile("laptop").methods == get_profile("desk").methods == (*tiny.RUNGS, *further)
    assert not {*further} & {*get_profile("laptop", "all").others}
    named = {side for claim in CLAIMS for part in claim.contrasts for side in (part.stage, part.against)}
    assert named <= {*get_profile("laptop").methods}
    assert sweep_runs(get_profile("laptop")) == []
    with pytest.raises(ValueError, match=r"Unknown scope 'seven'.*ablation, all"):
        get_profile("laptop", "seven")


def test_on_real_people_every_student_starts_from_the_teacher():
    for stage in STAGES_BY_PEOPLE["real"].values():
        if stage.trained:
            assert stage.start == "teacher" and stage.share == stage.stop == 1.0
        assert "elasticface-arc" not in (stage.teacher, stage.base, *stage.parts)


def test_a_sweep_s_points_share_first_weights_and_differ_in_one_setting():
    laptop = get_profile("laptop", "all")
    for sweep in laptop.sweeps:
        for line in sweep.lines.values():
            assert [point.x for point in line] == sorted(point.x for point in line)
            assert all(len(point.overrides) <= 1 for point in line)
    point = next(p for p in methods.GUIDANCE if p.x == 30)
    run = point_run(laptop, point)
    assert run.name == "maskinv-lambda3000+lambda=30"
    assert run.weights_seed == Run(profile=laptop, stage=run.stage, seed=0, overrides={}).weights_seed


def test_people_as_an_override_change_who_is_trained_on(ablation):
    run = tiny.run_of("elasticface-arc-aug", overrides="people=3")
    assert sources.training_faces(run).identities == 3
    assert run.key != tiny.run_of("elasticface-arc-aug").key
    assert train(run).facts["faces"] == run.plan.steps * run.plan.faces_per_step


def test_a_combination_needs_its_parts_and_names_what_makes_them(fresh):
    with pytest.raises(FileNotFoundError, match=r"needs elasticface-arc-aug, seed 0.*papermill"):
        train(tiny.run_of("full-and-upper"))
    with pytest.raises(FileNotFoundError, match="Make it with"):
        train(tiny.run_of("eum"))


def test_an_oracle_knows_masks_and_the_classifier_predicts_them(trained_methods, ablation):
    benchmark = sources.benchmark_of(tiny.profile())
    oracle = models.templates_of(tiny.run_of("mask-aware-oracle"), benchmark)
    clean = models.templates_of(tiny.run_of("elasticface-arc"), benchmark)
    student = models.templates_of(tiny.run_of("maskinv-lambda3000"), benchmark)
    assert np.array_equal(oracle["none"], clean["none"]) and np.array_equal(oracle["unseen"], student["unseen"])
    predicted = models.templates_of(tiny.run_of("mask-aware"), benchmark)
    for kinds, rows in predicted.items():
        assert ((rows == clean[kinds]).all(1) | (rows == student[kinds]).all(1)).all()


def test_one_rate_for_all_is_chosen_on_the_rungs_at_the_whole_budget(monkeypatch, tmp_path):
    path = tmp_path / "chosen.csv"
    monkeypatch.setattr(choices, "choices_file", lambda of: path)
    profile = get_profile("laptop", "all")
    trials = tuning.trials(profile)
    teachers, others = trials[:3], trials[3:]
    assert [(run.name, run.seed) for run in teachers] == [("elasticface-arc", seed) for seed in tuning.TRIAL_SEEDS]
    rungs = ["elasticface-arc", "elasticface-arc-aug", "maskinv-lambda3000"]
    tried = [(run.stage.name, run.overrides["learning_rate"], run.seed) for run in others]
    assert tried == list(itertools.product(rungs, profile.trial_rates, tuning.TRIAL_SEEDS))
    assert {run.plan.schedule.budget for run in others} == {profile.schedule.budget}
    names = ",".join(tuning.COLUMNS)
    path.write_text("".join([f"{names}\n", *(f"{name},0.2,1,0.1,0.1,0.1,3,yes\n" for name in rungs)]))
    again = get_profile("laptop", "all")
    rates = {run.plan.schedule.learning_rate for run in planned_runs(again, range(1)) if run.stage.trained}
    assert rates == {0.2}
    own = tuning.trials(again)[3:]  # the best of our own candidates is still to be found
    assert [(run.stage.name, run.overrides["learning_rate"]) for run in own] == [
        (stage.name, 0.2) for stage in methods.OURS for _ in tuning.TRIAL_SEEDS
    ]
    assert tuning.trials(get_profile("laptop")) == []


def test_the_common_rate_is_the_best_over_the_rungs_together():
    masked = {"a": True, "b": False}
    table = {("a", 0.1): 0.10, ("a", 0.2): 0.12, ("b", 0.1): 0.09, ("b", 0.2): 0.05}
    trials = [
        {"stage": stage, "learning_rate": rate, "faces": 8, "eer": dict.fromkeys(CONDITIONS, value)}
        for (stage, rate), value in table.items()
    ]
    chosen = {(row["stage"], row["learning_rate"]): row["chosen"] for row in tuning.choice_rows(trials, masked, True)}
    assert [of for of, word in chosen.items() if word == "yes"] == [("a", "0.2"), ("b", "0.2")]


def test_a_wide_study_waits_for_its_choices_and_the_six_rungs_do_not(monkeypatch, tmp_path):
    monkeypatch.setattr(choices, "choices_file", lambda of: tmp_path / "none.csv")
    assert tuning.stages_without_choice(get_profile("laptop")) == []
    lacking = tuning.stages_without_choice(get_profile("laptop", "all"))
    assert {"elasticface-arc", "own-relations"} <= set(lacking) and "ekd" not in lacking
    assert tuning.stages_without_choice(get_profile("smoke", "all")) == []
    with pytest.raises(FileNotFoundError, match=r"elasticface-arc, .*First: make choose PROFILE=laptop SCOPE=all"):
        run_study(get_profile("laptop", "all"), range(1))


def test_the_workflow_knows_every_job_of_a_wide_study(tmp_path):
    command = ("snakemake", "--snakefile", "workflow/Snakefile", "--cores", "1", "--dry-run", "-p", "--config")
    process = run_module(*command, "profile=smoke", "scope=all", MASKINV_RUNS=str(tmp_path))
    assert process.returncode == 0, process.stderr
    names = rules_of(process)
    smoke = get_profile("smoke", "all")
    trained, compared = all_runs(smoke, range(1)), [*planned_runs(smoke, range(1)), *sweep_runs(smoke)]

    def rules(verb: str, runs: list[Run]) -> set[str]:
        return {re.sub(r"\W+", "_", f"{verb}_{run.name}_seed_0") for run in runs}

    whole = {"all", "render_faces", "show_faces_and_masks", "compare_the_stages", "compare_the_sweeps"}
    expected = rules("train", trained) | rules("evaluate", compared) | whole
    assert names == expected and {"eum", "mask-classifier"} <= {run.name for run in trained}
    jobs = re.findall(r"rule (train|evaluate)_(\w+)_seed_0:.*?Shell command: ([^\n]*)", process.stdout, re.DOTALL)
    for _, label, shell in jobs:  # each job's command names its own stage
        stage, overrides = re.search(r"(?:stage )([\w-]+)", shell)[1], re.search(r"--overrides '?(\w+)=", shell)
        assert label.startswith(stage.replace("-", "_")) and (overrides is None or overrides[1] in label)
    assert len(jobs) == len(trained) + len(compared)
