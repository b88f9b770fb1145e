"""The ablation on real faces, end to end on small files that the tests write: records, a teacher, a .bin set."""

import csv
import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from maskinv_lib.evaluation.benchmarks import RELEASED
from maskinv_lib.evaluation.benchmarks.bins import write_bin
from maskinv_lib.faces.record_writer import write_records
from maskinv_lib.networks import build_network
from maskinv_lib.networks.weights import save_network
from maskinv_lib.pipeline import evaluate, models, sources, train
from maskinv_lib.reports import comparison, explain, tables
from maskinv_lib.study import choices, jobs, tuning
from maskinv_lib.study.ablation import REAL_ABLATION
from maskinv_lib.study.data import CONDITIONS, fingerprint
from maskinv_lib.study.launch import run_choose
from maskinv_lib.study.profiles import LOOKALIKES, PROFILES, get_profile
from maskinv_lib.study.runs import open_profile, open_run, planned_runs
from maskinv_lib.utils import files, paths
from maskinv_lib.utils.files import file_hash
from tests.conftest import rules_of, run_module

STAGES = tuple(stage.name for stage in REAL_ABLATION)

SETTINGS = """
training = "people"
teacher = "teacher.safetensors"
without = [11]
validation = 3
network = "compact"
embedding_size = 16
benchmarks = [{name = "pairs", path = "pairs.bin"}, {name = "others", path = "others.bin"}]
"""


FILES = ("people", "teacher.safetensors", "pairs.bin")


def hwc(faces):
    return faces.images.permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def data(patterned, tmp_path_factory):
    """A data folder: twelve people as records, a teacher with random weights, one of two sets of pairs."""
    root = tmp_path_factory.mktemp("data")
    (root / "maskinv.toml").write_text(SETTINGS)
    write_records(root / "people", zip(hwc(patterned), patterned.identity.tolist(), strict=True))
    save_network(root / "teacher.safetensors", build_network("compact", 16, seed=5), {})
    genuine = [(4 * p, 4 * p + 1) for p in range(10)]
    impostor = [(4 * p, 4 * p + 5) for p in range(10)]
    order = [face for both in zip(genuine, impostor, strict=True) for pair in both for face in pair]
    write_bin(root / "pairs.bin", list(hwc(patterned)[order]), [True, False] * 10)
    return root


def folder_of(data, tmp_path, settings, *names):
    """Return a data folder with its own settings that shares the named files with ``data``."""
    root = tmp_path / "other"
    root.mkdir()
    (root / "maskinv.toml").write_text(settings)
    for name in names:
        (root / name).symlink_to(data / name)
    return root


def small(profile):
    """Return the profile with four steps of four faces a stage."""
    schedule = dataclasses.replace(profile.schedule, budget=16, batch=4)
    return dataclasses.replace(profile, schedule=schedule, resamples=20, precision="fp32")


@pytest.fixture
def real(data, tmp_path, monkeypatch):
    """The real profile on that folder, four steps of four faces a stage."""
    build = PROFILES["real"]
    monkeypatch.setenv("MASKINV_DATA", str(data))
    monkeypatch.setitem(PROFILES, "real", lambda: small(build()))
    return get_profile("real")


def run_of(stage, seed=0):
    return open_run(profile="real", stage=stage, seed=seed, benchmark="pairs")


def test_a_benchmark_whose_file_is_not_there_is_named_as_absent(real):
    assert [benchmark.name for benchmark in real.benchmarks] == ["pairs"]
    assert real.absent == ("others",)
    assert "Not at hand when this ran: others" in explain.caveat(real)


def test_people_are_split_without_overlap_and_without_those_left_out(real, patterned):
    train, validation = (sources.faces_of(real, split) for split in ("train", "validation"))
    assert (train.identities, validation.identities) == (8, 3)
    assert (len(train), len(validation)) == (32, 12)
    assert not train.publishable and not validation.publishable
    close = (train.images[:, None].float() - validation.images[None].float()).abs().mean((2, 3, 4))
    assert close.min() > 10  # people differ in their patterns: nobody is in both
    with pytest.raises(ValueError, match="not 'test'"):
        sources.faces_of(real, "test")


def test_every_student_starts_from_the_teacher_and_spends_the_same(real):
    train.train(run_of("teacher"))
    teacher = models.model_of(run_of("teacher")).state_dict()
    for stage in STAGES[1:]:
        run = run_of(stage)
        start = models.start_of(run).state_dict()
        assert all(torch.equal(start[name], value) for name, value in teacher.items())
        assert run.faces_spent == 16
        assert run.draws_seed == run.seed
    assert run_of("teacher").faces_spent == 0


def test_the_whole_ablation_to_verdicts(real):
    for run in planned_runs(real, range(2)):
        train.train(run)
        evaluate.evaluate_run(run.evaluations[0])
    gathered, _ = comparison.read_results(real, 2)
    assert tuple(gathered) == STAGES
    assert comparison.conditions(gathered)[1:] == [("masked-unmasked", "unseen"), ("masked-masked", "unseen")]
    assert comparison.released_cases(gathered)[1] == (RELEASED, "unseen")
    deciding, _ = comparison.differences(gathered, real)
    pairs = {(row.claim, row.stage, row.against) for row in deciding}
    assert pairs == {
        (1, "teacher", "teacher"),
        (2, "elasticface-arc-aug", "teacher"),
        (2, "elasticface-arc-aug", "finetune-clean"),
        (3, "maskinv-lg", "elasticface-arc-aug"),
        (3, "maskinv-hg", "elasticface-arc-aug"),
        (4, "maskinv-hg", "maskinv-lg"),
        (4, "maskinv-hg", "elasticface-arc-aug"),  # lambda 0
        (5, "maskinv-hg", "teacher"),
        (6, "maskinv-hg", "teacher"),
        (7, "maskinv-hg", "elasticface-arc-aug"),
        (8, "released-masked-teacher", "maskinv-hg"),
        (9, "upper-face", "maskinv-hg"),
    }
    head = (run_of("kd-only").evaluation_folder / "metrics.json").read_text()
    assert f'"teacher_sha256":"{file_hash(real.faces.root / "teacher.safetensors")}"' in head
    assert file_hash(real.faces.root / "teacher.safetensors") in explain.caveat(real)
    first, second = (gathered["teacher"][seed].evaluations for seed in range(2))
    assert all(first[case].metrics == second[case].metrics for case in first)  # an import has no seed
    text = (run_of("kd-only").evaluation_folder / "metrics.json").read_text()
    assert '"fmr":[' in text and '"thresholds":' not in text  # they would be scores of single pairs
    assert np.isnan(gathered["kd-only"][0].curves[comparison.conditions(gathered)[0]].thresholds).all()
    openings = (paths.runs() / "real" / "openings.csv").read_text().splitlines()
    assert openings[0] == "date,benchmark,stage,seed,commit,key"
    assert len(openings) == 1 + 2 * len(STAGES)
    assert "people without 3 validation people and 1 others" in tables.recipe(run_of("kd-only")).to_html()
    assert "0" in tables.stages(gathered).to_html()


def test_trials_choose_on_validation_people_alone(real, monkeypatch, tmp_path):
    monkeypatch.setattr(choices, "choices_file", lambda of: tmp_path / "real.csv")
    trials = tuning.trials(real)
    assert len(trials) == 3 + 3 * 3 * (len(STAGES) - 1)
    assert [run.seed for run in trials] == [*tuning.TRIAL_SEEDS] * (len(trials) // 3)
    assert {run.plan.schedule.budget for run in trials[3:]} == {real.schedule.budget}
    for run in trials[:4]:
        assert set(evaluate.trial(run)["eer"]) == set(CONDITIONS)
    assert not (paths.runs() / "real" / "openings.csv").exists()
    with pytest.raises(FileNotFoundError):
        tuning.write_choices(real)


def test_heads_start_from_random_weights_and_are_tried_with_the_rates_of_sgd(real):
    trials = tuning.trials(get_profile("real", "all"))
    for name, rates in {"eum": [0.025, 0.05, 0.1], "ekd": [5e-4, 1e-3, 2e-3]}.items():
        tried = [run.overrides["learning_rate"] for run in trials if run.stage.name == name]
        assert tried == [rate for rate in rates for _ in tuning.TRIAL_SEEDS]


def test_a_new_method_is_tried_alone_and_added_to_the_choices(real, monkeypatch, tmp_path, capsys):
    path = tmp_path / "real.csv"
    monkeypatch.setattr(choices, "choices_file", lambda of: path)
    eer = dict.fromkeys(CONDITIONS, 0.1)

    def finish():
        for number, run in enumerate(tuning.trials(get_profile("real"))):
            number = number // 3
            trial = {"stage": run.stage.name, "learning_rate": run.overrides.get("learning_rate"), "faces": 8}
            trial["eer"] = {**eer, "masked-masked": 1 - number / 99}
            files.write_json(run.folder / "validation.json", trial)
        tuning.write_choices(get_profile("real"))

    finish()
    whole = path.read_text()
    assert whole.count("yes") == len(STAGES) - 1 and whole.count("teacher") == 1
    assert run_choose(get_profile("real")) == 0 and "Everything was chosen before" in capsys.readouterr().out
    kept = [line for line in whole.splitlines(keepends=True) if not line.startswith("kd-only")]
    path.write_text("".join(kept))
    assert {run.stage.name for run in tuning.trials(get_profile("real"))} == {"teacher", "kd-only"}
    finish()
    lines = path.read_text().splitlines(keepends=True)
    assert lines[: len(kept)] == kept and [line.split(",")[0] for line in lines[len(kept) :]] == ["kd-only"] * 3


def test_the_best_trial_of_a_stage_is_chosen_and_read_back(monkeypatch, tmp_path):
    def trial(stage, rate, mixed, masked):
        eer = dict(zip(CONDITIONS, (0.01, mixed, masked), strict=True))
        return {"stage": stage, "learning_rate": rate, "faces": 8, "eer": eer}

    trials = [
        trial("teacher", None, 0.2, 0.2),
        trial("kd-only", 1e-3, 0.10, 0.20),
        trial("kd-only", 2e-3, 0.16, 0.13),
        trial("kd-only", 1e-3, 0.10, 0.20),
        trial("kd-only", 2e-3, 0.16, 0.11),  # the mean of both seeds is the best
        trial("maskinv-lg", 5e-4, 0.3, 0.3),
        trial("maskinv-lg", 1e-3, 0.3, 0.3),
    ]
    masked = dict.fromkeys(("teacher", "kd-only", "maskinv-lg"), True)
    rows = tuning.choice_rows(trials, masked)
    assert [row["chosen"] for row in rows] == ["no", "no", "yes", "yes", "no"]
    assert [row["seeds"] for row in rows] == ["1", "2", "2", "1", "1"]
    assert rows[2]["eer masked-masked"] == "0.120000"
    assert tuning.on_the_edge(rows) == ["kd-only", "maskinv-lg"]
    further = [*rows, {"stage": "kd-only", "learning_rate": "0.004", "chosen": "no"}]
    assert tuning.on_the_edge(further) == ["maskinv-lg"]
    path = tmp_path / "real.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, tuning.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    monkeypatch.setattr(choices, "choices_file", lambda of: path)
    assert choices.chosen_rates(None) == {"kd-only": 2e-3, "maskinv-lg": 5e-4}


def test_a_stage_that_learns_from_clean_faces_is_judged_by_unmasked_pairs():
    trials = [
        {"stage": "finetune-clean", "learning_rate": rate, "faces": 8, "eer": dict(zip(CONDITIONS, eer, strict=True))}
        for rate, eer in {1e-3: (0.02, 0.1, 0.1), 2e-3: (0.01, 0.3, 0.3)}.items()
    ]
    for masked, chosen in {True: ["yes", "no"], False: ["no", "yes"]}.items():
        rows = tuning.choice_rows(trials, {"finetune-clean": masked})
        assert [row["chosen"] for row in rows] == chosen


def test_missing_data_are_named_with_the_remedy(real, data, monkeypatch, tmp_path):
    monkeypatch.setenv("MASKINV_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"MASKINV_DATA=.*nowhere is no folder"):
        get_profile("real")
    monkeypatch.delenv("MASKINV_DATA")
    run = open_run(profile="real", stage="teacher", seed=0)
    with pytest.raises(FileNotFoundError, match="Set MASKINV_DATA"):
        train.train(run)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("MASKINV_DATA", str(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match=r"No benchmark in the data folder .*faces/lfw\.bin"):
        get_profile("real")


def test_a_teacher_of_another_network_is_refused(real, data, monkeypatch, tmp_path):
    root = folder_of(data, tmp_path, SETTINGS.replace('"compact"', '"iresnet18"'), *FILES)
    monkeypatch.setenv("MASKINV_DATA", str(root))
    with pytest.raises(ValueError, match=r"teacher\.safetensors holds compact, 16-D, not iresnet18"):
        train.train(open_run(profile="real", stage="teacher", seed=0))
    assert not (paths.runs() / "real" / "seed-0" / "teacher" / "model.safetensors").exists()


def test_a_key_depends_on_the_content_of_the_data_not_on_their_folder(real, data, monkeypatch, tmp_path):
    before = [(run_of(stage).key, run_of(stage).evaluation_key) for stage in STAGES]
    moved = folder_of(data, tmp_path, SETTINGS, *FILES)
    monkeypatch.setenv("MASKINV_DATA", str(moved))
    assert [(run_of(stage).key, run_of(stage).evaluation_key) for stage in STAGES] == before
    (moved / "teacher.safetensors").unlink()
    save_network(moved / "teacher.safetensors", build_network("compact", 16, seed=6), {})
    assert not {run_of(stage).key for stage in STAGES} & {key for key, _ in before}


def test_an_unknown_setting_of_the_data_folder_is_refused(data, monkeypatch, tmp_path):
    (tmp_path / "maskinv.toml").write_text('techer = "x"\n')
    monkeypatch.setenv("MASKINV_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"'techer'.*teacher"):
        get_profile("real")
    (tmp_path / "maskinv.toml").write_text("= 3\n")
    with pytest.raises(ValueError, match=r"maskinv\.toml is not valid TOML"):
        get_profile("real")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('validation = "3"', "validation must be a whole number, not '3'"),
        ('skip_bad = "yes"', "skip_bad must be true or false, not 'yes'"),
        ("without = [1.5]", "a label of without"),
        ("benchmarks = []", "one or more"),
        ('benchmarks = [{name = "a"}]', "a benchmark is"),
        ('benchmarks = [{name = "a", path = "b", kind = "c"}]', "Unknown name of a benchmark's value .* 'kind'"),
        ('benchmarks = [{name = "a b", path = "b"}]', "cannot be called 'a b'"),
        ('benchmarks = [{name = "tables", path = "b"}]', "cannot be called 'tables'"),
        ('benchmarks = [{name = "a", path = "b", protocol = "oficial"}]', "Unknown protocol .*'oficial'"),
        ('benchmarks = [{name = "a", path = "b", kinds = ["blue"]}]', "Unknown kinds .*'blue'"),
        ('benchmarks = [{name = "a", path = "b", all_methods = "no"}]', "all_methods must be true or false, not 'no'"),
        ('benchmarks = [{name = "a", path = "b"}, {name = "a", path = "c"}]', "a name of its own"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_the_file_s_name(monkeypatch, tmp_path, text, message):
    (tmp_path / "maskinv.toml").write_text(text + "\n")
    monkeypatch.setenv("MASKINV_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=message) as caught:
        get_profile("real")
    assert "maskinv.toml" in str(caught.value)


def test_look_alikes_are_left_out_of_the_default_training_set_alone(data, monkeypatch, tmp_path):
    monkeypatch.setenv("MASKINV_DATA", str(tmp_path))
    (tmp_path / "lfw.bin").touch()
    (tmp_path / "maskinv.toml").write_text('benchmarks = [{name = "lfw", path = "lfw.bin"}]\n')
    assert get_profile("real").faces.without == LOOKALIKES
    with (tmp_path / "maskinv.toml").open("a") as file:
        file.write('training = "mine"\n')
    assert get_profile("real").faces.without == ()


def test_nothing_changes_where_the_data_are_missing(real, monkeypatch):
    jobs.prepare(real, planned_runs(real, range(1)))
    folder = jobs.study_folder(real)
    before = {path: path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert before
    monkeypatch.delenv("MASKINV_DATA")
    lost = get_profile("real")
    with pytest.raises(FileNotFoundError, match="Set MASKINV_DATA"):
        jobs.prepare(lost, planned_runs(lost, range(1)))
    assert {path: path.read_text() for path in folder.rglob("*") if path.is_file()} == before


def test_a_set_of_other_pictures_with_the_same_names_and_sizes_is_another_set(tmp_path):
    (tmp_path / "set/ann").mkdir(parents=True)
    picture = tmp_path / "set/ann/1.png"
    picture.write_bytes(b"one")
    before = fingerprint(tmp_path, "set")
    assert fingerprint(tmp_path, "set") == before != "missing"
    picture.write_bytes(b"two")
    assert fingerprint(tmp_path, "set") != before
    (tmp_path / "linked").symlink_to(tmp_path / "set")
    assert fingerprint(tmp_path, "linked") == fingerprint(tmp_path, "set")
    assert fingerprint(tmp_path, "nowhere") == fingerprint(None, "set") == "missing"


def test_students_inherit_the_contract_set_in_the_data_folder(data, monkeypatch, tmp_path):
    root = folder_of(data, tmp_path, SETTINGS + '\ncontract = "zero to one"\n', "people", "pairs.bin")
    weights = build_network("iresnet18", 16, seed=5).state_dict()
    torch.save(weights, root / "teacher.pth")
    text = (root / "maskinv.toml").read_text().replace("compact", "iresnet18").replace(".safetensors", ".pth")
    (root / "maskinv.toml").write_text(text)
    monkeypatch.setenv("MASKINV_DATA", str(root))
    profile = small(get_profile("real"))
    monkeypatch.setitem(PROFILES, "real", lambda: profile)
    for stage in ("teacher", "kd-only"):
        train.train(run_of(stage))
        assert models.model_of(run_of(stage)).contract.name == "zero to one"


def test_a_protocol_of_sessions_is_a_benchmark_without_unmasked_pairs(data, monkeypatch, tmp_path):
    root = folder_of(data, tmp_path, SETTINGS, "people", "teacher.safetensors")
    rows = [(0, 1, 0, "reference"), (0, 2, 1, "probe"), (0, 1, 1, "reference"), (1, 1, 0, "reference")]
    rows += [(1, 2, 1, "probe"), (1, 1, 1, "reference")]
    (root / "field").mkdir()
    for number in range(len(rows)):
        pixels = np.random.default_rng(number).integers(0, 256, (7, 7, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((112, 112)).save(root / "field" / f"{number}.png")
    text = "".join(f"{number}.png,{','.join(map(str, row))}\n" for number, row in enumerate(rows))
    (root / "field/pairs.csv").write_text("image,identity,session,masked,role\n" + text)
    benchmarks = 'benchmarks = [{name = "field", path = "field/pairs.csv", protocol = "sessions"}]'
    (root / "maskinv.toml").write_text(SETTINGS.partition("benchmarks")[0] + benchmarks + "\n")
    monkeypatch.setenv("MASKINV_DATA", str(root))
    run = open_run(profile="real", stage="teacher", seed=0)
    train.train(run)
    gathered = {"teacher": [evaluate.evaluate_run(run)]}
    assert comparison.conditions(gathered) == [("masked-unmasked", "real"), ("masked-masked", "real")]
    assert comparison.released_cases(gathered) == []
    assert comparison.shown_scores(gathered["teacher"][0]) == {}  # two genuine pairs are too few for a histogram
    means = comparison.rate_by_stage(gathered, comparison.conditions(gathered))
    both = comparison.metrics_by_stage(gathered, comparison.conditions(gathered), "eer", "accuracy")
    assert {tuple(metrics["teacher"]) for metrics in both.values()} == {("eer",)}  # without folds there is no accuracy
    assert list(means) == ["masked-unmasked, real masks", "masked-masked, real masks"]


def test_rates_that_were_chosen_reach_the_plan(real):
    profile = dataclasses.replace(real, learning_rates={"kd-only": 5e-4})
    plans = {run.stage.name: run.plan for run in planned_runs(profile, range(1))}
    assert plans["kd-only"].schedule.learning_rate == 5e-4
    assert plans["maskinv-lg"].schedule.learning_rate == np.float64(1e-3)


@pytest.mark.study
def test_the_workflow_plans_a_job_per_benchmark_and_the_trials(data, tmp_path, monkeypatch):
    both = folder_of(data, tmp_path, SETTINGS, *FILES)
    (both / "others.bin").symlink_to(data / "pairs.bin")
    settings = {"MASKINV_DATA": str(both), "MASKINV_RUNS": str(tmp_path / "runs")}
    options = ("--cores", "1", "--dry-run", "--config", "profile=real")
    command = ("snakemake", "--snakefile", "workflow/Snakefile", *options)
    process = run_module(*command, **settings)
    assert process.returncode == 0, process.stderr
    stages = [stage.replace("-", "_") for stage in STAGES]
    evaluations = {f"evaluate_{stage}_seed_0_on_{name}" for stage in stages for name in ("pairs", "others")}
    trainings = {f"train_{stage}_seed_0" for stage in stages}
    study = {"all", "open_the_data", "compare_the_stages_on_pairs", "compare_the_stages_on_others"}
    assert rules_of(process) == study | trainings | evaluations
    process = run_module(*command, "--", "trials", **settings)
    assert process.stdout.count("rule try_") == 3 * (3 * len(STAGES) - 2), process.stderr


def test_drawn_masks_test_the_rungs_alone_and_real_ones_every_method(data, monkeypatch, tmp_path):
    settings = SETTINGS.replace('path = "pairs.bin"}', 'path = "pairs.bin", all_methods = false}')
    root = folder_of(data, tmp_path, settings, *FILES)
    monkeypatch.setenv("MASKINV_DATA", str(root))
    alone = get_profile("real", "all")
    assert all(len(run.evaluations) == 1 for run in planned_runs(alone, range(1)))  # otherwise nothing would test them
    (root / "others.bin").symlink_to(data / "pairs.bin")
    wide = get_profile("real", "all")
    tested = {run.name: [test.benchmark.name for test in run.evaluations] for run in planned_runs(wide, range(1))}
    assert tested["kd-only"] == ["pairs", "others"] and tested["ekd"] == tested["full-and-upper"] == ["others"]
    opened = {name: open_profile(profile="real", benchmark=name, scope="all")[0] for name in ("pairs", "others")}
    assert opened["pairs"].methods == STAGES and opened["others"].methods == wide.methods
    jobs.prepare(wide, planned_runs(wide, range(1)))
    names = {path.name for path in (paths.runs() / "real/keys/seed-0").iterdir()}
    assert "ekd.evaluate-others" in names and "ekd.evaluate-pairs" not in names


@pytest.mark.study
def test_the_notebooks_run_on_real_faces_and_show_no_picture(data, tmp_path):
    settings = {"MASKINV_DATA": str(data), "MASKINV_RUNS": str(tmp_path / "runs")}
    parameters = ["-p", "profile", "real", "-p", "stage", "teacher", "-p", "seed", "0"]
    for name in ("02-train-a-stage", "03-evaluate-a-stage"):
        command = ("maskinv_lib", "notebook", f"notebooks/{name}.ipynb", str(tmp_path / f"{name}.ipynb"))
        done = run_module(*command, *parameters, **settings)
        assert done.returncode == 0, done.stderr
    text = (tmp_path / "03-evaluate-a-stage.ipynb").read_text()
    assert "Pictures of real people are not shown." in text
    assert "20 published pairs, 10 *genuine* and 10 *impostor*" in text
    assert (tmp_path / "runs/real/seed-0/teacher/metrics.json").exists()
