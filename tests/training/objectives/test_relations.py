"""Relations across mask conditions: cosines to the others' clean templates, in plain code and at the edges."""

import math

import pytest
import torch

from maskinv_lib.training.objectives import Batch, build_objective
from maskinv_lib.training.objectives.relations import MaskRelations

torch.set_num_threads(1)


def batch(student, teacher, view="masked"):
    labels = torch.zeros(len(student), dtype=torch.int64)
    empty = {"labels": labels, "masked": labels.bool(), "keys": labels, "progress": 0.0}
    return Batch(**empty, embeddings={view: student}, teacher=teacher)


def vectors(count, size, seed):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def unit(x):
    return x / x.square().sum(1, keepdim=True).sqrt()


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


@pytest.mark.parametrize("weight", [30.0, 2.5])
def test_it_is_the_mean_squared_gap_of_cosines_to_other_faces(weight):
    student, teacher = 5 * vectors(6, 8, 0), unit(vectors(6, 8, 1))
    s, t = student.tolist(), teacher.tolist()
    gaps = [(cosine(s[i], t[j]) - cosine(t[i], t[j])) ** 2 for i in range(6) for j in range(6) if i != j]
    loss = MaskRelations(weight=weight)(batch(student, teacher))["relations"]
    assert loss.item() == pytest.approx(weight * sum(gaps) / 30, rel=1e-4)


def test_a_students_own_teacher_template_does_not_count():
    teacher = torch.eye(4)[:3]
    student = torch.zeros(3, 4)
    student[:, 3] = 1.0  # at right angles to all others, as the teacher's are to one another
    assert MaskRelations()(batch(student, teacher))["relations"].item() == 0.0
    assert MaskRelations()(batch(teacher.flip(0), teacher))["relations"].item() == pytest.approx(30 * 2 / 6)


def test_the_teachers_templates_themselves_have_loss_nought():
    teacher = unit(vectors(5, 16, 2))
    assert MaskRelations()(batch(3 * teacher, teacher))["relations"].item() < 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_loss_and_gradient_are_finite_at_the_edges(count, dtype):
    teacher = unit(vectors(count, 8, 3))
    for student in (torch.zeros(count, 8), torch.ones(count, 8), teacher, -teacher):
        student = student.to(dtype, copy=True).requires_grad_()
        loss = MaskRelations()(batch(student, teacher))["relations"]
        loss.backward()
        assert loss.dtype == torch.float32 and loss.shape == () and loss.isfinite() and student.grad.isfinite().all()
        assert count > 1 or loss.item() == 0.0


def test_steps_lower_the_loss_and_leave_the_teacher():
    student, teacher = vectors(8, 16, 4).requires_grad_(), unit(vectors(8, 16, 5)).requires_grad_()
    optimizer, losses = torch.optim.SGD([student], lr=3.0), []
    for _ in range(30):
        optimizer.zero_grad()
        loss = MaskRelations()(batch(student, teacher))["relations"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert teacher.grad is None and losses[-1] < 0.2 * losses[0]


def test_autocast_does_not_reach_it():
    inputs = batch(vectors(4, 64, 6), unit(vectors(4, 64, 7)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = MaskRelations()(inputs)["relations"]
    assert torch.equal(under, MaskRelations()(inputs)["relations"])


def test_it_is_built_by_name_and_refuses_what_it_cannot_use():
    build = {"embedding_size": 8, "classes": 2, "seed": 0}
    objective = build_objective("relations.MaskRelations", {"weight": 3}, **build)
    assert (objective.weight, objective.views, objective.needs_teacher) == (3.0, ("masked",), True)
    assert list(objective.state_dict()) == [] and MaskRelations().weight == 30.0
    assert MaskRelations(view="clean")(batch(vectors(2, 8, 0), vectors(2, 8, 1), "clean"))["relations"].isfinite()
    with pytest.raises(ValueError, match="MaskRelations needs teacher templates"):
        objective(batch(vectors(2, 8, 0), None))
    with pytest.raises(ValueError, match=r"student \[2, 8\], teacher \[2, 16\].*embedding_size=16"):
        objective(batch(vectors(2, 8, 0), vectors(2, 16, 0)))
    with pytest.raises(ValueError, match="Did you mean 'weight'"):
        build_objective("relations.MaskRelations", {"wieght": 1}, **build)
    for value in (-1, float("nan"), "30", True):
        with pytest.raises(ValueError, match="weight must be a number from 0 up"):
            MaskRelations(weight=value)
