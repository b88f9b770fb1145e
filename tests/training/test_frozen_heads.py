"""Heads on frozen templates: the loss re-derived, the rules of triplets, training, determinism and files."""

import copy
import math

import numpy as np
import pytest
import torch

from maskinv_lib.networks import heads
from maskinv_lib.networks.heads import EUM, MaskClassifier, apply_head
from maskinv_lib.networks.weights import write_tensors
from maskinv_lib.reports import figures
from maskinv_lib.training import frozen_heads
from maskinv_lib.training.frozen_heads import Triplets, fit_mask_classifier, srt_loss, train_eum
from tests.training.batches import unit, vectors

torch.set_num_threads(1)

SIZE = 16
NOT_FINITE = r"not finite at step 2 of 2: \{'loss': nan\}.*Lower the learning rate"


def people(seed, identities=150, pictures=5, masks=2):
    """Return (masked [M, N, D], clean [N, D], labels): a mask mixes the axes, adds one direction and noise."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(SIZE) + 0.7 * vectors(SIZE, SIZE, seed=100) / SIZE**0.5  # the same whatever the seed
    pull = unit(vectors(1, SIZE, seed=101))
    centres = torch.randn(identities, 1, SIZE, generator=generator)
    noise = torch.randn(identities, pictures, SIZE, generator=generator)
    clean = unit(centres + 0.4 * noise).flatten(0, 1)
    strength = 0.8 + 0.2 * torch.rand(masks, len(clean), 1, generator=generator)
    masked = unit(unit(clean @ mixing) + strength * pull)
    return masked, clean, torch.arange(identities).repeat_interleave(pictures)


def distance(a, b):
    return (a - b).square().sum(1).mean().item()


def train(seed=0, steps=150, batch=64, data=None, **settings):
    return train_eum(*(data or people(1)), seed=seed, budget=steps * batch, batch=batch, **settings)


# The self-restrained triplet loss


def plain_srt(anchors, positives, negatives, margin):
    """Return (loss, whether negatives counted as far enough) in loops over Python floats."""

    def squared(x, y):
        x, y = ([value / math.sqrt(sum(v * v for v in row)) for value in row] for row in (x, y))
        return sum((p - q) ** 2 for p, q in zip(x, y, strict=True))

    triplets = list(zip(anchors.tolist(), positives.tolist(), negatives.tolist(), strict=True))
    between = sum(squared(p, n) for _, p, n in triplets) / len(triplets)
    far = sum(squared(a, n) for a, _, n in triplets) / len(triplets) >= between
    losses = [max(0.0, squared(a, p) + margin - (between if far else squared(a, n))) for a, p, n in triplets]
    return sum(losses) / len(losses), far


@pytest.mark.parametrize("margin", [0.5, 2.0])
@pytest.mark.parametrize("towards, far", [(0.5, False), (-0.5, True)])
def test_both_branches_equal_plain_python(towards, far, margin):
    positives, negatives = unit(vectors(7, 8, seed=1)), unit(vectors(7, 8, seed=2))
    anchors = 3 * (0.7 * positives + towards * negatives + 0.2 * vectors(7, 8, seed=3))
    expected, plain_far = plain_srt(anchors, positives, negatives, margin)
    assert plain_far is far
    assert srt_loss(anchors, positives, negatives, margin).item() == pytest.approx(expected, abs=1e-5)


def test_known_angles():
    positive, negative = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])  # d(p, n) = 2
    for degrees, expected in ((0, 0.0), (-60, 1.0), (60, 1 + 2 - (2 - math.sqrt(3)))):
        anchor = torch.tensor([[math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]])
        assert srt_loss(anchor, positive, negative).item() == pytest.approx(expected, abs=1e-5)


def test_once_negatives_are_far_only_the_positive_pulls():
    positives, negatives = unit(vectors(5, 8, seed=4)), unit(vectors(5, 8, seed=5))
    anchors = unit(positives - 0.5 * negatives).requires_grad_()
    srt_loss(anchors, positives, negatives, margin=4.0).backward()
    alone = anchors.detach().clone().requires_grad_()
    (unit(alone) - positives).square().sum(1).mean().backward()
    assert torch.allclose(anchors.grad, alone.grad, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 4])
def test_zero_anchors_and_the_ends_have_finite_gradients_and_frozen_templates_none(count, dtype):
    frozen = unit(vectors(count, 4, seed=6)).requires_grad_()
    for anchor in (torch.zeros(count, 4), frozen.detach(), -frozen.detach()):
        anchor = anchor.to(dtype).requires_grad_()
        loss = srt_loss(anchor, frozen, -frozen)
        loss.backward()
        assert loss.dtype == torch.float32 and loss.isfinite() and anchor.grad.isfinite().all()
    assert frozen.grad is None


def test_autocast_does_not_reach_the_loss_or_the_eum():
    head, x = EUM(embedding_size=8, seed=0).eval(), vectors(6, 8, seed=7)
    plain = srt_loss(head(x), x, x.flip(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(srt_loss(head(x), x, x.flip(0)), plain)


def test_shapes_and_margin_are_checked():
    with pytest.raises(ValueError, match=r"\[3, 4\], \[3, 4\], \[2, 4\]"):
        srt_loss(torch.ones(3, 4), torch.ones(3, 4), torch.ones(2, 4))
    with pytest.raises(ValueError, match="margin must be a number"):
        srt_loss(*[torch.ones(3, 4)] * 3, margin="2")


# The embedding unmasking model


def test_the_layers_are_those_of_the_paper():
    kinds = [type(layer).__name__ for layer in EUM(embedding_size=512, seed=0).layers]
    assert kinds == ["Linear", "BatchNorm1d", "LeakyReLU"] * 3 + ["Linear", "BatchNorm1d"]
    counted = sum(p.numel() for p in EUM(embedding_size=512).parameters())
    assert counted == 4 * (512 * 512 + 512) + 4 * 2 * 512


def test_it_equals_its_layers_in_plain_numpy():
    head = EUM(embedding_size=3, seed=4)
    head(vectors(20, 3, seed=8))  # statistics that are not the neutral ones
    head.eval()
    x, state = vectors(5, 3, seed=9), {name: value.double().numpy() for name, value in head.state_dict().items()}
    y = x.double().numpy()
    for linear, norm in ((0, 1), (3, 4), (6, 7), (9, 10)):
        y = y @ state[f"layers.{linear}.weight"].T + state[f"layers.{linear}.bias"]
        scale = state[f"layers.{norm}.weight"] / np.sqrt(state[f"layers.{norm}.running_var"] + 1e-5)
        y = (y - state[f"layers.{norm}.running_mean"]) * scale + state[f"layers.{norm}.bias"]
        y = y if linear == 9 else np.where(y > 0, y, 0.2 * y)
    assert np.allclose(head(x).detach().numpy(), y, atol=1e-5)


def test_first_weights_follow_the_seed_alone():
    state = torch.get_rng_state()
    same, again, other = (EUM(embedding_size=64, seed=seed).layers[0].weight for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(same, again) and not torch.equal(same, other)
    assert 0.12 < same.abs().max().item() <= 64**-0.5 and EUM(embedding_size=4).layers[0].weight.is_meta


# Triplets


def test_triplets_follow_the_rules_and_cover_everybody():
    masked, clean, labels = people(2, identities=6, pictures=3, masks=4)
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    labels = labels[shuffled] * 10 + 7  # neither sorted nor dense
    triplets = Triplets(masked=masked, clean=clean, labels=labels, seed=3, batch=6)
    seen = {"mask": set(), "positive": set(), "negative": set()}
    orders = set()
    for epoch in range(40):
        faces = []
        for step in range(epoch * 3, epoch * 3 + 3):
            mask, face, positive, negative = triplets.draw(step)
            assert (labels[face] == labels[positive]).all() and (labels[face] != labels[negative]).all()
            faces += face.tolist()
            seen["mask"] |= set(mask.tolist())
            seen["positive"] |= set(zip(face.tolist(), positive.tolist(), strict=True))
            seen["negative"] |= set(zip(face.tolist(), negative.tolist(), strict=True))
            parts = triplets.at(step)
            assert torch.equal(parts[0], masked[mask, face]) and torch.equal(parts[2], clean[negative])
            assert torch.equal(parts[1], clean[positive])
        assert sorted(faces) == list(range(18))
        orders.add(tuple(faces))
    assert seen["mask"] == set(range(4)) and len(seen["positive"]) == 18 * 3
    assert len(orders) == 40
    assert len(seen["negative"]) > 0.85 * 18 * 15 and {n for _, n in seen["negative"]} == set(range(18))


def test_a_draw_depends_on_seed_epoch_and_face_but_not_on_the_batch():
    masked, clean, labels = people(2, identities=6, pictures=2)

    def drawn(seed, batch, epoch):
        triplets = Triplets(masked=masked, clean=clean, labels=labels, seed=seed, batch=batch)
        steps = 12 // batch
        rows = [torch.stack(triplets.draw(step), 1) for step in range(epoch * steps, (epoch + 1) * steps)]
        return sorted(torch.cat(rows).tolist(), key=lambda row: row[1])

    torch.rand(3)
    assert drawn(0, 4, 1) == drawn(0, 6, 1)
    assert drawn(0, 4, 1) != drawn(0, 4, 2) and drawn(0, 4, 1) != drawn(1, 4, 1)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"labels": torch.zeros(12, dtype=torch.int64)}, "two people or more"),
        ({"labels": torch.arange(12.0)}, r"labels must be int64 \[12\].*float32"),
        ({"labels": torch.arange(11)}, r"labels must be int64 \[12\]"),
        ({"batch": 13}, "from 2 to the number of faces, 12, not 13"),
        ({"batch": 1}, "from 2 to the number of faces"),
        ({"masked": torch.ones(2, 11, SIZE)}, r"\[2, 11, 16\] and \[12, 16\]"),
        ({"clean": torch.full((12, SIZE), float("nan"))}, "clean templates must be finite"),
        (
            {"masked": torch.ones(12, SIZE, dtype=torch.int64)},
            "masked templates must be finite.*torch.int64",
        ),
    ],
)
def test_triplets_refuse_what_does_not_fit(change, words):
    masked, clean, labels = people(2, identities=6, pictures=2)
    with pytest.raises(ValueError, match=words):
        Triplets(**({"masked": masked, "clean": clean, "labels": labels, "seed": 0, "batch": 4} | change))


# Training


def test_training_lowers_the_loss_and_maps_new_people_closer_to_their_clean_templates():
    head, log = train()
    assert not head.training and log[-1]["loss"] < 0.6 * log[0]["loss"]
    masked, clean, _ = people(77)
    before, after = distance(masked[0], clean), distance(apply_head(head, masked[0]), clean)
    assert after < 0.9 * before
    untrained = EUM(embedding_size=SIZE, seed=0)
    assert distance(apply_head(untrained, masked[0]), clean) > before


def test_the_log_is_what_training_curves_are_drawn_from():
    _, log = train(steps=50)
    assert [record["step"] for record in log] == [20, 40, 50]
    assert [record["faces"] for record in log] == [20 * 64, 40 * 64, 50 * 64]
    assert set(log[0]) == {*figures.NO_LOSS, "loss"} and all(record["steps"] == 50 for record in log)
    assert all(record["faces_per_second"] > 0 and math.isfinite(record["seconds"]) for record in log)
    progress = [(record["step"] - 0.5) / 50 for record in log]
    expected = [0.1 * 0.5 * (1 + math.cos(math.pi * (p - 0.15) / 0.85)) for p in progress]
    assert [record["learning_rate"] for record in log] == pytest.approx(expected)
    figures.plt.close(figures.training_curves({"srt": log}))


def test_warm_up_rises_from_zero():
    _, log = train(steps=20, warm_up=0.99)
    assert log[0]["learning_rate"] == pytest.approx(0.1 * (19.5 / 20) / 0.99)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    heads = []
    for seed in (0, 0, 1):
        torch.rand(2)
        head, log = train(seed=seed, steps=25)
        heads.append(([value.numpy().tobytes() for value in head.state_dict().values()], [r["loss"] for r in log]))
    assert heads[0] == heads[1] and heads[0][0] != heads[2][0]


def test_the_global_generator_is_neither_read_nor_moved():
    state = torch.get_rng_state()
    train(steps=2)
    assert torch.equal(torch.get_rng_state(), state)


def test_one_drawing_per_face_may_come_without_its_axis():
    masked, clean, labels = people(1, masks=1)
    bare, _ = train(steps=3, data=(masked[0], clean, labels))
    assert torch.equal(bare.layers[0].weight, train(steps=3, data=(masked, clean, labels))[0].layers[0].weight)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"budget": 63}, "budget must be a whole number from 64 up"),
        ({"learning_rate": "0.1"}, "learning_rate must be a number"),
        ({"momentum": 2}, "momentum must be a number from 0 to 1"),
        ({"weight_decay": -1}, "weight_decay must be a number"),
        ({"warm_up": 1.0}, "warm_up must be a number from 0 to 0.99"),
        ({"margin": -1}, "margin must be a number"),
        ({"seed": 0.5}, "seed must be a whole number"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(ValueError, match=words):
        train_eum(*people(1), **({"seed": 0, "budget": 64, "batch": 64} | settings))


def test_misspelt_settings_are_refused():
    with pytest.raises(TypeError, match="learning_rat"):
        train_eum(*people(1), seed=0, budget=64, batch=64, learning_rat=0.1)


def test_a_loss_that_is_not_finite_stops_it(monkeypatch):
    monkeypatch.setattr(frozen_heads, "srt_loss", lambda anchor, *rest: anchor.sum() * float("nan"))
    with pytest.raises(FloatingPointError, match=NOT_FINITE):
        train(steps=2)


# Applying


def test_applied_templates_are_unit_and_do_not_depend_on_their_neighbours():
    head, templates = EUM(embedding_size=SIZE, seed=0), people(3)[0][0]
    head(templates)
    before = copy.deepcopy(head.state_dict())
    unmasked = apply_head(head, templates)
    assert unmasked.dtype == torch.float32
    assert torch.allclose(unmasked.norm(dim=1), torch.ones(len(unmasked)), atol=1e-5)
    assert torch.allclose(apply_head(head, templates[5:6]), unmasked[5:6], atol=1e-5)
    assert head.training and not unmasked.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())
    assert apply_head(head, templates[:0]).shape == (0, SIZE)


@pytest.mark.filterwarnings("error")
def test_an_array_comes_back_as_an_array():
    head, templates = EUM(embedding_size=SIZE, seed=0), people(3)[0][0]
    array = templates.numpy().copy()
    array.flags.writeable = False
    unmasked = apply_head(head, array)
    assert isinstance(unmasked, np.ndarray) and unmasked.dtype == np.float32
    assert np.array_equal(unmasked, apply_head(head, templates).numpy())


@pytest.mark.parametrize("shape", [(4, SIZE + 1), (SIZE,), (1, 4, SIZE)])
def test_templates_of_another_shape_are_refused(shape):
    for use in (lambda x: apply_head(EUM(embedding_size=SIZE, seed=0), x), MaskClassifier(embedding_size=16).predicts):
        with pytest.raises(ValueError, match=r"takes templates \[N, 16\]"):
            use(torch.ones(shape))


def test_a_classifier_is_not_applied():
    with pytest.raises(ValueError, match=r"Only an EUM .* not MaskClassifier"):
        apply_head(MaskClassifier(embedding_size=4), torch.ones(2, 4))


# The mask classifier


def test_it_separates_new_people_with_and_without_masks():
    masked, clean, _ = people(1)
    head = fit_mask_classifier(masked, clean)
    masked, clean, _ = people(77)
    assert head.predicts(masked[1]).dtype == torch.bool
    assert head.predicts(masked[1]).float().mean() > 0.9 and head.predicts(clean).float().mean() < 0.1


def test_it_is_the_minimum_of_the_objective():
    masked, clean, _ = people(4, identities=40, masks=3)
    head = fit_mask_classifier(masked, clean, penalty=1e-3)
    weight, bias = (x.double().requires_grad_() for x in (head.weight, head.bias))
    losses = []
    for templates, sign in ((masked.flatten(0, 1), 1), (clean, -1)):  # each class weighs half, whatever its size
        losses.append(torch.log1p(torch.exp(-sign * (templates.double() @ weight + bias))).mean() / 2)
    (sum(losses) + 1e-3 / 2 * weight.square().sum()).backward()
    assert weight.grad.abs().max() < 1e-6 and abs(bias.grad) < 1e-6


def test_predictions_are_the_sign_of_weight_times_template_plus_bias():
    head = MaskClassifier(embedding_size=3)
    head.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
    head.bias.fill_(-0.1)
    templates = unit(vectors(50, 3, seed=5))
    expected = [x - 2 * y + 0.5 * z - 0.1 for x, y, z in templates.tolist()]
    assert head(templates).tolist() == pytest.approx(expected, abs=1e-6)
    predicted = head.predicts(templates.numpy())
    assert isinstance(predicted, np.ndarray) and predicted.dtype == bool
    assert predicted.tolist() == [value > 0 for value in expected] and 0 < predicted.sum() < 50


def test_fitting_repeats_and_its_penalty_is_checked():
    masked, clean, _ = people(4, identities=20)
    first, again = (fit_mask_classifier(masked, clean).weight for _ in range(2))
    assert torch.equal(first, again) and fit_mask_classifier(masked, clean, penalty=0.1).weight.norm() < first.norm()
    for penalty in (0, "1", None):
        with pytest.raises(ValueError, match="penalty must be a number"):
            fit_mask_classifier(masked, clean, penalty=penalty)


# Files


@pytest.fixture(params=["eum", "mask-classifier"])
def head(request):
    if request.param == "eum":
        return train(steps=2)[0]
    return fit_mask_classifier(*people(1)[:2])


def test_a_head_comes_back_with_its_facts(tmp_path, head):
    heads.save_head(tmp_path / "head.safetensors", head, {"stage": "srt", "seed": 3})
    loaded, metadata = heads.load_head(tmp_path / "head.safetensors")
    assert metadata == {"head": head.name, "embedding_size": SIZE, "stage": "srt", "seed": 3}
    assert type(loaded) is type(head) and not loaded.training
    pairs = zip(head.state_dict().items(), loaded.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
    assert torch.equal(loaded(people(1)[1]), head(people(1)[1]))


def test_saving_takes_no_name_of_its_own(tmp_path, head):
    with pytest.raises(ValueError, match="embedding_size is written by the head"):
        heads.save_head(tmp_path / "a", head, {"embedding_size": 4})
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_head_are_refused_by_name(tmp_path, head):
    path = tmp_path / "head.safetensors"
    with pytest.raises(FileNotFoundError, match=r"head\.safetensors"):
        heads.load_head(path)
    good = {"head": head.name, "embedding_size": SIZE}
    for metadata, words in (
        ({}, "does not say which head"),
        (good | {"head": "eun"}, "Did you mean 'eum'"),
        (good | {"embedding_size": "16"}, "embedding_size must be a whole number"),
        (good | {"embedding_size": 10**9}, "misshaped"),
        (good | {"head": "eum" if head.name != "eum" else "mask-classifier"}, "does not hold the"),
    ):
        write_tensors(path, head.state_dict(), metadata)
        with pytest.raises(ValueError, match=words) as caught:
            heads.load_head(path)
        assert "head.safetensors" in str(caught.value) and "Delete it" in str(caught.value)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"head\.safetensors is half-written or damaged"):
        heads.load_head(path)
