"""Template KD: the paper's mean squared error, the same strength at every width, safe and clear at the edges."""

import math

import pytest
import torch

from maskinv_lib.training.objectives import Batch, build_objective
from maskinv_lib.training.objectives.template_kd import TemplateKD, coverage_weights

torch.set_num_threads(1)


def batch(student, teacher, view="masked"):
    count = len(student)
    labels = torch.zeros(count, dtype=torch.int64)
    empty = {"labels": labels, "masked": labels.bool(), "keys": labels, "progress": 0.0}
    return Batch(**empty, embeddings={view: student}, teacher=teacher)


def vectors(count, size, seed):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def unit(x):
    return x / x.square().sum(1, keepdim=True).sqrt()


@pytest.mark.parametrize("lambda_", [100.0, 3000.0])
def test_at_512_it_is_lambda_times_the_mean_squared_error(lambda_):
    student, teacher = vectors(5, 512, 0) * 7, unit(vectors(5, 512, 1))
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
    student, teacher = vectors(6, size, 2), unit(vectors(6, size, 3))
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


def test_a_step_brings_the_student_nearer_and_leaves_the_teacher():
    student, teacher = vectors(4, 16, 4).requires_grad_(), unit(vectors(4, 16, 5)).requires_grad_()
    objective = TemplateKD(lambda_=512.0)
    before = objective(batch(student, teacher))["template_kd"]
    before.backward()
    assert teacher.grad is None
    assert objective(batch(student.detach() - 0.1 * student.grad, teacher))["template_kd"] < before


def test_autocast_does_not_reach_it():
    student, teacher = vectors(4, 64, 6), unit(vectors(4, 64, 7))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = TemplateKD()(batch(student, teacher))["template_kd"]
    assert torch.equal(under, TemplateKD()(batch(student, teacher))["template_kd"])


def test_a_missing_teacher_and_another_width_are_refused():
    with pytest.raises(ValueError, match="teacher"):
        TemplateKD()(batch(vectors(2, 8, 0), None))
    with pytest.raises(ValueError, match=r"student \[2, 8\], teacher \[2, 16\].*embedding_size=16"):
        TemplateKD()(batch(vectors(2, 8, 0), vectors(2, 16, 0)))


def test_it_is_built_by_name_with_the_papers_words():
    objective = build_objective("template_kd.TemplateKD", {"lambda": 100}, embedding_size=4, classes=2, seed=0)
    assert objective.lambda_ == 100.0 and objective.needs_teacher and objective.views == ("masked",)
    clean = build_objective("template_kd.TemplateKD", {"view": "clean"}, embedding_size=4, classes=2, seed=0)
    assert clean.views == ("clean",) and clean.lambda_ == 3000.0
    assert list(objective.state_dict()) == []
    objective.check_labels(torch.tensor([5, 900]))


@pytest.mark.parametrize("value", [-1, float("inf"), "3000", True, None])
def test_lambda_must_be_a_number(value):
    with pytest.raises(ValueError, match="lambda must be a number from 0 up"):
        build_objective("template_kd.TemplateKD", {"lambda": value}, embedding_size=4, classes=2, seed=0)


def test_a_misspelt_setting_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'lambda'"):
        build_objective("template_kd.TemplateKD", {"lamda": 1}, embedding_size=4, classes=2, seed=0)


def covered(masked, coverage, seed=0, size=16):
    count = len(masked)
    inputs = batch(vectors(count, size, seed), unit(vectors(count, size, seed + 1)))
    inputs.masked = torch.tensor(masked)
    inputs.coverage = None if coverage is None else torch.tensor(coverage)
    return inputs


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
    found = coverage_weights(inputs, strength)
    assert found.tolist() == pytest.approx(weights, rel=1e-5) and found.mean().item() == pytest.approx(1.0, abs=1e-6)


def test_without_by_coverage_the_loss_is_the_same_to_the_bit():
    inputs = covered([True, False, True], [0.2, 0.0, 0.4])
    student, teacher = (torch.nn.functional.normalize(x, dim=1, eps=1e-6) for x in (vectors(3, 16, 0), inputs.teacher))
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
    for value in (-0.1, 1.5, "1", True):
        with pytest.raises(ValueError, match="by_coverage must be a number from 0 to 1"):
            TemplateKD(by_coverage=value)
    with pytest.raises(ValueError, match="Did you mean 'by_coverage'"):
        build_objective("template_kd.TemplateKD", {"coverage": 1.0}, embedding_size=4, classes=2, seed=0)
