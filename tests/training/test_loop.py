"""The training loop: batches, resuming, logs, schedules, and what it refuses."""

import contextlib
import dataclasses
import functools
import itertools
import json
import math

import pytest
import torch
from torch import nn

from maskinv_lib.study.ablation import ABLATION
from maskinv_lib.study.plan import Plan
from maskinv_lib.study.plan import plan as resolved
from maskinv_lib.study.profiles import STAGES, get_profile
from maskinv_lib.study.recipes import Schedule, Term
from maskinv_lib.training import loop
from maskinv_lib.training.loop import Training, choose_precision, learning_rate
from maskinv_lib.training.progress import one_cycle
from maskinv_lib.training.views import Views
from tests.training.batches import unit, vectors

ELASTIC = Term(objective="margins.ElasticFaceArc", settings={"margin": 0.3, "scale": 16.0, "deviation": 0.05})
GUIDED = Term(objective="template_kd.TemplateKD", settings={"lambda_": 3000.0})


def plan_of(*terms, budget=160, batch=8, masks=0.5, stop=1.0, **schedule) -> Plan:
    return Plan(
        network="compact",
        embedding_size=16,
        objectives=terms or (ELASTIC,),
        mask_probability=masks,
        mask_kinds="seen",
        schedule=Schedule(budget=budget, batch=batch, **schedule),
        stop=stop,
    )


def views_of(faces, plan, seed=0, teacher=None) -> Views:
    return Views(faces=faces, plan=plan, seed=seed, device=torch.device("cpu"), teacher=teacher)


def training_of(faces, plan, folder, seed=0, teacher=None, **more) -> Training:
    views = views_of(faces, plan, seed, teacher)
    return Training(plan, views, seed=seed, folder=folder, key="a key", precision="fp32", **more)


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.fixture
def targets(patterned):
    return unit(vectors(2, len(patterned), 16, seed=1))


def test_a_batch_is_a_function_of_seed_and_step(patterned, targets):
    plan = plan_of(GUIDED)
    one, two = views_of(patterned, plan, teacher=targets), views_of(patterned, plan, teacher=targets)
    two.batch(3)
    a, b = one.batch(7), two.batch(7)
    assert torch.equal(a.images["masked"], b.images["masked"]) and torch.equal(a.teacher, b.teacher)
    other = views_of(patterned, plan, seed=1, teacher=targets).batch(7)
    assert not torch.equal(a.images["masked"], other.images["masked"])


def test_views_share_one_flip_with_the_teacher(patterned, targets):
    views = views_of(patterned, plan_of(batch=48), teacher=targets)
    batch = views.batch(0)
    images = batch.images
    _, index = views.indices(0)
    plain, mirrored = patterned.images[index], patterned.images[index].flip(-1)
    flipped = (images["clean"] == mirrored).flatten(1).all(1)
    assert torch.equal(images["clean"][~flipped], plain[~flipped]) and 10 < flipped.sum() < 38
    assert torch.equal(batch.teacher, torch.where(flipped[:, None], targets[1, index], targets[0, index]))
    assert torch.equal(images["masked"][~batch.masked], images["clean"][~batch.masked])
    assert (images["masked"] != images["clean"])[batch.masked].flatten(1).any(1).all()
    assert 10 < batch.masked.sum() < 38


def test_an_epoch_shows_every_face_once(patterned):
    views = views_of(patterned, plan_of(batch=8))
    seen = torch.cat([views.indices(step)[1] for step in range(6)])
    assert torch.equal(seen.sort().values, torch.arange(48))
    assert views.indices(6)[0] == 1 and not torch.equal(views.indices(6)[1], views.indices(0)[1])


def test_the_gradient_of_the_backbone_alone_is_clipped(patterned, tmp_path):
    plan = plan_of(learning_rate=1.0, warm_up=0.0, clip=1e-3, weight_decay=0.0)
    made = training_of(patterned, plan, tmp_path)
    before = [value.detach().clone() for value in made.network.parameters()]
    head = made.objectives[0].centres.detach().clone()
    made.network.train()
    made._train_step(0)
    rate = learning_rate(plan.schedule, 0.5 / plan.steps)
    steps = [(a - b).flatten() for a, b in zip(made.network.parameters(), before, strict=True)]
    assert torch.cat(steps).norm().item() == pytest.approx(1e-3 * rate, rel=1e-3)
    assert (made.objectives[0].centres - head).norm() > 10e-3 * rate


def test_a_head_that_does_not_warm_up_starts_at_the_peak(patterned, tmp_path):
    rates = {}
    for warm in (True, False):
        made = training_of(patterned, plan_of(learning_rate=0.2, head_warm_up=warm), tmp_path / str(warm))
        made.network.train()
        made._train_step(0)
        rates[warm] = {name: optimizer.param_groups[0]["lr"] for name, optimizer in made.optimizers.items()}
    assert rates[False]["head optimizer"] == 0.2 > rates[False]["backbone optimizer"]
    assert rates[True]["head optimizer"] == rates[True]["backbone optimizer"] == rates[False]["backbone optimizer"]


def test_training_learns_and_logs(patterned, tmp_path):
    done = training_of(patterned, plan_of(budget=640, masks=0.0), tmp_path)
    records = []
    done.on_log = records.append
    done.run()
    assert records[-1]["loss"] < 0.5 * records[0]["loss"]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == done.records == records
    assert lines[-1]["step"] == 80 and lines[-1]["faces"] == 640


@pytest.mark.parametrize("terms", [(ELASTIC,), (GUIDED,), (ELASTIC, GUIDED)])
def test_interrupted_and_resumed_equals_uninterrupted(patterned, targets, tmp_path, monkeypatch, terms):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    plan = plan_of(*terms, budget=8 * 63, stop=0.8)
    whole = training_of(patterned, plan, tmp_path / "whole", teacher=targets)
    whole.run()
    broken = training_of(patterned, plan, tmp_path / "broken", teacher=targets)
    step = broken._train_step

    def fail_at_45(number):
        if number == 45:
            raise KeyboardInterrupt
        return step(number)

    broken._train_step = fail_at_45
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    resumed = training_of(patterned, plan, tmp_path / "broken", teacher=targets)
    resumed._train_step, seen = (lambda number, go=resumed._train_step: seen.append(number) or go(number)), []
    resumed.run()
    assert seen == list(range(40, 50))
    assert same(whole.network, resumed.network) and same(whole.objectives, resumed.objectives)
    assert [r["loss"] for r in whole.records] == [r["loss"] for r in resumed.records]


def test_a_finished_training_is_loaded_without_a_step(patterned, tmp_path):
    first = training_of(patterned, plan_of(), tmp_path)
    first.run()
    again = training_of(patterned, plan_of(), tmp_path)
    again._train_step = None  # a step would fail
    again.run()
    assert same(first.network, again.network) and again.records == first.records


def test_a_checkpoint_in_another_precision_is_not_resumed(patterned, tmp_path):
    training_of(patterned, plan_of(), tmp_path).run()
    views = views_of(patterned, plan_of())
    other = Training(plan_of(), views, seed=0, folder=tmp_path, key="a key", precision="bf16")
    other._resume()
    assert other.step == 0


def test_a_checkpoint_of_another_key_or_a_damaged_one_is_not_resumed(patterned, tmp_path):
    first = training_of(patterned, plan_of(), tmp_path)
    first.run()
    other = training_of(patterned, plan_of(), tmp_path)
    other.key = "another key"
    other._resume()
    assert other.step == 0
    path = tmp_path / "checkpoints" / "last.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    again = training_of(patterned, plan_of(), tmp_path)
    again._resume()
    assert again.step == 0


def test_a_student_starts_from_a_backbone(patterned, tmp_path):
    parent = training_of(patterned, plan_of(), tmp_path / "parent")
    parent.run()
    child = training_of(patterned, plan_of(), tmp_path / "child", start=parent.network.state_dict())
    assert same(child.network, parent.network)
    assert not same(child.objectives, parent.objectives)


def test_a_loss_that_is_not_finite_stops_with_its_name_and_leaves_no_checkpoint(patterned, tmp_path):
    broken = training_of(patterned, plan_of(budget=8 * 30), tmp_path)
    with torch.no_grad():
        broken.network.fc.bias.fill_(math.nan)
    with pytest.raises(FloatingPointError, match=r"not finite at step 20 of 30: \{'margin': nan\}.*learning rate"):
        broken.run()
    assert not (tmp_path / "checkpoints" / "last.safetensors").exists()


def test_a_term_without_its_teacher_is_refused(patterned, tmp_path):
    with pytest.raises(ValueError, match=r"template_kd\.TemplateKD needs a teacher"):
        training_of(patterned, plan_of(GUIDED), tmp_path)


def test_more_faces_in_a_batch_than_in_the_set_are_refused(patterned):
    with pytest.raises(ValueError, match="batch 64 is larger than the set of 48 faces"):
        views_of(patterned, plan_of(batch=64))


def test_one_cycle_rises_falls_and_ends_at_zero():
    schedule = Schedule(budget=1, learning_rate=0.2, warm_up=0.25)
    shares = {0: 0, 0.125: 0.5, 0.25: 1, 0.625: 0.5, 1: 0}
    for progress, share in shares.items():
        assert one_cycle(progress, 0.25) == pytest.approx(share)
        assert learning_rate(schedule, progress) == pytest.approx(0.2 * share)
    assert learning_rate(schedule, 0.0, warm_up=False) == 0.2


def test_steps_are_those_of_the_published_schedule():
    schedule = Schedule(budget=1, learning_rate=0.1, policy="steps")
    for epochs, rate in ((0, 0.1), (6.9, 0.1), (7.1, 1e-2), (13.1, 1e-3), (19.1, 1e-4), (25, 1e-5)):
        assert learning_rate(schedule, epochs / 26) == pytest.approx(rate)
    with pytest.raises(ValueError, match="Unknown policy 'cosine'"):
        learning_rate(dataclasses.replace(schedule, policy="cosine"), 0.5)


def test_precision_is_that_of_the_setting():
    cpu = torch.device("cpu")
    assert choose_precision("fp32", cpu) == torch.float32 and choose_precision("bf16", cpu) == torch.bfloat16
    assert choose_precision("auto", cpu) in (torch.float32, torch.bfloat16)
    with pytest.raises(ValueError, match="Unknown precision 'fp16'"):
        choose_precision("fp16", cpu)


@pytest.mark.parametrize("name", [stage.name for stage in ABLATION])
def test_every_rung_takes_three_steps(patterned, targets, tmp_path, name):
    stage = STAGES[name]
    terms = [dataclasses.replace(t, settings={**t.settings}) for t in stage.objectives]
    done = training_of(patterned, plan_of(*terms, budget=24, masks=stage.mask_probability), tmp_path, teacher=targets)
    before = {n: p.detach().clone() for n, p in done.network.named_parameters()}
    done.run()
    moved = [n for n, p in done.network.named_parameters() if p.requires_grad and not torch.equal(p, before[n])]
    assert len(moved) == sum(p.requires_grad for p in done.network.parameters())


@pytest.mark.gpu
def test_a_gpu_trains_the_same_batches(patterned, tmp_path):
    plan = plan_of(budget=80)
    views = Views(faces=patterned, plan=plan, seed=0, device=torch.device("cuda"))
    images, expected = views.batch(3).images, views_of(patterned, plan).batch(3).images
    assert (images["masked"].cpu().int() - expected["masked"].int()).abs().max() <= 1
    done = Training(plan, views, seed=0, folder=tmp_path, key="a key")
    done.run()
    assert math.isfinite(done.records[-1]["loss"])


def test_batch_norm_freezes_after_half_of_the_first_of_26_epochs(patterned, tmp_path):
    plan = dataclasses.replace(plan_of(budget=8 * 104, stop=0.1), batch_norm="frozen after half an epoch")
    done = training_of(patterned, plan, tmp_path)
    kept = []
    step = done._train_step

    def watched(number):
        losses = step(number)
        kept.append(done.network.bn1.running_mean.clone())
        return losses

    done._train_step = watched
    done.run()
    moved = [not torch.equal(a, b) for a, b in itertools.pairwise(kept)]
    assert moved == [True] + [False] * 8  # of 104 steps two


def test_a_training_that_stops_early_has_the_rates_of_the_whole_schedule(patterned, tmp_path):
    half, whole = (training_of(patterned, plan_of(stop=stop), tmp_path / f"{stop}") for stop in (0.5, 1.0))
    for training in (half, whole):
        training.run()
    assert (half.step, whole.step) == (10, 20)
    assert half.records[-1]["learning_rate"] > 0.3 * half.plan.schedule.learning_rate
    assert whole.records[-1]["learning_rate"] < 0.05 * whole.plan.schedule.learning_rate
    again = training_of(patterned, plan_of(stop=0.5), tmp_path / "0.5")
    again._train_step = None  # a step would fail
    again.run()
    assert same(again.network, half.network)


def test_images_that_an_objective_computes_do_not_change_batch_norm_s_statistics(patterned, tmp_path):
    done = training_of(patterned, plan_of(), tmp_path)
    done.network.train()
    before = done.network.bn1.running_mean.clone()
    images = torch.zeros(4, 3, 112, 112).uniform_(-1, 1).requires_grad_()
    done._embed_restored(images).sum().backward()
    assert torch.equal(done.network.bn1.running_mean, before) and images.grad.abs().sum() > 0
    done._embed(images)
    assert not torch.equal(done.network.bn1.running_mean, before)


def test_a_view_that_an_objective_needs_and_the_plan_lacks_is_refused(patterned, tmp_path):
    term = Term(objective="focusface.FocusFace")
    with pytest.raises(ValueError, match=r"focusface\.FocusFace needs the view 'clean'; the plan has"):
        training_of(patterned, plan_of(term), tmp_path)


def test_two_views_take_half_the_steps_of_one(patterned, tmp_path):
    plan = dataclasses.replace(plan_of(budget=64), views=("clean", "masked"))
    done = training_of(patterned, plan, tmp_path)
    done.run()
    assert done.step == 4 and done.records[-1]["faces"] == 64


READ_BACK = {
    "ekd": "the number of its positive and negative pairs decides shapes",
    "gkd": "the number of classes in its group decides shapes",
    "meer": "the network checks the range of the restored faces",
}
"""Stages whose step reads a value back from the device, and why."""


@pytest.mark.parametrize(
    "stage", [stage for stage in STAGES.values() if stage.objectives], ids=lambda stage: stage.name
)
def test_a_step_reads_nothing_back_from_the_device(stage, patterned, tmp_path, monkeypatch):
    """On the meta device, which holds no values, reading one is an error; on a GPU it would be waited for."""
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **settings: contextlib.nullcontext())
    profile = dataclasses.replace(get_profile("smoke", "all"), schedule=Schedule(budget=64, batch=8))
    plan, templates = resolved(stage, profile), unit(vectors(2, len(patterned), profile.embedding_size, seed=1))
    training = Training(plan, views_of(patterned, plan, teacher=templates), seed=0, folder=tmp_path, key="a key")
    for module in training.parts.values():
        module.to("meta")
    training.views = dataclasses.replace(training.views, device=torch.device("meta"))
    training.optimizers = training._optimizers()
    training.network.train()
    expected = (
        pytest.raises((RuntimeError, NotImplementedError)) if stage.name in READ_BACK else contextlib.nullcontext()
    )
    with expected:
        losses = training._train_step(0)
        assert all(loss.is_meta for loss in losses.values())


def test_a_compiled_training_has_the_same_losses_and_names_of_weights(patterned, targets, tmp_path, monkeypatch):
    compiled = []
    trace = functools.partial(torch.compile, backend="eager")  # the whole forward pass, without a C++ compiler
    monkeypatch.setattr(
        torch, "compile", lambda model, **settings: compiled.append(settings) or trace(model, **settings)
    )
    plan = plan_of(ELASTIC, GUIDED, budget=16)
    trainings = [
        training_of(patterned, dataclasses.replace(plan, compiled=compile), tmp_path / compile, teacher=targets)
        for compile in ("no", "yes")
    ]
    plain, fast = (training._train_step(0) for training in trainings)
    assert compiled == [{"dynamic": False}]
    assert {name: loss.item() for name, loss in fast.items()} == pytest.approx(
        {name: loss.item() for name, loss in plain.items()}, rel=1e-4
    )
    assert trainings[0].network.state_dict().keys() == trainings[1].network.state_dict().keys()
