import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from maskinv_lib.networks import build_network
from maskinv_lib.networks.iresnet import PReLU
from maskinv_lib.tools.speed import training
from maskinv_lib.tools.speed.plain_training import PlainLoop, plain_network
from maskinv_lib.tools.speed.sizes import Trained


@pytest.mark.parametrize("name", ["compact", "mobilefacenet"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_plain_network_gives_the_same_embeddings_with_torch_s_own_layers(name, mode, patterned):
    network = build_network(name, 16, seed=1)
    plain = plain_network(network)
    assert not any(isinstance(module, PReLU) for module in plain.modules())
    assert any(type(module) is nn.PReLU for module in plain.modules())
    getattr(network, mode)(), getattr(plain, mode)()
    with torch.no_grad():
        ours, theirs = network(patterned.images[:8]), plain(patterned.images[:8])
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(ours.abs().max()))


@pytest.fixture(params=[("compact", "laptop"), ("mobilefacenet", "real")])
def prepared(request, patterned, tmp_path, monkeypatch):
    """Return the training, the obvious loop and the records of the training's log."""
    monkeypatch.delenv("MASKINV_DATA", raising=False)
    network, profile = request.param
    plan = training.plan_of(Trained(network=network, profile=profile, batch=8))
    plan = dataclasses.replace(plan, embedding_size=16, schedule=dataclasses.replace(plan.schedule, budget=8))
    options = {"precision": "fp32", "device": torch.device("cpu"), "folder": tmp_path, "draw": lambda face: 255 - face}
    made = training.prepare(plan, patterned, **options)
    made.ours.folder.mkdir(parents=True, exist_ok=True)
    return made


def test_the_obvious_loop_has_the_losses_of_the_training(prepared):
    ours, plain = prepared.ours, copy.deepcopy(prepared.plain)
    batch = ours.views.batch(0)
    names = (batch.images["clean"], batch.images["masked"], batch.masked, batch.labels, batch.keys)
    theirs = {name: float(loss.detach()) for name, loss in plain.losses(*names).items()}
    ours.run()  # one step, with the same weights
    assert theirs.keys() <= ours.records[0].keys() and len(theirs) == 2
    for name, loss in theirs.items():
        assert ours.records[0][name] == pytest.approx(loss, rel=1e-3), name


def test_a_step_of_the_obvious_loop_changes_student_and_head_but_not_the_teacher(prepared):
    plain: PlainLoop = prepared.plain
    before = [copy.deepcopy(part.state_dict()) for part in (plain.network, plain.objectives, plain.teacher)]
    assert np.isfinite(plain.step())
    after = [part.state_dict() for part in (plain.network, plain.objectives, plain.teacher)]
    changed = [any(not torch.equal(a[k], b[k]) for k in a) for a, b in zip(before, after, strict=True)]
    assert changed == [True, True, False]


def test_masks_are_drawn_where_they_should_be(prepared, patterned):
    where = torch.tensor([True, False, True])
    masked = prepared.plain.masked(patterned.images[:3], where)
    assert torch.equal(masked[1], patterned.images[1])
    assert torch.equal(masked[0], 255 - patterned.images[0])
