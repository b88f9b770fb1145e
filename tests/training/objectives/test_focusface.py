"""FocusFace: the published sum of losses, a mask head that clean faces train too, safety at the edges."""

import math

import numpy as np
import pytest
import torch

from maskinv_lib.training.objectives import Batch, build_objective
from maskinv_lib.training.objectives.focusface import WIDTH, FocusFace, MaskBranch, draw_weights, standardised
from maskinv_lib.training.objectives.margins import ArcFace
from maskinv_lib.utils import randomness

torch.set_num_threads(1)

SHAPE = (6, 2, 2)
VIEWS = ("clean", "masked")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch(count=5, size=8, *, masked=None, labels=None, dtype=torch.float32, scale=3.0):
    masked = torch.arange(count) % 2 == 0 if masked is None else masked
    return Batch(
        labels=torch.arange(count) % 3 if labels is None else labels,
        masked=masked,
        keys=randomness.key(7, torch.arange(count)),
        progress=0.0,
        embeddings={v: (scale * normal(count, size, seed=i)).to(dtype) for i, v in enumerate(VIEWS)},
        maps={v: normal(count, *SHAPE, seed=10 + i).to(dtype) for i, v in enumerate(VIEWS)},
    )


def focusface(size=8, classes=3, **settings):
    return FocusFace(embedding_size=size, classes=classes, seed=1, map_shape=SHAPE, **settings)


def arc_loss(embeddings, labels, centres, margin, scale):
    """Cross-entropy of ArcFace, sample by sample, below theta + m = pi."""
    total = 0.0
    for embedding, label in zip(embeddings, labels, strict=True):
        cosines = [embedding @ c / np.linalg.norm(embedding) / np.linalg.norm(c) for c in centres]
        angle = math.acos(cosines[label])
        assert angle + margin < math.pi
        logits = [scale * c for c in cosines]
        logits[label] = scale * math.cos(angle + margin)
        total += math.log(sum(math.exp(x - max(logits)) for x in logits)) + max(logits) - logits[label]
    return total / len(labels)


def mask_losses(head, inputs):
    """Cross-entropies of the mask head, [clean mean, masked mean], in plain numpy."""
    weights = {name: value.double().numpy() for name, value in head.mask_branch.state_dict().items()}
    x = np.concatenate([inputs.maps[view].double().numpy().reshape(len(inputs.labels), -1) for view in VIEWS])
    x = x @ weights["embed.weight"].T
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    logits = x @ weights["read.weight"].T + weights["read.bias"]
    wears = [False] * len(inputs.labels) + inputs.masked.tolist()
    each = [math.log(math.exp(a) + math.exp(b)) - (b if w else a) for (a, b), w in zip(logits, wears, strict=True)]
    return np.array(each).reshape(2, -1).mean(1)


def test_the_three_losses_are_those_of_the_paper():
    inputs, head = batch(scale=2.0), focusface(margin=0.2, scale=8.0)
    found = {name: value.item() for name, value in head(inputs).items()}
    clean, masked = (inputs.embeddings[view].double().numpy() for view in VIEWS)
    centres = head.centres.detach().double().numpy()
    arcs = [arc_loss(e, inputs.labels.tolist(), centres, 0.2, 8.0) for e in (clean, masked)]
    assert list(found) == ["margin", "mask", "consistency"]
    assert found["margin"] == pytest.approx(sum(arcs) / 2, rel=1e-4)
    assert found["mask"] == pytest.approx(0.1 * mask_losses(head, inputs).sum() / 2, rel=1e-4)
    squares = [(a - b) ** 2 for a, b in zip(clean.flat, masked.flat, strict=True)]
    assert found["consistency"] == pytest.approx(sum(squares) / (5 * 8) / 3, rel=1e-5)


def test_the_settings_weigh_the_losses_and_the_embeddings_length_counts():
    inputs = batch()
    plain, weighted = focusface()(inputs), focusface(mask_weight=0.7, consistency=2.0)(inputs)
    assert weighted["margin"] == plain["margin"]
    assert weighted["mask"].item() == pytest.approx(7 * plain["mask"].item(), rel=1e-5)
    assert weighted["consistency"].item() == pytest.approx(6 * plain["consistency"].item(), rel=1e-5)
    longer = focusface()(batch(scale=6.0))  # twice as long: the margin loss sees angles, the other one lengths
    assert longer["margin"].item() == pytest.approx(plain["margin"].item(), rel=1e-4)
    assert longer["consistency"].item() == pytest.approx(4 * plain["consistency"].item(), rel=1e-5)


def test_clean_faces_train_the_mask_head():
    inputs = batch()
    for view in VIEWS:
        inputs.maps[view].requires_grad_()
    focusface()(inputs)["mask"].backward()
    for view in VIEWS:
        assert (inputs.maps[view].grad.abs().sum((1, 2, 3)) > 0).all()


def test_an_unmasked_sample_of_the_masked_view_counts_as_unmasked():
    none = torch.zeros(5, dtype=torch.bool)
    inputs, head = batch(masked=none), focusface()
    with torch.no_grad():
        head.mask_branch.read.weight.zero_()
        head.mask_branch.read.bias.copy_(torch.tensor([40.0, -40.0]))  # sure that nobody wears one
    assert head(inputs)["mask"].item() == pytest.approx(0.0, abs=1e-6)
    inputs.masked = ~none
    assert head(inputs)["mask"].item() == pytest.approx(0.1 * 80 / 2, rel=1e-5)


def test_each_loss_has_its_own_gradient():
    inputs, head = batch(), focusface()
    for tensor in (*inputs.embeddings.values(), *inputs.maps.values()):
        tensor.requires_grad_()
    losses = head(inputs)
    for name, touched in {"margin": (1, 0), "mask": (0, 1), "consistency": (1, 0)}.items():
        kinds = (inputs.embeddings.values(), inputs.maps.values())
        for kind, expected in zip(kinds, touched, strict=True):
            got = torch.autograd.grad(losses[name], list(kind), retain_graph=True, allow_unused=True)
            assert all((g is not None and g.abs().sum() > 0) == bool(expected) for g in got), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masked", [[True], [False], [True, True], [False, False]])
def test_edges_are_finite(dtype, masked):
    inputs = batch(len(masked), masked=torch.tensor(masked), labels=torch.zeros(len(masked), dtype=torch.int64))
    inputs.embeddings = {view: torch.zeros(len(masked), 8, dtype=dtype, requires_grad=True) for view in VIEWS}
    inputs.maps = {view: torch.zeros(len(masked), *SHAPE, dtype=dtype, requires_grad=True) for view in VIEWS}
    head = focusface(classes=1)
    losses = head(inputs)
    sum(losses.values()).backward()
    assert all(loss.dtype == torch.float32 and loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    tensors = (*inputs.embeddings.values(), *inputs.maps.values(), *head.parameters())
    assert all(tensor.grad.isfinite().all() for tensor in tensors)


def test_autocast_does_not_reach_it():
    inputs, head = batch(), focusface()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = head(inputs)
    assert all(torch.equal(under[name], loss) for name, loss in head(inputs).items())


def test_weights_follow_the_seed_alone_and_survive_a_round_trip():
    state = torch.get_rng_state()
    heads = [FocusFace(embedding_size=8, classes=3, seed=seed, map_shape=SHAPE) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    one, same, other = (head.state_dict() for head in heads)
    assert set(one) == {"centres", "mask_branch.embed.weight", "mask_branch.read.weight", "mask_branch.read.bias"}
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["mask_branch.embed.weight"], other["mask_branch.embed.weight"])
    heads[2].load_state_dict(one)
    inputs = batch()
    assert heads[2](inputs) == heads[0](inputs)


def test_the_same_maps_at_any_scale_are_read_alike():
    branch = MaskBranch(map_shape=SHAPE, outputs=2, seed=0)
    maps = normal(64, *SHAPE)
    features, outputs = branch(maps)
    assert features.shape == (64, WIDTH) and outputs.shape == (64, 2)
    assert torch.allclose(features.mean(0), torch.zeros(WIDTH), atol=1e-5)
    assert torch.allclose(features.std(0, correction=0), torch.ones(WIDTH), atol=1e-3)
    assert torch.allclose(branch(1000 * maps + 5)[0], features, atol=2e-3)
    assert torch.equal(standardised(torch.full((3, 2), 7.0)), torch.zeros(3, 2))


def test_drawn_weights_keep_the_variance():
    with torch.device("meta"):
        module = torch.nn.Sequential(torch.nn.Linear(400, 50), torch.nn.Conv2d(16, 50, 5))
    for layer, inputs in zip(draw_weights(module, 3, "a purpose"), (400, 400), strict=True):
        assert layer.weight.std().item() == pytest.approx(inputs**-0.5, rel=0.05)
        assert (layer.bias == 0).all()


def test_it_learns_to_tell_masks_and_to_embed_both_views_alike():
    torch.manual_seed(0)
    pictures, shift = normal(12, 24, seed=3), normal(24, seed=4)
    masked = torch.arange(12) % 4 > 0
    student, head = torch.nn.Linear(24, 8), focusface(scale=8.0, mask_weight=1.0, consistency=1.0)
    optimizer = torch.optim.SGD([*student.parameters(), *head.parameters()], lr=0.05, momentum=0.9)
    history = []
    for _ in range(30):
        views = {"clean": pictures, "masked": pictures + masked[:, None] * shift}
        inputs = batch(12, masked=masked)
        inputs.embeddings = {view: student(x) for view, x in views.items()}
        inputs.maps = {view: x.view(12, *SHAPE) for view, x in views.items()}
        losses = head(inputs)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    assert all(history[-1][name] < 0.7 * history[0][name] for name in history[0])


def test_it_is_built_by_name_with_its_needs():
    run = {"embedding_size": 8, "classes": 3, "seed": 0, "map_shape": SHAPE}
    head = build_objective("focusface.FocusFace", {"margin": 0.4, "scale": 32, "mask_weight": 0.2}, **run)
    assert isinstance(head, ArcFace) and head.mask_branch.map_shape == SHAPE
    assert (head.margin, head.scale, head.mask_weight, head.consistency) == (0.4, 32.0, 0.2, 1 / 3)
    assert head.views == VIEWS and head.needs_maps and not head.needs_teacher
    assert (focusface().margin, focusface().scale, focusface().mask_weight) == (0.5, 64.0, 0.1)
    with pytest.raises(ValueError, match="Label 3 has no class in FocusFace"):
        head.check_labels(torch.tensor([0, 3]))


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"mask_wieght": 0.1}, "Did you mean 'mask_weight'"),
        ({"view": "clean"}, "Known: margin, scale, mask_weight, consistency"),
        ({"map_shape": SHAPE}, "Unknown setting"),
        ({"mask_weight": -0.1}, "mask_weight must be a number from 0 up"),
        ({"consistency": "1/3"}, "consistency must be a number from 0 up"),
        ({"margin": 4}, "margin must be a number from 0 to 3.14159"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(ValueError) as caught:
        build_objective("focusface.FocusFace", settings, embedding_size=8, classes=3, seed=0, map_shape=SHAPE)
    assert words in str(caught.value)


def test_missing_and_misshaped_maps_are_refused():
    inputs = batch()
    inputs.maps.pop("masked")
    with pytest.raises(ValueError, match=r"batch\.maps lacks masked.*with_maps"):
        focusface()(inputs)
    inputs.maps["masked"] = inputs.maps["clean"] = normal(5, 6, 7, 7)
    with pytest.raises(ValueError, match=r"\[6, 7, 7\] instead of \[6, 2, 2\].*map_shape=\(6, 7, 7\)"):
        focusface()(inputs)
