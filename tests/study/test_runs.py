"""Stages, profiles and runs: equal budgets, folders and keys of each run, and one clear error for bad input."""

import dataclasses
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from maskinv_lib.study import choices, tuning
from maskinv_lib.study.ablation import ABLATION
from maskinv_lib.study.data import RealFaces, RenderedFaces
from maskinv_lib.study.plan import Plan
from maskinv_lib.study.profiles import PROFILES, STAGES, get_profile, known_stages, seed_range
from maskinv_lib.study.recipes import Stage
from maskinv_lib.study.runs import EVALUATION_CODE, Run, open_profile, open_run, planned_runs
from maskinv_lib.utils import fingerprints, paths
from tests.conftest import ROOT, forget_code

RUNGS = ["elasticface-arc", "elasticface-arc-aug", "kd-only", "maskinv-lg", "maskinv-lambda3000", "maskinv-hg"]


def run_of(stage="maskinv-lg", seed=0, profile="laptop", overrides=""):
    return open_run(profile=profile, stage=stage, seed=seed, overrides=overrides)


def strengths(stage: Stage) -> dict[str, float]:
    return {term.objective.partition(".")[0]: term.settings.get("lambda_", 0.0) for term in stage.objectives}


# The ablation


def test_the_ablation_holds_the_six_rungs_in_order():
    assert [stage.name for stage in ABLATION[:6]] == RUNGS == list(STAGES)[:6]
    assert all(stage.title and stage.idea for stage in ABLATION)


def test_each_rung_differs_from_the_one_below_as_the_paper_says():
    rungs = [
        (stage.mask_probability, strengths(stage), stage.teacher, stage.start is not None) for stage in ABLATION[:6]
    ]
    assert rungs == [
        (0.0, {"margins": 0.0}, None, False),
        (0.5, {"margins": 0.0}, None, False),
        (0.5, {"template_kd": 3000.0}, "elasticface-arc", False),
        (0.5, {"margins": 0.0, "template_kd": 100.0}, "elasticface-arc", False),
        (0.5, {"margins": 0.0, "template_kd": 3000.0}, "elasticface-arc", False),
        (0.5, {"margins": 0.0, "template_kd": 3000.0}, "elasticface-arc", True),
    ]


def test_maskinv_hg_has_a_whole_schedule_after_twenty_of_the_26_epochs_of_maskinv_lg():
    hg, start, lg = (run_of(name).plan for name in ("maskinv-hg", "maskinv-lg-start", "maskinv-lg"))
    assert (start.steps, start.last_step, hg.steps, hg.last_step, lg.last_step) == (600, 462, 600, 600, 1062)
    assert start.objectives == lg.objectives and start.schedule.learning_rate == lg.schedule.learning_rate


@pytest.mark.parametrize("profile", PROFILES, ids="profile {}".format)
def test_every_rung_of_a_profile_spends_the_same_number_of_faces_up_to_a_batch(profile):
    budget = get_profile(profile).schedule.budget
    for run in planned_runs(get_profile(profile), range(1)):
        assert run.stage.imported or abs(run.faces_spent - budget) <= run.plan.schedule.batch


@pytest.mark.parametrize("profile", PROFILES, ids="profile {}".format)
def test_profiles_hold_known_stages_with_their_ancestors_before_them(profile):
    chosen = get_profile(profile)
    assert chosen.name == profile
    for index, name in enumerate(chosen.stages):
        stage = known_stages(chosen)[name]
        ancestors = {stage.teacher, stage.start} - {None, "maskinv-lg-start"}
        assert ancestors <= set(chosen.stages[:index])


def test_the_profile_that_is_run_for_trying_opens_no_test_person_of_another():
    assert get_profile("smoke").faces.seed not in {get_profile(name).faces.seed for name in ("laptop", "desk")}


def test_the_larger_scale_takes_the_learning_rate_of_the_smaller_one(monkeypatch, tmp_path):
    path = tmp_path / "chosen.csv"
    path.write_text("stage,learning_rate,chosen\nelasticface-arc,0.2,yes\n")
    laptop = get_profile("laptop").faces
    monkeypatch.setattr(choices, "choices_file", lambda of: path if of == laptop else tmp_path / "none")
    assert get_profile("desk").schedule.learning_rate == get_profile("laptop").schedule.learning_rate == 0.2
    assert tuning.trials(get_profile("desk", "all")) == [] == tuning.stages_without_choice(get_profile("desk", "all"))


def test_the_laptop_has_enough_people_for_its_intervals():
    faces = get_profile("laptop").faces
    assert faces.test >= 200 and faces.test_views >= 8


# Runs: folders, keys and ancestors


def test_a_run_writes_below_profile_and_seed(tmp_path):
    assert run_of(seed=3).folder == tmp_path / "runs" / "laptop" / "seed-3" / "maskinv-lg"


def test_overrides_get_a_folder_and_a_key_of_their_own_whatever_their_order():
    plain = run_of()
    changed = run_of(overrides="lambda=300, batch=16")
    assert changed.folder == plain.folder.with_name("maskinv-lg+batch=16+lambda=300")
    assert changed.key != plain.key
    again = run_of(overrides="batch=16,lambda=300")
    assert (again.folder, again.key) == (changed.folder, changed.key)
    assert changed.plan.schedule.batch == 16
    assert plain.plan.schedule.batch == 32


def test_an_override_that_writes_one_value_in_two_ways_names_one_folder():
    assert run_of(overrides="lambda=300").folder == run_of(overrides="lambda = 300").folder


def test_the_teacher_of_a_run_with_overrides_is_the_plain_rung():
    assert run_of(overrides="lambda=300").teacher.folder == run_of("elasticface-arc").folder


def test_ancestor_files_are_the_models_of_teacher_and_parent():
    teacher = run_of("elasticface-arc").folder / "model.safetensors"
    assert run_of("elasticface-arc").ancestor_files == []
    assert run_of("elasticface-arc-aug").ancestor_files == []
    assert run_of("kd-only").ancestor_files == [teacher]
    start = run_of("maskinv-lg-start").folder / "model.safetensors"
    assert run_of("maskinv-hg").ancestor_files == [teacher, start]
    assert run_of("maskinv-lambda0-continued").ancestor_files == [start]


def test_ancestors_have_the_seed_and_profile_of_their_run():
    run = run_of("maskinv-hg", seed=4)
    for ancestor in (run.teacher, run.parent):
        assert (ancestor.seed, ancestor.profile) == (4, run.profile)


def test_planned_runs_are_the_rungs_seed_by_seed():
    profile = get_profile("smoke")
    runs = planned_runs(profile, range(2))
    assert [(run.seed, run.stage.name) for run in runs] == [(s, n) for s in (0, 1) for n in profile.stages]
    assert planned_runs(profile, range(0)) == []


def test_seeds_count_from_zero_and_default_to_the_profile_s():
    assert seed_range(get_profile("desk")) == range(5)
    assert open_profile(profile="laptop", seeds=5)[1] == range(5)
    assert open_profile(profile="laptop")[1] == range(1)


def test_the_command_of_a_run_names_all_its_parameters():
    command = run_of(seed=2, overrides="batch=32").command()
    assert command.removeprefix(".venv/bin/").startswith("papermill notebooks/02-train-a-stage.ipynb out.ipynb ")
    assert "-p profile laptop -p stage maskinv-lg -p seed 2 -p overrides 'batch=32'" in command
    assert "overrides" not in run_of().command()


def changed_profile(run: Run, **changes) -> Run:
    return dataclasses.replace(run, profile=dataclasses.replace(run.profile, **changes))


def test_the_key_stands_for_plan_faces_and_seed():
    run = run_of()
    schedule = dataclasses.replace(run.profile.schedule, momentum=0.8)
    rendering = dataclasses.replace(run.profile.faces, rendering={"pose": 0.5})
    more = dataclasses.replace(run.profile.faces, train=301)
    others = [
        changed_profile(run, schedule=schedule),
        changed_profile(run, faces=rendering),
        changed_profile(run, faces=more),
        changed_profile(run, network="iresnet18"),
        dataclasses.replace(run, seed=1),
        dataclasses.replace(run, stage=dataclasses.replace(run.stage, mask_probability=0.4)),
    ]
    keys = [run.key, *(other.key for other in others)]
    assert len(set(keys)) == len(keys)
    assert len(run.key) == 16 and int(run.key, 16) >= 0


def test_the_key_does_not_stand_for_words_names_threads_or_the_test_people():
    run = run_of()
    test = dataclasses.replace(run.profile.faces, test=200, validation=10)
    wording = dataclasses.replace(run.stage, title="Another title", idea="Another idea")
    same = [
        changed_profile(run, threads=2, seeds=5, idea="other words"),
        changed_profile(run, faces=test),
        changed_profile(run, resamples=100),
        dataclasses.replace(run, stage=wording),
    ]
    assert {other.key for other in same} == {run.key}


def test_the_evaluation_key_follows_the_model_the_test_people_and_the_resamples():
    run = run_of()
    test = dataclasses.replace(run.profile.faces, test=200)
    others = [
        changed_profile(run, faces=test),
        changed_profile(run, resamples=100),
        dataclasses.replace(run, seed=1),
    ]
    keys = [run.evaluation_key, *(other.evaluation_key for other in others)]
    assert len(set(keys)) == len(keys)
    validation = dataclasses.replace(run.profile.faces, validation=10)
    assert changed_profile(run, faces=validation).evaluation_key == run.evaluation_key


def test_the_evaluation_s_code_includes_every_module_that_decides_its_numbers():
    common = {"faces.masks.drawing", "networks.templates"}
    common |= {f"evaluation.{name}" for name in ("metrics", "resampling", "evaluate")}
    real = {f"evaluation.benchmarks.{name}" for name in ("drawn", "bins", "real_masks", "pairs")}
    for faces, own in ((RenderedFaces, {"evaluation.benchmarks.rendered"}), (RealFaces, real | {"faces.alignment"})):
        assert common | own <= set(fingerprints.closure((*faces.test_code, *EVALUATION_CODE)))


def test_of_the_machine_only_a_chosen_precision_is_in_a_key(monkeypatch):
    config = run_of("maskinv-hg").config
    assert "precision" not in config["plan"]  # defaults are left out
    assert "device" not in repr(config) and "threads" not in repr(config)
    before = run_of().key
    monkeypatch.setenv("MASKINV_PRECISION", "fp32")
    assert run_of().config["plan"]["precision"] == "fp32" and run_of().key != before
    monkeypatch.setenv("MASKINV_PRECISION", "fp16")
    known = r"Unknown MASKINV_PRECISION 'fp16'.*Did you mean 'bf16'|Known: auto, fp32, bf16"
    with pytest.raises(ValueError, match=known):
        run_of()


def test_what_is_compared_shares_first_weights_and_draws_but_no_student_starts_as_its_teacher():
    teachers, students, continued = (
        ["elasticface-arc", "arcface", "cosface"],
        ["elasticface-arc-aug", "kd-only", "maskinv-lg", "maskinv-lg-start", "maskinv-lambda3000", "upper-face"],
        ["maskinv-hg", "maskinv-lambda100-continued", "maskinv-lambda0-continued", "released-masked-teacher"],
    )
    weights = {}
    for group in (teachers, students, continued):
        for seed in (0, 1):
            runs = [run_of(name, seed=seed) for name in group]
            (weights[group[0], seed],) = {run.weights_seed for run in runs}
            (draws,) = {run.draws_seed for run in runs}
            assert draws == (weights[group[0], seed] if group is continued else seed)
    assert len(set(weights.values())) == 6


def test_adding_a_stage_changes_no_other_key(monkeypatch):
    before = {name: run_of(name).key for name in RUNGS}
    monkeypatch.setitem(STAGES, "new-rung", dataclasses.replace(STAGES["kd-only"], name="new-rung"))
    assert {name: run_of(name).key for name in RUNGS} == before
    assert run_of("new-rung").folder.name == "new-rung"


def test_a_changed_teacher_changes_the_keys_of_those_that_build_on_it(monkeypatch):
    before = {name: run_of(name).key for name in RUNGS}
    teacher = STAGES["elasticface-arc"]
    monkeypatch.setitem(STAGES, teacher.name, dataclasses.replace(teacher, mask_probability=0.01))
    changed = {name for name in RUNGS if run_of(name).key != before[name]}
    assert changed == {"elasticface-arc", "kd-only", "maskinv-lg", "maskinv-lambda3000", "maskinv-hg"}


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """A function that edits a module in a copy of the library, as the keys see it."""
    copy = tmp_path / "maskinv_lib"
    shutil.copytree(fingerprints.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprints, "PACKAGE", copy)

    def edit(module: str, addition: str) -> None:
        path = copy / module
        path.write_text(path.read_text() + addition)
        forget_code()

    forget_code()
    yield edit
    forget_code()


def test_keys_see_code_but_no_docstring_and_no_comment(edited):
    before = {name: (run_of(name).key, run_of(name).evaluation_key) for name in RUNGS}

    def stale(kind: int) -> set[str]:
        return {name for name in RUNGS if (run_of(name).key, run_of(name).evaluation_key)[kind] != before[name][kind]}

    edited("training/loop.py", '\n# a comment\n"""and text that does nothing"""\n')
    edited("evaluation/verdicts.py", "\nNEW = 1\n")
    edited("study/runs.py", "\nNEW = 1\n")
    assert stale(0) == set() == stale(1)
    edited("evaluation/metrics.py", "\nNEW = 1\n")
    assert stale(0) == set() and stale(1) == set(RUNGS)
    edited("training/objectives/template_kd.py", "\nNEW = 1\n")
    assert stale(0) == {"kd-only", "maskinv-lg", "maskinv-lambda3000", "maskinv-hg"}
    edited("training/loop.py", "\nNEW = 1\n")
    assert stale(0) == set(RUNGS)


# Bad input

BAD_SEEDS = [-1, 1000.0, 1.5, True, False, "0", "one", float("nan"), float("inf"), None, 2**53, [0]]


@pytest.mark.parametrize("seed", BAD_SEEDS)
def test_a_seed_that_is_no_whole_number_from_zero_is_refused(seed, tmp_path):
    with pytest.raises(ValueError, match="seed must be a whole number from 0 up") as caught:
        run_of(seed=seed)
    assert repr(seed) in str(caught.value) and type(seed).__name__ in str(caught.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("seeds", [0, -1, 2.0, True, "5", float("nan")])
def test_a_number_of_seeds_that_is_none_is_refused(seeds):
    with pytest.raises(ValueError, match="seeds must be a whole number from 1 up"):
        open_profile(profile="smoke", seeds=seeds)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"profile": "Smoke"}, r"Unknown profile 'Smoke' \(str\)\. Did you mean 'smoke'\? Known: smoke, laptop"),
        ({"profile": "latpop"}, "Did you mean 'laptop'"),
        ({"profile": 3}, r"Unknown profile 3 \(int\)"),
        ({"profile": None}, r"Unknown profile None \(NoneType\)"),
        ({"stage": "maskinv_lg"}, r"Unknown stage 'maskinv_lg' \(str\)\. Did you mean 'maskinv-lg'\?"),
        ({"stage": 100}, r"Unknown stage 100 \(int\)\. Known: elasticface-arc, "),
        ({"stage": True}, r"Unknown stage True \(bool\)"),
        ({"stage": ["kd-only"]}, "Unknown stage"),
        ({"overrides": "lamda=3"}, "Unknown override 'lamda'.*Did you mean 'lambda'"),
        ({"overrides": 300}, "overrides must be text such as"),
        ({"overrides": "lambda"}, "'lambda' is not a new name=value"),
        ({"overrides": "batch=0.5"}, "override batch must be int"),
        ({"overrides": "batch=0"}, "override batch must be a whole number from 1 up"),
        ({"overrides": "lambda=-3"}, "override lambda must not be negative"),
        ({"overrides": "network=../elsewhere"}, "Unknown override 'network'"),
        ({"overrides": "policy=../elsewhere"}, "override policy must be a name such as 'one-cycle'"),
        ({"overrides": "policy=cosine"}, "Unknown policy 'cosine'"),
        ({"overrides": "precision=fp16"}, "Unknown precision 'fp16'"),
        ({"overrides": "budget=10"}, "budget 10 is less than one step of 32 faces"),
        ({"stage": "elasticface-arc", "overrides": "lambda=3"}, "Unknown override 'lambda'"),
    ],
)
def test_bad_input_is_one_error_with_the_value_and_the_nearest_name(parameters, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_of(**parameters)
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def notebook(monkeypatch):
    """A function that puts executed cells into a notebook's shell, as papermill and IPython do."""
    cells: list[str] = []
    shell = SimpleNamespace(user_ns={"In": cells})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    return lambda *sources: cells.extend(["", *sources])


def test_an_unknown_parameter_from_papermill_is_refused(notebook):
    notebook('profile = "smoke"\nseed = 0', '# Parameters\nprofile = "smoke"\nsede = 3\n')
    with pytest.raises(ValueError, match=r"Unknown parameter \(its value was 3\) 'sede'.*Did you mean 'seed'\?"):
        run_of(profile="smoke", stage="elasticface-arc")


def test_known_parameters_and_other_cells_pass(notebook):
    notebook("sede = 3", '# Parameters\nprofile = "smoke"\noverrides = "batch=16"\nseed = 1\n')
    assert run_of().name == "maskinv-lg"


def test_a_profile_s_notebook_does_not_know_stages(notebook):
    notebook('# Parameters\nstage = "kd-only"\n')
    with pytest.raises(ValueError, match=r"Unknown parameter .* 'stage'.*Known: benchmark, profile, scope, seeds"):
        open_profile(profile="smoke")


def test_outside_a_notebook_no_parameters_are_checked(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert run_of().seed == 0


# Settings and cost


def test_the_root_is_the_checkout_whatever_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MASKINV_ROOT", raising=False)
    assert paths.root() == ROOT


def test_settings_move_root_runs_and_results(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKINV_ROOT", str(tmp_path / "elsewhere"))
    assert paths.root() == tmp_path / "elsewhere"
    assert paths.runs() == tmp_path / "runs"
    assert paths.results() == tmp_path / "results"
    monkeypatch.delenv("MASKINV_RUNS")
    monkeypatch.delenv("MASKINV_RESULTS")
    assert paths.runs() == tmp_path / "elsewhere" / "runs"
    assert paths.results() == tmp_path / "elsewhere" / "results"


def test_an_installed_library_looks_for_the_project_at_and_above_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "site-packages" / "maskinv_lib" / "places.py"))
    project = tmp_path / "project with spaces"
    (project / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(project / "notebooks")
    with pytest.raises(FileNotFoundError, match="set MASKINV_ROOT"):
        paths.root()
    (project / "pyproject.toml").touch()
    assert paths.root() == project


def test_the_study_is_read_without_torch_numpy_or_pandas():
    code = (
        "import sys; from maskinv_lib.study import launch, profiles, runs\n"
        "for run in runs.planned_runs(profiles.get_profile('laptop'), range(2)): run.key, run.evaluation_key\n"
        "print([name for name in ('torch', 'numpy', 'pandas', 'papermill') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_stages_and_profiles_cannot_be_changed():
    run = run_of()
    for thing, name in ((run, "seed"), (run.stage, "share"), (run.profile, "threads"), (run.plan, "network")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, name, 3)
    assert isinstance(run.plan, Plan)
