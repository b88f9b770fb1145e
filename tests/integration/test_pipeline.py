"""From faces to published numbers, in one process: every rung trains, is saved, loaded and evaluated, or why not."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from maskinv_lib.evaluation.benchmarks.rendered import CASES, masked_copy
from maskinv_lib.faces import Faces
from maskinv_lib.networks import build_network
from maskinv_lib.networks.templates import NetworkRecogniser, teacher_templates
from maskinv_lib.networks.weights import load_network, read_tensors, save_network
from maskinv_lib.pipeline import evaluate, models, records, sources
from maskinv_lib.pipeline.train import train
from maskinv_lib.reports import explain
from maskinv_lib.study import made
from maskinv_lib.study.profiles import STAGES
from maskinv_lib.study.runs import Run
from maskinv_lib.training.loop import Training
from maskinv_lib.utils import files
from tests import tiny
from tests.conftest import ROOT

ABLATION = tiny.RUNGS
BASELINE = ABLATION[0]


def written(folder: Path) -> list[str]:
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(str(path) for path in paths if ".cache" not in str(path))


def raising(error: BaseException) -> Mock:
    """Return a function that raises ``error``."""
    return Mock(side_effect=error)


# Every rung


@pytest.mark.parametrize("stage", ABLATION)
def test_every_rung_leaves_a_model_a_log_and_a_finished_status(ablation, stage):
    run = tiny.run_of(stage)
    facts = files.read_json(run.folder / "run.json")
    steps = run.plan.steps
    assert facts["status"] == "finished"
    assert facts["key"] == run.key
    assert facts["faces"] == steps * tiny.BATCH
    assert {"config", "device", "precision", "threads", "versions", "commit", "wall_seconds"} <= set(facts)
    assert facts["precision"] == "float32"
    records = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == records[-1]["steps"] == steps == (7 if stage == "maskinv-hg" else tiny.STEPS)
    assert all(np.isfinite(record["loss"]) for record in records)
    network, metadata = load_network(run.folder / "model.safetensors")
    expected = {"profile": "tiny", "stage": stage, "seed": 0, "key": run.key, "network": "compact"}
    assert expected.items() <= metadata.items()
    assert network.embedding_size == 16


@pytest.mark.parametrize("stage", ABLATION)
def test_every_rung_is_measured_under_every_condition_and_read_back_the_same(ablation, stage):
    run, evaluated = tiny.run_of(stage), ablation[1][stage]
    assert tuple(evaluated.evaluations) == CASES == tuple(evaluated.curves)
    again = records.read_evaluation(run)
    assert tuple(again.evaluations) == CASES
    for case, evaluation in evaluated.evaluations.items():
        read = again.evaluations[case]
        assert read.metrics == evaluation.metrics and read.identities == 20
        assert all(getattr(read, name) == getattr(evaluation, name) for name in records.NUMBERS)
        for name, values in read.resamples.items():
            kept = evaluation.resamples[name]
            np.testing.assert_allclose(values, kept, atol=np.ptp(kept) / (2 * records.LEVELS) + 1e-6)
        assert 0 <= read.metrics["eer"].value <= 1
        assert read.resamples["eer"].shape == (run.profile.resamples,)
        curve = again.curves[case]
        assert np.all(np.diff(curve.fmr) <= 0) or np.all(np.diff(curve.fmr) >= 0)
        assert (curve.genuine, curve.impostor) == (evaluated.curves[case].genuine, evaluated.curves[case].impostor)


@pytest.mark.parametrize("stage", ABLATION)
def test_the_saved_model_gives_the_templates_that_were_measured(ablation, stage):
    run = tiny.run_of(stage)
    benchmark = sources.benchmark_of(run.profile)
    kept = models.templates_of(run, benchmark)
    computed = NetworkRecogniser(models.model_of(run)).templates(benchmark.faces.images[:8]).numpy()
    np.testing.assert_allclose(kept["none"][:8], computed, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(kept["seen"], axis=1), 1, atol=1e-5)


def test_every_rung_spends_the_same_budget_up_to_a_batch(ablation):
    spent = [tiny.run_of(name).faces_spent for name in ABLATION]
    assert max(spent) - min(spent) <= tiny.BATCH
    own = {name: trained.facts["faces"] for name, trained in ablation[0].items()}
    assert own["maskinv-hg"] < own["maskinv-lg"] == own[BASELINE] == tiny.run_of(BASELINE).faces_spent


def test_guided_rungs_carry_their_teacher_s_hash_and_the_others_none(ablation):
    hashes = {name: load_network(tiny.run_of(name).folder / "model.safetensors")[1]["teacher"] for name in ABLATION}
    assert {name for name, value in hashes.items() if value} == {n for n in ABLATION if STAGES[n].teacher}
    assert len(set(hashes.values())) == 2


def test_the_final_model_is_the_last_step_s(ablation):
    """The rolling checkpoint of a finished training holds the network as it was after the last step."""
    for name in ABLATION:
        run = tiny.run_of(name)
        final, _ = read_tensors(run.folder / "model.safetensors")
        last, facts = read_tensors(run.folder / "checkpoints" / "last.safetensors")
        assert facts["step"] == run.plan.last_step
        assert all(torch.equal(value, last[f"network/{key}"]) for key, value in final.items())


def test_hg_and_its_twins_start_from_lg_before_the_end_of_its_schedule(ablation):
    parent = tiny.run_of("maskinv-lg-start")
    model, facts = load_network(parent.folder / "model.safetensors")
    assert files.read_json(parent.folder / "run.json")["faces"] == parent.plan.last_step * tiny.BATCH
    assert parent.plan.last_step < parent.plan.steps and facts["stage"] == parent.name
    for name in ("maskinv-hg", "maskinv-lambda100-continued"):
        start = models.start_of(tiny.run_of(name)).state_dict()
        assert all(torch.equal(value, start[key]) for key, value in model.state_dict().items())
    assert models.start_of(tiny.run_of("maskinv-lg")) is None


def test_teacher_templates_are_those_of_clean_faces_and_their_mirror_images(ablation):
    run = tiny.run_of("kd-only")
    faces = sources.faces_of(run.profile, "train")
    templates = models.teacher_of(run, faces, torch.device("cpu"))
    expected = teacher_templates(NetworkRecogniser(models.model_of(run.teacher)), faces)
    assert templates.shape == (2, len(faces), 16) and templates.dtype == torch.float32
    torch.testing.assert_close(templates, expected, atol=1e-5, rtol=0)
    assert models.teacher_of(run.teacher, faces, torch.device("cpu")) is None


def test_splits_share_nobody_and_come_from_the_cache_the_same(ablation):
    profile = tiny.profile()
    training, test = (sources.faces_of(profile, split) for split in ("train", "test"))
    assert (len(training), len(test)) == (16, 40)
    assert torch.equal(sources.faces_of(profile, "train").images, training.images)
    assert not any(torch.equal(a, b) for a in training.images for b in test.images)
    assert training.publishable


def test_nothing_but_the_declared_files_is_left_behind(ablation):
    names = {path.name for path in tiny.run_of("maskinv-lg").folder.iterdir()}
    declared = {".made", "checkpoints", "lock", "log.jsonl", "metrics.json", "resamples.npz", "run.json"}
    assert names <= declared | {"model.safetensors"}


def test_the_masked_threshold_is_the_one_fixed_on_unmasked_pairs(ablation):
    evaluated = ablation[1][BASELINE]
    clean, masked = CASES[0], ("masked-masked", "unseen")
    threshold = evaluated.evaluations[clean].threshold
    comparisons = evaluated.comparisons[masked]
    metric = evaluated.evaluations[masked].metrics["fnmr_at_unmasked_threshold"]
    expected = float((comparisons.scores[comparisons.genuine] < threshold).mean())
    assert metric.value == pytest.approx(expected, abs=1e-6)


# Again, and after an interruption


def test_a_finished_run_is_reused_without_a_step_and_stays_the_same(ablation, monkeypatch):
    run = tiny.run_of("kd-only")
    before, _ = read_tensors(run.folder / "model.safetensors")
    monkeypatch.setattr(Training, "_train_step", lambda *_: pytest.fail("a finished run was trained again"))
    again = train(run)
    assert again.records == ablation[0]["kd-only"].records
    after, _ = read_tensors(run.folder / "model.safetensors")
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert files.read_json(run.folder / "run.json")["status"] == "finished"


def test_the_same_run_in_another_folder_is_the_same_bit_for_bit(ablation, shared, fresh):
    run = tiny.run_of("elasticface-arc-aug")
    train(run)
    first, again = (folder / "model.safetensors" for folder in (shared[0] / "tiny/seed-0" / run.name, run.folder))
    assert first.read_bytes() == again.read_bytes()


def test_evaluating_twice_writes_the_same_numbers(ablation):
    run = tiny.run_of("maskinv-hg")
    before = (run.folder / "metrics.json").read_bytes()
    evaluate.evaluate_run(run)
    assert (run.folder / "metrics.json").read_bytes() == before


def test_kept_templates_of_another_model_are_not_used(ablation, monkeypatch):
    run = tiny.run_of(BASELINE)
    benchmark = sources.benchmark_of(run.profile)
    assert models.templates_of(run, benchmark)["none"].shape == (40, 16)
    monkeypatch.setattr(Run, "evaluation_key", property(lambda self: "another key"))
    monkeypatch.setattr(models, "model_of", raising(LookupError("computed again")))
    with pytest.raises(LookupError, match="computed again"):
        models.templates_of(run, benchmark)


# What is missing, damaged or stale


def test_a_missing_teacher_names_the_command_and_writes_nothing(fresh):
    run = tiny.run_of("kd-only")
    with pytest.raises(FileNotFoundError) as caught:
        train(run)
    message = str(caught.value)
    assert "kd-only, seed 0, needs elasticface-arc, seed 0" in message
    assert "papermill notebooks/02-train-a-stage.ipynb" in message and "-p stage elasticface-arc -p seed 0" in message
    assert written(fresh) == []


def test_a_missing_start_names_the_stage_that_leaves_it(fresh):
    with pytest.raises(FileNotFoundError, match=r"needs maskinv-lg-start, seed 3.*-p stage maskinv-lg-start -p seed 3"):
        train(tiny.run_of("maskinv-hg", seed=3))
    assert written(fresh) == []


def other_key(path: Path, run: Run) -> None:
    save_network(path, build_network("compact", embedding_size=16), {"key": "0123456789abcdef"})


def half(path: Path, run: Run) -> None:
    save_network(path, build_network("compact", embedding_size=16), {"key": run.key})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def another_network(path: Path, run: Run) -> None:
    network = build_network("compact", embedding_size=16)
    network.name = "iresnet18"
    save_network(path, network, {"key": run.key})


def text(path: Path, run: Run) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("not a model")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (other_key, r"made by other code or settings \(key 0123456789abcdef, now "),
        (half, "half-written or damaged"),
        (another_network, "does not hold the network iresnet18 it names"),
        (text, "half-written or damaged"),
    ],
)
@pytest.mark.parametrize(
    "act", [lambda: train(tiny.run_of("kd-only")), lambda: evaluate.evaluate_run(tiny.run_of(BASELINE))]
)
def test_an_unfit_model_is_one_error_that_names_file_and_remedy(fresh, damage, message, act):
    teacher = tiny.run_of(BASELINE)
    damage(teacher.folder / "model.safetensors", teacher)
    before = written(fresh)
    with pytest.raises(ValueError, match=message) as caught:
        act()
    assert str(teacher.folder / "model.safetensors") in str(caught.value)
    assert f"Make it with: {teacher.command()}" in str(caught.value)
    assert written(fresh) == before


def test_evaluating_an_untrained_run_names_the_command(fresh):
    run = tiny.run_of(BASELINE, overrides="batch=2")
    with pytest.raises(FileNotFoundError, match=r"Make it with: .*papermill .* -p overrides 'batch=2'"):
        evaluate.evaluate_run(run)
    assert written(fresh) == []


@pytest.fixture
def copied(shared, fresh):
    """A copy of a trained and evaluated run, whose files a test may damage."""
    run = tiny.run_of(BASELINE)
    shutil.copytree(shared[0] / "tiny" / "seed-0" / BASELINE, run.folder)
    return run


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["metrics.json", "resamples.npz", "run.json"])
def test_a_cut_result_is_one_error_with_its_name_and_the_command(copied, name, share):
    path = copied.folder / name
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    command = f"03-evaluate-a-stage.ipynb out.ipynb -p profile tiny -p stage {BASELINE} -p seed 0"
    with pytest.raises(FileNotFoundError, match="no readable evaluation") as caught:
        records.read_evaluation(copied)
    assert str(path) in str(caught.value) and str(caught.value).endswith(command)
    with pytest.raises(FileNotFoundError, match=f"no readable evaluation: .*{name}"):
        records.read_evaluation(copied, copied.folder)  # as published results are read


def without(*names: str):
    """Return a change of a JSON object: what is at ``names`` is removed."""

    def change(value: dict) -> dict:
        inner = value
        for name in names[:-1]:
            inner = inner[name]
        del inner[names[-1]]
        return value

    return change


CHANGES = {
    "no key": ("metrics.json", without("key")),
    "no conditions": ("metrics.json", without("conditions")),
    "conditions are none": ("metrics.json", lambda value: {**value, "conditions": None}),
    "no curve": ("metrics.json", without("conditions", 0, "curve")),
    "half a curve": ("metrics.json", without("conditions", 0, "curve", "fnmr")),
    "no kinds": ("metrics.json", without("conditions", 1, "mask_kinds")),
    "no name": ("metrics.json", without("conditions", 0, "metrics", 0, "name")),
    "no identities": ("metrics.json", without("conditions", 0, "identities")),
    "a list": ("metrics.json", lambda value: [value]),
    "a list of facts": ("run.json", lambda value: [value]),
    "no seconds": ("run.json", without("seconds")),
    "not finished": ("run.json", lambda value: {**value, "status": "running"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_result_without_its_parts_is_one_error_with_its_name(copied, change):
    name, changed = CHANGES[change]
    path = copied.folder / name
    path.write_text(json.dumps(changed(json.loads(path.read_text()))))
    for folder in (None, copied.folder):
        with pytest.raises(FileNotFoundError, match=f"no readable evaluation: .*{name}.*Make it with"):
            records.read_evaluation(copied, folder)


@pytest.mark.parametrize("missing", ["names", "levels", "scales"])
def test_resamples_without_their_parts_are_one_error_with_their_name(copied, missing):
    with np.load(copied.folder / "resamples.npz") as arrays:
        kept = {name: arrays[name] for name in arrays.files if name != missing}
    np.savez_compressed(copied.folder / "resamples.npz", **kept)
    with pytest.raises(FileNotFoundError, match=r"no readable evaluation: .*resamples\.npz is damaged"):
        records.read_evaluation(copied)


def test_a_readable_result_that_is_not_what_was_noted_is_refused(copied):
    metrics, facts = copied.folder / "metrics.json", copied.folder / "run.json"
    metrics.write_text(metrics.read_text() + "\n")
    with pytest.raises(ValueError, match=r"metrics\.json is damaged or was changed.*03-evaluate-a-stage"):
        records.read_evaluation(copied)
    metrics.write_text(metrics.read_text()[:-1])
    assert records.read_evaluation(copied).facts["status"] == "finished"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "seconds": 0.0}))
    with pytest.raises(ValueError, match=r"run\.json is damaged or was changed.*02-train-a-stage"):
        records.read_evaluation(copied)
    made.evaluation(copied).note.unlink()
    with pytest.raises(ValueError, match=r"did not end, or was not noted.*03-evaluate-a-stage"):
        records.read_evaluation(copied)


def test_what_is_trained_and_evaluated_is_noted(copied):
    note = json.loads(made.training(copied).note.read_text())
    assert note["key"] == copied.key and set(note["files"]) == {"model.safetensors", "run.json", "log.jsonl"}
    note = json.loads(made.evaluation(copied).note.read_text())
    assert note["key"] == copied.evaluation_key and set(note["files"]) == {"metrics.json", "resamples.npz"}


@pytest.mark.parametrize("name", ["model.safetensors", "run.json", "log.jsonl"])
def test_a_damaged_training_is_made_again_from_its_checkpoint(copied, name, monkeypatch):
    path, before = copied.folder / name, files.read_json(copied.folder / "run.json")
    model = load_network(copied.folder / "model.safetensors")[0].state_dict()
    path.write_bytes(path.read_bytes()[:-9])
    assert made.training(copied).faults() == {path: made.DAMAGED}
    monkeypatch.setattr(Training, "_train_step", lambda *_: pytest.fail("a finished run was trained again"))
    train(copied)
    assert made.training(copied).faults() == {}
    again, _ = load_network(copied.folder / "model.safetensors")
    assert all(torch.equal(value, model[name]) for name, value in again.state_dict().items())
    facts = files.read_json(copied.folder / "run.json")
    assert facts["faces"] == before["faces"] and (facts == before) == (name != "run.json")


def test_facts_that_were_changed_are_not_taken_over(copied):
    path = copied.folder / "run.json"
    seconds = files.read_json(path)["seconds"]
    files.write_json(path, {**files.read_json(path), "seconds": 12345.6})
    train(copied)
    assert files.read_json(path)["seconds"] == seconds


def test_a_training_that_dies_before_its_note_is_not_finished(copied, monkeypatch):
    monkeypatch.setattr(made.Made, "write", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        train(copied)
    assert (copied.folder / "model.safetensors").exists() and made.training(copied).faults() is None
    with pytest.raises(KeyboardInterrupt):
        evaluate.evaluate_run(copied)
    assert (copied.folder / "metrics.json").exists() and made.evaluation(copied).faults() is None


def test_a_trial_notes_its_result(fresh, monkeypatch):
    monkeypatch.setattr(evaluate, "on_validation", lambda run: {"masked-masked": 0.25})
    run = tiny.run_of(BASELINE, overrides="batch=2")
    assert evaluate.trial(run)["stage"] == BASELINE
    assert made.trial(run).faults() == {} and made.training(run).faults() == {}
    (run.folder / "validation.json").write_text("{")
    assert made.trial(run).faults() == {run.folder / "validation.json": made.DAMAGED}


@pytest.mark.parametrize("content", [None, "", "{", '{"conditions": 3}'])
def test_an_evaluation_that_cannot_be_read_names_the_command(fresh, content):
    run = tiny.run_of(BASELINE)
    if content is not None:
        files.write_text(run.folder / "metrics.json", content)
    with pytest.raises(FileNotFoundError, match=r"no readable evaluation.*03-evaluate-a-stage\.ipynb"):
        records.read_evaluation(run)


def test_a_failed_training_says_so_and_leaves_no_model(fresh, monkeypatch):
    def broken(self, step):
        return {"margin": torch.tensor(float("nan"))}

    monkeypatch.setattr(Training, "_train_step", broken)
    run = tiny.run_of(BASELINE)
    with pytest.raises(FloatingPointError, match=r"loss is not finite at step 13 of 13.*Lower the learning rate"):
        train(run)
    facts = json.loads((run.folder / "run.json").read_text())
    assert facts["status"] == "failed"
    assert facts["error"].startswith("FloatingPointError: The loss is not finite")
    assert not list(run.folder.rglob("*.safetensors"))
    monkeypatch.undo()
    tiny.register(monkeypatch, fresh)
    train(run)
    assert files.read_json(run.folder / "run.json")["status"] == "finished"
    assert (run.folder / "model.safetensors").exists()


def test_an_interrupted_training_is_failed_too(fresh, monkeypatch):
    monkeypatch.setattr(Training, "_train_step", raising(KeyboardInterrupt()))
    run = tiny.run_of(BASELINE)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    assert files.read_json(run.folder / "run.json")["status"] == "failed"


def test_a_second_process_on_the_same_run_is_refused_until_the_first_dies(fresh):
    run = tiny.run_of(BASELINE)
    code = (
        "import sys, time; from pathlib import Path; from maskinv_lib.utils import files\n"
        "with files.only_process(Path(sys.argv[1]), 'run'): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(run.folder / "lock")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RuntimeError, match=f"elasticface-arc, seed 0 is in use by process {holder.pid}"):
            train(run)
        assert written(run.folder) == ["lock"]
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    for _ in range(50):
        try:
            train(run)
            break
        except RuntimeError:
            time.sleep(0.1)
    assert files.read_json(run.folder / "run.json")["status"] == "finished"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_an_error_and_write_nothing(ablation, fresh, monkeypatch, value):
    run = tiny.run_of(BASELINE)
    broken = build_network("compact", embedding_size=16)
    broken.fc.bias.data[0] = value
    save_network(run.folder / "model.safetensors", broken, {"key": run.key})
    with pytest.raises(ValueError, match="scores are NaN or infinite"):
        evaluate.evaluate_run(run)
    assert "metrics.json" not in "".join(written(fresh))


def test_a_batch_larger_than_the_set_is_refused(fresh):
    with pytest.raises(ValueError, match="batch 17 is larger than the set of 16 faces"):
        train(tiny.run_of(BASELINE, overrides="batch=17"))
    assert written(fresh) == []


def test_a_run_with_overrides_leaves_the_rung_alone(fresh):
    changed = tiny.run_of(BASELINE, overrides="batch=2, scale=16")
    train(changed)
    assert changed.folder.name == "elasticface-arc+batch=2+scale=16"
    assert not tiny.run_of(BASELINE).folder.exists()
    facts = files.read_json(changed.folder / "run.json")
    assert facts["config"]["plan"]["objectives"][0]["settings"]["scale"] == 16.0


def test_the_example_views_show_what_the_student_sees(ablation):
    views = explain.example_views(tiny.run_of("maskinv-lg"), count=4)
    clean, student = views.images.chunk(2)
    assert torch.equal(*views.identity.chunk(2))
    same = (clean == student).flatten(2).all(2).all(1)
    assert views.images.shape == (8, 3, 112, 112) and not same.all()
    upper = (clean[:, :, :20] != student[:, :, :20]).float().mean()
    assert upper < (clean != student).float().mean()


def test_the_example_pairs_are_one_person_a_column(ablation):
    benchmark = sources.benchmark_of(tiny.profile())
    pairs = explain.example_pairs(benchmark, people=3)
    assert pairs.identity.tolist() == [0, 1, 2] * 3
    assert torch.equal(pairs.images[:3], benchmark.faces.images[::2][:3])
    assert torch.equal(pairs.images[3:6], masked_copy(benchmark.faces, "seen")[1::2][:3])


def test_a_benchmark_with_too_few_people_is_refused(fresh):
    faces = dataclasses.replace(tiny.profile().faces, test=4)
    with pytest.raises(ValueError, match="rendered-test: needs at least 20 identities for 10 folds, not 4"):
        sources.benchmark_of(dataclasses.replace(tiny.profile(), faces=faces))


def test_a_published_evaluation_is_opened_where_nothing_was_trained(ablation, fresh, tmp_path, shared):
    run = tiny.run_of(BASELINE)
    tiny.archive(shared[0], tmp_path / "results", BASELINE)
    published = evaluate.open_evaluation(run)
    assert "published results" in published.source
    assert published.evaluations[CASES[0]].metrics == ablation[1][BASELINE].evaluations[CASES[0]].metrics
    with pytest.raises(FileNotFoundError, match="Make it with"):
        evaluate.open_evaluation(tiny.run_of("kd-only"))
    assert isinstance(sources.faces_of(run.profile, "train"), Faces)
