"""MEER: five losses re-derived, gradients that go where they should, a small keyed decoder, safety at the edges."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from maskinv_lib.training.objectives import Batch, build_objective
from maskinv_lib.training.objectives.margins import ElasticFaceArc
from maskinv_lib.training.objectives.meer import MEER, Decoder, decoupling, enlarged
from maskinv_lib.utils import randomness

torch.set_num_threads(1)

SHAPE = (6, 2, 2)
SIZE = 8
NAMES = ["margin", "mask", "decoupling", "restoration", "identity"]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


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
        return (self.pooled(faces) @ self.spread).view(-1, *SHAPE)


def batch(count=5, *, masked=None, dtype=torch.float32, student=None):
    masked = torch.arange(count) % 2 == 0 if masked is None else torch.tensor(masked)
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(count, 3, 2, 2, generator=generator)
    clean = (255 * F.interpolate(coarse, size=(112, 112), mode="bilinear")).to(torch.uint8)
    drawn = clean.clone()
    drawn[masked, :, 60:] = 200
    student, pixels = student or Student(), drawn / 127.5 - 1
    return Batch(
        labels=torch.arange(count) % 3,
        masked=masked,
        keys=randomness.key(7, torch.arange(count)),
        progress=0.0,
        embeddings={"masked": student(pixels).to(dtype)},
        teacher=F.normalize(normal(count, SIZE, seed=3)),
        coverage=masked * 0.3,
        images={"clean": clean, "masked": drawn},
        maps={"masked": student.maps(pixels).to(dtype)},
        embed=student,
    )


def meer(**settings):
    return MEER(embedding_size=SIZE, classes=3, seed=1, map_shape=SHAPE, **settings)


def plain(tensor):
    return tensor.detach().double().numpy()


def standard(x):
    return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)


def branch(head, inputs):
    """Mask embedding and outputs of the mask branch in plain numpy."""
    x = plain(inputs.maps["masked"]).reshape(len(inputs.labels), -1) @ plain(head.mask_branch.embed.weight).T
    return standard(x), standard(x) @ plain(head.mask_branch.read.weight).T + plain(head.mask_branch.read.bias)


def test_margin_and_mask_losses_are_re_derived():
    inputs, head = batch(), meer(scale=16.0)
    losses = head(inputs)
    alone = ElasticFaceArc(embedding_size=SIZE, classes=3, seed=1, scale=16.0)
    assert list(losses) == NAMES and torch.equal(losses["margin"], alone(inputs)["margin"])
    total = 0.0
    for (worn, share), wears, coverage in zip(branch(head, inputs)[1], inputs.masked, inputs.coverage, strict=True):
        total += math.log(1 + math.exp(-worn if wears else worn))
        total += (1 / (1 + math.exp(-share)) - float(coverage)) ** 2
    assert losses["mask"].item() == pytest.approx(0.1 * total / 5, rel=1e-4)


def test_decoupling_is_the_mean_over_mask_features_of_squared_correlations():
    inputs, head = batch(), meer()
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
    identity, mask = normal(512, 4), normal(512, 3, seed=1)
    assert decoupling(identity, mask) < 0.05 < decoupling(identity + mask[:, :1], mask)


def test_restoration_and_identity_are_re_derived():
    inputs, head = batch(), meer(restoration=0.5, identity=2.0)
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
    inputs, head, seen = batch(), meer(), []
    inputs.embed = lambda faces: seen.append(faces) or faces.flatten(1)[:, :SIZE]
    head(inputs)
    (faces,) = seen
    assert faces.shape == (5, 3, 112, 112) and faces.dtype == torch.float32
    assert -1 <= faces.min() < 0 < faces.max() <= 1
    assert torch.equal(faces, enlarged(head.decoder(inputs.embeddings["masked"])))


def test_a_template_of_the_restored_face_like_the_teachers_costs_nothing():
    inputs = batch()
    inputs.embed = lambda faces: 4 * inputs.teacher
    assert meer()(inputs)["identity"].item() == pytest.approx(0.0, abs=1e-6)
    inputs.embed = lambda faces: -inputs.teacher
    assert meer()(inputs)["identity"].item() == pytest.approx(2.0, rel=1e-6)


def test_gradients_reach_what_each_loss_is_about_and_never_the_teacher():
    student, head = Student(), meer()
    inputs = batch(student=student)
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
            found = torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
            got = all(g is not None and g.abs().sum() > 0 for g in found)
            assert got == (part in reached[name]), (name, part)
    sum(losses.values()).backward()
    assert inputs.teacher.grad is None and not head.projection.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masked", [[True], [False], [True, True, True], [False, False]])
def test_edges_are_finite(dtype, masked):
    inputs, count = batch(len(masked), masked=masked, dtype=dtype), len(masked)
    inputs.labels = torch.zeros(count, dtype=torch.int64)
    inputs.embeddings = {"masked": torch.zeros(count, SIZE, dtype=dtype, requires_grad=True)}
    inputs.maps = {"masked": torch.zeros(count, *SHAPE, dtype=dtype, requires_grad=True)}
    inputs.embed = lambda faces: 0 * faces.flatten(1)[:, :SIZE]
    head = MEER(embedding_size=SIZE, classes=1, seed=1, map_shape=SHAPE)
    losses = head(inputs)
    sum(losses.values()).backward()
    assert all(loss.dtype == torch.float32 and loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    for tensor in (inputs.embeddings["masked"], inputs.maps["masked"], *head.parameters()):
        assert tensor.grad.isfinite().all()


def test_autocast_does_not_reach_it():
    inputs, head = batch(), meer()
    inputs.embed = lambda faces: faces.flatten(1)[:, :SIZE]  # the student itself keeps its own precision
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = head(inputs)
    assert all(torch.equal(under[name], loss) for name, loss in head(inputs).items())


def test_the_decoder_is_small_bounded_and_restores_each_face_by_itself():
    decoder = Decoder(embedding_size=512, seed=0)
    assert sum(p.numel() for p in decoder.parameters()) < 500_000
    embeddings = normal(8, 512)
    pictures = decoder(embeddings)
    assert pictures.shape == (8, 3, 56, 56) and pictures.abs().max() <= 1
    assert torch.allclose(decoder(50 * embeddings), pictures, atol=1e-2)  # long embeddings do not saturate it
    assert torch.allclose(decoder(embeddings[1:2]), pictures[1:2], atol=1e-5)
    assert 0.02 < pictures.std() < 0.9  # neither dead nor saturated at the start


def test_weights_follow_the_seed_alone_and_survive_a_round_trip():
    state = torch.get_rng_state()
    heads = [MEER(embedding_size=SIZE, classes=3, seed=seed, map_shape=SHAPE) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    one, same, other = (head.state_dict() for head in heads)
    assert all(torch.equal(one[name], same[name]) for name in one)
    drawn = {name for name in one if not name.endswith("bias") and one[name].unique().numel() > 1}
    assert drawn == {name for name in one if not torch.equal(one[name], other[name])}
    assert len(drawn) == 9  # centres, projection, mask branch 2, decoder 5
    assert "projection" in one and one["projection"].shape == (SIZE, 32)
    heads[2].load_state_dict(one)
    inputs = batch()
    assert heads[2](inputs) == heads[0](inputs)


@pytest.mark.parametrize(
    "settings, shares",
    [
        ({"decoupling": 1.0}, {"margin": 0.3, "mask": 0.3, "decoupling": 0.3, "identity": 0.5}),
        ({"restoration": 5.0, "identity": 0.0}, {"margin": 0.3, "mask": 0.3, "restoration": 0.7}),
    ],
)
def test_it_learns_what_it_asks_for(settings, shares):
    student, head = Student(), meer(scale=8.0, **settings)
    parameters = [*student.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
    history = []
    for _ in range(30):
        losses = head(batch(12, student=student))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    for name, share in shares.items():
        assert history[-1][name] < share * history[0][name], (name, history[0], history[-1])


def test_a_step_against_the_coupling_lowers_it():
    mask = normal(16, 4)
    identity = (normal(16, 4, seed=1) + mask).requires_grad_()
    before = decoupling(identity, mask)
    before.backward()
    assert decoupling(identity - 20 * identity.grad, mask) < 0.8 * before


def test_it_is_built_by_name_with_its_needs():
    settings = {"margin": 0.4, "deviation": 0.0, "decoupling": 0.3, "identity": 2}
    head = build_objective("meer.MEER", settings, embedding_size=SIZE, classes=3, seed=0, map_shape=SHAPE)
    assert isinstance(head, ElasticFaceArc) and (head.margin, head.deviation, head.scale) == (0.4, 0.0, 64.0)
    assert head.weights == {"mask_weight": 0.1, "decoupling": 0.3, "restoration": 1.0, "identity": 2.0}
    assert head.views == ("masked", "restored") and head.needs_maps and head.needs_teacher


@pytest.mark.parametrize("name, key", [("mask", "mask_weight"), *zip(NAMES[2:], NAMES[2:], strict=True)])
def test_a_weight_of_nought_switches_a_loss_off_and_others_stay(name, key):
    usual, without = meer()(batch()), meer(**{key: 0.0})(batch())
    assert without[name] == 0 < usual[name]
    assert all(torch.equal(without[other], usual[other]) for other in NAMES if other != name)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"restoraton": 1.0}, "Did you mean 'restoration'"),
        ({"view": "clean"}, "Known: margin, deviation, scale, mask_weight, decoupling, restoration, identity"),
        ({"identity": -1}, "identity must be a number from 0 up"),
        ({"decoupling": True}, "decoupling must be a number"),
        ({"mask_weight": float("nan")}, "mask_weight must be a number"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(ValueError) as caught:
        build_objective("meer.MEER", settings, embedding_size=SIZE, classes=3, seed=0, map_shape=SHAPE)
    assert words in str(caught.value)


def test_what_the_batch_lacks_is_named():
    inputs = batch()
    inputs.teacher = inputs.embed = inputs.coverage = None
    inputs.images.pop("clean")
    words = r"batch\.images\['clean'\], batch\.coverage, batch\.teacher, batch\.embed"
    with pytest.raises(ValueError, match=words):
        meer()(inputs)
    inputs = batch()
    inputs.teacher = normal(5, 16)
    with pytest.raises(ValueError, match=r"student \[5, 8\], teacher \[5, 16\].*embedding_size=16"):
        meer()(inputs)
    inputs = batch()
    inputs.maps = {}
    with pytest.raises(ValueError, match=r"batch\.maps lacks masked"):
        meer()(inputs)
