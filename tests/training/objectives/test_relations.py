"""Relations across mask conditions: cosines to the clean templates of other faces, in plain code."""

import math

import pytest
import torch

from maskinv_lib.training.objectives.relations import MaskRelations
from tests.training.batches import batch, unit, vectors

torch.set_num_threads(1)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


@pytest.mark.parametrize("weight", [30.0, 2.5])
def test_it_is_the_mean_squared_gap_of_cosines_to_other_faces(weight):
    student, teacher = 5 * vectors(6, 8, seed=0), unit(vectors(6, 8, seed=1))
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


def test_the_teachers_templates_themselves_have_loss_zero():
    teacher = unit(vectors(5, 16, seed=2))
    assert MaskRelations()(batch(3 * teacher, teacher))["relations"].item() < 1e-10


def test_a_batch_of_one_has_no_relations():
    assert MaskRelations()(batch(vectors(1, 8), unit(vectors(1, 8, seed=1))))["relations"].item() == 0.0
