"""MEER: five losses re-derived, gradients that reach the right tensors, a small decoder with keyed weights."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from maskinv_lib.training.objectives.margins import ElasticFaceArc
from maskinv_lib.training.objectives.meer import MEER, Decoder, decoupling, enlarged
from tests.training.batches import MAP_SHAPE, SIZE, batch, context, vectors

torch.set_num_threads(1)

NAMES = ["margin", "mask", "decoupling", "restoration", "identity"]


class Student(torch.nn.Module):
    """Faces [B, 3, 112, 112] in [-1, 1] to embeddings [B, 8] and maps [B, 6, 2, 2]."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.weight = torch.nn.Parameter(0.3 * torch.randn(3 * 49, SIZE, generator=generator))
        self.spread = torch.nn.Parameter(torch.randn(3 * 49, 24, generator=generator))

    def pooled(self, faces):
        return F.avg_pool2d(faces.float(), 16).flatten(1)

    def forward(self, faces):
        return self.pooled(faces) @ self.weight

    def maps(self, faces):
        return (self.pooled(faces) @ self.spread).view(-1, *MAP_SHAPE)


def example(count=5, *, student=None):
    masked = torch.arange(count) % 2 == 0
    coarse = torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(2))
    clean = (255 * F.interpolate(coarse, size=(112, 112), mode="bilinear")).to(torch.uint8)
    drawn = clean.clone()
    drawn[masked, :, 60:] = 200
    student, pixels = student or Student(), drawn / 127.5 - 1
    return batch(
        student(pixels),
        F.normalize(vectors(count, SIZE, seed=3)),
        torch.arange(count) % 3,
        masked=masked,
        coverage=masked * 0.3,
        images={"clean": clean, "masked": drawn},
        maps={"masked": student.maps(pixels)},
        embed=student,
    )


def meer(seed=1, **settings):
    return MEER(context(seed=seed), **settings)


def plain(tensor):
    return tensor.detach().double().numpy()


def standard(x):
    return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)


def branch(head, inputs):
    """Mask embedding and outputs of the mask branch in plain numpy."""
    x = plain(inputs.maps["masked"]).reshape(len(inputs.labels), -1) @ plain(head.mask_branch.embed.weight).T
    return standard(x), standard(x) @ plain(head.mask_branch.read.weight).T + plain(head.mask_branch.read.bias)


def test_margin_and_mask_losses_are_re_derived():
    inputs, head = example(), meer(scale=16.0)
    losses = head(inputs)
    alone = ElasticFaceArc(context(seed=1), scale=16.0)
    assert list(losses) == NAMES and torch.equal(losses["margin"], alone(inputs)["margin"])
    total = 0.0
    for (worn, share), wears, coverage in zip(branch(head, inputs)[1], inputs.masked, inputs.coverage, strict=True):
        total += math.log(1 + math.exp(-worn if wears else worn))
        total += (1 / (1 + math.exp(-share)) - float(coverage)) ** 2
    assert losses["mask"].item() == pytest.approx(0.1 * total / 5, rel=1e-4)


def test_decoupling_is_the_mean_over_mask_features_of_squared_correlations():
    inputs, head = example(), meer()
    identity = plain(inputs.embeddings["masked"]) @ plain(head.projection)
    mask, total = branch(head, inputs)[0], 0.0
    for i in range(32):
        for j in range(32):
            total += np.corrcoef(identity[:, i], mask[:, j])[0, 1] ** 2
    assert head(inputs)["decoupling"].item() == pytest.approx(0.1 * total / 32, rel=2e-3)


def test_decoupling_at_its_ends():
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert decoupling(signs[:, :1], signs[:, 1:]).item() == pytest.approx(0.0, abs=1e-6)
    assert decoupling(signs[:, :1], -5 * signs[:, :1]).item() == pytest.approx(1.0, abs=1e-3)
    assert decoupling(signs, signs + 3).item() == pytest.approx(1.0, abs=1e-3)
    assert decoupling(signs[:1], signs[:1]).item() == 0.0
    identity, mask = vectors(512, 4), vectors(512, 3, seed=1)
    assert decoupling(identity, mask) < 0.05 < decoupling(identity + mask[:, :1], mask)


def test_restoration_and_identity_are_re_derived():
    inputs, head = example(), meer(restoration=0.5, identity=2.0)
    losses = head(inputs)
    restored = head.decoder(inputs.embeddings["masked"])
    clean = plain(inputs.images["clean"])
    total = 0.0
    for row in range(56):
        block = clean[:, :, 2 * row : 2 * row + 2].reshape(5, 3, 2, 56, 2).mean((2, 4)) / 127.5 - 1
        total += np.abs(plain(restored[:, :, row]) - block).mean()
    assert losses["restoration"].item() == pytest.approx(0.5 * total / 56, rel=1e-4)
    larger = F.interpolate(restored, scale_factor=2, mode="bilinear")
    cosines = [
        e @ t / np.linalg.norm(e) / np.linalg.norm(t)
        for e, t in zip(plain(inputs.embed(larger)), plain(inputs.teacher), strict=True)
    ]
    assert losses["identity"].item() == pytest.approx(2 * (1 - sum(cosines) / 5), rel=1e-4)


def test_all_restored_faces_pass_once_through_the_student_in_range():
    inputs, head, seen = example(), meer(), []
    inputs.embed = lambda faces: seen.append(faces) or faces.flatten(1)[:, :SIZE]
    head(inputs)
    (faces,) = seen
    assert faces.shape == (5, 3, 112, 112) and faces.dtype == torch.float32
    assert -1 <= faces.min() < 0 < faces.max() <= 1
    assert torch.equal(faces, enlarged(head.decoder(inputs.embeddings["masked"])))


def test_a_template_of_the_restored_face_like_the_teachers_costs_nothing():
    inputs = example()
    inputs.embed = lambda faces: 4 * inputs.teacher
    assert meer()(inputs)["identity"].item() == pytest.approx(0.0, abs=1e-6)
    inputs.embed = lambda faces: -inputs.teacher
    assert meer()(inputs)["identity"].item() == pytest.approx(2.0, rel=1e-6)


def test_gradients_reach_what_each_loss_is_about_and_never_the_teacher():
    student, head = Student(), meer()
    inputs = example(student=student)
    inputs.teacher.requires_grad_()
    parts = {
        "student": [student.weight],
        "maps": [student.spread],
        "decoder": list(head.decoder.parameters()),
        "branch": [head.mask_branch.embed.weight],
    }
    reached = {
        "margin": {"student"},
        "mask": {"maps", "branch"},
        "decoupling": {"student", "maps", "branch"},
        "restoration": {"student", "decoder"},
        "identity": {"student", "decoder"},
    }
    losses = head(inputs)
    for name, loss in losses.items():
        for part, tensors in parts.items():
            gradients = torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
            reaches = all(g is not None and g.abs().sum() > 0 for g in gradients)
            assert reaches == (part in reached[name]), (name, part)
    sum(losses.values()).backward()
    assert inputs.teacher.grad is None and not head.projection.requires_grad


def test_the_decoder_is_small_bounded_and_restores_each_face_by_itself():
    decoder = Decoder(embedding_size=512, seed=0)
    assert sum(p.numel() for p in decoder.parameters()) < 500_000
    embeddings = vectors(8, 512)
    pictures = decoder(embeddings)
    assert pictures.shape == (8, 3, 56, 56) and pictures.abs().max() <= 1
    assert torch.allclose(decoder(50 * embeddings), pictures, atol=1e-2)  # long embeddings do not saturate it
    assert torch.allclose(decoder(embeddings[1:2]), pictures[1:2], atol=1e-5)
    assert 0.02 < pictures.std() < 0.9  # neither dead nor saturated at the start


@pytest.mark.parametrize(
    "settings, shares",
    [
        ({"decoupling": 1.0}, {"margin": 0.3, "mask": 0.3, "decoupling": 0.3, "identity": 0.5}),
        ({"restoration": 5.0, "identity": 0.0}, {"margin": 0.3, "mask": 0.3, "restoration": 0.7}),
    ],
)
def test_each_weight_trains_its_loss(settings, shares):
    student, head = Student(), meer(scale=8.0, **settings)
    parameters = [*student.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
    history = []
    for _ in range(30):
        losses = head(example(12, student=student))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    for name, share in shares.items():
        assert history[-1][name] < share * history[0][name], (name, history[0], history[-1])


def test_a_step_against_the_coupling_lowers_it():
    mask = vectors(16, 4)
    identity = (vectors(16, 4, seed=1) + mask).requires_grad_()
    before = decoupling(identity, mask)
    before.backward()
    assert decoupling(identity - 20 * identity.grad, mask) < 0.8 * before


@pytest.mark.parametrize("name, key", [("mask", "mask_weight"), *zip(NAMES[2:], NAMES[2:], strict=True)])
def test_a_weight_of_zero_switches_a_loss_off_and_others_stay(name, key):
    usual, without = meer()(example()), meer(**{key: 0.0})(example())
    assert without[name] == 0 < usual[name]
    assert all(torch.equal(without[other], usual[other]) for other in NAMES if other != name)


def test_what_the_batch_lacks_is_named():
    inputs = example()
    inputs.teacher = inputs.embed = inputs.coverage = None
    inputs.images.pop("clean")
    words = r"batch\.images\['clean'\], batch\.coverage, batch\.teacher, batch\.embed"
    with pytest.raises(ValueError, match=words):
        meer()(inputs)
    inputs = example()
    inputs.maps = {}
    with pytest.raises(ValueError, match=r"batch\.maps lacks masked"):
        meer()(inputs)


def test_nine_tensors_are_drawn_and_the_weights_are_set_by_name():
    one, other = meer().state_dict(), meer(seed=2).state_dict()
    assert sum(not torch.equal(one[name], other[name]) for name in one) == 9  # centres, projection, branch 2, decoder 5
    assert one["projection"].shape == (SIZE, 32)
    weights = meer(decoupling=0.3, identity=2).weights
    assert weights == {"mask_weight": 0.1, "decoupling": 0.3, "restoration": 1.0, "identity": 2.0}
