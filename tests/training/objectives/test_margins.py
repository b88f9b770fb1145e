"""Margin heads: values at hand-computed angles, finite gradients at the ends, reproducible margins."""

import math

import pytest
import torch

from maskinv_lib.training.objectives.margins import (
    ORDERS,
    ArcFace,
    CosFace,
    ElasticFaceArc,
    ElasticFaceCos,
    Softmax,
    add_angle,
)
from maskinv_lib.utils import randomness
from tests.training.batches import batch, context, vectors

torch.set_num_threads(1)

HEADS = {
    "none": (Softmax, {}),
    "arc": (ArcFace, {}),
    "cos": (CosFace, {}),
    "elastic": (ElasticFaceArc, {"deviation": 0.0}),
    "elastic-cos": (ElasticFaceCos, {"deviation": 0.0}),
}
TABLE = {  # degrees -> loss without a margin, ArcFace 0.5, CosFace 0.35; two classes at right angles, s = 64
    30: (0.0, 0.2412, 0.3064),
    60: (23.4256, 53.9154, 45.8256),
    90: (64.0, 94.6832, 86.4),
}


def two_classes(name, **settings):
    kind, own = HEADS[name]
    head = kind(context(2, 2), **(own | settings))
    head.centres.data = torch.eye(2)
    return head


def loss_and_gradient(head, vector, dtype):
    embedding = torch.tensor([vector], dtype=dtype, requires_grad=True)
    loss = head(batch(embedding))["margin"]
    loss.backward()
    return loss.item(), embedding.grad


def at(degrees):
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-3), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("name, column", [("none", 0), ("arc", 1), ("cos", 2), ("elastic", 1), ("elastic-cos", 2)])
def test_values_at_known_angles(name, column, dtype, tolerance):
    head = two_classes(name)
    for degrees, row in TABLE.items():
        assert loss_and_gradient(head, at(degrees), dtype)[0] == pytest.approx(row[column], abs=tolerance)
    assert loss_and_gradient(head, at(0), dtype)[0] < 1e-6


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-3), (torch.bfloat16, 0.1)])
def test_values_beyond_pi_minus_the_margin(dtype, tolerance):
    losses = {name: [loss_and_gradient(two_classes(name), at(t), dtype)[0] for t in (175, 180)] for name in HEADS}
    assert losses["none"] == pytest.approx([69.3344, 64.0], abs=tolerance)
    for name in ("cos", "elastic-cos"):
        assert losses[name] == pytest.approx([91.7344, 86.4], abs=tolerance)
    for name in ("arc", "elastic"):
        assert losses[name][0] >= 69.33 and losses[name][1] >= 64.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", HEADS)
def test_loss_and_gradient_are_finite_everywhere_and_the_margin_never_lowers_the_loss(name, dtype):
    head, plain = two_classes(name), two_classes("none")
    for degrees in range(181):
        loss, gradient = loss_and_gradient(head, at(degrees), dtype)
        assert math.isfinite(loss) and gradient.isfinite().all(), degrees
        assert loss >= loss_and_gradient(plain, at(degrees), dtype)[0] - 1e-4, degrees
    for vector in ((0.0, 0.0), (1.0, 0.0), (-1.0, 0.0), (1e-30, 0.0), (1e18, 1e18)):
        loss, gradient = loss_and_gradient(head, vector, dtype)
        assert math.isfinite(loss) and gradient.isfinite().all(), vector
    assert head.centres.grad.isfinite().all()


def test_arcface_equals_plain_python_where_the_angle_stays_below_pi():
    embeddings, labels = vectors(6, 4, seed=3), torch.tensor([0, 1, 2, 0, 1, 2])
    head = ArcFace(context(4, 3, 1), margin=0.3, scale=8.0)

    def cosine(a, b):
        length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
        return sum(x * y for x, y in zip(a, b, strict=True)) / length

    total = 0.0
    for embedding, label in zip(embeddings.tolist(), labels.tolist(), strict=True):
        logits = [8 * cosine(embedding, centre) for centre in head.centres.tolist()]
        angle = math.acos(logits[label] / 8)
        assert angle + 0.3 < math.pi
        logits[label] = 8 * math.cos(angle + 0.3)
        total += math.log(sum(math.exp(x) for x in logits)) - logits[label]
    assert head(batch(embeddings, labels=labels))["margin"].item() == pytest.approx(total / 6, abs=1e-5)


@pytest.mark.parametrize("margin", [0.0, 0.1, 0.5, 1.5, 3.0])
def test_the_continuation_is_continuous_falling_and_below_the_cosine(margin):
    angles = torch.linspace(0, math.pi, 20_001, dtype=torch.float64)
    values = add_angle(angles.cos(), torch.tensor(margin, dtype=torch.float64))
    near = angles + margin <= math.pi
    assert torch.allclose(values[near], (angles[near] + margin).cos(), atol=2e-6)
    assert (values.diff() <= 1e-9).all() and values.diff().abs().max() < 1e-3
    assert (values <= angles.cos() + 2e-6).all()


def test_gradients_of_the_continuation_match_finite_differences():
    cosines = torch.tensor([0.999, 0.5, 0.0, -0.5, -0.87, -0.89, -0.999], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: add_angle(c, torch.tensor(0.5, dtype=torch.float64)), cosines)


def test_a_negative_draw_counts_as_no_margin():
    cosines = torch.linspace(-1, 1, 9)[:, None]
    assert torch.allclose(add_angle(cosines, torch.tensor(-0.4)), cosines, atol=1e-6)


def test_the_published_form_is_a_setting_and_rewards_being_opposite():
    head = two_classes("arc", guarded=False)
    losses = [loss_and_gradient(head, at(t), torch.float32)[0] for t in (60, 175, 180)]
    assert losses == pytest.approx([53.9154, 64.2037, 56.1653], abs=1e-3)


def test_elastic_margins_follow_the_keys_alone():
    head = ElasticFaceArc(context(2, 2))
    keys = randomness.key(11, torch.arange(20_000))
    many = head.margins(batch(torch.zeros(20_000, 2), keys=keys), torch.zeros(20_000, 1))
    assert many.shape == (20_000, 1) and many.dtype == torch.float32
    assert many.mean().item() == pytest.approx(0.5, abs=0.002) and many.std().item() == pytest.approx(0.05, rel=0.03)
    torch.rand(3)
    part = head.margins(batch(torch.zeros(5, 2), keys=keys[100:105]), torch.zeros(5, 1))
    assert torch.equal(part, many[100:105])


def test_elastic_loss_uses_each_samples_own_margin():
    head = two_classes("elastic", deviation=0.05)
    inputs = batch(torch.tensor([at(60)] * 3))
    margins = head.margins(inputs, torch.zeros(3, 1)).flatten().tolist()
    sine, angle = math.sin(math.radians(60)), math.radians(60)
    expected = [math.log1p(math.exp(64 * (sine - math.cos(angle + m)))) for m in margins]
    assert len(set(margins)) == 3
    assert head(inputs)["margin"].item() == pytest.approx(sum(expected) / 3, rel=1e-5)


def spread_cosines(count):
    return 2 * torch.rand(count, 1, generator=torch.Generator().manual_seed(4)) - 1


def ranks(values):
    order = sorted(range(len(values)), key=lambda i: values[i])
    ranking = [0] * len(values)
    for rank, i in enumerate(order):
        ranking[i] = rank
    return ranking


def spearman(a, b):
    count = len(a)
    gaps = sum((x - y) ** 2 for x, y in zip(ranks(a), ranks(b), strict=True))
    return 1 - 6 * gaps / (count * (count * count - 1))


@pytest.mark.parametrize("kind, mean", [(ElasticFaceArc, 0.5), (ElasticFaceCos, 0.35)])
def test_the_order_decides_which_sample_gets_which_margin(kind, mean):
    inputs, cosines = batch(torch.zeros(4000, 2)), spread_cosines(4000)
    heads = {order: kind(context(2, 2), order=order) for order in ORDERS}
    drawn = {order: head.margins(inputs, cosines).flatten().tolist() for order, head in heads.items()}
    normal = randomness.normal(randomness.key(inputs.keys, "elastic margin"), 1)
    assert drawn["drawn"] == (mean + 0.05 * normal).float().flatten().tolist()
    assert sorted(drawn["drawn"]) == sorted(drawn["sorted"]) == sorted(drawn["released"])
    correlation = {order: spearman(cosines.flatten().tolist(), margins) for order, margins in drawn.items()}
    assert correlation["sorted"] == pytest.approx(-1.0, abs=1e-6)
    assert abs(correlation["released"]) < 0.06 and abs(correlation["drawn"]) < 0.06  # deviation of chance: 0.016


def test_sorted_and_released_in_plain_python():
    inputs, cosines = batch(torch.zeros(7, 2)), torch.tensor([0.3, -0.2, 0.9, 0.3, 0.0, -0.8, 0.5])
    heads = {order: ElasticFaceArc(context(2, 2), order=order) for order in ORDERS}
    drawn = {order: head.margins(inputs, cosines[:, None]).flatten().tolist() for order, head in heads.items()}
    rising = sorted(drawn["drawn"])
    nearest_first = [2, 6, 0, 3, 4, 1, 5]
    assert drawn["released"] == [rising[sample] for sample in nearest_first]
    assert [drawn["sorted"][sample] for sample in nearest_first] == rising


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind, plain", [(ElasticFaceArc, ArcFace), (ElasticFaceCos, CosFace)])
def test_without_deviation_elasticface_is_its_plain_head(kind, plain, order):
    embeddings, labels = vectors(6, 8, seed=5), torch.arange(6) % 3
    losses = []
    for make, own in ((kind, {"order": order, "deviation": 0.0}), (plain, {})):
        head = make(context(8, 3, 2), **own)
        inputs = embeddings.clone().requires_grad_()
        loss = head(batch(inputs, labels=labels))["margin"]
        loss.backward()
        losses.append((loss.item(), inputs.grad))
    assert losses[0][0] == losses[1][0] and torch.equal(losses[0][1], losses[1][1])


@pytest.mark.parametrize("order", ORDERS)
def test_elastic_cos_subtracts_each_samples_own_margin(order):
    head = two_classes("elastic-cos", deviation=0.05, order=order)
    degrees = (20, 45, 60, 75)
    inputs = batch(torch.tensor([at(t) for t in degrees]))
    margins = head.margins(inputs, torch.tensor([[at(t)[0]] for t in degrees])).flatten().tolist()
    logits = [(64 * (at(t)[0] - m), 64 * at(t)[1]) for t, m in zip(degrees, margins, strict=True)]
    expected = [max(pair) + math.log(sum(math.exp(x - max(pair)) for x in pair)) - pair[0] for pair in logits]
    assert head(inputs)["margin"].item() == pytest.approx(sum(expected) / 4, rel=1e-5)


def test_a_negative_draw_of_elastic_cos_counts_as_no_margin():
    head = two_classes("elastic-cos", margin=0.0, deviation=0.2)
    inputs, cosines = batch(torch.zeros(50, 2)), spread_cosines(50)
    margins = head.margins(inputs, cosines)
    assert (margins < 0).any() and (margins > 0).any()
    assert torch.equal(cosines - head.with_margin(cosines, inputs) > 0, margins > 0)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", [ElasticFaceArc, ElasticFaceCos])
def test_elastic_heads_train_and_give_no_gradient_to_the_order(kind, order):
    head = kind(context(8, 4), scale=8.0, order=order)
    inputs = batch(vectors(16, 8, seed=6), labels=torch.arange(16) % 4)
    optimizer, losses = torch.optim.SGD(head.parameters(), lr=0.02), []
    for _ in range(5):
        optimizer.zero_grad()
        loss = head(inputs)["margin"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    cosines = spread_cosines(16).requires_grad_()
    assert not head.margins(inputs, cosines).requires_grad


@pytest.mark.parametrize("name", HEADS)
def test_centres_have_the_published_deviation_and_all_move(name):
    kind, own = HEADS[name]
    head = kind(context(64, 50), **own)
    assert head.centres.std().item() == pytest.approx(0.01, rel=0.05)
    before = head.centres.detach().clone()
    head(batch(vectors(8, 64), labels=torch.arange(8)))["margin"].backward()
    torch.optim.SGD(head.parameters(), lr=0.1).step()
    assert (head.centres != before).any(dim=1).all()
