"""FocusFace: the published sum of losses, and a mask head that clean faces train too."""

import math

import numpy as np
import pytest
import torch

from maskinv_lib.training.objectives.focusface import WIDTH, FocusFace, MaskBranch, draw_weights, standardised
from tests.training.batches import MAP_SHAPE, batch, context, vectors

torch.set_num_threads(1)


VIEWS = ("clean", "masked")


def example(count=5, *, masked=None, scale=3.0):
    return batch(
        {view: scale * vectors(count, 8, seed=i) for i, view in enumerate(VIEWS)},
        labels=torch.arange(count) % 3,
        masked=torch.arange(count) % 2 == 0 if masked is None else masked,
        maps={view: vectors(count, *MAP_SHAPE, seed=10 + i) for i, view in enumerate(VIEWS)},
    )


def focusface(**settings):
    return FocusFace(context(seed=1), **settings)


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
    inputs, head = example(scale=2.0), focusface(margin=0.2, scale=8.0)
    losses = {name: value.item() for name, value in head(inputs).items()}
    clean, masked = (inputs.embeddings[view].double().numpy() for view in VIEWS)
    centres = head.centres.detach().double().numpy()
    arcs = [arc_loss(e, inputs.labels.tolist(), centres, 0.2, 8.0) for e in (clean, masked)]
    assert list(losses) == ["margin", "mask", "consistency"]
    assert losses["margin"] == pytest.approx(sum(arcs) / 2, rel=1e-4)
    assert losses["mask"] == pytest.approx(0.1 * mask_losses(head, inputs).sum() / 2, rel=1e-4)
    squares = [(a - b) ** 2 for a, b in zip(clean.flat, masked.flat, strict=True)]
    assert losses["consistency"] == pytest.approx(sum(squares) / (5 * 8) / 3, rel=1e-5)


def test_the_settings_weigh_the_losses_and_the_embeddings_length_counts():
    inputs = example()
    plain, weighted = focusface()(inputs), focusface(mask_weight=0.7, consistency=2.0)(inputs)
    assert weighted["margin"] == plain["margin"]
    assert weighted["mask"].item() == pytest.approx(7 * plain["mask"].item(), rel=1e-5)
    assert weighted["consistency"].item() == pytest.approx(6 * plain["consistency"].item(), rel=1e-5)
    longer = focusface()(example(scale=6.0))  # twice as long: the margin loss sees angles, the other one lengths
    assert longer["margin"].item() == pytest.approx(plain["margin"].item(), rel=1e-4)
    assert longer["consistency"].item() == pytest.approx(4 * plain["consistency"].item(), rel=1e-5)


def test_clean_faces_train_the_mask_head():
    inputs = example()
    for view in VIEWS:
        inputs.maps[view].requires_grad_()
    focusface()(inputs)["mask"].backward()
    for view in VIEWS:
        assert (inputs.maps[view].grad.abs().sum((1, 2, 3)) > 0).all()


def test_an_unmasked_sample_of_the_masked_view_counts_as_unmasked():
    none = torch.zeros(5, dtype=torch.bool)
    inputs, head = example(masked=none), focusface()
    with torch.no_grad():
        head.mask_branch.read.weight.zero_()
        head.mask_branch.read.bias.copy_(torch.tensor([40.0, -40.0]))  # sure that nobody wears one
    assert head(inputs)["mask"].item() == pytest.approx(0.0, abs=1e-6)
    inputs.masked = ~none
    assert head(inputs)["mask"].item() == pytest.approx(0.1 * 80 / 2, rel=1e-5)


def test_each_loss_has_its_own_gradient():
    inputs, head = example(), focusface()
    for tensor in (*inputs.embeddings.values(), *inputs.maps.values()):
        tensor.requires_grad_()
    losses = head(inputs)
    for name, touched in {"margin": (1, 0), "mask": (0, 1), "consistency": (1, 0)}.items():
        kinds = (inputs.embeddings.values(), inputs.maps.values())
        for kind, expected in zip(kinds, touched, strict=True):
            got = torch.autograd.grad(losses[name], list(kind), retain_graph=True, allow_unused=True)
            assert all((g is not None and g.abs().sum() > 0) == bool(expected) for g in got), name


def test_the_same_maps_at_any_scale_are_read_alike():
    branch = MaskBranch(map_shape=MAP_SHAPE, outputs=2, seed=0)
    maps = vectors(64, *MAP_SHAPE)
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


def test_it_learns_to_detect_masks_and_to_embed_both_views_alike():
    torch.manual_seed(0)
    pictures, shift = vectors(12, 24, seed=3), vectors(24, seed=4)
    masked = torch.arange(12) % 4 > 0
    student, head = torch.nn.Linear(24, 8), focusface(scale=8.0, mask_weight=1.0, consistency=1.0)
    optimizer = torch.optim.SGD([*student.parameters(), *head.parameters()], lr=0.05, momentum=0.9)
    history = []
    for _ in range(30):
        views = {"clean": pictures, "masked": pictures + masked[:, None] * shift}
        inputs = example(12, masked=masked)
        inputs.embeddings = {view: student(x) for view, x in views.items()}
        inputs.maps = {view: x.view(12, *MAP_SHAPE) for view, x in views.items()}
        losses = head(inputs)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    assert all(history[-1][name] < 0.7 * history[0][name] for name in history[0])


def test_missing_and_misshaped_maps_are_refused():
    inputs = example()
    inputs.maps.pop("masked")
    with pytest.raises(ValueError, match=r"batch\.maps lacks masked.*with_maps"):
        focusface()(inputs)
    inputs.maps["masked"] = inputs.maps["clean"] = vectors(5, 6, 7, 7)
    with pytest.raises(ValueError, match=r"\[6, 7, 7\] instead of \[6, 2, 2\].*map_shape=\(6, 7, 7\)"):
        focusface()(inputs)
