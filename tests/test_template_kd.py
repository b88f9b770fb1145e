"""Template KD: the paper's mean squared error, the same strength at every width, safe and clear at the edges."""

import math

import pytest
import torch

from maskinv_lib.objectives import Batch, build_objective
from maskinv_lib.objectives.template_kd import TemplateKD

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
