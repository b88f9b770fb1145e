"""Template KD: the paper's mean squared error, the same strength at every width, and weights by coverage."""

import math

import pytest
import torch

from maskinv_lib.training.objectives.template_kd import TemplateKD, coverage_weights
from tests.training.batches import batch, unit, vectors

torch.set_num_threads(1)


@pytest.mark.parametrize("lambda_", [100.0, 3000.0])
def test_at_512_it_is_lambda_times_the_mean_squared_error(lambda_):
    student, teacher = vectors(5, 512, seed=0) * 7, unit(vectors(5, 512, seed=1))
    lengths = [math.sqrt(sum(x * x for x in row)) for row in student.tolist()]
    squares = [
        (x / length - y) ** 2
        for row, other, length in zip(student.tolist(), teacher.tolist(), lengths, strict=True)
        for x, y in zip(row, other, strict=True)
    ]
    expected = lambda_ * sum(squares) / (5 * 512)
    assert TemplateKD(lambda_=lambda_)(batch(student, teacher))["template_kd"].item() == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("size", [2, 128, 512])
def test_at_any_width_it_is_two_lambda_over_512_times_one_minus_cos(size):
    student, teacher = vectors(6, size, seed=2), unit(vectors(6, size, seed=3))
    cosines = (unit(student) * teacher).sum(1)
    loss = TemplateKD(lambda_=3000.0)(batch(student, teacher))["template_kd"]
    assert loss.item() == pytest.approx(2 * 3000 / 512 * (1 - cosines).mean().item(), rel=1e-4)


def test_known_angles():
    teacher = torch.tensor([[1.0, 0.0]])
    for degrees, one_minus_cos in ((0, 0.0), (60, 0.5), (90, 1.0), (180, 2.0)):
        student = 3 * torch.tensor([[math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]])
        for lambda_, strength in ((100.0, 0.390625), (3000.0, 11.71875)):
            loss = TemplateKD(lambda_=lambda_)(batch(student, teacher))["template_kd"].item()
            assert loss == pytest.approx(strength * one_minus_cos, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_finite_at_the_ends_and_at_zero(dtype):
    teacher = torch.tensor([[1.0, 0.0]])
    for vector in ((1.0, 0.0), (-1.0, 0.0), (0.0, 0.0), (0.0, 1.0)):
        student = torch.tensor([vector], dtype=dtype, requires_grad=True)
        loss = TemplateKD()(batch(student, teacher))["template_kd"]
        loss.backward()
        assert loss.dtype == torch.float32 and loss.isfinite() and student.grad.isfinite().all()


def test_a_step_brings_the_student_nearer():
    student, teacher = vectors(4, 16, seed=4).requires_grad_(), unit(vectors(4, 16, seed=5))
    objective = TemplateKD(lambda_=512.0)
    before = objective(batch(student, teacher))["template_kd"]
    before.backward()
    assert objective(batch(student.detach() - 0.1 * student.grad, teacher))["template_kd"] < before


def covered(masked, coverage, seed=0, size=16):
    student, teacher = vectors(len(masked), size, seed=seed), unit(vectors(len(masked), size, seed=seed + 1))
    return batch(student, teacher, masked=masked, coverage=coverage if coverage is None else torch.tensor(coverage))


def squares_of(inputs):
    return (unit(inputs.embeddings["masked"]) - inputs.teacher).square().sum(1).tolist()


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_by_coverage_weighs_masked_faces_by_their_share_of_the_mean(strength):
    masked, coverage = [True, False, True, True, False], [0.1, 0.0, 0.3, 0.35, 0.0]
    inputs = covered(masked, coverage)
    mean = (0.1 + 0.3 + 0.35) / 3
    weights = [1 + strength * (c / mean - 1) if m else 1.0 for m, c in zip(masked, coverage, strict=True)]
    weights = [w * len(weights) / sum(weights) for w in weights]
    expected = 100 / 512 * sum(w * s for w, s in zip(weights, squares_of(inputs), strict=True)) / 5
    loss = TemplateKD(lambda_=100.0, by_coverage=strength)(inputs)["template_kd"].item()
    assert loss == pytest.approx(expected, rel=1e-5)
    assert loss != pytest.approx(TemplateKD(lambda_=100.0)(inputs)["template_kd"].item(), rel=1e-3)
    computed = coverage_weights(inputs, strength)
    assert computed.tolist() == pytest.approx(weights, rel=1e-5)
    assert computed.mean().item() == pytest.approx(1.0, abs=1e-6)


def test_without_by_coverage_the_loss_is_the_same_to_the_bit():
    inputs = covered([True, False, True], [0.2, 0.0, 0.4])
    student, teacher = (
        torch.nn.functional.normalize(x, dim=1, eps=1e-6) for x in (vectors(3, 16, seed=0), inputs.teacher)
    )
    expected = 3000.0 / 512 * (student - teacher).square().sum(1).mean()
    assert torch.equal(TemplateKD(by_coverage=0.0)(inputs)["template_kd"], expected)
    inputs.coverage = None
    assert torch.equal(TemplateKD()(inputs)["template_kd"], expected)


@pytest.mark.parametrize(
    "masked, coverage",
    [
        ([False, False], [0.0, 0.0]),
        ([True, True], [0.25, 0.25]),
        ([True, True], [0.0, 0.0]),
        ([True, False], [0.3, 0.0]),
        ([True], [0.4]),
    ],
)
def test_where_all_masks_are_alike_coverage_changes_nothing(masked, coverage):
    inputs = covered(masked, coverage)
    inputs.embeddings["masked"].requires_grad_()
    loss = TemplateKD(by_coverage=1.0)(inputs)["template_kd"]
    loss.backward()
    assert loss.item() == pytest.approx(TemplateKD()(inputs)["template_kd"].item(), rel=1e-5)
    assert inputs.embeddings["masked"].grad.isfinite().all()


def test_no_weight_is_negative():
    coverage = torch.rand(64, generator=torch.Generator().manual_seed(3)).square().tolist()
    weights = coverage_weights(covered([True] * 64, [0.0, *coverage[1:]]), 1.0)
    assert weights.min() == 0.0 and weights.max() > 1.5


def test_by_coverage_needs_coverage_and_the_masked_view():
    with pytest.raises(ValueError, match=r"by_coverage = 0\.5 .* batch\.coverage is None"):
        TemplateKD(by_coverage=0.5)(covered([True, False], None))
    with pytest.raises(ValueError, match=r"by_coverage = 0\.5 .* view is 'clean'"):
        TemplateKD(by_coverage=0.5, view="clean")
