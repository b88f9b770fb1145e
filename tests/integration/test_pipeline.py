"""From faces to published numbers, in-process: every rung trains, is saved, loaded and measured, or says why not."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from maskinv_lib.evaluation.benchmarks.rendered import CASES, masked_copy
from maskinv_lib.faces import Faces
from maskinv_lib.networks import build_network
from maskinv_lib.networks.templates import NetworkRecogniser, teacher_templates
from maskinv_lib.networks.weights import load_network, read_tensors, save_network
from maskinv_lib.pipeline import evaluate, models, records, sources
from maskinv_lib.reports import explain
from maskinv_lib.study.profiles import STAGES
from maskinv_lib.study.runs import Run
from maskinv_lib.training.loop import Training
from maskinv_lib.utils import files
from tests import tiny
from tests.conftest import ROOT

ABLATION = tiny.RUNGS
BASELINE = ABLATION[0]


def written(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and ".cache" not in str(path)
    )


# Every rung


@pytest.mark.parametrize("stage", ABLATION)
def test_every_rung_leaves_a_model_a_log_and_a_finished_status(ladder, stage):
    run = tiny.run_of(stage)
    facts = files.read_json(run.folder / "run.json")
    steps = run.plan.steps
    assert facts["status"] == "finished"
    assert facts["key"] == run.key
    assert facts["faces"] == steps * tiny.BATCH
    assert {"config", "device", "precision", "threads", "versions", "commit", "wall_seconds"} <= set(facts)
    assert facts["precision"] == "float32"
    records = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == records[-1]["steps"] == steps == (3 if stage == "maskinv-hg" else tiny.STEPS)
    assert all(np.isfinite(record["loss"]) for record in records)
    network, metadata = load_network(run.folder / "model.safetensors")
    expected = {"profile": "tiny", "stage": stage, "seed": 0, "key": run.key, "network": "compact"}
    assert expected.items() <= metadata.items()
    assert network.embedding_size == 16


@pytest.mark.parametrize("stage", ABLATION)
def test_every_rung_is_measured_under_every_condition_and_read_back_the_same(ladder, stage):
    run, found = tiny.run_of(stage), ladder[1][stage]
    assert tuple(found.evaluations) == CASES == tuple(found.curves)
    again = records.read_evaluation(run)
    assert tuple(again.evaluations) == CASES
    for place, evaluation in found.evaluations.items():
        read = again.evaluations[place]
        assert read.metrics == evaluation.metrics
        assert (read.identities, read.fold_error, read.threshold) == (20, evaluation.fold_error, evaluation.threshold)
        assert (read.effective_genuine, read.effective_impostor) == (
            evaluation.effective_genuine,
            evaluation.effective_impostor,
        )
        for name, values in read.resamples.items():
            kept = evaluation.resamples[name]
            np.testing.assert_allclose(values, kept, atol=np.ptp(kept) / (2 * records.LEVELS) + 1e-6)
        assert 0 <= read.metrics["eer"].value <= 1
        assert read.resamples["eer"].shape == (run.profile.resamples,)
        curve = again.curves[place]
        assert np.all(np.diff(curve.fmr) <= 0) or np.all(np.diff(curve.fmr) >= 0)
        assert (curve.genuine, curve.impostor) == (found.curves[place].genuine, found.curves[place].impostor)


@pytest.mark.parametrize("stage", ABLATION)
def test_the_saved_model_gives_the_templates_that_were_measured(ladder, stage):
    run = tiny.run_of(stage)
    benchmark = sources.benchmark_of(run.profile)
    kept = models.templates_of(run, benchmark)
    anew = NetworkRecogniser(models.model_of(run)).templates(benchmark.faces.images[:8]).numpy()
    np.testing.assert_allclose(kept["none"][:8], anew, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(kept["seen"], axis=1), 1, atol=1e-5)


def test_every_rung_spends_the_same_budget_up_to_a_batch(ladder):
    spent = [tiny.run_of(name).faces_spent for name in ABLATION]
    assert max(spent) - min(spent) <= tiny.BATCH
    own = {name: trained.facts["faces"] for name, trained in ladder[0].items()}
    assert own["maskinv-hg"] < own["maskinv-lg"] == own[BASELINE] == tiny.run_of(BASELINE).faces_spent


def test_guided_rungs_carry_their_teacher_s_hash_and_the_others_none(ladder):
    hashes = {name: load_network(tiny.run_of(name).folder / "model.safetensors")[1]["teacher"] for name in ABLATION}
    assert {name for name, value in hashes.items() if value} == {n for n in ABLATION if STAGES[n].teacher}
    assert len(set(hashes.values())) == 2


def test_the_final_model_is_the_last_step_s_not_the_milestone_s(ladder):
    """The rolling checkpoint of a finished training holds the network as it was after the last step."""
    for name in ABLATION:
        run = tiny.run_of(name)
        final, _ = read_tensors(run.folder / "model.safetensors")
        last, facts = read_tensors(run.folder / "checkpoints" / "last.safetensors")
        assert facts["step"] == run.plan.steps
        assert all(torch.equal(value, last[f"network/{key}"]) for key, value in final.items())


def test_hg_starts_from_lg_s_milestone_not_from_its_end(ladder):
    hg, lg = tiny.run_of("maskinv-hg"), tiny.run_of("maskinv-lg")
    start = models.start_of(hg).state_dict()
    milestone, facts = load_network(hg.start_file)
    final, _ = load_network(lg.folder / "model.safetensors")
    assert facts["milestone"] == pytest.approx(20 / 26)
    assert all(torch.equal(value, start[name]) for name, value in milestone.state_dict().items())
    assert not torch.equal(start["fc.weight"], final.state_dict()["fc.weight"])
    assert models.start_of(lg) is None


def test_teacher_templates_are_those_of_clean_faces_and_their_mirror_images(ladder):
    run = tiny.run_of("kd-only")
    faces = sources.faces_of(run.profile, "train")
    found = models.teacher_of(run, faces, torch.device("cpu"))
    expected = teacher_templates(NetworkRecogniser(models.model_of(run.teacher)), faces)
    assert found.shape == (2, len(faces), 16) and found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert models.teacher_of(run.teacher, faces, torch.device("cpu")) is None


def test_splits_share_nobody_and_come_from_the_cache_the_same(ladder):
    profile = tiny.profile()
    train, test = (sources.faces_of(profile, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (16, 40)
    assert torch.equal(sources.faces_of(profile, "train").images, train.images)
    assert not any(torch.equal(a, b) for a in train.images for b in test.images)
    assert train.publishable


def test_nothing_but_the_declared_files_is_left_behind(ladder):
    lg = tiny.run_of("maskinv-lg").folder
    names = {path.name for path in lg.iterdir()}
    assert names <= {
        "checkpoints",
        "lock",
        "log.jsonl",
        "metrics.json",
        "milestone-0.7692.safetensors",
        "model.safetensors",
        "resamples.npz",
        "run.json",
    }


def test_the_masked_threshold_is_the_one_fixed_on_unmasked_pairs(ladder):
    run, found = tiny.run_of(BASELINE), ladder[1][BASELINE]
    clean, masked = CASES[0], ("masked-masked", "unseen")
    threshold = found.evaluations[clean].threshold
    comparisons = {(c, k): scores for c, k, scores in evaluate.score(run)}[masked]
    metric = found.evaluations[masked].metrics["fnmr_at_unmasked_threshold"]
    expected = float((comparisons.scores[comparisons.genuine] < threshold).mean())
    assert metric.value == pytest.approx(expected, abs=1e-6)


# Again, and after an interruption


def test_a_finished_run_is_reused_without_a_step_and_stays_the_same(ladder, monkeypatch):
    run = tiny.run_of("kd-only")
    before, _ = read_tensors(run.folder / "model.safetensors")
    monkeypatch.setattr(Training, "_train_step", lambda *_: pytest.fail("a finished run was trained again"))
    again = tiny.trained(run)
    assert again.records == ladder[0]["kd-only"].records
    after, _ = read_tensors(run.folder / "model.safetensors")
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert files.read_json(run.folder / "run.json")["status"] == "finished"


def test_the_same_run_in_another_folder_is_the_same_bit_for_bit(ladder, shared, fresh):
    run = tiny.run_of("elasticface-arc-aug")
    tiny.trained(run)
    first, _ = read_tensors(shared[0] / "tiny" / "seed-0" / run.name / "model.safetensors")
    again, _ = read_tensors(run.folder / "model.safetensors")
    assert list(first) == list(again)
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_evaluating_twice_writes_the_same_numbers(ladder):
    run = tiny.run_of("maskinv-hg")
    before = (run.folder / "metrics.json").read_bytes()
    evaluate.evaluate_run(run)
    assert (run.folder / "metrics.json").read_bytes() == before


def test_kept_templates_of_another_model_are_not_used(ladder, monkeypatch):
    run = tiny.run_of(BASELINE)
    benchmark = sources.benchmark_of(run.profile)
    assert models.templates_of(run, benchmark)["none"].shape == (40, 16)
    monkeypatch.setattr(Run, "evaluation_key", property(lambda self: "another key"))
    monkeypatch.setattr(models, "model_of", lambda run: (_ for _ in ()).throw(LookupError("computed anew")))
    with pytest.raises(LookupError, match="computed anew"):
        models.templates_of(run, benchmark)


# What is missing, damaged or stale


def test_a_missing_teacher_names_the_command_and_writes_nothing(fresh):
    run = tiny.run_of("kd-only")
    with pytest.raises(FileNotFoundError) as caught:
        tiny.trained(run)
    message = str(caught.value)
    assert "kd-only, seed 0, needs elasticface-arc, seed 0" in message
    assert "papermill notebooks/02-train-a-stage.ipynb" in message and "-p stage elasticface-arc -p seed 0" in message
    assert written(fresh) == []


def test_a_missing_milestone_names_the_stage_that_leaves_it(fresh):
    with pytest.raises(FileNotFoundError, match=r"needs maskinv-lg, seed 3.*-p stage maskinv-lg -p seed 3"):
        tiny.trained(tiny.run_of("maskinv-hg", seed=3))
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
    "act", [lambda: tiny.trained(tiny.run_of("kd-only")), lambda: evaluate.evaluate_run(tiny.run_of(BASELINE))]
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


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04broken"])
def test_damaged_resamples_name_the_command(shared, fresh, content):
    run = tiny.run_of(BASELINE)
    for name in ("metrics.json", "run.json"):
        files.write_text(run.folder / name, (shared[0] / "tiny" / "seed-0" / BASELINE / name).read_text())
    (run.folder / "resamples.npz").write_bytes(content)
    with pytest.raises(FileNotFoundError, match="no readable evaluation"):
        records.read_evaluation(run)


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
        tiny.trained(run)
    facts = json.loads((run.folder / "run.json").read_text())
    assert facts["status"] == "failed"
    assert facts["error"].startswith("FloatingPointError: The loss is not finite")
    assert not list(run.folder.rglob("*.safetensors"))
    monkeypatch.undo()
    tiny.register(monkeypatch, fresh)
    tiny.trained(run)
    assert files.read_json(run.folder / "run.json")["status"] == "finished"
    assert (run.folder / "model.safetensors").exists()


def test_an_interrupted_training_is_failed_too(fresh, monkeypatch):
    monkeypatch.setattr(Training, "_train_step", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    run = tiny.run_of(BASELINE)
    with pytest.raises(KeyboardInterrupt):
        tiny.trained(run)
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
            tiny.trained(run)
        assert written(run.folder) == ["lock"]
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    for _ in range(50):
        try:
            tiny.trained(run)
            break
        except RuntimeError:
            time.sleep(0.1)
    assert files.read_json(run.folder / "run.json")["status"] == "finished"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_an_error_and_write_nothing(ladder, fresh, monkeypatch, value):
    run = tiny.run_of(BASELINE)
    broken = build_network("compact", embedding_size=16)
    broken.fc.bias.data[0] = value
    save_network(run.folder / "model.safetensors", broken, {"key": run.key})
    with pytest.raises(ValueError, match="scores are NaN or infinite"):
        evaluate.evaluate_run(run)
    assert "metrics.json" not in "".join(written(fresh))


def test_a_batch_larger_than_the_set_is_refused(fresh):
    with pytest.raises(ValueError, match="batch 17 is larger than the set of 16 faces"):
        tiny.trained(tiny.run_of(BASELINE, overrides="batch=17"))
    assert written(fresh) == []


def test_a_run_with_overrides_leaves_the_rung_alone(fresh):
    changed = tiny.run_of(BASELINE, overrides="batch=2, scale=16")
    tiny.trained(changed)
    assert changed.folder.name == "elasticface-arc+batch=2+scale=16"
    assert not tiny.run_of(BASELINE).folder.exists()
    facts = files.read_json(changed.folder / "run.json")
    assert facts["config"]["plan"]["objectives"][0]["settings"]["scale"] == 16.0


def test_the_example_views_show_what_the_student_sees(ladder):
    shown = explain.example_views(tiny.run_of("maskinv-lg"), count=4)
    clean, student = shown.images.chunk(2)
    assert torch.equal(*shown.identity.chunk(2))
    same = (clean == student).flatten(2).all(2).all(1)
    assert shown.images.shape == (8, 3, 112, 112) and not same.all()
    upper = (clean[:, :, :20] != student[:, :, :20]).float().mean()
    assert upper < (clean != student).float().mean()


def test_the_example_pairs_are_one_person_a_column(ladder):
    benchmark = sources.benchmark_of(tiny.profile())
    shown = explain.example_pairs(benchmark, people=3)
    assert shown.identity.tolist() == [0, 1, 2] * 3
    assert torch.equal(shown.images[:3], benchmark.faces.images[::2][:3])
    assert torch.equal(shown.images[3:6], masked_copy(benchmark.faces, "seen")[1::2][:3])


def test_a_benchmark_with_too_few_people_is_refused(fresh):
    faces = dataclasses.replace(tiny.profile().faces, test=4)
    with pytest.raises(ValueError, match="rendered-test: needs at least 20 identities for 10 folds, not 4"):
        sources.benchmark_of(dataclasses.replace(tiny.profile(), faces=faces))


def test_a_published_evaluation_is_opened_where_nothing_was_trained(ladder, fresh, tmp_path, shared):
    run = tiny.run_of(BASELINE)
    place = tmp_path / "results" / "tiny" / "stages" / BASELINE / "seed-0"
    place.mkdir(parents=True)
    for name in ("metrics.json", "resamples.npz", "run.json"):
        (place / name).write_bytes((shared[0] / "tiny" / "seed-0" / BASELINE / name).read_bytes())
    found = evaluate.open_evaluation(run)
    assert "published results" in found.source
    assert found.evaluations[CASES[0]].metrics == ladder[1][BASELINE].evaluations[CASES[0]].metrics
    with pytest.raises(FileNotFoundError, match="Make it with"):
        evaluate.open_evaluation(tiny.run_of("kd-only"))
    assert isinstance(sources.faces_of(run.profile, "train"), Faces)
